#!/bin/sh
# SPDX-License-Identifier: MIT
# The drop-in that comes with the module opens the TPM's device to the daemon, for attestation and for keys, and nothing else
# does. A TPM that is reached by a socket needs no drop-in.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

DROP_INS=/usr/lib/systemd/system/dpsd.service.d

enroll_tpm() {
	emulator_ctl enroll - <<-JSON
		{ "individualEnrollments": [ { "registrationId": "gw-4", "attestation": { "type": "tpm",
		  "tpm": { "endorsementKey": "$(tpm2_readpublic -Q -c 0x81010001 -f tss -o /run/ek && base64 -w 0 /run/ek)" } } } ] }
	JSON
}

attest() { # [LINE…]
	printf '%s\n' '[Provisioning]' IdScope=0ne00AABBCC RegistrationId=gw-4 Endpoint=127.0.0.1 CaFile=/etc/dps/ca.pem \
		'[Attestation]' Method=tpm "$@" >/etc/dps/gateway.conf
	systemctl restart dpsd
}

start_emulator
mkdir -p /run/swtpm
swtpm socket --tpm2 --tpmstate dir=/run/swtpm --server type=tcp,port=2321 --ctrl type=tcp,port=2322 \
	--flags not-need-init,startup-clear >/run/swtpm.log 2>&1 &
export TPM2TOOLS_TCTI=swtpm:port=2321 TPM2OPENSSL_TCTI=swtpm:port=2321
until_true tpm2_createek -Q -c 0x81010001 -G rsa -u /run/ek.pub
enroll_tpm

# By its socket, without the drop-ins.
mv $DROP_INS /run/drop-ins
systemctl daemon-reload
attest Tcti=swtpm:port=2321
dpsctl wait --timeout=90 gateway

# The same TPM as a device.
: >/dev/tpmrm0
python3 - <<'PROGRAM' &
import os, pty, socket, subprocess, tty
master, slave = pty.openpty()
tty.setraw(slave)
subprocess.run(["chgrp", "tss", os.ttyname(slave)], check=True)
os.chmod(os.ttyname(slave), 0o660)
subprocess.run(["mount", "--bind", os.ttyname(slave), "/dev/tpmrm0"], check=True)

def whole(read):
    data = read(10)
    while len(data) < 10 or len(data) < int.from_bytes(data[2:6], "big"):
        data += read(4096)
    return data

while True:
    command = whole(lambda n: os.read(master, n))
    with socket.create_connection(("127.0.0.1", 2321)) as chip:
        chip.sendall(command)
        os.write(master, whole(chip.recv))
PROGRAM
until_true mountpoint -q /dev/tpmrm0
attest
until_true sh -c 'dpsctl show gateway -p LastError | grep -q /dev/tpmrm0'
mv /run/drop-ins $DROP_INS
systemctl daemon-reload
for module in tpm hardware-key; do # either of the packages may be alone
	mv $DROP_INS/50-dps-$module.conf /run
	systemctl daemon-reload
	rm -f /var/lib/dps/gateway.json
	attest
	dpsctl wait --timeout=90 gateway
	mv /run/50-dps-$module.conf $DROP_INS
done

# A key of a certificate, by the recipe.
rm /etc/dps/gateway.conf
use_emulator
install -d -m 0750 -o root -g dpsd /etc/dps/keys
cd /root
recipe 'A CERTIFICATE WITH ITS KEY IN A TPM'
chgrp dpsd /etc/dps/keys/gateway.pem
emulator_ctl enroll - <<JSON
{ "individualEnrollments": [ { "registrationId": "gw-1", "attestation": { "type": "x509",
  "x509": { "clientCertificates": { "primary": "$(sed ':a;N;$!ba;s/\n/\\n/g' /etc/dps/keys/gateway.pem)" } } } } ] }
JSON
cp /usr/share/doc/dps/examples/recipes/x509-tpm.conf /etc/dps/gateway.conf
systemctl restart dpsd
dpsctl wait --timeout=90 gateway
[ "$(dpsctl show gateway -p AttestationMethod)" = AttestationMethod=x509 ]
exits 0 dpsctl check --offline gateway
