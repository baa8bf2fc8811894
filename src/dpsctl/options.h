/* SPDX-License-Identifier: MIT */
#pragma once

/* The command line: one verb, its arguments, and options. Each option says which verbs take it. */

#include <stdbool.h>
#include <stdint.h>

typedef enum JsonMode {
        JSON_OFF,
        JSON_SHORT,
        JSON_PRETTY,
} JsonMode;

typedef struct Options {
        const char *verb; /* "status" if none was given; "help" for --help, "version" for --version */
        char **arguments; /* part of argv, ends with NULL */
        unsigned n_arguments;

        JsonMode json;
        bool no_pager, no_legend, quiet, redact;
        const char *host; /* -H; NULL: this host */

        bool strict;           /* status */
        char **properties;     /* show; owned */
        bool wait;             /* reprovision */
        uint64_t timeout_usec; /* reprovision, wait; USEC_INFINITY: none */
        bool has_timeout;
        bool any, fresh;         /* wait */
        uint64_t lifetime_usec;  /* token, sas; 0: the default */
        bool offline, hub_login; /* check */
        const char *follow;      /* metrics: a file; NULL: print them once */
        const char *root;        /* verify-config, cat-config, expand; NULL: / */
        bool force;              /* import-key */
        const char *write_key;   /* import-config */
        const char *key;         /* derive-key, sas: a file, or "-" */
        const char *id_scope, *registration_id, *hub, *device_id; /* sas */
        uint64_t expiry_sec;                                      /* sas; 0: lifetime_usec counts */
} Options;

/* 0, or EXIT_USAGE after it has said why. */
int options_parse(int argc, char **argv, Options *ret);
void options_done(Options *o);
