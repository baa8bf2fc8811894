#!/bin/sh
# SPDX-License-Identifier: MIT
# Keys come to the daemon as systemd credentials: from files in /etc/dps/credentials, which only root can read, from a drop-in,
# and from what the initrd or the firmware has left for the system. Without the directory the service starts all the same.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

start_emulator
[ "$(stat -c '%a %U %G' /etc/dps/credentials)" = '700 root root' ]
echo "$KEY" >/etc/dps/credentials/gateway.key
chmod 0600 /etc/dps/credentials/gateway.key
configure gateway gw-1
configure other gw-2
rm /etc/dps/*.key
sed -i 's,^Key=.*,Key=credential:gateway.key,' /etc/dps/gateway.conf
sed -i 's,^Key=.*,Key=credential:from-initrd,' /etc/dps/other.conf

# An initrd leaves credentials in /run/credstore, which systemd looks through for what the system was not given otherwise.
install -d -m 0700 /run/credstore
mkdir -p /etc/systemd/system/dpsd.service.d
echo "$KEY" >/run/credstore/from-initrd
chmod 0600 /run/credstore/from-initrd
printf '[Service]\nLoadCredential=from-initrd\n' >/etc/systemd/system/dpsd.service.d/initrd.conf
systemctl daemon-reload
systemctl start dpsd
dpsctl wait --timeout=90 gateway other
exits 1 as_user dpsd cat /etc/dps/credentials/gateway.key

rm -r /etc/dps/credentials /run/credstore
systemctl restart dpsd
systemctl is-active dpsd
[ "$(dpsctl show gateway -p State)" = State=assigned ]
dpsctl status gateway || true
