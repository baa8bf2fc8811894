/* SPDX-License-Identifier: MIT */
#pragma once

/* When something on this machine has failed, it is tried again at growing intervals: 10 s, doubling up to 10
 * min. This is a plain value; all zero means that nothing has failed. */

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

/* Something happened that may help, so the next try is due now. */
static inline void retry_now(Retry *r) {
        r->at_usec = 0;
}
