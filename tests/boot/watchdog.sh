#!/bin/sh
# SPDX-License-Identifier: MIT
# systemd restarts a daemon that hangs, and it serves its assignment again.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nWatchdogSec=1\nRestartSec=100ms\n' >/etc/systemd/system/dpsd.service.d/watchdog.conf
systemctl daemon-reload
provision
kill -STOP "$(property MainPID)"
until_true is_property NRestarts 1
journalctl -u dpsd -b --no-pager | grep -q 'Watchdog timeout'
stop_emulator
dpsctl wait --timeout=30 gateway
