#!/bin/sh
# SPDX-License-Identifier: MIT
# A gateway with 500 identities is ready soon after the boot, serves all that it remembers, registers those that are new, and
# its status is answered at once.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

REMEMBERED=490 # of 500

if [ "$BOOT_TEST_BOOT" = 1 ]; then
	systemctl enable dpsd
	provision
	for n in $(seq -w $((REMEMBERED + 1)) 500); do
		printf '{ "registrationId": "gw-%s", "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": "%s", "secondaryKey": "%s" } } }\n' \
			"$n" "$KEY" "$KEY"
	done | { printf '{ "individualEnrollments": ['; paste -s -d ,; printf '] }'; } | emulator_ctl enroll -
	systemctl stop dpsd
	python3 - <<-'PROGRAM'
		import base64, hashlib, hmac, pathlib
		conf = pathlib.Path("/etc/dps/gateway.conf")
		record = pathlib.Path("/var/lib/dps/gateway.json")
		key = base64.b64decode(pathlib.Path("/etc/dps/gateway.key").read_bytes())
		fingerprint = lambda name: hmac.new(key, f"dps credential fingerprint 1\n{name}".encode(), hashlib.sha256).hexdigest()
		for n in range(1, 501):
		    name = f"gw-{n:03}"
		    conf.with_name(f"d{n:03}.conf").write_text(conf.read_text().replace("=gw-1\n", f"={name}\n"))
		    if n <= 490:
		        text = record.read_text().replace('"gw-1"', f'"{name}"').replace(fingerprint("gw-1"), fingerprint(name))
		        record.with_name(f"d{n:03}.json").write_text(text)
		conf.unlink()
		record.unlink()
	PROGRAM
	chown dpsd:dpsd /var/lib/dps/*.json
	chmod 0600 /var/lib/dps/*.json
	boot-test-reboot
fi

until_true systemctl is-active dpsd
# It has told that it is ready: what it remembers is served by then.
n=$(find /run/dps -name connection.json | wc -l)
[ "$n" = $REMEMBERED ] || fail "$n are served"
status_says "^$REMEMBERED of 500 identities assigned"
emulator_options=--enrollments=$EMULATOR/enrollments.json # those of the last run, since dpsd asks as soon as it listens
start_emulator
dpsctl reprovision --wait d500
dpsctl wait --timeout=90
[ "$(dpsctl status --no-legend --json=short | tr '{' '\n' | grep -c '"State":"assigned"')" = 500 ]
n=$(grep -c '"event":"register"' "$EMULATOR/requests.jsonl") # one of them made the record that the others are copies of
[ "$n" = $((1 + 500 - REMEMBERED)) ] || fail "$n registrations"
