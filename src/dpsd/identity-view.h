/* SPDX-License-Identifier: MIT */
#pragma once

/* What an identity shows to others: on the bus, in STATUS=, in messages. */

#include <stdint.h>

#include "basic/contract.h"
#include "dpsd/identity.h"

#define VIEW_TYPE_s const char *
#define VIEW_TYPE_b int /* sd-bus reads a boolean as an int */
#define VIEW_TYPE_u uint32_t
#define VIEW_TYPE_t uint64_t
#define VIEW_MEMBER(name, type, member, emits, privacy) VIEW_TYPE_##type member;

/* The value of each property of io.dpsd.dps1.Identity (basic/contract.h), in the C type that sd-bus reads in place. Texts
 * are valid UTF-8, never NULL, and the identity's own: a view is of use until the identity changes. */
typedef struct IdentityView {
        IDENTITY_PROPERTIES(VIEW_MEMBER)
} IdentityView;

void identity_view(const Identity *i, IdentityView *ret);

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

/* Text as it can be shown: NULL is empty, and what is not UTF-8 is a question mark. */
const char *text_or_nothing(const char *s);
