#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): the key as an encrypted systemd credential; it is then in no file.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

start_emulator
use_emulator
cp /usr/share/doc/dps/examples/recipes/credential.conf /etc/dps/gateway.conf
cd /root
echo "$KEY" >gateway.key
recipe 'A KEY AS A SYSTEMD CREDENTIAL'
dpsctl wait --timeout=30 gateway
[ ! -e gateway.key ]
! grep -rq "$KEY" /etc/credstore.encrypted /etc/dps /run/dps /var/lib/dps /var/log/journal || fail 'the key leaked'
