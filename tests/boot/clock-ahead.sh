#!/bin/sh
# SPDX-License-Identifier: MIT
# The clock is three years ahead at the boot, and is corrected when the time is synchronised. The assignment is served all the
# time, there is no burst of registrations, and afterwards everything is counted by the right clock.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

AHEAD=$((3 * 365 * 86400))

n_registrations() { grep -c '"event":"register"' "$EMULATOR/requests.jsonl"; }
shown() { dpsctl show gateway -p "$1" | sed "s/^$1=//"; }
is_usec_near() { [ "$1" -gt $(($(date +%s) * 1000000)) ] && [ "$1" -lt $((($(date +%s) + 31 * 86400) * 1000000)) ]; }

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	provision
	boot-test-reboot
fi

start_emulator
fake_clock $AHEAD
systemctl start dpsd
[ "$(shown State)" = assigned ]
# shellcheck disable=SC2016 # for the inner shell
until_true sh -c '[ "$(dpsctl show gateway -p NextAttemptAt)" != NextAttemptAt=0 ]'
grep -q 'hub-[12].example' /run/dps/gateway/connection.json
set_clock 0 1
is_settled() { [ "$(shown Healthy)" = yes ] && is_usec_near "$(shown RenewAt)" && is_usec_near "$(shown TokenExpiresAt)"; }
until_true is_settled
[ "$(shown State)" = assigned ]
[ "$(n_registrations)" -le 3 ] || fail "$(n_registrations) registrations"
expiry=$(sed -n 's/.*"expiresAt": *\([0-9]*\).*/\1/p' /run/dps/gateway/connection.json)
is_usec_near "$expiry" || fail "the token expires at $expiry"
