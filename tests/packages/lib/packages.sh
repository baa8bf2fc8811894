# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Functions for the tests of packages. The packages to test are in /var/packages/now, and those of the version before in
# /var/packages/before.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh
export DEBIAN_FRONTEND=noninteractive

# install_from now|before [PACKAGE…]: as apt does it, without PACKAGE all.
install_from() {
	from=/var/packages/$1
	shift
	[ $# != 0 ] || set -- dpsd dps-https dps-api dps-tpm dps-hardware-key dps-import libdps0 libdps-dev dps-emulator
	for package; do
		shift
		set -- "$@" "$from/$package"_*.deb
	done
	apt-get -q -y --no-install-recommends --reinstall --allow-downgrades install "$@"
}

installed_version() { dpkg-query -W -f '${Version}' dpsd; }
running_version() { busctl get-property io.dpsd.dps1 /io/dpsd/dps1 io.dpsd.dps1.Manager Version; }
pid() { property MainPID; }

# Starts the emulator, and waits until the gateway is assigned. The packages have started the daemon.
provision() {
	start_emulator
	configure gateway gw-1
	systemctl reload dpsd
	dpsctl wait --timeout=30 gateway
}

# How often DPS was asked for a registration of gw-1.
n_registrations() { emulator_ctl list | tr ',' '\n' | sed -n 's/.*"registers": *\([0-9]*\).*/\1/p'; }

# Fails if the journal has a warning of the daemon, or of its start.
no_warnings() {
	journalctl --sync
	warnings=$(journalctl -b -q -p warning -u dpsd.service -o cat)
	[ -z "$warnings" ] || fail "the journal has warnings: $warnings"
}
