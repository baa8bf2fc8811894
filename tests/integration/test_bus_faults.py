# SPDX-License-Identifier: MIT
"""A bus that stands still, and clients that do not behave."""
import contextlib
import random
import re
import signal
import time

import pytest
from jeepney import DBusAddress, HeaderFields, MessageType, Properties, message_bus, new_method_call

from gateway import IDENTITY, MANAGER, NAME, ROOT
from process import DEADLINE, WORLD, eventually

ERRORS = {f"{NAME}.Error.{word}" for word in ("NotAssigned", "NoSuchIdentity", "RateLimited", "NotSupported", "Config")} | {
    f"org.freedesktop.DBus.Error.{word}" for word in ("InvalidArgs", "UnknownMethod", "UnknownObject", "UnknownInterface",
                                                      "UnknownProperty", "PropertyReadOnly")}


def assign(gateway):
    gateway.identity()
    gateway.start()
    return gateway.wait_for(State="assigned")


# ---- it stands still ----


@contextlib.contextmanager
def stalled(bus):
    bus.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        bus.process.send_signal(signal.SIGCONT)


def test_a_bus_that_does_not_answer_holds_up_nothing(gateway, bus, emulator):
    gateway.identity()
    with stalled(bus):
        gateway.start(wait=False)
        gateway.wait_until_ready()
        eventually(lambda: "connection.json" in gateway.files(), what="an assignment")
        gateway.notify.wait_for_status("1 of 1")
    assert gateway.wait_for(State="assigned")["Healthy"]
    assert len(emulator.requests("register")) == 1


def test_a_bus_that_stalls_later_holds_up_nothing(gateway, bus):
    assign(gateway)
    with stalled(bus):
        for k in range(5):
            gateway.identity(f"device-{k}")
        gateway.reload()
        eventually(lambda: all("connection.json" in gateway.files(f"device-{k}") for k in range(5)), what="all assignments")
    for k in range(5):
        assert gateway.wait_for(f"device-{k}", State="assigned")["Healthy"]
    assert gateway.properties()["NIdentities"] == 6


def test_a_daemon_ends_in_time_while_the_bus_stalls(gateway, bus):
    assign(gateway)
    with stalled(bus):
        gateway.stop()


MANY = [f"device-{k}" for k in range(100)]


def change_all(gateway, k):
    """They get their k-th registration ids."""
    for name in MANY:
        gateway.write_conf(name, f"[Provisioning]\nIdScope=0ne00000001\nRegistrationId={name}-{k}\n[Attestation]\nKey=/nowhere\n")
    if k > 0:
        n = gateway.log.count("the configuration was read again")
        gateway.process.send_signal(signal.SIGHUP)
        eventually(lambda: gateway.log.count("the configuration was read again") > n, what=f"change {k}")


def start_many(gateway, timeout):
    """With a socket that does not hold 8 MB, as sd-bus asks for."""
    gateway.surroundings |= {"LD_PRELOAD": WORLD, "DPS_TEST_SOCKETS": "1", "SYSTEMD_BUS_TIMEOUT": timeout}
    change_all(gateway, 0)
    gateway.start()
    eventually(lambda: gateway.properties()["NIdentities"] == len(MANY))


def test_what_the_bus_does_not_read_does_not_pile_up(lone_gateway, bus):
    """What has changed meanwhile is told when it goes on, and not each change."""
    start_many(lone_gateway, "1h")
    client = lone_gateway.client()
    client.listen()
    with stalled(bus):
        for k in range(1, 21):
            change_all(lone_gateway, k)
    told, n = {}, 0
    while set(told.values()) != {20} or len(told) < len(MANY):
        message = client.next_signal(time.monotonic() + DEADLINE)
        if message.header.fields[HeaderFields.member] == "PropertiesChanged" and message.body[0] == IDENTITY:
            n += 1
            if "RegistrationId" in message.body[1]:
                told[message.header.fields[HeaderFields.path]] = int(message.body[1]["RegistrationId"][1].rsplit("-", 1)[1])
    client.close()
    assert n < 1000  # of 2000 changes and more


def test_a_bus_that_does_not_read_for_long_is_left_and_connected_to_anew(lone_gateway, bus):
    gateway = lone_gateway
    start_many(gateway, "3s")
    client = gateway.client()
    owner = client.connection.send_and_get_reply(message_bus.GetNameOwner(NAME), timeout=DEADLINE).body
    with stalled(bus):
        for k in range(1, 200):
            change_all(gateway, k)
            if "the bus does not read what is sent to it" in gateway.log:
                break
    gateway.wait_for_log(f"the name {re.escape(NAME)} is ours")
    assert client.connection.send_and_get_reply(message_bus.GetNameOwner(NAME), timeout=DEADLINE).body != owner
    client.close()
    assert gateway.properties()["NIdentities"] == len(MANY)
    assert gateway.whole_log().count("the bus does not read what is sent to it") == 1


