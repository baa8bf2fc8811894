# SPDX-License-Identifier: MIT
"""Programs under test: they get a clean environment, and their output lines and exit status are collected."""
import collections
import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DPS_BUILD") or REPOSITORY / "build")
WORLD = BUILD / "tests" / "integration" / "test-world.so"  # made from calls.c, clock.c, disk.c and sockets.c, which say what its environment variables mean
UNDER = os.environ.get("DPS_UNDER", "").split()  # the command to run dpsd with, such as valgrind
SLOWER = 4 if os.environ.get("DPS_SANITIZE") else 1  # deadlines end a hang, they measure nothing
DEADLINE = 60 * SLOWER


def program(name):
    room = {"dps-emulator": "emulator"}.get(name, name)
    return str(BUILD / "src" / room / name)


def clean_environment(directory, **more):
    """Returns an environment without the variables of the tests; sanitizers and valgrind report into `directory`."""
    report = f"log_path={directory}/sanitizer"
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "ASAN_OPTIONS": f"{report}:detect_leaks=1:verify_asan_link_order=0",  # another library may be loaded before ASan
        "TSAN_OPTIONS": report,
        "VALGRIND_OPTS": f"--log-file={directory}/sanitizer.%p",
        "UBSAN_OPTIONS": f"{report}:print_stacktrace=1:halt_on_error=1",
    }
    return environment | {key: str(value) for key, value in more.items()}


# ASan does not know the stacks of OpenSSL's jobs, and says so once; it reports nothing else because of that.
FOREIGN_STACK = re.compile(r"==\d+==WARNING: ASan is ignoring requested __asan_handle_no_return:.*\n"
                           r"False positive error reports may follow\nFor details see .*\n")


def sanitizer_reports(directory):
    reports = (FOREIGN_STACK.sub("", path.read_text(errors="replace"))
               for path in sorted(pathlib.Path(directory).glob("sanitizer.*")))
    return "\n".join(filter(None, reports))  # valgrind leaves an empty file if it has nothing to report


KEPT_PORTS = collections.deque(maxlen=100)  # of the last tests


def free_port():
    """A port of 127.0.0.1 on which nobody listens. Nobody else gets it, even if a server leaves it for a while: the kernel gives
    others to whoever asks for any, and the name of a socket keeps it from tests in other processes."""
    first, last = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    ports = [*range(10000, first), *range(last + 1, 65536)] or [0]
    while True:
        port, name = random.choice(ports), socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            name.bind(f"\0dps-test-port-{listener.getsockname()[1]}")
            KEPT_PORTS.append(name)
            return listener.getsockname()[1]
        name.close()


class Lines:
    """The lines of a stream so far; other threads can wait for more."""

    def __init__(self):
        self.lines = []
        self.changed = threading.Condition()

    def add(self, line):
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()

    def wait_for(self, condition, timeout, what):
        """Waits until condition(lines) is true, and returns its value."""
        with self.changed:
            found = self.changed.wait_for(lambda: condition(self.lines), timeout)
            if not found:
                raise TimeoutError(f"{what} did not come within {timeout} s; there was: {self.lines[-20:]}")
            return found

    def follow(self, stream, path=None):
        """Reads the stream to its end, in a thread, and copies it to `path`."""
        def read():
            with stream:
                for line in stream:
                    if path:
                        with open(path, "a", encoding="utf-8") as copy:
                            copy.write(line)
                    self.add(line.rstrip("\n"))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread


class Program:
    """A program that runs beside the test."""

    def __init__(self, directory, name):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.process = None
        self.log_file = self.directory / f"{name}.log"
        self.out, self.err = Lines(), Lines()
        self.readers = []
        self.wrapper = []  # a command that executes its arguments
        self.surroundings = {}  # more environment variables

    def spawn(self, *arguments, **environment):
        assert not self.is_running(), f"{self.name} runs already"
        self.out = Lines()
        self.process = subprocess.Popen(
            [*map(str, self.wrapper), *(UNDER if self.name == "dpsd" else []), program(self.name), *map(str, arguments)],
            env=clean_environment(self.directory, **(environment | self.surroundings)), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        self.readers = [self.out.follow(self.process.stdout), self.err.follow(self.process.stderr, self.log_file)]

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return "\n".join(self.err.lines)

    def wait_for_log(self, pattern, timeout=DEADLINE):
        """Waits for a line of the log that matches, and returns the first."""
        expression = re.compile(pattern)
        return self.err.wait_for(lambda lines: next(filter(expression.search, lines), None), timeout, f"log /{pattern}/")

    def end(self, with_signal=signal.SIGTERM, timeout=DEADLINE):
        """Stops the program, and returns its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} does not end within {timeout} s of signal {with_signal}") from None
        finally:
            for reader in self.readers:
                reader.join(1)
        self.process = None
        return code


def eventually(check, timeout=DEADLINE, what="the condition"):
    """Polls until check() is true, and returns its value; for things without an event to wait for, such as files."""
    end = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come true within {timeout} s")
        time.sleep(0.02)
    return value
