/* SPDX-License-Identifier: MIT */
#pragma once

/* Where output goes: through a pager on a terminal, or as JSON. */

#include <json-c/json.h>

#include "dpsctl/options.h"

/* On a terminal, all that is printed until output_end() goes through $SYSTEMD_PAGER, $PAGER or less; never JSON. */
void output_begin(const Options *o);
void output_end(void);

/* Prints and drops the object: on one line, or indented. NULL is memory that did not last. An exit code. */
int output_json(const Options *o, json_object *object);
