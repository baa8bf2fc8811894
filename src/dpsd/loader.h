/* SPDX-License-Identifier: MIT */
#pragma once

/* Passes the configuration files to the manager: which identities are new, which have changed, which are
 * gone. A fault affects only the identity whose file it is in. */

#include "config/conf.h"
#include "dpsd/manager.h"

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
} Loader;

/* The directories come from the environment, or are the usual ones. */
int loader_init(Loader *l, Manager *m);
void loader_done(Loader *l);
/* Reads all files. Faults are in the report. -ENOENT: a name of `only` has no .conf file. Any other failure
 * ended the reading: no identity is retired, and those that were not read yet stay as they were. The others have
 * what was read. */
int loader_load(Loader *l);
