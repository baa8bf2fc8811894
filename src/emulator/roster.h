/* SPDX-License-Identifier: MIT */
#pragma once

/* The enrollments file as a whole: how the service behaves, and whom it knows. Changes are all or nothing. */

#include "emulator/behaviour.h"
#include "emulator/enrollment.h"

struct lh_table;

typedef struct Roster {
        Behaviour behaviour;
        json_object *top;             /* the document but for its two lists */
        struct lh_table *individuals; /* registration id in lower case → Enrollment */
        struct lh_table *groups;      /* enrollment group id in lower case → Enrollment */
} Roster;

/* The members of a document that list its enrollments: individuals, groups. */
extern const char *const roster_list_names[2];

int roster_new(json_object *document, Roster **ret, Complaint *c);
Roster *roster_free(Roster *roster);
DEFINE_FREEP(Roster, roster_free)

/* NULL: there is none. Case counts not. */
const Enrollment *roster_individual(const Roster *roster, const char *registration_id);
const Enrollment *roster_group(const Roster *roster, const char *enrollment_group_id);
/* Walks the groups in the order of the file: `previous` NULL gives the first one, NULL is the end. */
const Enrollment *roster_next_group(const Roster *roster, const Enrollment *previous);

/* Adds or replaces: `json` is a document, or one enrollment. `ret_n`: how many enrollments it had. */
int roster_merge(Roster *roster, json_object *json, size_t *ret_n, Complaint *c);
/*
 * Sets "key=value" of the enrollment `id`, or of the document for "*". Dots lead into objects; the value is JSON,
 * or else a plain string; null removes the key.
 */
int roster_set(Roster *roster, const char *id, char *const *assignments, Complaint *c);
int roster_remove(Roster *roster, const char *id, Complaint *c);

/* The document as it is now; the caller puts it. */
json_object *roster_to_json(const Roster *roster);
