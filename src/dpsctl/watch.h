/* SPDX-License-Identifier: MIT */
#pragma once

/* Follows the daemon and its identities by their signals, without polling. Waits for the bus and for the daemon if they do
 * not run yet, and continues after a restart of the daemon. */

#include <systemd/sd-event.h>

#include "dpsctl/identity-list.h"

typedef struct Watch Watch;

/* Any may be NULL. To end, a handler calls watch_end(). */
typedef struct WatchHandlers {
        /* Fail if there is no bus, instead of waiting for it. */
        bool wants_bus;
        /* While attempts last, look each second what they wait for: no signal reports AttemptStep. */
        bool wants_steps;
        /* The daemon runs, and w->list is complete: at the beginning, and after each restart of the daemon. */
        void (*on_list)(Watch *w);
        /* An identity changed, or is new (`before` is NULL). */
        void (*on_changed)(Watch *w, const Identity *before, const Identity *now);
        /* The configuration of an identity was removed; it is no longer in w->list. */
        void (*on_removed)(Watch *w, const Identity *i);
        /* The daemon does not run; w->list is empty. */
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
        sd_event_source *steps; /* with wants_steps: the next look */
        IdentityList list;      /* not redacted */
        char *owner;            /* the unique name of the daemon; NULL: not known */
        bool is_there;
};

/* Runs until watch_end(), or until options->timeout_usec is over. Gives the exit code. */
int watch_run(const Options *o, const WatchHandlers *handlers, void *userdata);
void watch_end(Watch *w, int code);
/* Whether all identities that the command line names exist. If not, says so and ends the watch. */
bool watch_finds_names(Watch *w);
