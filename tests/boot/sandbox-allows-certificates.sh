#!/bin/sh
# SPDX-License-Identifier: MIT
# Inside its sandbox the daemon registers with a certificate over HTTPS and over MQTT, and gets a certificate that DPS issues.
# dpsctl check finds nothing wrong.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

echo '127.0.0.1 hub-1.example hub-2.example' >>/etc/hosts
emulator_options='--host=hub-1.example --host=hub-2.example --host=127.0.0.1'
start_emulator
cd /etc/dps
dps-emulator certificate --state="$EMULATOR" gw-3 --out=/etc/dps
chgrp dpsd gw-3.pem gw-3.key
chmod 0640 gw-3.pem gw-3.key
emulator_ctl enroll - <<JSON
{ "individualEnrollments": [ { "registrationId": "gw-3", "attestation": { "type": "x509",
  "x509": { "clientCertificates": { "primary": "$(sed ':a;N;$!ba;s/\n/\\n/g' gw-3.pem)" } } } } ] }
JSON
emulator_ctl set gw-2 'issuance={"lifetime":86400}'
for transport in https mqtt; do
	cat >$transport.conf <<-CONF
		[Provisioning]
		IdScope=0ne00AABBCC
		RegistrationId=gw-3
		Endpoint=127.0.0.1
		CaFile=/etc/dps/ca.pem
		Transport=$transport
		[Attestation]
		Method=x509
		Certificate=/etc/dps/gw-3.pem
		PrivateKey=/etc/dps/gw-3.key
	CONF
	configure issued gw-2 '[Provisioning]' "Transport=$transport" '[Issuance]' 'Request=yes'
	systemctl restart dpsd
	dpsctl wait --timeout=90 $transport issued
	[ "$(dpsctl show $transport -p Transport)" = Transport=$transport ]
	[ "$(dpsctl show issued -p Transport)" = Transport=$transport ]
	grep -q '"certificateKind": *"issued"' /run/dps/issued/connection.json
	exits 0 dpsctl check $transport
	rm $transport.conf issued.conf
	systemctl reload dpsd
	dpsctl forget issued
	dpsctl forget $transport
done
