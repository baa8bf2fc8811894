# SPDX-License-Identifier: MIT
"""A wrong clock: what is served and what waits, and that everything is done when the clock is right."""
import json
import re
import shutil
import time

import pytest
from jeepney import DBusErrorResponse

from clock import YEAR
from process import DEADLINE, eventually

SEC = 1_000_000
MINUTE = 60
EPOCH = 100  # seconds since 1970, as on a box whose clock has no battery


def assign(gateway, **options):
    gateway.identity(**options)
    gateway.start()
    return gateway.wait_for(State="assigned", Waiting="")


def reboot(gateway, clock, seconds_since_1970):
    """Restarts with an empty run directory, with the record, and at another time."""
    gateway.stop()
    for path in gateway.run.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    clock.set(seconds_since_1970)
    gateway.start()


def remember_failures(gateway, n=8):
    """Writes a record with so many failures that the next wait takes minutes."""
    (gateway.state / "gateway.json").write_text(json.dumps({"version": 1, "attempts": n}))


def expiry(token):
    return int(re.search(r"&se=(\d+)", token).group(1))


# ---- 1970 without a cached assignment ----


def test_dps_is_not_asked_before_the_time_is_known(gateway, emulator, clock):
    clock.set(EPOCH)
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(Waiting="clock")
    assert properties["State"] == "unprovisioned"
    gateway.notify.wait_for_status("time of day")
    assert emulator.requests() == []


def test_a_registration_starts_as_soon_as_the_clock_is_set(gateway, clock):
    clock.set(EPOCH)
    gateway.identity()
    gateway.start()
    planned = gateway.wait_for(Waiting="clock")["NextAttemptAt"]
    clock.shift(0)
    properties = gateway.wait_for(State="assigned", Waiting="")
    assert properties["Healthy"] and properties["Attempts"] == 0
    assert planned > (EPOCH + 4 * MINUTE) * SEC  # and still it did not wait that long
    assert time.time() - MINUTE < properties["AssignedAt"] / SEC < time.time() + 1


def test_dpsd_waits_five_minutes_for_a_clock_that_is_never_set(gateway, emulator, clock):
    clock.set(EPOCH)
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(Waiting="clock")
    assert properties["NextAttemptAt"] - clock.now() <= 5 * MINUTE * SEC
    clock.pass_by(4 * MINUTE)
    assert gateway.properties("gateway")["Waiting"] == "clock"
    clock.pass_by(MINUTE)
    # Now TLS decides: for a box in 1970 the certificate is not valid yet.
    properties = gateway.wait_for(check=lambda p: p["LastErrorStep"] == "tls")
    assert properties["State"] == "provisioning" and properties["NextAttemptAt"] <= clock.now() + 5 * SEC
    assert "1970" in properties["LastError"] or gateway.wait_for_log("clock")
    assert emulator.requests() == []


def test_a_registration_also_starts_when_the_clock_is_set_late(gateway, clock):
    clock.set(EPOCH)
    gateway.identity()
    gateway.start()
    gateway.wait_for(Waiting="clock")
    clock.pass_by(5 * MINUTE)
    gateway.wait_for(LastErrorStep="tls")
    clock.shift(0)
    assert gateway.wait_for(State="assigned")["Healthy"]


# ---- 1970 with a cached assignment ----


def test_a_cached_assignment_is_served_while_the_time_is_not_known(gateway, emulator, clock):
    before = assign(gateway)
    asked = len(emulator.requests())
    reboot(gateway, clock, EPOCH)
    properties = gateway.properties("gateway")
    assert (properties["State"], properties["Waiting"]) == ("assigned", "clock")
    assert properties["AssignedHub"] == before["AssignedHub"] and properties["Generation"] == before["Generation"]
    assert sorted(gateway.files()) == ["connection.json", "hub.env"]
    assert gateway.connection()["hub"] == before["AssignedHub"] and "password" not in gateway.connection()
    with pytest.raises(DBusErrorResponse) as error:
        gateway.call("gateway", "GetToken", "t", 0)
    assert error.value.name == "io.dpsd.dps1.Error.ClockNotTrusted"
    assert len(emulator.requests()) == asked


