#!/bin/sh
# SPDX-License-Identifier: MIT
# A stop succeeds, and programs keep their files.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
cp -a /run/dps/gateway /run/before
systemctl stop dpsd
[ "$(property Result)" = success ]
diff -r /run/before /run/dps/gateway
exits 6 dpsctl status
