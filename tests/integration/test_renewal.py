# SPDX-License-Identifier: MIT
"""A token is renewed before it expires, whatever DPS says, and the assignment stays all the time."""
import datetime
import re
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from process import DEADLINE, eventually

SEC = 1_000_000
# The token is renewed 2 to 16 seconds after it was made, after a time that is the same each time for one device.
SHORT = {"TokenLifetime": "30s", "RenewBefore": "28s"}
LIFETIME = 30 + DEADLINE


def expiry(token):
    return int(re.search(r"&se=(\d+)", token).group(1))


class Sampler(threading.Thread):
    """Reads the token again and again, as programs do; collects the tokens that were expired or missing."""

    def __init__(self, gateway, name="gateway"):
        super().__init__(daemon=True)
        self.path = gateway.run / name / "token"
        self.over = threading.Event()
        self.tokens, self.bad = [], []
        self.start()

    def run(self):
        while not self.over.wait(0.05):
            self.sample()

    def sample(self):
        token = self.path.read_text()
        if expiry(token) <= time.time():
            self.bad.append((time.time(), token))
        if not self.tokens or self.tokens[-1] != token:
            self.tokens.append(token)

    def stop(self):
        self.over.set()
        self.join()
        self.sample()
        return self.tokens


def start(gateway, **hub):
    gateway.identity(hub=SHORT | hub)
    gateway.start()
    return gateway.wait_for(State="assigned")


def test_a_token_is_renewed_by_dps_before_it_expires(gateway, emulator):
    before = start(gateway)
    sampler = Sampler(gateway)
    after = gateway.wait_for(Generation=2, timeout=LIFETIME)
    tokens = sampler.stop()

    assert after["LastSuccessAt"] < before["TokenExpiresAt"] < after["TokenExpiresAt"]
    assert len(tokens) == 2 and expiry(tokens[1]) * SEC == after["TokenExpiresAt"] and not sampler.bad
    assert len(emulator.requests("register")) == 2
    # The assignment was there all the time.
    assert after["AssignedAt"] == before["AssignedAt"] and after["StateSince"] == before["StateSince"]
    assert [t["state"] for t in gateway.remembered()["transitions"]] == ["provisioning", "assigned", "renewed"]


def test_a_renewal_happens_when_it_was_planned(gateway, emulator):
    before = start(gateway)
    assert before["NextAttemptAt"] == before["RenewAt"]
    gateway.wait_for(Generation=2, timeout=LIFETIME)
    assert emulator.requests("connect")[1]["time"] >= before["RenewAt"]


def test_a_token_is_made_in_time_while_dps_is_down(gateway, emulator):
    before = start(gateway)
    emulator.stop()
    sampler = Sampler(gateway)
    after = gateway.wait_for(Generation=2, timeout=LIFETIME)
    tokens = sampler.stop()
    assert not sampler.bad and len(tokens) == 2
    assert before["TokenExpiresAt"] < after["TokenExpiresAt"]
    assert (after["State"], after["Healthy"], after["LastErrorId"]) == ("assigned", False, "refused")
    assert after["LastSuccessAt"] == before["LastSuccessAt"]


def test_the_hub_accepts_a_token_that_was_made_without_dps(gateway, emulator):
    start(gateway)
    emulator.script("gateway", *["register:503"] * 10)
    gateway.wait_for(Generation=2, LastErrorId="service", timeout=LIFETIME)
    connection = gateway.connection()
    assert connection["generation"] == 2
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0


def test_renew_token_does_not_ask_dps(gateway, emulator):
    before = start(gateway, Renew="token")
    assert before["NextAttemptAt"] == 0
    asked = len(emulator.requests())
    sampler = Sampler(gateway)
    after = gateway.wait_for(Generation=2, timeout=LIFETIME)
    sampler.stop()
    assert before["TokenExpiresAt"] < after["TokenExpiresAt"] and after["Healthy"] and not sampler.bad
    assert len(emulator.requests()) == asked


def test_the_token_is_never_expired_during_many_renewals(gateway, emulator):
    start(gateway, Renew="token", RenewBefore="29s")
    sampler = Sampler(gateway)
    gateway.wait_for(timeout=2 * LIFETIME, check=lambda p: p["Generation"] >= 4)
    tokens = sampler.stop()
    assert len(tokens) >= 3 and not sampler.bad
    assert sorted(tokens, key=expiry) == tokens


