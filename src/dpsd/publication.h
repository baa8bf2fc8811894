/* SPDX-License-Identifier: MIT */
#pragma once

/* What programs on the machine get of an assignment: from it, the credential and the settings to the files of outputs.h. */

#include "config/settings.h"
#include "credential/credential.h"
#include "dps/error.h"
#include "dpsd/outputs.h"
#include "dpsd/plan.h"
#include "dpsd/record.h"

/* All borrowed; `token` and `certificate` NULL: there is none to be had. `settings` may be NULL. */
typedef struct Publication {
        const Assignment *assignment;
        const Settings *settings;
        const char *token;
        const ClientCertificate *certificate;
} Publication;

/* connection.json and what it stands for. */
void publication_to_connection(const Publication *p, Connection *ret);

/* What stands in the directory of this assignment's generation, perhaps from an earlier run, and programs may be using. */
Standing publication_standing(const Outputs *o, const char *name, const Assignment *a,
                              uint64_t realtime_usec);

/* The resource that a hub token is for. */
int publication_resource(const Assignment *a, char **ret);
