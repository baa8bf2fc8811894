# SPDX-License-Identifier: MIT
"""X.509 with keys in a PKCS#11 token or a TPM."""
import contextlib

import pytest

from hardware import PIN, certify, secret
from process import BUILD, DEADLINE, eventually
from proxies import Microsocks, Tinyproxy

pytestmark = pytest.mark.usefixtures("modules")
FAKE = BUILD / "tests/integration/test-token.so"


@pytest.fixture(params=("mqtt", pytest.param("https", marks=pytest.mark.skipif(
    not (BUILD / "src/transport/https.so").exists(), reason="built without libcurl"))))
def transport(request):
    return request.param


@pytest.fixture
def group(emulator):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    return emulator


def configure(gateway, tmp_path, group, public_der, private_key, name="gw", validity=(-1, 30), transport="mqtt", proxy=None,
              **attestation):
    certificate = certify(group, name, public_der, tmp_path / f"{name}.pem", *validity)
    gateway.identity(name, method="x509", attestation={"Certificate": certificate, "PrivateKey": private_key} | attestation,
                     provisioning={"Transport": transport, "HttpsPort": group.https_port, "Proxy": proxy})


def with_token(gateway, tmp_path, group, token, private_key="pkcs11:token=gw;object=dps", kind="secp256r1", pin=PIN, **more):
    gateway.surroundings |= {key: str(value) for key, value in token.environment.items()}
    configure(gateway, tmp_path, group, token.make_key("dps", kind), private_key,
              **({"Pin": secret(tmp_path / "pin", pin + "\n"), "Pkcs11Module": token.module} | more))


@pytest.mark.parametrize("kind", ("secp256r1", "secp384r1", "rsa"))
def test_a_key_in_a_token_provisions(gateway, tmp_path, group, token, kind, transport):
    with_token(gateway, tmp_path, group, token, kind=kind, transport=transport)
    gateway.start()
    gateway.wait_for("gw", State="assigned")
    connection = gateway.connection("gw")
    assert connection["auth"] == "x509"
    assert connection["keyUri"] == "pkcs11:token=gw;object=dps" and "keyFile" not in connection
    assert 'IOTHUB_KEY_URI="pkcs11:token=gw;object=dps"' in gateway.files("gw")["hub.env"]
    assert PIN not in gateway.whole_log()


def test_a_key_at_a_handle_of_a_tpm_provisions(gateway, tmp_path, group, chip, transport):
    configure(gateway, tmp_path, group, chip.make_key("0x81000002"), "handle:0x81000002", Tcti=chip.tcti, transport=transport)
    gateway.start()
    gateway.wait_for("gw", State="assigned")
    assert gateway.connection("gw")["keyUri"] == "handle:0x81000002"
    assert chip.transient() == []


def test_a_key_of_a_tpm_in_a_file_provisions(gateway, tmp_path, group, chip, transport):
    path = tmp_path / "tss2.pem"
    configure(gateway, tmp_path, group, chip.make_file(path), path, Tcti=chip.tcti, transport=transport)
    gateway.start()
    gateway.wait_for("gw", State="assigned")
    assert gateway.connection("gw")["keyFile"] == str(path)


def test_a_key_of_a_tpm_with_an_auth_value_provisions(gateway, tmp_path, group, chip, transport):
    configure(gateway, tmp_path, group, chip.make_key("0x81000002", auth="hunter2"), "handle:0x81000002", Tcti=chip.tcti, transport=transport,
              Pin=secret(tmp_path / "pin", "hunter2\n"))
    gateway.start()
    gateway.wait_for("gw", State="assigned")


@pytest.mark.parametrize("proxy", (Tinyproxy, Microsocks))
def test_a_key_in_a_token_provisions_through_a_proxy(gateway, tmp_path, group, token, transport, proxy):
    with contextlib.closing(proxy()) as proxy:
        with_token(gateway, tmp_path, group, token, transport=transport, proxy=proxy.url)
        gateway.start()
        gateway.wait_for("gw", State="assigned")
        assert proxy.log


def assert_fails(gateway, error, *words, requests=0):
    gateway.start()
    properties = gateway.wait_for("gw", LastErrorId=error)
    for word in words:
        assert word in properties["LastError"], properties["LastError"]
    assert len(gateway.emulator.requests("connect")) == requests
    return properties


def use_fake(gateway, tmp_path, token, hangs_in=""):
    gateway.surroundings |= {"TOKEN_MODULE": str(token.module), "TOKEN_LOGINS": str(tmp_path / "logins"), "TOKEN_HANGS_IN": hangs_in,
                             "TOKEN_HANGS": str(gateway.directory / "hangs"), "TOKEN_GOES_ON": str(gateway.directory / "goes-on")}
    return {"Pkcs11Module": FAKE}


