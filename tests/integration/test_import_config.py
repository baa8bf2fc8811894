# SPDX-License-Identifier: MIT
"""dpsctl import-config: a config.toml of aziot-identity-service becomes a NAME.conf; no secret is printed, and nothing is dropped in silence."""
import os
import re
import stat

import pytest

from process import REPOSITORY

KEY = "dGhpcnR5LXR3byBieXRlcyBtYWtlIGEgZmluZSBrZXk="
PROGRAMS = REPOSITORY / "src/dpsctl"

# The forms that the documentation of aziot-identity-service and of IoT Edge shows.
SYMMETRIC = f"""
hostname = "my-device"
cloud_timeout_sec = 10
cloud_retries = 1
auto_reprovisioning_mode = "Dynamic"
trust_bundle_cert = "file:///var/secrets/trust-bundle.pem"

[provisioning]
source = "dps"
global_endpoint = "https://global.azure-devices-provisioning.net/"
id_scope = "0ne00AABBCC"
always_reprovision_on_startup = true
payload = {{ uri = "file:///etc/my%20payload.json" }}

[provisioning.attestation]
method = "symmetric_key"
registration_id = "100%-device"
symmetric_key = {{ value = "{KEY}" }} # inline key

[agent]
name = "edgeAgent"
[agent.env]
https_proxy = "http://joe:SECRET1@proxy.example:3128"

[[principal]]
name = "app"
uid = 1001

[weather]
"sun\\n" = "SECRET2"
"""

PKCS11 = """
[provisioning]
source = "dps"
global_endpoint = "https://dps.example:8443"
id_scope = "0ne00AABBCC"
[provisioning.attestation]
method = "x509"
identity_cert = "file:///var/secrets/device-id.pem"
identity_pk = "pkcs11:object=device%20id;type=private?pin-value=SECRET1"
[aziot_keys]
pkcs11_lib_path = "/usr/lib/libmypkcs11.so"
pkcs11_base_slot = "pkcs11:slot-id=3?pin-value=SECRET2"
"""

FILES = """
[provisioning]
source = "dps"
id_scope = "0ne00AABBCC"
[provisioning.attestation]
method = "x509"
registration_id = "my-device"
identity_cert = "file:///var/secrets/device-id.pem"
identity_pk = "file:///var/secrets/device-id.key.pem"
[cert_issuance.est]
trusted_certs = ["file:///var/secrets/est-id-ca.pem"]
[cert_issuance.est.auth]
username = "estuser"
password = "SECRET1"
"""

TPM = """
[provisioning]
source = "dps"
id_scope = "0ne00AABBCC"
[provisioning.attestation]
method = "tpm"
registration_id = "my-device"
[tpm]
tcti = "swtpm:port=2321"
auth_key_index = 0x100
hierarchy_authorization = { endorsement = "SECRET1", owner = "SECRET2" }
"""

KEY_FILE = """
[provisioning]
source = "dps"
id_scope = "0ne00AABBCC"
attestation = { method = "symmetric_key", registration_id = "my-device", symmetric_key = { uri = "file:///var/secrets/device-id.key" } }
"""


@pytest.fixture
def convert(lone_gateway, tmp_path):
    """convert(text, …): the conf without its first line, and the remarks."""

    def run(text, *options, code=0):
        path = tmp_path / "config.toml"
        path.write_text(text)
        done = lone_gateway.dpsctl("import-config", path, *options, DPS_LIBEXEC=PROGRAMS)
        assert done.code == code, done
        assert KEY not in done.out + done.err and "SECRET" not in done.out + done.err
        return done.out.partition("\n")[2], re.sub(rf"^(dpsctl: )?{path}: ", "", done.err, flags=re.M)

    return run


def verify(gateway, conf):
    """Its faults, but for files that this machine has not."""
    path = gateway.write_conf("gateway", conf)
    done = gateway.dpsctl("verify-config", path)
    return [line for line in done.out.splitlines() if line.startswith("error") and "No such file" not in line and "credential" not in line]


def test_a_symmetric_key_in_the_file(convert, lone_gateway):
    conf, remarks = convert(SYMMETRIC)
    assert conf == ("[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=100%%-device\nPayloadFile=/etc/my payload.json\n"
                    "Proxy=http://joe@proxy.example:3128\nProxyPassword=credential:proxy\n\n[Attestation]\nKey=/etc/dps/gateway.key\n")
    for name in ("hostname", "cloud_timeout_sec", "cloud_retries", "auto_reprovisioning_mode", "trust_bundle_cert",
                 "provisioning.always_reprovision_on_startup", "principal"):
        assert re.search(rf"^{name}: no counterpart: ", remarks, re.M), name
    assert "agent.*: the rest has no counterpart" in remarks
    assert "weather.sun?: no counterpart, and not known\n" in remarks
    assert "dpsctl import-config --write-key=/etc/dps/gateway.key " in remarks
    assert "systemctl cat aziot-identityd" in remarks
    assert convert(SYMMETRIC, "--quiet")[1] == ""


