#!/bin/sh
# SPDX-License-Identifier: MIT
# Who stopped the daemon finds it stopped after an upgrade, and who disabled it finds it disabled.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh

install_from before
systemctl stop dpsd
install_from now
[ "$(property ActiveState)" = inactive ]
[ "$(property UnitFileState)" = enabled ]
install_from before
systemctl disable dpsd
install_from now
[ "$(property ActiveState)" = inactive ]
[ "$(property UnitFileState)" = disabled ]
