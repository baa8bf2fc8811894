# SPDX-License-Identifier: MIT
"""The machine sleeps and wakes up: everything that was due during the sleep is done at once, and once.

The tests wait less than a timer would be late that stops during sleep.
"""
import json

import pytest

from machine import SEC, suspend, suspend_until

SHORT = {"TokenLifetime": "2min", "RenewBefore": "50s"}  # the token is renewed after 70 to 95 seconds


def assign(gateway, **environment):
    gateway.identity(hub=SHORT)
    gateway.start(**environment)
    return gateway.wait_for(State="assigned", Waiting="")


@pytest.mark.parametrize("until", ["RenewAt", "TokenExpiresAt"])
def test_a_renewal_due_during_sleep_is_made_once_right_after_waking(gateway, emulator, until):
    before = assign(gateway)
    suspend_until(before[until])
    after = gateway.wait_for(Healthy=True, check=lambda p: p["LastSuccessAt"] > before["LastSuccessAt"])
    # 3 if the expired token was first replaced without waiting for DPS.
    assert before["TokenExpiresAt"] < after["TokenExpiresAt"] and after["Generation"] in (2, 3)
    assert len(emulator.requests("register")) == len(emulator.requests("connect")) == 2
    assert after["NextAttemptAt"] == after["RenewAt"] > after["LastSuccessAt"] > before[until]
    assert [after[key] for key in ("AssignedHub", "AssignedAt", "StateSince")] == [
        before[key] for key in ("AssignedHub", "AssignedAt", "StateSince")]
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0


def test_the_watchdog_is_notified_in_time_after_a_sleep(gateway):
    """systemd does not count the time of the sleep."""
    assign(gateway, WATCHDOG_USEC=16 * SEC)
    told = gateway.notify.lines.count("WATCHDOG=1")
    suspend(20)
    gateway.notify.wait_for("WATCHDOG=1", told + 1, timeout=16)


def test_a_wait_that_ended_during_sleep_is_over_on_waking(gateway, emulator):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:202,retry-after=42")
    gateway.identity(key=key)
    gateway.start()
    planned = gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0)["NextAttemptAt"]
    suspend_until(planned)
    assert gateway.wait_for(State="assigned")["LastSuccessAt"] > planned
    register, poll = emulator.requests("register") + emulator.requests("poll")
    assert poll["time"] - register["time"] >= 42 * SEC


def test_waking_shortens_no_wait(gateway, emulator):
    """The time of the sleep counts as waiting; waking itself changes nothing."""
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:429,retry-after=30")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(Waiting="throttled")
    suspend(15)
    gateway.wait_for(State="assigned", timeout=35)
    first, second = emulator.requests("register")
    assert second["time"] - first["time"] >= 30 * SEC


@pytest.mark.parametrize("step", ["register", "poll"])
def test_a_request_sent_before_sleep_is_sent_again_after_waking(gateway, emulator, step):
    """Nobody answers the old request any more."""
    key = emulator.enroll("gateway")
    emulator.script("gateway", *(["register:202,retry-after=0"] if step == "poll" else []), f"{step}:silent")
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, step)
    assert gateway.properties("gateway")["NextAttemptAt"] == 0  # in flight
    suspend(30)
    gateway.wait_for(State="assigned")
    assert len(emulator.requests(step)) == len(emulator.requests("connect")) == 2
    assert len(emulator.requests("register")) == (2 if step == "register" else 1)


def test_waking_ends_a_wait_at_most_three_times_an_hour(gateway, emulator):
    """The network may have changed during the sleep, so DPS is asked again, up to three times an hour."""
    key = emulator.enroll("gateway")
    (gateway.state / "gateway.json").write_text(json.dumps({"version": 1, "attempts": 8}))
    emulator.script("gateway", *["register:503"] * 9)
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0 and p["LastErrorId"] == "service")
    for _ in range(6):
        suspend(2)  # at least as long as the spread of such attempts
        gateway.wait_for(State="provisioning", check=lambda p: p["NextAttemptAt"] > 0)
    assert 1 < len(emulator.requests("register")) <= 1 + 3
