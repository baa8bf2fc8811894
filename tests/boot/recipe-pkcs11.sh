#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7): the key in a PKCS#11 token, here of SoftHSM, and the drop-in that lets the daemon use it.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

start_emulator
use_emulator
install -d -m 0750 -o root -g dpsd /etc/dps/keys
cp /usr/share/doc/dps/examples/recipes/x509-pkcs11.conf /etc/dps/gateway.conf
cd /root
recipe 'A CERTIFICATE WITH ITS KEY IN A PKCS#11 TOKEN'
emulator_ctl enroll - <<JSON
{ "individualEnrollments": [ { "registrationId": "gw-1", "attestation": { "type": "x509",
  "x509": { "clientCertificates": { "primary": "$(sed ':a;N;$!ba;s/\n/\\n/g' /etc/dps/keys/gateway.pem)" } } } } ] }
JSON
dpsctl reprovision --wait gateway
grep -q '"keyUri": *"pkcs11:token=gateway;object=dps"' /run/dps/gateway/connection.json
exits 0 dpsctl check --offline gateway
