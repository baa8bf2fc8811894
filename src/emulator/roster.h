/* SPDX-License-Identifier: MIT */
#pragma once

/* The enrollments file as a whole: the service's behaviour and all enrollments. A change that fails changes
 * nothing. */

#include "emulator/behaviour.h"
#include "emulator/enrollment.h"

struct lh_table;

typedef struct Roster {
        Behaviour behaviour;
        json_object *top;             /* the document without its two lists */
        struct lh_table *individuals; /* registration id in lower case → Enrollment */
        struct lh_table *groups;      /* enrollment group id in lower case → Enrollment */
} Roster;

/* The members of a document that list its enrollments: individuals, groups. */
extern const char *const roster_list_names[2];

int roster_new(json_object *document, Roster **ret, ErrorText *error);
Roster *roster_free(Roster *roster);
DEFINE_FREEP(Roster, roster_free)

/* NULL: there is none. Ids are compared without case. */
const Enrollment *roster_individual(const Roster *roster, const char *registration_id);
const Enrollment *roster_group(const Roster *roster, const char *enrollment_group_id);
/* The group after `previous` in the file; NULL as `previous` gives the first one. NULL: there are no more. */
const Enrollment *roster_next_group(const Roster *roster, const Enrollment *previous);

/* Adds or replaces enrollments. `json` is a document, or one enrollment; `ret_n` is how many it had. */
int roster_merge(Roster *roster, json_object *json, size_t *ret_n, ErrorText *error);
/*
 * Applies assignments "key=value" to the enrollment `id`, or to the top of the document if `id` is "*". Dots
 * in the key lead into objects. The value is JSON; what is not JSON is a string. The value null removes the
 * key.
 */
int roster_set(Roster *roster, const char *id, char *const *assignments, ErrorText *error);
int roster_remove(Roster *roster, const char *id, ErrorText *error);

/* The document as it is now. The caller frees it with json_object_put(). */
json_object *roster_to_json(const Roster *roster);
