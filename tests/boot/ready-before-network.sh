#!/bin/sh
# SPDX-License-Identifier: MIT
# dpsd is ready without a network, says truly that nothing is assigned, and provisions when DPS is there.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

# The emulator makes its CA certificate, which the configuration needs, and stops.
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
