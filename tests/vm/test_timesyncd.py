# SPDX-License-Identifier: MIT
"""dps-recipes(7): a board without a clock, whose time server is one of the plant. systemd-timesyncd sets the clock of the machine
from a real time server."""
import ctypes
import pathlib
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest

from machine import DAY, boottime, clock
from process import DEADLINE, REPOSITORY, eventually

EPOCH = DAY  # in 1970
NTP_EPOCH = 2208988800  # the seconds from 1900 to 1970
ADJ_STATUS, STA_UNSYNC = 0x10, 0x40
TIMESYNCD = "/usr/lib/systemd/systemd-timesyncd"
CONF = pathlib.Path("/etc/systemd/timesyncd.conf.d/site.conf")


def kernel_status(change=None):
    """The status of adjtimex(2), which is changed first if wanted."""
    timex = bytearray(208)
    struct.pack_into("=I36xi", timex, 0, ADJ_STATUS if change is not None else 0, change or 0)
    assert ctypes.CDLL(None, use_errno=True).adjtimex((ctypes.c_char * len(timex)).from_buffer(timex)) >= 0
    return struct.unpack_from("=i", timex, 40)[0]


class TimeServer:
    """Answers with the right time, however the clock of this machine is set (RFC 5905)."""

    def __init__(self, right):
        self.right = right
        self.n_answers = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 123))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                self.answer(*self.socket.recvfrom(512))
            except OSError:  # closed
                return

    def answer(self, request, address):
        now = int((self.right + boottime() + NTP_EPOCH) * 2**32)
        # Server, version 4, stratum 2; the time of the request is sent back.
        head = struct.pack("!BBbbII4s", 4 << 3 | 4, 2, 6, -20, 0, 0, b"TEST")
        self.socket.sendto(head + struct.pack("!Q8sQQ", now, request[40:48], now, now), address)
        self.n_answers += 1

    def close(self):
        self.socket.close()


@pytest.fixture
def timesyncd(clock):
    """Starts timesyncd as the recipe configures it."""
    hosts = pathlib.Path("/etc/hosts")
    hosts.write_text("127.0.0.1 localhost ntp.plant.example\n", encoding="ascii")
    for table, row in (("passwd", "systemd-timesync:x:99:99::/:/bin/false\n"), ("group", "systemd-timesync:x:99:\n")):
        path = pathlib.Path("/etc") / table
        text = path.read_text(encoding="ascii") if path.exists() else ""
        if row not in text:
            path.write_text(text + row, encoding="ascii")
    CONF.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "data/examples/recipes/timesyncd.conf", CONF)
    for directory in ("/var/lib/systemd/timesync", "/run/systemd/timesync"):  # of its unit
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        shutil.chown(directory, 99, 99)
    processes = []

    def start():
        processes.append(subprocess.Popen([TIMESYNCD], stdin=subprocess.DEVNULL))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(DEADLINE)
    kernel_status(STA_UNSYNC)
    for path in pathlib.Path("/var/lib/systemd/timesync").iterdir():
        path.unlink()


def is_right(clock):
    return abs(time.time() - clock.right - boottime()) < 5


def test_the_recipe_for_a_board_without_a_clock_sets_it_and_the_registration_goes_on(gateway, emulator, clock, timesyncd):
    clock.set(EPOCH)
    gateway.identity()
    gateway.start()
    gateway.wait_for(Waiting="clock")
    assert emulator.requests() == [] and kernel_status() & STA_UNSYNC
    server = TimeServer(clock.right)
    try:
        timesyncd()
        properties = gateway.wait_for(State="assigned", Waiting="", timeout=3 * DEADLINE)
    finally:
        server.close()
    assert is_right(clock) and server.n_answers > 0
    eventually(lambda: not kernel_status() & STA_UNSYNC, DEADLINE, "the kernel's clock is synchronised")
    assert properties["Healthy"] and len(emulator.requests("register")) == 1


def test_without_the_time_server_the_clock_is_as_late_as_the_board_was_off(gateway, emulator, clock, timesyncd):
    saved = pathlib.Path("/var/lib/systemd/timesync/clock")
    saved.touch()
    shutil.chown(saved, 99, 99)
    before = saved.stat().st_mtime
    clock.set(EPOCH)  # the board was off, and has no battery
    timesyncd()
    eventually(lambda: time.time() >= before, DEADLINE, "timesyncd restores the time")
    assert time.time() < before + 3600 and kernel_status() & STA_UNSYNC
    gateway.identity()
    gateway.start()
    assert gateway.wait_for(State="assigned")["Waiting"] == ""
