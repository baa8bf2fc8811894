/* SPDX-License-Identifier: MIT */
#pragma once

/* Identities as the daemon shows them: one member for each property of io.dpsd.dps1.Identity (basic/contract.h). */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "basic/cleanup.h"
#include "basic/contract.h"

#define IDENTITY_TYPE_s char *
#define IDENTITY_TYPE_b bool
#define IDENTITY_TYPE_u uint32_t
#define IDENTITY_TYPE_t uint64_t
#define IDENTITY_MEMBER(name, type, member, emits, privacy) IDENTITY_TYPE_##type member;

/* Texts are never NULL after identity_init(). */
typedef struct Identity {
        char *path;
        IDENTITY_PROPERTIES(IDENTITY_MEMBER)
} Identity;

/* One property; `type` is its D-Bus signature: s, b, u or t. */
typedef struct Property {
        const char *name;
        char type;
        Privacy privacy;
        size_t offset;
} Property;

/* In the order in which they are shown; NULL after the last one. */
const Property *property_at(size_t index);
const Property *property_find(const char *name);
const char *property_text(const Property *p, const Identity *i); /* only of type s */
uint64_t property_number(const Property *p, const Identity *i);  /* of all other types */
/* Control characters become '?': a terminal would obey them. */
int property_set_text(const Property *p, Identity *i, const char *text);
/* Reads a value that has the type of the property. 0: the array that it would be in has no more. */
int property_read(const Property *p, Identity *i, sd_bus_message *m);

int identity_init(Identity *i);
void identity_done(Identity *i);
int identity_copy(const Identity *i, Identity *ret);
/* Reads an a{sv}, and sets the properties that are in it. Properties that we do not know come from a newer daemon, and
 * are skipped. */
int identity_read(Identity *i, sd_bus_message *m);
/* The keys are the names of the properties. NULL: out of memory. */
json_object *identity_to_json(const Identity *i);
/* Gives masks to the private values of an identity (dpsctl/redact.h), and leaves the identity as it is. */
int identity_make_masks(const Identity *i);
/* Replaces private values by their masks, also where they stand in its texts. */
int identity_redact(Identity *i);

static inline bool identity_is(const Identity *i, const char *state) {
        return strcmp(i->state, state) == 0;
}
