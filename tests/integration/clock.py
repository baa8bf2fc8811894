# SPDX-License-Identifier: MIT
"""A clock that the test sets, and that a program uses instead of the machine's. clock.c is the other half."""
import mmap
import os
import time

from process import WORLD

SEC = 1_000_000_000
YEAR = 365 * 86400


class Clock:
    """At first the clock is right, but not synchronised. A Program gets it before its start, by clock.rule(gateway)."""

    def __init__(self, directory, name="clock"):
        self.path = directory / name
        self.path.write_bytes(bytes(mmap.PAGESIZE))
        self.jump = self.path.with_name(f"{name}.jump")
        os.mkfifo(self.jump)
        self.fifo = os.open(self.jump, os.O_RDWR | os.O_NONBLOCK)  # does not block until there is a reader
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.words = memoryview(self.memory).cast("q")
        self.realtime = self.boottime = 0  # offsets, in nanoseconds
        self.is_synchronized = False

    def close(self):
        self.words.release()
        self.memory.close()
        os.close(self.fifo)

    def rule(self, *programs):
        for program in programs:
            program.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_CLOCK": self.path}
        return self

    def write(self):
        # Each value is one aligned word, so that a reader never sees half of a change.
        for place, value in enumerate((self.realtime, self.boottime, int(self.is_synchronized))):
            self.words[place] = value

    def now(self):
        """The time that the program sees, in microseconds."""
        return (time.time_ns() + self.realtime) // 1000

    def booted(self):
        """The time of the boot by the time that the program sees, in microseconds."""
        return self.now() - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self.boottime) // 1000

    def shift(self, seconds, told=True):
        """Sets the clock to so many seconds after the right time, or before it if negative. told: wakes the program, as the kernel does."""
        self.realtime = int(seconds * SEC)
        self.write()
        if told:
            os.write(self.fifo, b"j")

    def set(self, seconds_since_1970, told=True):
        self.shift(seconds_since_1970 - time.time(), told)

    def pass_by(self, seconds):
        """Lets so many seconds pass. The program notices when it wakes up next, for example for a call."""
        self.realtime += seconds * SEC
        self.boottime += seconds * SEC
        self.write()

    def suspend(self, seconds):
        """Lets the machine sleep for so many seconds. On waking, the kernel wakes the program as if the clock was set."""
        self.pass_by(seconds)
        os.write(self.fifo, b"j")

    def synchronize(self, on=True):
        """Sets whether the kernel says that the clock is synchronised."""
        self.is_synchronized = on
        self.write()
