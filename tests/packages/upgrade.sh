#!/bin/sh
# SPDX-License-Identifier: MIT
# An upgrade restarts the daemon once, and keeps the assignment without asking DPS; the same packages once more do not
# restart it. Metrics that somebody has started are restarted with it.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from before
provision
before=$(installed_version)
generation=$(dpsctl show gateway -p Generation)
registrations=$(n_registrations)
[ "$registrations" -gt 0 ]
directory=$(stat -c %i /run/dps/gateway)
systemctl start dps-metrics
old=$(pid) old_metrics=$(property MainPID dps-metrics.service)

install_from now
[ "$(installed_version)" != "$before" ]
[ "$(pid)" != "$old" ]
cmp "/proc/$(pid)/exe" /usr/sbin/dpsd
metrics=$(property MainPID dps-metrics.service)
[ "$metrics" -gt 0 ] && [ "$metrics" != "$old_metrics" ]
dpsctl wait --timeout=30 gateway
[ "$(dpsctl show gateway -p Generation)" = "$generation" ]
[ "$(stat -c %i /run/dps/gateway)" = "$directory" ]
[ "$(n_registrations)" = "$registrations" ]
no_warnings

old=$(pid)
install_from now
[ "$(pid)" = "$old" ]
[ "$(property MainPID dps-metrics.service)" = "$metrics" ]
