/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory, 0700: whoever may enter it may rule the emulator. Program and broker work in it, so that all
 * its names are relative, and a socket's path is never too long.
 */

#define ENROLLMENTS_FILE "enrollments.json" /* as they are now */
#define JOURNAL_FILE "requests.jsonl"
#define CONTROL_SOCKET "control.sock"
#define BROKER_CONFIG_FILE "mosquitto.conf"
#define LOCK_FILE ".lock"

#define SERVER_CA_NAME "ca"
#define SERVER_NAME "server"
#define DEVICE_CA_NAME "device-ca"

/* $XDG_RUNTIME_DIR/dps-emulator, or /tmp/dps-emulator-UID. */
int state_directory_default(char **ret);
/* Makes it where it is missing, and gives its absolute path. -EPERM: it is somebody else's; -ENOTEMPTY: it is open to
 * others and holds what is not ours. */
int state_directory_open(const char *path, char **ret);