def test_the_key_is_written_on_request_for_nobody_else(convert, tmp_path):
    path = tmp_path / "gateway.key"
    conf, remarks = convert(SYMMETRIC, f"--write-key={path}")
    assert f"Key={path}\n" in conf and "the key was written" in remarks
    assert path.read_text() == KEY + "\n" and not stat.S_IMODE(path.stat().st_mode) & 0o137
    path.chmod(0o600)
    path.write_text("mine\n")
    assert "cannot be written: File exists" in convert(SYMMETRIC, f"--write-key={path}", code=1)[1]
    assert path.read_text() == "mine\n"


@pytest.mark.parametrize("text, conf, remarks", (
    (PKCS11, "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=%{cert-cn}\nEndpoint=dps.example\nHttpsPort=8443\n\n"
             "[Attestation]\nMethod=x509\nCertificate=/var/secrets/device-id.pem\nPrivateKey=pkcs11:slot-id=3;object=device%20id\n"
             "Pkcs11Module=/usr/lib/libmypkcs11.so\nPin=credential:pin\n",
     ("the PIN is not printed: hand it to dpsd as the systemd credential 'pin'", "perhaps set Transport=https")),
    (FILES, "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=my-device\n\n"
            "[Attestation]\nMethod=x509\nCertificate=/var/secrets/device-id.pem\nPrivateKey=/var/secrets/device-id.key.pem\n",
     ("chgrp dpsd /var/secrets/device-id.key.pem; chmod 0640", "cert_issuance: no counterpart: dpsd asks no EST server")),
    (TPM, "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=my-device\n\n"
          "[Attestation]\nMethod=tpm\nTcti=swtpm:port=2321\nTpmOwnerAuth=credential:tpm-owner\nTpmEndorsementAuth=credential:tpm-endorsement\n",
     ("has at 0x81000100 stays there", "systemd credential 'tpm-owner'")),
    (KEY_FILE, "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=my-device\n\n[Attestation]\nKey=credential:gateway.key\n",
     ("base64 -w0 /var/secrets/device-id.key | dpsctl import-key gateway.key",)),
), ids=("pkcs11", "files", "tpm", "key-file"))
def test_each_way_to_attest(convert, lone_gateway, text, conf, remarks):
    made, said = convert(text)
    assert made == conf
    assert all(remark in said for remark in remarks), said
    assert verify(lone_gateway, made) == []


@pytest.mark.parametrize("text, why", (
    ('[provisioning]\nsource = "manual"\nconnection_string = "HostName=h;DeviceId=d;SharedAccessKey=SECRET"\n', "enroll the device in DPS"),
    ('[provisioning]\nsource = "none"\n', "nothing for dpsd to do"),
    ('hostname = "x"\n', "provisioning.source is missing"),
    ("provisioning = 7\n", "provisioning.source is missing"),
    (FILES.replace('"file:///var/secrets/device-id.pem"', '{ method = "est", common_name = "d" }'), "dpsd asks neither"),
    (KEY_FILE.replace("file:///var/secrets/device-id.key", "pkcs11:object=k?pin-value=SECRET"), "symmetric keys from files only"),
    (FILES.replace('"my-device"', '"a\\nKey=/etc/shadow"'), "has a control character"),
    (FILES.replace("file:///var/secrets/device-id.pem", "file:///a%0aGroup=x"), "is not the URI of a file"),
    (FILES.replace('"0ne00AABBCC"', "7"), "has another type"),
    (SYMMETRIC.replace(KEY, "SECRET?"), "is not base64"),
    ("[provisioning\nsource = SECRET", "this is not TOML (at line 1, column 14)"),
), ids=("manual", "none", "empty", "odd", "est", "token", "line", "uri", "type", "base64", "toml"))
def test_what_cannot_be_moved_is_said_and_nothing_is_printed(convert, text, why):
    conf, remarks = convert(text, code=1)
    assert conf == "" and why in remarks


def test_a_file_that_is_missing_and_usage(lone_gateway):
    for arguments, code, why in ((["/none"], 1, "/none: No such file or directory"), ([], 2, "usage: dpsctl import-config FILE"),
                                 (["/none", "--json"], 2, "does not take")):
        done = lone_gateway.dpsctl("import-config", *arguments, DPS_LIBEXEC=PROGRAMS)
        assert done.code == code and why in done.err, done
    done = lone_gateway.dpsctl("import-config", "/none", DPS_LIBEXEC="/nowhere")
    assert done.code == 1 and "it is in the package dps-import, and needs Python" in done.err


def test_a_device_moves(gateway, tmp_path):
    """With its key, by the commands that are told."""
    key = gateway.emulator.enroll("gw")
    toml = tmp_path / "config.toml"
    toml.write_text(SYMMETRIC.replace(KEY, key).replace("100%-device", "gw").replace("joe:SECRET1@proxy.example:3128", "")
                    .replace('https_proxy = "http://"', "").replace('payload = { uri = "file:///etc/my%20payload.json" }', ""))
    done = gateway.dpsctl("import-config", f"--write-key={tmp_path}/gateway.key", toml, DPS_LIBEXEC=PROGRAMS)
    assert done.code == 0, done
    os.chmod(tmp_path / "gateway.key", 0o600)
    gateway.write_conf("gateway", done.out)
    gateway.write_conf("gateway.conf.d/50-test", f"[Provisioning]\nEndpoint=127.0.0.1\nMqttPort={gateway.emulator.port}\n"
                       f"CaFile={gateway.emulator.ca_file}\n")
    gateway.start()
    gateway.wait_for(State="assigned", DeviceId="gw")
