# SPDX-License-Identifier: MIT
"""dpsctl enrollment for keys and certificates in files; test_tpm.py has the TPM."""
import hashlib
import ssl


def enrollment(gateway, name="gateway"):
    result = gateway.dpsctl("enrollment", name, "--json=short")
    assert result.code == 0, result.err
    return result.json["enrollments"][0]


def test_a_device_key_is_not_shown_and_the_command_reads_it_from_a_file(gateway):
    gateway.identity(provisioning={"RegistrationId": "GW-%{file:/proc/sys/kernel/ostype}"}, key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==")
    gateway.start()
    row = enrollment(gateway)
    assert row["registrationId"] == "GW-Linux" and row["idScope"] == "0ne00AABBCC" and row["method"] == "symmetric-key"
    assert "--enrollment-id GW-Linux --attestation-type symmetrickey" in row["command"]
    assert "a2V5" not in gateway.dpsctl("enrollment").out + str(row)


def test_a_group_key_leads_to_the_command_for_groups(gateway):
    reference = gateway.write_key("group.key", "a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==")
    gateway.identity(key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==", attestation={"Key": None, "GroupKey": reference})
    gateway.start()
    row = enrollment(gateway)
    assert row["keyOf"] == "group" and row["command"].startswith("az iot dps enrollment-group create ")


def test_a_certificate_is_shown_with_both_thumbprints(gateway, emulator):
    certificate, key = emulator.certificate("gateway")
    gateway.identity(method="x509", attestation={"Certificate": certificate, "PrivateKey": key})
    gateway.start()
    row = enrollment(gateway)
    pem = certificate.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert row["certificates"][0]["sha1"] == hashlib.sha1(der).hexdigest().upper()
    assert row["certificates"][0]["sha256"] == hashlib.sha256(der).hexdigest().upper()
    assert f"--attestation-type x509 --certificate-path {certificate}" in row["command"]
    card = gateway.dpsctl("enrollment").out
    assert row["certificates"][0]["sha1"] in card and "enrollment-group create" in card


def test_a_certificate_from_dps_needs_a_policy(gateway):
    gateway.identity(key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==", issuance={"Request": "yes", "Key": "tpm"})
    gateway.start()
    assert enrollment(gateway)["issuanceKey"] == "tpm"
    assert "link a credential policy to the enrollment" in gateway.dpsctl("enrollment").out


def test_a_key_that_is_missing_is_named(gateway):
    gateway.identity(key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==")
    (gateway.credentials / "gateway.key").unlink()
    gateway.start()
    result = gateway.dpsctl("enrollment")
    assert result.code == 1 and "gateway.key" in result.err


def test_without_an_identity_there_is_nothing_to_enroll(gateway):
    gateway.start()
    assert gateway.dpsctl("enrollment").out == ""
    assert gateway.dpsctl("enrollment", "nobody").code == 4
