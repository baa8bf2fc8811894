/* SPDX-License-Identifier: MIT */
#pragma once

/* --redact: for a forum post. The same thing gets the same mask all through one run of dpsctl, so that what belongs
 * together still shows; the masks say nothing of what they stand for. */

#include "dpsctl/identity.h"

/* From here on: what has no mask yet and stands in a text as an id gets one too. */
void redact_begin(void);
/* The mask of a value, such as "id-2"; the same one for values that differ in case only. "" stays "".
 * NULL: out of memory. */
const char *redact_value(Privacy privacy, const char *value);
/* A copy with all values masked so far masked in it too, where they stand as words; without --redact the same text.
 * NULL: out of memory. */
char *redact_text(const char *text);
/* The same for each text in an object or an array. */
int redact_json(json_object *o);

/* Only gives its values their masks, for redact_text(). */
int redact_learn(const Identity *i);
int redact_identity(Identity *i);
int redact_list(IdentityList *l);
void redact_forget(void);
