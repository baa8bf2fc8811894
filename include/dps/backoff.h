/* SPDX-License-Identifier: MIT */
#pragma once

/* When to come back: all waits of a registration, as pure arithmetic. `random` is any uniform 64-bit number. */

#include <stdint.h>

/** A service that tells us to come back in a year is misunderstood; what it says is capped at a day. */
#define DPS_RETRY_AFTER_MAX_SEC (24U * 60 * 60)

/** After failure number `attempts` (1, 2 …) without a retry-after: uniform in [b/2, b], b = min(5 s·2^(k−1), 10 min). */
uint64_t dps_backoff_usec(uint32_t attempts, uint64_t random);
/** After a retry-after: what was told (capped), plus 0 to 20 %. */
uint64_t dps_backoff_told_usec(uint64_t retry_after_sec, uint64_t random);
/** After final answer number `finals` (1, 2 …): 1 h doubling to 24 h, ± 20 %. */
uint64_t dps_backoff_final_usec(uint32_t finals, uint64_t random);

/** `usec` · fraction, where fraction is random / 2^64. */
uint64_t dps_fraction_usec(uint64_t usec, uint64_t random);

/** A number that is the same for the same device and purpose for ever, and spread evenly over devices. */
uint64_t dps_stable_random(const char *device, const char *purpose);

/** When to renew: expiry − renew_before · (0.5…1.0), the fraction stable per device. */
uint64_t dps_renew_at_usec(uint64_t expires_at_usec, uint64_t renew_before_usec, uint64_t stable_random);
