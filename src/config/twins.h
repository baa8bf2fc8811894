/* SPDX-License-Identifier: MIT */
#pragma once

/* Twins are identities with the same ID scope and registration id. At DPS they would replace each other again and again,
 * so the daemon uses the first one by name and refuses the others. */

#include "config/conf.h"
#include "config/settings.h"

typedef struct Twin {
        char *name, *file;
        unsigned line; /* of RegistrationId=; 0: it comes from the defaults */
        char *id_scope, *registration_id;
} Twin;

typedef struct Twins {
        Twin *all;
        size_t n;
} Twins;

/* `settings` are those of `conf`, before expansion. A specifier that does not resolve here is compared as it is written. */
int twins_add(Twins *t, const Conf *conf, const Settings *settings, const SpecifierContext *context);
/* All installed identities whose configuration has no errors. */
int twins_add_installed(Twins *t, char *const *directories, const Conf *defaults, char *const *names);
void twins_done(Twins *t);
/* NULL: not found. */
const Twin *twins_named(const Twins *t, const char *name);
/* The first by name among `twin` and its twins; NULL if that is `twin` itself. */
const Twin *twins_first(const Twins *t, const Twin *twin);
