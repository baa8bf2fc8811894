#!/bin/sh
# SPDX-License-Identifier: MIT
# The version before reads what the newer one has remembered.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from now
provision
generation=$(dpsctl show gateway -p Generation)
registrations=$(n_registrations)
install_from before
dpsctl wait --timeout=30 gateway
[ "$(dpsctl show gateway -p Generation)" = "$generation" ]
[ "$(n_registrations)" = "$registrations" ]
