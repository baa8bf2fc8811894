/* SPDX-License-Identifier: MIT */
#pragma once

/* Identities of the same ID scope and registration ID: they would displace each other at DPS for ever, so that the daemon
 * takes the first of them by name, and refuses the others. */

#include "config/conf.h"
#include "config/settings.h"

typedef struct Twin {
        char *name, *file;
        unsigned line; /* of RegistrationId=; 0: it is of the defaults */
        char *id_scope, *registration_id;
} Twin;

typedef struct Twins {
        Twin *all;
        size_t n;
} Twins;

/* `settings` are those of `conf`, not expanded. What does not resolve here counts as it is written. */
int twins_add(Twins *t, const Conf *conf, const Settings *settings, const SpecifierContext *context);
/* All that are installed, as far as nothing is wrong with them. */
int twins_add_installed(Twins *t, char *const *directories, const Conf *defaults, char *const *names);
void twins_done(Twins *t);
/* NULL: there is none. */
const Twin *twins_named(const Twins *t, const char *name);
/* The first by name of those that are the same device, where that is not `twin` itself; NULL: none. */
const Twin *twins_first(const Twins *t, const Twin *twin);
