# SPDX-License-Identifier: MIT
"""Connections to a bus. jeepney itself gives a bus one second to let a client in; a busy machine may need more."""
from jeepney.io.blocking import open_dbus_connection

from process import DEADLINE


def connect_to_bus(address, **options):
    return open_dbus_connection(address, auth_timeout=DEADLINE, **options)
