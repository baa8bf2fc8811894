#!/bin/sh
# SPDX-License-Identifier: MIT
# systemctl service-log-level reads and sets the log level of the daemon.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

systemctl start dpsd
systemctl service-log-level dpsd debug
[ "$(systemctl service-log-level dpsd)" = debug ]
[ "$(systemctl service-log-target dpsd)" = journal ]
