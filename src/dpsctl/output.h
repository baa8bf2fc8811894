/* SPDX-License-Identifier: MIT */
#pragma once

/* Where output goes: through a pager on a terminal, or as JSON. */

#include <json-c/json.h>

#include "dpsctl/options.h"

/* On a terminal, all that is printed until output_end() goes through $SYSTEMD_PAGER, $PAGER or less; never JSON. */
void output_begin(const Options *o);
void output_end(void);

/* An object of members, each a letter of `types` with a name, which is a literal, and a value: s text, t uint64_t, T the
 * same and left out if 0, b bool, o a json_object, which is taken. NULL: memory did not last, also for such a member. */
json_object *json_pack(const char *types, ...);
/* {"version":1,"KEY":value} */
json_object *json_document(const char *key, json_object *value);
/* Takes the row; where there is none, or memory does not last, *rows is NULL from then on. */
void json_append(json_object **rows, json_object *row);
/* Prints and drops the object: on one line, or indented. NULL is memory that did not last. An exit code. */
int output_json(const Options *o, json_object *object);
