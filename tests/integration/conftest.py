# SPDX-License-Identifier: MIT
"""Fixtures: a private bus, the emulator, and gateways. All files of a test are below its tmp_path, and are removed with it.

    def test_a_gateway_is_assigned(gateway):
        gateway.identity()                      # enrolls and configures an identity
        gateway.start()                         # starts the real dpsd, and waits for READY=1
        gateway.wait_for(State="assigned")      # waits for a property on D-Bus
        assert gateway.dpsctl("status").code == 0
"""
import collections
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

import pytest

import tpm
from certificates import Pki
from clock import Clock
from emulator import Emulator
from fakedpsd import FakeDpsd
from gateway import OWN_MODULES, Gateway
from hardware import Chip, Token
from hostile import Acceptor, Peer
from process import BUILD, DEADLINE, clean_environment, program, sanitizer_reports
from proxies import mirrors
from stranger import Stranger

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>{address}</listen>
  <!-- The bus refuses what goes to a client that reads too slowly; a flood on a busy machine must be dpsd's matter, not the bus's. -->
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_replies_per_connection">50000</limit>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
</busconfig>
"""


class Bus:
    """A dbus-daemon that can be stopped and started again with the same address."""

    def __init__(self, directory):
        self.socket_directory = tempfile.mkdtemp(prefix="dps-bus-")  # the path of a socket must be short
        os.chmod(self.socket_directory, 0o755)
        self.address = f"unix:path={self.socket_directory}/socket"
        self.log_file = directory / "dbus-daemon.log"
        self.config = directory / "bus.conf"
        self.config.write_text(BUS_CONFIG.format(address=self.address))
        self.process = None

    def start(self):
        with open(self.log_file, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(["dbus-daemon", f"--config-file={self.config}", "--nofork", "--print-address=1"],
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout.readline(), f"dbus-daemon did not start: {self.log_file.read_text()}"
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(DEADLINE)
            self.process.stdout.close()
            self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.socket_directory)


class Dpsctl:
    """The real dpsctl on the private bus, with a configuration of its own."""

    def __init__(self, directory, address):
        self.etc = directory / "etc"
        self.etc.mkdir()
        self.directory = directory
        self.environment = clean_environment(directory, DBUS_SYSTEM_BUS_ADDRESS=address, CONFIGURATION_DIRECTORY=self.etc,
                                             STATE_DIRECTORY=directory / "state", RUNTIME_DIRECTORY=directory / "run",
                                             DPS_DAEMON=program("dpsd"), DPS_MODULE_DIRECTORY=OWN_MODULES)

    def start(self, *arguments):
        return subprocess.Popen([program("dpsctl"), *arguments], env=self.environment, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, *arguments, stdin=""):
        process = self.start(*arguments)
        out, err = process.communicate(stdin, timeout=DEADLINE)
        return process.returncode, out, err


def pytest_addoption(parser):
    parser.addoption("--matrix", action="store_true", help="print what came of each fault, and the figures measured")


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("--matrix"):
        return
    properties = [entry for reports in terminalreporter.stats.values() for report in reports
                  for entry in getattr(report, "user_properties", ()) if getattr(report, "when", "") == "call"]
    rows = [value for key, value in properties if key == "fault"]
    if rows:
        terminalreporter.section("faults")
    for name, outcome, seconds, is_right in rows:
        terminalreporter.write_line(f"{name:40} {outcome:55} {seconds:6.2f} s{'' if is_right else '  WRONG'}")
    for key, value in properties:
        if key == "measured":
            terminalreporter.write_line(value)


def pytest_collection_modifyitems(items):
    """Reports missing programs once, instead of letting every test fail. Where tests run beside others, the files take turns: the
    tests of some files compute, those of others wait, and so there is some of each at any time, and no long ones are left for the
    end."""
    programs = ("dpsd/dpsd", "dpsctl/dpsctl", "emulator/dps-emulator")
    missing = [name for name in programs if not (BUILD / "src" / name).exists()]
    if missing and items:
        raise pytest.UsageError(f"missing in {BUILD}/src: {', '.join(missing)}; build them, or set DPS_BUILD")
    if "PYTEST_XDIST_WORKER" in os.environ:
        files = collections.defaultdict(list)
        for item in items:
            files[item.path].append(item)
        items.sort(key={item: i / len(file) for file in files.values() for i, item in enumerate(file)}.get)


def logs_below(directory):
    """Follows no links: some lead to where nothing answers. After a test that passed there is no directory any more."""
    if not directory.exists():
        return
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from logs_below(pathlib.Path(entry.path))
        elif entry.name.endswith(".log"):
            yield pathlib.Path(entry.path)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Adds the logs of all programs to the report of a failed test."""
    report = (yield).get_result()
    item.has_failed = getattr(item, "has_failed", False) or report.failed
    if report.failed and "tmp_path" in item.funcargs:
        for path in logs_below(item.funcargs["tmp_path"]):
            report.sections.append((str(path), path.read_text(errors="replace")[-8000:]))


