# SPDX-License-Identifier: MIT
"""A software TPM (swtpm) of a test's own, and tpm2-tools to look into it."""
import base64
import hashlib
import os
import socket
import socketserver
import subprocess
import threading

from process import DEADLINE, clean_environment, eventually

EK, SRK, KEY = "0x81010001", "0x81000001", "0x81000100"
MODULES = ("check/check.so", "credential/tpm.so", "transport/https.so")


def free_pair():
    """A port that is free, as is the next one, where the TCTI for swtpm expects the control channel."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
                return port
            except (OSError, OverflowError):
                continue


class Tpm:
    def __init__(self, directory):
        self.directory = directory
        self.state = directory / "tpm"
        self.state.mkdir()
        self.port = 0
        self.process = None

    @property
    def tcti(self):
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def is_listening(self):
        try:
            socket.create_connection(("127.0.0.1", self.port + 1), DEADLINE).close()
            return True
        except ConnectionRefusedError:
            return False

    def start(self):
        """After a stop on the same port."""
        self.port = self.port or free_pair()
        eventually(self.is_started, DEADLINE, f"the software TPM: {self.directory}/swtpm.log")
        return self

    def spawn(self):
        with open(self.directory / "swtpm.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}", "--server", f"type=tcp,port={self.port}",
                 "--ctrl", f"type=tcp,port={self.port + 1}", "--flags", "not-need-init,startup-clear"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_started(self):
        """The kernel may keep the port of the last one for a while, and then swtpm ends at once."""
        if self.process is None or self.process.poll() is not None:
            self.spawn()
        return self.is_listening()

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(DEADLINE)
            self.process = None

    def run(self, tool, *arguments, text=None, fails=False, flush=True):
        done = subprocess.run([f"tpm2_{tool}", *map(str, arguments)], cwd=self.directory, input=text, capture_output=True, check=False,
                              timeout=DEADLINE, env=clean_environment(self.directory, TPM2TOOLS_TCTI=self.tcti, HOME=self.directory))
        if not fails:
            assert done.returncode == 0, f"tpm2_{tool} {arguments}: {done.stderr.decode()}"
        # Without a resource manager, what a tool leaves behind takes one of three places.
        if flush and tool != "flushcontext":
            self.run("flushcontext", "-t", fails=True)
        return done.stdout.decode(errors="replace")

    def persistent(self):
        """The handles of its persistent objects."""
        return sorted(line.removeprefix("- ").lower() for line in self.run("getcap", "handles-persistent").splitlines())

    def transient(self):
        return self.run("getcap", "handles-transient").split() + self.run("getcap", "handles-loaded-session").split()

    def public(self, handle):
        """The public part of an object, as DPS gets it."""
        self.run("readpublic", "-c", handle, "-f", "tss", "-o", "public.bin")
        return base64.b64encode((self.directory / "public.bin").read_bytes()).decode()

    def make_keys(self):
        """As a factory does, with the tools' own templates."""
        self.run("createek", "-c", EK, "-G", "rsa", "-u", "ek.pub")
        self.run("createprimary", "-C", "o", "-g", "sha256", "-G", "rsa2048:aes128cfb", "-c", "srk.ctx", "-a",
                 "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda")
        self.run("evictcontrol", "-C", "o", "-c", "srk.ctx", SRK)
        return self.public(EK)

    def make_stranger(self, handle=KEY):
        """An object of somebody else's at the handle."""
        self.run("createprimary", "-C", "o", "-G", "ecc", "-c", "stranger.ctx")
        self.run("evictcontrol", "-C", "o", "-c", "stranger.ctx", handle)
        return self.public(handle)


def default_id(endorsement_key):
    """The registration id of a device that has no other."""
    digest = hashlib.sha256(base64.b64decode(endorsement_key)).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def enroll(emulator, registration_id, endorsement_key, **more):
    emulator.add({"individualEnrollments": [{
        "registrationId": registration_id,
        "attestation": {"type": "tpm", "tpm": {"endorsementKey": endorsement_key}}} | more]})


def modules(directory, build):
    """A directory with the modules that were built; those of the build are not beside each other."""
    directory.mkdir(mode=0o755, exist_ok=True)
    for name in (name for name in MODULES if (build / "src" / name).exists()):
        path = directory / name.split("/")[-1]
        path.write_bytes((build / "src" / name).read_bytes())
        os.chmod(path, 0o755)
    return directory


class SulkingTpm:
    """Answers every command with the same code."""

    def __init__(self, code):
        self.code = code
        self.port = free_pair()
        self.servers = [socketserver.ThreadingTCPServer(("127.0.0.1", self.port + k), self.handler(answer))
                        for k, answer in enumerate((self.answer_command, self.answer_control))]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def tcti(self):
        return f"swtpm:host=127.0.0.1,port={self.port}"

    @staticmethod
    def handler(answer):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while reply := answer(self.rfile):
                    self.wfile.write(reply)

        return Handler

    def answer_command(self, stream):
        head = stream.read(10)
        if len(head) < 10:
            return b""
        stream.read(int.from_bytes(head[2:6], "big") - 10)
        return b"\x80\x01\x00\x00\x00\x0a" + self.code.to_bytes(4, "big")

    @staticmethod
    def answer_control(stream):
        return b"\0\0\0\0" if len(stream.read1(64)) > 0 else b""

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
