/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who may do what over D-Bus. uid 0 and our own uid may everything. Everyone else is asked about at polkit; where
 * there is none, members of the identity's group may use it, and nobody may manage. All questions (who is the sender,
 * what does polkit say) are asynchronous, so that neither the bus nor polkit nor a person in front of a password
 * dialogue stops the loop. Whatever goes wrong is a no.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "basic/cleanup.h"
#include "dpsd/groups.h"

typedef enum AccessRight {
        ACCESS_USE,    /* polkit's io.dpsd.dps1.use: credentials of one identity */
        ACCESS_MANAGE, /* polkit's io.dpsd.dps1.manage: what the daemon does */
        _ACCESS_RIGHT_MAX,
} AccessRight;

/* A program may ask for all its identities at once; more than this is LimitsExceeded. */
#define ACCESS_PENDING_PER_SENDER_MAX 1024
/* Questions to polkit that are open at a time, the others take their turn. A system bus lets a connection, and ours
 * is one, wait for 128 answers. */
#define ACCESS_AT_POLKIT_PER_SENDER_MAX 16
#define ACCESS_AT_POLKIT_MAX 100

typedef struct Access Access;

/* Does what was asked, and answers: by a reply, or as any sd-bus handler by a negative errno or `error`. The world may
 * have changed since the request came; nothing but the request is kept. */
typedef int (*access_handler_t)(sd_bus_message *request, void *userdata, sd_bus_error *error);

/* `userdata` is what handlers get. `groups` is borrowed; a group that was not found yet has no members. */
int access_new(const Groups *groups, void *userdata, Access **ret);
/* Pending requests stay without an answer: for when the connection is gone. */
Access *access_free(Access *a);
DEFINE_FREEP(Access, access_free)

/* To be returned from a method's handler: answers the request later, by `handler` if its sender has the right.
 * `identity` and its `group` (of [Access] Group=) are NULL where the right is about no identity. */
int access_request(Access *a, sd_bus_message *request, AccessRight right, const char *identity,
                   const char *group, access_handler_t handler, sd_bus_error *error);

/* The decisions by themselves. */
typedef enum AccessVerdict {
        ACCESS_GRANTED,
        ACCESS_DENIED,
        ACCESS_NEEDS_INTERACTION, /* a password would do, but the caller did not allow to ask for one */
        ACCESS_UNDECIDED,         /* ask on */
} AccessVerdict;

AccessVerdict access_by_uid(uid_t uid, uid_t own_uid);
AccessVerdict access_by_group(AccessRight right, gid_t group, const uint32_t *gids, size_t n_gids);
/* `group` NULL or empty: none. */
AccessVerdict access_by_group_name(AccessRight right, const Groups *groups, const char *group,
                                   const uint32_t *gids, size_t n_gids);
AccessVerdict access_by_polkit(bool is_authorized, bool is_challenge, bool interactive);
/* Whether this error, in answer to a question for polkit, says that there is no polkit to ask. */
bool access_polkit_is_missing(const char *error_name, const char *error_sender);
