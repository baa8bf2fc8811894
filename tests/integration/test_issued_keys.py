# SPDX-License-Identifier: MIT
"""Certificates that DPS issues, for keys that are made in a PKCS#11 token or a TPM."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import tpm
from emulator import Emulator
from hardware import PIN, log_in_with_token, log_in_with_tpm, run, secret
from namespace import Network, needs_root
from process import BUILD, DEADLINE, WORLD, eventually

pytestmark = pytest.mark.usefixtures("modules")
FAKE = BUILD / "tests/integration/test-token.so"
LIFE = 3600


def configure(gateway, emulator, attestation, issuance):
    """An identity with a symmetric key, and a key in hardware for the hub, which takes issued certificates only."""
    key = emulator.enroll("gateway", issuance={"lifetime": LIFE, "hub": "issued"})
    gateway.identity(key=key, attestation=attestation, issuance={"Request": "yes"} | issuance, provisioning={"Splay": "0"})


def with_token(gateway, emulator, tmp_path, token, pin=PIN, fake=None, **issuance):
    """`fake`: what the module that passes calls on is told in its environment."""
    gateway.surroundings |= {key: str(value) for key, value in token.environment.items()}
    if fake is not None:
        gateway.surroundings |= {"TOKEN_MODULE": str(token.module), "TOKEN_LOGINS": str(tmp_path / "logins"),
                                 "TOKEN_HANGS": str(tmp_path / "hangs"), "TOKEN_GOES_ON": str(tmp_path / "goes-on"),
                                 "TOKEN_REFUSES": str(tmp_path / "refuses")} | fake
    configure(gateway, emulator, {"Pin": secret(tmp_path / "pin", pin + "\n"),
                                  "Pkcs11Module": token.module if fake is None else FAKE},
              {"Key": "pkcs11:token=gw;object=hub"} | issuance)


def with_tpm(gateway, emulator, chip, **issuance):
    configure(gateway, emulator, {"Tcti": chip.tcti}, {"Key": "tpm"} | issuance)


def leaf(gateway):
    return x509.load_pem_x509_certificate(gateway.files()["cert.pem"].encode())


def assert_signs(gateway, chip):
    """The key that programs are handed signs in the TPM, for openssl, and is that of the certificate."""
    if tpm.resource_manager():
        log_in_with_tpm(gateway, gateway.emulator, chip)
        return
    directory = gateway.directory
    (directory / "nonce").write_bytes(bytes(32))
    (directory / "public.pem").write_bytes(leaf(gateway).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    run(directory, "openssl", "pkeyutl", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2", "-sign", "-inkey",
        gateway.connection()["keyFile"], "-in", "nonce", "-rawin", "-digest", "sha256", "-out", "signature", TPM2OPENSSL_TCTI=chip.tcti)
    run(directory, "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-in", "nonce", "-rawin", "-digest", "sha256",
        "-sigfile", "signature")


def served(gateway):
    """The label of the key that programs are told to use, and its id."""
    values = dict(part.split("=", 1) for part in gateway.connection()["keyUri"].removeprefix("pkcs11:").split(";"))
    return values["object"], values["id"].replace("%", "").lower()


def notes(gateway):
    return sorted(path.name for path in gateway.state.glob("*.token"))


def assert_only_the_served_key_is_left(gateway, token):
    eventually(lambda: token.keys() == [served(gateway)] and token.publics() == 1, DEADLINE, "the superseded key to be removed")
    eventually(lambda: notes(gateway) == [f"gateway.{served(gateway)[1]}.token"], DEADLINE, "its note to be removed")


def refused(gateway, *words):
    """A registration that fails takes nothing away."""
    before = gateway.files()
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    properties = gateway.wait_for(State="assigned", check=lambda p: all(word in p["LastError"] for word in words))
    assert gateway.files() == before and properties["CertificateKind"] == "issued"
    return properties


# ---- from nothing to a login ----


@pytest.mark.parametrize("key_type, size", [("ec-p256", 256), ("rsa-2048", 2048)])
def test_a_key_is_made_in_a_token_and_the_hub_takes_its_certificate(gateway, emulator, tmp_path, token, key_type, size):
    token.make_key("hub", number="77")  # somebody else's
    with_token(gateway, emulator, tmp_path, token, KeyType=key_type)
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert (properties["HubAuthentication"], properties["CertificateKind"], properties["Healthy"]) == ("x509", "issued", True)
    connection = gateway.connection()
    assert connection["auth"] == "x509" and not {"keyFile", "password"} & set(connection)
    assert "key.pem" not in gateway.files() and f'IOTHUB_KEY_URI="{connection["keyUri"]}"' in gateway.files()["hub.env"]
    assert leaf(gateway).public_key().key_size == size
    assert token.keys() == sorted([("hub", "77"), served(gateway)])
    log_in_with_token(gateway, emulator, token)
    assert "never extractable" in token.tool("--list-objects").replace("\n", " ")
    assert PIN not in gateway.whole_log()


@pytest.mark.parametrize("key_type, has_root", [("ec-p256", True), ("ec-p384", False)])
def test_a_key_is_made_in_a_tpm_and_the_hub_takes_its_certificate(gateway, emulator, chip, key_type, has_root):
    if has_root:
        chip.make_keys()
        chip.run("changeauth", "-c", "o", "owner's")  # it is not needed where the storage root key is there
    before = chip.persistent()
    with_tpm(gateway, emulator, chip, KeyType=key_type)
    gateway.start()
    assert gateway.wait_for(State="assigned", CertificateKind="issued")["Healthy"]
    assert gateway.files()["key.pem"].startswith("-----BEGIN TSS2 PRIVATE KEY-----")
    assert isinstance(leaf(gateway).public_key(), ec.EllipticCurvePublicKey) and f"p{leaf(gateway).public_key().key_size}" in key_type
    assert_signs(gateway, chip)
    old = gateway.files()["key.pem"]
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    gateway.wait_for(Generation=2)
    assert gateway.files()["key.pem"] != old
    assert_signs(gateway, chip)
    assert (chip.persistent(), chip.transient()) == (before, [])


@needs_root
def test_check_logs_in_at_the_hub_with_a_key_that_was_made_in_a_token(gateway, tmp_path, token):
    """dpsctl check --hub-login. All of it is in a network of its own, where the hub's port is free."""
    network = Network()
    network.set_up()
    (tmp_path / "hub").mkdir()
    emulator = Emulator(tmp_path / "hub")
    emulator.wrapper, emulator.port = network.wrapper, 8883
    emulator.enrollments["hubs"] = ["localhost"]
    try:
        emulator.start()
        gateway.emulator, gateway.wrapper = emulator, network.wrapper
        with_token(gateway, emulator, tmp_path, token)
        gateway.start()
        gateway.wait_for(State="assigned", CertificateKind="issued")
        result = gateway.dpsctl("check", "gateway", "--hub-login", "--json=short")
        rows = {row["Check"]: (row["Result"], row["Text"]) for row in result.json["checks"]}
        assert rows["hub log-in"][0] == "ok", rows
        assert rows["issuance"] == ("ok", "[Issuance] Key=pkcs11:token=gw;object=hub: the token takes the PIN, and new keys")
        assert len(emulator.requests("hub-connect")) == 1
    finally:
        emulator.stop()
        network.close()


