# SPDX-License-Identifier: MIT
"""A local user without manners: a raw connection to the bus."""
from jeepney import DBusAddress, HeaderFields, message_bus, new_method_call, new_signal
from jeepney.io.blocking import open_dbus_connection

from process import DEADLINE, eventually

BUS = "org.freedesktop.DBus"


class Stranger:
    def __init__(self, address):
        self.connection = open_dbus_connection(address)

    def close(self):
        self.connection.close()

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
        """Returns when the victim has handled all that we have sent it."""
        ping = new_method_call(DBusAddress("/", victim, "org.freedesktop.DBus.Peer"), "Ping")
        self.connection.send_and_get_reply(ping, timeout=DEADLINE)
