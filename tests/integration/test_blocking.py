# SPDX-License-Identifier: MIT
"""Calls of the system that do not return: nothing but what needs their result waits for them."""
import grp
import os
import signal
import time

import pytest

from calls import Calls
from namespace import mounted, needs_root
from process import DEADLINE, eventually

ANSWER_SEC = 1  # how long an operator waits for an answer at most

OWN_GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def calls(tmp_path, gateway):
    calls = Calls(tmp_path, gateway)
    yield calls
    calls.release()


def state_of(gateway, name):
    """As `dpsctl status` shows it, which must come at once. On a busy machine some answers are slow; from a loop that waits, all are."""
    for _ in range(20):
        begin = time.monotonic()
        status = gateway.dpsctl("status", "--json=short")
        took = time.monotonic() - begin
        if took < ANSWER_SEC:
            break
    assert took < ANSWER_SEC, status
    return next(identity["State"] for identity in status.json["identities"] if identity["Name"] == name)


def assert_others_are_provisioned(gateway):
    """`neighbour` is provisioned from nothing, and `cached` goes on being served."""
    gateway.identity("neighbour")
    gateway.reload()
    gateway.wait_for("neighbour", State="assigned")
    assert gateway.connection("neighbour")["deviceId"] == "neighbour"
    assert gateway.properties("cached")["State"] == "assigned"
    assert gateway.connection("cached")["deviceId"] == "cached"


def provision_cached(gateway):
    gateway.identity("cached")
    gateway.start()
    gateway.wait_for("cached", State="assigned")
    gateway.stop()


def test_a_hangup_before_the_loop_is_a_reload(gateway, calls):
    calls.hold("epoll_create1")
    gateway.start(wait=False)
    calls.wait_for("epoll_create1")
    gateway.process.send_signal(signal.SIGHUP)
    calls.release()
    gateway.wait_until_ready()
    gateway.wait_for_log("the configuration was read again")


def test_a_group_database_that_does_not_answer_holds_up_only_its_identity(gateway, emulator, calls):
    provision_cached(gateway)
    gateway.identity("gateway", access={"Group": OWN_GROUP})
    call = f"getgrnam_r {OWN_GROUP}"
    calls.hold(call)
    gateway.start(wait=False)
    calls.wait_for(call)
    emulator.wait_for_requests(1, "poll", "gateway")  # DPS does not depend on the group
    assert_others_are_provisioned(gateway)
    assert state_of(gateway, "gateway") == "provisioning"
    assert gateway.files("gateway") == {}
    assert len(calls.lines(call)) == 1  # the reload begins no other

    calls.release()
    gateway.wait_for("gateway", State="assigned")
    assert gateway.connection("gateway")["deviceId"] == "gateway"
    assert len(calls.lines(call)) == 2  # repeated after the reload


def test_a_key_that_cannot_be_read_yet_holds_up_only_its_identity(gateway, emulator, calls):
    provision_cached(gateway)
    gateway.identity("gateway")
    call = f"open {gateway.credentials}/gateway.key"
    calls.hold(call)
    gateway.start()
    calls.wait_for(call)
    assert_others_are_provisioned(gateway)
    assert state_of(gateway, "gateway") == "unprovisioned"
    assert emulator.requests("register", "gateway") == []
    assert len(calls.lines(call)) == 1

    calls.release()
    gateway.wait_for("gateway", State="assigned")


def test_a_configuration_that_cannot_be_read_yet_holds_up_only_its_reload(gateway, calls):
    provision_cached(gateway)
    gateway.start()
    gateway.wait_for("cached", State="assigned")
    call = f"open {gateway.configuration}/cached.conf"
    n = len(calls.lines(call))
    calls.hold(call)
    first = gateway.begin("dpsctl", "reload")
    calls.wait_for(call, n + 1)
    gateway.write_conf("late", "[Provisioning]\n")
    second = gateway.begin("dpsctl", "reload")  # must see what was written before it
    assert state_of(gateway, "cached") == "assigned"
    assert first.poll() is None and second.poll() is None
    calls.release()
    assert first.communicate(timeout=DEADLINE)[0] == "Configuration reloaded: 0 added, 0 changed, 0 retired, 1 unchanged.\n"
    out, errors = second.communicate(timeout=DEADLINE)
    assert second.returncode == 1 and "late.conf" in errors
    assert gateway.properties()["NIdentities"] == 2


