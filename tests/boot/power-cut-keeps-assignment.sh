#!/bin/sh
# SPDX-License-Identifier: MIT
# A power cut right after an assignment was shown does not lose it.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

case $BOOT_TEST_BOOT in
1 | 2 | 3)
	if [ "$BOOT_TEST_BOOT" -gt 1 ]; then
		dpsctl forget gateway || true
		rm -f /var/lib/dps/gateway.json
	fi
	start_emulator
	configure gateway gw-1
	sync
	systemctl start dpsd
	dpsctl wait --timeout=90 gateway
	boot-test-power-cut
	;;
4)
	systemctl start dpsd
	dpsctl wait --timeout=90 gateway
	grep -q '"hub-1.example"\|"hub-2.example"' /run/dps/gateway/connection.json
	;;
esac
