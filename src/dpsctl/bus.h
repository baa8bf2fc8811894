/* SPDX-License-Identifier: MIT */
#pragma once

/* Calls of dpsd over D-Bus. A call never starts the daemon. */

#include <systemd/sd-bus.h>

#include "basic/contract.h"
#include "dpsctl/options.h"
#include "dpsctl/say.h"

/* The exit code for an error of this D-Bus name. */
Exit exit_from_bus_error(const char *name);

/* The functions below give 0, or an exit code after they have said why. */

/* Connects to the system bus of this host, or of the host of -H. */
int bus_open(const Options *o, sd_bus **ret);
/* Calls and waits for the answer. `ret_reply` may be NULL. */
int bus_call(sd_bus *bus, const char *path, const char *interface, const char *member,
             sd_bus_message **ret_reply, const char *types, ...);
/* The same, but a failure is a negative errno with the daemon's error in `error`; the caller says why. */
int bus_try(sd_bus *bus, const char *path, const char *interface, const char *member, sd_bus_error *error,
            sd_bus_message **ret_reply, const char *types, ...);
/* The same for a method that needs a right: a person at a terminal may be asked for a password. */
int bus_call_guarded(sd_bus *bus, const char *path, const char *interface, const char *member,
                     sd_bus_error *error, sd_bus_message **ret_reply, const char *types, ...);
/* The same for a method whose work takes minutes. */
int bus_call_slow(sd_bus *bus, const char *path, const char *interface, const char *member,
                  sd_bus_error *error, sd_bus_message **ret_reply, const char *types, ...);
/* Says what went wrong with a call and what to do. */
int bus_fail(const sd_bus_error *error, int r);
/* Says that an answer does not have the types of the contract. */
int bus_fail_answer(const char *member, int r);

/* The object path of an identity. */
int bus_find_identity(sd_bus *bus, const char *name, char **ret_path);
