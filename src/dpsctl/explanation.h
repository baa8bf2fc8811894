/* SPDX-License-Identifier: MIT */
#pragma once

/* The manual of errors: for each id what libdps does not tell in its two lines. */

#include <stdbool.h>
#include <stdint.h>

#include "dps/error.h"

typedef struct Explanation {
        const char *cause;    /* how it comes about */
        const char *apart;    /* how to tell the causes apart */
        const char *dpsd;     /* what dpsd does by itself */
        const char *commands; /* to type, one a line */
} Explanation;

/* Not for NONE. */
const Explanation *explanation_of(DpsErrorId id);
/* Whether Microsoft documents this code, or HTTP this status. */
bool code_is_defined(uint64_t code);
