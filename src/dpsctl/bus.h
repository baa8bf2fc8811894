/* SPDX-License-Identifier: MIT */
#pragma once

/* dpsctl's side of io.dpsd.dps1. The daemon is never started by a call of ours. */

#include <systemd/sd-bus.h>

#include "dpsctl/options.h"
#include "dpsctl/say.h"

#define DPS_BUS_NAME "io.dpsd.dps1"
#define DPS_BUS_PATH "/io/dpsd/dps1"
#define DPS_BUS_MANAGER "io.dpsd.dps1.Manager"
#define DPS_BUS_IDENTITY "io.dpsd.dps1.Identity"
#define DPS_BUS_IDENTITY_PREFIX "/io/dpsd/dps1/identity"
#define DPS_BUS_ERROR_CONFIG "io.dpsd.dps1.Error.Config"
#define DPS_BUS_ERROR_NO_IDENTITY "io.dpsd.dps1.Error.NoSuchIdentity"

/* Of an error's D-Bus name. */
Exit exit_from_bus_error(const char *name);

/* The functions below give 0, or an exit code, and have told why. */

/* The system bus here, or on the host of -H. */
int bus_open(const Options *o, sd_bus **ret);
/* Calls and waits for the answer. `ret_reply` may be NULL. */
int bus_call(sd_bus *bus, const char *path, const char *interface, const char *member,
             sd_bus_message **ret_reply, const char *types, ...);
/* The same for a method that needs a right: a person in front of a terminal may be asked for a password. On failure
 * `error` has what the daemon answered, and nothing is told. */
int bus_call_guarded(sd_bus *bus, const char *path, const char *interface, const char *member,
                     sd_bus_error *error, sd_bus_message **ret_reply, const char *types, ...);
/* What a call could not do: tells it with what to do, gives the exit code. */
int bus_fail(const sd_bus_error *error, int r);
/* A message that is not what the contract says. */
int bus_fail_answer(const char *member, int r);

/* The object of identity NAME, which is there. */
int bus_find_identity(sd_bus *bus, const char *name, char **ret_path);
