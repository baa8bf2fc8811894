#!/bin/sh
# SPDX-License-Identifier: MIT
# dpsctl import-key works with the systemd of this release. What the initrd has left for the system is a credential where
# systemd can import it.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from now dpsd libdps0 dps-emulator
start_emulator
configure gateway gw-1
configure other gw-2
sed -i 's,^Key=.*,Key=credential:gateway.key,' /etc/dps/gateway.conf
sed -i 's,^Key=.*,Key=credential:other.key,' /etc/dps/other.conf
dpsctl import-key gateway.key /etc/dps/gateway.key
rm /etc/dps/gateway.key
if grep -q '^ImportCredential=' /usr/lib/systemd/system/dpsd.service /lib/systemd/system/dpsd.service; then
	install -d -m 0700 /run/credstore
	install -m 0600 /etc/dps/other.key /run/credstore/dps_other.key
else
	[ "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')" -lt 254 ]
	install -m 0600 /etc/dps/other.key /etc/dps/credentials/other.key
fi
rm /etc/dps/other.key
systemctl daemon-reload
systemctl restart dpsd
dpsctl wait --timeout=30 gateway other
no_warnings
