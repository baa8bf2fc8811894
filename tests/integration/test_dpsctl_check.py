# SPDX-License-Identifier: MIT
"""dpsctl check without the daemon and without DPS: finds what would make a registration fail. test_check.py: with them."""
import base64
import contextlib
import json
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certificates import Issuer, key_pem, name, pem
from process import DEADLINE, free_port

KEY = base64.b64encode(bytes(range(32))).decode()
GOOD = "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\n[Attestation]\nKey=/etc/dps/gw.key\n"
X509 = "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gw-1\n[Attestation]\nMethod=x509\nCertificate=%s\nPrivateKey=%s\n"


def rows_of(dpsctl, *options):
    """The exit code, and result and text by what was checked."""
    code, out, _ = dpsctl("check", "gw", "--json=short", *options)
    return code, {row["Check"]: (row["Result"], row["Text"]) for row in json.loads(out)["checks"]}


def write_key(dpsctl):
    key = dpsctl.directory / "gw.key"
    key.write_text(KEY)
    key.chmod(0o600)
    return key


def test_check_without_any_dpsd_says_what_is_missing(dpsctl):
    dpsctl.environment["DPS_DAEMON"] = "/nowhere/dpsd"
    code, _, err = dpsctl("check")
    assert code == 1 and "dpsd is not running, and /nowhere/dpsd, which would check, cannot be run" in err and "DPS_DAEMON" in err


def test_check_finds_an_unsafe_key_file_and_a_key_that_is_not_valid(dpsctl):
    key = dpsctl.directory / "gw.key"
    key.write_text(KEY)
    key.chmod(0o644)
    (dpsctl.etc / "gw.conf").write_text(GOOD.replace("/etc/dps/gw.key", str(key)))
    code, out, _ = dpsctl("check", "--offline")
    assert code == 1 and "chmod" in out
    key.write_text("not a key")
    key.chmod(0o600)
    code, out, _ = dpsctl("check", "--offline", "gw", "--json=short")
    rows = {row["Check"]: row for row in json.loads(out)["checks"]}
    assert rows["identity"]["Result"] == "ok" and rows["key"]["Result"] == "failed"
    assert rows["connection"]["Result"] == "skipped"


