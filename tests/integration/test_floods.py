# SPDX-License-Identifier: MIT
"""Peers that send without end. What they can cost is bounded in bytes and packets, whatever a library makes of them, and the
loop comes round: status is answered meanwhile."""
import pathlib
import re
import socket
import struct

import pytest

from hostile import acknowledge, both, publish, raw
from process import BUILD, DEADLINE, eventually
from proxies import HostileProxy
from tpm import modules

HELLO_REQUEST = b"\x16\x03\x03\x00\x04" + bytes(4)  # OpenSSL skips it, as often as it comes
BUDGET = 256 << 10  # before TLS is proven
IN_FLIGHT = 8 << 20  # what the kernel may hold between the two
ENOUGH = 64 << 20  # a peer that could send so much was not cut off


class Flood:
    """Listens; says `before` to everybody who has said something, and then the same records without end. `sent`: how many
    bytes one of them took, for each that is gone."""

    def __init__(self, before=b""):
        self.sent, self.n_begun = [], 0
        self.before = before
        self.peer = HostileProxy(self.answer)
        self.port = self.peer.port

    def answer(self, connection):
        if self.before:
            connection.sendall(self.before)
            connection.recv(65536)  # the handshake through the tunnel
        many, n = HELLO_REQUEST * 1000, 0
        self.n_begun += 1
        try:
            while n < ENOUGH:
                n += connection.send(many)
        except OSError:
            pass
        self.sent.append(n)

    def wait_until_cut_off(self):
        eventually(lambda: self.sent, DEADLINE, "the connection to be closed")
        assert self.sent[0] < BUDGET + IN_FLIGHT

    def close(self):
        self.peer.close()


@pytest.fixture(params=["mqtt", "mqtt-through-connect", "https", "https-through-connect", "https-through-tls"])
def way(request, gateway, emulator):
    """A gateway whose way to DPS leads to a flood, and the flood."""
    is_https, is_tunnel = "https" in request.param.split("-")[0], "connect" in request.param
    if is_https and not (BUILD / "src/transport/https.so").exists():
        pytest.skip("built without libcurl")
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    flood = Flood(b"HTTP/1.1 200 OK\r\n\r\n" if is_tunnel else b"")
    settings = {"Transport": "https" if is_https else "mqtt"}
    if "-" in request.param:
        settings["Proxy"] = f"http{'s' if 'tls' in request.param else ''}://127.0.0.1:{flood.port}"
    else:
        settings["HttpsPort" if is_https else "MqttPort"] = flood.port
    gateway.identity(provisioning=settings)
    yield flood
    flood.close()


def test_a_flood_before_tls_is_proven_costs_its_budget_and_an_attempt(gateway, way):
    gateway.start()
    properties = gateway.wait_for(check=lambda p: p["LastErrorId"])
    assert properties["LastErrorId"] in ("tls", "proxy"), properties["LastError"]
    way.wait_until_cut_off()
    assert gateway.dpsctl("status").code == 3
    assert gateway.end(timeout=10) == 0


def test_check_is_cut_off_as_well(gateway):
    flood = Flood()
    gateway.start()
    gateway.identity(key="a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ==", provisioning={"MqttPort": flood.port, "Transport": "mqtt"})
    found = gateway.dpsctl("check", "gateway")
    assert found.code == 1 and re.search("TLS.*sends more data than any exchange has", found.out), found.out
    flood.wait_until_cut_off()
    flood.close()


# ---- after the log-in ----


def memory_kb(gateway):
    status = pathlib.Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


class Deaf:
    """Sends small messages without end, and reads nothing from now on: our acknowledgements stay with us."""

    def __init__(self, qos):
        self.qos, self.n_sent = qos, None

    def __call__(self, session, request):
        session.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.n_sent = 0
        try:
            while self.n_sent < ENOUGH // 10:
                session.send(b"".join(publish("x", b"", self.qos, mid) for mid in range(1, 1001)))
                self.n_sent += 1000
        finally:
            self.is_over = True


@pytest.mark.parametrize("qos", [1, 2])
def test_acknowledgements_that_a_server_does_not_read_do_not_pile_up(lone_gateway, make_peer, qos):
    flood = Deaf(qos)
    make_peer("gateway", {"register": flood})
    lone_gateway.start()
    before = memory_kb(lone_gateway)
    properties = lone_gateway.wait_for(check=lambda p: p["LastErrorId"])
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("protocol", "register"), properties["LastError"]
    eventually(lambda: hasattr(flood, "is_over"), DEADLINE, "the connection to be closed")
    assert flood.n_sent < ENOUGH // 10
    assert memory_kb(lone_gateway) < before + 8 * 1024


def test_one_huge_message_costs_no_more_than_an_answer(lone_gateway, make_peer):
    sent = []

    def huge(session, request):
        for _ in range(256 * 16):
            session.send(b"x" * 65536)
            sent.append(65536)

    peer = make_peer("gateway", {"register": both(acknowledge, raw(b"\x32\xff\xff\xff\x7f" + struct.pack(">H", 4) + b"$dps"), huge)})
    lone_gateway.start()
    before = memory_kb(lone_gateway)
    properties = lone_gateway.wait_for(check=lambda p: p["LastErrorId"])
    assert properties["LastErrorId"] == "protocol" and "more data" in properties["LastError"]
    peer.wait_for("end")
    assert sum(sent) < (512 << 10) + IN_FLIGHT
    assert memory_kb(lone_gateway) < before + 8 * 1024
