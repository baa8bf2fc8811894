/* SPDX-License-Identifier: MIT */
#pragma once

/* The Mosquitto that the emulator runs in: its configuration, start and end. */

#include <sys/types.h>

#include "emulator/reader.h"

typedef struct Broker {
        pid_t pid;    /* 0: it does not run */
        int ready_fd; /* gives a byte when it listens; end of file without one: it could not start */
} Broker;

/* Finds a port of the address that is free now. Another program may take it first, so be ready to try
 * again. */
int broker_find_port(const char *address, uint16_t *ret, ErrorText *error);
/* The working directory must be the state directory. The broker ends when its parent does. */
int broker_start(const char *plugin, const char *address, uint16_t port, Broker *ret, ErrorText *error);
/* Ends the broker if it still runs. */
void broker_stop(Broker *b);

/* The plugin's path: $DPS_EMULATOR_PLUGIN, else beside this executable, else where it is installed. */
int broker_find_plugin(char **ret, ErrorText *error);
