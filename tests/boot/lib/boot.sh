# SPDX-License-Identifier: MIT
# shellcheck shell=sh
# Functions for the boot tests: an emulator beside dpsd, and gateways that are configured for it.
set -eu

KEY=$(printf '%s' 'thirty-two bytes make a fine key' | base64)
EMULATOR=/var/lib/emulator
emulator_options=

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# exits STATUS COMMAND…: fails unless COMMAND exits with STATUS.
exits() {
	want=$1 code=0
	shift
	"$@" || code=$?
	[ "$code" = "$want" ] || fail "$*: exit status $code instead of $want"
}

# until_true COMMAND…: polls, for conditions without an event to wait for.
until_true() {
	n=0
	until "$@"; do
		n=$((n + 1))
		[ $n -lt 400 ] || fail "never became true: $*"
		sleep 0.05
	done
}

property() { systemctl show -P "$1" "${2:-dpsd.service}"; }
status_says() { property StatusText | grep -q -e "$1"; }
# is_property PROPERTY VALUE [UNIT]
is_property() { [ "$(property "$1" "${3:-dpsd.service}")" = "$2" ]; }

start_emulator() {
	mkdir -p "$EMULATOR"
	cat >"$EMULATOR.json" <<-JSON
		{ "idScope": "0ne00AABBCC", "retryAfter": 0, "assigningTime": 0, "hubs": ["hub-1.example", "hub-2.example"],
		  "enrollmentGroups": [], "individualEnrollments": [
		    { "registrationId": "gw-1", "attestation": { "type": "symmetricKey",
		      "symmetricKey": { "primaryKey": "$KEY", "secondaryKey": "$KEY" } } },
		    { "registrationId": "gw-2", "attestation": { "type": "symmetricKey",
		      "symmetricKey": { "primaryKey": "$KEY", "secondaryKey": "$KEY" } } } ] }
	JSON
	rm -f /run/emulator.ready
	mkfifo /run/emulator.ready
	# shellcheck disable=SC2086 # they are several
	dps-emulator --state="$EMULATOR" --enrollments="$EMULATOR.json" --port=8883 $emulator_options >/run/emulator.ready 2>/run/emulator.log &
	emulator_pid=$!
	# The emulator writes one line when it is ready.
	read -r _ </run/emulator.ready || { cat /run/emulator.log >&2; fail 'the emulator does not start'; }
	[ -e /etc/dps/ca.pem ] || install -m 0644 "$EMULATOR/ca.pem" /etc/dps/ca.pem
}

stop_emulator() {
	kill "$emulator_pid"
	wait "$emulator_pid" || fail "the emulator ended with $?"
}

emulator_ctl() { dps-emulator ctl --state="$EMULATOR" "$@"; }

# as_user USER COMMAND…
as_user() {
	user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"
}

# configure NAME REGISTRATION-ID [LINE…]: the lines are added at the end, in the section [Attestation].
configure() {
	name=$1 id=$2
	shift 2
	install -m 0640 -g dpsd /dev/null "/etc/dps/$name.key"
	echo "$KEY" >"/etc/dps/$name.key"
	{
		printf '[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=%s\nEndpoint=127.0.0.1\nCaFile=/etc/dps/ca.pem\n' "$id"
		printf '[Attestation]\nKey=/etc/dps/%s.key\n' "$name"
		[ $# = 0 ] || printf '%s\n' "$@"
	} >"/etc/dps/$name.conf"
}

# Starts the emulator and dpsd, and waits until the gateway is assigned.
provision() {
	start_emulator
	configure gateway gw-1
	systemctl start dpsd
	dpsctl wait --timeout=90 gateway
}

# commands_of SECTION PROMPT: prints the commands of this section of dps-recipes(7) that come after this prompt.
commands_of() {
	awk -v section="$1" -v prompt="^$2" '
		/^\.Sh / { inside = substr($0, 5) == section }
		/^\.Ed/ { literal = shown = 0 }
		literal && shown == 0 { shown = $0 ~ prompt ? 1 : -1 }
		inside && literal && shown == 1 { sub(prompt, ""); gsub(/\\e/, "\\"); gsub(/\\\(aq/, "'\''"); print; found = 1 }
		/^\.Bd -literal/ { literal = 1 }
		END { exit !found }' /usr/share/man/man7/dps-recipes.7 || fail "dps-recipes(7): no commands in $1"
}

# recipe SECTION: runs the commands of root.
recipe() {
	commands_of "$1" '# ' >/run/recipe
	sh -eux /run/recipe
}

# For identities of recipes, which have no endpoint: that of the emulator.
use_emulator() {
	mkdir -p /etc/dps/dpsd.conf.d
	printf '[Provisioning]\nEndpoint=127.0.0.1\nCaFile=/etc/dps/ca.pem\n' >/etc/dps/dpsd.conf.d/50-test.conf
}

# A program that notes its hub each time it is started or reloaded.
install_app() {
	cat >/usr/local/bin/app <<-'APP'
		#!/bin/sh
		note() { . /run/dps/gateway/hub.env && echo "$1 $IOTHUB_HOSTNAME" >>/tmp/app.hubs; }
		trap 'note reloaded' HUP
		note started
		while :; do sleep 0.05; done
	APP
	chmod 0755 /usr/local/bin/app
}

# Gives the daemon a clock of its own, at each boot anew. Nobody may set that of this machine.
fake_clock() {
	mkdir -p /run/clock /etc/systemd/system/dpsd.service.d
	head -c 4096 /dev/zero >/run/clock/now
	[ -e /run/clock/now.jump ] || mkfifo -m 0666 /run/clock/now.jump
	printf '[Service]\nEnvironment=LD_PRELOAD=/usr/lib/boot-test/test-world.so DPS_TEST_CLOCK=/run/clock/now\n' \
		>/etc/systemd/system/dpsd.service.d/clock.conf
	systemctl daemon-reload
	set_clock "$@"
}

# set_clock SECONDS [SYNCHRONISED]: after the right time, or before it if negative.
set_clock() {
	python3 - "$1" "${2:-0}" <<-'PROGRAM'
		import mmap, os, sys
		with open("/run/clock/now", "r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
		    words = memoryview(memory).cast("q")
		    words[0], words[2] = int(sys.argv[1]) * 10**9, int(sys.argv[2])
		    words.release()
		os.write(os.open("/run/clock/now.jump", os.O_RDWR), b"j")
	PROGRAM
}
