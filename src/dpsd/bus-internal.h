/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files that implement the bus. All other files include bus.h.
 *
 *      bus.c            the connection and our name; registers the objects on each new connection
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

/* A ReprovisionFinished signal that is sent at the end of the turn. */
typedef struct BusJob {
        char *path, *error;
        uint64_t id;
        bool ok;
} BusJob;

/*
 * The object that sd-bus is given for an identity: the view from which it reads the properties, and the
 * identity itself. sd-bus finishes reading one object before it looks up the next, so one BusIdentity is
 * enough for all identities.
 */
typedef struct BusIdentity {
        IdentityView view;
        Identity *identity;
} BusIdentity;

/* Somebody who waits for a load to end. */
typedef struct BusReload {
        sd_bus_message *request;
        uint64_t load;
} BusReload;

#define BUS_RELOADS_MAX 16

struct Bus {
        sd_event *event;
        Manager *manager;
        BusHandlers handlers;
        void *userdata;

        sd_bus *connection;     /* being set up, or connected … */
        bool is_connected;      /* … and only then can signals be sent */
        sd_event_source *retry; /* the only timer: for the next try to connect, or to get our name */
        uint64_t retry_usec;    /* the next wait; it grows with each failure */
        bool failure_is_logged; /* since we last owned the name */

        Access *access;    /* of this connection */
        BusIdentity found; /* the object that was looked up last */
        BusJob *jobs;
        size_t n_jobs;

        BusReload reloads[BUS_RELOADS_MAX];
        unsigned n_reloads;

        sd_bus_slot *reading; /* of a question, which is answered when the bus has read what was sent */
        bool is_behind;       /* until it is answered, no signals are sent */

        const char *state_shown; /* the manager's State as last signalled; NULL: never */
        unsigned n_identities_shown, n_assigned_shown;
};

/* What a new connection serves, and who may call it. The simulation has connections of its own. */
int bus_add_objects(Bus *b);
/* Each registers its objects on a new connection. */
int manager_bus_add(Bus *b);
int identity_bus_add(Bus *b);
int log_bus_add(Bus *b);

/* Nobody can be answered any more. */
void manager_bus_forget_reloads(Bus *b);
/* Whether the bus takes what is sent to it. If not, signals are not sent now: when it has read, all that has changed meanwhile
 * is announced. If the bus does not read for long, we close the connection and make a new one. */
bool identity_bus_is_taken(Bus *b);
/* Forgets what listeners were told. Called when the connection is gone. */
void identity_bus_forget_all(Bus *b);

/* The path of an identity's object. */
int identity_bus_path(const char *name, char **ret);
/* Finds the identity for a name that came over the bus. If there is none, `error` is NoSuchIdentity. */
int identity_bus_find(Bus *b, const char *name, Identity **ret, sd_bus_error *error);
/* Turns an errno of identity-request.h into the D-Bus error of the contract. `why` may be empty. */
int identity_refuse(const Identity *i, int r, const char *why, sd_bus_error *error);
/* Asks DPS again, and answers with the job. The sender's right has been checked. */
int identity_bus_reprovision(Bus *b, sd_bus_message *request, Identity *i, sd_bus_error *error);
/* The handler of GetAllIdentities(). */
int identity_bus_get_all(sd_bus_message *request, void *userdata, sd_bus_error *error);
/* Signals the jobs that ended in this turn. */
void identity_bus_tell_jobs(Bus *b);
