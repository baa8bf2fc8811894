# SPDX-License-Identifier: MIT
"""The clock is really set, by the system call for it. tests/integration/test_clock.py tests in detail what must happen then."""
import time

import pytest

from hostile import answer, once
from machine import DAY, SEC, YEAR, clock

EPOCH = DAY  # in 1970; the kernel accepts no time that would put its boot before 1970


def assign(gateway, **options):
    gateway.identity(**options)
    gateway.start()
    return gateway.wait_for(State="assigned", Waiting="")


def test_a_clock_of_1970_delays_the_registration_until_it_is_set(gateway, emulator, clock):
    clock.set(EPOCH)
    gateway.identity()
    gateway.start()
    planned = gateway.wait_for(Waiting="clock")["NextAttemptAt"]
    assert planned > (EPOCH + 4 * 60) * SEC and emulator.requests() == []
    clock.shift(0)
    properties = gateway.wait_for(State="assigned", Waiting="")
    assert properties["Healthy"] and len(emulator.requests("register")) == 1


@pytest.mark.parametrize("steps", [(2, 0), (-2, 0), (2, -2, 0)], ids=str)
def test_clock_steps_of_years_lose_no_renewal_and_cause_no_burst(gateway, emulator, clock, steps):
    before = assign(gateway)
    for years in steps:
        clock.shift(years * YEAR)
        gateway.wait_for(check=lambda p: p["State"] == "assigned" and p["NextAttemptAt"] > 0)
    after = gateway.wait_for(State="assigned", Waiting="", Healthy=True)
    assert len(emulator.requests("register")) <= 1 + sum(years > 0 for years in steps)
    assert time.time() * SEC < after["RenewAt"] < after["TokenExpiresAt"] <= before["TokenExpiresAt"] + 60 * SEC
    assert after["NextAttemptAt"] == after["RenewAt"] and after["AssignedHub"] == before["AssignedHub"]
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0


def test_a_clock_step_past_the_renewal_time_starts_the_renewal(gateway, emulator, clock):
    before = assign(gateway)
    clock.set(before["RenewAt"] / SEC + 1)
    gateway.wait_for(Healthy=True, check=lambda p: p["TokenExpiresAt"] > before["TokenExpiresAt"])
    assert len(emulator.requests("register")) == 2


@pytest.mark.parametrize("days", [1, -1])
def test_clock_steps_shorten_no_wait(lone_gateway, make_peer, clock, days):
    peer = make_peer("gateway", {"register": once(answer(429, retry_after=8))})
    lone_gateway.start()
    lone_gateway.wait_for(Waiting="throttled")
    clock.shift(days * DAY)
    lone_gateway.wait_for(check=lambda p: abs(p["NextAttemptAt"] / SEC - time.time()) < 3600)
    clock.shift(0)
    lone_gateway.wait_for(State="assigned")
    again = [event for event in peer.contacts() if event.at > peer.told[0].at]
    assert again[0].at - peer.told[0].at >= 8


@pytest.mark.parametrize("days", [1, -1])
def test_an_attempt_in_flight_survives_a_clock_step(gateway, emulator, clock, days):
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:normal,delay=4")
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")
    clock.shift(days * DAY)
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == len(emulator.requests("connect")) == 1
