/* SPDX-License-Identifier: MIT */
#pragma once

/* What dpsd remembers of an identity over restarts, as NAME.json holds it. No secret is in it. */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "config/settings.h"
#include "dps/error.h"

#define RECORD_VERSION 1
#define RECORD_SIZE_MAX (512U * 1024)
#define RECORD_TRANSITIONS_MAX 16

/* What the hub is shown. */
typedef enum HubAuth {
        HUB_AUTH_SAS,  /* tokens that the device's key signs */
        HUB_AUTH_X509, /* a certificate */
        _HUB_AUTH_MAX,
} HubAuth;

const char *hub_auth_to_string(HubAuth a);
/* -EINVAL. */
int hub_auth_from_string(const char *word, HubAuth *ret);

/* An assignment, and whose it is. */
typedef struct Assignment {
        char *id_scope, *registration_id, *endpoint;
        Method method;                     /* how DPS was asked */
        HubAuth hub_auth;                  /* what the hub is shown */
        char *hub, *device_id, *substatus; /* never NULL */
        char *payload;                     /* JSON text or NULL */
        char *registration_state;          /* JSON text or NULL */
        uint64_t generation;
        uint64_t assigned_at_usec, token_expires_at_usec, renew_at_usec; /* CLOCK_REALTIME; 0: none */
        unsigned credential;                                             /* which of several keys DPS took */
        char *fingerprint; /* of the credential that DPS took, hex; NULL: not known */
} Assignment;

typedef struct Transition {
        uint64_t at_usec;
        char *state;  /* the state entered, or "renewed", "hub-changed" … */
        char *detail; /* one line, for people */
} Transition;

typedef struct Record {
        Assignment *assignment; /* NULL: none */
        uint32_t attempts, finals;
        uint64_t next_attempt_at_usec; /* CLOCK_REALTIME; 0: none planned */
        uint64_t not_before_usec;      /* CLOCK_REALTIME; what DPS told; 0: nothing */
        uint64_t last_poll_at_usec;    /* CLOCK_REALTIME; 0: none … */
        uint32_t polls;                /* … and how many there were in the service's window up to then */
        uint64_t last_generation;      /* also of what was dropped */
        uint64_t last_success_at_usec;
        DpsError error; /* the last failure since the last success */
        uint64_t error_at_usec, failing_since_usec;
        Transition *transitions; /* oldest first */
        unsigned n_transitions;
} Record;

Assignment *assignment_free(Assignment *a);
DEFINE_FREEP(Assignment, assignment_free)
/* NULL: there is no memory. */
Assignment *assignment_copy(const Assignment *a);
/* NULL: there is no memory. */
Record *record_new(void);
Record *record_copy(const Record *record);
Record *record_free(Record *record);
DEFINE_FREEP(Record, record_free)

/* Forgets the oldest where there are too many. `detail` may be NULL. */
int record_add_transition(Record *record, uint64_t at_usec, const char *state, const char *detail);

int record_to_json(const Record *record, char **ret);
/* Takes records of older and newer versions: what it does not know it ignores, what is missing it leaves empty, and
 * every value is checked. -EBADMSG: it is not a record; `ret_why`: why. */
int record_from_json(const char *text, size_t size, Record **ret, const char **ret_why);
