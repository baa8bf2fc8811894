#!/bin/sh
# SPDX-License-Identifier: MIT
# power-cuts-leave-old-or-new [CUTS]: power cuts while the hub changes, each at another moment. After each one either the old or the new assignment is
# there, and DPS is not asked for it.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

CUTS=${1:-15}

hub_of() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$2"; }

move() { # HUB: registers with the other of two hubs, and cuts the power in the middle
	n=2
	[ "$1" = hub-1.example ] || n=1
	emulator_ctl set gw-1 "iotHubs=hub-$n.example"
	{
		pause=$(($(cat /run/boot-test/keep/msec) * (BOOT_TEST_BOOT * 7 % 40) / 15))
		sleep "$(printf '%d.%03d' $((pause / 1000)) $((pause % 1000)))"
		# One of them comes after the change for certain, however busy the machine is meanwhile.
		[ "$BOOT_TEST_BOOT" != 5 ] || until_true grep -q "hub-$n.example" /run/dps/gateway/connection.json
		boot-test-power-cut
	} &
	dpsctl -q reprovision gateway
	sleep infinity
}

# dpsd may poll only five times in ten seconds, and remembers its polls over boots; real boots would be further apart.
forget_polls() {
	sed -i 's/"polls": *[0-9]*/"polls":0/' /var/lib/dps/gateway.json
	sync
}

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	provision
	# How long a change takes depends on what else this machine does.
	emulator_ctl set gw-1 iotHubs=hub-2.example
	begin=$(date +%s%N)
	dpsctl -q reprovision gateway --wait
	echo $((($(date +%s%N) - begin) / 1000000)) >/run/boot-test/keep/msec
	sync
	move "$(hub_of assignedHub /var/lib/dps/gateway.json)"
fi

forget_polls
systemctl start dpsd
hub=$(hub_of hub /run/dps/gateway/connection.json)
[ "$hub" = "$(hub_of assignedHub /var/lib/dps/gateway.json)" ] || fail "the served hub is $hub"
[ "$(dpsctl show gateway -p AssignedHub)" = "AssignedHub=$hub" ]
case $hub in hub-[12].example) ;; *) fail "the hub is '$hub'" ;; esac
[ -z "$(find /var/lib/dps -name '.#*')" ] || fail 'temporary files are left'
[ ! -e /var/lib/dps/gateway.json.corrupt ]
echo "$hub" >>/run/boot-test/keep/hubs
[ "$BOOT_TEST_BOOT" -le "$CUTS" ] || {
	# Cuts that always come too early, or always too late, would prove nothing.
	[ "$(uniq /run/boot-test/keep/hubs | wc -l)" -gt 1 ] || fail "no cut came after a change of the hub"
	exit 0
}
start_emulator
move "$hub"
