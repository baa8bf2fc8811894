/* SPDX-License-Identifier: MIT */
#include "dpsctl/identity-list.h"

#include <errno.h>
#include <stdlib.h>

#include "basic/text.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"

void identity_list_done(IdentityList *l) {
        for (size_t k = 0; k < l->n; k++)
                identity_done(&l->items[k]);
        free(l->items);
        *l = (IdentityList){ 0 };
}

Identity *identity_list_find(const IdentityList *l, const char *path) {
        for (size_t k = 0; k < l->n; k++)
                if (streq(l->items[k].path, path))
                        return &l->items[k];
        return NULL;
}

Identity *identity_list_find_name(const IdentityList *l, const char *name) {
        for (size_t k = 0; k < l->n; k++)
                if (streq(l->items[k].name, name))
                        return &l->items[k];
        return NULL;
}

Identity *identity_list_add(IdentityList *l, const char *path) {
        Identity *grown = reallocarray(l->items, l->n + 1, sizeof(Identity));

        if (!grown)
                return NULL;
        l->items = grown;
        if (identity_init(&l->items[l->n]) < 0)
                return NULL;
        l->items[l->n].path = strdup(path);
        if (!l->items[l->n].path) {
                identity_done(&l->items[l->n]);
                return NULL;
        }
        return &l->items[l->n++];
}

bool identity_list_take(IdentityList *l, const char *path, Identity *ret) {
        Identity *i = identity_list_find(l, path);

        if (!i)
                return false;
        *ret = *i;
        l->n--;
        memmove(i, i + 1, (size_t) (l->items + l->n - i) * sizeof(Identity));
        return true;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const Identity *) a)->name, ((const Identity *) b)->name);
}

static void sort_by_name(IdentityList *l) {
        if (l->n > 1)
                qsort(l->items, l->n, sizeof(Identity), compare_names);
}

int identity_list_read_object(IdentityList *l, const char *path, sd_bus_message *m) {
        const char *interface;
        Identity *i;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = sd_bus_message_read(m, "s", &interface);
                if (r < 0)
                        return r;
                if (streq(interface, DPS_BUS_IDENTITY)) {
                        i = identity_list_add(l, path);
                        r = i ? identity_read(i, m) : -ENOMEM;
                } else
                        r = sd_bus_message_skip(m, "a{sv}");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

int identity_list_read(IdentityList *l, sd_bus_message *m) {
        const char *path;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                r = sd_bus_message_read(m, "o", &path);
                if (r < 0)
                        return r;
                r = identity_list_read_object(l, path, m);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        sort_by_name(l);
        return sd_bus_message_exit_container(m);
}

/* The names come first, and say which identities there are. */
static int read_names(IdentityList *l, sd_bus_message *m) {
        const char *name;
        int r;

        while ((r = sd_bus_message_read_basic(m, 's', &name)) > 0) {
                _cleanup_(freep) char *path = NULL;
                Identity *i;

                r = sd_bus_path_encode(DPS_BUS_IDENTITY_PREFIX, name, &path);
                if (r < 0)
                        return r;
                i = identity_list_add(l, path);
                if (!i || property_set_text(property_at(0), i, name) < 0)
                        return -ENOMEM;
        }
        return r;
}

static int read_values(IdentityList *l, const Property *p, sd_bus_message *m) {
        if (p == property_at(0))
                return read_names(l, m);
        for (size_t k = 0; k < l->n; k++) {
                int r = property_read(p, &l->items[k], m);

                if (r <= 0)
                        return r < 0 ? r : -EBADMSG;
        }
        return 0;
}

/* One {sv}. A property that we do not know, or of another type, is skipped. */
static int read_column(IdentityList *l, sd_bus_message *m) {
        const char *name, *contents;
        const Property *p;
        int r;

        r = sd_bus_message_read_basic(m, 's', &name);
        if (r < 0)
                return r;
        r = sd_bus_message_peek_type(m, NULL, &contents);
        if (r < 0)
                return r;
        p = property_find(name);
        if (!p || contents[0] != 'a' || contents[1] != p->type || contents[2] != '\0')
                return sd_bus_message_skip(m, "v");

        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', contents + 1);
        if (r >= 0)
                r = read_values(l, p, m);
        for (unsigned k = 0; r >= 0 && k < 2; k++)
                r = sd_bus_message_exit_container(m);
        return r;
}

/* Reads the answer of GetAllIdentities, and sorts the list by name. */
static int read_columns(IdentityList *l, sd_bus_message *m) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_column(l, m);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        sort_by_name(l);
        return sd_bus_message_exit_container(m);
}

int identity_list_redact(IdentityList *l) {
        int r = 0;

        for (size_t k = 0; r >= 0 && k < l->n; k++)
                r = identity_make_masks(&l->items[k]);
        for (size_t k = 0; r >= 0 && k < l->n; k++)
                r = identity_redact(&l->items[k]);
        return r;
}

/* Of a daemon that has no GetAllIdentities() yet. */
static int fetch_objects(IdentityList *l, sd_bus *bus) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = bus_call(bus, DPS_BUS_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &reply,
                     NULL);
        if (r != 0)
                return r;
        r = identity_list_read(l, reply);
        return r < 0 ? bus_fail_answer("GetManagedObjects", r) : 0;
}

static int fetch_all(IdentityList *l, sd_bus *bus) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = bus_try(bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "GetAllIdentities", &error, &reply, NULL);
        if (sd_bus_error_has_name(&error, SD_BUS_ERROR_UNKNOWN_METHOD))
                return fetch_objects(l, bus);
        if (r < 0)
                return bus_fail(&error, r);
        r = read_columns(l, reply);
        return r < 0 ? bus_fail_answer("GetAllIdentities", r) : 0;
}

static int fetch_one(IdentityList *l, sd_bus *bus, const char *name) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(freep) char *path = NULL;
        Identity *i;
        int r;

        r = bus_find_identity(bus, name, &path);
        if (r != 0)
                return r;
        r = bus_call(bus, path, "org.freedesktop.DBus.Properties", "GetAll", &reply, "s", DPS_BUS_IDENTITY);
        if (r != 0)
                return r;
        i = identity_list_add(l, path);
        if (!i)
                return fail_memory();
        r = identity_read(i, reply);
        return r < 0 ? bus_fail_answer("GetAll", r) : 0;
}

int identity_list_fetch(IdentityList *l, sd_bus *bus, const Options *o) {
        int r = 0;

        if (!o->arguments[0])
                r = fetch_all(l, bus);
        for (char **name = o->arguments; r == 0 && *name; name++)
                r = fetch_one(l, bus, *name);
        if (r == 0 && o->redact && identity_list_redact(l) < 0)
                r = fail_memory();
        return r;
}

json_object *identity_list_to_json(const IdentityList *l) {
        json_object *rows = json_object_new_array();

        for (size_t k = 0; k < l->n; k++)
                json_append(&rows, identity_to_json(&l->items[k]));
        return json_document("identities", rows);
}
