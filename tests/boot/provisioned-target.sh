#!/bin/sh
# SPDX-License-Identifier: MIT
# A unit that is ordered behind dps-provisioned.target starts when the device is provisioned, and not before.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

cat >/run/systemd/system/app.service <<'UNIT'
[Unit]
Wants=dps-provisioned.target
After=dps-provisioned.target
[Service]
Type=oneshot
ExecStart=/usr/bin/test -s /run/dps/gateway/hub.env
UNIT
systemctl daemon-reload
start_emulator
emulator_ctl set gw-1 assigningTime=600 retryAfter=1
configure gateway gw-1
systemctl start --no-block app
until_true grep -q '"event":"poll"' "$EMULATOR/requests.jsonl"
[ "$(property ActiveState app)" = inactive ] || fail 'started too early'
exits 3 systemctl is-active dps-provisioned.target

emulator_ctl set gw-1 assigningTime=0
emulator_ctl script gw-1 poll:200,status=assigned
systemctl start app
systemctl is-active dps-provisioned.target