def test_the_token_is_written_when_the_time_is_known(gateway, emulator, clock):
    before = assign(gateway)
    files, asked = gateway.files(), len(emulator.requests())
    reboot(gateway, clock, EPOCH)
    clock.shift(0)
    after = gateway.wait_for(State="assigned", Waiting="")
    assert after["Generation"] == before["Generation"] and after["TokenExpiresAt"] == before["TokenExpiresAt"]
    assert gateway.files() == files
    assert len(emulator.requests()) == asked


def test_once_waits_for_the_token(gateway, clock):
    assign(gateway)
    gateway.stop()
    (gateway.run / "gateway" / "connection.json").unlink()
    clock.set(EPOCH)
    gateway.spawn("--once", **gateway.environment())
    eventually((gateway.run / "gateway" / "connection.json").exists)
    clock.shift(0)
    assert gateway.process.wait(DEADLINE) == 0
    assert "password" in gateway.connection()
    gateway.process = None


def test_a_restart_keeps_the_files_while_the_time_is_not_known(gateway, clock):
    """Only the daemon restarts, not the machine."""
    assign(gateway)
    files = gateway.files()
    gateway.stop()
    clock.set(EPOCH)
    gateway.start()
    assert gateway.properties("gateway")["Waiting"] == "clock"
    assert gateway.files() == files


def test_a_token_is_not_replaced_by_one_of_1970(gateway, emulator, clock):
    """However long the time is not known: the token of the record is valid, and one made in 1970 would not be."""
    before = assign(gateway)
    files, asked = gateway.files(), len(emulator.requests())
    reboot(gateway, clock, EPOCH)
    clock.pass_by(6 * MINUTE)
    gateway.wait_for(State="assigned", Waiting="")
    eventually(lambda: gateway.files() == files, what="the files of before, with the token")
    clock.shift(0)
    gateway.reload()
    assert gateway.files() == files
    assert gateway.properties("gateway")["Generation"] == before["Generation"]
    assert len(emulator.requests()) == asked


# ---- steps of the clock ----


@pytest.mark.parametrize("hours", [2, -2])
def test_an_answer_from_this_boot_counts_as_such_after_the_clock_is_set(gateway, clock, hours):
    """`dpsctl wait --fresh` compares the time of the answer with that of the boot, which it calculates from the present clock."""
    before = assign(gateway)["LastSuccessAt"]
    clock.shift(hours * 3600)
    after = gateway.wait_for(check=lambda p: p["LastSuccessAt"] != before)["LastSuccessAt"]
    assert abs(after - before - hours * 3600 * SEC) < SEC


@pytest.mark.parametrize("steps", [(2, 0), (-2, 0), (2, -2, 2, 0), (-2, 2, -2, 0)], ids=str)
def test_clock_steps_of_years_lose_no_renewal_and_cause_no_burst(gateway, emulator, clock, steps):
    before = assign(gateway)
    for years in steps:
        clock.shift(years * YEAR)
        gateway.wait_for(check=lambda p: p["State"] == "assigned" and p["NextAttemptAt"] > 0)
    after = gateway.wait_for(State="assigned", Waiting="", Healthy=True,
                             check=lambda p: p["TokenExpiresAt"] <= before["TokenExpiresAt"] + MINUTE * SEC)
    assert len(emulator.requests("register")) <= 1 + sum(years > 0 for years in steps)
    assert time.time() * SEC < after["RenewAt"] < after["TokenExpiresAt"]
    assert after["NextAttemptAt"] == after["RenewAt"] and after["AssignedHub"] == before["AssignedHub"]
    connection = gateway.connection()
    assert expiry(connection["password"]) * SEC == after["TokenExpiresAt"]
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0


def test_a_renewal_missed_because_of_a_wrong_clock_is_made_once(gateway, emulator, clock):
    before = assign(gateway, hub={"TokenLifetime": "2h"})
    clock.shift(-2 * YEAR)
    clock.pass_by(2 * 60 * MINUTE)
    gateway.reload()
    assert gateway.properties("gateway")["State"] == "assigned"
    clock.shift(2 * 60 * MINUTE)
    emulator.stop()
    after = gateway.wait_for(State="assigned", check=lambda p: p["TokenExpiresAt"] > clock.now() and p["Waiting"] != "clock")
    assert after["Generation"] == before["Generation"] + 1 and len(emulator.requests("register")) <= 2


