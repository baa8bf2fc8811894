#!/bin/sh
# SPDX-License-Identifier: MIT
# systemd has no warning about our units, and neither have systemd-sysusers and systemd-tmpfiles about their files. Everything
# is installed where it belongs. Presets enable the daemon, and nothing that nobody has asked for.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

systemd-analyze verify --man=no dpsd.service dps-consumers.path dps-consumers.service dps-wait-provisioned.service dps-provisioned.target \
	dps-provisioned@gateway.path dps-provisioned@gateway.target >/run/verify 2>&1 || true
! grep -i dps /run/verify || fail 'see above'
systemctl preset dpsd.service dps-metrics.service
[ "$(property UnitFileState)" = enabled ]
[ "$(property UnitFileState dps-metrics.service)" = disabled ]
id dpsd | grep -q '(dps)'
[ "$(stat -c '%a %U %G' /etc/dps)" = '750 root dpsd' ]
[ "$(dpsctl expand 100%%)" = 100% ]
