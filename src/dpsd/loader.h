/* SPDX-License-Identifier: MIT */
#pragma once

/* From the files of the configuration to the manager: who appears, who changes, who goes. What is wrong harms none but its
 * own. */

#include "config/conf.h"
#include "dpsd/manager.h"

typedef struct Loader {
        Manager *manager;
        char **directories;
        char *const *only; /* --once NAME…: no others, borrowed; NULL: all */
        ConfReport report; /* of the last time */
} Loader;

/* The directories are those of the environment, or the usual ones. */
int loader_init(Loader *l, Manager *m);
void loader_done(Loader *l);
/* Reads all. -ENOENT: a name of `only` has no conf. Otherwise a failure says that nothing could be read, and all stays as it
 * was. Faults are in the report. */
int loader_load(Loader *l);
