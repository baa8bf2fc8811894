# SPDX-License-Identifier: MIT
"""The machine that the tests run on: it can sleep, and its clock can be set. So it must be one that nobody else uses."""
import pathlib
import time

import pytest

if "dps.tests" not in pathlib.Path("/proc/cmdline").read_text(encoding="ascii"):
    pytest.skip("sets the clock of its machine, and sends it to sleep: see tests/vm/boot", allow_module_level=True)

SEC = 1_000_000
DAY = 86400
YEAR = 365 * DAY
ALARM = pathlib.Path("/sys/class/rtc/rtc0/wakealarm")  # in the time of a clock that no test sets
POWER = pathlib.Path("/sys/power/state")


def boottime():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def asleep():
    """Seconds slept since boot."""
    return boottime() - time.monotonic()


def suspend(seconds):
    """To memory, as a laptop whose lid is closed; at least so long, falling asleep included."""
    begin, slept = boottime(), asleep()
    ALARM.write_text("0\n", encoding="ascii")
    ALARM.write_text(f"+{int(seconds) + 3}\n", encoding="ascii")  # it counts in whole seconds, and so is sleep counted
    POWER.write_text("mem\n", encoding="ascii")
    assert boottime() - begin >= seconds and asleep() - slept > 1, "the machine has not slept"


def suspend_until(usec):
    """Of the time of day."""
    suspend(usec / SEC - time.time())


class Clock:
    """The time of day, right at first."""

    def __init__(self):
        self.right = time.time() - boottime()

    def set(self, seconds_since_1970):
        time.clock_settime(time.CLOCK_REALTIME, seconds_since_1970)

    def shift(self, seconds):
        """To so much before or behind the right time."""
        self.set(self.right + boottime() + seconds)


@pytest.fixture
def clock():
    clock = Clock()
    yield clock
    clock.shift(0)
