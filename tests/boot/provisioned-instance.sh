#!/bin/sh
# SPDX-License-Identifier: MIT
# A unit that is enabled in dps-provisioned@NAME.target starts when the assignment comes, however late that is.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

cat >/etc/systemd/system/app.service <<'UNIT'
[Unit]
After=dps-provisioned@gateway.target
[Service]
EnvironmentFile=/run/dps/gateway/hub.env
ExecStart=/bin/sh -c 'echo "$IOTHUB_HOSTNAME" >/run/app.hub; exec sleep infinity'
[Install]
WantedBy=dps-provisioned@gateway.target
Also=dps-provisioned@gateway.path
UNIT
systemctl enable app
systemctl start dps-provisioned@gateway.path
systemctl start dpsd
[ "$(property ActiveState app)" = inactive ] || fail 'started too early'

start_emulator
configure gateway gw-1
systemctl reload dpsd
until_true systemctl is-active app
until_true grep -q '^hub-[12].example$' /run/app.hub
