/* SPDX-License-Identifier: MIT */
#pragma once

/* Makes the files for programs (outputs.h) from an assignment, its credential and its settings. */

#include "config/settings.h"
#include "credential/credential.h"
#include "dps/error.h"
#include "dpsd/outputs.h"
#include "dpsd/plan.h"
#include "dpsd/record.h"

/* All borrowed. `token` and `certificate` are NULL if they are not available. `settings` may be NULL. */
typedef struct Publication {
        const Assignment *assignment;
        const Settings *settings;
        const char *token;
        const ClientCertificate *certificate;
        const char *proxy; /* of publication_proxy() */
} Publication;

/* Makes the values that connection.json and the other files hold. */
void publication_to_connection(const Publication *p, Connection *ret);

/* The proxy on the way to a hub, without its password, for programs. NULL: none. -ENOMEM. */
int publication_proxy(const Settings *settings, const char *hub, char **ret);

/* The files in the directory. An earlier run may have written them, and programs may be using them. */
typedef struct Published {
        enum {
                PUBLISHED_UNKNOWN, /* not looked at yet */
                PUBLISHED_NOTHING, /* or nothing that is ours */
                PUBLISHED_UNREADABLE,
                PUBLISHED_FILES,
        } state;
        uint64_t generation;
        uint64_t expires_at_usec; /* CLOCK_REALTIME; 0: without a credential */
} Published;

void publication_look(Folder *runtime, const char *name, Published *ret);
/* What the files are worth to this assignment. */
Standing publication_standing(const Published *p, const Assignment *a, uint64_t realtime_usec);

/* The resource URI that a token for the hub is signed for. */
int publication_resource(const Assignment *a, char **ret);
