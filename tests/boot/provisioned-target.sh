#!/bin/sh
# SPDX-License-Identifier: MIT
# A unit that is ordered after dps-provisioned.target starts when the device is provisioned, and not before. It then has the
# variables of hub.env, and as a member of the group it can read the token.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

cat >/run/systemd/system/app.service <<'UNIT'
[Unit]
Wants=dps-provisioned.target
After=dps-provisioned.target
[Service]
Type=oneshot
User=nobody
SupplementaryGroups=dps
EnvironmentFile=/run/dps/gateway/hub.env
ExecStart=/bin/sh -c 'echo "$IOTHUB_HOSTNAME $IOTHUB_DEVICE_ID"; grep -q "^SharedAccessSignature" "$IOTHUB_TOKEN_FILE"'
StandardOutput=truncate:/run/app.out
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
until_true grep -qx 'hub-[12].example gw-1' /run/app.out
