/* SPDX-License-Identifier: MIT */
#include "dps/registration.h"

#include <assert.h>
#include <errno.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/backoff.h"

/*
 *                 begin                ready                     202
 *        IDLE ──────────> CONNECTING ──────────> REGISTERING ────────────> PAUSING or PARKED
 *          │                 ^   │                                          │ time      │ time
 *          │ too early       │   │ ready, with an operation                 v           v
 *          v                 │   └──────────────────────────────────────> POLLING   CONNECTING
 *   BACKOFF or FAILED ───────┘                                              │
 *                      time                                                 └─ 202 ─> PAUSING or PARKED
 *
 *   from CONNECTING and from every state with a connection:
 *       a failure that may pass ──> BACKOFF      (the operation is kept if DPS may still know it)
 *       a final answer ───────────> FAILED
 *       a refused credential ─────> CONNECTING with the next one; after the last one FAILED, or BACKOFF if the
 *                                   clock is not synchronised
 *   from REGISTERING and POLLING: 200 and assigned ──> ASSIGNED
 *   a poll over the limit waits in PAUSING; an operation without enough time left is dropped for a new one
 *
 *   TPM attestation:
 *                      challenge                answered
 *       REGISTERING ──────────────> ANSWERING ────────────> CONNECTING, with a token
 *                 200 and assigned, with a key              answered
 *       any request ───────────────────────────> ANSWERING ──────────> ASSIGNED
 *
 *   a challenge is no failure; but a second one, or one that answers a poll, is a refusal of the credential
 *
 * PAUSING waits with a connection; PARKED, BACKOFF and FAILED wait without one.
 *
 * Three limits hold for every wait: not_before_usec (DPS told it to us; for all requests), paused_until_usec
 * (DPS told it to another device of the scope; for registers) and the limit of polls. Sums of times stop at
 * USEC_INFINITY.
 */

#define POLL_FAILURES_MAX 8                  /* of one operation in a row; they take about ten minutes */
#define PLAN_MAX_USEC (USEC_PER_DAY / 5 * 6) /* the longest wait that backoff.h yields: a day and 20 % */

struct DpsRegistration {
        DpsRegistrationState state;
        uint64_t wake_usec; /* the state ends then; USEC_INFINITY: only another event ends it */

        uint32_t attempts;
        uint32_t finals;
        uint64_t not_before_usec;
        uint64_t paused_until_usec;
        uint64_t next_usec; /* wake_usec while there is no connection, else 0 */
        uint64_t told_usec; /* see dps_registration_told_usec() */
        DpsError error;

        unsigned n_credentials;
        unsigned credential;
        unsigned last_good_credential;
        unsigned n_refused;  /* credentials that DPS refused in a row */
        bool has_answered;   /* the TPM has the key of the challenge; of the attempt and its operation */
        bool has_assignment; /* ANSWERING: for the hub, after which the registration is done */

        uint64_t request_id; /* of the last request, answered or not */
        char *operation_id;
        unsigned n_poll_failures; /* in a row, of this operation */
        /* Of the attempt. An operation keeps it for the next attempt, moved by the wait between them. */
        uint64_t deadline_usec;

        /* When the last polls ended: they may travel slowly, and by then the service has counted them. */
        uint64_t polls_usec[DPS_POLLS_MAX];
        uint64_t n_polls;
};

int dps_registration_new(unsigned n_credentials, const DpsRegistrationHistory *history,
                         DpsRegistration **ret) {
        DpsRegistration *g;

        assert(n_credentials > 0);

        g = calloc(1, sizeof(*g));
        if (!g)
                return -ENOMEM;

        g->wake_usec = USEC_INFINITY;
        g->n_credentials = n_credentials;
        if (history) {
                g->attempts = history->attempts;
                g->finals = history->finals;
                g->not_before_usec = history->not_before_usec;
                g->next_usec = history->next_usec;
                /* There may be fewer credentials now. */
                g->credential = history->credential < n_credentials ? history->credential : 0;
                g->last_good_credential = g->credential;
                g->n_polls = MIN(history->n_polls, (unsigned) DPS_POLLS_MAX);
                memcpy(g->polls_usec, history->polls_usec, sizeof(g->polls_usec));
        }

        *ret = g;
        return 0;
}

