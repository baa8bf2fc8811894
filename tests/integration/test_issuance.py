# SPDX-License-Identifier: MIT
"""Certificates that DPS issues: asked for, checked, served, renewed, and never lost."""
import base64
import json
import re
import stat
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from memory import Memory
from mqtt import Device, Refused, Session
from process import DEADLINE, UNDER, WORLD, eventually

ISSUANCE = {"Request": "yes"}
LIFE = 3600


def enroll_x509(emulator, registration_id="gateway", **more):
    certificate, key = emulator.certificate(registration_id)
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "x509-group", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}} | more]})
    return {"Certificate": certificate, "PrivateKey": key}


def configure(gateway, emulator, issuance=None, policy=None, provisioning=None, **more):
    """Configures an identity whose enrollment has a policy; policy={} is none."""
    policy = {"issuance": {"lifetime": LIFE} | (policy or {})} if policy != {} else {}
    key = emulator.enroll("gateway", **policy, **more)
    gateway.identity(key=key, issuance=ISSUANCE | (issuance or {}), provisioning={"Splay": "0"} | (provisioning or {}))


def start(gateway, emulator, **options):
    configure(gateway, emulator, **options)
    gateway.start()
    return gateway.wait_for(State="assigned")


def leaf(gateway):
    return x509.load_pem_x509_certificate(gateway.files()["cert.pem"].encode())


def log_in(gateway, emulator):
    """Logs in at the hub, as a program on the box does."""
    connection = gateway.connection()
    certificate = (connection["certificateFile"], connection["keyFile"]) if "certificateFile" in connection else None
    Session(emulator.port, str(emulator.ca_file), connection["clientId"], connection["username"],
            connection.get("password"), certificate=certificate).close()


def pairs(gateway, name="gateway"):
    return sorted(path.name for path in gateway.state.glob(f"{name}.*.issued"))


def public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def is_whole(gateway):
    """The files for programs hold a key and its certificate."""
    files = gateway.files()
    key = serialization.load_pem_private_key(files["key.pem"].encode(), None)
    return public(key.public_key()) == public(leaf(gateway).public_key())


# ---- images without the module ----


def test_without_the_module_it_is_said_what_to_install(gateway, emulator, modules):
    (modules / "issuance.so").unlink()
    configure(gateway, emulator)
    gateway.start()
    message = gateway.wait_for(LastErrorId="config")["LastError"]
    assert "[Issuance] Request=: module issuance is not installed" in message and "dpsd again" in message


def test_a_certificate_that_was_saved_is_served_without_the_module(gateway, emulator, modules):
    start(gateway, emulator, policy={"hub": "issued"})
    before = gateway.files()["cert.pem"]
    gateway.stop()
    (modules / "issuance.so").unlink()
    gateway.start()
    gateway.wait_for(State="assigned", CertificateKind="issued")
    assert gateway.files()["cert.pem"] == before and is_whole(gateway)
    log_in(gateway, emulator)


# ---- from nothing to a login ----


def test_a_symmetric_key_becomes_a_certificate_that_the_hub_takes(gateway, emulator):
    properties = start(gateway, emulator, policy={"hub": "issued"})
    connection = gateway.connection()

    assert (properties["HubAuthentication"], properties["CertificateKind"]) == ("x509", "issued")
    assert properties["AttestationMethod"] == "symmetric-key" and properties["TokenExpiresAt"] == 0
    assert (connection["auth"], connection["certificateKind"]) == ("x509", "issued")
    assert connection["certificateExpiresAt"] == properties["CertificateExpiresAt"]
    assert connection["connectionProfile"] == "classic" and connection["mqttVersion"] == 4
    assert "password" not in connection and "token" not in gateway.files()
    assert is_whole(gateway)
    log_in(gateway, emulator)


def test_an_x509_device_gets_another_certificate_for_the_hub(gateway, emulator):
    attestation = enroll_x509(emulator, issuance={"lifetime": LIFE, "hub": "issued"})
    gateway.identity(method="x509", attestation=attestation, issuance=ISSUANCE)
    gateway.start()
    assert gateway.wait_for(State="assigned")["CertificateKind"] == "issued"
    assert gateway.files()["cert.pem"] != attestation["Certificate"].read_text() and is_whole(gateway)
    log_in(gateway, emulator)


