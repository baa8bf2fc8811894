# SPDX-License-Identifier: MIT
"""The programs that are measured, and the tools that measure them; uses the fixtures of the integration tests."""
import contextlib
import ctypes
import grp
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from conftest import Bus  # noqa: E402
from emulator import ID_SCOPE, Emulator  # noqa: E402
from mqtt import token  # noqa: E402
from process import BUILD, clean_environment, program  # noqa: E402

PATIENCE = 120
FLOORS = BUILD / "tests" / "bench"
HTTPS = BUILD / "src" / "transport" / "https.so"
LIBC = ctypes.CDLL(None, use_errno=True)
IN_MOVED_TO, IN_CLOEXEC = 0x80, 0o2000000


class Arrivals:
    """Waits until a file with this name was moved into each of many directories."""

    def __init__(self, directories, name):
        self.fd = LIBC.inotify_init1(IN_CLOEXEC)
        self.name = name.encode()
        self.missing = {LIBC.inotify_add_watch(self.fd, os.fsencode(d), IN_MOVED_TO) for d in directories}
        assert -1 not in self.missing and len(self.missing) == len(directories), "no inotify watches left"

    def wait(self):
        end = time.monotonic() + PATIENCE
        while self.missing:
            if not select.select([self.fd], [], [], end - time.monotonic())[0]:
                raise TimeoutError(f"{len(self.missing)} have no {self.name.decode()}")
            data = os.read(self.fd, 1 << 20)
            while data:
                watch, _, _, size = struct.unpack_from("iIII", data)
                if data[16:16 + size].rstrip(b"\0") == self.name:
                    self.missing.discard(watch)
                data = data[16 + size:]

    def close(self):
        os.close(self.fd)


class Process:
    """A program whose time is measured from just before its start."""

    def __init__(self, path, *arguments, log="/dev/null", **environment):
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        actions = [(os.POSIX_SPAWN_DUP2, log_fd, 1), (os.POSIX_SPAWN_DUP2, log_fd, 2)]
        self.begin = time.monotonic()
        self.pid = os.posix_spawn(path, [path, *map(str, arguments)], clean_environment("/tmp", **environment),
                                  file_actions=actions)
        os.close(log_fd)
        self.usage = None  # of the whole run, after the end

    def reap(self):
        _, status, self.usage = os.wait4(self.pid, 0)
        return status

    def elapsed(self):
        return time.monotonic() - self.begin

    def wait(self):
        """Waits for the end; returns the seconds since the start."""
        status = self.reap()
        seconds = self.elapsed()
        assert status == 0, f"process {self.pid} ended with status {status}"
        return seconds

    def kill(self):
        """Kills the program, so that an orderly exit costs nothing; returns its CPU time in seconds."""
        os.kill(self.pid, signal.SIGKILL)
        self.reap()
        return self.usage.ru_utime + self.usage.ru_stime

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    # Figures from /proc

    def fields(self, name):
        """Parses the lines "Key: NUMBER kB" of a file in /proc/PID."""
        with open(f"/proc/{self.pid}/{name}", encoding="ascii", errors="replace") as file:
            return {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in file)
                    if rest.split()[:1] and rest.split()[0].isdigit()}

    def private_dirty_kb(self):
        return self.fields("smaps_rollup")["Private_Dirty"]

    def peak_kb(self):
        return self.fields("status")["VmHWM"]

    def n_wakeups(self):
        """Returns how often its threads went to sleep."""
        return sum(self.fields(f"task/{task}/status")["voluntary_ctxt_switches"] for task in os.listdir(f"/proc/{self.pid}/task"))


class Notified:
    """The socket of the service manager."""

    def __init__(self, directory):
        self.path = f"{directory}/notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(self.path)
        self.socket.settimeout(PATIENCE)

    def wait_until_ready(self):
        while b"READY=1" not in self.socket.recv(4096).splitlines():
            pass

    def forget(self):
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.socket.recv(4096):
                pass
        self.socket.settimeout(PATIENCE)


