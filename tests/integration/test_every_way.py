# SPDX-License-Identifier: MIT
"""Every method over every transport, enrolled alone and in a group: from nothing to an assignment and a login at the hub.

A new method is a row in METHODS."""
import pytest

import hardware
import tpm as tools
from mqtt import Refused, Session
from process import BUILD

DEVICE = "sn-7"
TOKEN_KEY, TPM_KEY = "pkcs11:token=gw;object=dps", "handle:0x81000002"
TRANSPORTS = {"mqtt": None, "https": "src/transport/https.so"}


def signs(gateway, emulator):
    """A login with the token that programs get."""
    connection = gateway.connection()
    return emulator.hub_connack(connection["clientId"], connection["username"], connection["password"])


def shows_certificate(gateway, emulator):
    connection = gateway.connection()
    try:
        Session(emulator.port, emulator.ca_file, connection["clientId"], connection["username"],
                certificate=(connection["certificateFile"], connection["keyFile"])).socket.close()
    except Refused as refusal:
        return refusal.code
    return 0


def opens_key(gateway, emulator):
    """A login of openssl's, which opens the key by the URI that programs get."""
    connection = gateway.connection()
    assert connection["auth"] == "x509" and "keyFile" not in connection
    if connection["keyUri"] == TOKEN_KEY:
        hardware.log_in_with_token(gateway, emulator, gateway.hardware)
    elif tools.resource_manager():
        hardware.log_in_with_tpm(gateway, emulator, gateway.hardware)
    else:
        assert connection["keyUri"] == TPM_KEY
    return 0


def key_alone(gateway, emulator, request):
    return {"Key": gateway.write_key("gateway.key", emulator.enroll(DEVICE))}


def key_of_group(gateway, emulator, request):
    return {"GroupKey": gateway.write_key("group.key", emulator.enroll_group("line"))}


def certificate(emulator):
    return dict(zip(("Certificate", "PrivateKey"), emulator.certificate(DEVICE)))


def enroll_certificate(emulator, lines):
    emulator.add({"individualEnrollments": [{"registrationId": DEVICE, "attestation": {
        "type": "x509", "x509": {"clientCertificates": {"primary": lines["Certificate"].read_text()}}}}]})
    return lines


def enroll_group(emulator, lines):
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    return lines


def certificate_alone(gateway, emulator, request):
    return enroll_certificate(emulator, certificate(emulator))


def certificate_of_group(gateway, emulator, request):
    return enroll_group(emulator, certificate(emulator))


def certify(gateway, emulator, public_der, private_key):
    return {"Certificate": hardware.certify(emulator, DEVICE, public_der, gateway.directory / "device.pem"), "PrivateKey": private_key}


def in_token(gateway, emulator):
    gateway.hardware = token = hardware.Token(gateway.directory / "token")
    gateway.surroundings["SOFTHSM2_CONF"] = str(token.conf)
    return certify(gateway, emulator, token.make_key("dps"), TOKEN_KEY) | {
        "Pin": hardware.secret(gateway.directory / "pin", hardware.PIN), "Pkcs11Module": token.module}


def in_tpm(gateway, emulator, request):
    gateway.hardware = chip = request.getfixturevalue("chip")
    return certify(gateway, emulator, chip.make_key(TPM_KEY.removeprefix("handle:")), TPM_KEY) | {"Tcti": chip.tcti}


def in_token_alone(gateway, emulator, request):
    return enroll_certificate(emulator, in_token(gateway, emulator))


def in_token_of_group(gateway, emulator, request):
    return enroll_group(emulator, in_token(gateway, emulator))


def in_tpm_alone(gateway, emulator, request):
    return enroll_certificate(emulator, in_tpm(gateway, emulator, request))


def in_tpm_of_group(gateway, emulator, request):
    return enroll_group(emulator, in_tpm(gateway, emulator, request))


def chip(gateway, emulator, request):
    """Without a key of its own until DPS has sent one. The service has no groups of TPMs."""
    chip = request.getfixturevalue("chip")
    emulator.set("*", behaviour={"tpmOverMqtt": True})
    tools.enroll(emulator, DEVICE, chip.make_keys())
    return {"Tcti": chip.tcti}


METHODS = {  # name: (Method=, what enrolls it and returns lines of [Attestation], its login at the hub, the module that it needs)
    "key": ("symmetric-key", key_alone, signs, None),
    "key-of-group": ("symmetric-key", key_of_group, signs, None),
    "certificate": ("x509", certificate_alone, shows_certificate, None),
    "certificate-of-group": ("x509", certificate_of_group, shows_certificate, None),
    "certificate-with-key-in-token": ("x509", in_token_alone, opens_key, None),
    "certificate-of-group-with-key-in-token": ("x509", in_token_of_group, opens_key, None),
    "certificate-with-key-in-tpm": ("x509", in_tpm_alone, opens_key, None),
    "certificate-of-group-with-key-in-tpm": ("x509", in_tpm_of_group, opens_key, None),
    "tpm": ("tpm", chip, signs, "src/credential/tpm.so"),
}


@pytest.fixture(name="chip")
def software_tpm(tmp_path):
    chip = hardware.Chip(tmp_path).start()
    yield chip
    chip.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", METHODS)
def test_from_nothing_to_a_login_at_the_hub(gateway, emulator, request, name, transport):
    method, enroll, log_in, module = METHODS[name]
    for needed in (module, TRANSPORTS[transport]):
        if needed and not (BUILD / needed).exists():
            pytest.skip(f"built without {needed}")
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = tools.modules(gateway.directory / "modules", BUILD)
    gateway.identity(registration_id=DEVICE, method=method, attestation={"Key": None} | enroll(gateway, emulator, request),
                     provisioning={"Transport": transport, "HttpsPort": emulator.https_port})
    gateway.start()
    properties = gateway.wait_for(State="assigned", Healthy=True)
    assert (properties["AttestationMethod"], properties["Transport"], properties["Attempts"]) == (method, transport, 0)
    assert (properties["AssignedHub"], properties["DeviceId"]) == ("hub-1.example", DEVICE)
    assert log_in(gateway, emulator) == 0
