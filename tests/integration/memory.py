# SPDX-License-Identifier: MIT
"""Makes a program run out of memory when the test wants it. memory.c is the other half."""
import mmap

from process import BUILD

LIBRARY = BUILD / "tests" / "integration" / "test-memory.so"
NEVER = 2**62


class Memory:
    """At first there is enough memory. A Program gets it before its start, by memory.rule(gateway)."""

    def __init__(self, directory, name="memory"):
        self.path = directory / name
        self.path.write_bytes(bytes(mmap.PAGESIZE))
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.words = memoryview(self.memory).cast("q")

    def close(self):
        self.words.release()
        self.memory.close()

    def environment(self, *others):
        """Returns the environment for a program; `others` are libraries to preload as well."""
        return {"LD_PRELOAD": ":".join(map(str, (*others, LIBRARY))), "DPS_TEST_MEMORY": self.path}

    def rule(self, program):
        others = [program.surroundings["LD_PRELOAD"]] if "LD_PRELOAD" in program.surroundings else []
        program.surroundings |= self.environment(*others)
        return self

    def fail(self, first, n_failures=1, own=True):
        """From now on calls that ask for memory are counted from 1. Call number `first` fails, and n_failures calls in all.
        own: only calls by the program, its modules and libc count, not those by other libraries."""
        for place, value in ((0, 0), (1, n_failures), (2, int(own)), (3, 0), (4, 0), (0, first)):
            self.words[place] = value

    def count(self, own=True):
        """From now on calls are counted, and none fails."""
        self.fail(NEVER, own=own)

    def heal(self):
        """No call fails any more. Returns how many have failed."""
        self.words[0] = 0
        return self.words[4]

    @property
    def n_failed(self):
        return self.words[4]

    @property
    def n_calls(self):
        return self.words[3]
