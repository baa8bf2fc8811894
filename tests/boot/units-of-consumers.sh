#!/bin/sh
# SPDX-License-Identifier: MIT
# RestartUnits= and ReloadUnits=: each unit is told once of each change that concerns it, and of nothing else; only root can
# name units.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

cat >/usr/local/bin/note <<'SH'
#!/bin/sh
# note UNIT: writes what happens to it.
trap 'echo "$1 reloaded" >>/run/notes' HUP
echo "$1 started" >>/run/notes
while :; do sleep 0.05; done
SH
chmod 0755 /usr/local/bin/note
cat >/etc/systemd/system/note@.service <<'UNIT'
[Service]
ExecStart=note %i
UNIT
mkdir -p /etc/systemd/system/note@reloads.service.d
# shellcheck disable=SC2016 # for systemd
printf '[Service]\nExecReload=kill -HUP $MAINPID\n' | tee /etc/systemd/system/note@reloads.service.d/reload.conf |
	install -D -m 0644 /dev/stdin /etc/systemd/system/note@both.service.d/reload.conf
systemctl daemon-reload

is_quiet() { ! systemctl is-active --quiet dps-consumers.service && [ -z "$(ls -A /run/dps/.changed)" ]; }
has_notes() { [ "$(sort /run/notes)" = "$(printf '%s\n' "$@" | sort)" ]; }
# notes_are LINE…: what happened since the last call, in any order, and no more once all is done.
notes_are() {
	until_true has_notes "$@"
	until_true is_quiet
	has_notes "$@" || fail "more was told: $(cat /run/notes)"
	: >/run/notes
}
# Tokens count in seconds: one that is made in the same second is the same.
is_later() { [ "$(date +%s)" != "$1" ]; }
renew() {
	until_true is_later "$(date +%s)"
	dpsctl reprovision gateway --wait
}
says() { journalctl -q -b -u dps-consumers.service -o cat | grep -q -e "$1"; }

: >/run/notes
start_emulator
configure gateway gw-1 '[Hub]' RestartUnits='note@restarts.service note@both.service' RestartUnits=note@stopped.service \
	ReloadUnits='note@reloads.service note@both.service note@unable.service note@missing.service.'
exits 1 dpsctl verify-config /etc/dps/gateway.conf >/run/faults
grep -q "gateway.conf:11: ReloadUnits=.*'note@missing.service.' must be the whole name" /run/faults || fail "$(cat /run/faults)"
sed -i 's/ note@missing.service\./ missing.service/' /etc/dps/gateway.conf
systemctl start note@restarts note@reloads note@both note@unable
notes_are 'restarts started' 'reloads started' 'both started' 'unable started'

# The first assignment is a change for those that run already, but not for one that is started by it.
cat >/etc/systemd/system/late.service <<'UNIT'
[Unit]
After=dpsd.service
[Service]
ExecStart=note late
UNIT
sed -i 's/^RestartUnits=note@stopped.service/& late.service/' /etc/dps/gateway.conf
systemctl start dpsd
until_true grep -q started /run/notes
notes_are 'restarts started' 'both started' 'reloads reloaded' 'unable started'
until_true says 'gateway: there is no unit missing.service, which ReloadUnits= names'
systemctl start late
notes_are 'late started'

# Another hub.
emulator_ctl set gw-1 iotHubs=hub-9.example
dpsctl reprovision gateway --wait
notes_are 'restarts started' 'both started' 'late started' 'reloads reloaded' 'unable started'

# A new token of the same hub.
renew
notes_are 'restarts started' 'late started' 'both reloaded' 'reloads reloaded' 'unable started'

# The daemon starts again: nothing has changed. Nor by a flag that its user raises, or by one that leads elsewhere.
systemctl restart dpsd
dpsctl wait --timeout=90 gateway
until_true is_quiet
as_user dpsd mkdir /run/dps/.changed/gateway /run/dps/.changed/nobody /run/dps/.changed/..foreign
as_user dpsd touch /run/dps/.changed/file
until_true is_quiet
systemctl stop dps-consumers.path
mkdir -p /root/victim/gateway
as_user dpsd sh -c 'rmdir /run/dps/.changed && ln -s /root/victim /run/dps/.changed'
systemctl start dps-consumers.service || :
[ -d /root/victim/gateway ] || fail 'a directory of root was removed'
systemctl stop dps-consumers.service
rm /run/dps/.changed
mkdir /run/dps/.changed
chown dpsd:dpsd /run/dps/.changed
systemctl start dps-consumers.path
has_notes '' || fail "nothing has changed: $(cat /run/notes)"

# Whoever is not root names no units.
chown dpsd /etc/dps/gateway.conf
renew
until_true says 'gateway.conf:9: RestartUnits= is not followed, because not only root can write to /etc/dps/gateway.conf'
until_true is_quiet
chown root /etc/dps/gateway.conf
# In a directory of everybody's the daemon would refuse the key.
mkdir /etc/keys
mv /etc/dps/gateway.key /etc/keys/
sed -i 's,/etc/dps/gateway\.key,/etc/keys/gateway.key,' /etc/dps/gateway.conf
dpsctl reload
chmod 0777 /etc/dps
renew
until_true says 'not only root can write to /etc/dps (owner 0, mode 0777)'
until_true is_quiet
has_notes '' || fail "a file that others can write was followed: $(cat /run/notes)"
