/* SPDX-License-Identifier: MIT */
#pragma once

/* What an identity shows: on the bus, in STATUS=, in messages. */

#include "dpsd/identity.h"

/* When it contacts DPS next, for any reason (CLOCK_REALTIME); 0: in flight, or never by itself. */
uint64_t identity_next_attempt_at_usec(const Identity *i);
/* Assigned, and no error since. */
bool identity_is_healthy(const Identity *i);
/* The last failure; where there is none, what is wrong with the file. `ret_at_usec`: CLOCK_REALTIME. */
const DpsError *identity_error(const Identity *i, uint64_t *ret_at_usec);
/* Why there is nothing to ask DPS with: a fault in the file comes before what was wrong when last looked at. */
const DpsError *identity_error_at_home(const Identity *i);

/* "throttled, next try in 4 min": what happens next. `lasting`: for text that stands for a while, with the time of day. */
void identity_describe(const Identity *i, bool lasting, char *buffer, size_t size);
/* Only "next try in 4 min". */
void identity_describe_next(const Identity *i, bool lasting, char *buffer, size_t size);
