#!/bin/sh
# SPDX-License-Identifier: MIT
# The service is frozen for longer than its watchdog allows, and thawed: what it had it still has, programs had their files all
# the time, and DPS is not asked again. A registration that was frozen in the middle goes on.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

FREEZER=/sys/fs/cgroup/system.slice/dpsd.service/cgroup

n_registrations() { grep -c '"event":"register"' "$EMULATOR/requests.jsonl"; }
is_frozen() { grep -qx 'frozen 1' $FREEZER.events; }
n_ended_by_watchdog() { journalctl -u dpsd -b -q -o cat | grep -c 'Watchdog timeout' || true; }
has_ended_again() { [ "$(n_ended_by_watchdog)" -gt "$n_ended" ]; }
has_restarted() { [ "$(property NRestarts)" -gt "$n_restarts" ]; } # more than once, if the machine is so busy that it is not in time again
mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=100ms\n' >/etc/systemd/system/dpsd.service.d/watchdog.conf
systemctl daemon-reload
provision
cp -a /run/dps/gateway /run/before
inode=$(stat -c %i /run/dps/gateway)

serves_the_same() {
	until_true systemctl is-active dpsd
	dpsctl wait --timeout=90 gateway
	diff -r /run/before /run/dps/gateway
	[ "$(stat -c %i /run/dps/gateway)" = "$inode" ]
	[ "$(n_registrations)" = 1 ] || fail 'DPS was asked again'
}

# By systemd. Old versions count the time against the watchdog, end the service, refuse to thaw it, and start it again.
systemctl freeze dpsd
is_frozen || fail 'not frozen'
sleep 5
diff -r /run/before /run/dps/gateway
systemctl thaw dpsd || true
serves_the_same

# By another manager of control groups, of which systemd knows nothing: the watchdog ends the service.
until_true test -w $FREEZER.freeze
n_restarts=$(property NRestarts)
n_ended=$(n_ended_by_watchdog)
echo 1 >$FREEZER.freeze
until_true is_frozen
until_true has_ended_again
echo 0 >$FREEZER.freeze
until_true has_restarted
serves_the_same

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
