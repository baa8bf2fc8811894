/* SPDX-License-Identifier: MIT */
#pragma once

/* Starts the broker with the plugin, prints where it listens when it is ready, and ends when the broker
 * does. */

#include <stdbool.h>
#include <stdint.h>

typedef struct LaunchOptions {
        const char *enrollments; /* NULL: the file in the state directory, or the default ones */
        const char *listen;      /* a numeric address */
        char **hosts;            /* further names for the server's certificate; NULL: none */
        uint16_t port;           /* 0: any free port */
        bool has_https_port;     /* it was asked for: it is an error if it cannot be had */
        uint16_t https_port;     /* 0: any free port */
        const char *id_scope;    /* NULL: the one in the enrollments file */
} LaunchOptions;

/* Returns an exit status. */
int launcher_run(const char *state_directory, const LaunchOptions *options);
