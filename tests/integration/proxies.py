# SPDX-License-Identifier: MIT
"""Real proxies on loopback (tinyproxy, squid, microsocks), each with its files in a directory of its own, and a hostile one."""
import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

from process import DEADLINE, clean_environment, eventually, free_port

USER, PASSWORD = "joe", "s3cret-of-the-proxy"


def accepts(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class RealProxy:
    """A proxy that runs as a child, never as root; `log` is what it says about connections."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="dps-proxy-"))  # tmp_path is for its owner only
        self.log_file = self.directory / "access.log"
        self.process = None

    def start(self, *command):
        as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if as_user:
            for path in (self.directory, *self.directory.iterdir()):
                shutil.chown(path, "nobody", "nogroup")
        with open(self.directory / "output.log", "wb") as output:
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            env=clean_environment(self.directory), cwd=self.directory, **as_user)
        eventually(lambda: accepts(self.port) or self.process.poll() is not None, DEADLINE, f"{command[0]} does not listen")
        assert self.process.poll() is None, (self.directory / "output.log").read_text()
        return self

    def close(self):
        if self.process:
            self.process.kill()  # Squid takes seconds to stop
            self.process.wait()
        shutil.rmtree(self.directory)

    @property
    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


class Tinyproxy(RealProxy):
    def __init__(self, *lines):
        super().__init__()
        self.port = free_port()
        conf = self.directory / "tinyproxy.conf"
        conf.write_text("\n".join((f"Port {self.port}", "Listen 127.0.0.1", "Timeout 60", f'LogFile "{self.log_file}"', "LogLevel Info",
                                   "MaxClients 20", *lines)) + "\n")
        self.url = f"http://127.0.0.1:{self.port}"
        self.start("tinyproxy", "-d", "-c", conf)

    @property
    def n_tunnels(self):
        return self.log.count("Established connection")


# Squid asks it line by line: YR with the first message of a log-in, then KK with the one that has the proof of the password.
REFUSES_NTLM = """#!/usr/bin/python3
import base64, struct, sys
challenge = b"NTLMSSP\\0" + struct.pack("<IHHIIQQHHI", 2, 0, 0, 48, 0x80201, 0x0123456789abcdef, 0, 0, 0, 48)
for line in sys.stdin:
    if line.startswith("KK"):
        with open("refused.log", "a") as log:
            log.write(line)
    print("TT " + base64.b64encode(challenge).decode() if line.startswith("YR") else "NA wrong", flush=True)
"""


class Squid(RealProxy):
    """scheme: "basic", "digest", "ntlm", which takes any password since it has no domain to ask, or "ntlm-refuses", which takes none.
    pair: key and certificate (PEM), if the proxy itself is reached by TLS."""

    def __init__(self, scheme, *lines, pair=None):
        super().__init__()
        self.port = free_port()
        listens = f"http_port 127.0.0.1:{self.port}"
        if pair:
            (self.directory / "pair.pem").write_bytes(pair)
            listens = f"https_port 127.0.0.1:{self.port} tls-cert={self.directory}/pair.pem"
        passwords = self.directory / "passwords"
        helper = {"basic": f"/usr/lib/squid/basic_ncsa_auth {passwords}", "digest": f"/usr/lib/squid/digest_file_auth {passwords}",
                  "ntlm": "/usr/lib/squid/ntlm_fake_auth", "ntlm-refuses": self.directory / "refuse"}[scheme]
        scheme = scheme.split("-", maxsplit=1)[0]
        (self.directory / "refuse").write_text(REFUSES_NTLM)
        (self.directory / "refuse").chmod(0o755)
        if scheme == "basic":
            crypt = subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], input=PASSWORD, text=True, capture_output=True, check=True)
            passwords.write_text(f"{USER}:{crypt.stdout}")
        else:
            passwords.write_text(f"{USER}:{PASSWORD}\n")
        conf = self.directory / "squid.conf"
        conf.write_text("\n".join((
            listens, f"pid_filename {self.directory}/pid", f"coredump_dir {self.directory}",
            f"cache_log {self.directory}/cache.log", f"access_log stdio:{self.log_file}", "cache deny all", "shutdown_lifetime 0 seconds",
            "visible_hostname localhost", "pinger_enable off",
            f"auth_param {scheme} program {helper}", f"auth_param {scheme} children 1 startup=1",
            *([f"auth_param {scheme} realm proxy"] if scheme != "ntlm" else []), "acl known proxy_auth REQUIRED", *lines, "http_access allow known",
            "http_access deny all")) + "\n")
        self.url = f"{'https' if pair else 'http'}://127.0.0.1:{self.port}"
        self.start("squid", "-N", "-n", f"dps{self.port}", "-f", conf)

    def close(self):
        super().close()
        for left in pathlib.Path("/dev/shm").glob(f"dps{self.port}-*"):  # a Squid that is killed does not remove it
            left.unlink()

    @property
    def n_tunnels(self):
        return self.log.count("TCP_TUNNEL/200")

    @property
    def n_refused(self):
        """Log-ins by NTLM."""
        log = self.directory / "refused.log"
        return log.read_text().count("KK") if log.exists() else 0


class Microsocks(RealProxy):
    def __init__(self, user=None, password=None):
        super().__init__()
        self.port = free_port()
        self.url = f"socks5h://127.0.0.1:{self.port}"
        self.log_file = self.directory / "output.log"
        self.start("microsocks", "-i", "127.0.0.1", "-p", self.port, *(["-u", user, "-P", password] if user else []))

    @property
    def n_tunnels(self):
        return self.log.count("connected to")


class Http2Front(RealProxy):
    """Speaks HTTP/2 for a server of HTTP/1.1, with the same certificate."""

    def __init__(self, server, certificate):
        super().__init__()
        self.port = free_port()
        (self.directory / "server.pem").write_bytes(certificate.read_bytes())
        pem = self.directory / "server.pem"
        self.start("nghttpx", "--conf=/dev/null", "--workers=1", "--insecure", f"--frontend=127.0.0.1,{self.port}",
                   f"--backend=127.0.0.1,{server};;tls;proto=http/1.1", f"--accesslog-file={self.log_file}",
                   "--accesslog-format=$alpn $request", pem, pem)


def available():
    return all(shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("tinyproxy", "squid", "microsocks"))


class HostileProxy:
    """Calls `answer` with each connection, in a thread; notes what was asked first."""

    def __init__(self, answer, scheme="http"):
        self.answer, self.first = answer, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with connection:
            connection.settimeout(DEADLINE)
            try:
                self.first.append(connection.recv(4096))
                self.answer(connection)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def says(data):
    """An answer for HostileProxy: these bytes, and then all that comes is read."""
    def answer(connection):
        connection.sendall(data)
        while connection.recv(4096):
            pass
    return answer


def says_for_ever(data):
    def answer(connection):
        while True:
            connection.sendall(data)
    return answer


def relays(port, **tls):
    """An HTTP proxy that connects everybody to this port, and with certfile and keyfile intercepts TLS."""
    def answer(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(**tls)
            connection = context.wrap_socket(connection, server_side=True)
        with socket.create_connection(("127.0.0.1", port), DEADLINE) as target:
            back = threading.Thread(target=copy, args=(target, connection), daemon=True)
            back.start()
            copy(connection, target)
            back.join(DEADLINE)
    return answer


class Relay:
    """What connects to the listener is passed on to the target, a port of 127.0.0.1."""

    def __init__(self, listener, target):
        self.listener = listener
        self.target = target
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(connection,), daemon=True).start()

    def relay(self, connection):
        with connection:
            try:
                target = socket.create_connection(("127.0.0.1", self.target), DEADLINE)
            except OSError:
                return
            with target:
                back = threading.Thread(target=copy, args=(target, connection), daemon=True)
                back.start()
                copy(connection, target)
                back.join(DEADLINE)

    def close(self):
        """A thread that waits in accept() would keep the listener open; the shutdown ends its wait."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def mirrors(*ports):
    """What listens on 127.0.0.1 is found on ::1 as well: "localhost" is both in most /etc/hosts, and some proxies try its first
    address alone. Left out where there is no IPv6, and where it listens there itself."""
    started = []
    for port in ports:
        with contextlib.suppress(OSError):
            started.append(Relay(socket.create_server(("::1", port), family=socket.AF_INET6), port))
    return started


def copy(source, destination):
    try:
        while data := source.recv(65536):
            destination.sendall(data)
        destination.shutdown(socket.SHUT_WR)
    except OSError:
        pass
