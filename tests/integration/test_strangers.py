# SPDX-License-Identifier: MIT
"""What a local user can do over the bus who has no right to anything."""
import re

import pytest

from fakedpsd import IDENTITY, MANAGER, ROOT, identity, path_of, variants
from gateway import NAME
from process import DEADLINE, eventually
from stranger import BUS, Stranger


@pytest.fixture
def stranger(bus):
    made = Stranger(bus.address)
    yield made
    made.close()


# ---- signals from somebody else ----


EVIL = {"State": "assigned", "AssignedHub": "evil.example", "DeviceId": "evil", "LastSuccessAt": 2**62}
OBJECTS = "org.freedesktop.DBus.ObjectManager"
SPOOFED = [
    (path_of("gw"), "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", IDENTITY, variants(EVIL), []),
    (ROOT, OBJECTS, "InterfacesAdded", "oa{sa{sv}}", path_of("evil"), {IDENTITY: variants(identity("evil"))}),
    (ROOT, OBJECTS, "InterfacesRemoved", "oas", path_of("gw"), [IDENTITY]),
    (ROOT, MANAGER, "IdentityRemoved", "so", "gw", path_of("gw")),
    (path_of("gw"), IDENTITY, "ReprovisionFinished", "tbs", 41, True, ""),
    ("/org/freedesktop/DBus", BUS, "NameOwnerChanged", "sss", NAME, ":1.0", ""),
]


def spoof_all(stranger, victim):
    for signal in SPOOFED:
        stranger.spoof(victim, *signal)


@pytest.mark.parametrize("options", [[], ["--fresh"], ["gw"]])
def test_wait_does_not_believe_a_stranger(dpsctl, serve, stranger, options):
    fake = serve(identity("gw", "provisioning"))
    before = stranger.clients()
    process = dpsctl.start("wait", "--timeout=60", *options)
    victim = stranger.wait_for_newcomer(before)
    eventually(lambda: "GetManagedObjects" in fake.calls, what="that the list is asked for")
    spoof_all(stranger, victim)
    fake.change("gw", State="assigned", AssignedHub="real.example", DeviceId="real", LastSuccessAt=2**62)
    assert process.communicate(timeout=DEADLINE) == ("gw: assigned to real.example as real\n", "")
    assert process.returncode == 0


def test_monitor_shows_nothing_of_a_stranger(dpsctl, serve, stranger):
    fake = serve(identity("gw", "provisioning"))
    before = stranger.clients()
    process = dpsctl.start("monitor", "--json=short")
    victim = stranger.wait_for_newcomer(before)
    assert "present" in process.stdout.readline()
    spoof_all(stranger, victim)
    fake.remove("gw")
    assert "removed" in process.stdout.readline()
    process.kill()
    process.communicate(timeout=DEADLINE)


def test_the_end_of_a_job_is_not_believed_from_a_stranger(dpsctl, serve, stranger):
    fake = serve(identity("gw"))
    before = stranger.clients()
    process = dpsctl.start("reprovision", "--wait", "gw")
    victim = stranger.wait_for_newcomer(before)
    eventually(lambda: "Reprovision" in fake.calls, what="the job")
    spoof_all(stranger, victim)
    fake.finish("gw", 41, False, "the real end")
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, "the real end" in err) == (1, True)


def test_the_daemon_does_not_believe_a_stranger_that_the_name_is_its_own(gateway, stranger):
    other = gateway.client()
    other.own(NAME)
    gateway.identity()
    before = stranger.clients()
    gateway.start("--log-level=debug", wait=False)
    gateway.wait_for_log(f"the name {re.escape(NAME)} is taken")
    victim = stranger.wait_for_newcomer(before)
    stranger.spoof(victim, "/org/freedesktop/DBus", BUS, "NameAcquired", "s", NAME)
    stranger.wait_until_handled(victim)
    other.close()
    gateway.wait_until_ready()
    gateway.wait_for(State="assigned")
    assert gateway.log.count(f"the name {NAME} is ours") == 1
