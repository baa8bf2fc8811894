# SPDX-License-Identifier: MIT
"""Certain calls of a program: they are counted, and one of them can be held up. calls.c is the other half."""
from process import WORLD, eventually


class Calls:
    """A call is a line such as "open /etc/key" or "getgrnam_r staff"; a part of the line is enough to name it."""

    def __init__(self, directory, *programs):
        self.directory = directory / "calls"
        self.directory.mkdir()
        self.held = self.directory / "held"
        for program in programs:
            program.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_CALLS": self.directory}

    def lines(self, call):
        """The calls so far, also those that have not returned yet."""
        path = self.directory / "list"
        return [line for line in path.read_text().splitlines() if call in line] if path.exists() else []

    def syncs(self, path):
        """Those of this file or directory itself."""
        return [line for line in self.lines("fsync") if line == f"fsync {path}"]

    def wait_for(self, call, n=1):
        return eventually(lambda: len(self.lines(call)) >= n, what=f"{n} × {call!r}")

    def hold(self, call):
        """From now on, this call does not return until release()."""
        new = self.held.with_suffix(".new")
        new.write_text(call)
        new.rename(self.held)

    def release(self):
        self.held.unlink(missing_ok=True)
