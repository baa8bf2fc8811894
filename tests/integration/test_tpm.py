# SPDX-License-Identifier: MIT
"""TPM attestation with a real software TPM, from nothing to a login at the hub."""
import base64
import hashlib
import hmac
import http.client
import json
import signal
import ssl
import subprocess
import urllib.parse

import pytest

import tpm as tools
from namespace import mounted, needs_root
from process import BUILD, DEADLINE, clean_environment, free_port
from tpm import EK, KEY, SRK, Tpm, enroll

pytestmark = pytest.mark.skipif(not (BUILD / "src/credential/tpm.so").exists(), reason="built without tpm2-tss")


over_https = pytest.mark.skipif(not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl")


@pytest.fixture
def chip(tmp_path):
    chip = Tpm(tmp_path).start()
    yield chip
    chip.close()


@pytest.fixture
def tpm_gateway(gateway, chip, emulator, tmp_path):
    """A gateway with TPM attestation; its TPM is empty, and nobody is enrolled."""
    emulator.set("*", behaviour={"tpmOverMqtt": True})
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = tools.modules(tmp_path / "modules", BUILD)
    gateway.configure = lambda name="gateway", provisioning=None, attestation=None: gateway.identity(
        name, method="tpm", provisioning={"Transport": "mqtt"} | (provisioning or {}),
        attestation={"Tcti": chip.tcti} | (attestation or {}))
    return gateway


def log_in(gateway, name="gateway"):
    """The CONNACK of the hub to what programs get."""
    connection = gateway.connection(name)
    return gateway.emulator.hub_connack(connection["clientId"], connection["username"], connection["password"])


def test_keys_of_the_factory_lead_to_an_assignment_and_a_login_at_the_hub(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert properties["AttestationMethod"] == "tpm"
    assert properties["HubAuthentication"] == "sas"
    assert chip.persistent() == [SRK, KEY, EK]
    assert chip.transient() == []
    assert log_in(tpm_gateway) == 0


def test_empty_handles_are_filled_by_the_templates_and_the_id_is_of_the_endorsement_key(tpm_gateway, chip, emulator):
    """Also: an unknown device is told so, and is assigned once it is enrolled."""
    tpm_gateway.configure(provisioning={"RegistrationId": None})
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(State="failed", LastErrorId="enrollment-unknown", LastErrorCode=404201)
    assert chip.persistent() == [SRK, EK]
    made = chip.public(EK)
    enroll(emulator, properties["RegistrationId"], made)
    assert tools.default_id(made) == properties["RegistrationId"]
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert log_in(tpm_gateway) == 0
    chip.run("clear", "-c", "l")
    assert chip.make_keys() == made, "other tools make another endorsement key"


def test_a_restart_serves_without_the_network_and_the_key_stays_in_the_chip(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    before = tpm_gateway.wait_for(State="assigned", Healthy=True)
    token = tpm_gateway.files()["token"]
    tpm_gateway.stop()
    for path in (tpm_gateway.run / "gateway").iterdir():
        path.unlink()
    chip.stop()
    chip.start()
    n = len(emulator.requests())
    tpm_gateway.start()
    after = tpm_gateway.wait_for(State="assigned", Healthy=True, check=lambda _: "token" in tpm_gateway.files())
    assert after["Generation"] == before["Generation"]
    assert tpm_gateway.files()["token"] == token
    assert len(emulator.requests()) == n
    assert tpm_gateway.dpsctl("token", "gateway", "--lifetime=1min").code == 0
    assert log_in(tpm_gateway) == 0


def test_the_first_register_has_no_token_and_the_challenge_is_no_failure(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    assert tpm_gateway.wait_for(State="assigned")["Attempts"] == 0
    registers = emulator.requests("register")
    assert [entry["status"] for entry in registers] == [401, 202]
    assert registers[0]["result"] == "challenge"
    assert len(emulator.requests("connect")) == 2
    assert tpm_gateway.remembered()["attempts"] == 0
    assert "failed" not in tpm_gateway.dpsctl("history").out


def test_a_new_registration_replaces_the_key_and_leaves_one_object(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    before = tpm_gateway.wait_for(State="assigned", Healthy=True)
    old = chip.public(KEY)
    emulator.set("gateway", iotHubs=["hub-2.example"])
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    after = tpm_gateway.wait_for(AssignedHub="hub-2.example", Healthy=True, check=lambda p: p["Generation"] > before["Generation"])
    assert after["AttestationMethod"] == "tpm"
    assert chip.public(KEY) != old
    assert chip.persistent() == [SRK, KEY, EK]
    assert chip.transient() == []
    assert log_in(tpm_gateway) == 0


def test_a_registration_that_fails_leaves_the_key_that_works(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    old = chip.public(KEY)
    emulator.script("gateway", "register:normal", "register:500")
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 1
    tpm_gateway.wait_for(State="assigned", Healthy=False, LastErrorId="service")
    assert chip.public(KEY) == old
    token = tpm_gateway.dpsctl("token", "gateway").out.strip()
    connection = tpm_gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], token) == 0


def test_a_chip_that_was_cleared_is_provisioned_again_by_itself(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    before = tpm_gateway.wait_for(State="assigned", Healthy=True)
    tpm_gateway.stop()
    chip.run("clear", "-c", "l")
    assert chip.persistent() == []
    tpm_gateway.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True, check=lambda p: p["Generation"] > before["Generation"])
    assert chip.persistent() == [SRK, KEY, EK]
    assert log_in(tpm_gateway) == 0


def test_a_key_that_vanishes_while_dpsd_runs_is_missed_at_the_next_token(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    before = tpm_gateway.wait_for(State="assigned", Healthy=True)
    chip.run("evictcontrol", "-C", "o", "-c", KEY)
    tpm_gateway.dpsctl("token", "gateway")
    tpm_gateway.wait_for(State="assigned", Healthy=True, check=lambda p: p["Generation"] > before["Generation"])
    assert log_in(tpm_gateway) == 0


def test_an_object_of_somebody_else_is_not_evicted(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    stranger = chip.make_stranger()
    tpm_gateway.configure()
    tpm_gateway.start()
    error = tpm_gateway.wait_for(State="failed", Waiting="config", LastErrorId="config")["LastError"]
    assert "TpmKeyHandle=0x81000100 is not of this identity" in error and "tpm2_evictcontrol" in error
    assert chip.public(KEY) == stranger
    assert not emulator.requests()
    tpm_gateway.configure(attestation={"TpmKeyHandle": "0x81000101"})
    tpm_gateway.reload()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert chip.public(KEY) == stranger
    assert chip.persistent() == [SRK, KEY, "0x81000101", EK]


def test_two_identities_on_one_chip_do_not_take_each_others_key(tpm_gateway, chip, emulator):
    ek = chip.make_keys()
    for name in ("gateway", "other"):
        enroll(emulator, name, ek)
    tpm_gateway.configure()
    tpm_gateway.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    key = chip.public(KEY)
    tpm_gateway.configure("other")
    tpm_gateway.reload()
    assert "is not of this identity" in tpm_gateway.wait_for("other", State="failed")["LastError"]
    tpm_gateway.configure("other", attestation={"TpmKeyHandle": "0x81000101"})
    tpm_gateway.reload()
    tpm_gateway.wait_for("other", State="assigned", Healthy=True)
    assert chip.public(KEY) == key
    assert log_in(tpm_gateway) == 0 and log_in(tpm_gateway, "other") == 0


def test_an_object_that_is_no_endorsement_key_is_reported(tpm_gateway, chip):
    chip.make_stranger(EK)
    tpm_gateway.configure()
    tpm_gateway.start()
    assert "EkHandle=0x81010001 is not an RSA endorsement key" in tpm_gateway.wait_for(Waiting="config")["LastError"]


def test_auths_are_read_from_their_references(tpm_gateway, chip, emulator):
    for hierarchy, auth in (("owner", "open-owner"), ("endorsement", "open-endorsement")):
        chip.run("changeauth", "-c", hierarchy, auth)
    tpm_gateway.configure(attestation={"TpmOwnerAuth": tpm_gateway.write_key("owner", "open-owner"),
                                       "TpmEndorsementAuth": tpm_gateway.write_key("endorsement", "open-endorsement")})
    tpm_gateway.start()
    tpm_gateway.wait_for(State="failed", LastErrorId="enrollment-unknown")
    enroll(emulator, "gateway", chip.public(EK))
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert log_in(tpm_gateway) == 0
    assert "open-" not in tpm_gateway.whole_log() + "".join(path.read_text() for path in tpm_gateway.state.glob("gateway*"))


@pytest.mark.parametrize("which, setting", [("owner", "TpmOwnerAuth"), ("endorsement", "TpmEndorsementAuth")])
def test_a_wrong_auth_is_reported_and_not_tried_again(tpm_gateway, chip, emulator, which, setting):
    ek = chip.make_keys()
    enroll(emulator, "gateway", ek)
    chip.run("changeauth", "-c", which, "right")
    tpm_gateway.configure(attestation={setting: tpm_gateway.write_key("auth", "wrong-one")})
    tpm_gateway.start()
    error = tpm_gateway.wait_for(LastErrorId="config", LastErrorStep="attest")["LastError"]
    assert setting in error and "refused the auth" in error
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 1
    assert f"has refused {setting}=, which is not tried again" in tpm_gateway.wait_for(LastErrorId="config")["LastError"]
    assert chip.persistent() == [SRK, EK]
    tpm_gateway.write_key("auth", "right")
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert log_in(tpm_gateway) == 0
    assert "wrong-one" not in tpm_gateway.whole_log()


def test_a_missing_auth_is_reported(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    chip.run("changeauth", "-c", "owner", "needed")
    tpm_gateway.configure()
    tpm_gateway.start()
    error = tpm_gateway.wait_for(LastErrorId="config", LastErrorStep="attest")["LastError"]
    assert "for which TpmOwnerAuth= is needed" in error


def test_refused_auths_do_not_count_towards_a_lockout(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    chip.run("changeauth", "-c", "owner", "right")
    tpm_gateway.configure(attestation={"TpmOwnerAuth": tpm_gateway.write_key("auth", "wrong")})
    tpm_gateway.start()
    tpm_gateway.wait_for(LastErrorId="config", LastErrorStep="attest")
    for _ in range(3):
        tpm_gateway.dpsctl("reprovision", "--wait")
    assert "TPM2_PT_LOCKOUT_COUNTER: 0x0" in chip.run("getcap", "properties-variable")


def test_a_chip_that_is_absent_is_waited_for(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    chip.stop()
    tpm_gateway.configure()
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(State="unprovisioned", Waiting="key", LastErrorId="key")
    assert "the TPM cannot be reached" in properties["LastError"]
    assert not emulator.requests()
    chip.start()
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert log_in(tpm_gateway) == 0


def test_a_device_that_does_not_exist_is_named(tpm_gateway):
    tpm_gateway.configure(attestation={"Tcti": "device:/dev/no-such-tpm"})
    tpm_gateway.start()
    error = tpm_gateway.wait_for(Waiting="key", LastErrorId="key")["LastError"]
    assert "Tcti=device:/dev/no-such-tpm: there is no TPM: No such file or directory" in error


def test_a_chip_that_goes_in_the_middle_costs_an_attempt_and_nothing_that_works(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    token = tpm_gateway.files()["token"]
    chip.stop()
    assert tpm_gateway.dpsctl("token", "gateway").code == 1
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 1
    tpm_gateway.wait_for(State="assigned", LastErrorId="key")
    assert tpm_gateway.files()["token"] == token
    chip.start()
    assert tpm_gateway.dpsctl("reload").code == 0
    tpm_gateway.wait_for(State="assigned", check=lambda _: tpm_gateway.dpsctl("token", "gateway").code == 0)
    assert log_in(tpm_gateway) == 0


@pytest.mark.parametrize("transport", ["mqtt", pytest.param("https", marks=over_https)])
def test_an_endorsement_key_other_than_the_enrolled_one_is_reported(tpm_gateway, chip, emulator, tmp_path, transport):
    (tmp_path / "other").mkdir()
    other = Tpm(tmp_path / "other").start()
    try:
        enroll(emulator, "gateway", other.make_keys())
    finally:
        other.close()
    chip.make_keys()
    tpm_gateway.configure(provisioning={"Transport": transport, "HttpsPort": emulator.https_port})
    tpm_gateway.start()
    error = tpm_gateway.wait_for(State="failed", LastErrorId="auth", LastErrorStep="attest")["LastError"]
    assert "the enrollment is of another endorsement key" in error
    assert chip.transient() == []
    assert len(emulator.requests("register")) == 1


def test_an_enrollment_of_a_tpm_is_reported_by_a_device_with_a_key(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.identity("gateway", key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==")
    emulator.script("gateway", 'register:401,body={"authenticationKey":"AAA=","keyName":"registration"}')
    tpm_gateway.start()
    assert "DPS asks for TPM attestation" in tpm_gateway.wait_for(State="failed", LastErrorId="auth")["LastError"]


PARTS = [b"c" * 52, b"s" * 256, b"d" * 142, b"e" * 256,
         bytes.fromhex("0008000b0004044000000005000b0020") + b"u" * 32]


def blob(*parts):
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("what, data, error, text", [
    ("nothing but a size", b"\xff\xff", "protocol", "cannot be split"),
    ("parts that are too short", blob(*PARTS)[:-1], "protocol", "cannot be split"),
    ("a part that no TPM can take", blob(b"c" * 5000, *PARTS[1:]), "protocol", "longer than any TPM"),
    ("a key that is not for HMAC", blob(*PARTS[:4], bytes.fromhex("0001000b") + b"x" * 40), "protocol", "not a key for HMAC-SHA256"),
    ("a key that may decrypt", blob(*PARTS[:4], bytes.fromhex("0008000b0006044000000005000b0020") + b"u" * 32), "protocol", "not a key"),
    ("a key with bytes behind it", blob(*PARTS[:4], PARTS[4] + b"x"), "protocol", "not a key for HMAC-SHA256"),
    ("garbage in the right places", blob(*PARTS), "auth", "cannot open the challenge"),
])
def test_a_hostile_challenge_is_an_error_and_leaves_nothing(tpm_gateway, chip, emulator, what, data, error, text):
    enroll(emulator, "gateway", chip.make_keys())
    body = json.dumps({"authenticationKey": base64.b64encode(data).decode(), "keyName": "registration"})
    emulator.script("gateway", f"register:401,body={body}")
    tpm_gateway.configure()
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(LastErrorId=error, LastErrorStep="attest")
    assert text in properties["LastError"], what
    assert chip.persistent() == [SRK, EK] and chip.transient() == []
    tpm_gateway.dpsctl("reprovision", "--wait")
    tpm_gateway.wait_for(State="assigned", Healthy=True)


def test_without_the_module_dpsd_says_which_package_is_missing(tpm_gateway, tmp_path):
    (tmp_path / "modules" / "tpm.so").unlink()
    tpm_gateway.configure()
    tpm_gateway.start()
    error = tpm_gateway.wait_for(State="failed", Waiting="config")["LastError"]
    assert "module tpm is not installed" in error and "dps-tpm" in error


def test_over_mqtt_dps_may_refuse_a_login_without_a_token(tpm_gateway, chip, emulator):
    emulator.set("*", behaviour={"tpmOverMqtt": False})
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(State="failed", LastErrorId="auth", LastErrorStep="login")
    assert "Transport=https" in properties["LastError"]


@over_https
def test_auto_attests_over_https_from_nothing_to_a_login_at_the_hub(tpm_gateway, chip, emulator):
    """Without an attempt over MQTT: its port is closed, and the service would refuse it."""
    emulator.set("*", behaviour={"tpmOverMqtt": False})
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure(provisioning={"Transport": "auto", "MqttPort": free_port(), "HttpsPort": emulator.https_port})
    tpm_gateway.start()
    properties = tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert (properties["Transport"], properties["Attempts"]) == ("https", 0)
    assert [entry["status"] for entry in emulator.requests("register")] == [401, 202]
    assert chip.persistent() == [SRK, KEY, EK] and chip.transient() == []
    assert log_in(tpm_gateway) == 0
    before, old = properties["Generation"], chip.public(KEY)
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert tpm_gateway.properties("gateway")["Generation"] > before and chip.public(KEY) != old
    assert log_in(tpm_gateway) == 0


def test_auto_without_the_module_for_https_attests_over_mqtt_and_says_so(tpm_gateway, chip, emulator, tmp_path):
    (tmp_path / "modules" / "https.so").unlink(missing_ok=True)
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure(provisioning={"Transport": "auto"})
    tpm_gateway.start()
    assert tpm_gateway.wait_for(State="assigned", Healthy=True)["Transport"] == "mqtt"
    assert log_in(tpm_gateway) == 0
    log = tpm_gateway.whole_log()
    assert log.count("HTTPS is not installed, so there is only MQTT") == 1 and "dps-https" in log


@over_https
def test_over_https_a_hostile_challenge_leaves_nothing(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    emulator.script("gateway", 'register:401,body={"authenticationKey":"//8=","keyName":"registration"}')
    tpm_gateway.configure(provisioning={"Transport": "https", "HttpsPort": emulator.https_port})
    tpm_gateway.start()
    assert "cannot be split" in tpm_gateway.wait_for(LastErrorId="protocol", LastErrorStep="attest")["LastError"]
    assert chip.persistent() == [SRK, EK] and chip.transient() == []
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert log_in(tpm_gateway) == 0


def test_the_log_has_no_secret_and_no_noise(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    chip.make_stranger("0x81000102")
    tpm_gateway.configure()
    tpm_gateway.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    tpm_gateway.dpsctl("log-level", "debug")
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    token = tpm_gateway.files()["token"]
    log = tpm_gateway.whole_log()
    assert token not in log and "SharedAccessSignature" not in log
    assert "ERROR:" not in log and "WARNING:" not in log, "libtss2 writes to stderr"


def test_enrollment_tells_what_the_service_needs_before_anything_is_provisioned(tpm_gateway, chip, emulator):
    """With what it prints, the device is enrolled and assigned. Emulator and network are not asked."""
    tpm_gateway.configure(provisioning={"RegistrationId": None, "Endpoint": "127.0.0.9", "MqttPort": 1})
    tpm_gateway.start()
    row = tpm_gateway.dpsctl("enrollment", "--json=short").json["enrollments"][0]
    assert row["name"] == "gateway" and row["method"] == "tpm"
    assert row["endorsementKey"] == chip.public(EK) and row["storageRootKey"] == chip.public(SRK)
    assert row["registrationId"] == tools.default_id(row["endorsementKey"])
    assert row["command"].endswith(
        f"--enrollment-id {row['registrationId']} --attestation-type tpm --endorsement-key {row['endorsementKey']}")
    card = tpm_gateway.dpsctl("enrollment", "gateway")
    assert card.code == 0
    for text in (row["registrationId"], row["endorsementKey"], row["storageRootKey"], row["command"]):
        assert text in card.out
    redacted = tpm_gateway.dpsctl("enrollment", "--redact").out
    assert row["registrationId"] not in redacted and row["endorsementKey"] not in redacted
    assert not emulator.requests()
    enroll(emulator, row["registrationId"], row["endorsementKey"])
    tpm_gateway.configure(provisioning={"RegistrationId": None})
    tpm_gateway.reload()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert log_in(tpm_gateway) == 0
    assert tpm_gateway.dpsctl("enrollment", "--json=short").json["enrollments"][0] == row


def test_enrollment_says_that_there_is_no_tpm(tpm_gateway, chip):
    chip.stop()
    tpm_gateway.configure()
    tpm_gateway.start()
    result = tpm_gateway.dpsctl("enrollment")
    assert result.code == 1 and "the TPM cannot be reached" in result.err


def test_a_chip_without_room_for_another_object_is_reported_and_tried_again(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    for k in range(3):
        chip.run("createprimary", "-C", "n", "-G", "ecc", "-c", f"left-{k}.ctx", flush=False, fails=True)
    tpm_gateway.configure()
    tpm_gateway.start()
    assert "it has no room for another object" in tpm_gateway.wait_for(LastErrorId="key")["LastError"]
    chip.run("flushcontext", "-t")
    tpm_gateway.dpsctl("reprovision", "--wait")
    tpm_gateway.wait_for(State="assigned", Healthy=True)


def test_a_chip_whose_memory_is_full_is_reported_and_nobody_is_evicted(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    chip.run("createprimary", "-C", "o", "-G", "ecc", "-c", "filler.ctx")
    handle = 0x81000200
    while chip.run("evictcontrol", "-C", "o", "-c", "filler.ctx", hex(handle), fails=True):
        handle += 1
    before = chip.persistent()
    tpm_gateway.configure()
    tpm_gateway.start()
    error = tpm_gateway.wait_for(LastErrorId="key", LastErrorStep="attest")["LastError"]
    assert "cannot be kept at TpmKeyHandle=" in error and "its memory is full" in error
    assert chip.persistent() == before
    chip.run("evictcontrol", "-C", "o", "-c", hex(handle - 1))
    tpm_gateway.dpsctl("reprovision", "--wait")
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert log_in(tpm_gateway) == 0


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 2048, 5000])
def test_data_of_any_length_are_signed(chip, tmp_path, size):
    """A chip takes 1024 bytes with one command."""
    chip.make_keys()
    (tmp_path / "key.bin").write_bytes(b"k" * 32)
    chip.run("import", "-C", SRK, "-G", "hmac", "-i", "key.bin", "-u", "key.pub", "-r", "key.priv")
    chip.run("load", "-C", SRK, "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
    chip.run("evictcontrol", "-C", "o", "-c", "key.ctx", KEY)
    data = bytes(ord("a") + k % 26 for k in range(size))
    done = subprocess.run([BUILD / "tests/integration/tpm-sign", chip.tcti, KEY, str(size)], capture_output=True, text=True,
                          env=clean_environment(tmp_path), check=False)
    assert done.stdout.strip() == hmac.new(b"k" * 32, data, hashlib.sha256).hexdigest(), done.stderr
    assert chip.transient() == []


def test_a_chip_that_hangs_stops_neither_the_loop_nor_the_end(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.configure()
    chip.process.send_signal(signal.SIGSTOP)
    try:
        tpm_gateway.start()
        for _ in range(20):
            assert tpm_gateway.dpsctl("status").code == 3
        tpm_gateway.stop()
        tpm_gateway.start()
    finally:
        chip.process.send_signal(signal.SIGCONT)
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert log_in(tpm_gateway) == 0


def sas(chip, resource, policy=""):
    """A token that the object at KEY signs, by the tools alone."""
    expiry = "4102444800"
    (chip.directory / "to-sign").write_text(f"{resource}\n{expiry}")
    chip.run("hmac", "-c", KEY, "-g", "sha256", "-o", "signature", "to-sign")
    signature = base64.b64encode((chip.directory / "signature").read_bytes()).decode()
    return f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(signature, safe='')}&se={expiry}{policy}"


def take_key(chip, text):
    """Puts a key of DPS at KEY, by the tools alone."""
    data, parts = base64.b64decode(text), []
    while len(parts) < 5:
        size = int.from_bytes(data[:2], "big") + 2
        parts.append(data[:size])
        data = data[size:]
    for name, content in (("credential", bytes.fromhex("badcc0de00000001") + parts[0] + parts[1]), ("duplicate", parts[2]),
                          ("seed", parts[3]), ("area", parts[4])):
        (chip.directory / name).write_bytes(content)
    chip.run("startauthsession", "--policy-session", "-S", "session")
    chip.run("policysecret", "-S", "session", "-c", "e")
    chip.run("activatecredential", "-c", SRK, "-C", EK, "-i", "credential", "-o", "inner", "-P", "session:session")
    chip.run("flushcontext", "session")
    chip.run("import", "-C", SRK, "-i", "duplicate", "-s", "seed", "-u", "area", "-k", "inner", "-r", "wrapped")
    chip.run("load", "-C", SRK, "-u", "area", "-r", "wrapped", "-c", "key.ctx")
    chip.run("evictcontrol", "-C", "o", "-c", KEY, fails=True)
    chip.run("evictcontrol", "-C", "o", "-c", "key.ctx", KEY)


def test_over_https_the_tools_of_tpm2_alone_attest_against_the_emulator(chip, emulator):
    """What the emulator sends is what a TPM expects, whatever the client."""
    if not emulator.https_port:
        pytest.skip("the emulator was built without HTTPS")
    enroll(emulator, "gateway", chip.make_keys())
    context = ssl.create_default_context(cafile=str(emulator.ca_file))

    def ask(method, path, token=None, body=None):
        connection = http.client.HTTPSConnection("localhost", emulator.https_port, context=context, timeout=DEADLINE)
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        connection.request(method, f"/0ne00AABBCC/registrations/gateway/{path}?api-version=2019-03-31",
                           json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    body = {"registrationId": "gateway", "tpm": {"endorsementKey": chip.public(EK), "storageRootKey": chip.public(SRK)}}
    assert ask("PUT", "register", "SharedAccessSignature sr=a&sig=b&se=1", body)[0] == 401
    status, challenge = ask("PUT", "register", body=body)
    assert status == 401 and challenge["keyName"] == "registration"
    take_key(chip, challenge["authenticationKey"])
    token = sas(chip, "0ne00AABBCC%2Fregistrations%2Fgateway", "&skn=registration")
    status, operation = ask("PUT", "register", token, body)
    assert status == 202
    assert ask("GET", f"operations/{operation['operationId']}")[0] == 401
    status, done = ask("GET", f"operations/{operation['operationId']}", token)
    assert status == 200 and done["status"] == "assigned"
    state = done["registrationState"]
    take_key(chip, state["tpm"]["authenticationKey"])
    hub, device = state["assignedHub"], state["deviceId"]
    password = sas(chip, f"{hub}%2Fdevices%2F{device}")
    assert emulator.hub_connack(device, f"{hub}/{device}/?api-version=2021-04-12", password) == 0


def test_a_chip_that_goes_between_challenge_and_answer_costs_the_attempt(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    emulator.script("gateway", "register:normal,delay=4")
    tpm_gateway.configure()
    tpm_gateway.start()
    emulator.wait_for_requests(1, "register")  # its answer is delayed
    chip.stop()
    tpm_gateway.wait_for(State="unprovisioned", Waiting="key", LastErrorId="key", LastErrorStep="attest")
    assert len(emulator.requests("register")) == 1
    chip.start()
    assert tpm_gateway.dpsctl("reprovision", "--wait").code == 0
    assert log_in(tpm_gateway) == 0


def test_a_chip_that_goes_before_the_hubs_key_arrives_leaves_the_operation_to_be_resumed(tpm_gateway, chip, emulator):
    enroll(emulator, "gateway", chip.make_keys())
    emulator.script("gateway", "poll:normal,delay=4")
    tpm_gateway.configure()
    tpm_gateway.start()
    emulator.wait_for_requests(1, "poll")
    chip.stop()
    tpm_gateway.wait_for(LastErrorId="key", LastErrorStep="attest")
    chip.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True)
    assert log_in(tpm_gateway) == 0
    assert chip.persistent() == [SRK, KEY, EK]


@pytest.mark.parametrize("code, error, text", [
    (0x921, "key", "it is locked after wrong auths"),
    (0x922, "key", "it is busy"),
    (0x90a, "key", "it is testing itself"),
    (0x923, "key", "its memory cannot be written now"),
    (0x903, "key", "it has no room for another session"),
    (0x100, "key", "it is not started"),
    (0x101, "key", "it is in failure mode"),
    (0x185, "config", "the hierarchy is disabled"),
    (0xb0922, "key", "it is busy"),  # as the kernel's resource manager passes it on
    (0x7ff, "key", "(0x7ff)"),
])
def test_what_a_chip_answers_is_reported_and_tried_again(tpm_gateway, emulator, code, error, text):
    chip = tools.SulkingTpm(code)
    try:
        tpm_gateway.configure(attestation={"Tcti": chip.tcti})
        tpm_gateway.start()
        properties = tpm_gateway.wait_for(LastErrorId=error)
        assert text in properties["LastError"] and chip.tcti in properties["LastError"]
        assert not emulator.requests()
    finally:
        tpm_gateway.stop()
        chip.close()


@needs_root
def test_a_read_only_disk_keeps_the_key_in_memory_and_nothing_in_the_chip(tpm_gateway, chip, emulator):
    """An object whose name the disk cannot remember would be a stranger after the next start."""
    enroll(emulator, "gateway", chip.make_keys())
    tpm_gateway.wrapper = mounted(f"mount --bind {tpm_gateway.state} {tpm_gateway.state} && "
                                  f"mount -o remount,bind,ro {tpm_gateway.state}")
    tpm_gateway.configure()
    tpm_gateway.start()
    before = tpm_gateway.wait_for(State="assigned", LastErrorId="disk")
    assert log_in(tpm_gateway) == 0
    assert chip.persistent() == [SRK, EK]
    tpm_gateway.stop()
    tpm_gateway.wrapper = []
    tpm_gateway.start()
    tpm_gateway.wait_for(State="assigned", Healthy=True, check=lambda p: p["Generation"] > before["Generation"])
    assert log_in(tpm_gateway) == 0
    assert chip.persistent() == [SRK, KEY, EK]