DpsRegistration *dps_registration_free(DpsRegistration *g) {
        if (!g)
                return NULL;

        free(g->operation_id);
        free(g);
        return NULL;
}

static void forget_operation(DpsRegistration *g) {
        free(g->operation_id);
        g->operation_id = NULL;
        g->n_poll_failures = 0;
}

static bool is_asking(const DpsRegistration *g) {
        return g->state == DPS_REGISTRATION_REGISTERING || g->state == DPS_REGISTRATION_POLLING;
}

static bool is_between_attempts(const DpsRegistration *g) {
        return g->state == DPS_REGISTRATION_BACKOFF || g->state == DPS_REGISTRATION_FAILED;
}

/* The step of the current state. */
static DpsStep step_of(const DpsRegistration *g) {
        if (g->state == DPS_REGISTRATION_CONNECTING)
                return DPS_STEP_CONNECT;
        if (g->state == DPS_REGISTRATION_ANSWERING)
                return DPS_STEP_ATTEST;
        return g->state == DPS_REGISTRATION_REGISTERING ? DPS_STEP_REGISTER : DPS_STEP_POLL;
}

/* No request may be sent before then. The pause of the scope is for registers only, not for polls. */
static uint64_t floor_usec(const DpsRegistration *g) {
        return g->operation_id ? g->not_before_usec : MAX(g->not_before_usec, g->paused_until_usec);
}

static uint64_t polls_free_usec(const DpsRegistration *g) {
        if (g->n_polls < DPS_POLLS_MAX)
                return 0;
        return usec_add(g->polls_usec[g->n_polls % DPS_POLLS_MAX], DPS_POLLS_WINDOW_SEC * USEC_PER_SEC);
}

static uint64_t told_sec(const DpsReply *reply) {
        return reply && reply->has_retry_after ? MIN(reply->retry_after_sec, DPS_RETRY_AFTER_MAX_SEC) : 0;
}

static DpsAction stay(const DpsRegistration *g) {
        return (DpsAction){ .type = DPS_ACTION_WAIT, .wake_usec = g->wake_usec };
}

/* ---- states ---- */

static DpsAction enter_connecting(DpsRegistration *g) {
        g->state = DPS_REGISTRATION_CONNECTING;
        g->wake_usec = USEC_INFINITY;
        g->next_usec = 0;
        g->told_usec = 0;
        return (DpsAction){ .type = DPS_ACTION_CONNECT, .wake_usec = g->wake_usec };
}

static DpsAction ask(DpsRegistration *g, DpsRequestKind kind, uint64_t now_usec) {
        g->request_id++;
        g->wake_usec = MIN(usec_add(now_usec, DPS_REPLY_DEADLINE_SEC * USEC_PER_SEC), g->deadline_usec);
        return (DpsAction){
                .type = DPS_ACTION_SEND,
                .wake_usec = g->wake_usec,
                .request = { kind, g->request_id, kind == DPS_REQUEST_POLL ? g->operation_id : NULL },
        };
}

static DpsAction enter_registering(DpsRegistration *g, uint64_t now_usec) {
        forget_operation(g);
        g->state = DPS_REGISTRATION_REGISTERING;
        g->deadline_usec = usec_add(now_usec, DPS_ATTEMPT_DEADLINE_SEC * USEC_PER_SEC);
        return ask(g, DPS_REQUEST_REGISTER, now_usec);
}

