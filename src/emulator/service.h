/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the service knows and answers: registrations, operations, quotas. It names no broker: whoever carries
 * requests asks here, over whatever transport. Time is an argument, in µs CLOCK_REALTIME.
 */

#include "emulator/answer.h"
#include "emulator/record.h"
#include "emulator/roster.h"
#include "emulator/script.h"

typedef struct Service {
        Roster *roster;
        Scripts scripts;
        struct lh_table *records; /* by registration id */
        RandomSource random;
        uint64_t number; /* random, and in all its operation ids */
        uint64_t minute_usec, registers_this_minute;
} Service;

int service_new(json_object *document, const RandomSource *random, Service **ret, Complaint *c);
Service *service_free(Service *s);
DEFINE_FREEP(Service, service_free)

/* Who asks, as it was found at the beginning of the session. */
typedef struct Caller {
        char *registration_id;
        char *api_version;
        char *enrollment; /* NULL: none is for it */
        bool is_group, is_x509;
        bool is_unauthorized; /* its token is not good, which is told at register */
} Caller;

void caller_done(Caller *caller);

/* -ENOMEM, -EIO (no randomness). The body may be empty. */
int service_register(Service *s, const Caller *caller, const void *body, size_t size, uint64_t now_usec,
                     Answer *ret);
int service_poll(Service *s, const Caller *caller, const char *operation_id, uint64_t now_usec, Answer *ret);
/* As a script dictates, which has a status; the rest is as in the answer that would be right. */
int service_scripted(Service *s, const Caller *caller, const ScriptAnswer *script, const char *operation_id,
                     uint64_t now_usec, Answer *ret);

/* The device that is assigned to that hub under that device id; NULL: there is none. */
const Record *service_find_device(const Service *s, const char *hub, const char *device_id);
/* An enrollment as it is now; NULL: there is none, or none any more. */
const Enrollment *service_enrollment(const Service *s, const char *id, bool is_group);
