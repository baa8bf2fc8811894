/* SPDX-License-Identifier: MIT */
#pragma once

/* What manager-bus.c and identity-bus.c share; everybody else includes bus.h. */

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "basic/contract.h"
#include "dpsd/access.h"
#include "dpsd/bus.h"
#include "dpsd/identity-bus.h"

/* A ReprovisionFinished that waits for the end of the turn. */
typedef struct BusJob {
        char *path, *error;
        uint64_t id;
        bool ok;
} BusJob;

/* Manager.bus_state. It lives as long as the manager; connections come and go. */
struct Bus {
        Manager *manager;
        sd_bus *connection;     /* in the making, or made: then it is Manager.bus too */
        sd_event_source *retry; /* the only timer: the next try to connect, or to get our name */
        uint64_t retry_usec;    /* the next wait; grows */
        bool owns_name;
        bool trouble_is_logged; /* since we owned the name last */

        Access *access;    /* of this connection */
        BusIdentity found; /* by the last lookup of an object */

        BusJob *jobs;
        size_t n_jobs;

        const char *state_shown; /* the manager's properties as they were signalled last; NULL: never */
        unsigned n_identities_shown, n_assigned_shown;
};

static inline Bus *bus_of(const Manager *m) {
        return m->bus_state;
}
