#!/bin/sh
# SPDX-License-Identifier: MIT
# After a reboot without a network, dpsd serves the same assignment with the same token.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

case $BOOT_TEST_BOOT in
1)
	systemctl enable dpsd
	provision
	cp -a /run/dps/gateway /run/boot-test/keep/
	boot-test-reboot
	;;
2)
	until_true systemctl is-active dpsd
	dpsctl wait --timeout=90 gateway
	diff -r /run/boot-test/keep/gateway /run/dps/gateway
	;;
esac
