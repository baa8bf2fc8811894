#!/bin/sh
# SPDX-License-Identifier: MIT
# systemd restarts a daemon that hangs, and it serves its assignment again.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nWatchdogSec=3\nRestartSec=100ms\n' >/etc/systemd/system/dpsd.service.d/watchdog.conf
systemctl daemon-reload
provision
n_restarts=$(property NRestarts)
kill -STOP "$(property MainPID)"
has_restarted() { [ "$(property NRestarts)" -gt "$n_restarts" ]; }
until_true has_restarted
journalctl --sync
journalctl -u dpsd -b --no-pager | grep -q 'Watchdog timeout'
stop_emulator
dpsctl wait --timeout=90 gateway
