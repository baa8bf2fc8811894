/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of the bus share; everybody else includes bus.h.
 *
 *      bus.c            the connection, and the way to our name; puts the objects on a new connection
 *      manager-bus.c    io.dpsd.dps1.Manager
 *      identity-bus.c   io.dpsd.dps1.Identity
 *      log-bus.c        org.freedesktop.LogControl1
 *
 * The last three call no function of bus.c.
 */

#include <systemd/sd-bus.h>

#include "basic/contract.h"
#include "dpsd/access.h"
#include "dpsd/bus.h"
#include "dpsd/identity-view.h"

/* A ReprovisionFinished that waits for the end of the turn. */
typedef struct BusJob {
        char *path, *error;
        uint64_t id;
        bool ok;
} BusJob;

/*
 * What sd-bus is given for an object: the view, in which it reads the properties, and whose it is. sd-bus looks an object
 * up right before it reads it, and reads it to the end, so one of these is enough for all identities.
 */
typedef struct BusIdentity {
        IdentityView view;
        Identity *identity;
} BusIdentity;

struct Bus {
        sd_event *event;
        Manager *manager;
        BusHandlers handlers;
        void *userdata;

        sd_bus *connection;     /* in the making, or made … */
        bool is_connected;      /* … which is when signals can be sent */
        sd_event_source *retry; /* the only timer: the next try to connect, or to get our name */
        uint64_t retry_usec;    /* the next wait; grows */
        bool failure_is_logged; /* since we owned the name last */

        Access *access;    /* of this connection */
        BusIdentity found; /* by the last lookup of an object */
        BusJob *jobs;
        size_t n_jobs;

        const char *state_shown; /* the manager's properties as they were signalled last; NULL: never */
        unsigned n_identities_shown, n_assigned_shown;
};

/* Each puts its objects on a new connection. */
int manager_bus_add(Bus *b);
int identity_bus_add(Bus *b);
int log_bus_add(Bus *b);

/* What listeners were told is forgotten, with the connection. */
void identity_bus_forget_all(Bus *b);

/* The path of an identity's object. */
int identity_bus_path(const char *name, char **ret);
/* A name from outside, and its identity: or NoSuchIdentity. */
int identity_bus_find(Bus *b, const char *name, Identity **ret, sd_bus_error *error);
/* Asks DPS again, and answers with the job; the sender has the right to. */
int identity_bus_reprovision(Bus *b, sd_bus_message *request, Identity *i, sd_bus_error *error);
/* The jobs that ended in this turn. */
void identity_bus_tell_jobs(Bus *b);
