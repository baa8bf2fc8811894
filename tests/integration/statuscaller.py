#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""statuscaller INTERVAL DPSCTL BUS: runs `dpsctl status` every INTERVAL seconds, until standard input ends.

It is a process of its own, so that its measurements do not include waits for other threads of a test. After each dpsctl it runs
a bare program that asks the bus itself for its id, to show how fast the machine is at that moment. Prints a JSON array of calls,
with the wall and CPU time of both and the error, if any.
"""
import json
import resource
import select
import statistics
import subprocess
import sys
import time

from process import clean_environment, program

PATIENCE = 14  # seconds; shorter than every deadline of the daemon


class StatusCaller:
    """Measures between start() and stop(), and then has the results."""

    def __init__(self, directory, environment, interval=0.5):
        self.environment = clean_environment(directory, **environment)
        self.interval = interval
        self.process, self.calls = None, []

    def start(self):
        bus = self.environment["DBUS_SYSTEM_BUS_ADDRESS"]
        self.process = subprocess.Popen([sys.executable, __file__, str(self.interval), program("dpsctl"), bus],
                                        env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self):
        if self.process and not self.calls:
            self.calls = json.loads(self.process.communicate()[0])

    @property
    def errors(self):
        return [call["error"] for call in self.calls if call["error"]]

    @property
    def slowest(self):
        return max(self.calls, key=lambda call: call["wall"])

    def slowest_ms(self, key):
        return max(call[key] for call in self.calls) * 1e3

    def median_ms(self, key):
        return statistics.median(call[key] for call in self.calls) * 1e3

    def describe(self):
        return (f"dpsctl status: {len(self.calls)} calls, the slowest {self.slowest_ms('wall'):.0f} ms "
                f"({self.slowest['cpu'] * 1e3:.0f} ms of CPU), the median {self.median_ms('wall'):.0f} ms "
                f"({self.median_ms('cpu'):.0f}); beside each a bare call of the bus: "
                f"the slowest {self.slowest_ms('bare'):.0f} ms, the median {self.median_ms('bare'):.0f} ms")


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(*command):
    """Runs a command; returns its result, and its wall and CPU time in seconds."""
    cpu, begin = cpu_of_children(), time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    return done, time.monotonic() - begin, cpu_of_children() - cpu


def error_of(status):
    if status.returncode not in (0, 3):
        return f"exit status {status.returncode}: {status.stderr.decode(errors='replace')}"
    return "" if json.loads(status.stdout)["identities"] else "no identities"


def call(dpsctl, bus):
    try:
        status, wall, cpu = run(dpsctl, "status", "--json=short")
        _, bare, _ = run("dbus-send", f"--bus={bus}", "--dest=org.freedesktop.DBus", "--print-reply=literal",
                         "/org/freedesktop/DBus", "org.freedesktop.DBus.GetId")
        return {"wall": wall, "cpu": cpu, "bare": bare, "error": error_of(status)}
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        return {"wall": PATIENCE, "cpu": 0.0, "bare": 0.0, "error": repr(error)}


def main():
    interval, dpsctl, bus = sys.argv[1:]
    calls = []
    while not select.select([sys.stdin], [], [], float(interval))[0]:
        calls.append(call(dpsctl, bus))
    json.dump(calls, sys.stdout)


if __name__ == "__main__":
    main()
