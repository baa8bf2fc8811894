/* SPDX-License-Identifier: MIT */
#pragma once

/* Several identities, as the daemon shows them. */

#include "dpsctl/identity.h"
#include "dpsctl/options.h"

typedef struct IdentityList {
        Identity *items;
        size_t n;
} IdentityList;

void identity_list_done(IdentityList *l);
Identity *identity_list_find(const IdentityList *l, const char *path);
Identity *identity_list_find_name(const IdentityList *l, const char *name);
/* Appends an identity. NULL: out of memory. */
Identity *identity_list_add(IdentityList *l, const char *path);
/* Moves an identity from the list to `ret`. False: it is not in the list. */
bool identity_list_take(IdentityList *l, const char *path, Identity *ret);
/* Reads the interfaces of one object, an a{sa{sv}}. An object that is not an identity is skipped. */
int identity_list_read_object(IdentityList *l, const char *path, sd_bus_message *m);
/* Reads the answer of GetManagedObjects, and sorts the list by name. */
int identity_list_read(IdentityList *l, sd_bus_message *m);
/* Masks are made for all of them before a text is redacted: the error of one identity may name another one. */
int identity_list_redact(IdentityList *l);
/* Asks the daemon for the identities that the command line names, or for all; with --redact they come redacted. Gives 0,
 * or an exit code after it has said why. */
int identity_list_fetch(IdentityList *l, sd_bus *bus, const Options *o);
/* {"version":1,"identities":[…]} */
json_object *identity_list_to_json(const IdentityList *l);
