/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How long to wait: every wait of a registration, as pure arithmetic. `random` is any uniform 64-bit number.
 * No function here fails, and all times are microseconds (`_usec`) or seconds (`_sec`).
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A retry-after of more than a day is treated as a day. */
#define DPS_RETRY_AFTER_MAX_SEC (24U * 60 * 60)

/**
 * The wait after failure number `attempts` (1, 2 …) for which DPS gave no retry-after: uniform in [b/2, b],
 * where b is 5 s · 2^(attempts − 1), at most 10 min. Microsoft asks for at least 5 s after a failed
 * connection ("Manage device reconnections to create resilient applications").
 */
uint64_t dps_backoff_usec(uint32_t attempts, uint64_t random);
/** The wait after a retry-after: what DPS demanded, at most DPS_RETRY_AFTER_MAX_SEC, plus 0 to 20 %. */
uint64_t dps_backoff_told_usec(uint64_t retry_after_sec, uint64_t random);
/** The wait after final answer number `finals` (1, 2 …) in a row: 1, 2, 4, 8 and 15 min, then 1 h, doubling to 24 h;
 * each ± 20 %. */
uint64_t dps_backoff_final_usec(uint32_t finals, uint64_t random);

/** `usec` · fraction, where the fraction is random / 2^64. */
uint64_t dps_fraction_usec(uint64_t usec, uint64_t random);

/** A number that never changes for the same device and purpose, and is spread evenly over devices. */
uint64_t dps_stable_random(const char *device, const char *purpose);

/**
 * When to renew what expires at `expires_at_usec`: earlier than that by `renew_before_usec` · f, where f is
 * in [0.5, 1] and is fixed by `stable_random`, so that a fleet does not renew all at once. At least 0.
 */
uint64_t dps_renew_at_usec(uint64_t expires_at_usec, uint64_t renew_before_usec, uint64_t stable_random);

#ifdef __cplusplus
}
#endif
