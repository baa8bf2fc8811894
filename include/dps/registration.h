/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The registration state machine: one effort to get an assignment, over as many connections and failures as it takes.
 * It does no I/O and reads no clock: each event brings the time, a random number, and whether the clock can be
 * trusted, and returns the one thing to do next. What it promises, whatever the service answers:
 *
 *   - it never sends sooner than told (retry-after), nor polls more than 5 times in 10 s, over reconnects too;
 *   - an operation that DPS accepted is resumed by its operation id in a new connection;
 *   - every wait ends: each step has a deadline, and so has the whole attempt;
 *   - answers to requests it did not make, or made before, change nothing.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dps/reply.h"
#include "dps/request.h"

#define DPS_REPLY_DEADLINE_SEC 30     /* from a request to its answer */
#define DPS_ATTEMPT_DEADLINE_SEC 600  /* of one attempt; time that DPS told us to wait is not counted */
#define DPS_POLL_DEFAULT_SEC 2        /* where DPS does not say when to ask */
#define DPS_WAIT_CONNECTED_MAX_SEC 30 /* a longer wait is spent disconnected */
#define DPS_POLLS_MAX 5               /* polls per device … */
#define DPS_POLLS_WINDOW_SEC 10       /* … in this time: the service's own limit */

typedef struct DpsRegistration DpsRegistration;

typedef enum DpsRegistrationState {
        DPS_REGISTRATION_IDLE,        /* nothing begun */
        DPS_REGISTRATION_CONNECTING,  /* the connection is being made */
        DPS_REGISTRATION_REGISTERING, /* register sent */
        DPS_REGISTRATION_PAUSING,     /* told to wait, connected */
        DPS_REGISTRATION_PARKED,      /* told to wait, disconnected */
        DPS_REGISTRATION_POLLING,     /* poll sent */
        DPS_REGISTRATION_BACKOFF,     /* the attempt failed; the next comes by itself */
        DPS_REGISTRATION_FAILED,      /* a final answer; asked again, rarely */
        DPS_REGISTRATION_ASSIGNED,
        _DPS_REGISTRATION_STATE_MAX,
} DpsRegistrationState;

/** The world at the moment of an event. */
typedef struct DpsMoment {
        uint64_t now_usec;       /* any clock that never goes back; CLOCK_BOOTTIME, so that suspend counts */
        uint64_t random;         /* a fresh uniform number */
        bool clock_synchronized; /* a 401 means the key only where the time of day is right */
} DpsMoment;

typedef enum DpsActionType {
        DPS_ACTION_WAIT,    /* leave everything as it is; call on_time at wake_usec */
        DPS_ACTION_CONNECT, /* close what stands, connect with the credential; the deadline is the transport's */
        DPS_ACTION_SEND,    /* send `request`; call on_time at wake_usec */
        DPS_ACTION_RELEASE, /* close the connection, give its slot back; call on_time at wake_usec */
        DPS_ACTION_FINISH,  /* close the connection; the reply just given holds the assignment */
} DpsActionType;

typedef struct DpsAction {
        DpsActionType type;
        uint64_t wake_usec; /* UINT64_MAX: never */
        DpsRequest request; /* of DPS_ACTION_SEND; valid until the next event */
} DpsAction;

/** What carries over from an earlier run or an earlier effort. All 0 for a first one. */
typedef struct DpsRegistrationHistory {
        uint32_t attempts;                  /* consecutive failures */
        uint32_t finals;                    /* of them, consecutive final answers */
        uint64_t not_before_usec;           /* no contact sooner, whatever asks: what DPS told us */
        uint64_t next_usec;                 /* the next attempt was planned for then; 0: none was */
        unsigned credential;                /* the one that worked last */
        uint64_t polls_usec[DPS_POLLS_MAX]; /* the last polls, oldest first: the service counts them on */
        unsigned n_polls;
} DpsRegistrationHistory;

/** `n_credentials` (at least 1) are tried in turn when DPS refuses one. `history` may be NULL. */
int dps_registration_new(unsigned n_credentials, const DpsRegistrationHistory *history,
                         DpsRegistration **ret);
DpsRegistration *dps_registration_free(DpsRegistration *g);

/** Begins, or goes on where history says; CONNECT, or RELEASE with the time to come back. */
DpsAction dps_registration_begin(DpsRegistration *g, DpsMoment at);
/** The connection stands, authenticated, and can carry a request. */
DpsAction dps_registration_on_ready(DpsRegistration *g, DpsMoment at);
/** An answer came; whose it is is checked here. */
DpsAction dps_registration_on_reply(DpsRegistration *g, const DpsReply *reply, DpsMoment at);
/**
 * The connection failed or broke, or its log-in was refused (id `auth`: the next credential is tried, then it is
 * final; while the clock is not synchronised it is `clock` and retried).
 */
DpsAction dps_registration_on_lost(DpsRegistration *g, const DpsError *error, DpsMoment at);
/** wake_usec has come; harmless if it has not. */
DpsAction dps_registration_on_time(DpsRegistration *g, DpsMoment at);
/**
 * Something changed that may help (a route, the clock, a key file, an operator): a wait between attempts ends in
 * `spread_usec`·(0.5…1.0), but never before what DPS told. Harmless at other times.
 */
DpsAction dps_registration_hasten(DpsRegistration *g, uint64_t spread_usec, DpsMoment at);
/**
 * The scope is paused (429 to a neighbour): no register before `until_usec`. A request that is made is not taken back.
 */
DpsAction dps_registration_pause(DpsRegistration *g, uint64_t until_usec, DpsMoment at);

DpsRegistrationState dps_registration_state(const DpsRegistration *g);
const char *dps_registration_state_to_string(DpsRegistrationState state);
bool dps_registration_in_flight(const DpsRegistration *g); /* CONNECTING … POLLING, but PARKED */
/** When it will contact DPS next; 0 in flight or done. */
uint64_t dps_registration_next_usec(const DpsRegistration *g);
/** The last failure, of this effort; id NONE if there was none. Valid as long as g. */
const DpsError *dps_registration_error(const DpsRegistration *g);
/** What ended the attempt just now, or an earlier run's, told when to come: the wait cannot be cut short. */
uint64_t dps_registration_told_usec(const DpsRegistration *g); /* not before then; 0: nothing was told */
unsigned dps_registration_credential(const DpsRegistration *g);
/** To be remembered for the next effort or run. */
DpsRegistrationHistory dps_registration_history(const DpsRegistration *g);
