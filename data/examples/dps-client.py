#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How a program uses dpsd; see io.dpsd.dps1(5). Needs python3-dbus and python3-gi.

    dps-client.py NAME get                      prints the connection to the hub
    dps-client.py NAME watch                    prints a line for the connection now, and whenever it changes
    dps-client.py NAME connected                reports that we have connected to the hub
    dps-client.py NAME failed KIND [CODE]       reports that we could not: auth, not-found, throttled, server, network

The user must be in the group of the identity, which is "dps" if the configuration names none.
"""
import json
import sys

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

DPS = "io.dpsd.dps1"
NOT_ASSIGNED = (f"{DPS}.Error.NotAssigned", f"{DPS}.Error.NoSuchIdentity")
DENIED = "org.freedesktop.DBus.Error.AccessDenied"


class Identity:
    def __init__(self, bus, name):
        self.bus = bus
        self.name = name

    def proxy(self):
        """Looks the identity up each time: the daemon may have been restarted, or the identity may be new."""
        manager = dbus.Interface(self.bus.get_object(DPS, "/io/dpsd/dps1", introspect=False), f"{DPS}.Manager")
        return dbus.Interface(self.bus.get_object(DPS, manager.GetIdentity(self.name), introspect=False), f"{DPS}.Identity")

    def connection(self):
        return json.loads(self.proxy().GetConnection())

    def report_connected(self, connection):
        self.proxy().ReportHubConnected(dbus.UInt64(connection["generation"]))

    def report_failure(self, connection, kind, code=0, detail=""):
        """Returns whether DPS is about to be asked, and when it is asked next (µs since 1970; 0: now, or not planned)."""
        registering, next_attempt_at = self.proxy().ReportHubFailure(
            dbus.UInt64(connection["generation"]), kind, dbus.UInt32(code), detail)
        return bool(registering), int(next_attempt_at)

    def watch(self, on_connection):
        """Calls on_connection(connection) now and for each new generation, with None while there is no assignment."""
        shown = []

        def look(*_):
            try:
                connection = self.connection()
            except dbus.DBusException as error:
                if error.get_dbus_name() == DENIED:
                    raise
                if error.get_dbus_name() not in NOT_ASSIGNED:
                    return  # the daemon is not running, or the clock is wrong: our connection is still good
                connection = None
            generation = connection and connection["generation"]
            if shown != [generation]:
                shown[:] = [generation]
                on_connection(connection)

        def on_properties_changed(_interface, changed, _invalidated):
            if "Generation" in changed or "Waiting" in changed:
                look()

        # Subscribe before looking, and to all identities: ours may not be configured yet.
        self.bus.add_signal_receiver(on_properties_changed, "PropertiesChanged", "org.freedesktop.DBus.Properties", DPS,
                                     arg0=f"{DPS}.Identity")
        self.bus.add_signal_receiver(look, "IdentityRemoved", f"{DPS}.Manager", DPS)
        # Also calls look() if the daemon is running already.
        self.bus.watch_name_owner(DPS, lambda owner: owner and look())
        look()


def print_connection(connection):
    if connection:
        print(connection["hub"], connection["deviceId"], connection["generation"], flush=True)
    else:
        print("not assigned", flush=True)


def main(name, verb, *arguments):
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    identity = Identity(dbus.SystemBus(), name)
    if verb == "get":
        print_connection(identity.connection())
    elif verb == "watch":
        # A real program would connect to the hub each time.
        identity.watch(print_connection)
        GLib.MainLoop().run()
    elif verb == "connected":
        identity.report_connected(identity.connection())
    elif verb == "failed" and arguments:
        kind, code = arguments[0], int(arguments[1]) if len(arguments) > 1 else 0
        registering, _ = identity.report_failure(identity.connection(), kind, code, "told by dps-client.py")
        print("DPS is asked" if registering else "DPS is not asked")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except dbus.DBusException as error:
        sys.exit(error.get_dbus_message())
    except KeyboardInterrupt:
        pass
