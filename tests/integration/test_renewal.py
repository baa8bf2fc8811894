# SPDX-License-Identifier: MIT
"""A token is renewed before it expires, whatever DPS says, and the assignment stays all the time."""
import datetime
import math
import re
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

SEC = 1_000_000
# The token is renewed 60 to 120 seconds after it was made, after a time that is the same each time for one device. If DPS has
# not answered by then, it is made anew without DPS after 150 seconds.
SHORT = {"TokenLifetime": "3min", "RenewBefore": "2min"}
MADE_WITHOUT_DPS = 30  # seconds before it expires


def expiry(token):
    return int(re.search(r"&se=(\d+)", token).group(1))


class Sampler(threading.Thread):
    """Reads the token again and again, as programs do; collects the tokens that were expired or missing."""

    def __init__(self, gateway, clock):
        super().__init__(daemon=True)
        self.path, self.clock = gateway.run / "gateway" / "token", clock
        self.over, self.lock = threading.Event(), threading.Lock()
        self.tokens, self.bad = [], []
        self.sample()
        self.start()

    def run(self):
        while not self.over.wait(0.02):
            self.sample()

    def sample(self):
        with self.lock:
            now = self.clock.now()  # the time may jump at any moment
            token = self.path.read_text()
            if expiry(token) * SEC <= now:
                self.bad.append((now, token))
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


def pass_to(gateway, clock, usec):
    """Lets the time pass until then; the daemon is woken by a call."""
    clock.pass_by(max(0, math.ceil((usec - clock.now()) / SEC)))
    gateway.properties("gateway")


def miss_the_renewal(gateway, clock, before):
    """DPS gives no assignment when the renewal is due, and not until a new token is needed."""
    pass_to(gateway, clock, before["RenewAt"])
    gateway.wait_for(check=lambda p: p["LastErrorId"] != "")
    pass_to(gateway, clock, before["TokenExpiresAt"] - MADE_WITHOUT_DPS * SEC)
    return gateway.wait_for(Generation=2)


def test_a_token_is_renewed_by_dps_before_it_expires(gateway, emulator, clock):
    before = start(gateway)
    assert before["NextAttemptAt"] == before["RenewAt"]
    sampler = Sampler(gateway, clock)
    pass_to(gateway, clock, before["RenewAt"] - 10 * SEC)
    assert gateway.properties("gateway")["RenewAt"] == before["RenewAt"]
    assert len(emulator.requests("register")) == 1
    pass_to(gateway, clock, before["RenewAt"])
    after = gateway.wait_for(Generation=2)
    tokens = sampler.stop()

    assert before["RenewAt"] <= after["LastSuccessAt"] < before["TokenExpiresAt"] < after["TokenExpiresAt"]
    assert len(tokens) == 2 and expiry(tokens[1]) * SEC == after["TokenExpiresAt"] and not sampler.bad
    assert len(emulator.requests("register")) == 2
    # The assignment was there all the time.
    assert after["AssignedAt"] == before["AssignedAt"] and after["StateSince"] == before["StateSince"]
    assert [t["state"] for t in gateway.remembered()["transitions"]] == ["provisioning", "assigned", "renewed"]


def test_a_token_is_made_in_time_while_dps_is_down(gateway, emulator, clock):
    before = start(gateway)
    emulator.stop()
    sampler = Sampler(gateway, clock)
    after = miss_the_renewal(gateway, clock, before)
    tokens = sampler.stop()
    assert not sampler.bad and len(tokens) == 2
    assert before["TokenExpiresAt"] < after["TokenExpiresAt"]
    assert (after["State"], after["Healthy"], after["LastErrorId"]) == ("assigned", False, "refused")
    assert after["LastSuccessAt"] == before["LastSuccessAt"]


def test_the_hub_accepts_a_token_that_was_made_without_dps(gateway, emulator, clock):
    before = start(gateway)
    emulator.script("gateway", *["register:503"] * 10)
    miss_the_renewal(gateway, clock, before)
    connection = gateway.connection()
    assert connection["generation"] == 2
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0


