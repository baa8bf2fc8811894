/* SPDX-License-Identifier: MIT */
#pragma once

/* JSON that came from elsewhere. json-c takes more than is JSON, and converts types silently: here nothing does. */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 16

static inline void json_freep(json_object **o) {
        json_object_put(*o);
}

/* The one JSON object that the text is. -EBADMSG: it is none, and `ret_defect` is what is wrong with it: "it is not JSON";
 * -ENOMEM. */
int json_read_object(const char *text, size_t size, size_t size_max, json_object **ret,
                     const char **ret_defect);

/* json-c takes NaN, Infinity and "1." for numbers, and hands them on. */
bool json_numbers_are_valid(json_object *o);

/* NULL is as absent, whether the object is none or the member null. */
json_object *json_member(json_object *object, const char *name);
/* The text of a string without embedded NULs; NULL for anything else. */
const char *json_string(json_object *o);
/* A whole number from 0 to `max`, which is at most INT64_MAX. -EINVAL: something else; -ERANGE: another number. */
int json_u64(json_object *o, uint64_t max, uint64_t *ret);
/* json_object_to_json_string_ext() that gives all of the text or NULL: there is no memory. */
const char *json_render(json_object *o, int flags);
/* The object as text, in one line. */
int json_to_text(json_object *o, char **ret);

/* Building: `name` must be a literal, as it is not copied. -ENOMEM. */
int json_add(json_object *object, const char *name, json_object *value); /* takes value; NULL: no memory */
int json_add_string(json_object *object, const char *name, const char *text); /* NULL is left out */
int json_add_u64(json_object *object, const char *name, uint64_t value);
/* Text that is JSON already, as it is; NULL is left out. */
int json_add_text(json_object *object, const char *name, const char *json);
