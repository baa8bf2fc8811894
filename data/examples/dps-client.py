#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How a program lives with dpsd: io.dpsd.dps1(5). Needs python3-dbus and python3-gi.

    dps-client.py NAME get                      the connection to the hub
    dps-client.py NAME watch                    a line for each connection: now, and whenever it changes
    dps-client.py NAME connected                tells that the hub let us in
    dps-client.py NAME failed KIND [CODE]       tells that it did not: auth, not-found, throttled, server, network

The user must be in the identity's group, "dps" if its configuration names none.
"""
import json
import sys

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

DPS = "io.dpsd.dps1"
WITHOUT = (f"{DPS}.Error.NotAssigned", f"{DPS}.Error.NoSuchIdentity")
DENIED = "org.freedesktop.DBus.Error.AccessDenied"


class Identity:
    def __init__(self, bus, name):
        self.bus = bus
        self.name = name

    def proxy(self):
        """Looked up each time: the daemon may have been started again, or the identity have been added."""
        manager = dbus.Interface(self.bus.get_object(DPS, "/io/dpsd/dps1", introspect=False), f"{DPS}.Manager")
        return dbus.Interface(self.bus.get_object(DPS, manager.GetIdentity(self.name), introspect=False), f"{DPS}.Identity")

    def connection(self):
        return json.loads(self.proxy().GetConnection())

    def report_connected(self, connection):
        self.proxy().ReportHubConnected(dbus.UInt64(connection["generation"]))

    def report_failure(self, connection, kind, code=0, detail=""):
        """Whether there may be another hub soon, and when DPS is asked next (µs since 1970; 0: now, or not foreseen)."""
        registering, next_attempt_at = self.proxy().ReportHubFailure(
            dbus.UInt64(connection["generation"]), kind, dbus.UInt32(code), detail)
        return bool(registering), int(next_attempt_at)

    def watch(self, on_connection):
        """Calls on_connection(connection) now and for each new generation; None while there is no assignment."""
        shown = []

        def look(*_):
            try:
                connection = self.connection()
            except dbus.DBusException as error:
                if error.get_dbus_name() == DENIED:
                    raise
                if error.get_dbus_name() not in WITHOUT:
                    return  # the daemon is away, or the clock is wrong: what we have stays good
                connection = None
            generation = connection and connection["generation"]
            if shown != [generation]:
                shown[:] = [generation]
                on_connection(connection)

        def on_properties_changed(_interface, changed, _invalidated):
            if "Generation" in changed or "Waiting" in changed:
                look()

        # Listen first, then look. For all identities: ours may not have been configured yet.
        self.bus.add_signal_receiver(on_properties_changed, "PropertiesChanged", "org.freedesktop.DBus.Properties", DPS,
                                     arg0=f"{DPS}.Identity")
        self.bus.add_signal_receiver(look, "IdentityRemoved", f"{DPS}.Manager", DPS)
        # Tells also whether it is there now.
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
        # Here a program would connect to the hub anew.
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
