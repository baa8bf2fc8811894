#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): the unit starts when the assignment comes, at the next boot too, and is started again when its program ends.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

is_started() { [ "$(property ActiveState app)" = active ] && grep -q "^started hub-[12].example$" /tmp/app.hubs; }

if [ "$BOOT_TEST_BOOT" = 2 ]; then
	systemctl start dpsd # which serves what it remembers
	until_true is_started
	exit
fi
install_app
systemctl start dpsd
recipe 'A UNIT THAT STARTS WHEN THE ASSIGNMENT COMES'
[ "$(property ActiveState app)" = inactive ] || fail 'started too early'
start_emulator
configure gateway gw-1
systemctl reload dpsd
until_true is_started

before=$(property MainPID app)
kill -KILL "$before"
is_another() { [ "$(property MainPID app)" != "$before" ] && is_started; }
until_true is_another
boot-test-reboot
