#!/bin/sh
# SPDX-License-Identifier: MIT
# The partition for the state is full. The device is provisioned all the same, says what is wrong, and its assignment is saved
# when there is room again. An assignment that was saved before is not lost.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

STATE=/var/lib/dps

shown() { dpsctl show gateway -p "$1" | sed "s/^$1=//"; }
served_hub() { sed -n 's/.*"hub": *"\([^"]*\)".*/\1/p' /run/dps/gateway/connection.json; }
is_saved() { grep -q "hub-$1.example" $STATE/gateway.json; }
is_healthy() { [ "$(shown Healthy)" = yes ]; }
fill() { ! dd if=/dev/zero of=$STATE/ballast bs=4k 2>/run/dd || fail 'the disk is not full'; }

mkdir -p $STATE
mount -t tmpfs -o size=256k,mode=0755 state $STATE
start_emulator
emulator_ctl set gw-1 iotHubs=hub-1.example
configure gateway gw-1
fill
systemctl start dpsd
dpsctl wait --timeout=90 gateway
[ "$(served_hub)" = hub-1.example ]
[ "$(shown LastErrorId)" = disk ] || fail "the error is '$(shown LastErrorId)'"
shown LastError | grep -q 'No space left on device'

rm $STATE/ballast
until_true is_saved 1
until_true is_healthy
fill
emulator_ctl set gw-1 iotHubs=hub-2.example
dpsctl reprovision --wait gateway
[ "$(served_hub)" = hub-2.example ]
is_saved 1 || fail 'the record was damaged'
[ "$(shown LastErrorId)" = disk ]
rm $STATE/ballast
until_true is_saved 2
[ -z "$(find $STATE -name '.#*')" ] || fail 'temporary files are left'
