/* SPDX-License-Identifier: MIT */
#pragma once

/* Time in microseconds, as in systemd, and durations as people write and read them. */

#include <stdint.h>
#include <time.h>

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MINUTE)
#define USEC_PER_DAY (24 * USEC_PER_HOUR)
#define USEC_PER_WEEK (7 * USEC_PER_DAY)
#define USEC_PER_MONTH (UINT64_C(2629800) * USEC_PER_SEC) /* 30.44 days, as in systemd.time(7) */
#define USEC_PER_YEAR (UINT64_C(31557600) * USEC_PER_SEC) /* 365.25 days */
#define USEC_INFINITY UINT64_MAX

/* The time of CLOCK_REALTIME, CLOCK_BOOTTIME … in microseconds. */
uint64_t now_usec(clockid_t clock);

/* The sum, but at most USEC_INFINITY. */
uint64_t usec_add(uint64_t a, uint64_t b);
/* The difference, but at least 0. */
uint64_t usec_sub(uint64_t a, uint64_t b);

/* Durations as in systemd.time(7): "90", "2min", "1h 30m", "5.5s", "infinity"; a bare number is seconds.
 * -EINVAL: not a duration; -ERANGE: too long. */
int parse_duration(const char *text, uint64_t *ret_usec);

#define DURATION_TEXT_MAX 48
/* "4 min", "1 h 5 min", "12 days": two units at most, for people. Returns `buffer`. */
const char *format_duration(uint64_t usec, char buffer[static DURATION_TEXT_MAX]);
#define TIMESTAMP_TEXT_MAX 40
/* "2026-11-24 13:09:00 UTC"; "-" for 0. Returns `buffer`. */
const char *format_timestamp(uint64_t realtime_usec, char buffer[static TIMESTAMP_TEXT_MAX]);