@pytest.fixture
def bus(tmp_path):
    """A private system bus on which everybody may own our name."""
    bus = Bus(tmp_path).start()
    yield bus
    bus.close()


@pytest.fixture
def emulator(tmp_path):
    """An offline DPS that answers at once (retry-after and assigning time are 0); nobody is enrolled."""
    directory = tmp_path / "emulator"
    directory.mkdir()
    emulator = Emulator(directory).start()
    yield emulator
    if emulator.is_running():
        emulator.stop()
    reports = sanitizer_reports(directory)
    assert not reports, reports


@pytest.fixture
def make_gateway(tmp_path, bus, emulator):
    """Makes any number of gateways: make_gateway(), make_gateway("other")."""
    gateways = []

    def make(name="gateway"):
        gateways.append(Gateway(tmp_path / name, bus.address, emulator))
        return gateways[-1]

    yield make
    failures = []
    for gateway in gateways:
        try:
            gateway.close()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def gateway(make_gateway):
    """A gateway without any identity; see Gateway."""
    return make_gateway()


@pytest.fixture
def clock(tmp_path, gateway):
    """The clock that the gateway sees."""
    clock = Clock(tmp_path)
    yield clock.rule(gateway)
    clock.close()


@pytest.fixture
def full_journal():
    """A shell script for mounted() that puts a journal in place whose socket is full, and that does not read."""
    with tempfile.TemporaryDirectory(prefix="dps-journal-") as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        journal.bind(f"{directory}/socket")
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"x", f"{directory}/socket")
        yield ("mount -t tmpfs none /run && mkdir -p /run/systemd/journal && "
               f"mount --bind {directory} /run/systemd/journal && export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)")


@pytest.fixture
def lone_gateway(tmp_path, bus):
    """A gateway without an emulator, for hostile peers."""
    gateway = Gateway(tmp_path / "gateway", bus.address)
    yield gateway
    gateway.close()


@pytest.fixture
def make_peer(tmp_path, lone_gateway):
    """make_peer("gateway", {"register": silence}) makes a hostile peer, and configures an identity that uses it."""
    acceptor, pki, peers = Acceptor(), Pki(tmp_path / "pki"), []

    def make(name, faults=None):
        peers.append(Peer(acceptor, pki, faults))
        lone_gateway.emulator = peers[-1]  # for identity()
        lone_gateway.identity(name, key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==")
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()
    acceptor.close()


@pytest.fixture
def token(tmp_path):
    """A PKCS#11 token of SoftHSM."""
    return Token(tmp_path / "token")


@pytest.fixture(name="chip")
def software_tpm(tmp_path):
    """A TPM of swtpm."""
    (tmp_path / "chip").mkdir()
    chip = Chip(tmp_path / "chip").start()
    yield chip
    chip.close()


@pytest.fixture
def modules(gateway):
    """The directory of the gateway's modules, in which there are all."""
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = tpm.modules(gateway.directory / "modules", BUILD)
    return gateway.surroundings["DPS_MODULE_DIRECTORY"]


@pytest.fixture
def proxy(emulator):
    """proxy(Tinyproxy, …) starts a proxy, which is stopped after the test. It finds the emulator by the name localhost."""
    started = mirrors(emulator.port, emulator.https_port)

    def start(kind, *arguments, **options):
        started.append(kind(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(autouse=True)
def no_leftovers(request, tmp_path):
    """Removes the directory of a test that passed, because all together would fill the disk."""
    yield
    if not getattr(request.node, "has_failed", False):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def dpsctl(tmp_path, bus):
    yield Dpsctl(tmp_path, bus.address)
    reports = sanitizer_reports(tmp_path)
    assert not reports, reports


@pytest.fixture
def stranger(bus):
    """A user of the bus without manners."""
    made = Stranger(bus.address)
    yield made
    made.close()


@pytest.fixture
def serve(bus):
    """serve(identity("gw"), ...) starts a fake dpsd, which is stopped after the test."""
    fakes = []

    def start(*identities):
        fakes.append(FakeDpsd(bus.address, *identities))
        return fakes[-1]

    yield start
    for fake in fakes:
        fake.stop()
