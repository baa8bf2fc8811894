/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the core of the daemon is given: the outside world, and what all identities share. daemon.c passes the
 * real things. The simulation passes its own, and then the whole core (manager, identities, clients, store,
 * outputs) runs in simulated time.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/folder.h"
#include "basic/world.h"
#include "client/window.h"
#include "dpsd/clock.h"
#include "dpsd/groups.h"
#include "dpsd/store.h"
#include "transport/transport.h"

typedef struct Identity Identity;
typedef struct FileWatch FileWatch;

/* What the core needs from its surroundings. */
typedef struct CoreOperations {
        /* Calls the handler when one of the files changes. `ret` may stay NULL. */
        int (*watch_files)(char *const *paths, void (*handler)(void *), void *handler_userdata,
                           void *userdata, FileWatch **ret);
        FileWatch *(*unwatch_files)(FileWatch *w);
        /* Identifies the network that this machine is in: the address of the default gateway. 0, with "" if there
         * is none, or -ENOMEM. */
        int (*find_gateway)(void *userdata, char **ret);
} CoreOperations;

/* What an identity reports to its owner. */
typedef struct IdentityObserver {
        /* A property that is shown to users has changed. */
        void (*changed)(Identity *i, void *userdata);
        /* A reprovision request has ended. */
        void (*job_ended)(Identity *i, uint64_t job, bool ok, const char *error, void *userdata);
        /* The identity became another device, or stopped being one: its twins may have changed. */
        void (*device_changed)(Identity *i, void *userdata);
        /* `error` says why the group of [Access] cannot own the files (a literal); NULL: it can. Returns true
         * if that is new. */
        bool (*group_failed)(const char *group, const char *error, void *userdata);
} IdentityObserver;

typedef struct Core {
        World *world;
        Store *store;
        Folder *runtime; /* of the files for programs */
        Groups *groups;
        Clock *clock;
        uint64_t clock_deadline_usec; /* CLOCK_BOOTTIME: we wait for the right time no longer than this */
        Window *window;
        Transports *transports;

        const CoreOperations *operations;
        void *operations_userdata;
        const IdentityObserver *observer;
        void *observer_userdata;

        uint64_t last_job;
        gid_t own_gid; /* owns the files if the group of [Access] cannot */
} Core;
