/* SPDX-License-Identifier: MIT */
#pragma once

/* Times in words, and what happens next to an identity. Pure functions: the current time is an argument. */

#include <stdbool.h>

#include "basic/times.h"
#include "dpsctl/identity.h"

#define WHEN_TEXT_MAX (DURATION_TEXT_MAX + 16)
/* "in 4 min", "3 days ago", "now"; "-" for 0. Returns `buffer`. */
const char *format_when(uint64_t at_usec, uint64_t now_usec, char buffer[static WHEN_TEXT_MAX]);
#define MOMENT_TEXT_MAX (TIMESTAMP_TEXT_MAX + WHEN_TEXT_MAX + 8)
/* "2026-11-24 13:09:00 UTC (3 days ago)"; "-" for 0. */
const char *format_moment(uint64_t at_usec, uint64_t now_usec, char buffer[static MOMENT_TEXT_MAX]);

#define NEXT_TEXT_MAX 256
/* What dpsd does next by itself: "renews in 26 days". */
const char *identity_next(const Identity *i, uint64_t now_usec, char buffer[static NEXT_TEXT_MAX]);
/* When; 0: not known, or never. */
uint64_t identity_next_at(const Identity *i);
