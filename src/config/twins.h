/* SPDX-License-Identifier: MIT */
#pragma once

/* Twins are identities with the same ID scope and registration id. At DPS they would replace each other again and again, so
 * the daemon uses only one of them: the one that holds the assignment, or else the first by name. Here this is found out
 * without the daemon, from files. */

#include "config/conf.h"
#include "config/settings.h"

typedef struct Twin {
        char *name, *file;
        unsigned line; /* of RegistrationId=; 0: it comes from the defaults */
        char *id_scope, *registration_id;
        bool holds_assignment; /* its record, where it can be read, has the assignment of this device */
        bool is_installed;     /* by twins_add_installed() */
} Twin;

typedef struct Twins {
        const char *root; /* records are below it; NULL: they are those of this system */
        Twin *all;
        size_t n;
} Twins;

/* Takes the names of the identity that keeps the device and of its twin, and the twin's registration id and ID
 * scope. */
#define TWINS_FORMAT "%s.conf and %s.conf both have registration id \"%s\" and ID scope \"%s\": change one"

/* `settings` are those of `conf`, before expansion. A specifier that does not resolve here is compared as it is written. */
int twins_add(Twins *t, const Conf *conf, const Settings *settings, const SpecifierContext *context);
/* All of these installed identities whose configuration has no errors. */
int twins_add_installed(Twins *t, char *const *directories, const Conf *defaults, char *const *names);
/* All installed identities. */
int twins_find(char *const *directories, Twins *ret);
void twins_done(Twins *t);
/* NULL: not found. */
const Twin *twins_named(const Twins *t, const char *name);
/* The twin that keeps the device; NULL: this one does, or it has no twin. */
const Twin *twins_keeper(const Twins *t, const Twin *twin);
const char *twins_keeper_of(const Twins *t, const char *name);
