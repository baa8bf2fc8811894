/* SPDX-License-Identifier: MIT */
#include "emulator/session.h"

#include <errno.h>
#include <json-c/linkhash.h>

static void entry_free(struct lh_entry *entry) {
        session_done(lh_entry_v(entry));
        free(lh_entry_v(entry));
}

int sessions_new(struct lh_table **ret) {
        struct lh_table *table = lh_kptr_table_new(64, entry_free);

        if (!table)
                return -ENOMEM;

        *ret = table;
        return 0;
}

int sessions_add(struct lh_table *sessions, const void *client, Session *session) {
        _cleanup_(freep) Session *copy = malloc(sizeof(*copy));

        if (!copy)
                return -ENOMEM;

        sessions_remove(sessions, client);
        *copy = *session;
        if (lh_table_insert(sessions, client, copy) < 0)
                return -ENOMEM;

        copy = NULL;
        *session = (Session){ 0 };
        return 0;
}

Session *sessions_get(const struct lh_table *sessions, const void *client) {
        const struct lh_entry *entry = lh_table_lookup_entry((struct lh_table *) sessions, client);

        return entry ? lh_entry_v(entry) : NULL;
}

void sessions_remove(struct lh_table *sessions, const void *client) {
        struct lh_entry *entry = lh_table_lookup_entry(sessions, client);

        if (entry)
                (void) lh_table_delete_entry(sessions, entry);
}

void session_done(Session *s) {
        caller_done(&s->caller);
        free(s->client_id);
        free(s->hub);
        free(s->device_id);
        *s = (Session){ 0 };
}

const char *session_id(const Session *s) {
        switch (s->kind) {
        case SESSION_DEVICE:
                return s->caller.registration_id;
        case SESSION_HUB:
                return s->device_id;
        case SESSION_CONTROL:
                return NULL;
        }
        abort();
}

json_object *sessions_to_json(const struct lh_table *sessions) {
        json_object *list = json_object_new_array();
        struct lh_entry *entry;

        lh_foreach(sessions, entry) {
                const Session *s = lh_entry_v(entry);
                json_object *o;

                if (s->kind == SESSION_CONTROL)
                        continue;

                o = json_object_new_object();
                (void) json_add_string(o, s->kind == SESSION_DEVICE ? "registrationId" : "deviceId",
                                       session_id(s));
                (void) json_add_string(o, "hub", s->hub);
                if (s->kind == SESSION_DEVICE)
                        (void) json_add(o, "subscribed", json_object_new_boolean(s->is_subscribed));
                json_object_array_add(list, o);
        }
        return list;
}
