# SPDX-License-Identifier: MIT
"""A local user without manners: a raw connection to the bus."""
import contextlib
import ctypes
import os
import threading

from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, message_bus, new_method_call, new_signal

from bus_connection import connect_to_bus
from process import DEADLINE, eventually

BUS = "org.freedesktop.DBus"


def become(user, groups=()):
    """Makes this thread, and no other, one of another user and in these groups only, which os.setuid() cannot."""
    setgroups, setresgid, setresuid = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}[os.uname().machine]
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    assert syscall(setgroups, len(groups), (ctypes.c_uint32 * len(groups))(*groups)) == 0
    assert syscall(setresgid, user, user, user) == 0
    assert syscall(setresuid, user, user, user) == 0


class Stranger:
    """With `user`, a number, the bus takes it for that user; only root can do that."""

    def __init__(self, address, user=None, groups=(), **options):
        self.address = address
        self.connection = None
        self.received = []

        def connect():
            if user is not None:
                become(user, groups)
            self.connection = connect_to_bus(address, **options)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        assert self.connection, "the bus does not let us in"

    @property
    def name(self):
        return self.connection.unique_name

    def close(self):
        self.connection.close()

    def send(self, path, destination, interface, member, signature=None, *body):
        """Sends a call and does not wait for the answer; returns its serial number."""
        serial = next(self.connection.outgoing_serial)
        call = new_method_call(DBusAddress(path, destination, interface), member, signature, body)
        self.connection.send(call, serial=serial)
        return serial

    def receive(self):
        return self.connection.receive(timeout=DEADLINE)

    def answer_to(self, serial):
        """The answer to the call with this number; `received` gets what came before it."""
        while (message := self.receive()).header.fields.get(HeaderFields.reply_serial) != serial:
            self.received.append(message)
        return message

    def send_many(self, n, path, destination, interface, member):
        """Sends the same call n times, in a thread: the bus may take its time."""
        call = new_method_call(DBusAddress(path, destination, interface), member)
        self.destination = destination
        self.sender = threading.Thread(target=lambda: self.connection.sock.sendall(b"".join(
            call.serialise(serial=next(self.connection.outgoing_serial)) for _ in range(n))), daemon=True)
        self.sender.start()

    def wait_until_over(self):
        """Returns when the bus has taken all, and the other has had it and answered what it answers at once. That is asked for
        root, because we may get no answer any more. The bus keeps the order."""
        while self.sender.is_alive():
            with contextlib.suppress(TimeoutError):
                self.received.append(self.connection.receive(timeout=0.1))
        self.answer_to(self.send("/", BUS, BUS, "GetId"))
        other = Stranger(self.address)
        other.wait_until_handled(self.destination)
        other.close()
        self.answer_to(self.send("/", BUS, BUS, "GetId"))

    def flood(self, path, destination, interface, member):
        """Sends the same call without end, and wants no answers. Returns a function that ends that."""
        call = new_method_call(DBusAddress(path, destination, interface), member)
        call.header.flags |= MessageFlag.no_reply_expected
        many, over = call.serialise(serial=1) * 500, threading.Event()

        def run():
            while not over.is_set():
                try:
                    self.connection.sock.sendall(many)
                except OSError:
                    return

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def end():
            over.set()
            self.connection.sock.shutdown(2)
            thread.join(DEADLINE)

        return end

    def ask_bus(self, message):
        return self.connection.send_and_get_reply(message, timeout=DEADLINE).body

    def clients(self):
        """The unique names of all that are on the bus."""
        return {name for name in self.ask_bus(message_bus.ListNames())[0] if name.startswith(":")}

    def wait_for_newcomer(self, before):
        """The unique name of the one client that has come since `before`."""
        return eventually(lambda: self.clients() - before, what="a new client on the bus").pop()

    def owner_of(self, name):
        return self.ask_bus(message_bus.GetNameOwner(name))[0]

    def spoof(self, victim, path, interface, member, signature, *body):
        """Sends a signal to one client alone, and returns when the bus has passed it on."""
        message = new_signal(DBusAddress(path, interface=interface), member, signature, body)
        message.header.fields[HeaderFields.destination] = victim
        self.connection.send(message)
        self.ask_bus(message_bus.GetId())

    def wait_until_handled(self, victim):
        """Returns when the victim, which must be there, has handled all that it was sent before: the bus keeps the order."""
        answer = self.answer_to(self.send("/", victim, "org.freedesktop.DBus.Peer", "Ping"))
        assert answer.header.message_type is MessageType.method_return, answer.body
