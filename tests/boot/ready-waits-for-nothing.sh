#!/bin/sh
# SPDX-License-Identifier: MIT
# With a remembered assignment the service is ready, and its consumers run, while the network is never online, the time is
# never synchronised, and nobody has asked the daemon for anything.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	install_app
	recipe 'A UNIT THAT STARTS WHEN THE ASSIGNMENT COMES'
	cat >/etc/systemd/system/never.service <<-'UNIT'
		[Unit]
		Before=network-online.target time-sync.target time-set.target
		DefaultDependencies=no
		[Service]
		Type=oneshot
		ExecStart=sleep infinity
		TimeoutStartSec=infinity
		[Install]
		WantedBy=network-online.target time-sync.target time-set.target
	UNIT
	printf '[Unit]\nWants=network-online.target time-sync.target time-set.target\n[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
		>/etc/systemd/system/wants-all.service
	systemctl daemon-reload
	systemctl enable never wants-all dpsd
	systemctl mask timers.target mosquitto.service # they wait for the time or the network, and the boot for them
	provision
	cp -a /run/dps/gateway /run/boot-test/keep/
	boot-test-reboot
fi

systemctl list-jobs --no-legend >/run/jobs
for target in network-online time-sync time-set; do
	grep -q "$target.target *start waiting" /run/jobs || { cat /run/jobs; fail "$target.target is not waited for"; }
done
until_true is_property ActiveState active dpsd
diff -r /run/boot-test/keep/gateway /run/dps/gateway
is_started() { [ "$(property ActiveState app)" = active ] && grep -q "^started hub-[12].example$" /tmp/app.hubs; }
until_true is_started
is_property ActiveState activating never || fail 'what never ends has ended'
