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
