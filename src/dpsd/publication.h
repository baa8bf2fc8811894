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
} Publication;

/* Makes the values that connection.json and the other files hold. */
void publication_to_connection(const Publication *p, Connection *ret);

/* What the directory already holds for the generation of this assignment. An earlier run may have written it,
 * and programs may be using it. */
Standing publication_standing(const Outputs *o, const char *name, const Assignment *a,
                              uint64_t realtime_usec);

/* The resource URI that a token for the hub is signed for. */
int publication_resource(const Assignment *a, char **ret);