def test_a_failing_renewal_continues_after_a_changed_configuration(gateway, emulator):
    start(gateway)
    emulator.script("gateway", *["register:503"] * 100)
    after = gateway.wait_for(Generation=2, LastErrorId="service", timeout=LIFETIME)
    asked = len(emulator.requests("register"))
    gateway.identity(key=(gateway.credentials / "gateway.key").read_text().strip(), hub=SHORT, provisioning={"Splay": "1s"})
    gateway.reload()
    assert emulator.wait_for_requests(asked + 1, "register")[asked]["time"] < after["RenewAt"]


def test_a_refused_renewal_is_not_tried_more_often_before_the_token_expires(gateway, emulator):
    start(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    gateway.wait_for(Generation=2, timeout=LIFETIME)
    properties = gateway.properties("gateway")
    assert properties["State"] == "assigned" and properties["LastErrorId"] == "enrollment-disabled"
    assert len(emulator.requests("register")) == 2
    assert properties["NextAttemptAt"] - properties["LastErrorAt"] > 47 * SEC  # after a minute, as after any first refusal


def test_a_token_that_expired_while_the_daemon_was_down_is_replaced_at_start(gateway, emulator):
    before = start(gateway)
    gateway.stop()
    emulator.stop()
    eventually(lambda: time.time() * SEC > before["TokenExpiresAt"], LIFETIME, "the expiry")
    gateway.start()
    connection = gateway.connection()
    assert expiry(connection["password"]) > time.time() and connection["generation"] == 2
    assert gateway.wait_for(State="assigned")["Generation"] == 2


# ---- certificates ----


def issue(emulator, days):
    """A certificate from the test device CA that is valid for so many days from now, and its key."""
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    path, key_path = emulator.certificate("gateway")
    old = x509.load_pem_x509_certificate(path.read_bytes())
    ca_key = serialization.load_pem_private_key((emulator.state / "device-ca.key").read_bytes(), None)
    now = datetime.datetime.utcnow()
    builder = x509.CertificateBuilder(issuer_name=old.issuer, subject_name=old.subject, public_key=old.public_key(),
                                      serial_number=x509.random_serial_number(), not_valid_before=now - datetime.timedelta(days=90),
                                      not_valid_after=now + datetime.timedelta(days=days))
    chain = path.read_bytes().split(b"-----END CERTIFICATE-----\n", 1)[1]
    path.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + chain)
    key_path.chmod(0o400)
    return {"Certificate": path, "PrivateKey": key_path}


def test_a_certificate_that_expires_soon_causes_a_warning(gateway, emulator):
    gateway.identity(method="x509", attestation=issue(emulator, days=10))
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert abs(properties["CertificateExpiresAt"] / SEC - time.time() - 10 * 86400) < 3600
    line = gateway.wait_for_log("certificate expires in")
    assert line.startswith("<4>") and "replace it" in line
    assert properties["RenewAt"] == 0 and properties["NextAttemptAt"] == 0


def test_a_certificate_that_is_valid_for_long_causes_no_warning(gateway, emulator):
    gateway.identity(method="x509", attestation=issue(emulator, days=60))
    gateway.start()
    gateway.wait_for(State="assigned")
    gateway.restart()
    gateway.wait_for(State="assigned")
    assert "expires" not in gateway.whole_log()


# ---- lifetimes ----


def test_a_warning_tells_how_many_registrations_a_short_lifetime_costs(gateway):
    gateway.identity(hub={"TokenLifetime": "30s"})
    gateway.start()
    line = gateway.wait_for_log("TokenLifetime=30s")
    assert "gateway.conf:" in line and "registrations" in line and "a day" in line
    gateway.wait_for(State="assigned")


@pytest.mark.parametrize("lifetime", ["29s", "0"])
def test_a_lifetime_that_is_too_short_is_a_fault(gateway, lifetime):
    gateway.identity(hub={"TokenLifetime": lifetime})
    gateway.start()
    properties = gateway.wait_for(State="failed", Waiting="config")
    assert "TokenLifetime" in properties["LastError"]
