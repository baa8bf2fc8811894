#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): a partition for the state that cannot be mounted keeps systemd from starting the daemon. With the drop-in it
# starts, and provisions the device. A partition that can be mounted is waited for, and used.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

STATE=/var/lib/dps

# state_is_on TYPE-OF-FILE-SYSTEM
state_is_on() {
	systemctl stop dpsd
	printf '[Mount]\nWhat=state\nWhere=%s\nType=%s\nOptions=mode=0700,uid=%s,gid=%s\n' "$STATE" "$1" "$(id -u dpsd)" "$(id -g dpsd)" \
		>/etc/systemd/system/var-lib-dps.mount
	systemctl daemon-reload
}

start_emulator
configure gateway gw-1
state_is_on nosuch
exits 1 systemctl start dpsd
recipe 'A PARTITION FOR THE STATE'
systemctl start dpsd
dpsctl wait --timeout=90 gateway

rm -f $STATE/gateway.json
state_is_on tmpfs
systemctl start var-lib-dps.mount dpsd
dpsctl wait --timeout=90 gateway
until_true test -e $STATE/gateway.json
mountpoint -q $STATE
[ "$(dpsctl show gateway -p LastErrorId)" = LastErrorId= ]
