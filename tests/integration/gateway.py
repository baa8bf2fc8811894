# SPDX-License-Identifier: MIT
"""A gateway: the real dpsd with its own directories, and dpsctl to control it."""
import collections
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from jeepney import DBusAddress, DBusErrorResponse, HeaderFields, MatchRule, MessageType, Properties, message_bus, new_method_call

from bus_connection import connect_to_bus
from fakedpsd import path_of
from process import BUILD, DEADLINE, Lines, Program, clean_environment, eventually, program, sanitizer_reports

NAME = "io.dpsd.dps1"
ROOT = "/io/dpsd/dps1"
OWN_MODULES = BUILD / "tests" / "integration"  # those that every dpsd has
MANAGER = f"{NAME}.Manager"
IDENTITY = f"{NAME}.Identity"
EXIT_NOT_ASSIGNED, EXIT_TIMED_OUT = 3, 7  # of dpsctl
READY_PATIENCE = 3  # seconds for which the daemon waits for its name at most


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class NotifySocket:
    """The socket of the service manager; collects the messages of the daemon."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="dps-notify-")  # the path of a socket must be short
        self.path = f"{self.directory}/socket"
        self.messages = Lines()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(self.path)
        self.receiver = threading.Thread(target=self.receive, daemon=True)
        self.receiver.start()

    def receive(self):
        while data := self.socket.recv(65536):
            self.messages.add(data.decode())

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.path)
        self.receiver.join(DEADLINE)
        self.socket.close()
        shutil.rmtree(self.directory)

    @property
    def lines(self):
        return [line for message in self.messages.lines for line in message.splitlines()]

    @property
    def status(self):
        """The last STATUS=."""
        return next((line.removeprefix("STATUS=") for line in reversed(self.lines) if line.startswith("STATUS=")), None)

    def wait_for(self, line, n=1, timeout=DEADLINE):
        """Waits until `line` was received n times."""
        self.messages.wait_for(lambda _: self.lines.count(line) >= n, timeout, f"{n} × {line}")

    def wait_for_status(self, word, timeout=DEADLINE):
        """Waits until the last STATUS= contains this text."""
        self.messages.wait_for(lambda _: word in (self.status or ""), timeout, f"a status with {word!r}")
        return self.status


class BusClient:
    """A client on the bus, which makes calls and waits for signals."""

    def __init__(self, address):
        self.connection = connect_to_bus(address)
        self.signals = collections.deque()
        self.connection.filter(MatchRule(type="signal"), queue=self.signals)

    def close(self):
        self.connection.close()

    def call(self, path, interface, method, signature=None, arguments=()):
        """Returns the body of the reply; raises DBusErrorResponse if it is an error."""
        message = new_method_call(DBusAddress(path, NAME, interface), method, signature, arguments)
        reply = self.connection.send_and_get_reply(message, timeout=DEADLINE)
        if reply.header.message_type is MessageType.error:
            raise DBusErrorResponse(reply)
        return reply.body

    def has_owner(self):
        return self.connection.send_and_get_reply(message_bus.NameHasOwner(NAME), timeout=DEADLINE).body[0]

    def own(self, name):
        """Requests a name, which must be free."""
        reply = self.connection.send_and_get_reply(message_bus.RequestName(name), timeout=DEADLINE)
        assert reply.body == (1,), reply

    def properties(self, path, interface):
        request = Properties(DBusAddress(path, NAME, interface)).get_all()
        reply = self.connection.send_and_get_reply(request, timeout=DEADLINE)
        if reply.header.message_type is MessageType.error:
            raise DBusErrorResponse(reply)
        return {key: value for key, (_, value) in reply.body[0].items()}

    def identity(self, name):
        """The properties of an identity, or None if there is none of that name."""
        try:
            return self.properties(self.call(ROOT, MANAGER, "GetIdentity", "s", (name,))[0], IDENTITY)
        except DBusErrorResponse:
            return None

    @staticmethod
    def identity_after(name, properties, signal):
        """The properties of an identity after this signal, if they were those before; None if that cannot be told."""
        member, body = signal.header.fields[HeaderFields.member], signal.body
        if not properties or (member, body[0]) in (("IdentityRemoved", name), ("NameOwnerChanged", NAME)):
            return None
        if (member, body[0]) == ("PropertiesChanged", IDENTITY) and signal.header.fields[HeaderFields.path] == path_of(name):
            return properties | {key: value for key, (_, value) in body[1].items()}
        return properties

    def listen(self):
        """Subscribes to all signals of the daemon, and to changes of its name."""
        for rule in (MatchRule(type="signal", path_namespace=ROOT),
                     MatchRule(type="signal", sender="org.freedesktop.DBus", member="NameOwnerChanged")):
            self.connection.send_and_get_reply(message_bus.AddMatch(rule), timeout=DEADLINE)

    def next_signal(self, end):
        """Returns the next signal since listen(); raises TimeoutError when time.monotonic() reaches `end`."""
        return self.connection.recv_until_filtered(self.signals, timeout=max(0.0, end - time.monotonic()))

    def wait_for_signal(self, member, timeout=DEADLINE):
        """Returns the body of the next signal with this name."""
        end = time.monotonic() + timeout
        while True:
            message = self.next_signal(end)
            if message.header.fields.get(HeaderFields.member) == member:
                return message.body


class Gateway(Program):
    """At first nothing is configured. identity() writes a conf; start() starts dpsd and waits until it is ready."""

    def __init__(self, directory, bus_address, emulator=None):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory, "dpsd")
        self.bus_address = bus_address
        self.emulator = emulator
        self.configuration, self.state, self.run, self.credentials = (
            directory / name for name in ("etc", "state", "run", "credentials"))
        for path, mode in ((self.configuration, 0o755), (self.state, 0o700), (self.run, 0o755), (self.credentials, 0o700)):
            path.mkdir(mode)
        self.notify = NotifySocket()
        self.n_ready = 0

    # Configuration

    def write_conf(self, name, text):
        path = self.configuration / f"{name}.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def write_key(self, name, key):
        """Writes a systemd credential; returns the reference to it."""
        path = self.credentials / name
        path.unlink(missing_ok=True)
        path.write_text(key + "\n", encoding="ascii")
        path.chmod(0o400)
        return f"credential:{name}"

    def identity(self, name="gateway", registration_id=None, key=None, method="symmetric-key", **sections):
        """Writes a conf for the emulator, and enrolls the device there if no key is given. More lines: provisioning={"Splay": "1s"},
        hub={…}, …; the value None removes a line, a list repeats it."""
        registration_id = registration_id or name
        attestation = {"Method": method}
        if method == "symmetric-key" and "Key" not in sections.get("attestation", {}):
            attestation["Key"] = self.write_key(f"{name}.key", key or self.emulator.enroll(registration_id))
        conf = {
            "Provisioning": {"IdScope": "0ne00AABBCC", "RegistrationId": registration_id, "Endpoint": "127.0.0.1",
                             "MqttPort": self.emulator.port, "CaFile": self.emulator.ca_file},
            "Attestation": attestation, "Hub": {}, "Issuance": {}, "Access": {},
        }
        lines = []
        for section, values in conf.items():
            lines.append(f"[{section}]")
            for key_name, value in (values | sections.pop(section.lower(), {})).items():
                many = value if isinstance(value, list) else [] if value is None else [value]
                lines += [f"{key_name}={one}" for one in many]
        assert not sections, f"no such section: {sections}"
        return self.write_conf(name, "\n".join(lines) + "\n")

    # Life

    def environment(self):
        return {"CONFIGURATION_DIRECTORY": self.configuration, "STATE_DIRECTORY": self.state, "RUNTIME_DIRECTORY": self.run,
                "CREDENTIALS_DIRECTORY": self.credentials, "NOTIFY_SOCKET": self.notify.path,
                "DBUS_SYSTEM_BUS_ADDRESS": self.bus_address, "DPS_DAEMON": program("dpsd"),
                "DPS_MODULE_DIRECTORY": OWN_MODULES}

    def start(self, *arguments, wait=True, **environment):
        self.n_ready = self.notify.lines.count("READY=1")
        begin = time.monotonic()
        self.spawn(*arguments, **(self.environment() | environment))
        if wait:
            self.wait_until_ready()
            if time.monotonic() - begin >= READY_PATIENCE:
                self.wait_for_name()
        return self

    def wait_for_name(self):
        """A daemon that has no name on the bus after three seconds gets ready without, as on a busy machine."""
        try:
            client = self.client()
        except OSError:
            return  # there is no bus, or it stands still
        eventually(client.has_owner, 3 * DEADLINE, f"an owner of {NAME}")
        client.close()

    def wait_until_ready(self, timeout=DEADLINE):
        try:
            self.notify.wait_for("READY=1", self.n_ready + 1, timeout)
        except TimeoutError as error:
            raise AssertionError(f"dpsd does not get ready: {error}\n{self.log}") from None

    def stop(self):
        code = self.end()
        assert code == 0, f"dpsd ended with {code}:\n{self.log}"

    def whole_log(self):
        """Stops the daemon, and returns all that it has logged; for checks that something is not logged, or only once."""
        self.stop()
        return self.log

    def kill(self):
        self.end(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def reload(self):
        """Reloads as systemctl reload does, and waits until it is done."""
        ready = self.notify.lines.count("READY=1")
        self.process.send_signal(signal.SIGHUP)
        self.notify.wait_for("READY=1", ready + 1)

    def run_once(self, *arguments, timeout=DEADLINE, **environment):
        """Runs dpsd with these arguments, such as --once, to its end."""
        return self.execute("dpsd", *arguments, timeout=timeout, **(self.environment() | environment))

    # What the daemon says and writes

    def client(self):
        return BusClient(self.bus_address)

    def path(self, name):
        client = self.client()
        try:
            return client.call(ROOT, MANAGER, "GetIdentity", "s", (name,))[0]
        finally:
            client.close()

    def properties(self, name=None):
        """Returns the properties of an identity, or without a name those of the manager."""
        path = self.path(name) if name else ROOT
        client = self.client()
        try:
            return client.properties(path, IDENTITY if name else MANAGER)
        finally:
            client.close()

    def call(self, name, method, signature=None, *arguments):
        """Calls a method of an identity, or without a name one of the manager."""
        path = self.path(name) if name else ROOT
        client = self.client()
        try:
            return client.call(path, IDENTITY if name else MANAGER, method, signature, arguments)
        finally:
            client.close()

    def wait_for(self, name="gateway", timeout=DEADLINE, check=None, **wanted):
        """Waits until the properties of the identity have these values, as in wait_for("gateway", State="assigned"), and
        check(properties) is true. What was so for a moment only counts too, since a busy machine may look too late: it was told
        by a signal. Returns the properties, of that moment if it is over."""
        def is_wanted(properties):
            return all(properties[key] == value for key, value in wanted.items()) and (check is None or check(properties))

        client = self.client()
        properties = told = None
        end = time.monotonic() + timeout
        try:
            client.listen()
            while True:
                if not client.signals:
                    properties = client.identity(name)
                    if properties and is_wanted(properties):
                        return properties
                    if not told:
                        told = properties
                        client.signals.clear()  # these came before the answer
                told = client.identity_after(name, told, client.next_signal(end))
                if told and is_wanted(told):
                    properties = client.identity(name)
                    return properties if properties and is_wanted(properties) else told
        except TimeoutError:
            raise AssertionError(f"{name} did not become {wanted or check} within {timeout} s: {properties}\n{self.log}") from None
        finally:
            client.close()

    def files(self, name="gateway"):
        """The files for programs, by name."""
        directory = self.run / name
        if not directory.exists():
            return {}
        # A name that begins with ".#" is a file in the making, which may be gone in the next moment.
        return {path.name: path.read_text() for path in sorted(directory.iterdir()) if not path.name.startswith(".#")}

    def connection(self, name="gateway"):
        return json.loads((self.run / name / "connection.json").read_text())

    def remembered(self, name="gateway"):
        """The record of the identity."""
        return json.loads((self.state / f"{name}.json").read_text())

    # dpsctl

    def execute(self, name, *arguments, text="", timeout=DEADLINE, user=None, groups=(), **environment):
        """Runs a program to its end, as another user if we are root."""
        as_user = {"user": user, "group": user, "extra_groups": list(groups)} if user is not None else {}
        done = subprocess.run([program(name), *map(str, arguments)], env=clean_environment(self.directory, **environment),
                              input=text, capture_output=True, text=True, errors="replace", timeout=timeout, check=False, **as_user)
        return Result(done.returncode, done.stdout, done.stderr)

    def begin(self, name, *arguments):
        """Starts a program, and returns the process; its output is text."""
        return subprocess.Popen([program(name), *map(str, arguments)], env=clean_environment(self.directory, **self.environment()),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def dpsctl(self, *arguments, **options):
        return self.execute("dpsctl", *arguments, **(self.environment() | options))

    def list_in_flood(self):
        """What dpsctl lists. It waits 25 s; what others have queued on the bus before may take a busy machine longer."""
        def answer():
            result = self.dpsctl("status", "--json=short")
            assert result.code in (0, EXIT_TIMED_OUT, EXIT_NOT_ASSIGNED), result
            return result.code != EXIT_TIMED_OUT and result.json["identities"]

        return eventually(answer, 3 * DEADLINE, "an answer to dpsctl status")

    def call_as(self, user, groups, path, method, *arguments):
        """Makes a call as another user if we are root; returns the output of dbus-send. Arguments are like "uint64:0", "string:auth"."""
        command = ["dbus-send", f"--bus={self.bus_address}", f"--dest={NAME}", "--print-reply", path, method, *arguments]
        done = subprocess.run(command, env=clean_environment(self.directory), cwd="/", stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=DEADLINE, check=False,
                              user=user, group=user, extra_groups=list(groups))
        return Result(done.returncode, done.stdout, done.stderr)

    # The end

    def close(self):
        """Checks what must be true at the end of every test."""
        try:
            crashed = self.process is not None and self.process.poll() is not None
            self.stop()
            assert not crashed, f"dpsd ended by itself:\n{self.log}"
            reports = sanitizer_reports(self.directory)
            assert not reports, reports
        finally:
            if self.is_running():
                self.process.kill()
                self.process.wait()
            self.notify.close()


def can_change_user():
    return os.geteuid() == 0
