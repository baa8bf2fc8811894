/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Decides who may do what over D-Bus. uid 0 and our own uid may do everything, and a process that is in the
 * identity's group may use the identity. For everything else we ask polkit; if there is none, it is refused. polkit does
 * not know the groups of a process (SupplementaryGroups= in a unit), only those of its user. The bus and polkit are both
 * asked asynchronously, so that neither of them, nor a person in front of a password dialogue, blocks the event loop. If
 * anything fails, the request is refused.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "basic/cleanup.h"
#include "basic/world.h"
#include "dpsd/access-verdict.h"
#include "dpsd/groups.h"

/* Requests of a user that wait for permission, or are carried out; further ones get LimitsExceeded. Each takes some 1.4 kB.
 * Until the bus has said whose they are, all such requests together have the budget of one user. So nobody makes us hold more
 * than 256 kB. */
#define ACCESS_PENDING_PER_USER_MAX 80
#define ACCESS_SIZE_PER_USER_MAX (16U * 1024) /* bytes of arguments */
#define ACCESS_ARGUMENTS_MAX (8U * 1024)      /* bytes, of one request */
/* At most this many checks of one user are at polkit at a time; the others wait. A system bus allows each
 * connection, ours included, only 128 pending replies. */
#define ACCESS_AT_POLKIT_PER_USER_MAX 16
#define ACCESS_AT_POLKIT_MAX 100
/* At most this many questions are at the bus at a time about who sends. Each answer brings a descriptor (dbus 1.16), and a
 * system bus drops answers to a connection for which it has more than 64 of them. */
#define ACCESS_AT_BUS_MAX 16

typedef struct Access Access;
typedef struct Check Check;

/* Does what was asked, and answers: by a reply or, like any sd-bus handler, by a negative errno or `error`.
 * Only a copy of the request with its arguments is kept until this is called, so the handler must look everything else up again. */
typedef int (*access_handler_t)(sd_bus_message *request, void *userdata, sd_bus_error *error);

/* `userdata` is passed to the handlers. `groups` is borrowed; a group that has not been looked up yet counts
 * as having no members. */
int access_new(World *w, const Groups *groups, void *userdata, Access **ret);
/* Pending requests are never answered. Use this only when the connection is gone. */
Access *access_free(Access *a);
DEFINE_FREEP(Access, access_free)

/* The handler of a D-Bus method returns the result of this function. `handler` is called later, if the sender
 * has the right. `identity` and its `group` (from [Access] Group=) are NULL if the right does not concern one
 * identity. */
int access_request(Access *a, sd_bus_message *request, AccessRight right, const char *identity,
                   const char *group, access_handler_t handler, sd_bus_error *error);

/* For a handler that answers later: until access_done(), the request counts among those of its user. `*kept` becomes NULL when
 * the connection is gone, or if no handler is called now. */
void access_keep(Access *a, Check **kept);
/* NULL is done already. */
void access_done(Check *kept);

typedef enum AccessCall {
        ACCESS_CALL_OTHER,  /* access_request() decides about it, or it is nothing */
        ACCESS_CALL_PUBLIC, /* it needs no right */
        ACCESS_CALL_LARGE,  /* nor does this, and its answer is about all identities */
} AccessCall;

/* Whether a call may be carried out at once. If not, it has been answered, or will be. */
bool access_admit(Access *a, sd_bus_message *request, AccessCall call);
