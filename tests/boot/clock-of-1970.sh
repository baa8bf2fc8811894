#!/bin/sh
# SPDX-License-Identifier: MIT
# The clock says 1970 at each boot. At the first one, the daemon waits for the time before it asks DPS. At the next one it serves
# what it remembers at once, and when the time is known the token is the same.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

IN_1970=-$(($(date +%s) - 86400))

waits_for() { [ "$(dpsctl show gateway -p Waiting)" = "Waiting=$1" ]; }
n_requests() { grep -c '"event":"\(connect\|register\)"' "$EMULATOR/requests.jsonl" || true; }

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	fake_clock $IN_1970
	start_emulator
	configure gateway gw-1
	systemctl start dpsd
	until_true waits_for clock
	sleep 1
	[ "$(n_requests)" = 0 ] || fail 'DPS was asked by the clock of 1970'
	status_says "waiting for the right time of day"
	set_clock 0
	dpsctl wait --timeout=90 gateway
	until_true waits_for ''
	cp -a /run/dps/gateway /run/boot-test/keep/
	systemctl enable dpsd
	boot-test-reboot
fi

systemctl stop dpsd # was started by the right clock
rm -r /run/dps/gateway
fake_clock $IN_1970
systemctl start dpsd
[ "$(dpsctl show gateway -p State)" = State=assigned ]
grep -q 'hub-[12].example' /run/dps/gateway/connection.json
set_clock 0
same() { diff -r /run/boot-test/keep/gateway /run/dps/gateway >/run/diff; }
until_true same
