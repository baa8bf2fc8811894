/* SPDX-License-Identifier: MIT */
#pragma once

/* An identity as the daemon shows it: the properties of io.dpsd.dps1.Identity. */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#include "basic/cleanup.h"
#include "dpsctl/options.h"

/* Strings are never NULL after identity_init(). Times are microseconds of CLOCK_REALTIME, 0: none. */
typedef struct Identity {
        char *path;
        char *name, *state, *waiting;
        bool healthy, configured, required_for_provisioned;
        char *id_scope, *registration_id, *endpoint, *attestation_method, *transport;
        char *assigned_hub, *device_id, *substatus;
        uint64_t generation;
        uint64_t assigned_at, state_since, token_expires_at, certificate_expires_at, renew_at,
                next_attempt_at;
        uint64_t last_success_at, hub_last_seen_at, failing_since, last_error_at;
        uint32_t attempts, last_error_code;
        char *last_error, *last_error_id, *last_error_step, *last_tracking_id;
} Identity;

/* What --redact makes of a text. */
typedef enum Privacy {
        PRIVACY_NONE, /* stays */
        PRIVACY_FREE, /* for people: what is masked elsewhere is masked in it */
        PRIVACY_SCOPE,
        PRIVACY_ID,
        PRIVACY_HUB,
} Privacy;

/* One property; `type` is its D-Bus signature: s, b, u or t. */
typedef struct Property {
        const char *name;
        char type;
        Privacy privacy;
        size_t offset;
} Property;

/* All of them, in the order in which they are shown; NULL behind the last. */
const Property *property_at(size_t index);
const Property *property_find(const char *name);
const char *property_text(const Property *p, const Identity *i); /* of an s */
uint64_t property_number(const Property *p, const Identity *i);  /* of all others */
/* What a terminal would obey becomes '?'. */
int property_set_text(const Property *p, Identity *i, const char *text);

int identity_init(Identity *i);
void identity_done(Identity *i);
int identity_copy(const Identity *i, Identity *ret);
/* Takes over what an a{sv} at the message's place says, and leaves the rest. Unknown properties are a newer daemon's. */
int identity_read(Identity *i, sd_bus_message *m);
/* Keys are the names of the properties. NULL: out of memory. */
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
/* A new one, in no order. NULL: out of memory. */
Identity *identity_list_add(IdentityList *l, const char *path);
/* Out of the list, into `ret`, which the caller ends. False: it is not there. */
bool identity_list_take(IdentityList *l, const char *path, Identity *ret);
void identity_list_sort(IdentityList *l);
/* The interfaces of one object, an a{sa{sv}}; one that is no identity is skipped. */
int identity_list_read_object(IdentityList *l, const char *path, sd_bus_message *m);
/* The answer of GetManagedObjects. */
int identity_list_read(IdentityList *l, sd_bus_message *m);
/* Asks the daemon for the named ones, or for all; redacted if that is wanted. 0, or an exit code and told why. */
int identity_list_fetch(IdentityList *l, sd_bus *bus, const Options *o);
/* {"version":1,"identities":[…]} */
json_object *identity_list_to_json(const IdentityList *l);
