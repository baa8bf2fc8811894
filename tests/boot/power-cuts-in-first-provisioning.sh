#!/bin/sh
# SPDX-License-Identifier: MIT
# power-cuts-in-first-provisioning [CUTS]: power cuts during the first registration, each at another moment. After each one
# there is either the whole assignment, which is served without DPS, or none, and then the device is provisioned.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

CUTS=${1:-6}
STATE=/var/lib/dps

if [ "$BOOT_TEST_BOOT" -gt 1 ]; then
	[ -z "$(find $STATE -name '*.corrupt')" ] || fail 'a record was damaged'
	is_whole=no
	[ ! -e $STATE/gateway.json ] || is_whole=yes
	echo $is_whole >>/run/boot-test/keep/outcomes
	systemctl start dpsd
	is_tidy() { [ -z "$(find $STATE -name '.#*')" ]; }
	until_true is_tidy # the daemon may be writing at this moment
	journalctl --sync
	! journalctl -b -q -o cat -u dpsd | grep 'state directory' || fail 'a power cut is no reason for a warning'
	if [ $is_whole = yes ]; then # there is no DPS
		[ "$(dpsctl show gateway -p State)" = State=assigned ] || fail 'the assignment is lost'
		grep -q 'hub-[12].example' /run/dps/gateway/connection.json
	fi
	if [ "$BOOT_TEST_BOOT" -gt "$CUTS" ]; then
		start_emulator
		emulator_ctl set gw-1 assigningTime=0
		[ $is_whole = yes ] || dpsctl reprovision --wait gateway
		dpsctl wait --timeout=90 gateway
		# Cuts that always come too early, or always too late, would prove nothing.
		[ "$(sort -u /run/boot-test/keep/outcomes | wc -l)" = 2 ] || fail "all cuts came at the same side: $is_whole"
		exit 0
	fi
	systemctl stop dpsd
	rm -f $STATE/gateway.json
fi

start_emulator
# One of the moments is for certain before there is an assignment, however long the cut takes.
moment=$((BOOT_TEST_BOOT % 4))
emulator_ctl set gw-1 assigningTime=$((moment == 1 ? 600 : 0))
configure gateway gw-1
sync
systemctl start --no-block dpsd
case $moment in
0) until_true test -e $STATE/gateway.json ;;
1) until_true grep -q '"event":"register"' "$EMULATOR/requests.jsonl" ;;
2) until_true test -e /run/dps/gateway/connection.json ;;
3) sleep "0.$(printf '%03d' $((BOOT_TEST_BOOT * 37 % 200)))" ;;
esac
boot-test-power-cut
