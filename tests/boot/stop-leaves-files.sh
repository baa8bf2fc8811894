#!/bin/sh
# SPDX-License-Identifier: MIT
# A stopped service ends cleanly and at once, and programs keep what they had of it.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
cp -a /run/dps/gateway /run/before
systemctl stop dpsd
[ "$(property Result)" = success ]
diff -r /run/before /run/dps/gateway
exits 6 dpsctl status
