#!/bin/sh
# SPDX-License-Identifier: MIT
# The file system becomes read-only under the daemon, as on failing flash. Programs still get new assignments. They are not
# lost by a restart on the read-only disk, nor by a restart after the disk was mounted again.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

STATE=/var/lib/dps DISK=/disk.img

shown() { dpsctl show gateway -p "$1" | sed "s/^$1=//"; }
served_hub() { sed -n 's/.*"hub": *"\([^"]*\)".*/\1/p' /run/dps/gateway/connection.json; }
n_registrations() { grep -c '"event":"register"' "$EMULATOR/requests.jsonl"; }
n_logged() { journalctl -b -q -o cat -u dpsd | grep -c 'serving from memory'; }
is_released() { [ -z "$(losetup --associated $DISK)" ]; }
is_healthy() { [ "$(shown Healthy)" = yes ]; }
is_saved() { grep -q "hub-$1.example" $STATE/gateway.json; }

mknod /dev/loop-control c 10 237
for n in $(seq 0 63); do mknod "/dev/loop$n" b 7 "$n"; done
truncate -s 16M $DISK
mkfs.ext4 -q $DISK
mkdir -p $STATE
mount -o loop $DISK $STATE

start_emulator
emulator_ctl set gw-1 iotHubs=hub-1.example
configure gateway gw-1
systemctl start dpsd
dpsctl wait --timeout=90 gateway
until_true is_saved 1
token=$(cat /run/dps/gateway/token)

mount -o remount,abort $STATE
for hub in 2 1 2; do
	emulator_ctl set gw-1 "iotHubs=hub-$hub.example"
	dpsctl reprovision --wait gateway
	[ "$(served_hub)" = "hub-$hub.example" ] || fail "the served hub is $(served_hub)"
	[ "$(shown AssignedHub)" = "hub-$hub.example" ]
	[ "$(shown LastErrorId)" = disk ] || fail "the error is '$(shown LastErrorId)'"
done
[ "$(cat /run/dps/gateway/token)" != "$token" ]
shown LastError | grep -q 'Read-only file system'
journalctl --sync
[ "$(n_logged)" = 1 ] || fail "logged $(n_logged) times"
generation=$(shown Generation) n_before=$(n_registrations)
cp -a /run/dps/gateway /run/before

systemctl restart dpsd
[ "$(shown AssignedHub)" = hub-2.example ] || fail "after a restart on the read-only disk the hub is $(shown AssignedHub)"
[ "$(shown Generation)" = "$generation" ]
diff -r /run/before /run/dps/gateway

systemctl stop dpsd
umount $STATE
until_true is_released
mount -o loop $DISK $STATE
is_saved 1 || fail 'the disk was not read-only'
systemctl start dpsd
[ "$(shown AssignedHub)" = hub-2.example ] || fail "after the disk was mounted again the hub is $(shown AssignedHub)"
until_true is_saved 2
until_true is_healthy
[ "$(shown Generation)" = "$generation" ]
diff -r /run/before /run/dps/gateway
[ "$(n_registrations)" = "$n_before" ] || fail 'DPS was asked again'