# ---- clients ----


def noise(dice):
    """Text that nobody has expected, as the bus lets it through: no NUL, and UTF-8."""
    alphabets = ("ab/.-_ ", "%s%n%d\n\r\t\x1b[31m", "äß√😀\u202e\ufeff\x7f", "../;|&$`'\"\\")
    length = dice.choice((0, 1, 8, 300, 5000))
    return "".join(dice.choice(dice.choice(alphabets)) for _ in range(length))


def argument(dice, kind):
    if kind == "s":
        return dice.choice((noise(dice), "gateway", ""))
    bits = {"t": 64, "u": 32}[kind]
    return dice.choice((0, 1, 2**bits - 1, 2**(bits - 1), dice.getrandbits(bits)))


METHODS = [(MANAGER, "GetIdentity", "s"), (MANAGER, "Reprovision", "s"), (MANAGER, "Forget", "s"), (MANAGER, "Reload", "s"),
           (MANAGER, "ListIdentities", "t"), (IDENTITY, "GetToken", "t"), (IDENTITY, "GetToken", "s"),
           (IDENTITY, "Reprovision", ""), (IDENTITY, "Reprovision", "s"), (IDENTITY, "ReportHubFailure", "tsus"),
           (IDENTITY, "ReportHubConnected", "t"), (IDENTITY, "ReportHubConnected", "ss"), (IDENTITY, "Nonsense", "s"),
           ("org.freedesktop.DBus.Properties", "Get", "ss"), ("org.freedesktop.DBus.Properties", "GetAll", "s")]


@pytest.mark.parametrize("seed", range(3))
def test_arguments_that_make_no_sense_are_answered_by_errors_that_do(gateway, seed):
    before = assign(gateway)
    paths = {MANAGER: [ROOT], IDENTITY: [gateway.path("gateway"), f"{ROOT}/identity/nobody"]}
    client, dice = gateway.client(), random.Random(seed)
    for _ in range(300):
        interface, method, signature = dice.choice(METHODS)
        path = dice.choice(paths.get(interface, [ROOT, *paths[IDENTITY]]))
        arguments = tuple(argument(dice, kind) for kind in signature)
        message = new_method_call(DBusAddress(path, NAME, interface), method, signature or None, arguments)
        reply = client.connection.send_and_get_reply(message, timeout=DEADLINE)
        if reply.header.message_type is MessageType.error:
            name = reply.header.fields[HeaderFields.error_name]
            assert name in ERRORS, (method, arguments, name, reply.body)
            # What is unknown is told by sd-bus, in its words.
            assert "Unknown" in name or (len(reply.body[0]) < 1000 and "\x1b" not in reply.body[0]), (method, reply.body)
    client.close()
    after = gateway.properties("gateway")
    assert (after["State"], after["AssignedHub"]) == ("assigned", before["AssignedHub"])
    assert "\x1b" not in gateway.whole_log()


def test_two_thousand_requests_at_once_are_all_answered(gateway):
    assign(gateway)
    client, other = gateway.client(), gateway.client()
    path = gateway.path("gateway")
    request = Properties(DBusAddress(path, NAME, IDENTITY)).get_all()
    for _ in range(2000):
        client.connection.send(request)
    assert other.properties(path, IDENTITY)["State"] == "assigned"  # others get their turn
    answers = 0
    while answers < 2000:
        reply = client.connection.receive(timeout=DEADLINE)
        assert reply.header.message_type is not MessageType.error, reply.body
        answers += reply.header.message_type is MessageType.method_return
    client.close()
    other.close()


def test_a_client_that_never_reads_costs_the_daemon_nothing(gateway, emulator):
    """The bus throws it out, or keeps what it does not take; the daemon goes on."""
    assign(gateway)
    client = gateway.client()
    client.listen()
    request = Properties(DBusAddress(gateway.path("gateway"), NAME, IDENTITY)).get_all()
    for _ in range(500):
        client.connection.send(request)
    assert gateway.dpsctl("reprovision", "gateway", "--wait").code == 0
    assert len(emulator.requests("register")) == 2
    client.close()
    assert gateway.wait_for(State="assigned")["Healthy"]