@pytest.mark.skipif(not (BUILD / "src/credential/tpm.so").exists(), reason="built without tpm2-tss")
def test_a_device_with_tpm_attestation_has_the_key_for_the_hub_in_its_tpm_too(gateway, emulator, tmp_path, chip):
    """The storage root key that the attestation makes is the parent, so that the owner's auth value is no obstacle."""
    chip.run("createek", "-c", tpm.EK, "-G", "rsa", "-u", "ek.pub")
    chip.run("changeauth", "-c", "o", "owner's")
    tpm.enroll(emulator, "gateway", chip.public(tpm.EK), issuance={"lifetime": LIFE, "hub": "issued"})
    gateway.identity(method="tpm", attestation={"Tcti": chip.tcti, "TpmOwnerAuth": secret(tmp_path / "owner", "owner's\n")},
                     issuance={"Request": "yes", "Key": "tpm"}, provisioning={"HttpsPort": emulator.https_port})
    gateway.start()
    properties = gateway.wait_for(State="assigned", CertificateKind="issued", timeout=3 * DEADLINE)
    assert (properties["AttestationMethod"], properties["HubAuthentication"]) == ("tpm", "x509")
    assert_signs(gateway, chip)


# ---- the next key ----


def test_a_renewal_makes_a_second_key_and_removes_the_first(gateway, emulator, tmp_path, token):
    stranger = [("hub", "77")]
    token.make_key("hub", number="77")
    with_token(gateway, emulator, tmp_path, token, fake={})
    gateway.start()
    gateway.wait_for(State="assigned")
    first = served(gateway)
    # What DPS refuses leaves at most one key behind, however often it refuses.
    emulator.set("gateway", provisioningStatus="disabled")
    for _ in range(2):
        refused(gateway)
    assert len(token.keys()) == 3 and set(token.keys()) > {first, *stranger}
    emulator.set("gateway", provisioningStatus="enabled")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    gateway.wait_for(Generation=2)
    assert served(gateway) != first
    eventually(lambda: token.keys() == sorted([*stranger, served(gateway)]), DEADLINE, "the superseded key to be removed")
    # Without the request the key goes, too.
    path = gateway.configuration / "gateway.conf"
    path.write_text(path.read_text().replace("Request=yes", "Request=no"))
    gateway.reload()
    gateway.wait_for(HubAuthentication="sas")
    eventually(lambda: token.keys() == stranger and notes(gateway) == [], DEADLINE, "the last key to be removed")


