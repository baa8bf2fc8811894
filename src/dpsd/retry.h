/* SPDX-License-Identifier: MIT */
#pragma once

/* Something on this machine that failed is tried again by itself, at growing intervals: 10 s, doubling to 10 min. A plain
 * value; all 0: nothing has failed. */

#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/times.h"

typedef struct Retry {
        uint64_t at_usec; /* CLOCK_BOOTTIME */
        unsigned n;       /* failures in a row */
} Retry;

static inline void retry_failed(Retry *r, uint64_t now_usec) {
        r->at_usec = now_usec + MIN((10 * USEC_PER_SEC) << MIN(r->n, 6U), 10 * USEC_PER_MINUTE);
        r->n++;
}

static inline void retry_done(Retry *r) {
        *r = (Retry){ 0 };
}

/* Something happened that may help. */
static inline void retry_now(Retry *r) {
        r->at_usec = 0;
}
