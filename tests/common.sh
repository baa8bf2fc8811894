# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# What tests/run and tests/demo share. Debian's programs come first in PATH: another python3 would not find Debian's modules.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LANG=C.UTF-8 LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
umask 022

# Without dpkg-dev, meson would install libraries where the loader does not look.
packages_to_build=(dpkg-dev gcc libc6-dev libcurl4-openssl-dev libjson-c-dev libmicrohttpd-dev libmosquitto-dev libssl-dev libsystemd-dev
	libtss2-dev meson mosquitto-dev ninja-build pkgconf)
packages_to_run=(dbus-daemon mosquitto)
packages_to_test=(bash-completion clang clang-format crun curl dbus e2fsprogs fish git iproute2 libcmocka-dev libengine-pkcs11-openssl libpam-systemd
	libtss2-tcti-swtpm0 mandoc microsocks mosquitto-clients nftables nghttp2-proxy openssh-client opensc p11-kit-modules perl-base podman polkitd python3 python3-cryptography python3-dbus python3-gi python3-jeepney
	python3-prometheus-client python3-pytest python3-pytest-timeout python3-pytest-xdist reuse shellcheck softhsm2 squid swtpm systemd systemd-sysv tinyproxy
	tpm2-openssl tpm2-tools util-linux util-linux-extra xxd zsh)
packages_to_unpack=(libtss2-tcti-tabrmd0 tpm2-abrmd) # see fetch_resource_manager in tests/run
packages_to_analyze=(clang-tidy cppcheck)
packages_to_fuzz=(clang libclang-rt-dev)
packages_to_afl=(afl++ clang)
packages_to_bench=(binutils curl libtss2-tcti-swtpm0 softhsm2 swtpm tpm2-openssl tpm2-tools)
packages_to_package=(buildah crun curl debian-archive-keyring e2fsprogs git iproute2 mmdebstrap perl-base podman python3 util-linux util-linux-extra)
packages_to_interop=(ca-certificates mosquitto-clients) # nodejs and npm as well, unless they are installed from elsewhere
packages_to_vm=(cpio qemu-system-x86 swtpm systemd)
packages_in_vm=(coreutils dash dbus dbus-daemon findutils grep iproute2 libtss2-tcti-device0 mosquitto mount python3-cffi-backend python3-cryptography
	python3-jeepney python3-pytest python3-pytest-timeout sed systemd systemd-sysv systemd-timesyncd tpm2-tools)

as_root() {
	if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# sudo may ask for a password on a terminal, but not in CI.
can_be_root() {
	((EUID == 0)) || { command -v sudo && { sudo -n true || [[ -t 0 && -z ${CI:-} ]]; }; } &>/dev/null
}

# Some packages have another name in newer Debian, and provide the older one.
missing_packages() { # PACKAGE… -> prints those that are not installed
	local installed package
	installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' | sed -n 's/^installed //p' | tr ',\n' '  ') "
	for package; do
		[[ $installed = *" $package "* ]] || printf '%s\n' "$package"
	done
}

install_packages() { # PACKAGE…
	local missing log code=0
	command -v dpkg-query >/dev/null || return 0 # not Debian: meson tells what is missing
	mapfile -t missing < <(missing_packages "$@")
	((${#missing[@]})) || return 0
	if ! can_be_root; then
		echo "Packages are missing, and installing them needs root or sudo: apt-get install ${missing[*]}" >&2
		return 1
	fi
	echo "Installing ${missing[*]}"
	log=$(mktemp)
	{
		as_root apt-get -q -o DPkg::Lock::Timeout=300 update &&
			as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
				--no-install-recommends install "${missing[@]}"
	} >"$log" 2>&1 </dev/null || code=$?
	((code == 0)) || tail -n 30 "$log" >&2
	rm -f "$log"
	return "$code"
}

quietly() { # COMMAND…: prints its last lines if it fails
	local log code=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null || code=$?
	((code == 0)) || grep -vE '^\[[0-9]+/' "$log" | tail -n 60 >&2
	rm -f "$log"
	return "$code"
}

# Warnings are errors in CI only: a newer compiler or library warns of more, and a user's build must not fail for that.
configure() { # DIRECTORY [MESON-OPTION…]
	[[ ! -e $1/build.ninja ]] || return 0
	quietly meson setup ${CI:+-Dwerror=true} "$@" || { rm -rf "$1"; return 1; }
}

build() { # DIRECTORY [MESON-OPTION…]
	configure "$@" && quietly ninja -C "$1"
}