def test_a_wrong_pin_is_reported_and_tried_once(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, pin="999999", **use_fake(gateway, tmp_path, token))
    assert_fails(gateway, "config", "Pin=: token 'gw': the PIN is wrong")
    gateway.dpsctl("reprovision", "gw")
    gateway.wait_for("gw", check=lambda p: "refused this PIN already" in p["LastError"])
    assert (tmp_path / "logins").read_text() == "x"
    secret(tmp_path / "pin", PIN + "\n")
    gateway.wait_for("gw", State="assigned")
    assert "999999" not in gateway.whole_log()


def test_a_missing_pin_is_reported(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, Pin=None)
    assert_fails(gateway, "config", "without a PIN")


@pytest.mark.parametrize("uri, error, words", (
    ("pkcs11:token=other;object=dps", "key", "this token is not present"),
    ("pkcs11:token=gw;object=other", "key", "no such private key"),
))
def test_what_a_token_lacks_is_reported(gateway, tmp_path, group, token, uri, error, words):
    with_token(gateway, tmp_path, group, token, private_key=uri)
    assert_fails(gateway, error, words)


def test_several_keys_of_a_name_are_reported(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token)
    token.make_key("dps", number="02")
    assert_fails(gateway, "config", "several such private keys")


def test_a_key_other_than_that_of_the_certificate_is_reported(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, private_key="pkcs11:token=gw;object=other")
    token.make_key("other", number="02")
    assert_fails(gateway, "config", "not the key of the first certificate")


def test_a_missing_module_is_reported(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, Pkcs11Module="/nonexistent/module.so")
    assert_fails(gateway, "key", "Pkcs11Module=: /nonexistent/module.so: the module cannot be loaded")


def test_a_missing_tpm_is_reported_without_noise(gateway, tmp_path, group, chip):
    configure(gateway, tmp_path, group, chip.make_key("0x81000002"), "handle:0x81000002", Tcti=chip.tcti)
    chip.stop()
    assert_fails(gateway, "key", "there is no TPM, or it does not answer")
    assert "tcti:" not in gateway.whole_log()


def test_an_empty_handle_is_reported(gateway, tmp_path, group, chip):
    configure(gateway, tmp_path, group, chip.make_key("0x81000002"), "handle:0x81000099", Tcti=chip.tcti)
    assert_fails(gateway, "key", "handle:0x81000099: the TPM does not load this key")


def test_a_wrong_auth_value_is_reported_and_tried_once(gateway, tmp_path, group, chip):
    configure(gateway, tmp_path, group, chip.make_key("0x81000002", auth="hunter2"), "handle:0x81000002", Tcti=chip.tcti,
              Pin=secret(tmp_path / "pin", "hunter3\n"))
    assert_fails(gateway, "config", "the TPM refused the PIN")
    gateway.dpsctl("reprovision", "gw")
    gateway.wait_for("gw", check=lambda p: "refused this PIN already" in p["LastError"])


def test_an_rsa_key_of_a_tpm_is_refused_clearly(gateway, tmp_path, group, chip):
    configure(gateway, tmp_path, group, chip.make_key("0x81000002", kind="rsa2048"), "handle:0x81000002", Tcti=chip.tcti)
    assert_fails(gateway, "config", "use an EC key")


# ---- a token that hangs ----


def assert_only_this_one_waits(gateway):
    """The token hangs, and still requests are answered, and another identity is provisioned."""
    eventually((gateway.directory / "hangs").exists, DEADLINE, "the call that hangs")
    assert gateway.dpsctl("status").code == 3
    gateway.identity("neighbour")
    gateway.reload()
    gateway.wait_for("neighbour", State="assigned")


def test_a_module_that_does_not_return_from_initialize_costs_its_identity_only(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, **use_fake(gateway, tmp_path, token, "initialize"))
    gateway.start()
    assert_only_this_one_waits(gateway)
    message = gateway.wait_for("gw", LastErrorId="key", timeout=3 * DEADLINE)["LastError"]
    assert "has not answered within 20 s" in message and "test-token.so" in message
    gateway.dpsctl("reprovision", "gw")
    gateway.wait_for("gw", check=lambda p: "does not return from an earlier call" in p["LastError"])
    assert_only_this_one_waits(gateway)
    gateway.stop()


def test_a_token_that_does_not_sign_in_the_handshake_costs_its_identity_only(gateway, tmp_path, group, token, transport):
    with_token(gateway, tmp_path, group, token, transport=transport, **use_fake(gateway, tmp_path, token, "sign"))
    gateway.start()
    assert_only_this_one_waits(gateway)
    message = gateway.wait_for("gw", LastErrorId="key", timeout=3 * DEADLINE)["LastError"]
    assert "waits in vain for a signature" in message
    gateway.stop()


def test_a_token_that_is_pulled_out_in_the_handshake_is_reported(gateway, tmp_path, group, token, transport):
    with_token(gateway, tmp_path, group, token, transport=transport, **use_fake(gateway, tmp_path, token))
    gateway.surroundings["TOKEN_IS_PULLED_OUT"] = "1"
    gateway.start()
    properties = gateway.wait_for("gw", LastErrorId="key")
    assert properties["LastErrorStep"] == "tls"
    assert "PrivateKey=: pkcs11:token=gw;object=dps: the token has been removed: plug it in" in properties["LastError"]


