#!/bin/sh
# SPDX-License-Identifier: MIT
# Without any configuration the service is healthy, and says that there is no identity.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

systemctl start dpsd
systemctl is-active dpsd
property StatusText | grep -i 'no identit'
exits 0 dpsctl status
[ "$(busctl get-property io.dpsd.dps1 /io/dpsd/dps1 io.dpsd.dps1.Manager State)" = 's "idle"' ]
