#!/bin/sh
# SPDX-License-Identifier: MIT
# The process that serves is unprivileged and confined, as the kernel tells it; and not less than it once was.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
pid=$(property MainPID)
figure() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }

[ "$(figure CapBnd)" = 0000000000000000 ] || fail "capabilities: $(figure CapBnd)"
[ "$(figure CapEff)" = 0000000000000000 ]
[ "$(figure NoNewPrivs)" = 1 ]
[ "$(figure Seccomp)" = 2 ]
[ "$(figure Uid | cut -f 1)" = "$(id -u dpsd)" ]
groups=$(for group in dps dpsd; do getent group $group | cut -d : -f 3; done | sort -n | tr '\n' ' ')
[ "$(figure Groups)" = "$groups" ] || fail "groups: $(figure Groups)"
grep -q '^Max core file size *0 ' "/proc/$pid/limits"

inside() { nsenter --target "$pid" --mount --root --wd -- "$@"; }
exits 1 inside touch /etc/dps/x
exits 1 inside touch /usr/x
exits 0 inside touch /run/dps/x
[ "$(inside sh -c 'echo /home/* /root/*')" = '/home/* /root/*' ]
exits 1 inside test -e /dev/console

# A ratchet: lower it where it gets better.
systemd-analyze security --no-pager --threshold=17 dpsd.service >/run/security || { cat /run/security; fail 'less confined than before'; }
