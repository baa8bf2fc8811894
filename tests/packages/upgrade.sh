#!/bin/sh
# SPDX-License-Identifier: MIT
# An upgrade restarts the daemon once, and keeps the assignment without asking DPS; the same packages once more do not
# restart it.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from before
provision
before=$(installed_version)
generation=$(dpsctl show gateway -p Generation)
registrations=$(n_registrations)
[ "$registrations" -gt 0 ]
directory=$(stat -c %i /run/dps/gateway)
old=$(pid)

install_from now
[ "$(installed_version)" != "$before" ]
[ "$(pid)" != "$old" ]
cmp "/proc/$(pid)/exe" /usr/sbin/dpsd
dpsctl wait --timeout=30 gateway
[ "$(dpsctl show gateway -p Generation)" = "$generation" ]
[ "$(stat -c %i /run/dps/gateway)" = "$directory" ]
[ "$(n_registrations)" = "$registrations" ]
no_warnings

old=$(pid)
install_from now
[ "$(pid)" = "$old" ]
