# SPDX-License-Identifier: MIT
"""A network that is missing, comes late or misleads. It consists of loopback interfaces in namespaces of the test's own."""
import contextlib
import json
import os
import signal
import socket

import pytest

from clock import Clock
from namespace import Network, mounted, needs_root
from process import BUILD, DEADLINE, free_port
from tpm import modules

pytestmark = needs_root
KEY = "a2V5LW9mLXNpeHRlZW4tYnl0ZXMtb3ItbW9yZQ=="
QUERY = 8  # seconds for which the resolver waits for the server
NAME = "localhost"  # a name in the emulator's certificate, besides its address


def resolve_by(gateway, tmp_path, hosts="", servers=""):
    """Gives the gateway its own /etc/hosts and /etc/resolv.conf from the next start on; returns the path of the hosts file."""
    for name, content in (("hosts", hosts), ("resolv.conf", servers), ("nsswitch.conf", "hosts: files dns\n")):
        (tmp_path / name).write_text(content)
    gateway.wrapper = mounted(" && ".join(f"mount --bind {tmp_path / name} /etc/{name}"
                                          for name in ("hosts", "resolv.conf", "nsswitch.conf")))
    return tmp_path / "hosts"


# ---- names ----


@pytest.fixture
def silent_server():
    """A DNS server that receives every question and answers none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(DEADLINE)
        # Other processes may run the same test at the same time.
        s.bind((f"127.83.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}", 53))
        yield s


def test_a_silent_dns_server_blocks_nothing(gateway, emulator, tmp_path, silent_server):
    hosts = resolve_by(gateway, tmp_path, servers=f"nameserver {silent_server.getsockname()[0]}\noptions timeout:{QUERY} attempts:1\n")
    gateway.identity(provisioning={"Endpoint": NAME + ".example"})
    gateway.start()
    assert silent_server.recv(512)  # from now on the daemon waits for the answer
    result = gateway.dpsctl("status", "--json=short")
    assert result.code == 3 and result.json["identities"][0]["State"] == "provisioning"
    assert gateway.properties("gateway")["LastErrorId"] == ""  # it still waits

    properties = gateway.wait_for(State="provisioning", Waiting="network", timeout=QUERY + DEADLINE)
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("dns", "resolve")
    assert NAME + ".example" in properties["LastError"]
    assert hosts.read_text() == "" and not emulator.requests()


def test_each_attempt_looks_the_name_up_again(gateway, tmp_path, silent_server):
    hosts = resolve_by(gateway, tmp_path, servers=f"nameserver {silent_server.getsockname()[0]}\noptions timeout:1 attempts:1\n")
    gateway.identity(provisioning={"Endpoint": NAME})
    gateway.start()
    gateway.wait_for(LastErrorId="dns")
    hosts.write_text(f"127.0.0.1 {NAME}\n")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert gateway.wait_for(State="assigned")["Healthy"]


# ---- addresses ----


@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1"), ("::1", "127.0.0.1")], ids="-".join)
def test_after_an_address_that_refuses_the_next_is_tried(gateway, emulator, tmp_path, addresses):
    """This happens within one attempt, whichever address comes first."""
    resolve_by(gateway, tmp_path, hosts="".join(f"{address} {NAME}\n" for address in addresses))
    gateway.identity(provisioning={"Endpoint": NAME})
    gateway.start()
    properties = gateway.wait_for(State="assigned")
    assert properties["Healthy"]
    assert [t["state"] for t in gateway.remembered()["transitions"]] == ["provisioning", "assigned"]
    assert "refused" not in gateway.whole_log()
    assert len(emulator.requests("connect")) == 1


@contextlib.contextmanager
def black_hole(address, port):
    """Like a firewall that drops packets: the queue of the listener is full, so that the kernel answers nothing more."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((address, port), backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield


