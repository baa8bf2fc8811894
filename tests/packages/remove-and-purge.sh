#!/bin/sh
# SPDX-License-Identifier: MIT
# A removal stops the daemon and keeps what it remembers, so that a second installation need not ask DPS. A purge clears
# what the daemon wrote, and keeps what the administrator wrote.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from now
provision
registrations=$(n_registrations)
systemctl start dps-metrics
apt-get -q -y remove dpsd
[ "$(property LoadState)" = not-found ]
exits 1 grep -qxs -e dpsd -e dpsctl /proc/[0-9]*/comm
[ -s /var/lib/dps/gateway.json ]
[ -s /etc/dps/gateway.conf ]

install_from now
[ "$(property ActiveState)" = active ]
dpsctl wait --timeout=30 gateway
[ "$(n_registrations)" = "$registrations" ]

apt-get -q -y purge dpsd
[ ! -e /var/lib/dps ]
[ ! -e /run/dps ]
[ -s /etc/dps/gateway.key ]

install_from now
rm -r /etc/dps/*
apt-get -q -y purge '^dps' '^libdps'
[ ! -e /etc/dps ]
[ -z "$(find / -xdev \( -path /run/boot-test -o -path /var/packages -o -path '/usr/lib/boot-test' -o -path /tmp \
	-o -path '/var/lib/emulator*' -o -path /var/log -o -path /var/cache \) -prune -o \
	\( -name 'dps*' -o -name 'libdps*' -o -name 'io.dpsd.*' \) -print | tee /dev/stderr)" ]
