/* SPDX-License-Identifier: MIT */
#pragma once

/* The Mosquitto that the emulator is made of: its configuration, its life. */

#include <sys/types.h>

#include "emulator/reader.h"

typedef struct Broker {
        pid_t pid;    /* 0: none */
        int ready_fd; /* one byte comes when it listens; the end without one: it could not start */
} Broker;

/* A port of that address that is free now; others may be faster, so be ready to try again. */
int broker_find_port(const char *address, uint16_t *ret, Complaint *c);
/* The working directory must be the state directory. It ends when its parent does. */
int broker_start(const char *plugin, const char *address, uint16_t port, Broker *ret, Complaint *c);
/* Ends it if it still lives. */
void broker_stop(Broker *b);

/* $DPS_EMULATOR_PLUGIN, else beside this executable, else where it is installed. */
int broker_find_plugin(char **ret, Complaint *c);