@pytest.mark.parametrize("dead", ["127.0.0.1", "127.0.0.2"])
def test_after_a_silent_address_the_next_is_tried(gateway, emulator, tmp_path, dead):
    """There are two tests, because the resolver decides which address comes first."""
    alive = "127.0.0.2" if dead == "127.0.0.1" else "127.0.0.1"
    emulator.stop()
    emulator.start(f"--listen={alive}")
    resolve_by(gateway, tmp_path, hosts=f"{dead} {NAME}\n{alive} {NAME}\n")
    gateway.identity(provisioning={"Endpoint": NAME})
    with black_hole(dead, emulator.port):
        gateway.start()
        properties = gateway.wait_for(State="assigned")
    assert properties["Healthy"] and len(emulator.requests("connect")) == 1
    assert [t["state"] for t in gateway.remembered()["transitions"]] == ["provisioning", "assigned"]


# ---- HTTPS ----


@pytest.fixture
def https(gateway, emulator):
    if not (BUILD / "src/transport/https.so").exists():
        pytest.skip("built without libcurl")
    gateway.surroundings["DPS_MODULE_DIRECTORY"] = modules(gateway.directory / "modules", BUILD)
    return {"Transport": "https", "HttpsPort": emulator.https_port}


def test_over_https_an_address_is_tried_where_another_name_has_no_answer(gateway, emulator, tmp_path, silent_server, https):
    clock = Clock(tmp_path)
    clock.rule(gateway)
    resolve_by(gateway, tmp_path, servers=f"nameserver {silent_server.getsockname()[0]}\noptions timeout:30 attempts:5\n")
    gateway.identity(provisioning=https | {"Address": f"127.0.0.1 {NAME}.example", "Endpoint": NAME})
    gateway.start()
    assert silent_server.recv(512)
    clock.pass_by(21)
    gateway.process.send_signal(signal.SIGHUP)  # makes it look at the time
    assert gateway.wait_for(State="assigned")["Attempts"] == 0
    clock.close()


def test_over_https_a_silent_port_is_told_apart_from_a_silent_server(gateway, tmp_path, https):
    port = free_port()
    gateway.identity(provisioning=https | {"HttpsPort": port})
    with black_hole("127.0.0.1", port):
        gateway.start()
        properties = gateway.wait_for(check=lambda p: p["LastErrorId"], timeout=2 * DEADLINE)
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("timeout", "connect"), properties["LastError"]


# ---- links ----


def remember_failures(gateway, name):
    """Writes a record with eight failures, so that the next wait takes minutes."""
    (gateway.state / f"{name}.json").write_text(json.dumps({"version": 1, "attempts": 8}))


@pytest.fixture
def network(gateway, emulator):
    """One network for the gateway and the emulator; it is up."""
    network = Network()
    network.set_up()
    emulator.stop()
    emulator.wrapper = gateway.wrapper = network.wrapper
    emulator.start()
    yield network
    network.close()


def test_a_network_that_comes_late_is_used_at_once(gateway, network):
    """The daemon does not wait until the back-off ends."""
    network.set_up(False)
    remember_failures(gateway, "gateway")
    gateway.identity()
    gateway.start()
    properties = gateway.wait_for(State="provisioning", Waiting="network")
    assert (properties["LastErrorId"], properties["LastErrorStep"]) == ("unreachable", "connect")
    planned = properties["NextAttemptAt"]
    assert planned > properties["LastErrorAt"] + 4 * 60 * 1_000_000
    network.set_up()
    assert gateway.wait_for(State="assigned")["LastSuccessAt"] < planned


def test_an_interface_that_comes_late_gives_the_registration_id(gateway, emulator, network):
    """At once, and not at the next regular check. /sys shows another network here."""
    gateway.identity(registration_id="gw-%{mac:late0}", key=emulator.enroll("gw-02005e100007"))
    gateway.start()
    properties = gateway.wait_for(State="unprovisioned", Waiting="network")
    assert "late0" in properties["LastError"] and not emulator.requests()
    planned = properties["NextAttemptAt"]
    network.add_link("late0", "02:00:5e:10:00:07")
    properties = gateway.wait_for(State="assigned", Healthy=True)
    assert properties["RegistrationId"] == properties["DeviceId"] == "gw-02005e100007"
    assert properties["LastSuccessAt"] < planned
    assert gateway.connection()["deviceId"] == "gw-02005e100007"