static DpsAction enter_polling(DpsRegistration *g, uint64_t now_usec) {
        g->state = DPS_REGISTRATION_POLLING;
        g->polls_usec[g->n_polls++ % DPS_POLLS_MAX] = now_usec;
        return ask(g, DPS_REQUEST_POLL, now_usec);
}

static DpsAction enter_pausing(DpsRegistration *g, uint64_t until_usec) {
        g->state = DPS_REGISTRATION_PAUSING;
        g->wake_usec = until_usec;
        return stay(g);
}

/* For the states that wait without a connection. */
static DpsAction enter_released(DpsRegistration *g, DpsRegistrationState state, uint64_t until_usec) {
        g->state = state;
        g->wake_usec = g->next_usec = MAX(until_usec, floor_usec(g));
        return (DpsAction){ .type = DPS_ACTION_RELEASE, .wake_usec = g->wake_usec };
}

static DpsAction enter_answering(DpsRegistration *g, bool has_assignment, uint64_t now_usec) {
        g->state = DPS_REGISTRATION_ANSWERING;
        g->has_assignment = has_assignment;
        g->wake_usec = usec_add(now_usec, DPS_CHALLENGE_DEADLINE_SEC * USEC_PER_SEC);
        return (DpsAction){ .type = DPS_ACTION_ANSWER_CHALLENGE, .wake_usec = g->wake_usec };
}

static DpsAction enter_backoff(DpsRegistration *g, uint64_t until_usec) {
        return enter_released(g, DPS_REGISTRATION_BACKOFF, until_usec);
}

static DpsAction enter_failed(DpsRegistration *g, uint64_t until_usec) {
        forget_operation(g);
        return enter_released(g, DPS_REGISTRATION_FAILED, until_usec);
}

static DpsAction enter_assigned(DpsRegistration *g) {
        forget_operation(g);
        g->has_answered = false;
        g->state = DPS_REGISTRATION_ASSIGNED;
        g->wake_usec = USEC_INFINITY;
        g->attempts = g->finals = g->n_refused = 0;
        g->last_good_credential = g->credential;
        g->error = (DpsError){ 0 };
        return (DpsAction){ .type = DPS_ACTION_FINISH, .wake_usec = g->wake_usec };
}

/* ---- failures ---- */

static void count(uint32_t *n) {
        if (*n < UINT32_MAX)
                (*n)++;
}

/* `reply` is NULL if none came. A failure with retry-after=0 backs off as usual, or it would repeat at once. So does an answer
 * that cannot be understood: its retry-after was for the next poll, and a server may answer like this without end. */
static DpsAction fail(DpsRegistration *g, const DpsError *error, const DpsReply *reply, DpsMoment at) {
        uint64_t sec = told_sec(reply), wait_usec;

        g->error = *error;
        g->told_usec = sec > 0 ? usec_add(at.now_usec, sec * USEC_PER_SEC) : 0;
        count(&g->attempts);
        /* After too many failed polls the device registers again; to be throttled is not such a failure. */
        if (g->state == DPS_REGISTRATION_POLLING && error->id != DPS_ERROR_THROTTLED &&
            ++g->n_poll_failures >= POLL_FAILURES_MAX)
                forget_operation(g);
        /* The key of a challenge serves one operation. */
        if (error->final || !g->operation_id)
                g->has_answered = false;

        wait_usec = sec > 0 ? dps_backoff_told_usec(sec, at.random) : 0;
        if (sec == 0 || error->id == DPS_ERROR_PROTOCOL)
                wait_usec = MAX(wait_usec, dps_backoff_usec(g->attempts, at.random));
        if (!error->final) {
                g->deadline_usec = usec_add(g->deadline_usec, wait_usec);
                return enter_backoff(g, usec_add(at.now_usec, wait_usec));
        }

        count(&g->finals);
        wait_usec = MAX(sec > 0 ? wait_usec : 0, dps_backoff_final_usec(g->finals, at.random));
        return enter_failed(g, usec_add(at.now_usec, wait_usec));
}

