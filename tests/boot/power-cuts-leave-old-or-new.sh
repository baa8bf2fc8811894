#!/bin/sh
# SPDX-License-Identifier: MIT
# Fifteen power cuts while the hub changes, at another moment each: after each the old assignment is there or the new
# one, never neither, and nobody is asked for it.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

CUTS=15

hub_of() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$2"; }

move() { # to the other of two hubs, and cut in the middle of it
	n=2
	[ "$1" = hub-1.example ] || n=1
	emulator_ctl set gw-1 "iotHubs=hub-$n.example"
	# From asking to the directory's fsync it takes some 15 ms.
	{
		sleep "$(printf '0.0%02d' $((BOOT_TEST_BOOT * 7 % 40)))"
		boot-test-power-cut
	} &
	dpsctl -q reprovision gateway
	sleep infinity
}

# As if the boots were further apart: DPS may be asked for a result only five times in ten seconds, which is remembered.
forget_polls() {
	sed -i 's/"polls": *[0-9]*/"polls":0/' /var/lib/dps/gateway.json
	sync
}

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	provision
	sync
	move "$(hub_of assignedHub /var/lib/dps/gateway.json)"
fi

forget_polls
systemctl start dpsd
hub=$(hub_of hub /run/dps/gateway/connection.json)
[ "$hub" = "$(hub_of assignedHub /var/lib/dps/gateway.json)" ] || fail "served is $hub"
[ "$(dpsctl show gateway -p AssignedHub)" = "AssignedHub=$hub" ]
case $hub in hub-[12].example) ;; *) fail "the hub is '$hub'" ;; esac
[ -z "$(find /var/lib/dps -name '.#*')" ] || fail 'halves of files are left'
[ ! -e /var/lib/dps/gateway.json.corrupt ]
echo "$hub" >>/run/boot-test/keep/hubs
[ "$BOOT_TEST_BOOT" -le "$CUTS" ] || {
	# Cuts that come always too early, or always too late, would prove nothing.
	[ "$(uniq /run/boot-test/keep/hubs | wc -l)" -gt 1 ] || fail "no cut came after a change"
	exit 0
}
start_emulator
move "$hub"