def test_the_record_names_the_certificate_and_has_no_secret(gateway, emulator):
    start(gateway, emulator)
    record = gateway.remembered()
    assert record["certificateKind"] == "issued" and record["apiVersion"] == "2026-11-02-preview"
    assert pairs(gateway) == [f"gateway.{record['issuedFingerprint'][:16]}.issued"]
    assert stat.S_IMODE((gateway.state / pairs(gateway)[0]).stat().st_mode) == 0o600
    assert "PRIVATE" not in json.dumps(record)
    assert "PRIVATE" not in gateway.whole_log()


def test_the_key_is_for_the_group_and_nobody_else(gateway, emulator):
    start(gateway, emulator)
    assert stat.S_IMODE((gateway.run / "gateway" / "key.pem").stat().st_mode) == 0o640


@pytest.mark.parametrize("key_type, size", [("ec-p256", 256), ("ec-p384", 384), ("rsa-2048", 2048)])
def test_the_key_is_of_the_type_that_the_configuration_says(gateway, emulator, key_type, size):
    start(gateway, emulator, issuance={"KeyType": key_type})
    assert leaf(gateway).public_key().key_size == size and is_whole(gateway)


@pytest.mark.parametrize("chain, n", [("without-root", 2), ("leaf", 1), ("root-first", 3), ("pem", 3)])
def test_chains_of_every_form_are_ordered_by_issuer(gateway, emulator, chain, n):
    start(gateway, emulator, policy={"chain": chain})
    end = "-----END CERTIFICATE-----\n"
    certificates = [x509.load_pem_x509_certificate((text + end).encode()) for text in gateway.files()["cert.pem"].split(end)[:-1]]
    assert len(certificates) == n and is_whole(gateway)
    assert all(one.issuer == other.subject for one, other in zip(certificates, certificates[1:]))
    log_in(gateway, emulator)


def test_without_the_section_nothing_is_asked_for(gateway, emulator):
    key = emulator.enroll("gateway", issuance={})
    gateway.identity(key=key)
    gateway.start()
    assert gateway.wait_for(State="assigned")["HubAuthentication"] == "sas"
    assert pairs(gateway) == [] and gateway.remembered()["apiVersion"] == "2019-03-31"


def test_the_certificate_is_served_from_the_cache(gateway, emulator):
    before = start(gateway, emulator)
    files = gateway.files()
    gateway.stop()
    for path in (gateway.run / "gateway").iterdir():
        path.unlink()
    emulator.stop()
    gateway.start()
    after = gateway.wait_for(State="assigned", CertificateKind="issued")
    assert (after["Generation"], after["Healthy"]) == (before["Generation"], True)
    assert {name: files[name] for name in ("cert.pem", "key.pem")} == {
        name: gateway.files()[name] for name in ("cert.pem", "key.pem")}


def test_a_configuration_that_asks_later_gets_a_certificate(gateway, emulator):
    start(gateway, emulator, issuance={"Request": "no"})
    path = gateway.configuration / "gateway.conf"
    path.write_text(path.read_text().replace("Request=no", "Request=yes"))
    gateway.reload()
    gateway.wait_for(CertificateKind="issued")
    path.write_text(path.read_text().replace("Request=yes", "Request=no"))
    gateway.reload()
    gateway.wait_for(HubAuthentication="sas", check=lambda p: p["TokenExpiresAt"] > 0)
    assert "key.pem" not in gateway.files()
    log_in(gateway, emulator)


# ---- no certificate ----


def test_no_policy_keeps_the_assignment_and_is_said_once(gateway, emulator):
    properties = start(gateway, emulator, policy={})
    assert (properties["HubAuthentication"], properties["Healthy"]) == ("sas", False)
    assert properties["LastErrorId"] == "issuance" and "no credential policy" in properties["LastError"]
    assert properties["NextAttemptAt"] == properties["RenewAt"] > (time.time() + 24 * 3600) * 1e6
    log_in(gateway, emulator)
    status = gateway.dpsctl("status", "gateway")
    assert status.code == 0 and "no credential policy" in status.out and "credential policy" in status.out.split("What to do")[1]
    gateway.dpsctl("reprovision", "gateway", "--wait")
    assert len(emulator.requests("register")) == 2
    assert len(re.findall("DPS issued no certificate", gateway.whole_log())) == 1