/* While the clock is not synchronised, a refusal may be about the time in the token or certificate. */
static void turn_into_clock_error(DpsError *error) {
        DpsError refusal = *error;

        dps_error_set(error, DPS_ERROR_CLOCK, refusal.step,
                      "the clock is not synchronised, which may be the reason: %s", refusal.message);
        error->code = refusal.code;
        memcpy(error->tracking_id, refusal.tracking_id, sizeof(error->tracking_id));
}

/* Not before DPS allows it. */
static DpsAction connect_again(DpsRegistration *g, uint64_t told, DpsMoment at) {
        if (floor_usec(g) <= at.now_usec)
                return enter_connecting(g);
        g->told_usec = floor_usec(g);
        return enter_backoff(g, usec_add(at.now_usec, dps_backoff_told_usec(told, at.random)));
}

/* DPS refused the credential. The next one is tried even while the clock is wrong: it may always be. */
static DpsAction refuse(DpsRegistration *g, const DpsError *refusal, const DpsReply *reply, DpsMoment at) {
        DpsError error = *refusal;

        error.final = false;
        if (!at.clock_synchronized)
                turn_into_clock_error(&error);

        g->credential = (g->credential + 1) % g->n_credentials;
        if (++g->n_refused >= g->n_credentials) {
                g->n_refused = 0;
                error.final = at.clock_synchronized;
                return fail(g, &error, reply, at);
        }

        g->error = error;
        g->has_answered = false;
        return connect_again(g, told_sec(reply), at);
}

/* The request has ended, answered or not. */
static void close_request(DpsRegistration *g, uint64_t now_usec) {
        if (g->state == DPS_REGISTRATION_POLLING)
                g->polls_usec[(g->n_polls - 1) % DPS_POLLS_MAX] = now_usec;
}

/* The attempt took too long. DPS may have lost the operation, so the next attempt registers again. */
static DpsAction give_up(DpsRegistration *g, const DpsReply *reply, DpsMoment at) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_TIMEOUT, step_of(g),
                      "DPS did not finish the registration within %d minutes", DPS_ATTEMPT_DEADLINE_SEC / 60);
        forget_operation(g);
        return fail(g, &error, reply, at);
}

static DpsAction on_slow_tpm(DpsRegistration *g, DpsMoment at) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_KEY, DPS_STEP_ATTEST,
                      "the TPM did not take the key of DPS within %d s", DPS_CHALLENGE_DEADLINE_SEC);
        return fail(g, &error, NULL, at);
}

static DpsAction on_silence(DpsRegistration *g, DpsMoment at) {
        DpsError error;

        close_request(g, at.now_usec);
        if (at.now_usec >= g->deadline_usec)
                return give_up(g, NULL, at);

        dps_error_set(&error, DPS_ERROR_TIMEOUT, step_of(g), "DPS did not answer within %d s",
                      DPS_REPLY_DEADLINE_SEC);
        return fail(g, &error, NULL, at);
}

/* ---- answers ---- */

/* The attempt's deadline moves by the wait that DPS demanded, less a tenth while connected: no operation is polled for ever. */
static DpsAction plan_poll(DpsRegistration *g, const DpsReply *reply, DpsMoment at) {
        uint64_t now_usec = at.now_usec, wait_usec = DPS_POLL_DEFAULT_SEC * USEC_PER_SEC, poll_usec;
        bool parked;

        /* Nothing is added: devices that registered at different times are told different times. */
        if (reply->has_retry_after)
                wait_usec = told_sec(reply) * USEC_PER_SEC;
        poll_usec = MAX(usec_add(now_usec, wait_usec), polls_free_usec(g));
        parked = poll_usec - now_usec > DPS_WAIT_CONNECTED_MAX_SEC * USEC_PER_SEC;

        g->deadline_usec =
                usec_add(g->deadline_usec, parked ? wait_usec : told_sec(reply) * USEC_PER_SEC / 10 * 9);
        if (poll_usec >= g->deadline_usec)
                return give_up(g, reply, at);

        if (poll_usec <= now_usec)
                return enter_polling(g, now_usec);
        return parked ? enter_released(g, DPS_REGISTRATION_PARKED, poll_usec) : enter_pausing(g, poll_usec);
}

