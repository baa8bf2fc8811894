/* SPDX-License-Identifier: MIT */
#pragma once

/* What an identity shows of itself: on the bus, in STATUS=, in messages. */

#include <stdint.h>

#include "basic/contract.h"
#include "dpsd/identity.h"

#define VIEW_TYPE_s const char *
#define VIEW_TYPE_b int /* sd-bus reads a boolean as an int */
#define VIEW_TYPE_u uint32_t
#define VIEW_TYPE_t uint64_t
#define VIEW_MEMBER(name, type, member, emits, privacy) VIEW_TYPE_##type member;

/* The value of each property of io.dpsd.dps1.Identity (basic/contract.h), in the C type that sd-bus reads
 * directly. Texts are valid UTF-8, never NULL, and owned by the identity: a view is valid until the identity
 * changes. */
typedef struct IdentityView {
        IDENTITY_PROPERTIES(VIEW_MEMBER)
} IdentityView;

void identity_view(const Identity *i, IdentityView *ret);

/* When the identity contacts DPS next, for any reason (CLOCK_REALTIME); 0: an attempt is in flight, or none
 * is planned. */
uint64_t identity_next_attempt_at_usec(const Identity *i);
/* The identity is assigned, and no error has occurred since. */
bool identity_is_healthy(const Identity *i);
/* The last error or, if there is none, the fault in the file. `ret_at_usec`: CLOCK_REALTIME. */
const DpsError *identity_error(const Identity *i, uint64_t *ret_at_usec);
/* Why there is nothing to ask DPS with: a fault in the file or, failing that, the error of the last look at
 * the credential. */
const DpsError *identity_local_error(const Identity *i);

/* What happens next, as in "throttled, next try in 4 min". Set `lasting` for a text that is shown for a
 * while: it then has the time of day. */
void identity_describe(const Identity *i, bool lasting, char *buffer, size_t size);
/* Only the part "next try in 4 min". */
void identity_describe_next(const Identity *i, bool lasting, char *buffer, size_t size);

/* Makes a text safe to show: NULL becomes empty, and text that is not UTF-8 becomes a question mark. */
const char *text_or_nothing(const char *s);
