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

typedef struct Loader {
        Manager *manager;
        char **directories;
        char *const *only; /* from --once NAME…: only these are loaded; borrowed; NULL: all */
        LoadReport report; /* of the last load */
        char *fault_of_all; /* what is wrong with dpsd.conf, so that nobody's settings are known; NULL: nothing */

        Timer *again; /* looks whether what was out of reach can be read now */
        Retry looking;
        void (*on_within_reach)(void *userdata);
        void *userdata;
} Loader;

/* The directories come from the environment, or are the usual ones. The handler is called when a file or directory that the
 * last load could not read can be read again: load again then. */
int loader_init(Loader *l, Manager *m, void (*on_within_reach)(void *userdata), void *userdata);
void loader_done(Loader *l);
/* Looks at once whether what was out of reach can be read now. */
void loader_look(Loader *l);
/* Reads all files. Faults are in the report. -ENOENT: a name of `only` has no .conf file. Any other failure
 * ended the reading: no identity is retired, and those that were not read yet stay as they were. The others have
 * what was read. */
int loader_load(Loader *l);
