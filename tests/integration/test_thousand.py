# SPDX-License-Identifier: MIT
"""A gateway with a thousand devices behind it."""
import base64
import grp
import os

import pytest

from conftest import Emulator
from process import DEADLINE, eventually

pytestmark = pytest.mark.timeout(900)

N = 1000
NAMES = [f"device-{k:04}" for k in range(N)]
PATIENCE = 15 * DEADLINE  # a busy machine needs minutes for a thousand handshakes
DAY = 86400
SEC = 1_000_000


@pytest.fixture
def emulator(tmp_path):
    """An emulator with a quota for all at once, and with all devices enrolled."""
    directory = tmp_path / "emulator"
    directory.mkdir()
    emulator = Emulator(directory)
    emulator.enrollments["quotas"] = {"registrationsPerMinute": 100 * N}
    emulator.keys = {name: emulator.enroll(name) for name in NAMES}
    emulator.start()
    yield emulator
    if emulator.is_running():
        emulator.stop()


@pytest.fixture
def fleet(gateway, emulator):
    """A gateway with all identities configured; it is not started yet."""
    gateway.write_conf("dpsd", f"[Provisioning]\nIdScope=0ne00AABBCC\nEndpoint=127.0.0.1\nMqttPort={emulator.port}\n"
                               f"CaFile={emulator.ca_file}\n[Access]\nGroup={grp.getgrgid(os.getegid()).gr_name}\n")
    for name in NAMES:
        reference = gateway.write_key(f"{name}.key", emulator.keys[name])
        gateway.write_conf(name, f"[Provisioning]\nRegistrationId={name}\n[Attestation]\nKey={reference}\n")
    return gateway


def n_in_flight(requests, registration_ids):
    """The largest number of devices that registered at the same time, from CONNECT until they were told their assignment."""
    n = most = 0
    for request in requests:
        if request.get("registrationId") not in registration_ids:
            continue
        n += request["event"] == "connect"
        n -= request["event"] == "poll" and request.get("result") == "assigned"
        most = max(most, n)
    assert n == 0, "not every one that came was assigned"
    return most


def states_since(gateway):
    return {identity["Name"]: identity["StateSince"]
            for identity in gateway.dpsctl("status", "--json=short").json["identities"]}


def test_a_faulty_a_disabled_and_a_throttled_identity_do_not_disturb_a_thousand(fleet, emulator):
    fleet.identity("disabled")
    emulator.set("disabled", provisioningStatus="disabled")
    fleet.identity("throttled")
    emulator.script("throttled", "poll:429,retry-after=600")
    fleet.write_conf("faulty", "[Provisioning]\nMqttPort=many\n")
    fleet.start()
    fleet.notify.wait_for_status(f"{N} of {N + 3} identities assigned", PATIENCE)

    states = {identity["Name"]: (identity["State"], identity["Waiting"])
              for identity in fleet.dpsctl("status", "--json=short").json["identities"]}
    assert {name: states.pop(name) for name in ("disabled", "faulty", "throttled")} == {
        "disabled": ("failed", "retry"), "faulty": ("failed", "config"), "throttled": ("provisioning", "throttled")}
    assert set(states) == set(NAMES)
    assert set(states.values()) == {("assigned", "")}


def test_a_thousand_registrations_are_never_more_at_once_than_max_attempts(fleet, emulator):
    most = 20
    fleet.write_conf("dpsd.conf.d/limit", f"[Daemon]\nMaxAttempts={most}\n")
    fleet.start()
    fleet.notify.wait_for_status(f"{N} of {N} identities assigned", PATIENCE)

    assert 1 < n_in_flight(emulator.requests(), set(NAMES)) <= most
    assert len(emulator.requests("register")) == N


def test_a_thousand_survive_restart_and_reload_without_asking_dps(fleet, emulator):
    fleet.start()
    fleet.notify.wait_for_status(f"{N} of {N} identities assigned", PATIENCE)
    before = {name: fleet.connection(name) for name in NAMES}
    emulator.stop()

    fleet.restart()
    table = fleet.dpsctl("status")
    assert table.code == 0
    assert {name for line in table.out.splitlines() if "assigned" in line for name in line.split()} >= set(NAMES)
    since = states_since(fleet)

    fleet.write_conf("another", f"[Provisioning]\nRegistrationId=another\n[Attestation]\nKey="
                                f"{fleet.write_key('another.key', base64.b64encode(os.urandom(32)).decode())}\n")
    fleet.reload()
    fleet.wait_for("another", State="provisioning", Waiting="retry")
    assert {name: since_usec for name, since_usec in states_since(fleet).items() if name != "another"} == since
    assert {name: fleet.connection(name) for name in NAMES} == before


def test_a_thousand_renewals_that_are_due_together_are_made_once_each(clock, fleet, emulator):
    """After a long sleep there are never more attempts than MaxAttempts=, and no identity is forgotten."""
    most = 20
    fleet.write_conf("dpsd.conf.d/limit", f"[Daemon]\nMaxAttempts={most}\n")
    fleet.start()
    fleet.notify.wait_for_status(f"{N} of {N} identities assigned", PATIENCE)
    before = {name: fleet.connection(name) for name in NAMES}
    asked = len(emulator.requests())

    clock.suspend(29 * DAY)
    eventually(lambda: all(fleet.connection(name)["expiresAt"] > before[name]["expiresAt"] + 28 * DAY * SEC for name in NAMES), PATIENCE)
    requests = emulator.requests()
    assert len(emulator.requests("register")) == 2 * N
    assert 1 < n_in_flight(requests[asked:], set(NAMES)) <= most
    assert {fleet.connection(name)["generation"] for name in NAMES} == {2}


def test_a_thousand_that_are_throttled_ask_seldom_and_are_assigned_in_the_end(clock, fleet, emulator):
    most, per_minute = 20, 100
    fleet.write_conf("dpsd.conf.d/limit", f"[Daemon]\nMaxAttempts={most}\n")
    emulator.ctl("set", "*", f"quotas.registrationsPerMinute={per_minute}")
    fleet.start()
    fleet.notify.wait_for_status("throttled", PATIENCE)
    eventually(lambda: fleet.properties()["NAssigned"] == per_minute)
    # Those that were in flight come to their end, and those that were given a slot meanwhile learn that they have to wait.
    eventually(lambda: all(identity["State"] == "assigned" or identity["NextAttemptAt"] > clock.now()
                           for identity in fleet.dpsctl("status", "--json=short").json["identities"]), PATIENCE)
    registers = emulator.requests("register")
    refusals = [r for r in registers if r["status"] == 429]
    # Only those that were in flight when the first was refused.
    assert 1 <= len(refusals) <= most and len(registers) == per_minute + len(refusals)

    emulator.ctl("set", "*", f"quotas.registrationsPerMinute={100 * N}")
    assert len(emulator.requests("register")) == len(registers)

    # The number of slots was halved, and grows by one with each success.
    clock.suspend(max(r["retryAfter"] for r in refusals) * 2)
    fleet.notify.wait_for_status(f"{N} of {N} identities assigned", PATIENCE)
    assert len(emulator.requests("register")) == N + len(refusals)
