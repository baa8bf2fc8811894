#!/bin/sh
# SPDX-License-Identifier: MIT
# The first boot has no network. The daemon is ready all the same, and units that need the assignment wait. When the network
# comes, the device is provisioned by itself and they start.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

DPS=192.0.2.1

if [ "$BOOT_TEST_BOOT" = 1 ]; then # the factory
	install_app
	recipe 'A UNIT THAT STARTS WHEN THE ASSIGNMENT COMES'
	systemctl enable dpsd
	emulator_options="--host=$DPS"
	start_emulator # makes the CA certificate
	stop_emulator
	configure gateway gw-1
	sed -i "s/^Endpoint=.*/Endpoint=$DPS/" /etc/dps/gateway.conf
	boot-test-reboot
fi

until_true systemctl is-active dpsd
until_true sh -c 'dpsctl show gateway -p Waiting -p LastErrorId | grep -qx "LastErrorId=[a-z-]*"'
until_true sh -c 'dpsctl show gateway -p Waiting | grep -qx "Waiting=\(network\|retry\)"'
[ "$(property ActiveState app)" = inactive ] || fail 'started too early'
exits 3 systemctl is-active dps-provisioned@gateway.target

ip link add wan type veth peer name isp
ip link set isp up
ip link set wan up
ip address add $DPS/24 dev wan
emulator_options="--listen=0.0.0.0 --host=$DPS"
start_emulator
is_started() { [ "$(property ActiveState app)" = active ] && grep -q "^started hub-[12].example$" /tmp/app.hubs; }
until_true is_started
[ "$(dpsctl show gateway -p State)" = State=assigned ]
