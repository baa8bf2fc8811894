#!/bin/sh
# SPDX-License-Identifier: MIT
# systemd finds nothing to complain about in our units, nor sysusers and tmpfiles in theirs; and all is where it is looked for.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

systemd-analyze verify --man=no dpsd.service dps-wait-provisioned.service dps-provisioned.target \
	dps-provisioned@gateway.path dps-provisioned@gateway.target >/run/verify 2>&1 || true
! grep -i dps /run/verify || fail 'see above'
id dpsd | grep -q '(dps)'
[ "$(stat -c '%a %U %G' /etc/dps)" = '750 root dpsd' ]
[ "$(dpsctl expand 100%%)" = 100% ]