static DpsAction on_assigning(DpsRegistration *g, const DpsReply *reply, DpsMoment at) {
        DpsError error;

        g->n_poll_failures = 0;
        if (g->operation_id)
                return plan_poll(g, reply, at);

        if (!reply->operation_id) {
                dps_error_set(&error, DPS_ERROR_PROTOCOL, step_of(g),
                              "the answer has no operationId to poll");
                return fail(g, &error, reply, at);
        }

        g->operation_id = strdup(reply->operation_id);
        if (!g->operation_id) {
                dps_error_set(&error, DPS_ERROR_MEMORY, step_of(g), "out of memory");
                return fail(g, &error, reply, at);
        }

        return plan_poll(g, reply, at);
}

static DpsAction on_operation_lost(DpsRegistration *g, const DpsReply *reply, DpsMoment at) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_OPERATION_LOST, DPS_STEP_POLL, "DPS no longer knows the operation");
        error.code = reply->error_code ?: reply->status;
        (void) snprintf(error.tracking_id, sizeof(error.tracking_id), "%s", reply->tracking_id ?: "");
        forget_operation(g);
        return fail(g, &error, reply, at);
}

/* DPS keeps the operation when the poll alone failed, but not when the operation itself failed. */
static DpsAction on_refusal(DpsRegistration *g, const DpsReply *reply, DpsVerdict verdict, DpsMoment at) {
        DpsError error;

        dps_reply_error(reply, step_of(g), &error);
        if (verdict != DPS_VERDICT_RETRY || reply->status < 400)
                forget_operation(g);
        return error.id == DPS_ERROR_AUTH ? refuse(g, &error, reply, at) : fail(g, &error, reply, at);
}

/* With TPM attestation, the assignment brings the key that the hub knows. */
static DpsAction on_hub_key(DpsRegistration *g, const DpsReply *reply, DpsMoment at) {
        DpsError error;

        if (reply->authentication_key)
                return enter_answering(g, true, at.now_usec);
        dps_error_set(&error, DPS_ERROR_PROTOCOL, step_of(g), "the assignment has no key for the TPM");
        forget_operation(g);
        return fail(g, &error, reply, at);
}

DpsAction dps_registration_on_reply(DpsRegistration *g, const DpsReply *reply, DpsMoment at) {
        DpsVerdict verdict;

        if (!is_asking(g) || reply->request_id != g->request_id)
                return stay(g);

        close_request(g, at.now_usec);
        g->not_before_usec = MAX(g->not_before_usec, usec_add(at.now_usec, told_sec(reply) * USEC_PER_SEC));
        if (g->state == DPS_REGISTRATION_POLLING && reply->status == 404)
                return on_operation_lost(g, reply, at);

        verdict = dps_reply_verdict(reply);
        switch (verdict) {
        case DPS_VERDICT_ASSIGNED:
                return g->has_answered ? on_hub_key(g, reply, at) : enter_assigned(g);
        case DPS_VERDICT_ASSIGNING:
                return on_assigning(g, reply, at);
        case DPS_VERDICT_CHALLENGE:
                if (g->state == DPS_REGISTRATION_REGISTERING && !g->has_answered)
                        return enter_answering(g, false, at.now_usec);
                return on_refusal(g, reply, verdict, at);
        case DPS_VERDICT_RETRY:
        case DPS_VERDICT_FINAL:
                return on_refusal(g, reply, verdict, at);
        }
        abort();
}

/* ---- other events ---- */

