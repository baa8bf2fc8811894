/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The registration state machine: it gets one assignment from DPS, over as many connections and attempts as
 * that takes. It does no I/O and reads no clock: each event brings the time, a random number and whether the
 * time of day is known, and returns the one thing to do next. Whatever DPS answers,
 *
 *   - nothing is sent sooner than DPS allows (retry-after), nor more than 5 polls in 10 s, over reconnects too;
 *   - an operation that DPS accepted is resumed by its operation id over a new connection;
 *   - every wait ends: each step has a deadline, and so has the whole attempt;
 *   - an answer to anything but the last request changes nothing.
 *
 * All functions but dps_registration_new() always succeed; text and errors that they return belong to the
 * machine. The example dps-registration.c drives one by hand.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dps/reply.h"
#include "dps/request.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DPS_REPLY_DEADLINE_SEC 30     /* from a request to its answer */
#define DPS_CHALLENGE_DEADLINE_SEC 60 /* from a key for the TPM until the TPM has it: some TPMs are slow */
#define DPS_ATTEMPT_DEADLINE_SEC 600  /* of one attempt; waits that DPS demanded are not counted */
#define DPS_POLL_DEFAULT_SEC 2        /* before a poll for which DPS gave no retry-after */
#define DPS_WAIT_CONNECTED_MAX_SEC 30 /* a longer wait is spent without a connection */
#define DPS_POLLS_MAX 5               /* the service takes this many polls of a device (quotas of DPS) … */
#define DPS_POLLS_WINDOW_SEC 10       /* … in this time */

typedef struct DpsRegistration DpsRegistration;

typedef enum DpsRegistrationState {
        DPS_REGISTRATION_IDLE,        /* "idle": dps_registration_begin() was not called yet */
        DPS_REGISTRATION_CONNECTING,  /* "connecting": the caller is making a connection */
        DPS_REGISTRATION_REGISTERING, /* "registering": register is sent */
        DPS_REGISTRATION_PAUSING,     /* "pausing": DPS told to wait; the connection is kept */
        DPS_REGISTRATION_PARKED,      /* "parked": DPS told to wait; the connection is closed */
        DPS_REGISTRATION_POLLING,     /* "polling": a poll is sent */
        DPS_REGISTRATION_BACKOFF,     /* "backoff": the attempt failed; the next one is planned */
        DPS_REGISTRATION_FAILED,      /* "failed": DPS gave a final answer; the next attempt is hours away */
        DPS_REGISTRATION_ASSIGNED,    /* "assigned" */
        DPS_REGISTRATION_ANSWERING,   /* "answering": the TPM takes a key that DPS sent */
        _DPS_REGISTRATION_STATE_MAX,
} DpsRegistrationState;

/** The world at the moment of an event. */
typedef struct DpsMoment {
        uint64_t now_usec;       /* always of the same clock, which never goes back: CLOCK_BOOTTIME */
        uint64_t random;         /* a fresh uniform number */
        bool clock_synchronized; /* the time of day is known to be right */
} DpsMoment;

typedef enum DpsActionType {
        DPS_ACTION_WAIT,    /* keep what there is; call dps_registration_on_time() at wake_usec */
        DPS_ACTION_CONNECT, /* close any connection and make a new one, with a deadline of the caller's */
        DPS_ACTION_SEND,    /* send `request`; call dps_registration_on_time() at wake_usec */
        DPS_ACTION_RELEASE, /* close the connection; call dps_registration_on_time() at wake_usec */
        DPS_ACTION_FINISH,  /* close the connection; the reply of this event holds the assignment */
        /* Close the connection, and let the TPM take the `authentication_key` of this event's reply. Then call
         * dps_registration_on_answered(), or dps_registration_on_lost() if the TPM cannot take it. If the reply
         * holds the assignment, keep a copy: the FINISH that follows has no reply of its own. */
        DPS_ACTION_ANSWER_CHALLENGE,
} DpsActionType;

typedef struct DpsAction {
        DpsActionType type;
        uint64_t wake_usec; /* of the clock of DpsMoment; UINT64_MAX: never */
        DpsRequest request; /* only of DPS_ACTION_SEND; valid until the next event */
} DpsAction;

/**
 * What is carried over from an earlier registration, perhaps of an earlier run of the program. All 0 for a
 * first one.
 */
