#!/bin/sh
# SPDX-License-Identifier: MIT
# dpsd is up without any network, says so truly, and provisions as soon as DPS is there.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

# Its certificate, but no emulator.
start_emulator
stop_emulator
configure gateway gw-1
systemctl start dpsd
systemctl is-active dpsd
until_true status_says '^0 of 1 identit'
exits 3 dpsctl status

start_emulator
dpsctl reprovision --wait gateway
until_true status_says '^1 of 1 identit'
exits 0 dpsctl status
