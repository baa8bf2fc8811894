# SPDX-License-Identifier: MIT
"""A clock that a program takes for the machine's, and that the test sets: clock.c is the other half."""
import mmap
import os
import time

from process import WORLD

SEC = 1_000_000_000
YEAR = 365 * 86400


class Clock:
    """Right, and synchronised by nobody, until it is changed. Give it to a Program before its start: clock.rule(gateway)."""

    def __init__(self, directory, name="clock"):
        self.path = directory / name
        self.path.write_bytes(bytes(mmap.PAGESIZE))
        self.jump = self.path.with_name(f"{name}.jump")
        os.mkfifo(self.jump)
        self.fifo = os.open(self.jump, os.O_RDWR | os.O_NONBLOCK)  # does not wait for somebody to listen
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
        # Each is one aligned word, so that a reader sees it whole.
        for place, value in enumerate((self.realtime, self.boottime, int(self.is_synchronized))):
            self.words[place] = value

    def now(self):
        """Microseconds, as the program sees it."""
        return (time.time_ns() + self.realtime) // 1000

    def shift(self, seconds, told=True):
        """Sets it to so much before or behind the right time; told: as by the kernel, at once."""
        self.realtime = int(seconds * SEC)
        self.write()
        if told:
            os.write(self.fifo, b"j")

    def set(self, seconds_since_1970, told=True):
        self.shift(seconds_since_1970 - time.time(), told)

    def pass_by(self, seconds):
        """So much time goes by. The program notices when it wakes up next: ask it something."""
        self.realtime += seconds * SEC
        self.boottime += seconds * SEC
        self.write()

    def suspend(self, seconds):
        """The machine sleeps so long. On waking the kernel tells what it tells of a clock that was set."""
        self.pass_by(seconds)
        os.write(self.fifo, b"j")

    def synchronize(self, on=True):
        """As the kernel sees it."""
        self.is_synchronized = on
        self.write()
