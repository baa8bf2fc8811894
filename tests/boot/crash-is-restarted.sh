#!/bin/sh
# SPDX-License-Identifier: MIT
# systemd restarts a daemon that was killed. It serves the same assignment in the same directory, because a container may have
# mounted the directory.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nRestartSec=100ms\n' >/etc/systemd/system/dpsd.service.d/restart.conf
systemctl daemon-reload
provision
stop_emulator
inode=$(stat -c %i /run/dps/gateway)
kill -KILL "$(property MainPID)"
until_true is_property NRestarts 1
dpsctl wait --timeout=90 gateway
[ "$(stat -c %i /run/dps/gateway)" = "$inode" ]
systemctl restart dpsd
[ "$(stat -c %i /run/dps/gateway)" = "$inode" ]
