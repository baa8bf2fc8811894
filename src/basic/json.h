/* SPDX-License-Identifier: MIT */
#pragma once

/* Strict JSON, for text from outside: json-c alone accepts more than JSON, and converts types silently. */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/text.h"

#define JSON_DEPTH_MAX 16

static inline void json_freep(json_object **o) {
        json_object_put(*o);
}

/* Parses a text in UTF-8 as strictly as json-c can. `ret_error` is json_tokener_continue if the text ends too early, and
 * `ret_end` is where parsing ended. A `ret` of NULL is also the value null. -ENOMEM. */
int json_parse(const char *text, size_t size, int depth, json_object **ret,
               enum json_tokener_error *ret_error, size_t *ret_end);

/* Reads a text that is one JSON object. -EBADMSG: it is not, and `ret_why` says why: "it is not JSON".
 * -ENOMEM. */
int json_read_object(const char *text, size_t size, size_t size_max, json_object **ret, const char **ret_why);

/* Whether all numbers are valid JSON: json-c also accepts NaN, Infinity and "1.". */
bool json_numbers_are_valid(json_object *o);

/* NULL: the member is missing or null, or `object` is not an object. */
json_object *json_member(json_object *object, const char *name);
/* The text of a string. NULL: this is not a string, or it has zero bytes in it. */
const char *json_string(json_object *o);
/* A whole number from 0 to `max`, which is at most INT64_MAX. -EINVAL: not a whole number; -ERANGE: out of
 * range. */
int json_u64(json_object *o, uint64_t max, uint64_t *ret);
/* As json_object_to_json_string_ext(), but NULL if memory runs out, where json-c would leave parts out. */
const char *json_render(json_object *o, int flags);
/* The object as text in one line; what json_keep_text() kept is as it came. */
int json_to_text(json_object *o, char **ret);
/* Where the value of a member stands in `text`, which was read by json_read_object() before. Of several the last counts, as
 * for json-c. `ret` is empty if there is none. */
int json_find_text(Span text, const char *name, Span *ret);
/* Makes json-c write a member of `object` as it stands in `text`, from which the object was read: json-c
 * changes numbers that it cannot hold, and other programs write texts in other ways. -ENOMEM. */
int json_keep_text(json_object *object, Span text, const char *name);

/* Add a member to an object. `name` must be a literal, because it is not copied. -ENOMEM. */
int json_add(json_object *object, const char *name, json_object *value); /* owns `value`; NULL is -ENOMEM */
int json_add_string(json_object *object, const char *name, const char *text); /* NULL: adds nothing */
int json_add_u64(json_object *object, const char *name, uint64_t value);
/* `json` is JSON text, which is added unchanged. NULL: adds nothing. */
int json_add_text(json_object *object, const char *name, const char *json);
