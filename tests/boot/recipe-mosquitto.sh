#!/bin/bash
# SPDX-License-Identifier: MIT
# dps-recipes(7): Mosquitto's bridge logs in at the hub, what programs publish at the local broker goes to the device's topic, and
# the bridge follows to another hub.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

echo '127.0.0.1 hub-1.example hub-2.example' >>/etc/hosts
emulator_options='--host=hub-1.example --host=hub-2.example --host=127.0.0.1'
start_emulator
configure gateway gw-1
install -m 0644 "$EMULATOR/ca.pem" /etc/ssl/dps-ca.pem # Mosquitto cannot enter /etc/dps
sed -i 's,^CaFile=.*,CaFile=/etc/ssl/dps-ca.pem,' /etc/dps/gateway.conf
systemctl start dpsd
dpsctl wait --timeout=90 gateway

printf 'log_type all\nlistener 1883 127.0.0.1\nallow_anonymous true\n' >/etc/mosquitto/conf.d/test.conf
recipe 'A BRIDGE FROM MOSQUITTO'
is_connected() { grep -q "\"event\":\"hub-connect\".*\"deviceId\":\"$1\".*\"status\":0" "$EMULATOR/requests.jsonl"; }
until_true is_connected gw-1

# CONNECT as "t", and PUBLISH "hello" to "telemetry", in MQTT 3.1.1 by hand.
exec 3<>/dev/tcp/127.0.0.1/1883
printf '\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01t\x30\x10\0\x09telemetryhello' >&3
until_true grep -q "Sending PUBLISH to .*devices/gw-1/messages/events/" /var/log/mosquitto/mosquitto.log
[ "$(stat -c '%U %a' /etc/mosquitto/conf.d/hub.conf)" = 'mosquitto 600' ]

# The daemon has it restarted, and it follows to another hub.
printf '[Hub]\nRestartUnits=mosquitto.service\n' >>/etc/dps/gateway.conf
dpsctl reload
n_before=$(grep -c '"event":"hub-connect"' "$EMULATOR/requests.jsonl")
other=hub-1.example
! grep -q 'address hub-1' /etc/mosquitto/conf.d/hub.conf || other=hub-2.example
emulator_ctl set gw-1 iotHubs=$other
dpsctl reprovision --wait gateway
is_bridged() { grep -q "^address $other:" /etc/mosquitto/conf.d/hub.conf && [ "$(grep -c '"event":"hub-connect"' "$EMULATOR/requests.jsonl")" -gt "$n_before" ]; }
until_true is_bridged

# The same with a certificate, whose key Mosquitto reads itself.
cd /etc/dps
dps-emulator certificate --state="$EMULATOR" gw-3 --out=/etc/dps
chgrp dpsd gw-3.key
chmod 0640 gw-3.key
emulator_ctl enroll - <<JSON
{ "individualEnrollments": [ { "registrationId": "gw-3", "attestation": { "type": "x509",
  "x509": { "clientCertificates": { "primary": "$(sed ':a;N;$!ba;s/\n/\\n/g' gw-3.pem)" } } } } ] }
JSON
cat >gateway.conf <<'CONF'
[Provisioning]
IdScope=0ne00AABBCC
RegistrationId=gw-3
Endpoint=127.0.0.1
CaFile=/etc/ssl/dps-ca.pem
[Attestation]
Method=x509
Certificate=/etc/dps/gw-3.pem
PrivateKey=/etc/dps/gw-3.key
[Access]
ShareKey=yes
CONF
dpsctl reload
dpsctl wait --timeout=90 gateway
systemctl restart mosquitto
until_true is_connected gw-3
