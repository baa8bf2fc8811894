#!/bin/sh
# SPDX-License-Identifier: MIT
# systemctl reload returns after it has added a new identity; other identities are not disturbed.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
pid=$(property MainPID)
since=$(dpsctl show gateway -p StateSince)
configure north gw-2
systemctl reload dpsd
exits 0 dpsctl show north -p Name
dpsctl wait --timeout=90 north
[ "$(property MainPID)" = "$pid" ]
[ "$(dpsctl show gateway -p StateSince)" = "$since" ]
# Once, whatever systemd does besides ExecReload=.
journalctl --sync
[ "$(journalctl -u dpsd -b -o cat --no-pager | grep -c 'the configuration was read again')" = 1 ]
