/* SPDX-License-Identifier: MIT */
#pragma once

/* Follows the daemon and its identities by their signals: nothing is asked twice, nothing is polled. Waits for a bus
 * and for a daemon that are not there yet, and survives a restart of the daemon. */

#include <systemd/sd-event.h>

#include "dpsctl/identity.h"

typedef struct Watch Watch;

/* Any may be NULL. To end, a handler calls watch_end(). */
typedef struct WatchHandlers {
        /* A bus that is not there is a failure. */
        bool wants_bus;
        /* The daemon is there, and w->list is complete: at the beginning, and after a restart. */
        void (*on_list)(Watch *w);
        /* One changed, or is new (`before` NULL). */
        void (*on_changed)(Watch *w, const Identity *before, const Identity *now);
        /* Its configuration vanished; it is no longer in w->list. */
        void (*on_removed)(Watch *w, const Identity *i);
        /* There is no daemon, or not any more; w->list is empty. */
        void (*on_gone)(Watch *w);
        void (*on_finished)(Watch *w, const char *path, uint64_t job, bool ok, const char *error);
        void (*on_timeout)(Watch *w);
} WatchHandlers;

struct Watch {
        const Options *options;
        const WatchHandlers *handlers;
        void *userdata;
        sd_event *event;
        sd_bus *bus;
        IdentityList list; /* not redacted */
        bool is_there;
};

/* Runs until watch_end(), or for options->timeout_usec. Gives the exit code. */
int watch_run(const Options *o, const WatchHandlers *handlers, void *userdata);
void watch_end(Watch *w, int code);
/* Whether all that the command line names are there; if not, it is told, and the watch ends. */
bool watch_finds_names(Watch *w);