class Rig:
    """A bus, an offline DPS with `n_enrolled` devices, and the daemon's directories below `directory`."""

    def __init__(self, directory, n_enrolled=1, retry_after=0):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="dps-bench-", dir=directory))
        self.sockets = tempfile.mkdtemp(prefix="dps-bench-")  # the path of a socket must be short
        self.bus = Bus(self.directory).start()
        self.notified = Notified(self.sockets)
        (self.directory / "emulator").mkdir()
        self.emulator = Emulator(self.directory / "emulator")
        self.emulator.enrollments["retryAfter"] = retry_after
        self.emulator.enrollments["assigningTime"] = retry_after
        self.emulator.enrollments["quotas"] = {"registrationsPerMinute": 1000000, "pollsPerTenSeconds": 1000000}
        self.keys = {f"device-{k:04}": self.emulator.enroll(f"device-{k:04}") for k in range(n_enrolled)}
        self.emulator.start()
        for name, mode in (("etc", 0o755), ("state", 0o700), ("run", 0o755), ("credentials", 0o700)):
            (self.directory / name).mkdir(mode)
        self.configured = []
        self.surroundings = {}  # more of the daemon's environment
        self.dpsd = None

    def close(self):
        if self.dpsd and not self.dpsd.usage:
            self.dpsd.kill()
        self.emulator.stop()
        self.bus.close()
        shutil.rmtree(self.directory)
        shutil.rmtree(self.sockets)

    def configure(self, n, transport="mqtt"):
        """Configures the first n devices, and removes all state."""
        for name in ("etc", "state", "run", "credentials"):
            for path in (self.directory / name).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.directory / "etc/dpsd.conf").write_text(
            f"[Provisioning]\nIdScope={ID_SCOPE}\nEndpoint=127.0.0.1\nMqttPort={self.emulator.port}\n"
            f"Transport={transport}\nHttpsPort={self.emulator.https_port}\n"
            f"CaFile={self.emulator.ca_file}\n[Access]\nGroup={grp.getgrgid(os.getegid()).gr_name}\n")
        self.configured = list(self.keys)[:n]
        for name in self.configured:
            key = self.directory / "credentials" / f"{name}.key"
            key.write_text(self.keys[name] + "\n")
            key.chmod(0o400)
            (self.directory / f"etc/{name}.conf").write_text(
                f"[Provisioning]\nRegistrationId={name}\n[Attestation]\nKey=credential:{name}.key\n")

    def configure_certificate(self, name, lines):
        """Configures one device, which has a certificate of the emulator's CA, and removes all state."""
        self.configure(0)
        self.configured = [name]
        (self.directory / f"etc/{name}.conf").write_text("\n".join((
            "[Provisioning]", f"RegistrationId={name}", "[Attestation]", "Method=x509", *(f"{key}={value}" for key, value in lines.items()),
            "")))

    def environment(self):
        return {"CONFIGURATION_DIRECTORY": self.directory / "etc", "STATE_DIRECTORY": self.directory / "state",
                "RUNTIME_DIRECTORY": self.directory / "run", "CREDENTIALS_DIRECTORY": self.directory / "credentials",
                "NOTIFY_SOCKET": self.notified.path, "DPS_MODULE_DIRECTORY": HTTPS.parent,
                "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address} | self.surroundings

    def spawn_dpsd(self):
        self.notified.forget()
        self.dpsd = Process(program("dpsd"), log=self.directory / "dpsd.log", **self.environment())
        return self.dpsd

    def provision(self):
        """Starts without assignments; returns the process, and the seconds until all are assigned."""
        self.notified.forget()
        directories = [self.directory / "run" / name for name in self.configured]
        for path in directories:
            path.mkdir(0o750, exist_ok=True)
        arrivals = Arrivals(directories, "connection.json")
        process = self.spawn_dpsd()
        arrivals.wait()
        seconds = process.elapsed()
        arrivals.close()
        return process, seconds

    def start(self):
        """Starts from the cache; returns the process, and the seconds until READY=1."""
        process = self.spawn_dpsd()
        self.notified.wait_until_ready()
        return process, process.elapsed()

    def forget_assignments(self):
        for path in (self.directory / "state").glob("*.json"):
            path.unlink()
        for path in (self.directory / "run").glob("*/*"):
            path.unlink()

    # The programs that dpsd is compared with

    def run_true(self):
        return Process("/bin/true").wait()

    def run_floor_bus(self):
        """Returns the seconds until its end, and until it was ready."""
        self.notified.forget()
        process = Process(str(FLOORS / "floor-bus"), **self.environment())
        self.notified.wait_until_ready()
        ready = process.elapsed()
        return process.wait(), ready

    def floor_dps(self):
        return Process(str(FLOORS / "floor-dps"), "127.0.0.1", self.emulator.port, self.emulator.ca_file, ID_SCOPE,
                       self.configured[0], self.directory / "credentials" / f"{self.configured[0]}.key",
                       log=self.directory / "floor.log")

    def curl(self):
        """The requests of a registration over one connection, the second for an operation that there is not."""
        name = self.configured[0]
        base = f"https://127.0.0.1:{self.emulator.https_port}/{ID_SCOPE}/registrations/{name}"
        always = ["-s", "-o", "/dev/null", "--noproxy", "*", "--cacert", self.emulator.ca_file, "-H", "Content-Type: application/json",
                  "-H", f"Authorization: {token(self.keys[name], f'{ID_SCOPE}/registrations/{name}')}"]
        return Process("/usr/bin/curl", *always, "-X", "PUT", "-d", f'{{"registrationId":"{name}"}}',
                       f"{base}/register?api-version=2019-03-31", "--next", *always,
                       f"{base}/operations/5.none?api-version=2019-03-31", log=self.directory / "floor.log")


def raise_limits():
    """Each connection in flight needs descriptors, in the broker as well."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