def test_a_policy_that_comes_later_is_used_when_somebody_asks(gateway, emulator):
    start(gateway, emulator, policy={})
    emulator.set("gateway", issuance={"lifetime": LIFE})
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    gateway.wait_for(CertificateKind="issued", Healthy=True, LastErrorId="")


@pytest.mark.parametrize("chain, why", [
    ("foreign-key", "not for the key of the request"), ("other-name", "common name is not the registration id"),
    ("expired", "has expired already"), ("broken", "the other certificates are not its issuers")])
def test_a_chain_that_cannot_be_used_is_refused_and_the_assignment_kept(gateway, emulator, chain, why):
    properties = start(gateway, emulator, policy={"chain": chain})
    assert (properties["LastErrorId"], properties["HubAuthentication"]) == ("issuance", "sas")
    assert why in properties["LastError"] and pairs(gateway) == []
    log_in(gateway, emulator)


def test_a_request_that_dps_refuses_is_an_ordinary_failure(gateway, emulator):
    emulator.enroll("other")
    emulator.script("gateway", "register:400,code=400040")
    configure(gateway, emulator)
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorCode"] == 400040)
    assert properties["LastErrorStep"] == "register" and properties["Attempts"] == 1


def test_an_issuance_that_fails_takes_nothing_away(gateway, emulator):
    start(gateway, emulator)
    before = gateway.files()
    emulator.set("gateway", **{"issuance.failure": 403000})
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    properties = gateway.wait_for(check=lambda p: p["LastErrorCode"] == 403000)
    assert (properties["State"], properties["CertificateKind"], properties["LastErrorStep"]) == ("assigned", "issued", "poll")
    assert gateway.files() == before
    log_in(gateway, emulator)


def test_without_the_request_the_error_is_over(gateway, emulator):
    start(gateway, emulator, policy={})
    path = gateway.configuration / "gateway.conf"
    path.write_text(path.read_text().replace("Request=yes", "Request=no"))
    gateway.reload()
    gateway.wait_for(Healthy=True, LastErrorId="")
    eventually(lambda: "issuanceFault" not in gateway.remembered(), DEADLINE, "the record without the error")


# ---- versions ----


def test_an_older_version_is_taken_and_remembered(gateway, emulator):
    emulator.set("*", behaviour={"refusedApiVersions": ["2026-11-02-preview"]})
    start(gateway, emulator)
    gateway.wait_for(CertificateKind="issued", Attempts=0)
    assert gateway.remembered()["apiVersion"] == "2025-07-01-preview"
    assert [r["status"] for r in emulator.requests("register")] == [400, 202]
    # Only who asks by hand has the newest version tried again.
    gateway.restart()
    generation = gateway.connection()["generation"]
    gateway.call("gateway", "ReportHubFailure", "tsus", generation, "auth", 401, "")
    gateway.wait_for(check=lambda p: p["Generation"] > generation)
    assert [r["status"] for r in emulator.requests("register")] == [400, 202, 202]
    gateway.dpsctl("reprovision", "gateway", "--wait")
    assert [r["status"] for r in emulator.requests("register")] == [400, 202, 202, 400, 202]


def test_a_version_that_nobody_takes_is_an_error_that_says_so(gateway, emulator):
    emulator.set("*", behaviour={"refusedApiVersions": ["2026-11-02-preview", "2025-07-01-preview"]})
    configure(gateway, emulator)
    gateway.start()
    properties = gateway.wait_for(LastErrorId="api-version")
    assert properties["Attempts"] == 1 and len(emulator.requests("register")) == 2


# ---- renewal ----


def test_a_certificate_is_renewed_before_it_expires(gateway, emulator, clock):
    before = start(gateway, emulator, policy={"lifetime": 3600}, issuance={"RenewAt": "1%"})
    old, was = leaf(gateway), pairs(gateway)
    assert before["RenewAt"] == before["NextAttemptAt"] < before["CertificateExpiresAt"]
    assert before["RenewAt"] >= before["LastSuccessAt"] + 60_000_000  # 1 % would be 36 s
    clock.pass_by(62)
    after = gateway.wait_for(Generation=2)
    assert leaf(gateway).serial_number != old.serial_number
    assert public(leaf(gateway).public_key()) != public(old.public_key())
    assert after["AssignedAt"] == before["AssignedAt"] and after["LastSuccessAt"] > before["RenewAt"]
    assert is_whole(gateway)
    eventually(lambda: len(pairs(gateway)) == 1 and pairs(gateway) != was, DEADLINE, "the old pair to be removed")
    log_in(gateway, emulator)


