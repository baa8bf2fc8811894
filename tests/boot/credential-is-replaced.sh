#!/bin/sh
# SPDX-License-Identifier: MIT
# A key that was replaced in /etc/dps/credentials is used after a reload, where systemd hands systemd credentials over again, and
# after a restart elsewhere. The assignment is kept.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

# is_signed_with KEY: whether the token is.
is_signed_with() {
	python3 - "$1" <<-'PROGRAM'
		import base64, hmac, sys, urllib.parse
		token = open("/run/dps/gateway/token", encoding="ascii").read().strip().removeprefix("SharedAccessSignature ")
		fields = dict(field.split("=", 1) for field in token.split("&"))
		signed = hmac.digest(base64.b64decode(sys.argv[1]), f"{fields['sr']}\n{fields['se']}".encode(), "sha256")
		sys.exit(base64.b64encode(signed).decode() != urllib.parse.unquote(fields["sig"]))
	PROGRAM
}

new_key=$(printf '%s' 'another fine key of 32 letters!!' | base64)
start_emulator
configure gateway gw-1
rm /etc/dps/gateway.key
sed -i 's,^Key=.*,Key=credential:gateway.key,' /etc/dps/gateway.conf
echo "$KEY" | install -m 0600 /dev/stdin /etc/dps/credentials/gateway.key
systemctl start dpsd
dpsctl wait --timeout=90 gateway
is_signed_with "$KEY"

printf '{ "registrationId": "gw-1", "attestation": { "type": "symmetricKey", "symmetricKey": { "primaryKey": "%s", "secondaryKey": "%s" } } }' \
	"$KEY" "$new_key" | emulator_ctl enroll -
echo "$new_key" | install -m 0600 /dev/stdin /etc/dps/credentials/gateway.key
pid=$(property MainPID)
if [ "$(property RefreshOnReload)" = credentials ]; then
	systemctl reload dpsd
	[ "$(property MainPID)" = "$pid" ]
else
	[ "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')" -lt 260 ]
	systemctl restart dpsd
fi
until_true is_signed_with "$new_key"
dpsctl wait --timeout=90 gateway
