#!/bin/sh
# SPDX-License-Identifier: MIT
# The key can be an encrypted systemd credential; then it is in no file that dpsd writes, and not in the journal.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

start_emulator
configure gateway gw-1
systemd-creds setup
systemd-creds encrypt --name=gateway.key /etc/dps/gateway.key /etc/dps/gateway.key.cred
rm /etc/dps/gateway.key
sed -i 's/^Key=.*/Key=credential:gateway.key/' /etc/dps/gateway.conf
mkdir -p /etc/systemd/system/dpsd.service.d
printf '[Service]\nLoadCredentialEncrypted=gateway.key:/etc/dps/gateway.key.cred\n' >/etc/systemd/system/dpsd.service.d/key.conf
systemctl daemon-reload
systemctl start dpsd
dpsctl wait --timeout=30 gateway
! grep -rq "$KEY" /run/dps /var/lib/dps /var/log/journal || fail 'the key leaked'