@pytest.mark.parametrize("is_rebooted", [False, True])
def test_the_renewal_is_counted_anew_when_a_clock_that_was_ahead_is_corrected(gateway, emulator, clock, is_rebooted):
    day, usec = 86400, 1_000_000
    clock.shift(5 * day, told=False)
    before = start(gateway, emulator, policy={"lifetime": 10 * day})
    assert before["RenewAt"] > before["CertificateExpiresAt"] - 2 * day * usec  # 80 % of the five days that seemed to be left
    clock.synchronize()
    if is_rebooted:
        gateway.stop()
        clock.shift(0, told=False)
        gateway.start()
    else:
        clock.shift(0)
    after = gateway.wait_for(State="assigned", Healthy=True, check=lambda p: p["LastSuccessAt"] <= clock.now())
    left = after["CertificateExpiresAt"] - clock.now()
    assert 0.7 * left < after["RenewAt"] - clock.now() < 0.81 * left
    assert after["Generation"] == before["Generation"]


def test_the_old_certificate_serves_while_dps_refuses(gateway, emulator):
    start(gateway, emulator)
    old, was = gateway.files(), pairs(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    assert gateway.files() == old and pairs(gateway) == was
    assert gateway.properties("gateway")["LastErrorId"] == "enrollment-disabled"


def test_the_old_certificate_serves_when_dps_issues_none_any_more(gateway, emulator):
    start(gateway, emulator)
    old = gateway.files()["cert.pem"]
    emulator.set("gateway", issuance="null")
    gateway.dpsctl("reprovision", "gateway", "--wait")
    properties = gateway.wait_for(LastErrorId="issuance")
    assert gateway.files()["cert.pem"] == old and "the old one serves" in properties["LastError"]
    log_in(gateway, emulator)


def test_an_expired_certificate_gives_way_to_the_key_and_dps_is_asked(gateway, emulator):
    configure(gateway, emulator, policy={"lifetime": 8}, issuance={"RenewAt": "90%"})
    gateway.start()
    gateway.wait_for(CertificateKind="issued")
    emulator.stop()
    gateway.wait_for(HubAuthentication="sas", check=lambda p: p["TokenExpiresAt"] > 0)
    assert "token" in gateway.files() and "key.pem" not in gateway.files()
    emulator.start()
    emulator.set("gateway", **{"issuance.lifetime": LIFE})
    gateway.dpsctl("reprovision", "gateway", "--wait")
    gateway.wait_for(CertificateKind="issued", Healthy=True)


# ---- the disk ----


def test_a_lost_pair_is_asked_for_again(gateway, emulator):
    start(gateway, emulator)
    gateway.stop()
    (gateway.state / pairs(gateway)[0]).unlink()
    gateway.start()
    gateway.wait_for(CertificateKind="issued", check=lambda p: p["Generation"] > 2)
    assert len(emulator.requests("register")) == 2 and is_whole(gateway)


def test_a_damaged_pair_is_never_served(gateway, emulator):
    start(gateway, emulator)
    gateway.stop()
    path = gateway.state / pairs(gateway)[0]
    path.write_text(path.read_text()[:-200])
    gateway.start()
    gateway.wait_for(CertificateKind="issued", check=lambda p: p["Generation"] > 2)
    assert is_whole(gateway)


@pytest.mark.parametrize("call", ["write", "fsync", "renameat"])
@pytest.mark.parametrize("n", range(1, 9))
def test_a_daemon_that_is_killed_while_it_renews_has_a_whole_pair(gateway, emulator, call, n):
    start(gateway, emulator)
    gateway.stop()
    gateway.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_DISK": f"{call} {n} kill"}
    gateway.start(wait=False)
    try:
        gateway.wait_until_ready()
        if gateway.dpsctl("reprovision", "gateway", "--wait").code == 0:  # else it was killed on the way
            eventually(lambda: gateway.process.poll() is not None or gateway.remembered()["generation"] >= 2, what="the record")
            eventually(lambda: gateway.process.poll() is not None or len(pairs(gateway)) == 1, what="the old pair to be removed")
    except (AssertionError, OSError):
        assert gateway.process.poll() is not None
    gateway.kill()
    del gateway.surroundings["LD_PRELOAD"], gateway.surroundings["DPS_TEST_DISK"]
    named = gateway.remembered()["issuedFingerprint"][:16]
    assert f"gateway.{named}.issued" in pairs(gateway)
    emulator.stop()
    gateway.start()
    assert gateway.wait_for(State="assigned", CertificateKind="issued")["HubAuthentication"] == "x509"
    assert is_whole(gateway)


def test_a_disk_that_refuses_the_pair_does_not_stop_the_service(gateway, emulator):
    configure(gateway, emulator)
    gateway.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_DISK": "fsync 0 28"}
    gateway.start()
    gateway.wait_for(State="assigned", CertificateKind="issued")
    assert is_whole(gateway) and pairs(gateway) == []
    log_in(gateway, emulator)
    gateway.kill()  # and a daemon that starts later in this boot finds it
    gateway.start()
    gateway.wait_for(State="assigned", CertificateKind="issued")
    assert len(emulator.requests("register")) == 1


@pytest.mark.skipif(bool(UNDER), reason="the program that dpsd runs under would run out of memory")
def test_without_memory_there_is_a_whole_pair_or_a_token(tmp_path, gateway, emulator):
    memory = Memory(tmp_path)
    memory.rule(gateway)
    emulator.set("*", quotas={"pollsPerTenSeconds": 1000000})
    configure(gateway, emulator)
    n, failed = 3, 1
    while failed:
        for directory in (gateway.state, gateway.run):
            for path in directory.rglob("*"):
                if not path.is_dir():
                    path.unlink()
        memory.fail(n)
        gateway.spawn("--once", "--timeout=6", **gateway.environment())
        gateway.process.wait(DEADLINE)
        code = gateway.end()
        failed = memory.heal()
        if code == 0 and "key.pem" in gateway.files():
            assert is_whole(gateway), n
            assert len(pairs(gateway)) == 1 and gateway.remembered()["issuedFingerprint"][:16] in pairs(gateway)[0], n
        elif code == 0:
            assert "token" in gateway.files() and "issuanceFault" not in gateway.remembered(), n
        n += 37
    memory.close()
    assert n > 300


# ---- the profile of the hub ----


def test_a_v5_hub_gets_the_certificate_and_no_user_name(gateway, emulator):
    properties = start(gateway, emulator, connectionProfile="MqttV5")
    connection = gateway.connection()
    assert properties["ConnectionProfile"] == connection["connectionProfile"] == "MqttV5"
    assert connection["mqttVersion"] == 5 and connection["auth"] == "x509" and properties["Healthy"]
    assert not {"username", "password"} & set(connection)
    assert "IOTHUB_CONNECTION_PROFILE=MqttV5\n" in gateway.files()["hub.env"] and "USERNAME" not in gateway.files()["hub.env"]


def test_a_v5_hub_and_a_symmetric_key_alone_is_assigned_but_not_healthy(gateway, emulator):
    properties = start(gateway, emulator, policy={}, connectionProfile="mqttV5")
    connection = gateway.connection()
    assert (properties["Healthy"], properties["LastErrorId"], properties["HubAuthentication"]) == (False, "issuance", "")
    assert not {"auth", "username", "password", "expiresAt", "certificateFile"} & set(connection)
    assert sorted(gateway.files()) == ["connection.json", "hub.env"]
    assert gateway.dpsctl("token", "gateway").code == 1
    assert gateway.dpsctl("status", "gateway").code == 0 and gateway.dpsctl("status", "gateway", "--strict").code == 3


def test_a_v5_hub_without_a_request_for_a_certificate_is_reported_with_advice_that_fits(gateway, emulator):
    start(gateway, emulator, issuance={"Request": "no"}, provisioning={"ApiVersion": "2026-11-02-preview"}, connectionProfile="mqttV5")
    card = gateway.dpsctl("status", "gateway").out
    assert "the hub takes certificates only (mqttV5), and there is none: Request= in [Issuance] is off" in card
    assert "assigned" in card.splitlines()[0] and "but with an error" in card.splitlines()[0]
    assert "set Request=yes in [Issuance] and link a credential policy" in card


def test_a_v5_hub_takes_the_certificate_of_an_x509_device(gateway, emulator):
    attestation = enroll_x509(emulator, connectionProfile="mqttV5")
    gateway.identity(method="x509", attestation=attestation, issuance=ISSUANCE)
    gateway.start()
    gateway.wait_for(State="assigned", HubAuthentication="x509", CertificateKind="onboarding")
    assert gateway.connection()["mqttVersion"] == 5 and "username" not in gateway.connection()


def test_an_unknown_profile_is_shown_and_nothing_guessed(gateway, emulator):
    assert start(gateway, emulator, connectionProfile="amqpV7")["ConnectionProfile"] == "amqpV7"
    assert not {"mqttVersion", "username"} & set(gateway.connection())


@pytest.mark.parametrize("profile", [None, "classic", "Classic"])
def test_a_classic_hub_is_used_as_ever(gateway, emulator, profile):
    start(gateway, emulator, connectionProfile=profile)
    assert gateway.connection()["mqttVersion"] == 4
    log_in(gateway, emulator)


# ---- the emulator ----


def test_a_pem_text_as_request_is_refused(emulator):
    device = Device(emulator, "gateway", emulator.enroll("gateway", issuance={}), api_version="2025-07-01-preview")
    device.subscribe()
    answer = device.register(json.dumps({"csr": "-----BEGIN CERTIFICATE REQUEST-----\n"}))
    assert answer.status == 400 and answer.body["errorCode"] == 400012


def test_a_v5_hub_refuses_tokens(gateway, emulator):
    start(gateway, emulator, issuance={"Request": "no"}, provisioning={"ApiVersion": "2019-03-31"}, connectionProfile="mqttV5")
    assert gateway.connection()["connectionProfile"] == "classic"  # this version does not tell it
    with pytest.raises(Refused):
        log_in(gateway, emulator)


def make_csr(name="gateway", key=None):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key or ec.generate_private_key(ec.SECP256R1()),
                                                                             hashes.SHA256())
    return json.dumps({"csr": base64.b64encode(csr.public_bytes(serialization.Encoding.DER)).decode()})


