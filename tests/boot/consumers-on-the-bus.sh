#!/bin/sh
# SPDX-License-Identifier: MIT
# The examples in C, Python and shell, as an ordinary user in the group dps: they get the connection, see each new hub, and
# report how the hub takes them. The daemon asks DPS again when they say that the hub refuses them.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

EXAMPLES=/usr/share/doc/dps/examples

shown() { dpsctl show gateway -p "$1" | sed "s/^$1=//"; }
sees() { grep -q "$2" "/run/app/$1"; }

useradd --system --no-create-home --groups dps app
mkdir -m 0755 /run/app
chown app: /run/app
# shellcheck disable=SC2046 # they are several
cc -o /usr/local/bin/dps-client $EXAMPLES/dps-client.c $(pkg-config --cflags --libs libsystemd json-c)
start_emulator
configure gateway gw-1 '[Provisioning]' 'Splay=0'
systemctl start dpsd
dpsctl wait --timeout=90 gateway
hub=$(shown AssignedHub)

for client in /usr/local/bin/dps-client $EXAMPLES/dps-client.py; do
	name=$(basename "$client")
	as_user app "$client" gateway get >"/run/app/$name.get"
	sees "$name.get" "$hub" || fail "$name does not get the hub"
	as_user app "$client" gateway watch >"/run/app/$name.watch" &
	until_true sees "$name.watch" "$hub"
	before=$(shown HubLastSeenAt)
	as_user app "$client" gateway connected
	[ "$(shown HubLastSeenAt)" != "$before" ] || fail "the report of $name has not arrived"
done

emulator_ctl set gw-1 iotHubs=hub-9.example
as_user app dps-client gateway failed not-found 404
for name in dps-client dps-client.py; do until_true sees "$name.watch" hub-9.example; done

# The script finds no hub of that name.
echo 21.5 >/run/app/data
exits 1 as_user app sh $EXAMPLES/recipes/telemetry /run/app/data
[ "$(shown HubFailures)" -ge 1 ] || fail 'the report of the script has not arrived'
