/* SPDX-License-Identifier: MIT */
#pragma once

/* A bucket: so many at once, and then one in a while. A plain value, all 0 is a full one. */

#include <stdbool.h>
#include <stdint.h>

typedef struct RateLimit {
        uint64_t debt_usec;    /* what was taken and has not flowed back */
        uint64_t settled_usec; /* when that was reckoned; any clock that never goes back */
} RateLimit;

/* Takes one of `burst`, each of which flows back in `interval_usec`. False: none is left; `ret_retry_usec` (may be
 * NULL) says for how long. */
bool ratelimit_take(RateLimit *l, unsigned burst, uint64_t interval_usec, uint64_t now_usec,
                    uint64_t *ret_retry_usec);