def test_renew_token_does_not_ask_dps(gateway, emulator, clock):
    before = start(gateway, Renew="token")
    assert before["NextAttemptAt"] == 0
    asked = len(emulator.requests())
    sampler = Sampler(gateway, clock)
    pass_to(gateway, clock, before["RenewAt"])
    after = gateway.wait_for(Generation=2)
    sampler.stop()
    assert before["TokenExpiresAt"] < after["TokenExpiresAt"] and after["Healthy"] and not sampler.bad
    assert len(emulator.requests()) == asked


def test_the_token_is_never_expired_during_many_renewals(gateway, clock):
    now = start(gateway, Renew="token", RenewBefore="179s")
    sampler = Sampler(gateway, clock)
    for generation in range(2, 6):
        pass_to(gateway, clock, now["RenewAt"])
        now = gateway.wait_for(Generation=generation)
        sampler.sample()
    tokens = sampler.stop()
    assert len(tokens) == 5 and not sampler.bad
    assert sorted(tokens, key=expiry) == tokens


@pytest.mark.parametrize("hub, interval", [
    ({"TokenLifetime": "30s", "RenewBefore": "99%"}, 14),
    ({"TokenLifetime": "30s", "RenewBefore": "29999ms", "Renew": "token"}, 14),
    ({"TokenLifetime": "1h", "RenewBefore": "3599s"}, 60)])
def test_however_early_a_renewal_is_wanted_there_is_time_between_two(gateway, emulator, clock, hub, interval):
    now = start(gateway, **hub)
    for _ in range(3):
        due = max(now["RenewAt"], now["NextAttemptAt"])
        assert now["RenewAt"] >= now["LastSuccessAt"] + interval * SEC and due > clock.now()
        pass_to(gateway, clock, due + SEC)
        now = gateway.wait_for(check=lambda p: max(p["RenewAt"], p["NextAttemptAt"]) > clock.now())
    assert len(emulator.requests("register")) <= 1 + clock.boottime / 1e9 / 60 + 1


def test_a_failing_renewal_continues_after_a_changed_configuration(gateway, emulator, clock):
    before = start(gateway)
    emulator.script("gateway", *["register:503"] * 100)
    after = miss_the_renewal(gateway, clock, before)
    asked = len(emulator.requests("register"))
    gateway.identity(key=(gateway.credentials / "gateway.key").read_text().strip(), hub=SHORT, provisioning={"Splay": "1s"})
    gateway.reload()
    emulator.wait_for_requests(asked + 1, "register")
    assert clock.now() < after["RenewAt"]


def test_a_refused_renewal_is_not_tried_more_often_before_the_token_expires(gateway, emulator, clock):
    before = start(gateway)
    emulator.set("gateway", provisioningStatus="disabled")
    pass_to(gateway, clock, before["RenewAt"])
    properties = gateway.wait_for(LastErrorId="enrollment-disabled")
    assert properties["State"] == "assigned"
    assert properties["NextAttemptAt"] - properties["LastErrorAt"] > 47 * SEC  # after a minute, as after any first refusal
    assert len(emulator.requests("register")) == 2


def test_a_token_that_expired_while_the_daemon_was_down_is_replaced_at_start(gateway, emulator, clock):
    before = start(gateway)
    gateway.stop()
    emulator.stop()
    clock.pass_by(math.ceil((before["TokenExpiresAt"] - clock.now()) / SEC) + 1)
    gateway.start()
    connection = gateway.connection()
    assert expiry(connection["password"]) * SEC > clock.now() and connection["generation"] == 2
    assert gateway.wait_for(State="assigned")["Generation"] == 2


# ---- certificates ----


def issue(emulator, days):
    """A certificate from the test device CA that is valid for so many days from now, and its key."""
    emulator.add({"enrollmentGroups": [{"enrollmentGroupId": "factory", "attestation": {
        "type": "x509", "x509": {"signingCertificates": {"primary": "device-ca"}}}}]})
    path, key_path = emulator.certificate("gateway")
    old = x509.load_pem_x509_certificate(path.read_bytes())
    ca_key = serialization.load_pem_private_key((emulator.state / "device-ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
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
