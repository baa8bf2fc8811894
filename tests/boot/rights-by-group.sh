#!/bin/sh
# SPDX-License-Identifier: MIT
# Without polkit, only members of the group of an identity can use its credentials, and only root can manage.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

groupadd --system fieldbus
useradd --system --no-create-home --groups dps app
useradd --system --no-create-home --groups fieldbus bridge
systemctl mask --now polkit
mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nSupplementaryGroups=fieldbus\n' >/etc/systemd/system/dpsd.service.d/group.conf
systemctl daemon-reload
start_emulator
configure gateway gw-1
configure bridge gw-2 '[Access]' 'Group=fieldbus'
systemctl start dpsd
dpsctl wait --timeout=90

exits 0 as_user app dpsctl token gateway
exits 5 as_user app dpsctl token bridge
exits 0 as_user bridge dpsctl token bridge
exits 5 as_user bridge dpsctl token gateway
exits 0 as_user bridge cat /run/dps/bridge/token
exits 1 as_user bridge cat /run/dps/gateway/token
exits 5 as_user app dpsctl reprovision gateway
exits 0 dpsctl reprovision gateway
