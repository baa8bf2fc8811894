/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The process: the event loop, the real world that the manager is given, and those who are informed about it:
 * the bus, the service manager, the journal.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Daemon Daemon;
typedef struct Manager Manager;

/* The directories come from the environment ($STATE_DIRECTORY, $RUNTIME_DIRECTORY …), or are the usual ones.
 * Failures are logged. -EBUSY: another dpsd uses the state directory. */
int daemon_new(Daemon **ret);
Daemon *daemon_free(Daemon *d);
DEFINE_FREEP(Daemon, daemon_free)

/* Reads the configuration, serves cached assignments, and connects to the bus. Returns an exit code of
 * basic/contract.h, like all functions below. */
int daemon_start(Daemon *d);
/* The same without a bus. It ends when `names` (borrowed; empty: all required identities) are provisioned, or
 * when the time is over (USEC_INFINITY: never). */
int daemon_start_once(Daemon *d, char *const *names, uint64_t timeout_usec);
/* Runs until the daemon is told to stop. */
int daemon_run(Daemon *d);

/* For programs that add their own sources to the event loop. */
sd_event *daemon_event(const Daemon *d);
Manager *daemon_manager(const Daemon *d);
