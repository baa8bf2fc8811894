/* SPDX-License-Identifier: MIT */
#pragma once

/* What dpsd remembers of an identity across restarts, as stored in NAME.json. It holds no secrets. */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "config/settings.h"
#include "dps/error.h"

#define RECORD_VERSION 1
#define RECORD_SIZE_MAX (512U * 1024)
#define RECORD_TRANSITIONS_MAX 16

/* How the device authenticates to the hub. */
typedef enum HubAuth {
        HUB_AUTH_SAS,  /* by tokens that the device's key signs */
        HUB_AUTH_X509, /* by a certificate */
        _HUB_AUTH_MAX,
} HubAuth;

const char *hub_auth_to_string(HubAuth a);
/* -EINVAL. */
int hub_auth_from_string(const char *word, HubAuth *ret);

/* An assignment, and the device that it belongs to. */
typedef struct Assignment {
        char *id_scope, *registration_id, *endpoint;
        Method method;                     /* how DPS was asked */
        HubAuth hub_auth;                  /* how the hub is authenticated to, unless `issued` is set */
        char *hub, *device_id, *substatus; /* never NULL */
        char *payload;                     /* JSON text or NULL */
        char *registration_state;          /* JSON text or NULL */
        uint64_t generation;
        uint64_t assigned_at_usec, token_expires_at_usec, renew_at_usec; /* CLOCK_REALTIME; 0: none */
        char *connection_profile; /* DPS's word for the kind of hub; NULL: classic */
        char *api_version;        /* the one that DPS answered to; NULL: not known */
        /* The fingerprint of the certificate that DPS issued, which is shown to the hub; NULL: none. An older dpsd, which does
         * not know it, goes on with `hub_auth`. */
        char *issued;
        uint64_t issued_expires_at_usec; /* CLOCK_REALTIME */
        char *issuance_fault; /* why DPS, when it was asked last, issued no certificate that can be used; NULL: it did */
        unsigned credential; /* which of several keys DPS accepted */
        char *fingerprint;   /* of the credential that DPS accepted, hex; NULL: not known */
} Assignment;

typedef struct Transition {
        uint64_t at_usec;
        char *state;   /* the state that was entered, or "renewed", "hub-changed", "attempt-failed" … */
        char *detail;  /* one line, for people */
        uint32_t more; /* how often the same happened again in a row … */
        uint64_t last_usec; /* … and when it happened last */
} Transition;

typedef struct Record {
        Assignment *assignment; /* NULL: none */
        uint32_t attempts, finals;
        uint64_t next_attempt_at_usec;      /* CLOCK_REALTIME; 0: none planned */
        uint64_t not_before_usec;           /* CLOCK_REALTIME; the wait that DPS demanded; 0: none */
        char *asked_scope, *asked_endpoint; /* whose waits these are: of DPS there; NULL: not known */
        uint64_t
                paused_until_usec; /* CLOCK_REALTIME; until then DPS throttles that scope there; 0: it did not */
        uint64_t last_poll_at_usec; /* CLOCK_REALTIME; 0: none … */
        uint32_t polls;             /* … and the number of polls in the service's window up to then */
        uint64_t last_generation;   /* also counts dropped assignments */
        uint64_t last_success_at_usec;
        DpsError error; /* the last error since the last success */
        uint64_t error_at_usec, failing_since_usec;
        char *transport;            /* by which DPS was asked last; NULL: not known */
        char *network;              /* where that was: the address of the default gateway, or "" */
        uint64_t transport_at_usec; /* CLOCK_REALTIME */
        Transition *transitions;    /* oldest first */
        unsigned n_transitions;
        /* Of a note: when it was written, by CLOCK_REALTIME and CLOCK_BOOTTIME. 0: by the clock of now. */
        uint64_t noted_at_usec, noted_uptime_usec;
} Record;

/* What is really shown to the hub. A hub of MQTT 5 takes no tokens, so it is shown none. */
HubAuth assignment_hub_auth(const Assignment *a);
bool assignment_shows_token(const Assignment *a);
/* Whether there is nothing that the hub would take. */
bool assignment_lacks_credential(const Assignment *a);

Assignment *assignment_free(Assignment *a);
DEFINE_FREEP(Assignment, assignment_free)
/* NULL: out of memory. */
Assignment *assignment_copy(const Assignment *a);
/* NULL: out of memory. */
Record *record_new(void);
Record *record_free(Record *record);
DEFINE_FREEP(Record, record_free)

/* If there are too many transitions, the oldest is removed. `detail` may be NULL. */
int record_add_transition(Record *record, uint64_t at_usec, const char *state, const char *detail);

/* The last transition, if it is a failed attempt; NULL otherwise. */
Transition *record_last_failure(Record *record);

int record_to_json(const Record *record, char **ret);
/* Reads records of older and newer versions. Unknown members are ignored, missing ones stay empty, and every
 * value is checked. -EBADMSG: it is not a record; `ret_why` says why. */
int record_from_json(const char *text, size_t size, Record **ret, const char **ret_why);