@pytest.mark.parametrize("seam", ["before", "after", "fsync 1", "renameat 2"])
def test_a_daemon_that_is_killed_while_it_makes_a_key_leaves_no_orphan(gateway, emulator, tmp_path, token, seam):
    with_token(gateway, emulator, tmp_path, token, fake={})
    gateway.start()
    gateway.wait_for(State="assigned")
    before, first = gateway.files(), served(gateway)
    gateway.stop()
    usual = gateway.surroundings
    more = {"TOKEN_KILLS": seam} if " " not in seam else {"LD_PRELOAD": WORLD, "DPS_TEST_DISK": f"{seam} kill"}
    gateway.surroundings = usual | more
    gateway.start()
    gateway.dpsctl("reprovision", "gateway")
    eventually(lambda: gateway.process.poll() is not None, DEADLINE, "the daemon to be killed")
    gateway.kill()
    assert len(token.keys()) <= 2 and (gateway.files() == before or served(gateway) in token.keys())
    gateway.surroundings = usual
    gateway.start()
    gateway.wait_for(State="assigned", CertificateKind="issued")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert served(gateway) != first
    assert_only_the_served_key_is_left(gateway, token)


# ---- what a token may lack ----


def test_a_wrong_pin_is_tried_once_and_the_right_one_at_once(gateway, emulator, tmp_path, token):
    with_token(gateway, emulator, tmp_path, token, pin="999999", fake={})
    gateway.start()
    gateway.wait_for(check=lambda p: "Pin=: token 'gw': the PIN is wrong" in p["LastError"])
    gateway.dpsctl("reprovision", "gateway")
    gateway.wait_for(check=lambda p: "refused this PIN already" in p["LastError"])
    assert (tmp_path / "logins").read_text() == "x" and not emulator.requests("connect")
    secret(tmp_path / "pin", PIN + "\n")
    gateway.wait_for(State="assigned", CertificateKind="issued")
    assert "999999" not in gateway.whole_log()


def test_a_token_that_makes_no_key_is_reported_with_the_reason_and_the_old_one_serves(gateway, emulator, tmp_path, token):
    with_token(gateway, emulator, tmp_path, token, fake={})
    gateway.start()
    gateway.wait_for(State="assigned")
    for code, words in ((0x31, "the token is full"), (0xe2, "the token is read-only"),
                        (0x70, "the token cannot make ec-p256 keys"), (0x30, "failed with error 0x30")):
        (tmp_path / "refuses").write_text(f"{code:x}")
        message = refused(gateway, words)["LastError"]
        assert "gateway.conf:" in message and "[Issuance] Key=: pkcs11:token=gw;object=hub-" in message
    (tmp_path / "refuses").unlink()
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert_only_the_served_key_is_left(gateway, token)