def test_a_disk_that_does_not_finish_holds_up_no_answer(gateway, emulator, calls):
    """Others are provisioned too, but their assignments count only when they are durable."""
    provision_cached(gateway)
    gateway.identity("gateway")
    calls.hold(f"fsync {gateway.state}/.#gateway.json")
    gateway.start()
    calls.wait_for(f"fsync {gateway.state}/.#gateway.json")
    gateway.identity("neighbour")
    gateway.reload()
    emulator.wait_for_requests(1, "poll", "neighbour")
    assert [state_of(gateway, name) for name in ("cached", "gateway", "neighbour")] == ["assigned", "provisioning", "provisioning"]
    assert gateway.connection("cached")["deviceId"] == "cached"
    assert gateway.files("gateway") == {}

    calls.release()
    for name in ("gateway", "neighbour"):
        gateway.wait_for(name, State="assigned", Healthy=True)
        assert gateway.remembered(name)["deviceId"] == name


def test_an_identity_is_forgotten_while_others_are_answered(gateway, calls):
    """The caller is answered when its record is gone for good."""
    provision_cached(gateway)
    conf = gateway.identity("gone")
    gateway.start()
    gateway.wait_for("gone", State="assigned", Healthy=True)
    call = f"fsync {gateway.state}\n"
    n = len(calls.syncs(gateway.state))
    conf.unlink()
    gateway.reload()
    eventually(lambda: len(calls.syncs(gateway.state)) == n + 1, what="the record of who has gone")
    calls.hold(call)
    first = gateway.begin("dpsctl", "forget", "gone")
    eventually(lambda: len(calls.syncs(gateway.state)) == n + 2, what="the removal")
    second = gateway.begin("dpsctl", "forget", "gone")
    assert state_of(gateway, "cached") == "assigned"
    assert gateway.connection("cached")["deviceId"] == "cached"
    assert first.poll() is None and second.poll() is None

    calls.release()
    assert first.communicate(timeout=DEADLINE) and first.returncode == 0
    assert second.communicate(timeout=DEADLINE) and second.returncode == 4
    assert not (gateway.state / "gone.json").exists()


def test_a_time_that_cannot_be_written_holds_up_no_answer(gateway, calls):
    """An answer of DPS confirms the time."""
    gateway.identity("gateway")
    call = "open .#.clock"
    calls.hold(call)
    gateway.start()
    calls.wait_for(call)
    assert state_of(gateway, "gateway") in ("provisioning", "assigned")
    assert not (gateway.state / ".clock").exists()
    calls.release()
    gateway.wait_for("gateway", State="assigned", Healthy=True)
    eventually((gateway.state / ".clock").exists, what="the time")


def test_a_reload_of_many_is_cut_into_steps(gateway, calls):
    """The loop has told what is in the first files while the worker reads the last one."""
    names = [f"device-{k:03}" for k in range(200)]

    def write(more):
        for name in names:
            gateway.write_conf(name, f"[Provisioning]\nIdScope=0ne00AABBCC\n{more}[Attestation]\nKey=/nowhere\n")

    def is_told(name):
        return f"{name}.conf:3: " in gateway.log

    write("")
    gateway.start()
    call = f"open {gateway.configuration}/{names[-1]}.conf"
    n = len(calls.lines(call))
    write("Color=blue\n")
    calls.hold(call)
    reload = gateway.begin("dpsctl", "reload")
    calls.wait_for(call, n + 1)
    eventually(lambda: is_told(names[0]), what="the first warning")
    assert state_of(gateway, names[-1]) and not is_told(names[-1])
    calls.release()
    reload.communicate(timeout=DEADLINE)
    eventually(lambda: all(map(is_told, names)), what="all warnings")


