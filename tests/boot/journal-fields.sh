#!/bin/sh
# SPDX-License-Identifier: MIT
# journalctl can select messages by identity and by message id, and an assignment is logged once.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

provision
journalctl --sync
[ "$(journalctl -b -q -o cat DPS_IDENTITY=gateway MESSAGE_ID=0d1a7c1e6f8c4f0d9c3a6d5e2b7f4a10 | wc -l)" = 1 ]
journalctl -b -q -o cat --output-fields=DPS_HUB DPS_IDENTITY=gateway | grep -q '^hub-[12].example$'
