#!/bin/sh
# SPDX-License-Identifier: MIT
# The drop-in that comes with a module opens the device of the TPM to the daemon: each of its lines is needed, and they suffice.
# tpm: yes
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

DROP_INS=/usr/lib/systemd/system/dpsd.service.d

start_emulator
chgrp tss /dev/tpmrm0 # as udev does
chmod 0660 /dev/tpmrm0
tpm2_createek -Q -c 0x81010001 -G rsa -u /run/ek.pub
emulator_ctl enroll - <<JSON
{ "individualEnrollments": [ { "registrationId": "gw-4", "attestation": { "type": "tpm",
  "tpm": { "endorsementKey": "$(tpm2_readpublic -Q -c 0x81010001 -f tss -o /run/ek && base64 -w 0 /run/ek)" } } } ] }
JSON
printf '%s\n' '[Provisioning]' IdScope=0ne00AABBCC RegistrationId=gw-4 Endpoint=127.0.0.1 CaFile=/etc/dps/ca.pem \
	'[Attestation]' Method=tpm >/etc/dps/gateway.conf
mkdir /run/drop-ins
mv $DROP_INS/* /run/drop-ins

restart_without() { # LINE
	grep -vxF "$1" /run/drop-ins/50-dps-tpm.conf >$DROP_INS/test.conf
	systemctl daemon-reload
	systemctl restart dpsd
}
grep '=' /run/drop-ins/50-dps-tpm.conf >/run/lines
[ "$(wc -l </run/lines)" = 3 ]
while read -r line; do
	restart_without "$line"
	until_true sh -c 'dpsctl show gateway -p LastError | grep -q /dev/tpmrm0'
done </run/lines
for drop_in in /run/drop-ins/*; do # either of the packages may be alone
	rm -f /var/lib/dps/gateway.json
	cp "$drop_in" $DROP_INS/test.conf
	systemctl daemon-reload
	systemctl restart dpsd
	dpsctl wait --timeout=60 gateway
done
