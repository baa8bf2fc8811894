# SPDX-License-Identifier: MIT
"""Real proxies on loopback (tinyproxy, squid, microsocks), each with its files in a directory of its own, and a hostile one."""
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading

from process import DEADLINE, clean_environment, eventually

USER, PASSWORD = "joe", "s3cret-of-the-proxy"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def accepts(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class RealProxy:
    """A proxy that runs as a child; `log` is what it says about connections."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir()
        self.directory.chmod(0o777)  # started by root, some change to another user
        self.log_file = self.directory / "access.log"
        self.process = None

    def start(self, *command):
        with open(self.directory / "output.log", "wb") as output:
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                            env=clean_environment(self.directory), cwd=self.directory)
        eventually(lambda: accepts(self.port) or self.process.poll() is not None, DEADLINE, f"{command[0]} does not listen")
        assert self.process.poll() is None, (self.directory / "output.log").read_text()
        return self

    def close(self):
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


class Tinyproxy(RealProxy):
    def __init__(self, directory, *lines):
        super().__init__(directory)
        self.port = free_port()
        conf = self.directory / "tinyproxy.conf"
        conf.write_text("\n".join((f"Port {self.port}", "Listen 127.0.0.1", "Timeout 60", f'LogFile "{self.log_file}"', "LogLevel Info",
                                   "MaxClients 20", *lines)) + "\n")
        self.url = f"http://127.0.0.1:{self.port}"
        self.start("tinyproxy", "-d", "-c", conf)

    @property
    def n_tunnels(self):
        return self.log.count("CONNECT")


class Squid(RealProxy):
    """scheme: "basic" or "digest"."""

    def __init__(self, directory, scheme, *lines):
        super().__init__(directory)
        self.port = free_port()
        passwords = self.directory / "passwords"
        helper = "/usr/lib/squid/basic_ncsa_auth" if scheme == "basic" else "/usr/lib/squid/digest_file_auth"
        if scheme == "basic":
            crypt = subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], input=PASSWORD, text=True, capture_output=True, check=True)
            passwords.write_text(f"{USER}:{crypt.stdout}")
        else:
            passwords.write_text(f"{USER}:{PASSWORD}\n")
        conf = self.directory / "squid.conf"
        conf.write_text("\n".join((
            f"http_port 127.0.0.1:{self.port}", f"pid_filename {self.directory}/pid", f"coredump_dir {self.directory}",
            f"cache_log {self.directory}/cache.log", f"access_log stdio:{self.log_file}", "cache deny all", "shutdown_lifetime 0 seconds",
            "cache_effective_user proxy", "visible_hostname localhost", "pinger_enable off",
            f"auth_param {scheme} program {helper} {passwords}", f"auth_param {scheme} children 1 startup=1",
            f"auth_param {scheme} realm proxy", "acl known proxy_auth REQUIRED", *lines, "http_access allow known",
            "http_access deny all")) + "\n")
        self.url = f"http://127.0.0.1:{self.port}"
        self.start("squid", "-N", "-n", f"dps{self.port}", "-f", conf)

    @property
    def n_tunnels(self):
        return self.log.count("TCP_TUNNEL/200")


class Microsocks(RealProxy):
    def __init__(self, directory, user=None, password=None):
        super().__init__(directory)
        self.port = free_port()
        self.url = f"socks5h://127.0.0.1:{self.port}"
        self.log_file = self.directory / "output.log"
        self.start("microsocks", "-i", "127.0.0.1", "-p", self.port, *(["-u", user, "-P", password] if user else []))

    @property
    def n_tunnels(self):
        return self.log.count("connected to")


def available():
    return all(shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("tinyproxy", "squid", "microsocks"))
