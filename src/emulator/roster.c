/* SPDX-License-Identifier: MIT */
#include "emulator/roster.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "emulator/idtable.h"

const char *const roster_list_names[2] = { "individualEnrollments", "enrollmentGroups" };

static void entry_free(struct lh_entry *entry) {
        free(lh_entry_k(entry));
        enrollment_free(lh_entry_v(entry));
}

const Enrollment *roster_individual(const Roster *roster, const char *registration_id) {
        return id_table_get(roster->individuals, registration_id);
}

const Enrollment *roster_group(const Roster *roster, const char *enrollment_group_id) {
        return id_table_get(roster->groups, enrollment_group_id);
}

const Enrollment *roster_next_group(const Roster *roster, const Enrollment *previous) {
        const struct lh_entry *entry;

        entry = previous ? lh_entry_next(id_table_entry(roster->groups, previous->id))
                         : lh_table_head(roster->groups);
        return entry ? lh_entry_v(entry) : NULL;
}

/* Takes ownership of the enrollment. One that replaces another keeps its place in the order. */
static int put(struct lh_table *table, Enrollment *e) {
        _cleanup_(enrollment_freep) Enrollment *owned = e;
        struct lh_entry *entry = id_table_entry(table, e->id);
        int r;

        if (entry) {
                enrollment_free(lh_entry_v(entry));
                lh_entry_set_val(entry, TAKE_PTR(owned));
                return 0;
        }

        r = id_table_insert(table, e->id, owned);
        if (r >= 0)
                owned = NULL;
        return r;
}

