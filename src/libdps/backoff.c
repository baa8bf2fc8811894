/* SPDX-License-Identifier: MIT */
#include "dps/backoff.h"

#include "basic/cleanup.h"
#include "basic/times.h"

#define BACKOFF_FIRST_USEC (5 * USEC_PER_SEC)
#define BACKOFF_MAX_USEC (10 * USEC_PER_MINUTE)
#define FINAL_FIRST_USEC USEC_PER_HOUR
#define FINAL_MAX_USEC USEC_PER_DAY

/* The waits after the first final answers. Many of these refusals pass: the enrollment was made a little late,
 * or a webhook started slowly. */
static const uint64_t early_final_usec[] = {
        USEC_PER_MINUTE, 2 * USEC_PER_MINUTE, 4 * USEC_PER_MINUTE, 8 * USEC_PER_MINUTE, 15 * USEC_PER_MINUTE,
};

/* first · 2^(n−1), at most max. */
static uint64_t doubled(uint64_t first, uint32_t n, uint64_t max) {
        uint64_t usec = first;

        for (; n > 1 && usec < max; n--)
                usec *= 2;
        return MIN(usec, max);
}

/* The upper half of a 64 × 64 bit product. 32-bit machines have no 128-bit type. */
uint64_t dps_fraction_usec(uint64_t usec, uint64_t random) {
        uint64_t a = usec >> 32, b = usec & UINT32_MAX, c = random >> 32, d = random & UINT32_MAX;
        uint64_t middle = a * d + (b * d >> 32);
        uint64_t low = b * c + (middle & UINT32_MAX);

        return a * c + (middle >> 32) + (low >> 32);
}

uint64_t dps_backoff_usec(uint32_t attempts, uint64_t random) {
        uint64_t b = doubled(BACKOFF_FIRST_USEC, attempts, BACKOFF_MAX_USEC);

        return b / 2 + dps_fraction_usec(b / 2, random);
}

uint64_t dps_backoff_told_usec(uint64_t retry_after_sec, uint64_t random) {
        uint64_t told = MIN(retry_after_sec, DPS_RETRY_AFTER_MAX_SEC) * USEC_PER_SEC;

        return told + dps_fraction_usec(told / 5, random);
}

uint64_t dps_backoff_final_usec(uint32_t finals, uint64_t random) {
        uint32_t n_early = (uint32_t) ELEMENTSOF(early_final_usec);
        uint64_t b = finals <= n_early ? early_final_usec[finals > 0 ? finals - 1 : 0]
                                       : doubled(FINAL_FIRST_USEC, finals - n_early, FINAL_MAX_USEC);

        return b / 5 * 4 + dps_fraction_usec(b / 5 * 2, random);
}

/* FNV-1a, then MurmurHash3's last steps: FNV-1a mixes its upper bits badly, and they decide a fraction. */
uint64_t dps_stable_random(const char *device, const char *purpose) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (const char *text = device, *next = purpose; text; text = next, next = NULL) {
                for (const char *p = text; *p; p++)
                        hash = (hash ^ (unsigned char) *p) * UINT64_C(0x100000001b3);
                hash = (hash ^ 0xff) * UINT64_C(0x100000001b3); /* "a","bc" and "ab","c" differ */
        }

        hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
        hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
        return hash ^ hash >> 33;
}

uint64_t dps_renew_at_usec(uint64_t expires_at_usec, uint64_t renew_before_usec, uint64_t stable_random) {
        uint64_t half = renew_before_usec / 2;

        return usec_sub(expires_at_usec, half + dps_fraction_usec(half, stable_random));
}
