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
groups=$(for group in dps dpsd tss; do getent group $group | cut -d : -f 3; done | sort -n | tr '\n' ' ')
[ "$(field Groups)" = "$groups" ] || fail "groups: $(field Groups)"
grep -q '^Max core file size *0 ' "/proc/$pid/limits"
[ "$(property MemorySwapMax)" = 0 ] || fail "keys may be swapped out"

inside() { nsenter --target "$pid" --mount --root --wd -- "$@"; }
exits 1 inside touch /etc/dps/x
exits 1 inside touch /usr/x
exits 0 inside touch /run/dps/x
[ "$(inside sh -c 'echo /home/* /root/*')" = '/home/* /root/*' ]
exits 1 inside test -e /dev/console
exits 1 inside test -e /dev/tpmrm0

# Lower these numbers when the confinement gets better. What is open in dpsd.service costs 8465 of some 56500 points: the
# network 4725 (PrivateNetwork=, AF_INET, AF_NETLINK, AF_UNIX, IPAddressDeny=), the question whether the clock is synchronised
# 1900 (ProtectClock=, @clock), files for other groups 1630 (PrivateUsers=, @privileged), and 210 the root directory and /proc.
# The drop-ins of modules add a device, 500, and the group that may use it, 200, and need both (tests/vm/tpm-device.sh). For 15,
# 690 of these would have to be won back: more than the group, AF_NETLINK, the root directory and /proc are worth together.
score() { # UNIT MOST
	systemd-analyze security --no-pager --threshold="$2" "$1" >/run/security || { cat /run/security; fail "$1 is less confined than before"; }
}
score dpsd.service 17
score dps-wait-provisioned.service 4
score dps-consumers.service 9
score dps-metrics.service 2
rm -r /usr/lib/systemd/system/dpsd.service.d
systemctl daemon-reload
score dpsd.service 15
for unit in dpsd dps-wait-provisioned dps-consumers dps-metrics; do
	case $(property MemoryMax $unit) in infinity | '') fail "$unit has no limit of memory" ;; esac
	[ "$(property TasksMax $unit)" -le 64 ] || fail "$unit may have $(property TasksMax $unit) threads"
done
