#!/bin/sh
# SPDX-License-Identifier: MIT
# packages: root with dbus-broker
# Where dbus-broker is the bus, the packages start the daemon as well, once and with its name on the bus.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

[ "$(property Id dbus.service)" = dbus-broker.service ]
install_from now
[ "$(property ActiveState)" = active ]
[ "$(property NRestarts)" = 0 ]
[ "$(busctl get-property io.dpsd.dps1 /io/dpsd/dps1 io.dpsd.dps1.Manager State)" = 's "idle"' ]
no_warnings
