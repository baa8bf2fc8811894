#!/bin/sh
# SPDX-License-Identifier: MIT
# With real polkit, the daemon may use readers of smart cards as pcscd protects them; everybody can read the status, members of the group dps can use the credentials, and only root can manage.
# shellcheck source=tests/boot/lib/boot.sh
. /usr/lib/boot-test/boot.sh

useradd --system --no-create-home stranger
useradd --system --no-create-home --groups dps app
provision

exits 0 as_user stranger dpsctl status
exits 5 as_user stranger dpsctl token gateway
exits 5 as_user stranger dpsctl connection gateway
exits 5 as_user stranger dpsctl reprovision gateway
exits 5 as_user stranger dpsctl reload
exits 5 as_user stranger dpsctl forget gateway
exits 1 as_user stranger cat /run/dps/gateway/connection.json

exits 0 as_user app dpsctl token gateway
exits 0 as_user app dpsctl connection gateway
exits 0 as_user app cat /run/dps/gateway/connection.json
exits 5 as_user app dpsctl reprovision gateway
exits 5 as_user app dpsctl reload

# The other ways to be in the group: as the group of the login, of a unit, and of a unit with a user that is made for it.
as_unit() { systemd-run --quiet --wait --pipe "$@"; }
useradd --system --no-create-home --gid dps member
exits 0 as_unit -p User=member dpsctl token gateway
exits 0 as_unit -p User=stranger -p SupplementaryGroups=dps dpsctl token gateway
exits 5 as_unit -p User=stranger dpsctl token gateway
# Without libnss-systemd the bus knows no DynamicUser=, and lets it not in; the files are for the group.
exits 0 as_unit -p DynamicUser=yes -p SupplementaryGroups=dps cat /run/dps/gateway/token
exits 1 as_unit -p DynamicUser=yes cat /run/dps/gateway/token

exits 0 dpsctl reprovision gateway --wait
exits 0 dpsctl reload

cat >/usr/share/polkit-1/actions/org.debian.pcsc-lite.policy <<'POLICY'
<?xml version="1.0" encoding="UTF-8"?>
<policyconfig>
  <action id="org.debian.pcsc-lite.access_pcsc">
    <description>Access to the PC/SC daemon</description>
    <message>Authentication is required to access the PC/SC daemon</message>
    <defaults><allow_any>no</allow_any><allow_inactive>no</allow_inactive><allow_active>yes</allow_active></defaults>
  </action>
</policyconfig>
POLICY
systemctl restart polkit
exits 0 pkcheck --action-id org.debian.pcsc-lite.access_pcsc --process "$(property MainPID)"
setpriv --reuid stranger --regid stranger --init-groups -- sleep 60 &
is_asleep() { grep -qx sleep "/proc/$!/comm"; }
until_true is_asleep
exits 1 pkcheck --action-id org.debian.pcsc-lite.access_pcsc --process $!
