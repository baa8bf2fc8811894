/* SPDX-License-Identifier: MIT */
#pragma once

/* What an identity remembers over restarts, as NAME.json holds it. No secret is in it. */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "config/settings.h"
#include "dps/error.h"

#define STATE_VERSION 1
#define STATE_SIZE_MAX (512U * 1024)
#define STATE_TRANSITIONS_MAX 16

/* An assignment, and whose it is. */
typedef struct Assignment {
        char *id_scope, *registration_id, *endpoint;
        Method method;
        char *hub, *device_id, *substatus; /* never NULL */
        char *payload;                     /* JSON text or NULL */
        char *registration_state;          /* JSON text or NULL */
        uint64_t generation;
        uint64_t assigned_at_usec, token_expires_at_usec, renew_at_usec; /* CLOCK_REALTIME; 0: none */
        unsigned credential;                                             /* which of several keys DPS took */
        char *credential_id; /* SHA-256 of the certificate DPS took, or of the token, hex */
} Assignment;

typedef struct Transition {
        uint64_t at_usec;
        char *state;  /* the state entered, or "renewed", "hub-changed" … */
        char *detail; /* one line, for people */
} Transition;

typedef struct State {
        Assignment *assignment; /* NULL: none */
        uint32_t attempts, finals;
        uint64_t next_attempt_at_usec; /* CLOCK_REALTIME; 0: none planned */
        uint64_t not_before_usec;      /* CLOCK_REALTIME; what DPS told; 0: nothing */
        uint64_t last_poll_at_usec;    /* CLOCK_REALTIME; 0: none … */
        uint32_t polls;                /* … and how many there were in the service's window up to then */
        bool is_refused;               /* the disk does not take it; not in the file */
        uint64_t last_generation;      /* also of what was dropped */
        uint64_t last_success_at_usec;
        DpsError error; /* the last failure since the last success */
        uint64_t error_at_usec, failing_since_usec;
        Transition *transitions; /* oldest first */
        unsigned n_transitions;
} State;

Assignment *assignment_free(Assignment *a);
DEFINE_FREEP(Assignment, assignment_free)
/* NULL: there is no memory. */
Assignment *assignment_copy(const Assignment *a);
State *state_new(void);
State *state_free(State *s);
DEFINE_FREEP(State, state_free)

/* Forgets the oldest where there are too many. `detail` may be NULL. */
int state_add_transition(State *s, uint64_t at_usec, const char *state, const char *detail);

int state_to_json(const State *s, char **ret);
/* Takes states of older and newer versions: what it does not know it ignores, what is missing it leaves empty, and
 * every value is checked. -EBADMSG: no state; `ret_why`: why. */
int state_from_json(const char *text, size_t size, State **ret, const char **ret_why);
