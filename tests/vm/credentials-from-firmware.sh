#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): keys that the firmware (SMBIOS) and the boot loader hand to systemd are credentials of the daemon, and are in
# no file.
# qemu: -smbios type=11,value=io.systemd.credential:dps_gateway.key=dGhpcnR5LXR3byBieXRlcyBtYWtlIGEgZmluZSBrZXk=
# kernel: systemd.set_credential=dps_other.key:dGhpcnR5LXR3byBieXRlcyBtYWtlIGEgZmluZSBrZXk=
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

start_emulator
configure gateway gw-1
configure other gw-2
rm /etc/dps/*.key
sed -i 's,^Key=.*,Key=credential:gateway.key,' /etc/dps/gateway.conf
sed -i 's,^Key=.*,Key=credential:other.key,' /etc/dps/other.conf
systemctl start dpsd
if ! grep -q '^ImportCredential=' /usr/lib/systemd/system/dpsd.service; then # before systemd 254
	until_true sh -c 'dpsctl show gateway -p LastError | grep -q credential'
	mkdir -p /etc/systemd/system/dpsd.service.d
	printf '[Service]\nLoadCredential=dps_gateway.key\nLoadCredential=dps_other.key\n' \
		>/etc/systemd/system/dpsd.service.d/credentials.conf
	systemctl daemon-reload
	systemctl restart dpsd
fi
dpsctl wait --timeout=60 gateway other
