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
/* A socket that listens there for the HTTPS front; `port` 0 becomes the one that was free. */
int broker_listen(const char *address, uint16_t *port, int *ret_fd, ErrorText *error);
/* `https_fd`: such a socket, or -1. The working directory must be the state directory. The broker ends when its parent does. */
int broker_start(const char *plugin, const char *address, uint16_t port, int https_fd, Broker *ret,
                 ErrorText *error);
/* Ends the broker if it still runs. */
void broker_stop(Broker *b);

/* The plugin's path: $DPS_EMULATOR_PLUGIN, else beside this executable, else where it is installed. */
int broker_find_plugin(char **ret, ErrorText *error);
