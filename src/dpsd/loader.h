/* SPDX-License-Identifier: MIT */
#pragma once

/* Passes the configuration files to the manager: which identities are new, which have changed, which are
 * gone. A fault affects only the identity whose file it is in. */

#include "config/conf.h"
#include "dpsd/manager.h"
#include "dpsd/retry.h"

/* What a load has found, and what became of it. Identities with errors, which go on as before, are in no list. */
typedef struct LoadReport {
        ConfReport faults;
        char **added, **changed, **retired;
        unsigned n_unchanged;
} LoadReport;

typedef struct LoadTask LoadTask;

typedef struct LoaderHandlers {
        /* A file or directory that the last load could not read can be read again, or there may be memory again: load
         * again then. */
        void (*on_within_reach)(void *userdata);
        /* A load that was begun has ended. `r` is as of loader_load(). */
        void (*on_loaded)(int r, void *userdata);
} LoaderHandlers;

typedef struct Loader {
        Manager *manager;
        char **directories;
        char *const *only; /* from --once NAME…: only these are loaded; borrowed; NULL: all */
        LoadReport report; /* of the last load */

        LoaderHandlers handlers;
        void *userdata;
        LoadTask *task; /* of the load under way; NULL: none is */
        Work *work;
        uint64_t n_loads, n_wanted; /* loads that were begun and have ended; and that are asked for */

        Timer *again;       /* looks whether what was out of reach can be read now */
        bool lacked_memory; /* the last load did */
        Retry looking;
} Loader;

/* The directories come from the environment, or are the usual ones. */
int loader_init(Loader *l, Manager *m, const LoaderHandlers *handlers, void *userdata);
void loader_done(Loader *l);
/* Looks at once whether what was out of reach can be read now. */
void loader_look(Loader *l);
/* The manager has ended a turn. A load ends when the records of those that it has added are read. */
void loader_on_turned(Loader *l);
/* Reads all files. Faults are in the report. -ENOENT: a name of `only` has no .conf file. Any other failure
 * ended the reading: no identity is retired, and those that were not read yet stay as they were. The others have
 * what was read. Blocks: for the start, when there is nothing to hold up. */
int loader_load(Loader *l);
/* The same while the loop goes on. Returns the number of the load that will have read what is in the files now: after one
 * that is under way comes another. It may have ended already. */
uint64_t loader_begin(Loader *l);
