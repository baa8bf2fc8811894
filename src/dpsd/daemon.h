/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The process: the loop, the real world that the manager is given, and those who are told of it: the bus, the service
 * manager, the journal.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"

typedef struct Daemon Daemon;

/* Directories are those of the environment ($STATE_DIRECTORY, $RUNTIME_DIRECTORY …), else the usual ones. What fails is
 * logged. -EBUSY: another dpsd uses the state directory. */
int daemon_new(Daemon **ret);
Daemon *daemon_free(Daemon *d);
DEFINE_FREEP(Daemon, daemon_free)

/* Reads the configuration, serves what is cached, and runs until it is told to end. Gives an exit code of
 * basic/contract.h. */
int daemon_run(Daemon *d);
/* The same without a bus, until all is done that `names` (borrowed; empty: all that are required) need, or the time is
 * over (USEC_INFINITY: never). */
int daemon_run_once(Daemon *d, char *const *names, uint64_t timeout_usec);
