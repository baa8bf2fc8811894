#!/bin/sh
# SPDX-License-Identifier: MIT
# A power cut in the middle of a registration leaves nothing that disturbs the next boot.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

case $BOOT_TEST_BOOT in
1)
	start_emulator
	emulator_ctl set gw-1 assigningTime=600 retryAfter=1
	configure gateway gw-1
	sync
	systemctl start dpsd
	until_true grep -q '"event":"poll"' "$EMULATOR/requests.jsonl"
	boot-test-power-cut
	;;
2)
	provision
	[ "$(ls /var/lib/dps)" = gateway.json ]
	;;
esac
