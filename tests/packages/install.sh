#!/bin/sh
# SPDX-License-Identifier: MIT
# On a running system with dbus-daemon the packages start the daemon, once, with its name on the bus and nothing to do; a
# configuration makes a gateway of it, also after a reboot without DPS.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	[ "$(property Id dbus.service)" = dbus.service ]
	install_from now
	[ "$(property ActiveState)" = active ]
	[ "$(property NRestarts)" = 0 ]
	[ "$(property UnitFileState)" = enabled ]
	[ "$(property UnitFileState dps-metrics.service)" = disabled ]
	[ "$(busctl get-property io.dpsd.dps1 /io/dpsd/dps1 io.dpsd.dps1.Manager State)" = 's "idle"' ]
	[ "$(stat -c '%a %U %G' /etc/dps)" = '750 root dpsd' ]
	[ "$(ls /etc/dps)" = credentials ]
	no_warnings
	provision
	boot-test-reboot
fi
[ "$(property ActiveState)" = active ]
dpsctl wait --timeout=30 gateway
grep -q '^IOTHUB_HOSTNAME=' /run/dps/gateway/hub.env
