#!/bin/sh
# SPDX-License-Identifier: MIT
# After an update went back to the older of two systems, the older daemon serves the record that a newer one wrote, without
# asking DPS, and does not throw away what it does not understand before it has something better.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	systemctl enable dpsd
	provision
	cp -a /run/dps/gateway /run/boot-test/keep/
	systemctl stop dpsd
	sed -i 's/"version": *[0-9]*/"version":99,"slots":[{"a":1}],"mood":"sunny"/; s/"method": *"symmetric-key"/&,"substatusReason":{"x":[]}/' \
		/var/lib/dps/gateway.json
	grep -q '"version":99' /var/lib/dps/gateway.json
	boot-test-reboot
fi

until_true systemctl is-active dpsd
dpsctl wait --timeout=90 gateway
diff -r /run/boot-test/keep/gateway /run/dps/gateway
[ ! -e /var/lib/dps/gateway.json.corrupt ]
