#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): the program is restarted whenever its hub changes.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

install_app
recipe 'A UNIT THAT STARTS WHEN THE ASSIGNMENT COMES'
provision
recipe 'A UNIT THAT IS RESTARTED WHEN HUB OR TOKEN CHANGE'
until_true grep -q . /tmp/app.hubs
for hub in hub-8.example hub-9.example; do
	emulator_ctl set gw-1 iotHubs=$hub
	dpsctl reprovision gateway --wait
	until_true grep -q "^started $hub$" /tmp/app.hubs
done
