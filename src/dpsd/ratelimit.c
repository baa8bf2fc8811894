/* SPDX-License-Identifier: MIT */
#include "dpsd/ratelimit.h"

#include "basic/times.h"

bool ratelimit_take(RateLimit *l, unsigned burst, uint64_t interval_usec, uint64_t now_usec,
                    uint64_t *ret_retry_usec) {
        uint64_t full = burst * interval_usec;

        l->debt_usec = usec_sub(l->debt_usec, usec_sub(now_usec, l->settled_usec));
        l->settled_usec = now_usec;
        if (l->debt_usec + interval_usec > full) {
                if (ret_retry_usec)
                        *ret_retry_usec = l->debt_usec + interval_usec - full;
                return false;
        }

        l->debt_usec += interval_usec;
        return true;
}

void ratelimit_give_back(RateLimit *l, uint64_t interval_usec) {
        l->debt_usec = usec_sub(l->debt_usec, interval_usec);
}

bool ratelimit_is_full(const RateLimit *l, uint64_t now_usec) {
        return usec_sub(now_usec, l->settled_usec) >= l->debt_usec;
}
