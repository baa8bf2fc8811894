# SPDX-License-Identifier: MIT
"""Runs all rows of the fault matrix at once, with one dpsd. Each row has its identity, its peer, and a thread that checks it."""
import base64
import contextlib
import json
import os
import pathlib
import re
import signal
import tempfile
import threading
import time
from urllib.parse import unquote

from jeepney import DBusErrorResponse, HeaderFields

from gateway import IDENTITY, ROOT, Gateway
from hostile import Acceptor, Peer
from process import DEADLINE, SLOWER, eventually
from statuscaller import StatusCaller

SLACK = 10 * SLOWER  # seconds by which the next attempt may be planned later on a busy machine
TREMOR = 0.2  # seconds; times on the bus are calculated from two clocks
GROUPS = 9  # in which the identities come
RETRY_AFTER_MAX = 24 * 3600
TOKEN_LIFETIME = 30 * 24 * 3600  # the default


class Watch(threading.Thread):
    """Follows all identities on the bus, also those that come later. For each it keeps a list of snapshots of all properties, in order."""

    def __init__(self, gateway, names):
        super().__init__(daemon=True)
        self.client = gateway.client()
        self.client.listen()
        self.names, self.paths, self.snapshots = {}, {}, {}
        self.wanted, self.changed = set(names), {name: threading.Condition() for name in names}
        self.is_over = threading.Event()
        objects = self.client.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
        self.client.signals.clear()  # these came before the answer
        for path, interfaces in objects.items():
            self.add(path, interfaces)
        self.start()

    def add(self, path, interfaces):
        properties = {key: value for key, (_, value) in interfaces.get(IDENTITY, {}).items()}
        if (name := properties.get("Name")) in self.wanted:
            self.snapshots[name] = [properties]
            self.names[path] = name
            self.paths[name] = path

    def has_all(self):
        return self.paths.keys() == self.wanted

    def take(self, message):
        if message.header.fields[HeaderFields.member] == "InterfacesAdded":
            self.add(*message.body)
        name = self.names.get(message.header.fields[HeaderFields.path])
        if not name or message.header.fields[HeaderFields.member] != "PropertiesChanged":
            return
        with self.changed[name]:
            changes = {key: value for key, (_, value) in message.body[1].items()}
            self.snapshots[name].append(self.snapshots[name][-1] | changes)
            self.changed[name].notify_all()

    def run(self):
        while not self.is_over.is_set():
            try:
                self.take(self.client.next_signal(time.monotonic() + 0.2))
            except TimeoutError:
                pass
        self.client.close()

    def position(self, name):
        return len(self.snapshots[name])

    def now(self, name):
        return self.snapshots[name][-1]

    def wait_for(self, name, check, timeout, since=0, what="that"):
        """Returns the first snapshot from `since` on for which check() is true."""
        end = time.monotonic() + timeout
        with self.changed[name]:
            while True:
                for properties in self.snapshots[name][since:]:
                    if check(properties):
                        return properties
                since = len(self.snapshots[name])
                if not self.changed[name].wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    raise AssertionError(f"{what} did not happen within {timeout} s: {self.now(name)}")

    def close(self):
        self.is_over.set()
        self.join()


def is_assigned(properties):
    return properties["State"] == "assigned"


def is_harmless_or_told(properties):
    return is_assigned(properties) or properties["LastErrorId"]


def is_settled(properties):
    """No attempt is in flight, and there was one."""
    return is_assigned(properties) or properties["NextAttemptAt"] > 0 and properties["State"] != "unprovisioned"


