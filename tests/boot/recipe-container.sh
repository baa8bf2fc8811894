#!/bin/sh
# SPDX-License-Identifier: MIT
# dps-recipes(7), in Podman: a container that has mounted the directory of the identity, and has the number of its group, sees
# each new hub, also after the daemon was restarted, and can ask for it over HTTP. The daemon in a container of its own takes its
# key from a secret, or from a file that it owns.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

SECTION='A CONTAINER'

provision
recipe 'A PROGRAM WITHOUT D-BUS'
# The image has some of this machine's programs and their libraries, and no users: they are known by numbers only.
for program in /bin/sh /bin/cat /bin/sed /bin/sleep /usr/bin/curl /usr/bin/id /usr/sbin/dpsd /usr/lib/*/dps/modules/transport.so /usr/lib/*/dps/modules/mqtt.so; do
	echo "$program"
	ldd "$program" | sed -nE 's,.*=> (/[^ ]+) .*,\1,p; s,^\t(/lib[^ ]*) .*,\1,p'
done | sort -u | {
	mkdir -p /srv/image/etc/dps /srv/image/tmp
	xargs cp -L --parents -t /srv/image
}
cp /etc/dps/ca.pem /srv/image/etc/dps
cp /usr/share/doc/dps/examples/recipes/api-follow /srv/image
mkdir -p /etc/containers
# An overlay on an overlay is not possible, and there are no controllers for control groups here.
printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' >/etc/containers/storage.conf
printf '[containers]\ncgroups = "disabled"\nnetns = "host"\n[engine]\nruntime = "crun"\n' >/etc/containers/containers.conf
tar -C /srv/image -c . | podman --log-level=error import --quiet - gateway-app

# The commands that a user runs, with the image and something to do for the container.
commands_of "$SECTION" '\$ ' >/run/commands
sed -n '1,/IMAGE/p' /run/commands | sed 's/ IMAGE/ --user 54321:54321 gateway-app "$@"/' >/run/run-app
sed '1,/IMAGE/d; s/ IMAGE / gateway-app /' /run/commands >/run/run-dpsd
grep -q 'podman run' /run/run-app && grep -q 'podman secret create' /run/run-dpsd

sh -eu /run/run-app sh -c 'id -G; /api-follow & while :; do cat /run/dps/gateway/hub.env; sleep 0.1; done' >/run/seen &
sees() { grep -q "$1" /run/seen; }
until_true sees 'hub-[12].example'
until_true sees '^hub-[12].example$'
grep -qw "$(getent group dps | cut -d: -f3)" /run/seen
systemctl restart dpsd
emulator_ctl set gw-1 iotHubs=hub-9.example
dpsctl reprovision gateway --wait
until_true sees HOSTNAME=hub-9.example
until_true sees '^hub-9.example$'
exits 7 setpriv --reuid nobody --regid nogroup --clear-groups curl -s --unix-socket /run/dps/gateway/api.sock http://dps/
podman stop --all --time 0
! grep -q SharedAccessSignature /run/seen || fail 'hub.env has a token'

systemctl stop dpsd
rm -r /run/dps/gateway
mkdir /root/box && cd /root/box
echo "$KEY" >gateway.key
sed 's,^RegistrationId=.*,&\nEndpoint=127.0.0.1\nCaFile=/etc/dps/ca.pem,' /usr/share/doc/dps/examples/recipes/container.conf >gateway.conf
sh -eux /run/run-dpsd
grep -q hub-9.example /run/dps/gateway/connection.json

# provision_with STATUS PODMAN-OPTION…
provision_with() {
	status=$1
	shift
	exits "$status" podman run --rm --volume ./gateway.conf:/etc/dps/gateway.conf:ro --tmpfs /var/lib/dps:mode=1777 \
		--tmpfs /run/dps:mode=1777 "$@" gateway-app dpsd --once --timeout=10 2>/run/seen
}
provision_with 3 --secret gateway.key
sees 'mode 0444), a secret from outside: where it comes from, set mode=0400,uid=0 '
provision_with 3 --secret gateway.key,mode=0400 --user 1000:1000
sees 'mode=0400,uid=1000 '
provision_with 0 --secret gateway.key,mode=0400,uid=1000 --user 1000:1000
chown 1000:1000 gateway.key
chmod 0600 gateway.key
provision_with 3 --volume ./gateway.key:/run/secrets/gateway.key:ro
sees 'a user other than ours owns it (owner 1000:1000, mode 0600), on a mount that is read-only here: where it comes from, set mode=0400,uid=0 '
provision_with 0 --volume ./gateway.key:/run/secrets/gateway.key:ro --user 1000:1000
provision_with 0 --volume ./gateway.key:/run/secrets/gateway.key:U
