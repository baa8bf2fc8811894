#!/bin/sh
# SPDX-License-Identifier: MIT
# An identity that needs a module which is not installed says which package has it, and goes on as soon as it is installed,
# while the daemon keeps running, but for modules that need devices.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from now dpsd libdps0
configure gateway gw-1 '[Provisioning]' 'Transport=https'
systemctl reload dpsd
until_true sh -c 'dpsctl show gateway -p LastError | grep -q "install the package dps-https"'
old=$(pid)
install_from now dps-https
until_true sh -c '! dpsctl show gateway -p LastError | grep -q dps-https'
[ "$(pid)" = "$old" ]

# The daemon is started again for a module that needs devices, which the drop-in of its package opens.
for module in tpm hardware-key; do
	old=$(pid)
	install_from now dps-$module
	[ "$(pid)" != "$old" ]
	property DropInPaths | grep -q 50-dps-$module.conf
	systemctl is-active dpsd
done
