/* SPDX-License-Identifier: MIT */
#pragma once

/* Restarts and reloads units through systemd, each only if it runs and is older than a change. */

#include <stdint.h>
#include <systemd/sd-bus.h>

typedef enum UnitVerb {
        UNIT_RESTART, /* systemctl try-restart */
        UNIT_RELOAD,  /* systemctl try-reload-or-restart */
} UnitVerb;

/* 1: systemd has taken the job. 0: the unit does not run, or has started after the change. -ENOENT: there is no such unit.
 * Else `ret_error` says why systemd refuses. */
int unit_tell(sd_bus *bus, const char *unit, UnitVerb verb, uint64_t changed_at_usec,
              sd_bus_error *ret_error);
