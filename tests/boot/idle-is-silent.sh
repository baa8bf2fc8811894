#!/bin/sh
# SPDX-License-Identifier: MIT
# While nothing is due, the daemon writes nothing into the journal and to the disk, and does not even wake up.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

# How often its threads have gone to sleep, or were interrupted.
wakeups() { cat "/proc/$(property MainPID)"/task/*/status | awk '/ctxt_switches/ { n += $2 } END { print n }'; }
is_settled() {
	n=$(wakeups)
	sleep 2
	[ "$(wakeups)" = "$n" ]
}

provision
configure broken gw-2 '[Provisioning]' 'IdScope='
dpsctl reload || true
stop_emulator
until_true is_settled
journalctl --sync
journalctl -b -q -o cat -u dpsd >/tmp/before
find /var/lib/dps /run/dps -printf '%p %T@ %C@\n' | sort >/tmp/files
before=$(wakeups)
sleep 5
after=$(wakeups)
journalctl --sync
journalctl -b -q -o cat -u dpsd | diff /tmp/before -
find /var/lib/dps /run/dps -printf '%p %T@ %C@\n' | sort | diff /tmp/files -
[ "$after" = "$before" ] || fail "it woke up $((after - before)) times"
