/* SPDX-License-Identifier: MIT */
#include "dpsctl/identity.h"

#include <errno.h>

#include "basic/json.h"
#include "basic/text.h"
#include "dpsctl/redact.h"

#define PROPERTY(name, type, member, emits, privacy)                                                         \
        { name, #type[0], PRIVACY_##privacy, offsetof(Identity, member) },

static const Property properties[] = { IDENTITY_PROPERTIES(PROPERTY) };

const Property *property_at(size_t index) {
        return index < ELEMENTSOF(properties) ? &properties[index] : NULL;
}

/* From `first` on, and round. */
static const Property *find_from(size_t first, const char *name) {
        for (size_t k = 0; k < ELEMENTSOF(properties); k++) {
                const Property *p = &properties[(first + k) % ELEMENTSOF(properties)];

                if (streq(p->name, name))
                        return p;
        }
        return NULL;
}

const Property *property_find(const char *name) {
        return find_from(0, name);
}

static char **text_of(const Property *p, const Identity *i) {
        return (char **) ((char *) i + p->offset);
}

const char *property_text(const Property *p, const Identity *i) {
        return *text_of(p, i);
}

uint64_t property_number(const Property *p, const Identity *i) {
        const void *field = (const char *) i + p->offset;

        switch (p->type) {
        case 'b':
                return *(const bool *) field;
        case 'u':
                return *(const uint32_t *) field;
        default:
                return *(const uint64_t *) field;
        }
}

int property_set_text(const Property *p, Identity *i, const char *text) {
        char *copy;

        if (streq_ptr(*text_of(p, i), text)) /* most are empty, and stay so */
                return 0;
        copy = text_for_people(text, strlen(text), strlen(text));
        if (!copy)
                return -ENOMEM;
        free(*text_of(p, i));
        *text_of(p, i) = copy;
        return 0;
}

int identity_init(Identity *i) {
        *i = (Identity){ 0 };
        for (size_t k = 0; k < ELEMENTSOF(properties); k++)
                if (properties[k].type == 's' && property_set_text(&properties[k], i, "") < 0) {
                        identity_done(i);
                        return -ENOMEM;
                }
        return 0;
}

void identity_done(Identity *i) {
        for (size_t k = 0; k < ELEMENTSOF(properties); k++)
                if (properties[k].type == 's')
                        free(*text_of(&properties[k], i));
        free(i->path);
        *i = (Identity){ 0 };
}

int identity_copy(const Identity *i, Identity *ret) {
        Identity copy = *i;

        copy.path = i->path ? strdup(i->path) : NULL;
        for (size_t k = 0; k < ELEMENTSOF(properties); k++)
                if (properties[k].type == 's')
                        *text_of(&properties[k], &copy) = NULL;
        for (size_t k = 0; k < ELEMENTSOF(properties); k++)
                if (properties[k].type == 's' &&
                    property_set_text(&properties[k], &copy, property_text(&properties[k], i)) < 0) {
                        identity_done(&copy);
                        return -ENOMEM;
                }

        *ret = copy;
        return 0;
}

int property_read(const Property *p, Identity *i, sd_bus_message *m) {
        void *field = (char *) i + p->offset;
        const char *text;
        int r, b;

        switch (p->type) {
        case 's':
                r = sd_bus_message_read_basic(m, 's', &text);
                return r <= 0 ? r : property_set_text(p, i, text) < 0 ? -ENOMEM : 1;
        case 'b':
                r = sd_bus_message_read_basic(m, 'b', &b);
                if (r > 0)
                        *(bool *) field = b;
                return r;
        default:
                return sd_bus_message_read_basic(m, p->type, field);
        }
}

/* One {sv}. A property that we do not know, or of another type, is skipped. `next` is the property that we expect: the
 * daemon sends them in our order, and of a thousand identities there are 32000, too many to search for each. */
static int read_property(Identity *i, sd_bus_message *m, size_t *next) {
        const char *name, *contents;
        const Property *p;
        char type;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        p = find_from(*next, name);
        if (p)
                *next = (size_t) (p - properties) + 1;
        if (!p || contents[0] != p->type || contents[1] != '\0')
                return sd_bus_message_skip(m, "v");

        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r < 0)
                return r;
        r = property_read(p, i, m);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

int identity_read(Identity *i, sd_bus_message *m) {
        size_t next = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_property(i, m, &next);
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

static json_object *property_to_json(const Property *p, const Identity *i) {
        switch (p->type) {
        case 's':
                return json_object_new_string(property_text(p, i));
        case 'b':
                return json_object_new_boolean((json_bool) property_number(p, i));
        default:
                return json_object_new_uint64(property_number(p, i));
        }
}

json_object *identity_to_json(const Identity *i) {
        json_object *o = json_object_new_object();

        for (size_t k = 0; o && k < ELEMENTSOF(properties); k++)
                if (json_add(o, properties[k].name, property_to_json(&properties[k], i)) < 0) {
                        json_object_put(o);
                        return NULL;
                }
        return o;
}

static bool is_masked(const Property *p) {
        return p->type == 's' && p->privacy > PRIVACY_TEXT;
}

int identity_make_masks(const Identity *i) {
        for (size_t k = 0; k < ELEMENTSOF(properties); k++)
                if (is_masked(&properties[k]) &&
                    !redact_value(properties[k].privacy, property_text(&properties[k], i)))
                        return -ENOMEM;
        return 0;
}

static int mask_value(const Property *p, Identity *i) {
        const char *mask = redact_value(p->privacy, property_text(p, i));

        return mask ? property_set_text(p, i, mask) : -ENOMEM;
}

static int mask_text(const Property *p, Identity *i) {
        _cleanup_(freep) char *text = redact_text(property_text(p, i));

        return text ? property_set_text(p, i, text) : -ENOMEM;
}

int identity_redact(Identity *i) {
        int r = identity_make_masks(i);

        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(properties); k++)
                if (is_masked(&properties[k]))
                        r = mask_value(&properties[k], i);
                else if (properties[k].type == 's' && properties[k].privacy == PRIVACY_TEXT)
                        r = mask_text(&properties[k], i);
        return r;
}
