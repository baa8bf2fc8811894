# SPDX-License-Identifier: MIT
"""Runs programs in namespaces of their own, by Program.wrapper."""
import os
import pathlib
import subprocess

import pytest

SET_LOOPBACK = """
import fcntl, socket, struct, sys
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, IFF_UP = 0x8914, 0x8916, 0x891c, 1
def set_address(request, address):
    fcntl.ioctl(s, request, struct.pack("16sH2x4s8x", b"lo", socket.AF_INET, socket.inet_aton(address)))
def set_flags(flags):
    fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    if int(sys.argv[1]):
        set_flags(IFF_UP)
        set_address(SIOCSIFADDR, "127.0.0.1")
        set_address(SIOCSIFNETMASK, "255.0.0.0")
    else:
        set_address(SIOCSIFADDR, "0.0.0.0")
        set_flags(0)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount and make namespaces")
needs_secrets = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into a process with secrets")
needs_another_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def mounted(script):
    """Returns a wrapper that runs a program in a mount namespace, after the shell script."""
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", f'{script} && exec "$@"', "sh"]


def inside(program, *command):
    """Runs a command in the namespaces of a running program."""
    subprocess.run(["nsenter", f"--target={program.pid}", "--mount", "--net", "--root", *map(str, command)], check=True,
                   stdin=subprocess.DEVNULL)


class Network:
    """A network namespace with only a loopback interface, which has no route until set_up()."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE)
        assert self.holder.stdout.read(1), "no network namespace"
        self.wrapper = ["nsenter", f"--target={self.holder.pid}", "--net"]

    def set_up(self, on=True):
        subprocess.run([*self.wrapper, "/usr/bin/python3", "-c", SET_LOOPBACK, str(int(on))], check=True, stdin=subprocess.DEVNULL)

    def ip(self, *words):
        """Runs ip(8) in the namespace."""
        subprocess.run([*self.wrapper, "ip", *map(str, words)], check=True, stdin=subprocess.DEVNULL)

    def add_link(self, name, address):
        """Adds an interface with this MAC address, which is not a permanent one. The interface is up and has a carrier."""
        peer = f"{name}-peer"
        self.ip("link", "add", name, "address", address, "type", "veth", "peer", "name", peer)
        for end in (name, peer):
            self.ip("link", "set", end, "up")

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def seen_by(program, path):
    """Returns a path that leads to what a program in another mount namespace sees at `path`."""
    return pathlib.Path(f"/proc/{program.pid}/root{path}")
