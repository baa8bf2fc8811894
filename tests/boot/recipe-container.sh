#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): what has mounted the directory of the identity, and has the number of its group, sees each new hub, also
# after the daemon was restarted.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
mkdir -p /srv/container/gateway
# Like a container: a mount namespace of its own, and a user that is known by numbers only.
cat >/run/in-container <<'PROGRAM'
mount --bind -o ro /run/dps/gateway /srv/container/gateway
exec setpriv --reuid 54321 --regid 54321 --groups "$(getent group dps | cut -d: -f3)" --bounding-set -all --no-new-privs \
	sh -c 'while :; do grep ^IOTHUB_HOSTNAME= /srv/container/gateway/hub.env >>/tmp/seen; sleep 0.05; done'
PROGRAM
: >/tmp/seen
chmod 0666 /tmp/seen
unshare --mount --propagation private sh -eu /run/in-container &
until_true grep -q 'hub-[12].example' /tmp/seen
systemctl restart dpsd
emulator_ctl set gw-1 iotHubs=hub-9.example
dpsctl reprovision gateway --wait
until_true grep -q 'hub-9.example' /tmp/seen