# ---- what is asked for while an assignment is being saved ----


def test_an_identity_that_returns_while_the_disk_does_not_finish_holds_up_no_answer(gateway, calls):
    provision_cached(gateway)
    conf = gateway.identity("gateway")
    gateway.start()
    before = gateway.wait_for("gateway", State="assigned", Healthy=True)
    call = f"fsync {gateway.state}/.#gateway.json"
    n = len(calls.lines(call))
    calls.hold(call)
    text = conf.read_text()
    conf.unlink()
    gateway.reload()
    calls.wait_for(call, n + 1)
    conf.write_text(text)
    gateway.reload()
    assert state_of(gateway, "cached") == "assigned"
    after = gateway.wait_for("gateway", State="assigned")
    assert after["Generation"] == before["Generation"]
    eventually(lambda: "connection.json" in gateway.files("gateway"), what="its files")
    assert len(calls.lines(call)) == n + 1, "the disk has not finished"

    calls.release()
    gateway.restart()
    assert gateway.wait_for("gateway", State="assigned", Healthy=True)["Generation"] == before["Generation"]


# ---- a record is read while others are answered ----


READ = "open gateway.json\n"
READ_DEADLINE = 10  # seconds


@pytest.fixture
def returning(gateway, calls):
    """An identity that was retired, and whose file is there again; reading its record, or its note, is held up until
    calls.release(). Returns its properties before."""
    provision_cached(gateway)
    conf = gateway.identity("gateway")
    gateway.start()
    before = gateway.wait_for("gateway", State="assigned", Healthy=True)
    n = len(calls.syncs(gateway.state))
    text = conf.read_text()
    conf.unlink()
    gateway.reload()
    eventually(lambda: len(calls.syncs(gateway.state)) > n, what="the record of who has gone")
    conf.write_text(text)
    calls.hold(READ)
    return before


def begin_to_return(gateway, calls):
    """Returns when the reload has come to the record."""
    n = len(calls.lines(READ.strip()))
    reload = gateway.begin("dpsctl", "reload")
    calls.wait_for(READ.strip(), n + 1)
    return reload


def test_a_record_that_cannot_be_read_yet_holds_up_only_its_identity(gateway, emulator, calls, returning):
    reload = begin_to_return(gateway, calls)
    assert state_of(gateway, "cached") == "assigned"
    assert state_of(gateway, "gateway") == "unprovisioned"
    assert gateway.connection("cached")["deviceId"] == "cached"
    assert "reading its record" in gateway.dpsctl("token", "gateway").err
    reprovision = gateway.begin("dpsctl", "reprovision", "gateway", "--wait")
    gateway.wait_for_log("gateway: a new registration was requested")
    assert reprovision.poll() is None

    calls.release()
    assert "1 added, 0 changed, 0 retired, 1 unchanged" in reload.communicate(timeout=DEADLINE)[0]
    assert reprovision.communicate(timeout=DEADLINE) and reprovision.returncode == 0
    assert gateway.wait_for("gateway", State="assigned", Healthy=True)["Generation"] >= returning["Generation"]
    assert [len(emulator.requests("register", name)) for name in ("cached", "gateway")] == [1, 2]


def test_an_identity_may_go_while_its_record_is_read(gateway, emulator, calls, clock, returning):
    record = (gateway.state / "gateway.json").read_text()
    conf = gateway.configuration / "gateway.conf"
    text = conf.read_text()
    first = begin_to_return(gateway, calls)
    conf.unlink()
    second = gateway.begin("dpsctl", "reload")
    clock.pass_by(READ_DEADLINE)
    for reload in (first, second):
        assert reload.communicate(timeout=DEADLINE) and reload.returncode == 0
    assert gateway.properties()["NIdentities"] == 1
    assert (gateway.state / "gateway.json").read_text() == record
    conf.write_text(text)
    calls.release()
    gateway.reload()
    assert gateway.wait_for("gateway", State="assigned", Healthy=True)["Generation"] == returning["Generation"]
    assert len(emulator.requests("register", "gateway")) == 1


