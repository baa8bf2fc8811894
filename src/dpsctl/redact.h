/* SPDX-License-Identifier: MIT */
#pragma once

/* --redact: output for a forum post. A private value has the same mask ("id-2") all through one run of dpsctl, so that one
 * still sees what belongs together. A mask tells nothing about the value. */

#include <json-c/json.h>

#include "basic/contract.h"

/* From here on, redact_text() also masks what a message marks as private. */
void redact_begin(void);
/* The mask of a value; upper and lower case are the same. `privacy` counts for the first mask of a value. A mask stays as it
 * is, and so does "". NULL: out of memory. */
const char *redact_value(Privacy privacy, const char *value);
/* A copy in which the values that have a mask are masked where they stand as words. NULL: out of memory. */
char *redact_text(const char *text);
/* The same for each text in an object or an array. */
int redact_json(json_object *o);
void redact_forget(void);
