/* SPDX-License-Identifier: MIT */
#pragma once

/* Starts the broker with the plugin, says when it is ready and where, and ends with it. */

#include <stdint.h>

typedef struct LaunchOptions {
        const char *enrollments; /* NULL: those of the state directory, or the default ones */
        const char *listen;      /* a numeric address */
        char **hosts;            /* the names that the server's certificate is for, besides */
        uint16_t port;           /* 0: a free one */
        const char *id_scope;    /* NULL: the enrollments file's */
} LaunchOptions;

/* Returns an exit status. */
int launcher_run(const char *state_directory, const LaunchOptions *options);