def test_a_token_that_signs_late_holds_nobody_up(gateway, tmp_path, group, token, transport):
    with_token(gateway, tmp_path, group, token, transport=transport, **use_fake(gateway, tmp_path, token, "sign"))
    gateway.start()
    assert_only_this_one_waits(gateway)
    (gateway.directory / "goes-on").touch()
    properties = gateway.wait_for("gw", State="assigned")
    assert (properties["Transport"], properties["Attempts"]) == (transport, 0)


def test_the_daemon_ends_while_a_token_hangs_in_the_handshake(gateway, tmp_path, group, token, transport):
    with_token(gateway, tmp_path, group, token, transport=transport, **use_fake(gateway, tmp_path, token, "sign"))
    gateway.start()
    eventually((gateway.directory / "hangs").exists, DEADLINE, "the call that hangs")
    gateway.stop()


def test_a_reload_while_a_token_hangs_in_the_handshake_drops_the_attempt(gateway, tmp_path, group, token, transport):
    with_token(gateway, tmp_path, group, token, transport=transport, **use_fake(gateway, tmp_path, token, "sign"))
    gateway.start()
    assert_only_this_one_waits(gateway)
    (gateway.configuration / "gw.conf").unlink()
    gateway.reload()
    (gateway.directory / "goes-on").touch()
    gateway.wait_for("neighbour", State="assigned")
    assert gateway.dpsctl("status").code == 0


# ---- dpsctl check ----


def rows(gateway, about):
    checks = gateway.dpsctl("check", "--json=short", "gw", **gateway.surroundings).json["checks"]
    return [(row["Result"], row["Text"]) for row in checks if row["Check"] == about]


def test_check_tells_that_a_key_in_a_token_signs(gateway, tmp_path, group, token, transport):
    with_token(gateway, tmp_path, group, token, transport=transport)
    gateway.start()
    gateway.wait_for("gw", State="assigned")
    assert ("ok", "PrivateKey=pkcs11:token=gw;object=dps signs, in hardware, and belongs to its certificate") in rows(gateway, "key")
    [(result, text)] = rows(gateway, "log-in")
    assert result == "ok", text


def test_check_tells_that_a_pin_is_wrong(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, pin="999999")
    gateway.start()
    gateway.wait_for("gw", LastErrorId="config")
    [(result, text)] = rows(gateway, "key")
    assert result == "failed" and "Pin=: token 'gw'" in text and "refused this PIN already" in text


def test_check_tells_that_a_token_was_pulled_out_before_it_signs(gateway, tmp_path, group, token):
    """Without the daemon, check itself is who has the key loaded first."""
    with_token(gateway, tmp_path, group, token, **use_fake(gateway, tmp_path, token))
    gateway.surroundings["TOKEN_IS_PULLED_OUT"] = "1"
    [(result, text)] = rows(gateway, "key")
    assert result == "failed" and "PrivateKey=: pkcs11:token=gw;object=dps: the token has been removed: plug it in" in text


def test_check_tells_that_a_module_does_not_return(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, **use_fake(gateway, tmp_path, token, "initialize"))
    gateway.start()
    assert_only_this_one_waits(gateway)
    [(result, text)] = rows(gateway, "key")
    assert result == "failed" and "test-token.so does not return from an earlier call" in text
    gateway.stop()


# ---- images without the module ----


def test_without_the_module_it_is_said_what_to_install(gateway, tmp_path, group, token, modules):
    (modules / "hardware-key.so").unlink()
    with_token(gateway, tmp_path, group, token)
    assert_fails(gateway, "config", "module hardware-key is not installed", "install the package dps-hardware-key")


def test_without_the_module_the_next_method_serves(gateway, tmp_path, group, token, modules):
    (modules / "hardware-key.so").unlink()
    with_token(gateway, tmp_path, group, token, Method=["x509", "symmetric-key"], Key=gateway.write_key("gw.key", group.enroll("gw")))
    gateway.start()
    assert gateway.wait_for("gw", State="assigned")["AttestationMethod"] == "symmetric-key"


# ---- what is found out before anything is sent ----


def test_a_pin_in_the_uri_is_refused_and_not_shown(gateway, tmp_path, group, token):
    with_token(gateway, tmp_path, group, token, private_key="pkcs11:token=gw;object=dps?pin-value=314159")
    gateway.start()
    message = gateway.wait_for("gw", State="failed")["LastError"]
    assert "name that file with Pin=" in message
    assert "314159" not in gateway.whole_log()


@pytest.mark.parametrize("validity, words", (((-30, -1), "the certificate expired on"), ((1, 30), "is not valid before")))
def test_a_certificate_out_of_time_is_reported_before_anything_is_sent(gateway, tmp_path, group, token, validity, words):
    with_token(gateway, tmp_path, group, token, validity=validity)
    assert_fails(gateway, "config", words)