DpsAction dps_registration_begin(DpsRegistration *g, DpsMoment at) {
        uint64_t start_usec;

        if (g->state != DPS_REGISTRATION_IDLE && g->state != DPS_REGISTRATION_ASSIGNED)
                return stay(g);

        /* History comes from a file, and perhaps from another clock. */
        g->not_before_usec = MIN(g->not_before_usec, usec_add(at.now_usec, USEC_PER_DAY));
        start_usec = MIN(g->next_usec, usec_add(at.now_usec, PLAN_MAX_USEC));
        if (MAX(start_usec, floor_usec(g)) <= at.now_usec)
                return enter_connecting(g);

        g->told_usec = floor_usec(g) > at.now_usec ? floor_usec(g) : 0;
        return g->finals > 0 ? enter_failed(g, start_usec) : enter_backoff(g, start_usec);
}

/* With less time left than an answer may take, it is better to register again. */
static bool operation_is_worth_polling(const DpsRegistration *g, uint64_t now_usec) {
        return g->operation_id &&
               usec_add(now_usec, DPS_REPLY_DEADLINE_SEC * USEC_PER_SEC) <= g->deadline_usec;
}

DpsAction dps_registration_on_ready(DpsRegistration *g, DpsMoment at) {
        if (g->state != DPS_REGISTRATION_CONNECTING)
                return stay(g);

        if (!operation_is_worth_polling(g, at.now_usec)) {
                /* The challenge was about the operation that is dropped. */
                bool is_stale = g->operation_id && g->has_answered;

                forget_operation(g);
                if (is_stale) {
                        g->has_answered = false;
                        return connect_again(g, 0, at);
                }
                /* The scope was paused while we connected or waited. */
                if (floor_usec(g) > at.now_usec) {
                        g->told_usec = floor_usec(g);
                        return enter_backoff(g, floor_usec(g));
                }
                return enter_registering(g, at.now_usec);
        }
        if (polls_free_usec(g) > at.now_usec)
                return enter_pausing(g, polls_free_usec(g));
        return enter_polling(g, at.now_usec);
}

DpsAction dps_registration_on_lost(DpsRegistration *g, const DpsError *error, DpsMoment at) {
        DpsError e = *error;

        if (!dps_registration_in_flight(g))
                return stay(g);

        close_request(g, at.now_usec);
        /* A transport knows the last request, but not that it was answered. */
        if (e.step == DPS_STEP_NONE || g->state == DPS_REGISTRATION_PAUSING)
                e.step = step_of(g);
        if (e.id == DPS_ERROR_AUTH)
                return refuse(g, &e, NULL, at);

        e.final = false; /* only an answer of DPS is final */
        return fail(g, &e, NULL, at);
}

DpsAction dps_registration_on_answered(DpsRegistration *g, DpsMoment at) {
        if (g->state != DPS_REGISTRATION_ANSWERING)
                return stay(g);
        if (g->has_assignment)
                return enter_assigned(g);
        g->has_answered = true;
        return connect_again(g, 0, at);
}

DpsAction dps_registration_on_time(DpsRegistration *g, DpsMoment at) {
        if (at.now_usec < g->wake_usec)
                return stay(g);

        switch (g->state) {
        case DPS_REGISTRATION_REGISTERING:
        case DPS_REGISTRATION_POLLING:
                return on_silence(g, at);
        case DPS_REGISTRATION_ANSWERING:
                return on_slow_tpm(g, at);
        case DPS_REGISTRATION_PAUSING: /* after a suspend it may be much later than planned */
                return at.now_usec < g->deadline_usec ? enter_polling(g, at.now_usec) : give_up(g, NULL, at);
        case DPS_REGISTRATION_PARKED:
        case DPS_REGISTRATION_BACKOFF:
        case DPS_REGISTRATION_FAILED:
                return enter_connecting(g);
        case DPS_REGISTRATION_IDLE:
        case DPS_REGISTRATION_CONNECTING:
        case DPS_REGISTRATION_ASSIGNED:
        case _DPS_REGISTRATION_STATE_MAX:
                return stay(g);
        }
        abort();
}

