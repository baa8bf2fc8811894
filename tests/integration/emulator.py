# SPDX-License-Identifier: MIT
"""The offline DPS: a test starts it, changes it and reads its log."""
import base64
import json
import os
import socket
import ssl
import subprocess

from process import DEADLINE, Program, clean_environment, eventually, free_port, program

ID_SCOPE = "0ne00AABBCC"
SLOW = {"assigningTime": 600, "retryAfter": 1}  # a device is polled for until the test has it assigned


class Emulator(Program):
    def __init__(self, directory):
        super().__init__(directory, "dps-emulator")
        self.state = self.directory / "state"
        self.port, self.https_port = free_port(), free_port()
        self.ready = {}
        self.enrollments = {
            "idScope": ID_SCOPE, "retryAfter": 0, "assigningTime": 0, "hubs": ["hub-1.example", "hub-2.example"],
            "individualEnrollments": [], "enrollmentGroups": [],
        }

    @property
    def ca_file(self):
        return self.state / "ca.pem"

    def start(self, *arguments):
        """Starts it; after a stop on the same port, with the same enrollments."""
        if not self.ready:
            (self.directory / "enrollments.json").write_text(json.dumps(self.enrollments))
            arguments = (f"--enrollments={self.directory / 'enrollments.json'}", *arguments)
        self.spawn(f"--state={self.state}", f"--port={self.port}", f"--https-port={self.https_port}", *arguments)
        line = self.out.wait_for(lambda lines: lines[:1], DEADLINE, f"the emulator's ready line ({self.log_file})")[0]
        self.ready = json.loads(line)
        self.port, self.https_port = self.ready["port"], self.ready["httpsPort"]
        return self

    def stop(self):
        code = self.end()
        assert code == 0, f"dps-emulator ended with {code}:\n{self.log}"

    def ctl(self, *arguments, text=None):
        done = subprocess.run([program("dps-emulator"), "ctl", f"--state={self.state}", *map(str, arguments)], text=True,
                              env=clean_environment(self.directory), input=text or "", capture_output=True, timeout=DEADLINE,
                              check=False)
        assert done.returncode == 0, f"dps-emulator ctl {arguments}: {done.returncode}: {done.stderr}"
        return done.stdout

    def enroll(self, registration_id, key=None, **more):
        """Adds an individual enrollment with a symmetric key; returns the key (base64)."""
        key = key or base64.b64encode(os.urandom(32)).decode()
        other = base64.b64encode(os.urandom(32)).decode()
        self.add({"individualEnrollments": [{
            "registrationId": registration_id,
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": other}},
        } | more]})
        return key

    def enroll_group(self, group_id, key=None, **more):
        """Adds an enrollment group with a symmetric key; returns the key (base64)."""
        key = key or base64.b64encode(os.urandom(64)).decode()
        other = base64.b64encode(os.urandom(64)).decode()
        self.add({"enrollmentGroups": [{
            "enrollmentGroupId": group_id,
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": other}},
        } | more]})
        return key

    def add(self, enrollments):
        """Adds enrollments, written as in the enrollments file, before the start or while it runs."""
        if self.is_running():
            self.ctl("enroll", "-", text=json.dumps(enrollments))
            return
        for kind, entries in enrollments.items():
            self.enrollments[kind] += entries

    def certificate(self, device_id):
        """Makes a certificate from the test device CA and its key; returns their paths."""
        done = subprocess.run([program("dps-emulator"), "certificate", f"--state={self.state}", device_id,
                               f"--out={self.directory}"], env=clean_environment(self.directory), text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, f"dps-emulator certificate {device_id}: {done.stderr}"
        return self.directory / f"{device_id}.pem", self.directory / f"{device_id}.key"

    def set(self, which, **values):
        """set("gateway", provisioningStatus="disabled") changes an enrollment; "*" means the whole service."""
        self.ctl("set", which, *(f"{key}={value if isinstance(value, str) else json.dumps(value)}"
                                 for key, value in values.items()))

    def script(self, which, *answers):
        self.ctl("script", which, *answers)

    def assign(self, which):
        """Assigns a device that was enrolled as SLOW."""
        self.script(which, "poll:200,status=assigned")

    def clear_script(self, which):
        self.ctl("script", which, "--clear")

    def drop(self, which=None):
        self.ctl("drop", *([which] if which else []))

    def hub_connack(self, client_id, username, password):
        """Logs in at the hub; returns the code of the CONNACK."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as plain:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            with context.wrap_socket(plain, server_hostname="localhost") as s:
                texts = [text.encode() for text in (client_id, username, password)]
                body = b"\0\4MQTT\4\xc2\0\x3c" + b"".join(len(text).to_bytes(2, "big") + text for text in texts)
                size, head = len(body), bytearray(b"\x10")
                while size > 127:
                    head.append(size % 128 | 128)
                    size //= 128
                s.sendall(bytes(head) + bytes([size]) + body)
                answer = s.recv(4)
        assert len(answer) == 4 and answer[0] == 0x20, answer
        return answer[3]

    def list(self):
        return json.loads(self.ctl("list"))

    def requests(self, event=None, registration_id=None):
        """The requests that it got, the oldest first. The end of a connection is none: it may be noted any time later."""
        return [entry for entry in self.events(registration_id)
                if (entry["event"] != "disconnect" if event is None else entry["event"] == event)]

    def events(self, registration_id=None):
        """All that it noted, the oldest first."""
        path = self.state / "requests.jsonl"
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8")
        entries = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]
        return [entry for entry in entries if registration_id in (None, entry.get("registrationId"))]

    def wait_for_requests(self, n, event=None, registration_id=None, timeout=DEADLINE):
        def enough():
            requests = self.requests(event, registration_id)
            return requests if len(requests) >= n else None

        return eventually(enough, timeout, f"{n} × {event or 'request'}")
