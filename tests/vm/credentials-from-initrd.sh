#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): keys that the boot stub of systemd puts into the initrd, encrypted, are credentials of the daemon.
# qemu: -m 2G
# initrd: dps_gateway.key=dGhpcnR5LXR3byBieXRlcyBtYWtlIGEgZmluZSBrZXk=
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

start_emulator
configure gateway gw-1
rm /etc/dps/gateway.key
sed -i 's,^Key=.*,Key=credential:gateway.key,' /etc/dps/gateway.conf
systemctl start dpsd
if ! grep -q '^ImportCredential=' /usr/lib/systemd/system/dpsd.service; then # before systemd 254
	until_true sh -c 'dpsctl show gateway -p LastError | grep -q credential'
	mkdir -p /etc/systemd/system/dpsd.service.d
	printf '[Service]\nLoadCredentialEncrypted=dps_gateway.key\n' >/etc/systemd/system/dpsd.service.d/credentials.conf
	systemctl daemon-reload
	systemctl restart dpsd
fi
dpsctl wait --timeout=60 gateway
