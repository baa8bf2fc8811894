/* SPDX-License-Identifier: MIT */
#pragma once

/* The REST API of DPS from the service's side: what a request line asks for. All of it is hostile until
 * checked. */

#include "emulator/wire.h"

/* Owns its strings, which are decoded. End it with rest_done(). */
typedef struct RestTarget {
        RequestKind kind;
        char *id_scope, *id;
        char *operation_id; /* of a poll */
        char *api_version;  /* NULL: missing */
} RestTarget;

/*
 * `target`: as in the request line, with its query and still encoded:
 *
 *      /{idScope}/registrations/{id}/register?api-version=…                    register
 *      /{idScope}/registrations/{id}/operations/{operationId}?api-version=…    poll
 *      /{idScope}/registrations/{id}?api-version=…                             status lookup
 *
 * Unknown keys of the query are ignored. -ENOENT: DPS has no such resource; -ENOMEM.
 */
int rest_parse(const char *target, RestTarget *ret);
void rest_done(RestTarget *t);

/* The one method that the resource knows. */
const char *rest_method(RequestKind kind);
