#!/bin/sh
# SPDX-License-Identifier: MIT
# With real polkit, everybody can read the status, members of the group dps can use the credentials, and only root can manage.
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
