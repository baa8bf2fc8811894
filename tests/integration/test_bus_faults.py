# SPDX-License-Identifier: MIT
"""A bus that stands still, and clients that do not behave."""
import contextlib
import random
import signal

import pytest
from jeepney import DBusAddress, HeaderFields, MessageType, Properties, new_method_call

from gateway import IDENTITY, MANAGER, NAME, ROOT
from process import DEADLINE, eventually

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
        gateway.start()  # until READY=1
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