DpsAction dps_registration_hasten(DpsRegistration *g, uint64_t spread_usec, DpsMoment at) {
        uint64_t half_usec = spread_usec / 2;
        uint64_t soon_usec = usec_add(at.now_usec, half_usec + dps_fraction_usec(half_usec, at.random));

        if (is_between_attempts(g))
                g->wake_usec = g->next_usec = MIN(g->wake_usec, MAX(soon_usec, floor_usec(g)));
        return stay(g);
}

/* Up to a fifth is added, as to our own retry-after: else all devices of the scope would come back at once. */
DpsAction dps_registration_pause(DpsRegistration *g, uint64_t until_usec, DpsMoment at) {
        uint64_t wait_usec = MIN(usec_sub(until_usec, at.now_usec), USEC_PER_DAY);

        if (g->paused_until_usec < usec_add(at.now_usec, wait_usec))
                g->paused_until_usec =
                        usec_add(at.now_usec, wait_usec + dps_fraction_usec(wait_usec / 5, at.random));
        if (is_between_attempts(g) && g->wake_usec < floor_usec(g))
                g->wake_usec = g->next_usec = g->told_usec = floor_usec(g);
        return stay(g);
}

/* ---- views ---- */

DpsRegistrationState dps_registration_state(const DpsRegistration *g) {
        return g->state;
}

const char *dps_registration_state_to_string(DpsRegistrationState state) {
        static const char *const words[_DPS_REGISTRATION_STATE_MAX] = {
                [DPS_REGISTRATION_IDLE] = "idle",
                [DPS_REGISTRATION_CONNECTING] = "connecting",
                [DPS_REGISTRATION_REGISTERING] = "registering",
                [DPS_REGISTRATION_PAUSING] = "pausing",
                [DPS_REGISTRATION_PARKED] = "parked",
                [DPS_REGISTRATION_POLLING] = "polling",
                [DPS_REGISTRATION_BACKOFF] = "backoff",
                [DPS_REGISTRATION_FAILED] = "failed",
                [DPS_REGISTRATION_ASSIGNED] = "assigned",
                [DPS_REGISTRATION_ANSWERING] = "answering",
        };

        assert(state < _DPS_REGISTRATION_STATE_MAX);
        return words[state];
}

bool dps_registration_in_flight(const DpsRegistration *g) {
        return g->state == DPS_REGISTRATION_CONNECTING || g->state == DPS_REGISTRATION_PAUSING ||
               g->state == DPS_REGISTRATION_ANSWERING || is_asking(g);
}

uint64_t dps_registration_next_usec(const DpsRegistration *g) {
        return g->next_usec;
}

const DpsError *dps_registration_error(const DpsRegistration *g) {
        return &g->error;
}

uint64_t dps_registration_told_usec(const DpsRegistration *g) {
        return g->told_usec;
}

unsigned dps_registration_credential(const DpsRegistration *g) {
        return g->credential;
}

bool dps_registration_has_answered(const DpsRegistration *g) {
        return g->has_answered;
}

bool dps_registration_has_operation(const DpsRegistration *g) {
        return g->operation_id;
}

DpsRegistrationHistory dps_registration_history(const DpsRegistration *g) {
        DpsRegistrationHistory history = {
                .attempts = g->attempts,
                .finals = g->finals,
                .not_before_usec = g->not_before_usec,
                .next_usec = g->next_usec,
                .credential = g->last_good_credential,
                .n_polls = (unsigned) MIN(g->n_polls, (uint64_t) DPS_POLLS_MAX),
        };

        for (unsigned k = 0; k < history.n_polls; k++)
                history.polls_usec[k] = g->polls_usec[(g->n_polls - history.n_polls + k) % DPS_POLLS_MAX];
        return history;
}