static int merge_list(struct lh_table *table, json_object *document, const char *name, bool is_group,
                      ErrorText *error) {
        json_object *list = NULL;

        if (!json_object_object_get_ex(document, name, &list) || !list)
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return error_set(error, "%s: must be a list", name);

        for (size_t i = 0; i < json_object_array_length(list); i++) {
                Enrollment *e;
                char path[64];
                int r;

                (void) snprintf(path, sizeof(path), "%s[%zu]", name, i);
                r = enrollment_new(json_object_array_get_idx(list, i), path, is_group, &e, error);
                if (r < 0)
                        return r;
                if (id_table_entry(table, e->id)) {
                        r = error_set(error, "%s: %s is already in the list", path, e->id);
                        enrollment_free(e);
                        return r;
                }
                r = put(table, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_behaviour(json_object *document, Behaviour *ret, ErrorText *error) {
        Reader reader;
        int r;

        r = reader_init(document, "", error, &reader);
        return r < 0 ? r : behaviour_read(&reader, ret);
}

/* A shallow copy of the document without its lists: the members are shared. */
static int copy_top(json_object *document, json_object **ret) {
        json_object *top = json_object_new_object();

        if (!top)
                return -ENOMEM;

        json_object_object_foreach(document, name, value) {
                if (streq(name, roster_list_names[0]) || streq(name, roster_list_names[1]))
                        continue;
                json_object_object_add(top, name, json_object_get(value));
        }
        *ret = top;
        return 0;
}

int roster_new(json_object *document, Roster **ret, ErrorText *error) {
        _cleanup_(roster_freep) Roster *roster = NULL;
        int r;

        roster = calloc(1, sizeof(*roster));
        if (!roster)
                return -ENOMEM;

        roster->individuals = lh_kchar_table_new(64, entry_free);
        roster->groups = lh_kchar_table_new(16, entry_free);
        if (!roster->individuals || !roster->groups)
                return -ENOMEM;

        if ((r = read_behaviour(document, &roster->behaviour, error)) < 0 ||
            (r = copy_top(document, &roster->top)) < 0 ||
            (r = merge_list(roster->individuals, document, roster_list_names[0], false, error)) < 0 ||
            (r = merge_list(roster->groups, document, roster_list_names[1], true, error)) < 0)
                return r;

        *ret = TAKE_PTR(roster);
        return 0;
}

Roster *roster_free(Roster *roster) {
        if (!roster)
                return NULL;

        behaviour_done(&roster->behaviour);
        json_object_put(roster->top);
        if (roster->individuals)
                lh_table_free(roster->individuals);
        if (roster->groups)
                lh_table_free(roster->groups);
        free(roster);
        return NULL;
}

static int replace_top(Roster *roster, json_object *top, ErrorText *error) {
        Behaviour behaviour;
        int r;

        r = read_behaviour(top, &behaviour, error);
        if (r < 0)
                return r;

        behaviour_done(&roster->behaviour);
        roster->behaviour = behaviour;
        json_object_put(roster->top);
        roster->top = json_object_get(top);
        return 0;
}

static void move_entries(struct lh_table *from, struct lh_table *to) {
        struct lh_entry *entry, *next;

        lh_foreach_safe(from, entry, next) {
                Enrollment *e = lh_entry_v(entry);

                lh_entry_set_val(entry, NULL);
                (void) put(to, e);
        }
}

int roster_merge(Roster *roster, json_object *json, size_t *ret_n, ErrorText *error) {
        bool is_group = json_object_object_get_ex(json, "enrollmentGroupId", NULL);
        _cleanup_(roster_freep) Roster *added = NULL;
        Enrollment *e;
        size_t n;
        int r;

        if (enrollment_is_one(json)) {
                r = enrollment_new(json, is_group ? "the group" : "the enrollment", is_group, &e, error);
                if (r >= 0)
                        r = put(is_group ? roster->groups : roster->individuals, e);
                if (r >= 0)
                        *ret_n = 1;
                return r;
        }

        /* The whole document becomes a roster of its own first, so that a faulty one changes nothing. */
        r = roster_new(json, &added, error);
        if (r < 0)
                return r;

        json_object_object_foreach(roster->top, name, value) {
                if (!json_object_object_get_ex(added->top, name, NULL))
                        json_object_object_add(added->top, name, json_object_get(value));
        }
        r = replace_top(roster, added->top, error);
        if (r < 0)
                return r;

        n = (size_t) lh_table_length(added->individuals) + (size_t) lh_table_length(added->groups);
        move_entries(added->individuals, roster->individuals);
        move_entries(added->groups, roster->groups);
        *ret_n = n;
        return 0;
}

/* Follows a path "a.b.name", creates the objects that are missing, and sets the last name. */
static json_object *descend(json_object *object, char *path, const char **ret_last) {
        char *name = path, *dot;

        for (; (dot = strchr(name, '.')); name = dot + 1) {
                json_object *inner = NULL;

                *dot = 0;
                if (!json_object_object_get_ex(object, name, &inner) ||
                    !json_object_is_type(inner, json_type_object)) {
                        inner = json_object_new_object();
                        json_object_object_add(object, name, inner);
                }
                object = inner;
        }
        *ret_last = name;
        return object;
}

static int assign(json_object *object, const char *assignment, ErrorText *error) {
        _cleanup_(freep) char *path = NULL;
        const char *equals = strchr(assignment, '=');
        json_object *value = NULL;
        const char *last;
        ErrorText ignored;

        if (!equals || equals == assignment)
                return error_set(error, "%s: must be KEY=VALUE", assignment);

        path = strndup(assignment, (size_t) (equals - assignment));
        if (!path)
                return -ENOMEM;

        object = descend(object, path, &last);
        if (streq(equals + 1, "null")) {
                json_object_object_del(object, last);
                return 0;
        }

        if (json_read(equals + 1, strlen(equals + 1), &value, &ignored) < 0)
                value = json_object_new_string(equals + 1);
        return value && json_object_object_add(object, last, value) == 0 ? 0 : -ENOMEM;
}

static int assign_all(json_object *original, char *const *assignments, json_object **ret, ErrorText *error) {
        _cleanup_(json_freep) json_object *copy = NULL;

        if (json_object_deep_copy(original, &copy, NULL) < 0)
                return -ENOMEM;

        STRV_FOREACH(a, assignments) {
                int r = assign(copy, *a, error);

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(copy);
        return 0;
}

static int set_top(Roster *roster, char *const *assignments, ErrorText *error) {
        _cleanup_(json_freep) json_object *changed = NULL;
        int r;

        r = assign_all(roster->top, assignments, &changed, error);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(roster_list_names); i++)
                if (json_object_object_get_ex(changed, roster_list_names[i], NULL))
                        return error_set(error, "%s: use enroll and remove to change it",
                                         roster_list_names[i]);
        return replace_top(roster, changed, error);
}

static struct lh_table *table_of(Roster *roster, const char *id) {
        if (id_table_entry(roster->individuals, id))
                return roster->individuals;
        return id_table_entry(roster->groups, id) ? roster->groups : NULL;
}

int roster_set(Roster *roster, const char *id, char *const *assignments, ErrorText *error) {
        _cleanup_(json_freep) json_object *changed = NULL;
        struct lh_table *table = NULL;
        const Enrollment *old;
        Enrollment *e;
        int r;

        if (streq(id, "*"))
                return set_top(roster, assignments, error);

        table = table_of(roster, id);
        if (!table)
                return error_set(error, "%s: no such enrollment", id);

        old = id_table_get(table, id);
        r = assign_all(old->json, assignments, &changed, error);
        if (r < 0)
                return r;
        r = enrollment_new(changed, old->id, old->is_group, &e, error);
        if (r < 0)
                return r;
        if (strcasecmp(e->id, old->id) != 0) {
                enrollment_free(e);
                return error_set(error, "%s: an enrollment cannot be renamed", id);
        }
        return put(table, e);
}

int roster_remove(Roster *roster, const char *id, ErrorText *error) {
        struct lh_table *table = table_of(roster, id);

        if (!table)
                return error_set(error, "%s: no such enrollment", id);

        lh_table_delete_entry(table, id_table_entry(table, id));
        return 0;
}

static json_object *table_to_json(const struct lh_table *table) {
        json_object *list = json_object_new_array();
        struct lh_entry *entry;

        lh_foreach(table, entry) {
                const Enrollment *e = lh_entry_v(entry);

                json_object_array_add(list, json_object_get(e->json));
        }
        return list;
}

json_object *roster_to_json(const Roster *roster) {
        json_object *document = NULL;

        if (copy_top(roster->top, &document) < 0)
                return NULL;

        json_object_object_add(document, roster_list_names[0], table_to_json(roster->individuals));
        json_object_object_add(document, roster_list_names[1], table_to_json(roster->groups));
        return document;
}
