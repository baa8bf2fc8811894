#!/bin/sh
# SPDX-License-Identifier: MIT
# The service is frozen for longer than its watchdog allows, and thawed: what it had it still has, programs had their files all
# the time, and DPS is not asked again. A registration that was frozen in the middle goes on.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

FREEZER=/sys/fs/cgroup/system.slice/dpsd.service/cgroup

n_registrations() { grep -c '"event":"register"' "$EMULATOR/requests.jsonl"; }
is_frozen() { grep -qx 'frozen 1' $FREEZER.events; }
is_barked() { journalctl -b -q -o cat -u dpsd | grep -c 'Watchdog timeout' | grep -qx "$1"; }

mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\nRestartSec=100ms\n' >/etc/systemd/system/dpsd.service.d/watchdog.conf
systemctl daemon-reload
provision
cp -a /run/dps/gateway /run/before
inode=$(stat -c %i /run/dps/gateway)

serves_the_same() { # N_RESTARTS
	until_true is_property NRestarts "$1"
	until_true systemctl is-active dpsd
	dpsctl wait --timeout=30 gateway
	diff -r /run/before /run/dps/gateway
	[ "$(stat -c %i /run/dps/gateway)" = "$inode" ]
	[ "$(n_registrations)" = 1 ] || fail 'DPS was asked again'
}

# By systemd, which ends a frozen service by itself.
systemctl freeze dpsd
is_frozen || fail 'not frozen'
until_true is_barked 1
diff -r /run/before /run/dps/gateway
systemctl thaw dpsd || true # systemd 252 refuses where the watchdog has fired
serves_the_same 1

# By another manager of control groups.
echo 1 >$FREEZER.freeze
until_true is_frozen
until_true is_barked 2
echo 0 >$FREEZER.freeze
serves_the_same 2

# In the middle of a registration, for less than the watchdog allows.
rm /etc/systemd/system/dpsd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart dpsd
emulator_ctl set gw-1 assigningTime=600 retryAfter=1 iotHubs=hub-9.example
n_polls=$(grep -c '"event":"poll"' "$EMULATOR/requests.jsonl") || true
dpsctl --quiet reprovision gateway
until_true sh -c "[ \"\$(grep -c '\"event\":\"poll\"' $EMULATOR/requests.jsonl)\" -gt $n_polls ]"
systemctl freeze dpsd
emulator_ctl script gw-1 poll:200,status=assigned
sleep 2
systemctl thaw dpsd
until_true grep -q hub-9.example /run/dps/gateway/connection.json
[ "$(property NRestarts)" = 0 ]