typedef struct DpsRegistrationHistory {
        uint32_t attempts;                  /* consecutive failures */
        uint32_t finals;                    /* consecutive final answers among them */
        uint64_t not_before_usec;           /* DPS does not want to be contacted sooner */
        uint64_t next_usec;                 /* when the next attempt was planned; 0: none was */
        unsigned credential;                /* the index of the one that worked last */
        uint64_t polls_usec[DPS_POLLS_MAX]; /* the last polls, oldest first: the service still counts them */
        unsigned n_polls;
} DpsRegistrationHistory;

/**
 * Makes an idle machine. When DPS refuses one of the `n_credentials` (at least 1), the next is tried.
 * Credentials are known to the machine by their index alone. `history` may be NULL. 0 or -ENOMEM.
 */
int dps_registration_new(unsigned n_credentials, const DpsRegistrationHistory *history,
                         DpsRegistration **ret);
/** Frees it. NULL is allowed; always returns NULL. */
DpsRegistration *dps_registration_free(DpsRegistration *g);

/** Begins, also again after an assignment: CONNECT, or RELEASE if history says that it is too early. */
DpsAction dps_registration_begin(DpsRegistration *g, DpsMoment at);
/** The connection is made and authenticated, and can carry a request. */
DpsAction dps_registration_on_ready(DpsRegistration *g, DpsMoment at);
/** A reply came. The machine checks which request it answers. */
DpsAction dps_registration_on_reply(DpsRegistration *g, const DpsReply *reply, DpsMoment at);
/**
 * The connection failed or broke. If DPS refused the log-in (id AUTH), the next credential is tried; when all
 * are refused, that is final, but while the clock is not synchronised the error is CLOCK and the attempt is
 * repeated.
 */
DpsAction dps_registration_on_lost(DpsRegistration *g, const DpsError *error, DpsMoment at);
/**
 * The TPM has the key that DPS_ACTION_ANSWER_CHALLENGE was about. After the challenge of a register: connect
 * again, since a session over MQTT 3.1.1 cannot change its password, and show DPS a token that this key
 * signed. After an assignment: FINISH.
 */
DpsAction dps_registration_on_answered(DpsRegistration *g, DpsMoment at);
/** wake_usec has come. Changes nothing if it has not. */
DpsAction dps_registration_on_time(DpsRegistration *g, DpsMoment at);
/**
 * Something changed that may help (a route, the clock, a key file, an operator's request): a wait between
 * attempts now ends in spread_usec · (0.5…1.0), but never before the time that DPS gave. Changes nothing in
 * other states.
 */
DpsAction dps_registration_hasten(DpsRegistration *g, uint64_t spread_usec, DpsMoment at);
/**
 * DPS answered 429 to another device of this ID scope: no register is sent before `until_usec`. A request
 * that is already sent is not affected.
 */
DpsAction dps_registration_pause(DpsRegistration *g, uint64_t until_usec, DpsMoment at);

DpsRegistrationState dps_registration_state(const DpsRegistration *g);
/** The word of a state. Static text. */
const char *dps_registration_state_to_string(DpsRegistrationState state);
/**
 * Whether it has a connection, is making one, or has the TPM prepare one: CONNECTING, REGISTERING, PAUSING,
 * POLLING and ANSWERING.
 */
bool dps_registration_in_flight(const DpsRegistration *g);
/** When it will contact DPS next; 0 while in flight or when done. */
uint64_t dps_registration_next_usec(const DpsRegistration *g);
/** The last error of this registration; id NONE if there was none. Valid until the next event. */
const DpsError *dps_registration_error(const DpsRegistration *g);
/**
 * The wait before the next attempt cannot end sooner than this, because DPS said so after the last one, or
 * because of dps_registration_pause(). 0: DPS said nothing.
 */
uint64_t dps_registration_told_usec(const DpsRegistration *g);
/** The index of the credential to connect with. */
unsigned dps_registration_credential(const DpsRegistration *g);
/**
 * Whether the TPM has answered the challenge: the next connection needs a token, signed with the key of the
 * challenge. Before that, a device with TPM attestation connects without one.
 */
bool dps_registration_has_answered(const DpsRegistration *g);
/** Whether DPS has accepted an operation that will be polled, so that no register is sent next. */
bool dps_registration_has_operation(const DpsRegistration *g);
/** What to carry over to the next registration. */
DpsRegistrationHistory dps_registration_history(const DpsRegistration *g);

#ifdef __cplusplus
}
#endif
