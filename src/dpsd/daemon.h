/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The process: the loop, the real world that the manager is given, and those who are told of it: the bus, the service
 * manager, the journal.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Daemon Daemon;
typedef struct Manager Manager;

/* Directories are those of the environment ($STATE_DIRECTORY, $RUNTIME_DIRECTORY …), else the usual ones. What fails is
 * logged. -EBUSY: another dpsd uses the state directory. */
int daemon_new(Daemon **ret);
Daemon *daemon_free(Daemon *d);
DEFINE_FREEP(Daemon, daemon_free)

/* Reads the configuration, serves what is cached, and looks for the bus. Gives an exit code of basic/contract.h, as all
 * below. */
int daemon_start(Daemon *d);
/* The same without a bus, and for so long only as `names` (borrowed; empty: all that are required) need, or until the time is
 * over (USEC_INFINITY: never). */
int daemon_start_once(Daemon *d, char *const *names, uint64_t timeout_usec);
/* Runs until it is told to end. */
int daemon_run(Daemon *d);

/* For programs that play a part in the loop themselves. */
sd_event *daemon_event(const Daemon *d);
Manager *daemon_manager(const Daemon *d);
