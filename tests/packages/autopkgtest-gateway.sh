#!/bin/sh
# SPDX-License-Identifier: MIT
# The test that the packages have for autopkgtest passes on a booted system.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from now
/var/packages/autopkgtests/gateway
