#!/bin/sh
# SPDX-License-Identifier: MIT
# The kernel confirms that the daemon is unprivileged and confined, and its confinement never gets worse.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
pid=$(property MainPID)
field() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }

[ "$(field CapBnd)" = 0000000000000000 ] || fail "capabilities: $(field CapBnd)"
[ "$(field CapEff)" = 0000000000000000 ]
[ "$(field NoNewPrivs)" = 1 ]
[ "$(field Seccomp)" = 2 ]
[ "$(field Uid | cut -f 1)" = "$(id -u dpsd)" ]
groups=$(for group in dps dpsd; do getent group $group | cut -d : -f 3; done | sort -n | tr '\n' ' ')
[ "$(field Groups)" = "$groups" ] || fail "groups: $(field Groups)"
grep -q '^Max core file size *0 ' "/proc/$pid/limits"

inside() { nsenter --target "$pid" --mount --root --wd -- "$@"; }
exits 1 inside touch /etc/dps/x
exits 1 inside touch /usr/x
exits 0 inside touch /run/dps/x
[ "$(inside sh -c 'echo /home/* /root/*')" = '/home/* /root/*' ]
exits 1 inside test -e /dev/console

# Lower this number when the confinement gets better.
systemd-analyze security --no-pager --threshold=17 dpsd.service >/run/security || { cat /run/security; fail 'less confined than before'; }
