# SPDX-License-Identifier: MIT
"""The machine that the tests run on. It really sleeps, and its clock is really set, so nobody else may use it."""
import pathlib
import time

import pytest

if "dps.tests" not in pathlib.Path("/proc/cmdline").read_text(encoding="ascii"):
    pytest.skip("sets the clock of its machine, and sends it to sleep: see tests/vm/boot", allow_module_level=True)

SEC = 1_000_000
DAY = 86400
YEAR = 365 * DAY
ALARM = pathlib.Path("/sys/class/rtc/rtc0/wakealarm")  # by the hardware clock, which no test sets
POWER = pathlib.Path("/sys/power/state")


def boottime():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def asleep():
    """The seconds that the machine has slept since boot."""
    return boottime() - time.monotonic()


def suspend(seconds):
    """Suspends to memory, as when the lid of a laptop is closed, for at least so long; includes the time to fall asleep."""
    begin, slept = boottime(), asleep()
    ALARM.write_text("0\n", encoding="ascii")
    ALARM.write_text(f"+{int(seconds) + 3}\n", encoding="ascii")  # whole seconds, as sleep is counted
    POWER.write_text("mem\n", encoding="ascii")
    assert boottime() - begin >= seconds and asleep() - slept > 1, "the machine has not slept"


def suspend_until(usec):
    """Suspends until a time of day."""
    suspend(usec / SEC - time.time())


class Clock:
    """The time of day; it is right at first."""

    def __init__(self):
        self.right = time.time() - boottime()

    def set(self, seconds_since_1970):
        time.clock_settime(time.CLOCK_REALTIME, seconds_since_1970)

    def shift(self, seconds):
        """Sets the clock to so many seconds after the right time, or before it if negative."""
        self.set(self.right + boottime() + seconds)


@pytest.fixture
def clock():
    clock = Clock()
    yield clock
    clock.shift(0)
