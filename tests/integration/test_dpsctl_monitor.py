# SPDX-License-Identifier: MIT
"""dpsctl monitor: follows changes."""
import json
import time

import pytest

from fakedpsd import identity
from process import DEADLINE

HOUR = 3600 * 1000000
LATER, IN_DAYS = 25 * HOUR // 2, 300 * HOUR + HOUR // 2  # are shown as 12 h and 12 days, also a while later


def now():
    return time.time_ns() // 1000


@pytest.fixture
def monitor(dpsctl, bus):
    """monitor(options): a running monitor, which ends with the bus."""
    processes = []

    def start(*options):
        processes.append(dpsctl.start("monitor", *options))
        return processes[-1]

    yield start
    bus.stop()
    for process in processes:
        process.communicate(timeout=DEADLINE)


def lines_of(process, n):
    """The next lines, without the time."""
    return [process.stdout.readline().rstrip("\n").split(" UTC ", 1)[-1] for _ in range(n)]


def test_json_has_an_object_for_each_event(monitor, serve):
    fake = serve(identity("gw", "provisioning"))
    process = monitor("--json=short")
    first = json.loads(process.stdout.readline())
    assert (first["version"], first["Event"], first["Name"]) == (1, "present", "gw")
    assert first["Changed"] == fake.identities["gw"]
    fake.change("gw", State="assigned", AssignedHub="hub")
    assert json.loads(process.stdout.readline())["Changed"] == {"State": "assigned", "AssignedHub": "hub"}
    fake.add(identity("north"))
    assert json.loads(process.stdout.readline())["Name"] == "north"
    fake.remove("north")
    assert json.loads(process.stdout.readline())["Event"] == "removed"
    fake.stop()
    assert json.loads(process.stdout.readline())["Event"] == "gone"
    serve(identity("gw"))
    assert json.loads(process.stdout.readline())["Event"] == "present"


def test_a_property_that_has_not_changed_is_not_an_event(monitor, serve):
    fake = serve(identity("gw"))
    process = monitor("--json=short")
    process.stdout.readline()
    fake.change("gw", State="assigned")
    fake.change("gw", Healthy=False)
    assert json.loads(process.stdout.readline())["Changed"] == {"Healthy": False}


def test_monitor_prints_the_life_of_an_identity(monitor, serve):
    fake = serve(identity("gw", "provisioning"))
    process = monitor()
    assert lines_of(process, 2) == ["gw: provisioning", "gw: next: asking DPS now"]
    fake.change("gw", Waiting="retry", LastError="DPS has trouble", LastErrorId="service", LastErrorStep="poll",
                NextAttemptAt=now() + LATER, Attempts=1)
    assert lines_of(process, 2) == ["gw: DPS has trouble (service, at poll)", "gw: next: asks DPS again in 12 h"]
    fake.change("gw", State="assigned", Waiting="", LastError="", LastErrorId="", LastErrorStep="", AssignedHub="hub-1",
                DeviceId="dev", Generation=1, RenewAt=now() + LATER, LastSuccessAt=now(), Attempts=0, NextAttemptAt=0)
    assert lines_of(process, 4) == ["gw: provisioning → assigned", "gw: to hub-1 as dev (generation 1)", "gw: no error any more",
                                    "gw: next: renews in 12 h"]
    fake.change("gw", AssignedHub="hub-2", Generation=2, LastSuccessAt=now())
    assert lines_of(process, 1) == ["gw: moved from hub-1 to hub-2 as dev (generation 2)"]
    fake.change("gw", LastSuccessAt=now() + 1)
    assert lines_of(process, 1) == ["gw: DPS has confirmed hub-2"]
    fake.remove("gw")
    assert lines_of(process, 1) == ["gw: not configured any more"]
    fake.stop()
    assert lines_of(process, 1) == ["dpsd: not running, waiting for it"]
    serve()
    assert lines_of(process, 1) == ["dpsd: running, no identity is configured"]


def test_control_characters_are_not_printed(monitor, serve):
    fake = serve(identity("gw"))
    process = monitor()
    lines_of(process, 3)
    fake.change("gw", LastError="\033[2Jevil", LastErrorId="service")
    assert lines_of(process, 1) == ["gw: ?[2Jevil (service)"]


def test_the_same_next_step_is_not_printed_twice(monitor, serve):
    fake = serve(identity("gw", RenewAt=now() + IN_DAYS, NextAttemptAt=now() + IN_DAYS))
    process = monitor()
    assert lines_of(process, 3)[-1] == "gw: next: renews in 12 days"
    fake.change("gw", NextAttemptAt=0)
    fake.change("gw", NextAttemptAt=now() + IN_DAYS)
    fake.remove("gw")
    assert lines_of(process, 1) == ["gw: not configured any more"]


@pytest.mark.parametrize("options", [(), ("--json=short",)])
def test_redacted_events_show_no_private_value(monitor, serve, options):
    fake = serve(identity("reg-7", RegistrationId="reg-7", DeviceId="reg-7", AssignedHub="old.azure-devices.net"))
    process = monitor("--redact", *options)
    shown = process.stdout.readline()
    fake.change("reg-7", AssignedHub="new.azure-devices.net", Generation=2, LastError="reg-7 is not known")
    fake.remove("reg-7")
    while "not configured any more" not in shown and "removed" not in shown:
        shown += process.stdout.readline()
    assert "id-1" in shown and "hub-2" in shown
    assert not [secret for secret in ("reg-7", "old.azure", "new.azure", "0ne00AABBCC") if secret in shown]


def test_monitor_is_6_if_the_bus_goes_away(dpsctl, bus, serve):
    serve(identity("gw"))
    process = dpsctl.start("monitor")
    process.stdout.readline()
    bus.stop()
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 6 and "the connection to the bus is lost" in err


def test_what_an_attempt_waits_for_is_shown_while_it_lasts(monitor, serve):
    """No signal tells of AttemptStep."""
    fake = serve(identity("gw", "provisioning", AttemptSince=now(), AttemptStep="connecting"))
    process = monitor()
    assert "connects" in lines_of(process, 2)[1]
    fake.identities["gw"]["AttemptStep"] = "registering"
    assert "waits for the answer to register" in lines_of(process, 1)[0]
    fake.identities["gw"]["AttemptStep"] = "pausing"
    assert "waits as long as DPS said, and then polls" in lines_of(process, 1)[0]
    fake.change("gw", State="assigned", AttemptSince=0, AttemptStep="", AssignedHub="hub", RenewAt=now() + HOUR)
    assert "assigned" in lines_of(process, 1)[0]
    n = fake.calls.count("GetAll")
    assert n >= 2
    fake.change("gw", Substatus="initialAssignment", RenewAt=now() + 3 * HOUR)
    assert "renews" in "".join(lines_of(process, 2))
    assert fake.calls.count("GetAll") <= n + 1  # it looks no more
