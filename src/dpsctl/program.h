/* SPDX-License-Identifier: MIT */
#pragma once

/* From the command line to a verb, in dpsctl and in dpsctl-more. */

#include <limits.h>

#include "dpsctl/options.h"

#define VERB_ANY UINT_MAX

typedef struct Verb {
        const char *name;             /* NULL: the end of the table */
        unsigned min, max;            /* arguments */
        int (*run)(const Options *o); /* returns the exit code */
        const char *usage;
} Verb;

/* Returns the exit code. */
int program_main(int argc, char **argv, const Verb *verbs);
