#!/bin/sh
# SPDX-License-Identifier: MIT
# packages: before the boot
# Packages that were installed into an image, where no systemd runs, start the daemon at the first boot.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

[ "$(property ActiveState)" = active ]
[ "$(property NRestarts)" = 0 ]
[ "$(busctl get-property io.dpsd.dps1 /io/dpsd/dps1 io.dpsd.dps1.Manager State)" = 's "idle"' ]
[ "$(stat -c '%a %U %G' /etc/dps)" = '750 root dpsd' ]
no_warnings
