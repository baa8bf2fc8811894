/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory. Its mode is 0700, because whoever can enter it can control the emulator. It is the
 * working directory of program and broker, so that all names are relative and the path of the socket is never
 * too long.
 */

#define ENROLLMENTS_FILE "enrollments.json" /* the current ones */
#define JOURNAL_FILE "requests.jsonl"
#define CONTROL_SOCKET "control.sock"
#define BROKER_CONFIG_FILE "mosquitto.conf"
#define LOCK_FILE ".lock"

#define SERVER_CA_NAME "ca"
#define SERVER_NAME "server"
#define DEVICE_CA_NAME "device-ca"

/* $XDG_RUNTIME_DIR/dps-emulator, or /tmp/dps-emulator-UID. */
int state_directory_default(char **ret);
/* Makes the directory if it is missing, and returns its absolute path. -EPERM: another user owns it;
 * -ENOTEMPTY: other users can enter it, and it holds files that are not ours. */
int state_directory_open(const char *path, char **ret);
