/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the core of the daemon is given: the world outside and what all identities share. dpsd.c hands in the real things, the
 * simulation its own, and then all of the core (manager, identities, clients, store, outputs) lives in simulated time.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/world.h"
#include "client/window.h"
#include "dpsd/clock.h"
#include "dpsd/groups.h"
#include "dpsd/outputs.h"
#include "dpsd/store.h"
#include "transport/transport.h"

typedef struct Identity Identity;
typedef struct FileWatch FileWatch;

/* What the core asks of its surroundings. */
typedef struct CoreOperations {
        /* Calls the handler when one of the files has changed. `ret` may stay NULL where files cannot be watched. */
        int (*watch_files)(char *const *paths, void (*handler)(void *), void *handler_userdata,
                           void *userdata, FileWatch **ret);
        FileWatch *(*unwatch_files)(FileWatch *w);
} CoreOperations;

/* What identities tell their owner. */
typedef struct IdentityObserver {
        /* Something that is shown of it has changed. */
        void (*changed)(Identity *i, void *userdata);
        /* A reprovision request has ended. */
        void (*job_ended)(Identity *i, uint64_t job, bool ok, const char *error, void *userdata);
        /* It is another device now, or stopped being one: others may be its twins. */
        void (*device_changed)(Identity *i, void *userdata);
        /* Why the group of [Access] cannot have its files (a literal); NULL: it can. True: that is news. */
        bool (*group_failed)(const char *group, const char *error, void *userdata);
} IdentityObserver;

typedef struct Core {
        World *world;
        Store *store;
        Outputs *outputs;
        Groups *groups;
        Clock *clock;
        uint64_t clock_deadline_usec; /* CLOCK_BOOTTIME: until then a wrong clock is waited for */
        Window *window;
        TransportClass *transport;

        const CoreOperations *operations;
        void *operations_userdata;
        const IdentityObserver *observer;
        void *observer_userdata;

        uint64_t last_job;
        gid_t own_gid; /* whose the files are where the group of [Access] cannot be */
} Core;
