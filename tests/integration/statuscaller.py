#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""statuscaller DPSCTL BUS: somebody who types `dpsctl status` twice a second, until standard input ends.

It is a process of its own, so that what it measures does not wait for the threads of a test. By turns with dpsctl a bare
program asks the bus itself for its id: that takes as long as the machine lets anybody do anything. Prints a JSON array of
calls: the wall and CPU time of both, and what was wrong.
"""
import json
import resource
import select
import subprocess
import sys
import time

INTERVAL = 0.5
PATIENCE = 14  # less than any deadline of the daemon


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(command):
    """What came of it, and its seconds by the clock and of CPU."""
    cpu, begin = cpu_of_children(), time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    return done, time.monotonic() - begin, cpu_of_children() - cpu


def defect_of(status):
    if status.returncode not in (0, 3):
        return f"exit status {status.returncode}: {status.stderr.decode(errors='replace')}"
    return "" if json.loads(status.stdout)["identities"] else "no identities"


def call(dpsctl, bus):
    try:
        status, wall, cpu = run([dpsctl, "status", "--json=short"])
        _, bare, bare_cpu = run(["dbus-send", f"--bus={bus}", "--dest=org.freedesktop.DBus", "--print-reply=literal",
                                 "/org/freedesktop/DBus", "org.freedesktop.DBus.GetId"])
        return {"wall": wall, "cpu": cpu, "bare": bare, "bare_cpu": bare_cpu, "defect": defect_of(status)}
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        return {"wall": PATIENCE, "cpu": 0.0, "bare": 0.0, "bare_cpu": 0.0, "defect": str(error)}


def main():
    calls = []
    while not select.select([sys.stdin], [], [], INTERVAL)[0]:
        calls.append(call(*sys.argv[1:]))
    json.dump(calls, sys.stdout)


if __name__ == "__main__":
    main()
