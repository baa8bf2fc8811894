/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How the service behaves towards everybody: delays, quotas, and switches where the real DPS was seen to do both, or
 * is not known. The members at the top of the enrollments file.
 */

#include "emulator/reader.h"

#define SECONDS_FOREVER UINT64_MAX
#define SECONDS_MAX (366U * 24 * 3600)

typedef enum BadSignature {
        BAD_SIGNATURE_AT_REGISTER, /* CONNECT is accepted, register is answered 401: what was seen of DPS */
        BAD_SIGNATURE_AT_CONNECT,  /* CONNACK 5 */
} BadSignature;

typedef enum Misbehaved {
        MISBEHAVED_CLOSE,
        MISBEHAVED_IGNORE,
} Misbehaved;

typedef struct Behaviour {
        char *id_scope;
        char **hubs; /* the linked hubs, for enrollments that name none */
        uint64_t retry_after_sec;
        uint64_t assigning_sec; /* SECONDS_FOREVER: never done */
        uint64_t registrations_per_minute;
        uint64_t polls_per_ten_seconds;

        BadSignature bad_signature;
        uint64_t clock_tolerance_sec;  /* how long an expired token is still taken */
        char **refused_api_versions;   /* answered 400, 400004 */
        Misbehaved foreign_topic;      /* publishing to a topic that DPS has not */
        Misbehaved foreign_filter;     /* subscribing to one: SUBACK 0x80 where it is not closed */
        Misbehaved will;               /* a CONNECT with one */
        Misbehaved missing_request_id; /* a request without $rid */
        bool assign_at_once;           /* register is answered 200, assigned */
        bool unassigned_first;         /* the first word is "unassigned", then "assigning" */
        bool conflict;                 /* a register while another of that device is running: 409203 */
        bool extra_members;            /* answers have members that no documentation has, and nulls */
} Behaviour;

/* `document`: the whole enrollments file. On failure `ret` is untouched. End it with behaviour_done(). */
int behaviour_read(const Reader *document, Behaviour *ret);
void behaviour_done(Behaviour *b);

/* A whole number of seconds or "forever"; returns as reader_number(). */
int reader_seconds(const Reader *r, const char *name, uint64_t *ret);
