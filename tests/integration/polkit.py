# SPDX-License-Identifier: MIT
"""A polkit that answers when the test wants it."""
import contextlib
import threading

import jeepney
from jeepney import HeaderFields, MessageType

from bus_connection import connect_to_bus
from process import DEADLINE

NAME = "org.freedesktop.PolicyKit1"


class Polkit:
    """`asked`: the questions in order, as (name of the connection on the bus, action), answered or not."""

    def __init__(self, address):
        self.asked, self.open = [], []
        self.changed = threading.Condition()
        self.connection = connect_to_bus(address)
        reply = self.connection.send_and_get_reply(jeepney.message_bus.RequestName(NAME), timeout=DEADLINE)
        assert reply.body == (1,), reply.body
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        with contextlib.suppress(OSError):
            self.connection.sock.shutdown(2)
        self.thread.join(DEADLINE)
        self.connection.close()

    def serve(self):
        while True:
            try:
                message = self.connection.receive()
            except (OSError, EOFError, ConnectionError):
                return
            if message.header.message_type is not MessageType.method_call:
                continue
            if message.header.fields[HeaderFields.member] != "CheckAuthorization":
                continue
            subject, action = message.body[0], message.body[1]
            with self.changed:
                self.asked.append((subject[1]["name"][1], action))
                self.open.append((subject[1]["name"][1], message))
                self.changed.notify_all()

    def wait_for(self, condition, timeout=DEADLINE):
        """Waits until condition(asked)."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.asked), timeout), self.asked

    def n_asked_for(self, *names):
        return sum(name in names for name, _ in self.asked)

    def answer(self, name, authorized):
        """Answers the oldest open question about this connection."""
        with self.changed:
            question = next(question for question in self.open if question[0] == name)
            self.open.remove(question)
        self.connection.send(jeepney.new_method_return(question[1], "(bba{ss})", ((authorized, False, {}),)))
