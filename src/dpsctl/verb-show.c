/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <inttypes.h>
#include <stdio.h>

#include "basic/text.h"
#include "dpsctl/bus.h"
#include "dpsctl/output.h"

/* Properties as Key=Value for scripts: one line each, numbers without units. */

static int check_properties(char *const *names) {
        STRV_FOREACH(n, names)
                if (!property_find(*n))
                        return fail_with(EXIT_USAGE, "there is no property '%s'; dpsctl show lists them all",
                                         *n);
        return 0;
}

static void print_property(const Property *p, const Identity *i) {
        switch (p->type) {
        case 's':
                printf("%s=%s\n", p->name, property_text(p, i));
                break;
        case 'b':
                printf("%s=%s\n", p->name, property_number(p, i) ? "yes" : "no");
                break;
        default:
                printf("%s=%" PRIu64 "\n", p->name, property_number(p, i));
        }
}

static void print_properties(const Identity *i, char *const *names) {
        const Property *p;

        STRV_FOREACH(n, names)
                print_property(property_find(*n), i);
        for (size_t k = 0; !names && (p = property_at(k)); k++)
                print_property(p, i);
}

/* Removes the properties that were not asked for. */
static json_object *select_json(json_object *list, char *const *names) {
        json_object *items = NULL;

        if (!list || !names || !json_object_object_get_ex(list, "identities", &items))
                return list;
        for (size_t k = 0; k < json_object_array_length(items); k++) {
                json_object *item = json_object_array_get_idx(items, k);
                const Property *p;

                for (size_t n = 0; (p = property_at(n)); n++)
                        if (!strv_contains(names, p->name))
                                json_object_object_del(item, p->name);
        }
        return list;
}

int verb_show(const Options *o) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(identity_list_done) IdentityList list = { 0 };
        int r;

        r = check_properties(o->properties);
        if (r == 0)
                r = bus_open(o, &bus);
        if (r == 0)
                r = identity_list_fetch(&list, bus, o);
        if (r != 0)
                return r;
        if (o->json != JSON_OFF)
                return output_json(o, select_json(identity_list_to_json(&list), o->properties));

        output_begin(o);
        for (size_t k = 0; k < list.n; k++) {
                if (k > 0 && strv_length(o->properties) != 1)
                        printf("\n");
                print_properties(&list.items[k], o->properties);
        }
        output_end();
        return 0;
}
