#!/bin/sh
# SPDX-License-Identifier: MIT
# On a read-only root the daemon works: with a writable /var/lib/dps it remembers its assignment over a reboot, and without one
# it asks DPS at each boot, and says so.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

shown() { dpsctl show gateway -p "$1" | sed "s/^$1=//"; }
n_registrations() { grep -c '"event":"register"' "$EMULATOR/requests.jsonl"; }

mkdir /run/emulator
EMULATOR=/run/emulator/state
start_emulator
configure gateway gw-1
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\n' >/etc/systemd/journald.conf.d/volatile.conf
systemctl restart systemd-journald
mount -o remount,bind,ro /
! touch /x || fail 'the root is writable'

systemctl start dpsd
dpsctl wait --timeout=90 gateway
[ "$(shown LastErrorId)" = disk ] || fail "the error is '$(shown LastErrorId)'"
shown LastError | grep -q 'Read-only file system'
grep -q 'hub-[12].example' /run/dps/gateway/connection.json

# The partition for the state.
systemctl stop dpsd
mount -t tmpfs -o mode=0755 state /var/lib/dps
systemctl start dpsd
dpsctl wait --timeout=90 gateway
until_true test -e /var/lib/dps/gateway.json
is_healthy() { [ "$(shown Healthy)" = yes ]; }
until_true is_healthy
[ "$(stat -c '%a %U' /var/lib/dps)" = '700 dpsd' ]
n=$(n_registrations)
rm -r /run/dps/gateway # as after a boot
systemctl restart dpsd
dpsctl wait --timeout=90 gateway
[ "$(n_registrations)" = "$n" ] || fail 'DPS was asked again'
