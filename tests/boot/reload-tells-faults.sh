#!/bin/sh
# SPDX-License-Identifier: MIT
# systemctl reload fails if a file has a fault, the journal tells the line, and the identity keeps working.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
sed -i 's/^IdScope=.*/IdScope=/; s/^RegistrationId=.*/RegistrationId=not an id/' /etc/dps/gateway.conf
exits 1 systemctl reload dpsd
systemctl is-active dpsd
[ "$(dpsctl show gateway -p State)" = State=assigned ]
journalctl -u dpsd -b --no-pager | grep -q '/etc/dps/gateway.conf:3'