@pytest.fixture
def tls_server(tmp_path):
    """The port of a TLS server, and its certificate, self-signed for localhost."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key.pem", "-out",
                    tmp_path / "cert.pem"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], tmp_path / "cert.pem"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)


def test_check_goes_as_far_as_tls(dpsctl, tls_server):
    port, certificate = tls_server
    key = dpsctl.directory / "gw.key"
    key.write_text(KEY)
    key.chmod(0o600)
    conf = GOOD.replace("/etc/dps/gw.key", str(key)).replace("[Att", f"Endpoint=localhost\nMqttPort={port}\n[Att")

    (dpsctl.etc / "gw.conf").write_text(conf)
    code, out, _ = dpsctl("check", "--json=short")
    rows = {row["Check"]: row for row in json.loads(out)["checks"]}
    assert code == 1 and rows["connection"]["Result"] == "ok" and rows["TLS"]["Result"] == "failed"

    (dpsctl.etc / "gw.conf").write_text(conf.replace("[Att", f"CaFile={certificate}\n[Att"))
    code, out, _ = dpsctl("check", "--json=short")
    rows = {row["Check"]: row for row in json.loads(out)["checks"]}
    assert rows["TLS"]["Result"] == "ok"
    assert code == 1 and rows["log-in"]["Result"] == "failed"  # it does not speak MQTT


def test_check_finds_a_key_of_another_certificate(dpsctl, tls_server):
    _, certificate = tls_server
    other = dpsctl.directory / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other],
                   check=True, capture_output=True)
    for key, expected in ((certificate.with_name("key.pem"), 0), (other, 1)):
        key.chmod(0o600)
        (dpsctl.etc / "gw.conf").write_text(
            "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=localhost\n"
            f"[Attestation]\nMethod=x509\nCertificate={certificate}\nPrivateKey={key}\n")
        code, out, _ = dpsctl("check", "--offline")
        assert code == expected, out


# Certificates

@pytest.fixture
def pair(dpsctl):
    """pair(not_after=…): configures a certificate and its key; returns both paths and the key."""
    def make(**validity):
        key = ec.generate_private_key(ec.SECP256R1())
        paths = [dpsctl.directory / "gw.pem", dpsctl.directory / "gw-key.pem"]
        paths[0].write_bytes(pem(Issuer("factory").sign(name("gw-1"), key, [], **validity)))
        paths[1].write_bytes(key_pem(key))
        paths[1].chmod(0o600)
        (dpsctl.etc / "gw.conf").write_text(X509 % tuple(paths))
        return *paths, key
    return make


@pytest.mark.parametrize("validity, result, words", [
    ({"not_after": 90}, "ok", "expires in"), ({"not_after": 20}, "warning", "expires in"),
    ({"not_before": -9, "not_after": -1}, "failed", "replace it"), ({"not_before": 1}, "failed", "is the clock right?")])
def test_check_says_when_a_certificate_expires(dpsctl, pair, validity, result, words):
    pair(**validity)
    code, rows = rows_of(dpsctl, "--offline")
    assert code == (1 if result == "failed" else 0) and rows["certificate"][0] == result and words in rows["certificate"][1]
    assert rows["key"] == ("ok", f"PrivateKey={dpsctl.directory}/gw-key.pem signs, and belongs to its certificate")


@pytest.mark.parametrize("spoil, about, words", [
    (lambda certificate, key, _: certificate.write_text("none"), "certificate", "the file holds no PEM certificate"),
    (lambda certificate, key, _: certificate.unlink(), "certificate", "No such file"),
    (lambda certificate, key, _: key.unlink(), "key", "No such file"),
    (lambda certificate, key, _: key.chmod(0o644), "key", "chmod"),
    (lambda certificate, key, secret: key.write_bytes(secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x"))),
     "key", "nobody can type its passphrase")])
def test_check_finds_a_certificate_or_key_that_cannot_be_used(dpsctl, pair, spoil, about, words):
    spoil(*pair())
    code, rows = rows_of(dpsctl, "--offline")
    assert code == 1 and rows[about][0] == "failed" and words in rows[about][1]


def test_a_systemd_credential_that_only_the_unit_has_is_a_warning(dpsctl):
    (dpsctl.etc / "gw.conf").write_text(GOOD.replace("/etc/dps/gw.key", "credential:gw.key"))
    code, rows = rows_of(dpsctl, "--offline")
    assert code == 0 and rows["key"][0] == "warning"


# Name, connection, TLS

def configure_endpoint(dpsctl, endpoint, port):
    (dpsctl.etc / "gw.conf").write_text(GOOD.replace("/etc/dps/gw.key", str(write_key(dpsctl))).replace(
        "[Att", f"Endpoint={endpoint}\nMqttPort={port}\n[Att"))


def test_check_finds_a_name_that_does_not_resolve(dpsctl):
    configure_endpoint(dpsctl, "dps.invalid", 8883)
    code, rows = rows_of(dpsctl)
    assert code == 1 and rows["name"][0] == "failed" and "resolvectl query dps.invalid" in rows["name"][1]


def test_check_finds_a_port_that_refuses_connections(dpsctl):
    port = free_port()
    configure_endpoint(dpsctl, "127.0.0.1", port)
    code, rows = rows_of(dpsctl)
    assert code == 1 and rows["connection"][0] == "failed" and "refused; is the port open in the firewall?" in rows["connection"][1]


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_check_finds_a_server_without_tls(dpsctl, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        configure_endpoint(dpsctl, "127.0.0.1", listener.getsockname()[1])
        code, rows = rows_of(dpsctl)
        thread.join(DEADLINE)
    assert code == 1 and rows["connection"][0] == "ok" and rows["TLS"][0] == "failed"


# CAs

def test_check_finds_that_a_ca_of_azure_is_missing_without_the_network(dpsctl):
    ca_file = dpsctl.directory / "ca.pem"
    ca_file.write_bytes(pem(Issuer("another").certificate))
    (dpsctl.etc / "gw.conf").write_text(
        GOOD.replace("/etc/dps/gw.key", str(write_key(dpsctl))).replace("[Att", f"CaFile={ca_file}\n[Att"))
    code, out, _ = dpsctl("check", "--offline")
    assert code == 1 and "DigiCert Global Root G2 is not trusted, but Azure needs it: add it to CaFile=" in out
    assert "Microsoft RSA Root Certificate Authority 2017 is not trusted, but Azure may switch to it" in out


def test_check_finds_a_ca_file_that_does_not_exist(dpsctl):
    (dpsctl.etc / "gw.conf").write_text(
        GOOD.replace("/etc/dps/gw.key", str(write_key(dpsctl))).replace("[Att", "CaFile=/nowhere/ca.pem\n[Att"))
    code, rows = rows_of(dpsctl, "--offline")
    assert code == 1 and rows["trust"][0] == "failed" and "/nowhere/ca.pem" in rows["trust"][1]


# Which identities

def test_nothing_configured_is_a_warning_that_says_where(dpsctl):
    code, out, _ = dpsctl("check", "--offline")
    assert code == 0 and f"write {dpsctl.etc}/NAME.conf" in out


def test_a_name_that_is_not_configured_is_4(dpsctl):
    code, _, err = dpsctl("check", "nope")
    assert code == 4 and "there is no nope.conf" in err


def test_quiet_check_prints_nothing(dpsctl):
    (dpsctl.etc / "gw.conf").write_text(GOOD)
    assert dpsctl("check", "--offline", "-q") == (1, "", "")


def test_check_of_an_identity_ends_if_its_registration_id_does_not_resolve(dpsctl):
    (dpsctl.etc / "gw.conf").write_text(GOOD.replace("=gw-1", "=%{mac:nope0}"))
    code, rows = rows_of(dpsctl, "--offline")
    assert code == 1 and rows["identity"][0] == "failed" and "nope0" in rows["identity"][1] and "key" not in rows