class Run:
    """A row that is being run, and its result."""

    def __init__(self, matrix, index, row):
        self.matrix, self.row, self.name = matrix, row, row.name
        self.peer = Peer(matrix.acceptor, matrix.pki, row.faults, row.tls, row.pace)
        self.peer.hub, self.peer.device_id = f"hub-{index}.example", f"{row.name}-device"
        self.keys = [base64.b64encode(os.urandom(32)).decode() for _ in range(row.n_keys)]
        self.failure, self.outcome, self.seconds = None, "", 0.0  # seconds since the start of the daemon
        self.hastened = 0
        self.is_over = threading.Event()
        self.configure({"IdScope": f"0ne{index:08X}", "Endpoint": row.endpoint})

    def configure(self, provisioning):
        gateway = self.matrix.gateway
        gateway.emulator = self.peer  # for identity()
        if self.row.client:
            certificate, key = self.matrix.pki.client(self.name, self.row.client == "trusted")
            gateway.identity(self.name, method="x509", attestation={"Certificate": certificate, "PrivateKey": key},
                             provisioning=provisioning)
            return
        keys = [gateway.write_key(f"{self.name}.{index}", key) for index, key in enumerate(self.keys)]
        gateway.identity(self.name, attestation={"Key": keys}, provisioning=provisioning)

    @property
    def watch(self):
        return self.matrix.watch

    @property
    def is_long(self):
        """Whether the wait is longer than a test can take."""
        return self.row.kind != "fine" and self.row.next[0] > 60 and self.row.state != "failed" or "7200" in self.name

    def follow(self):
        begin = time.monotonic()
        try:
            self.meet()
        except Exception as error:  # any exception; the test of this row reports it
            trail = "\n".join(f"{event.at - begin:8.3f} {event.session} {event.what} {event.detail.get('rid') or event.detail.get('why') or ''}"
                              for event in self.peer.record[-60:])
            self.failure = f"{type(error).__name__}: {error}\nthe peer saw:\n{trail}"
        finally:
            self.is_over.set()

    def meet(self):
        if self.row.until:
            self.peer.wait_for(*self.row.until, timeout=60 * SLOWER)
            self.peer.mend()
        timeout = 60 * SLOWER  # no step takes more than 30 s
        is_met = is_harmless_or_told if self.row.kind == "fine" else is_settled
        found = self.watch.wait_for(self.name, is_met, timeout, what="an end of the attempt")
        self.seconds = (found["LastErrorAt"] or found["AssignedAt"] or self.peer.told[-1].realtime * 1e6) / 1e6 - self.matrix.started_at
        self.outcome = self.describe(found)
        if self.row.kind == "fine":
            self.check_harmless()
        else:
            self.check_failure(found)
            self.recover()
        self.check_outputs()
        if self.row.kind == "fails" and self.row.is_quick:
            self.meet_again()
        self.come_to_rest()
        self.check_patience()

    @staticmethod
    def describe(found):
        if is_assigned(found):
            return "assigned"
        error = f"{found['LastErrorId']} at {found['LastErrorStep']}" if found["LastErrorId"] else "told to wait"
        return f"{found['State']}, {found['Waiting'] or 'parked'}: {error}"

    # What must be true

    def check_harmless(self):
        """The identity is assigned by the first attempt."""
        snapshots = self.watch.snapshots[self.name]
        assert not any(snapshot["LastErrorId"] or snapshot["Attempts"] for snapshot in snapshots), snapshots[-1]
        sessions = self.peer.events("secured")
        assert len(sessions) == self.row.n_connections, sessions
        registers, polls = self.peer.events("register"), self.peer.events("poll")
        assert len(registers) <= self.row.n_connections, registers
        assert all(unquote(poll.detail["operation"]) == self.row.operation for poll in polls), polls[0]
        self.peer.wait_for("disconnect")
        if self.row.min_gap:
            assert polls[0].at - registers[0].at >= self.row.min_gap, polls[0].at - registers[0].at

    def check_error(self, found):
        assert not self.row.errors or (found["LastErrorId"], found["LastErrorStep"]) in self.row.errors, found
        assert found["LastErrorCode"] == self.row.code, found
        assert found["LastTrackingId"] == self.row.tracking_id, found
        assert found["Waiting"] == self.row.waiting, found
        assert not found["Healthy"], found
        assert "\x1b" not in found["LastError"] and "\n" not in found["LastError"], found
        assert bool(found["LastError"]) == bool(self.row.errors), found

    def check_failure(self, found):
        assert found["State"] == self.row.state, found
        self.check_error(found)
        attempts = found["Attempts"]
        # On a busy machine the next attempt may have come before anybody looked.
        assert attempts == (1 if self.row.errors else 0) or self.row.errors and 1 < attempts <= len(self.peer.events("open")), found
        self.check_next(found)
        assert not self.outputs(), "files for programs, and no assignment"
        state = self.matrix.gateway.state / f"{self.name}.json"
        assert not state.exists() or "evil.example" not in state.read_text() and not json.loads(state.read_text()).get("assignedHub")
        if "syn" not in self.row.faults:  # dpsd closes its connection
            self.peer.wait_for("end", len(self.peer.events("open")), timeout=DEADLINE)

    def outputs(self):
        """The files for programs, without those that are being written."""
        paths = [self.matrix.gateway.run / self.name / name for name in ("connection.json", "hub.env", "token", "cert.pem", "key.pem")]
        return {path.name: path.read_text() for path in paths if path.exists()}

    def check_next(self, found):
        told = [told for told in self.peer.told if re.fullmatch("[0-9]+", str(told.retry_after)) and int(told.retry_after) > 0]
        base = told[min(max(found["Attempts"], 1), len(told)) - 1].realtime if told else found["LastErrorAt"] / 1e6
        wait = found["NextAttemptAt"] / 1e6 - base
        doubled = 1 if told else 2 ** max(found["Attempts"] - 1, 0)
        assert self.row.next[0] * doubled - TREMOR <= wait <= self.row.next[1] * doubled + SLACK, f"the next attempt is {wait} s away"

    def check_outputs(self):
        found = self.watch.now(self.name)
        assert (found["AssignedHub"], found["DeviceId"]) == (self.peer.hub, self.peer.device_id), found
        connection = self.matrix.gateway.connection(self.name)
        assert (connection["hub"], connection["deviceId"]) == (self.peer.hub, self.peer.device_id), connection
        # A signature is random text, which may contain any word.
        contents = {name: re.sub("sig=[^&]*", "", content) for name, content in self.outputs().items()}
        assert "evil" not in str(contents), contents

    def check_patience(self):
        """No request on any connection comes sooner than DPS told, and polls are as rare as DPS demands."""
        requests = self.peer.contacts()
        for told in self.peer.told:
            if not re.fullmatch("[0-9]+", str(told.retry_after)):
                continue
            end = told.at + min(int(told.retry_after), RETRY_AFTER_MAX) - self.matrix.time_gained(told.at)
            early = [event for event in requests if told.at < event.at < end]
            assert not early, f"told to wait {told.retry_after} s, and {end - early[0].at} s too early: {early[0]}"
        for first, sixth in self.peer.dense_polls():
            raise AssertionError(f"6 polls in {sixth.at - first.at} s")
        opens = [event.at for event in self.peer.events("open")]
        more = self.row.n_keys - 1  # further keys are tried at once, in each attempt
        dense = sum(b - a < 2.5 for a, b in zip(opens, opens[1:]))
        assert dense <= (self.hastened + 1) * (1 + more) + 2, f"{dense} of {len(opens)} connections soon after another"  # 2: changes of the network may end a wait

    # Ending the fault

    def hasten(self):
        self.hastened += 1
        self.matrix.reprovision(self.name)

    def recover(self):
        """Mends the peer, and requests a registration, which starts at once if DPS allows it."""
        since, position = len(self.peer.record), self.watch.position(self.name)
        self.peer.mend()
        self.peer.faults = self.row.afterwards
        self.hasten()
        if self.is_long:
            self.matrix.wait_for_time_to_pass()
            position = 0  # in another watch
        self.be_assigned(position)
        first = self.peer.events("register", "poll", since=since)[0]
        assert first.what == self.row.again, f"asks to {first.what} first, not to {self.row.again}"
        if first.what == "poll":
            assert first.detail["operation"] == self.peer.events("poll")[-1].detail["operation"]

    def be_assigned(self, position, check=is_assigned):
        """Waits for check(); an attempt that was in flight when the peer was mended may still fail."""
        end = time.monotonic() + 80 * SLOWER
        error_at = self.watch.snapshots[self.name][max(0, position - 1)]["LastErrorAt"]
        while True:
            found = self.watch.wait_for(self.name, lambda p: check(p) or p["LastErrorAt"] > error_at, end - time.monotonic(), position,
                                        "an assignment")
            if check(found):
                return
            position, error_at = self.watch.position(self.name), found["LastErrorAt"]
            if self.hastened < 4 and self.row.next[0] < 30:
                self.hasten()

    def come_to_rest(self):
        if not self.row.client:  # a certificate is not renewed, so nothing is planned
            eventually(lambda: self.matrix.is_at_rest(self.name), what="an end of all attempts")

    def meet_again(self):
        """Repeats the fault while the identity is assigned: the assignment stays."""
        self.come_to_rest()
        files = self.outputs()
        position = self.watch.position(self.name)
        self.peer.spoil(self.row.faults, self.row.tls, self.row.pace)
        self.hasten()
        found = self.watch.wait_for(self.name, lambda p: p["LastErrorId"], 60 * SLOWER, position, "the error again")
        assert is_assigned(found), found
        self.check_error(found)
        assert self.outputs() == files
        position = self.watch.position(self.name)
        self.peer.mend()
        self.hasten()
        self.be_assigned(position, lambda p: p["Healthy"])
        assert all(is_assigned(p) for p in self.watch.snapshots[self.name][position:])
        assert self.outputs().keys() == files.keys()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def count_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_peak_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s*(\d+)", file.read())[1])


