/* SPDX-License-Identifier: MIT */
#pragma once

/* A token bucket: a number of uses at once, then one per interval. It is a plain value; all zero means
 * full. */

#include <stdbool.h>
#include <stdint.h>

typedef struct RateLimit {
        uint64_t debt_usec;    /* what was taken and has not been refilled */
        uint64_t settled_usec; /* when the debt was computed last, by any clock that never goes back */
} RateLimit;

/* Takes one of `burst` uses, each of which is refilled after `interval_usec`. Returns false if none is left;
 * `ret_retry_usec` (may be NULL) is then the time to wait. */
bool ratelimit_take(RateLimit *l, unsigned burst, uint64_t interval_usec, uint64_t now_usec,
                    uint64_t *ret_retry_usec);
/* Gives back a use that came to nothing. */
void ratelimit_give_back(RateLimit *l, uint64_t interval_usec);
/* Whether all that was taken has been refilled. */
bool ratelimit_is_full(const RateLimit *l, uint64_t now_usec);