def registered(emulator, body, api_version="2025-07-01-preview", **policy):
    """Registers a device that asks for a certificate; returns it, and the answer of its first poll."""
    device = Device(emulator, "gateway", emulator.enroll("gateway", **policy), api_version=api_version)
    device.subscribe()
    answer = device.register(body)
    return device, answer if answer.status >= 400 else device.poll(answer.body["operationId"])


def chain_of(answer):
    return answer.body["registrationState"].get("issuedCertificateChain")


def test_the_chain_stays_the_same_in_one_operation_and_is_new_in_the_next(emulator):
    device, first = registered(emulator, make_csr(), issuance={})
    assert len(chain_of(first)) == 3
    assert chain_of(device.poll(first.body["operationId"])) == chain_of(first)
    again = device.register(make_csr())
    assert chain_of(device.poll(again.body["operationId"]))[0] != chain_of(first)[0]


def test_a_version_that_knows_no_requests_ignores_one(emulator):
    assert chain_of(registered(emulator, make_csr(), api_version="2021-06-01", issuance={})[1]) is None


def test_without_a_policy_there_is_an_assignment_without_a_chain(emulator):
    answer = registered(emulator, make_csr())[1]
    assert answer.body["status"] == "assigned" and chain_of(answer) is None


def test_an_issuance_can_fail_with_any_code(emulator):
    device, failed = registered(emulator, make_csr(), issuance={"failure": 403000})
    assert (failed.body["status"], failed.body["registrationState"]["errorCode"]) == ("failed", 403000)
    assert device.poll(device.register().body["operationId"]).body["status"] == "assigned"


@pytest.mark.parametrize("body, code", [
    (make_csr("somebody-else"), 400040), (make_csr(key=ec.generate_private_key(ec.SECP521R1())), 400040),
    (json.dumps({"csr": "AAAA"}), 400040), (json.dumps({"csr": "no base64"}), 400012)], ids=["name", "key", "bytes", "text"])
def test_a_request_that_is_wrong_is_refused(emulator, body, code):
    assert registered(emulator, body, issuance={})[1].body["errorCode"] == code


def test_the_hub_refuses_an_issued_certificate_on_request(gateway, emulator):
    start(gateway, emulator, policy={"hub": "onboarding"})
    with pytest.raises(Refused):
        log_in(gateway, emulator)
