#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): the key as an encrypted systemd credential; it is then in no file. A new key replaces it, from the next start
# of the service on.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

STORED=/etc/credstore.encrypted/dps_gateway.key
NEW_KEY=$(printf '%s' 'another thirty-two bytes of key!' | base64)

enroll() { # KEY
	emulator_ctl enroll - <<-JSON
		{ "individualEnrollments": [ { "registrationId": "gw-1", "attestation": { "type": "symmetricKey",
		  "symmetricKey": { "primaryKey": "$1", "secondaryKey": "$1" } } } ] }
	JSON
}
is_nowhere() { # KEY
	journalctl --sync
	! grep -rqF "$1" /etc/credstore.encrypted /etc/dps /etc/systemd /run/dps /var/lib/dps /var/log/journal || fail 'the key leaked'
}

useradd --system --no-create-home stranger
start_emulator
use_emulator
cp /usr/share/doc/dps/examples/recipes/credential.conf /etc/dps/gateway.conf
cd /
echo "$KEY" >/root/gateway.key
recipe 'A KEY AS A SYSTEMD CREDENTIAL'
dpsctl wait --timeout=90 gateway
[ ! -e /root/gateway.key ]
[ "$(stat -c '%a %U' $STORED)" = '600 root' ]
is_nowhere "$KEY"

# What is no key is refused, and a key is not replaced by mistake.
cp $STORED /run/before
echo 'HostName=hub;DeviceId=d;SharedAccessKey=x' >/root/wrong.key
exits 1 dpsctl import-key --force gateway.key /root/wrong.key 2>/run/refusal
grep -q 'connection string' /run/refusal
echo "$NEW_KEY" >/root/new.key
exits 1 dpsctl import-key gateway.key /root/new.key 2>/run/refusal
grep -q -- --force /run/refusal
exits 2 dpsctl import-key ../gateway.key /root/new.key
exits 5 as_user stranger dpsctl import-key other.key - </root/new.key
cmp $STORED /run/before

# The new key.
enroll "$NEW_KEY"
dpsctl import-key --force gateway.key - </root/new.key | grep -qx '  Key=credential:gateway.key'
exits 1 dpsctl reprovision --wait gateway # the service has the old one
systemctl restart dpsd
dpsctl reprovision --wait gateway
is_nowhere "$NEW_KEY"

# A private key of a certificate.
dps-emulator certificate --state="$EMULATOR" gw-3 --out=/root
dpsctl import-key gw-3.key /root/gw-3.key | grep -qx '  PrivateKey=credential:gw-3.key'