def memory_directory():
    """Makes a directory in memory, as /run is: thousands of files that come and go would be slow on a disk."""
    return tempfile.TemporaryDirectory(prefix="dps-run-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


class Matrix:
    """start() starts all rows; the test of each row waits for its Run."""

    def __init__(self, directory, bus, pki, rows):
        self.gateway = Gateway(directory, bus.address)
        self.memory = memory_directory()
        self.gateway.run = pathlib.Path(self.memory.name)
        self.acceptor = Acceptor()
        self.pki = pki
        self.gateway.write_conf("dpsd", f"[Daemon]\nMaxAttempts={len(rows) + 10}\n")
        self.runs = {row.name: Run(self, index, row) for index, row in enumerate(rows)}
        self.watch = self.client = None
        self.client_lock = threading.Lock()
        self.time_passed = threading.Event()
        self.jumped_at, self.gained = 0.0, 0.0
        self.is_over = threading.Event()
        self.started_at = 0.0
        self.failure = None
        self.cpu_share = self.memory_kb = self.n_fds = 0
        self.disturbed = []
        self.status = StatusCaller(directory, self.gateway.environment())

    def start(self):
        """The identities come when the watch is there: on a busy machine it would miss their first failures."""
        confs, away = self.gateway.configuration, self.gateway.directory / "away"
        away.mkdir()
        for name in self.runs:
            (confs / f"{name}.conf").rename(away / f"{name}.conf")
        self.gateway.start()
        self.begin_anew()
        self.started_at = time.time()
        names = [*self.runs]
        for first in range(GROUPS):
            self.add_group(away, names[first::GROUPS])
        self.status.start()
        threading.Thread(target=self.conduct, daemon=True).start()
        return self

    def add_group(self, away, names):
        """A slow machine could not do the handshakes of all before their deadlines. Some take until a deadline in any case."""
        for name in names:
            (away / f"{name}.conf").rename(self.gateway.configuration / f"{name}.conf")
        self.gateway.reload()
        eventually(lambda: all(name in self.watch.snapshots for name in names), what="the identities of a group")
        for name in names:
            threading.Thread(target=self.runs[name].follow, daemon=True).start()

        def have_most_settled():
            return sum(map(is_settled, map(self.watch.now, names))) >= 0.6 * len(names)

        with contextlib.suppress(TimeoutError):
            eventually(have_most_settled, 10 * SLOWER)

    def reprovision(self, name):
        with self.client_lock:
            try:
                self.client.call(self.watch.paths[name], IDENTITY, "Reprovision")
            except DBusErrorResponse as error:
                raise AssertionError(f"Reprovision: {error}") from None

    def is_at_rest(self, name):
        """Asks the daemon, because the watch may be late, whether nothing is in flight or being written, and nothing is about to
        begin: only the renewal of the token, which is weeks away, is planned. Tokens expire at whole seconds."""
        with self.client_lock:
            found = self.client.properties(self.watch.paths[name], IDENTITY)
        is_planned_late = found["NextAttemptAt"] > (time.time() + 3600) * 1e6
        return is_planned_late and found["TokenExpiresAt"] + 1e6 > found["LastSuccessAt"] + TOKEN_LIFETIME * 1e6

    def time_gained(self, at):
        """The seconds that make_older() has skipped since then."""
        return self.gained if 0 < self.jumped_at and at < self.jumped_at else 0.0

    def wait_for_time_to_pass(self):
        assert self.time_passed.wait(240 * SLOWER), "other rows have not ended"
        assert not self.failure, self.failure

    def conduct(self):
        """Measures while the rows run. Then restarts the daemon, and skips a day for rows that were told to wait that long."""
        begin, cpu = time.monotonic(), cpu_seconds(self.gateway.pid)
        try:
            for run in self.runs.values():
                if not run.is_long:
                    run.is_over.wait()
            self.cpu_share = (cpu_seconds(self.gateway.pid) - cpu) / (time.monotonic() - begin)
            self.memory_kb = memory_peak_kb(self.gateway.pid)
            self.n_fds = count_fds(self.gateway.pid)
            self.status.stop()
            self.restart()
            self.pass_time()
        except Exception as error:  # the tests report it
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self.status.stop()
            self.time_passed.set()
            for run in self.runs.values():
                run.is_over.wait()
            self.is_over.set()

    def is_on_bus(self):
        """On a busy machine the daemon may be ready before it has its name."""
        try:
            return bool(self.gateway.properties())
        except DBusErrorResponse:
            return False

    def begin_anew(self):
        eventually(self.is_on_bus, what="dpsd on the bus")
        self.client = self.gateway.client()
        self.watch = Watch(self.gateway, self.runs)

    def begin_again(self):
        self.begin_anew()
        assert self.watch.has_all(), "an identity is missing"

    def restart(self):
        """Restarts the daemon. It contacts no peer: identities with an assignment serve it, the others continue to wait."""
        seen = {name: len(run.peer.contacts("open")) for name, run in self.runs.items()}
        waits = {name: self.watch.now(name)["NextAttemptAt"] for name, run in self.runs.items() if run.is_long and not run.failure}
        self.close_watch()
        self.gateway.restart()
        self.begin_again()
        for name, run in self.runs.items():
            if run.failure:
                continue
            found = self.watch.now(name)
            if name in waits:
                assert found["NextAttemptAt"] >= waits[name] - TREMOR * 1e6, f"{name}: {waits[name]} has become {found}"
            else:
                assert is_assigned(found), f"{name}: {found}"
        self.close_watch()
        self.gateway.stop()
        self.disturbed = [name for name, run in self.runs.items() if not run.failure and len(run.peer.contacts("open")) > seen[name]]

    def pass_time(self):
        """Lets a day pass by changing the records, and the notes in .waits."""
        self.gained = 1.5 * RETRY_AFTER_MAX
        self.jumped_at = time.monotonic()
        for name, run in self.runs.items():
            for path in (self.gateway.state / f"{name}.json", self.gateway.run / ".waits" / f"{name}.json"):
                if run.is_long and path.exists():
                    self.make_older(path)
        self.gateway.start(wait=False)
        self.gateway.wait_until_ready(timeout=5 * DEADLINE)  # it has hundreds of identities
        self.begin_again()

    def make_older(self, path):
        state = json.loads(path.read_text())
        for key in ("nextAttemptAt", "notBefore", "pausedUntil"):
            if state.get(key):
                state[key] -= int(self.gained * 1e6)
        path.write_text(json.dumps(state))

    def close_watch(self):
        self.client.close()
        self.watch.close()

    def close(self):
        self.is_over.wait()
        for run in self.runs.values():
            run.peer.close()
        self.acceptor.close()
        self.close_watch()
        try:
            self.gateway.close()
        finally:
            self.memory.cleanup()
