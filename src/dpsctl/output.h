/* SPDX-License-Identifier: MIT */
#pragma once

/* How output is written: through a pager on a terminal, or as JSON. */

#include <json-c/json.h>

#include "dpsctl/options.h"

/* On a terminal, everything printed until output_end() goes through $SYSTEMD_PAGER, $PAGER or less. JSON never does. */
void output_begin(const Options *o);
void output_end(void);

/* Makes an object. Each letter of `types` stands for two arguments, the name of a member and its value: s is a text, t a
 * uint64_t, T a uint64_t that is left out if it is 0, b a bool, o a json_object, which the new object takes over.
 * NULL: out of memory, or an o was NULL. */
json_object *json_pack(const char *types, ...);
/* {"version":1,"KEY":value} */
json_object *json_document(const char *key, json_object *value);
/* Appends `row`, which the array takes over. If `row` is NULL or memory runs out, *rows is NULL from then on. */
void json_append(json_object **rows, json_object *row);
/* Prints the object, on one line or indented, and frees it. NULL means out of memory. Gives an exit code. */
int output_json(const Options *o, json_object *object);