def test_a_token_that_is_gone_takes_nothing_away_and_comes_back(gateway, emulator, tmp_path, token):
    with_token(gateway, emulator, tmp_path, token)
    gateway.start()
    gateway.wait_for(State="assigned")
    before = gateway.files()
    gateway.stop()
    (token.directory / "tokens").rename(token.directory / "elsewhere")
    (token.directory / "tokens").mkdir()
    gateway.start()
    properties = gateway.wait_for(State="assigned", Waiting="key", LastErrorId="key", Healthy=False)
    assert "this token is not present" in properties["LastError"] and "pkcs11:token=gw" in properties["LastError"]
    assert gateway.files() == before and len(emulator.requests("register")) == 1
    refused(gateway, "this token is not present")
    gateway.stop()
    (token.directory / "tokens").rmdir()
    (token.directory / "elsewhere").rename(token.directory / "tokens")
    gateway.start()
    gateway.wait_for(State="assigned", CertificateKind="issued", check=lambda p: p["Waiting"] != "key")


def test_a_key_that_is_gone_from_its_token_is_replaced(gateway, emulator, tmp_path, token):
    with_token(gateway, emulator, tmp_path, token)
    gateway.start()
    gateway.wait_for(State="assigned")
    label, number = served(gateway)
    gateway.stop()
    token.tool("--delete-object", "--type", "privkey", "--label", label, "--id", number)
    gateway.start()
    gateway.wait_for(CertificateKind="issued", check=lambda p: p["Generation"] > 2)
    assert served(gateway) != (label, number)
    assert_only_the_served_key_is_left(gateway, token)
    log_in_with_token(gateway, emulator, token)
    assert "the token has no such private key" in gateway.whole_log()


def test_a_token_that_hangs_while_it_makes_a_key_costs_its_identity_only(gateway, emulator, tmp_path, token):
    with_token(gateway, emulator, tmp_path, token, fake={"TOKEN_HANGS_IN": "generate"})
    gateway.start()
    eventually((tmp_path / "hangs").exists, DEADLINE, "the call that hangs")
    assert gateway.dpsctl("status").code == 3
    gateway.identity("neighbour", issuance={"Request": "yes"})
    gateway.reload()
    gateway.wait_for("neighbour", State="assigned")
    (tmp_path / "goes-on").touch()
    gateway.wait_for(State="assigned", CertificateKind="issued")
    assert_only_the_served_key_is_left(gateway, token)


# ---- what a TPM may lack ----


def test_a_tpm_that_is_gone_takes_nothing_away_and_one_that_was_cleared_gets_a_new_key(gateway, emulator, chip):
    with_tpm(gateway, emulator, chip)
    gateway.start()
    gateway.wait_for(State="assigned")
    old = gateway.files()["key.pem"]
    chip.stop()
    message = refused(gateway, "there is no TPM, or it does not answer")["LastError"]
    assert "Tcti=: swtpm:" in message
    gateway.stop()
    chip.start()
    chip.run("clear", "-c", "p")
    gateway.start()
    gateway.wait_for(CertificateKind="issued", check=lambda p: p["Generation"] > 2)
    assert gateway.files()["key.pem"] != old
    assert_signs(gateway, chip)
    assert "integrity check failed" in gateway.whole_log()


def test_an_owner_with_an_auth_value_and_no_storage_root_key_is_reported_with_what_to_do(gateway, emulator, chip):
    chip.run("changeauth", "-c", "o", "owner's")
    with_tpm(gateway, emulator, chip)
    gateway.start()
    message = gateway.wait_for(LastErrorId="key")["LastError"]
    assert "no storage root key at 0x81000001 (SrkHandle=)" in message and "tpm2_evictcontrol" in message
    assert chip.transient() == []


# ---- images without the module ----


def test_without_the_module_it_is_said_what_to_install(gateway, emulator, tmp_path, token, modules):
    (modules / "hardware-key.so").unlink()
    with_token(gateway, emulator, tmp_path, token)
    gateway.start()
    message = gateway.wait_for(LastErrorId="config")["LastError"]
    assert "[Issuance] Key=: module hardware-key is not installed" in message and "dps-hardware-key" in message
