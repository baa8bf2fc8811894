/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * All identities, and what they share. The manager is the whole core of the daemon. Its owner has the rest:
 * configuration files, bus, service manager, network. At the end of each turn of the event loop, the owner is
 * told once about everything that changed in it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/folder.h"
#include "basic/world.h"
#include "dpsd/core.h"
#include "dpsd/identity.h"

typedef struct Manager Manager;

/* Everything the manager is given is borrowed. */
typedef struct ManagerParts {
        World *world;
        Folder *state, *notes, *runtime; /* notes may be NULL */
        Transports *transports;
        groups_lookup_t lookup_group; /* NULL: the system's database is asked */
        const CoreOperations *operations;
        void *operations_userdata;
} ManagerParts;

typedef struct ManagerHandlers {
        void (*identity_added)(Identity *i, void *userdata);
        void (*identity_removed)(Identity *i, void *userdata);
        void (*identity_changed)(Identity *i, void *userdata);
        /* A client that waits for the job must see its results, so tell it after the changes of this turn. */
        void (*job_ended)(Identity *i, uint64_t job, bool ok, const char *error, void *userdata);
        /* Whether anybody waits for the network now. */
        void (*watch_network)(bool on, void *userdata);
        /* A turn in which something changed has ended. */
        void (*turned)(Manager *m, void *userdata);
} ManagerHandlers;

/* The counter in which an identity is counted. */
typedef enum Bucket {
        BUCKET_NONE, /* not counted yet */
        BUCKET_ASSIGNED,
        BUCKET_ASSIGNED_FAILING,
        BUCKET_UNASSIGNED, /* on its way to an assignment */
        BUCKET_UNASSIGNED_FAILING,
        _BUCKET_MAX,
} Bucket;

/* The error of a group that identities name in Group=. */
typedef struct GroupError {
        char *group;
        const char *error; /* a literal; NULL: the group is usable */
} GroupError;

#define MANAGER_CHAINS 512U

struct Manager {
        Core core;
        const ManagerHandlers *handlers;
        void *userdata;

        Identity **identities; /* sorted by name */
        size_t n_identities;
        GroupError *groups; /* those that could not own files at some time */
        size_t n_groups;

        struct ManagerCheck *checks; /* under way */
        unsigned n_checks, n_forgets;

        bool is_up; /* the first identities are there: from now on the loop must not wait for a record */
        Timer *turn, *writing;
        Identity *devices[MANAGER_CHAINS]; /* by their `device_hash` */
        Identity *changed; /* and not told yet; a linked list, so that adding needs no memory */
        Identity **changed_end;
        unsigned counts[_BUCKET_MAX];
        unsigned n_waiting_for_network, n_waiting_for_clock, n_not_serving;
};

int manager_new(const ManagerParts *parts, const ManagerHandlers *handlers, void *userdata, Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_FREEP(Manager, manager_free)
/* All records are on disk when this returns. The manager may not be used after it, except to free it. */
void manager_stop(Manager *m);

/* Adds or changes one identity. Takes the settings. `fault`, if set, says why they cannot be used. Call
 * manager_look_again() after the last one: only then does the manager act on the changes. */
int manager_configure(Manager *m, const char *name, Settings *settings, const char *fault);
/* Retires all identities that are not among these names: their configuration is gone. */
void manager_retain(Manager *m, char *const *names);
/* Retires one. */
void manager_retire(Manager *m, Identity *i);
/* All identities act on what has changed, and retry what failed on this machine. */
void manager_look_again(Manager *m);
/* The same for `n` of them from the *at-th on, which begins at 0. Returns false after the last. The first time ends the
 * start: what is added later has its record read by the worker. */
bool manager_look_again_at(Manager *m, size_t *at, size_t n);
/* The folder of the state, or the runtime folder, is another directory now. What was in it is written again for
 * at most this many identities in a turn, with a pause after each turn. */
#define MANAGER_WRITES_MAX 64U
#define MANAGER_PAUSE_USEC USEC_PER_MSEC
/* So many identities are told as changed in one turn of the loop. */
#define MANAGER_TURN_MAX 64U
void manager_save_all(Manager *m);
void manager_publish_all(Manager *m);
/* Removes the outputs of identities whose configuration was removed while no daemon ran. */
void manager_remove_leftovers(Manager *m);
void manager_set_max_attempts(Manager *m, unsigned max);

/* At most this many identities are forgotten at the same time. */
#define MANAGER_FORGETS_MAX 64U

/* Removes the record and the outputs of an identity without a .conf file. -EBUSY: it has such a file. -EAGAIN:
 * MANAGER_FORGETS_MAX are being forgotten. Otherwise the handler is called later, when the disk has done it: -ENOENT: there
 * is no record; -ECANCELED: the daemon has stopped. */
int manager_forget(Manager *m, const char *name, store_handler_t handler, void *userdata);

/* The network has changed: a link, an address or a route appeared. */
void manager_on_network(Manager *m);
/* Has handlers.turned() called even if nothing has changed. */
void manager_touch(Manager *m);

Identity *manager_find(const Manager *m, const char *name);
/* "idle", "ok", "provisioning" or "degraded". */
const char *manager_state(const Manager *m);
unsigned manager_n_assigned(const Manager *m);
/* "2 of 3 identities assigned; north: throttled, next try at 2026-11-24 13:09:00 UTC" */
void manager_describe(const Manager *m, char *buffer, size_t size);
/* Whether all cached assignments are served, as far as they can be. */
bool manager_is_serving(const Manager *m);
/* Whether every identity that must be provisioned is, or cannot be. `all`: those with
 * RequiredForProvisioned=no count too. `ret_assigned`: whether all of them are assigned. */
bool manager_is_settled(const Manager *m, bool all, bool *ret_assigned);

/* At most this many checks run at the same time. */
#define MANAGER_CHECKS_MAX 4U

typedef struct ManagerCheckWish {
        const char *name; /* "": this device */
        bool offline;
        bool hub_login; /* displaces whoever is connected to the hub as this device */
} ManagerCheckWish;

/* `text` is the JSON of the module "check". Or r is negative: -EOPNOTSUPP: `text` says why there is no such module; -ENOENT:
 * there is no such file; -ECANCELED: the daemon stops; -ENOMEM. The handler frees the text. */
typedef void (*manager_check_handler_t)(int r, char *text, void *userdata);

/* Runs `dpsctl check` of one identity. If this fails, the handler is not called; it is never called before this returns.
 * -EBUSY: MANAGER_CHECKS_MAX run already. */
int manager_check(Manager *m, const ManagerCheckWish *wish, manager_check_handler_t handler, void *userdata);
/* The manager's owner calls these: when an identity has changed, and before manager_stop() and manager_free(). */
void manager_checks_on_changed(Manager *m, const Identity *i);
void manager_checks_end(Manager *m);
