/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * All identities, and what they share. The manager is the whole core of the daemon: what is around it (files of the
 * configuration, bus, service manager, network) is its owner's, who is told at the end of each turn of the loop what has
 * changed in it, once, however often it changed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/folder.h"
#include "basic/world.h"
#include "dpsd/core.h"
#include "dpsd/identity.h"

typedef struct Manager Manager;

/* What the manager is given; all is borrowed. */
typedef struct ManagerParts {
        World *world;
        Folder *state, *notes, *runtime; /* notes may be NULL */
        TransportClass *transport;
        groups_lookup_t lookup_group; /* NULL: the system's */
        const CoreOperations *operations;
        void *operations_userdata;
} ManagerParts;

typedef struct ManagerHandlers {
        void (*identity_added)(Identity *i, void *userdata);
        void (*identity_removed)(Identity *i, void *userdata);
        void (*identity_changed)(Identity *i, void *userdata);
        /* Whoever waits for it has to see what it brought: it is to be told behind the changes of this turn. */
        void (*job_ended)(Identity *i, uint64_t job, bool ok, const char *error, void *userdata);
        /* Somebody waits for the network, or nobody does any more. */
        void (*watch_network)(bool on, void *userdata);
        /* The end of a turn in which something changed. */
        void (*turned)(Manager *m, void *userdata);
} ManagerHandlers;

/* As what an identity is counted. */
typedef enum Bucket {
        BUCKET_NONE, /* not counted yet */
        BUCKET_ASSIGNED,
        BUCKET_ASSIGNED_FAILING,
        BUCKET_UNASSIGNED, /* on its way */
        BUCKET_UNASSIGNED_FAILING,
        _BUCKET_MAX,
} Bucket;

/* What is wrong with a group that identities name in Group=. */
typedef struct GroupError {
        char *group;
        const char *error; /* a literal; NULL: nothing */
} GroupError;

struct Manager {
        Core core;
        const ManagerHandlers *handlers;
        void *userdata;

        Identity **identities; /* sorted by name */
        size_t n_identities;
        GroupError *groups; /* that could not have files once */
        size_t n_groups;

        Timer *turn;
        Identity *changed; /* in this turn; a list, so that there is always room */
        unsigned counts[_BUCKET_MAX];
        unsigned n_waiting_for_network, n_waiting_for_clock, n_not_serving;
};

int manager_new(const ManagerParts *parts, const ManagerHandlers *handlers, void *userdata, Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_FREEP(Manager, manager_free)
/* What is to be remembered is on disk when it returns. Nothing may be asked of it any more. */
void manager_stop(Manager *m);

/* The configuration, one identity at a time: NAME appears, or says something else. Takes the settings; `fault`, where it is
 * set, says why they are not to be used. What follows from it comes with manager_look_again(), when all are there. */
int manager_configure(Manager *m, const char *name, Settings *settings, const char *fault);
/* Identities that are not among these have lost their configuration. */
void manager_retain(Manager *m, char *const *names);
/* Everybody looks at what has changed, and tries again what failed on this machine. */
void manager_look_again(Manager *m);
/* What identities that went while no daemon ran have left behind in the runtime directory goes. */
void manager_remove_leftovers(Manager *m);
void manager_set_max_attempts(Manager *m, unsigned max);

/* Removes what is left of an identity without a conf: record and outputs. -EBUSY: it has one; -ENOENT: nothing is left. */
int manager_forget(Manager *m, const char *name);

/* The network changed: a link, an address or a route appeared. */
void manager_on_network(Manager *m);
/* handlers.turned() is called even if nothing has changed. */
void manager_touch(Manager *m);

Identity *manager_find(const Manager *m, const char *name);
/* "idle", "ok", "provisioning" or "degraded". */
const char *manager_state(const Manager *m);
unsigned manager_n_assigned(const Manager *m);
/* "2 of 3 identities assigned; north: throttled, next try at 2026-11-24 13:09:00 UTC" */
void manager_describe(const Manager *m, char *buffer, size_t size);
/* What is cached is served, as far as it can be. */
bool manager_is_serving(const Manager *m);
/* All that have to be provisioned are, or cannot be; `all`: also those with RequiredForProvisioned=no. `ret_assigned`:
 * whether they are. */
bool manager_is_settled(const Manager *m, bool all, bool *ret_assigned);
