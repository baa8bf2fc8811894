/* SPDX-License-Identifier: MIT */
#pragma once

/* The command line: one verb, its arguments, and options, each of which says which verbs know it. */

#include <stdbool.h>
#include <stdint.h>

typedef enum JsonMode {
        JSON_OFF,
        JSON_SHORT,
        JSON_PRETTY,
} JsonMode;

typedef struct Options {
        const char *verb; /* "status" where none was given; "help" and "version" for these options */
        char **arguments; /* ends with NULL; argv's */
        unsigned n_arguments;

        JsonMode json;
        bool no_pager, no_legend, quiet, redact;
        const char *host; /* of -H; NULL: here */

        bool strict;           /* status */
        char **properties;     /* show; owned */
        bool wait;             /* reprovision */
        uint64_t timeout_usec; /* reprovision, wait; USEC_INFINITY: none */
        bool has_timeout;
        bool any, fresh;        /* wait */
        uint64_t lifetime_usec; /* token, sas; 0: the default */
        bool offline;           /* check */
        const char *root;       /* verify-config, cat-config, expand; NULL: / */
        const char *key;        /* derive-key, sas: a file, or "-" */
        const char *id_scope, *registration_id, *hub, *device_id; /* sas */
        uint64_t expiry_sec;                                      /* sas; 0: lifetime_usec counts */
} Options;

/* 0, or EXIT_USAGE and told why. */
int options_parse(int argc, char **argv, Options *ret);
void options_done(Options *o);