def test_a_replaced_interface_does_not_change_a_running_identity(gateway, emulator, network):
    """The registration id stays the same until a reload."""
    network.add_link("late0", "02:00:5e:10:00:07")
    gateway.identity(registration_id="gw-%{mac:late0}", key=emulator.enroll("gw-02005e100007"))
    gateway.start()
    gateway.wait_for(State="assigned")
    network.ip("link", "delete", "late0")
    network.add_link("late0", "02:00:5e:10:00:08")
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    properties = gateway.properties("gateway")
    assert properties["RegistrationId"] == "gw-02005e100007" and properties["Healthy"]


@pytest.mark.parametrize("what", ["address", "route"])
def test_a_new_address_or_route_ends_a_wait_three_times_an_hour(gateway, emulator, network, what):
    """After three times in an hour it no longer does. What appears while an attempt is about to start does not count."""
    def appear(n):
        network.ip(what, "add", f"192.0.2.{n}/32", "dev", "lo")

    emulator.stop()
    for name in ("gateway", "other"):
        remember_failures(gateway, name)
    gateway.identity(key=KEY)
    gateway.start()
    soon = gateway.wait_for(Waiting="retry", LastErrorId="refused", Attempts=9)["NextAttemptAt"]
    for attempts in (10, 11, 12):
        appear(2 * attempts)
        gateway.wait_for(check=lambda p: p["NextAttemptAt"] < soon or p["Attempts"] >= attempts)
        appear(2 * attempts + 1)
        soon = gateway.wait_for(Waiting="retry", check=lambda p: p["Attempts"] >= attempts)["NextAttemptAt"]
    gateway.identity("other", key=KEY)
    gateway.reload()
    gateway.wait_for("other", Waiting="retry", Attempts=9)
    appear(1)
    gateway.wait_for("other", Attempts=10)
    assert gateway.properties("gateway")["Attempts"] == 12


def test_a_lost_network_takes_no_assignment_away(gateway, emulator, network):
    gateway.identity()
    gateway.start()
    before = gateway.wait_for(State="assigned")
    network.set_up(False)
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 1
    properties = gateway.wait_for(LastErrorId="unreachable")
    assert (properties["State"], properties["Waiting"], properties["Healthy"]) == ("assigned", "network", False)
    assert properties["Generation"] == before["Generation"] and gateway.connection()["hub"] == before["AssignedHub"]
    network.set_up()
    assert gateway.wait_for(Healthy=True)["LastSuccessAt"] > before["LastSuccessAt"]


def test_a_healthy_gateway_ignores_changes_of_the_network(gateway, emulator, network):
    """The network comes and goes, and DPS is not asked because of that."""
    gateway.identity()
    gateway.start()
    gateway.wait_for(State="assigned")
    asked = len(emulator.requests())
    for _ in range(5):
        network.set_up(False)
        network.set_up()
    marker = gateway.identity("marker")
    gateway.reload()
    gateway.wait_for("marker", State="assigned")
    assert marker.exists() and len(emulator.requests("register", "gateway")) == 1 and asked == 4


def test_a_flapping_network_ends_a_wait_at_most_three_times_an_hour(gateway, emulator, network):
    def flap():
        network.set_up(False)
        network.set_up()

    emulator.stop()
    for name in ("gateway", "other"):
        remember_failures(gateway, name)
    gateway.identity(key=KEY)
    gateway.start()
    gateway.wait_for(LastErrorId="refused")
    for attempts in (10, 11, 12):
        flap()
        gateway.wait_for(Attempts=attempts, check=lambda p: p["NextAttemptAt"] > 0)
    gateway.identity("other", key=KEY)
    gateway.reload()
    gateway.wait_for("other", Attempts=9, check=lambda p: p["NextAttemptAt"] > 0)
    flap()
    gateway.wait_for("other", Attempts=10)
    assert gateway.properties("gateway")["Attempts"] == 12
