#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): the program is reloaded when its hub changes, and not when only its token is new.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

install_app
recipe 'A UNIT THAT STARTS WHEN THE ASSIGNMENT COMES'
mkdir -p /etc/systemd/system/app.service.d
printf "[Service]\nExecReload=kill -HUP \$MAINPID\n" >/etc/systemd/system/app.service.d/reload.conf
provision
until_true grep -q '^started' /tmp/app.hubs
recipe 'A UNIT THAT IS RELOADED BY D-BUS'
follower_says() { journalctl -b -u app-follow --no-pager | grep -q "AssignedHub=$1"; }
until_true follower_says 'hub-[12].example'

generation=$(dpsctl show gateway -p Generation)
mkdir -p /etc/dps/gateway.conf.d
printf '[Hub]\nTokenLifetime=2h\n' >/etc/dps/gateway.conf.d/token.conf
dpsctl reload
is_new() { [ "$(dpsctl show gateway -p Generation)" != "$generation" ]; }
until_true is_new
for hub in hub-8.example hub-9.example; do
	emulator_ctl set gw-1 iotHubs=$hub
	dpsctl reprovision gateway --wait
	until_true grep -q "^reloaded $hub$" /tmp/app.hubs
done
[ "$(grep -c '^reloaded' /tmp/app.hubs)" = 2 ] || fail "$(cat /tmp/app.hubs)"