def test_a_record_that_is_not_read_in_time_is_an_error_of_the_disk(gateway, emulator, calls, clock, returning):
    reload = begin_to_return(gateway, calls)
    assert state_of(gateway, "gateway") == "unprovisioned"
    clock.pass_by(READ_DEADLINE)
    gateway.wait_for("gateway", State="unprovisioned", LastErrorId="disk", Waiting="retry")
    assert reload.communicate(timeout=DEADLINE) and reload.returncode == 0
    assert state_of(gateway, "cached") == "assigned"
    calls.release()
    clock.pass_by(2 * READ_DEADLINE)
    assert gateway.wait_for("gateway", State="assigned", Healthy=True)["Generation"] == returning["Generation"]
    gateway.wait_for_log("its record can be read again")
    assert len(emulator.requests("register", "gateway")) == 1


def test_a_record_that_cannot_be_used_is_set_aside_while_others_are_answered(gateway, emulator, calls):
    provision_cached(gateway)
    gateway.start()
    gateway.wait_for("cached", State="assigned", Healthy=True)
    (gateway.state / "gateway.json").write_text("no record")
    gateway.identity("gateway")
    call = "rename gateway.json.corrupt"
    calls.hold(call)
    gateway.begin("dpsctl", "reload")
    calls.wait_for(call)
    assert state_of(gateway, "cached") == "assigned"
    emulator.wait_for_requests(1, "poll", "gateway")
    assert (gateway.state / "gateway.json").read_text() == "no record"

    calls.release()
    gateway.wait_for("gateway", State="assigned", Healthy=True)
    assert (gateway.state / "gateway.json.corrupt").read_text() == "no record"
    assert gateway.remembered("gateway")["deviceId"] == "gateway"
    gateway.wait_for_log("gateway.json cannot be used: it is not JSON; it becomes gateway.json.corrupt")


@pytest.fixture
def saving(gateway, emulator, calls):
    """A gateway whose first assignment is being saved until calls.release()."""
    gateway.identity()
    call = f"fsync {gateway.state}/.#gateway.json"
    calls.hold(call)
    gateway.start()
    calls.wait_for(call)
    return gateway


def start_reprovisioning(gateway, emulator):
    process = gateway.begin("dpsctl", "reprovision", "gateway", "--wait")
    emulator.wait_for_requests(2, "register")
    return process


def test_a_request_during_a_save_ends_with_its_own_registration(saving, emulator, calls):
    emulator.script("gateway", "register:silent")
    process = start_reprovisioning(saving, emulator)
    calls.release()
    saving.wait_for(State="assigned")
    emulator.drop("gateway")
    _, message = process.communicate()
    assert process.returncode != 0 and "connection" in message
    saving.wait_for(State="assigned", Attempts=1)


def test_a_refusal_during_a_save_does_not_make_the_state_failed(saving, emulator, calls):
    emulator.script("gateway", "register:401,code=401002")
    process = start_reprovisioning(saving, emulator)
    saving.wait_for(LastErrorId="auth")
    assert saving.properties("gateway")["State"] == "provisioning"
    assert process.communicate() and process.returncode != 0
    calls.release()
    saving.wait_for(State="assigned")


# ---- a journal that does not read ----


@needs_root
def test_a_journal_that_does_not_read_stops_nothing(gateway, full_journal):
    """What it does not take goes to stderr."""
    gateway.wrapper = mounted(full_journal)
    gateway.identity()
    gateway.start("--log-level=debug")
    gateway.wait_for(State="assigned")
    assert state_of(gateway, "gateway") == "assigned"
    gateway.wait_for_log("is assigned to")
    gateway.stop()


# ---- how often a key is read ----


def test_a_key_is_opened_once_for_a_registration_and_once_for_a_cached_start(gateway, calls):
    """What is opened again has changed, or may have."""
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    key = f"open {gateway.credentials}/gateway.key"
    assert len(calls.lines(key)) == 1

    gateway.restart()
    gateway.wait_for(State="assigned")
    assert gateway.files()["token"]
    assert len(calls.lines(key)) == 2
