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
#include "dpsctl/options.h"

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

int identity_init(Identity *i);
void identity_done(Identity *i);
int identity_copy(const Identity *i, Identity *ret);
/* Reads an a{sv}, and sets the properties that are in it. Properties that we do not know come from a newer daemon, and
 * are skipped. */
int identity_read(Identity *i, sd_bus_message *m);
/* The keys are the names of the properties. NULL: out of memory. */
json_object *identity_to_json(const Identity *i);

static inline bool identity_is(const Identity *i, const char *state) {
        return strcmp(i->state, state) == 0;
}

typedef struct IdentityList {
        Identity *items; /* sorted by name */
        size_t n;
} IdentityList;

void identity_list_done(IdentityList *l);
Identity *identity_list_find(const IdentityList *l, const char *path);
Identity *identity_list_find_name(const IdentityList *l, const char *name);
/* Appends an identity; the list is not sorted then. NULL: out of memory. */
Identity *identity_list_add(IdentityList *l, const char *path);
/* Moves an identity from the list to `ret`. False: it is not in the list. */
bool identity_list_take(IdentityList *l, const char *path, Identity *ret);
void identity_list_sort(IdentityList *l);
/* Reads the interfaces of one object, an a{sa{sv}}. An object that is not an identity is skipped. */
int identity_list_read_object(IdentityList *l, const char *path, sd_bus_message *m);
/* Reads the answer of GetManagedObjects. */
int identity_list_read(IdentityList *l, sd_bus_message *m);
/* Asks the daemon for the identities that the command line names, or for all; with --redact they come redacted. Gives 0,
 * or an exit code after it has said why. */
int identity_list_fetch(IdentityList *l, sd_bus *bus, const Options *o);
/* {"version":1,"identities":[…]} */
json_object *identity_list_to_json(const IdentityList *l);