def test_a_clock_step_past_the_renewal_time_starts_the_renewal(gateway, emulator, clock):
    before = assign(gateway)
    step = (before["RenewAt"] - clock.now()) // SEC + 1
    clock.pass_by(MINUTE)  # no renewal comes sooner after an answer of DPS
    clock.shift(MINUTE + step)
    after = gateway.wait_for(Healthy=True, check=lambda p: p["TokenExpiresAt"] > before["TokenExpiresAt"])
    assert len(emulator.requests("register")) == 2 and after["Generation"] == 2


# ---- sleep, simulated; tests/vm has a machine that really sleeps ----


@pytest.mark.parametrize("until", ["RenewAt", "TokenExpiresAt"])
def test_a_renewal_due_during_sleep_is_made_once_right_after_waking(gateway, emulator, clock, until):
    before = assign(gateway)
    clock.suspend((before[until] - clock.now()) // SEC + 1)
    after = gateway.wait_for(Healthy=True, check=lambda p: p["LastSuccessAt"] > before["LastSuccessAt"])
    # 3 if the expired token was first replaced without waiting for DPS.
    assert before["TokenExpiresAt"] < after["TokenExpiresAt"] and after["Generation"] in (2, 3)
    assert len(emulator.requests("register")) == len(emulator.requests("connect")) == 2
    assert after["NextAttemptAt"] == after["RenewAt"] > after["LastSuccessAt"] > before[until]
    assert (after["AssignedAt"], after["StateSince"]) == (before["AssignedAt"], before["StateSince"])


def test_a_token_that_expired_during_sleep_is_replaced_without_dps(gateway, emulator, clock):
    before = assign(gateway)
    emulator.stop()
    clock.suspend((before["TokenExpiresAt"] - clock.now()) // SEC + 1)
    gateway.wait_for(State="assigned", Generation=2, check=lambda p: p["TokenExpiresAt"] > clock.now())
    assert expiry(gateway.connection()["password"]) * SEC > clock.now()


@pytest.mark.parametrize("answer, step", [("202", "poll"), ("429", "register")])
def test_sleep_counts_as_waiting_and_waking_does_not_shorten_a_wait(gateway, emulator, clock, answer, step):
    key = emulator.enroll("gateway")
    emulator.script("gateway", f"register:{answer},retry-after=900")
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0)
    clock.suspend(850)
    gateway.reload()
    planned = gateway.properties("gateway")["NextAttemptAt"]
    assert planned > emulator.requests("register")[0]["time"] + 899 * SEC and len(emulator.requests("connect")) == 1
    clock.suspend((planned - clock.now()) // SEC + 1)
    assert gateway.wait_for(State="assigned")["LastSuccessAt"] > planned
    assert len(emulator.requests(step)) == (1 if step == "poll" else 2) and len(emulator.requests("connect")) == 2


def test_a_request_sent_before_sleep_is_sent_again_after_waking(gateway, emulator, clock):
    """After so long nobody answers the old request."""
    key = emulator.enroll("gateway")
    emulator.script("gateway", "register:silent")
    gateway.identity(key=key)
    gateway.start()
    emulator.wait_for_requests(1, "register")
    clock.suspend(8 * 60 * MINUTE)
    gateway.wait_for(State="assigned")
    assert len(emulator.requests("register")) == len(emulator.requests("connect")) == 2


def test_waking_ends_a_wait_at_most_three_times_an_hour(gateway, emulator, clock):
    """The network may have changed during the sleep, so DPS is asked again, up to three times an hour."""
    key = emulator.enroll("gateway")
    remember_failures(gateway)
    emulator.script("gateway", *["register:503"] * 9)
    gateway.identity(key=key)
    gateway.start()
    gateway.wait_for(LastErrorId="service", check=lambda p: p["NextAttemptAt"] > 0)
    for _ in range(6):
        clock.suspend(3)  # longer than the spread of such attempts
        gateway.wait_for(check=lambda p: p["NextAttemptAt"] > 0)
    emulator.wait_for_requests(2, "register")
    assert len(emulator.requests("register")) <= 1 + 3


# ---- a refusal because of a wrong clock ----


def late(seconds):
    """A refusal from a service whose clock is ahead by so many seconds."""
    there = time.strftime("%Y-%m-%dT%H:%M:%S.0000000Z", time.gmtime(time.time() + seconds))
    body = {"errorCode": 401002, "trackingId": "12", "message": "Unauthorized", "timestampUtc": there}
    return "register:401,body=" + json.dumps(body)


def test_a_refusal_while_the_clock_is_wrong_is_a_clock_error(gateway, emulator, clock):
    key = emulator.enroll("gateway")
    emulator.script("gateway", *[late(2 * 60 * MINUTE)] * 5)
    gateway.identity(key=key)
    gateway.start()
    properties = gateway.wait_for(LastErrorId="clock")
    assert (properties["State"], properties["Waiting"], properties["LastErrorStep"]) == ("provisioning", "clock", "register")
    assert properties["LastErrorCode"] == 401002
    assert properties["LastErrorAt"] < properties["NextAttemptAt"] <= clock.now() + 5 * SEC  # not after an hour, as with a wrong key


def test_a_refusal_while_the_clock_is_right_is_final(gateway, emulator, clock):
    key = emulator.enroll("gateway")
    emulator.script("gateway", *[late(MINUTE)] * 5)
    gateway.identity(key=key)
    gateway.start()
    assert gateway.wait_for(State="failed")["LastErrorId"] == "auth"


def test_setting_the_clock_ends_the_wait_after_a_clock_error(gateway, emulator, clock):
    key = emulator.enroll("gateway")
    remember_failures(gateway)
    emulator.script("gateway", late(2 * 60 * MINUTE))
    gateway.identity(key=key)
    gateway.start()
    planned = gateway.wait_for(LastErrorId="clock", Waiting="clock")["NextAttemptAt"]
    assert planned > clock.now() + 4 * MINUTE * SEC
    clock.shift(MINUTE)
    assert gateway.wait_for(State="assigned")["LastSuccessAt"] < planned


def test_a_synchronised_clock_ends_the_wait_after_a_clock_error(gateway, emulator, clock):
    """The kernel has no event for this; the daemon checks while an identity waits for the clock."""
    key = emulator.enroll("gateway")
    remember_failures(gateway)
    emulator.script("gateway", "register:401,body=")  # without the time of the service
    gateway.identity(key=key)
    gateway.start()
    planned = gateway.wait_for(LastErrorId="clock", Waiting="clock")["NextAttemptAt"]
    clock.synchronize()
    assert gateway.wait_for(State="assigned")["LastSuccessAt"] < planned


# ---- a clock that was ahead ----

AHEAD = 20 * 86400


def assign_ahead(gateway, clock):
    """As on a box whose clock runs ahead by less than all certificates are valid: TLS and tokens pass."""
    clock.shift(AHEAD, told=False)
    before = assign(gateway)
    gateway.call("gateway", "ReportHubConnected", "t", before["Generation"])
    assert before["AssignedAt"] / SEC > time.time() + AHEAD - MINUTE
    wait_for_floor(gateway, time.time() + AHEAD - 2 * MINUTE, time.time() + AHEAD + MINUTE)
    return before


def clock_as_checked(gateway):
    (row,) = [row for row in gateway.dpsctl("check", "--offline", "--json=short").json["checks"] if row["Check"] == "clock"]
    return row


def assert_nothing_is_left_of_the_time_ahead(gateway, clock, emulator, life=30 * 86400):
    now = clock.now()
    after = gateway.wait_for(State="assigned", Waiting="", Healthy=True, check=lambda p: p["TokenExpiresAt"] <= clock.now() + life * SEC)
    times = ("AssignedAt", "StateSince", "LastSuccessAt", "LastErrorAt", "FailingSince", "HubLastSeenAt")
    assert not {key: after[key] for key in times if after[key] > clock.now()}
    assert now < after["NextAttemptAt"] == after["RenewAt"] < after["TokenExpiresAt"]
    history = gateway.call("gateway", "GetHistory")[0]
    assert history and all(at <= clock.now() for at, state, detail in history)
    token, expires = gateway.call("gateway", "GetToken", "t", 0)
    assert expires <= clock.now() + life * SEC
    assert len(emulator.requests("register")) == 1
    connection = gateway.connection()
    assert emulator.hub_connack(connection["clientId"], connection["username"], connection["password"]) == 0
    assert clock_as_checked(gateway)["Result"] == "ok"
    return after


def test_a_clock_that_was_ahead_leaves_nothing_behind_when_it_is_corrected(gateway, emulator, clock):
    before = assign_ahead(gateway, clock)
    clock.synchronize()
    clock.shift(0)
    after = assert_nothing_is_left_of_the_time_ahead(gateway, clock, emulator)
    assert abs(before["LastSuccessAt"] - after["LastSuccessAt"] - AHEAD * SEC) < SEC  # it is as long ago as it was
    eventually(lambda: int(floor_file(gateway).read_text()) / SEC < time.time(), what="the floor to fall")
    eventually(lambda: gateway.remembered()["lastSuccessAt"] == after["LastSuccessAt"], what="the record to be corrected")

    # Without files of the earlier boot, and before the clock is synchronised, nothing waits.
    clock.synchronize(False)
    reboot(gateway, clock, time.time())
    assert gateway.wait_for(State="assigned", Waiting="")["Generation"] == after["Generation"]


@pytest.mark.parametrize("minutes", [0, 6])
def test_a_clock_that_was_ahead_may_be_synchronised_later_than_it_is_set(gateway, emulator, clock, minutes):
    """As chrony does it. Up to five minutes after its start dpsd waits for the clock, and later it does not."""
    assign_ahead(gateway, clock)
    clock.pass_by(minutes * MINUTE)
    gateway.reload()
    clock.shift(minutes * MINUTE)
    gateway.wait_for(check=lambda p: p["LastSuccessAt"] <= clock.now())
    clock.synchronize()
    clock.pass_by(2 * MINUTE)
    gateway.reload()
    assert_nothing_is_left_of_the_time_ahead(gateway, clock, emulator)


def test_what_was_remembered_by_a_clock_that_was_ahead_is_not_of_this_boot(gateway, emulator, clock):
    assign_ahead(gateway, clock)
    clock.synchronize()
    reboot(gateway, clock, time.time())
    after = assert_nothing_is_left_of_the_time_ahead(gateway, clock, emulator)
    assert after["LastSuccessAt"] < clock.booted()  # or `dpsctl wait --fresh` would take it for an answer since then


# ---- the floor: the time below which the clock is wrong ----


def floor_file(gateway):
    return gateway.state / ".clock"


def wait_for_floor(gateway, since, before):
    """Waits until the floor is between these times; the worker writes it."""
    def is_there():
        content = floor_file(gateway).read_text(errors="replace") if floor_file(gateway).exists() else ""
        return content.strip().isdecimal() and since < int(content) / SEC < before

    eventually(is_there, what="the floor")


def test_the_floor_rises_with_an_answer_over_tls(gateway, clock):
    assign(gateway)
    wait_for_floor(gateway, time.time() - 2 * MINUTE, time.time())


def test_the_floor_does_not_rise_with_unconfirmed_time(gateway, emulator, clock):
    emulator.stop()
    clock.shift(2 * YEAR)
    gateway.identity()
    gateway.start()
    gateway.wait_for(LastErrorId="refused")
    gateway.stop()
    assert not floor_file(gateway).exists()


def test_the_floor_is_remembered_over_a_restart(gateway, clock):
    """A clock is wrong also if it is later than the build, but earlier than the last confirmed time."""
    gateway.identity()
    floor_file(gateway).write_text(f"{int((time.time() + 7 * 86400) * SEC)}\n")
    gateway.start()
    assert gateway.wait_for(Waiting="clock")["State"] == "unprovisioned"
    clock.shift(7 * 86400 + MINUTE)
    gateway.wait_for(State="assigned")


def test_a_synchronised_clock_is_right_although_it_is_behind_the_floor(gateway, clock):
    gateway.identity()
    floor_file(gateway).write_text(f"{int((time.time() + 7 * 86400) * SEC)}\n")
    clock.synchronize()
    gateway.start()
    assert gateway.wait_for(State="assigned")["Waiting"] == ""
    assert clock_as_checked(gateway)["Result"] == "ok"


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"-5\n", b"now\n", b"9" * 30, b"4102444800000000\n", b"\xff" * 40],
                         ids=["empty", "zeros", "negative", "word", "huge", "2100", "noise"])
def test_an_impossible_floor_does_not_prevent_a_registration(gateway, clock, content):
    floor_file(gateway).write_bytes(content)
    assert assign(gateway)["Healthy"]
    wait_for_floor(gateway, time.time() - 2 * MINUTE, time.time())
