# SPDX-License-Identifier: MIT
"""A software TPM (swtpm) of a test's own, and tpm2-tools to look into it."""
import base64
import glob
import hashlib
import os
import shutil
import socket
import socketserver
import subprocess
import threading

from process import DEADLINE, clean_environment, eventually
from proxies import Relay

FETCHED = os.environ.get("DPS_RESOURCE_MANAGER", "")  # a directory with the files of packages
EK, SRK, KEY = "0x81010001", "0x81000001", "0x81000100"
MODULES = ("check/check.so", "credential/hardware-key.so", "credential/issuance.so", "credential/tpm.so", "dpsd/api.so", "transport/https.so",
           "transport/mqtt.so", "transport/transport.so")


def hold(port):
    """A socket that has the port and does not listen yet: who connects is refused."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", port))
    except BaseException:
        held.close()
        raise
    return held


def hold_pair():
    """A free port and the next one, where the TCTI for swtpm expects the control channel."""
    while True:
        one = hold(0)
        try:
            return [one, hold(one.getsockname()[1] + 1)]
        except (OSError, OverflowError):
            one.close()


def free_pair():
    pair = hold_pair()
    port = pair[0].getsockname()[1]
    for held in pair:
        held.close()
    return port


class Tpm:
    """Its ports stay the same over a stop and a start. swtpm gets others each time: it does not set SO_REUSEADDR, and the kernel keeps
    a port for a minute after its connections were closed. Who connects while it is stopped is refused."""

    def __init__(self, directory):
        self.directory = directory
        self.state = directory / "tpm"
        self.state.mkdir()
        self.held = hold_pair()
        self.port = self.held[0].getsockname()[1]
        self.relays = []
        self.inner_port = 0
        self.process = None

    @property
    def tcti(self):
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def start(self):
        eventually(self.is_started, DEADLINE, f"the software TPM: {self.directory}/swtpm.log")
        for k, held in enumerate(self.held):
            held.listen()
            self.relays.append(Relay(held, self.inner_port + k))
        self.held = []
        return self

    def spawn(self):
        self.inner_port = free_pair()
        with open(self.directory / "swtpm.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}", "--server", f"type=tcp,port={self.inner_port}",
                 "--ctrl", f"type=tcp,port={self.inner_port + 1}", "--flags", "not-need-init,startup-clear"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def is_started(self):
        """It ends at once if somebody else took one of its ports; then it is started on others."""
        if self.process is None or self.process.poll() is not None:
            self.spawn()
        try:
            socket.create_connection(("127.0.0.1", self.inner_port + 1), DEADLINE).close()
            return True
        except ConnectionRefusedError:
            return False

    def stop(self):
        for relay in self.relays:
            relay.close()
        if self.relays:
            self.relays = []
            self.held = [hold(self.port), hold(self.port + 1)]
        if self.process:
            self.process.kill()
            self.process.wait(DEADLINE)
            self.process = None

    def close(self):
        self.stop()
        for held in self.held:
            held.close()

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


def resource_manager():
    """The program, or None. tests/run fetches its package without installing it: its service would wait for a TPM at each boot."""
    return shutil.which("tpm2-abrmd", path=f"{FETCHED}/usr/sbin:/usr/sbin:/usr/bin")


class ResourceManager:
    """As the kernel's behind /dev/tpmrm0: a TPM alone has three places, and a whole TLS session of OpenSSL's needs more. Programs find it
    by what is in `environment`."""

    def __init__(self, directory, tcti):
        self.processes = []
        bus = self.spawn(directory, "dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1")
        address = bus.stdout.readline().decode().strip()
        self.environment = {"DBUS_SESSION_BUS_ADDRESS": address, "TPM2OPENSSL_TCTI": "tabrmd:bus_type=session",
                            "LD_LIBRARY_PATH": ":".join(glob.glob(f"{FETCHED}/usr/lib/*")) if FETCHED else ""}
        self.spawn(directory, resource_manager(), "--session", "--allow-root", f"--tcti={tcti}", DBUS_SESSION_BUS_ADDRESS=address)
        eventually(lambda: subprocess.run(["busctl", f"--address={address}", "status", "com.intel.tss2.Tabrmd"], capture_output=True,
                                          check=False).returncode == 0, DEADLINE, "the resource manager to come")

    def spawn(self, directory, *command, **environment):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   env=clean_environment(directory, **environment))
        self.processes.insert(0, process)
        return process

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait(DEADLINE)
            process.stdout.close()


def default_id(endorsement_key):
    """The registration id of a device that has no other."""
    digest = hashlib.sha256(base64.b64decode(endorsement_key)).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def enroll(emulator, registration_id, endorsement_key, **more):
    emulator.add({"individualEnrollments": [{
        "registrationId": registration_id,
        "attestation": {"type": "tpm", "tpm": {"endorsementKey": endorsement_key}}} | more]})


def modules(directory, build, names=MODULES):
    """A directory with the modules that were built; those of the build are not beside each other."""
    directory.mkdir(mode=0o755, exist_ok=True)
    for name in (name for name in names if (build / "src" / name).exists()):
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
