# SPDX-License-Identifier: MIT
"""Memory that runs out, when the test wants it to: memory.c is the other half."""
import mmap

from process import BUILD

LIBRARY = BUILD / "tests" / "integration" / "test-memory.so"
NEVER = 2**62


class Memory:
    """There is enough, until it is told otherwise. Give it to a Program before its start: memory.rule(gateway)."""

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
        """For a program; `others` are libraries that it is to have as well."""
        return {"LD_PRELOAD": ":".join(map(str, (*others, LIBRARY))), "DPS_TEST_MEMORY": self.path}

    def rule(self, program):
        others = [program.surroundings["LD_PRELOAD"]] if "LD_PRELOAD" in program.surroundings else []
        program.surroundings |= self.environment(*others)
        return self

    def fail(self, first, n_failures=1, own=True):
        """From here on, of the calls that ask for memory, the first that fails is `first`, counted from 1 on, and n_failures
        in all do. own: only calls of the program and of libc count, and not those of other libraries."""
        for place, value in ((0, 0), (1, n_failures), (2, int(own)), (3, 0), (4, 0), (0, first)):
            self.words[place] = value

    def count(self, own=True):
        """From here on calls are counted, and none fails."""
        self.fail(NEVER, own=own)

    def heal(self):
        """Nothing fails any more. How many have."""
        self.words[0] = 0
        return self.words[4]

    @property
    def n_calls(self):
        return self.words[3]
