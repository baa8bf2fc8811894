/* SPDX-License-Identifier: MIT */
#pragma once

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/registration.h"

/*
 * A script is a list of events, each with its time in seconds and the action that it must lead to. Random
 * numbers are 0, or the largest if a row says `.late`: then waits have their greatest length.
 */

DEFINE_FREEP(DpsRegistration, dps_registration_free)
DEFINE_FREEP(DpsReply, dps_reply_done)

typedef enum Event {
        END,
        BEGIN,
        READY,
        LOST,    /* the connection */
        REFUSED, /* the log-in */
        ANSWER,  /* to the last request */
        STALE,   /* an answer to the request before the last */
        FOREIGN, /* an answer to another device's request */
        TIME,
        HASTEN,
        PAUSE,    /* until `until` */
        ANSWERED, /* the TPM has the key */
        UNFIT,    /* the TPM cannot take the key */
} Event;

typedef enum Want {
        NOTHING_WANTED,
        WAIT,
        CONNECT,
        REGISTER,
        POLL, /* operation "4.op", as all polls here */
        RELEASE,
        FINISH,
        ANSWER_CHALLENGE,
} Want;

typedef struct Row {
        double at_sec;
        Event event;
        unsigned status;
        const char *after; /* retry-after */
        const char *body;
        double until_sec, spread_sec;
        bool late, clock_wrong;

        Want want;
        double wake_sec;
        DpsRegistrationState state;
        DpsErrorId error;
        DpsStep step;
        unsigned credential;
        bool has_answered;
} Row;

#define NEVER (-1.0)
#define BODY_ASSIGNING "{\"operationId\":\"4.op\",\"status\":\"assigning\"}"
#define BODY_UNASSIGNED "{\"operationId\":\"4.op\",\"status\":\"unassigned\"}"
#define BODY_ASSIGNED                                                                                        \
        "{\"operationId\":\"4.op\",\"status\":\"assigned\",\"registrationState\":"                           \
        "{\"assignedHub\":\"h.example\",\"deviceId\":\"d\"}}"
#define BODY_FAILED(code)                                                                                    \
        "{\"operationId\":\"4.op\",\"status\":\"failed\",\"registrationState\":{\"errorCode\":" #code "}}"

#define ASSIGNING .status = 202, .body = BODY_ASSIGNING
#define ASSIGNED .status = 200, .body = BODY_ASSIGNED
#define CHALLENGE .status = 401, .body = "{\"authenticationKey\":\"AAA=\",\"keyName\":\"registration\"}"
#define BODY_ASSIGNED_KEY                                                                                    \
        "{\"operationId\":\"4.op\",\"status\":\"assigned\",\"registrationState\":"                           \
        "{\"assignedHub\":\"h.example\",\"deviceId\":\"d\",\"tpm\":{\"authenticationKey\":\"AAA=\"}}}"
#define ASSIGNED_KEY .status = 200, .body = BODY_ASSIGNED_KEY
#define REFUSAL(code) .status = (code), .body = ""
#define BACK_AT(sec) .want = RELEASE, .wake_sec = (sec)

/* Most scripts begin so: register is answered at 0 s. */
#define REGISTERED                                                                                           \
        { 0, BEGIN, .want = CONNECT, .wake_sec = NEVER }, {                                                  \
                0, READY, .want = REGISTER, .wake_sec = 30                                                   \
        }
#define POLLED_AT_0                                                                                          \
        { 0, ANSWER, ASSIGNING, .after = "0", .want = POLL, .wake_sec = 30 }

typedef struct Script {
        const char *promise;
        unsigned n_credentials; /* 0: 1 */
        DpsRegistrationHistory history;
        Row rows[20];
} Script;

/* ---- the driver ---- */

static uint64_t usec_from_sec(double sec) {
        return sec < 0 ? USEC_INFINITY : (uint64_t) (sec * 1e6 + 0.5);
}

static uint64_t request_id_of(const Row *row, uint64_t last) {
        if (row->event == STALE)
                return last - 1;
        return row->event == FOREIGN ? last + 1000 : last;
}

static DpsAction answer(DpsRegistration *g, const Row *row, uint64_t last_request_id, DpsMoment at) {
        _cleanup_(dps_reply_donep) DpsReply *guard = NULL;
        DpsReply reply;
        char topic[128];

        (void) snprintf(topic, sizeof(topic), "$dps/registrations/res/%u/?$rid=%llu%s%s", row->status,
                        (unsigned long long) request_id_of(row, last_request_id),
                        row->after ? "&retry-after=" : "", row->after ?: "");
        assert_int_equal(dps_reply_parse_topic(topic, &reply), 0);
        assert_int_equal(dps_reply_parse_body(&reply, row->body, strlen(row->body)), 0);
        guard = &reply;
        return dps_registration_on_reply(g, &reply, at);
}

static DpsAction apply(DpsRegistration *g, const Row *row, uint64_t last_request_id) {
        DpsMoment at = { .now_usec = usec_from_sec(row->at_sec),
                         .random = row->late ? UINT64_MAX : 0,
                         .clock_synchronized = !row->clock_wrong };
        DpsError error;

        switch (row->event) {
        case BEGIN:
                return dps_registration_begin(g, at);
        case READY:
                return dps_registration_on_ready(g, at);
        case LOST:
                dps_error_set(&error, DPS_ERROR_LOST, DPS_STEP_NONE, "gone");
                return dps_registration_on_lost(g, &error, at);
        case REFUSED:
                dps_error_set(&error, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "not authorized");
                return dps_registration_on_lost(g, &error, at);
        case ANSWER:
        case STALE:
        case FOREIGN:
                return answer(g, row, last_request_id, at);
        case TIME:
                return dps_registration_on_time(g, at);
        case HASTEN:
                return dps_registration_hasten(g, usec_from_sec(row->spread_sec), at);
        case ANSWERED:
                return dps_registration_on_answered(g, at);
        case UNFIT:
                dps_error_set(&error, DPS_ERROR_KEY, DPS_STEP_NONE, "busy");
                return dps_registration_on_lost(g, &error, at);
        case PAUSE:
                return dps_registration_pause(g, usec_from_sec(row->until_sec), at);
        case END:
                break;
        }
        abort();
}

static Want want_from_action(const DpsAction *a) {
        switch (a->type) {
        case DPS_ACTION_WAIT:
                return WAIT;
        case DPS_ACTION_CONNECT:
                return CONNECT;
        case DPS_ACTION_SEND:
                return a->request.kind == DPS_REQUEST_POLL ? POLL : REGISTER;
        case DPS_ACTION_RELEASE:
                return RELEASE;
        case DPS_ACTION_FINISH:
                return FINISH;
        case DPS_ACTION_ANSWER_CHALLENGE:
                return ANSWER_CHALLENGE;
        }
        abort();
}

/* A time within a microsecond: the greatest random number is not quite 1. */
static bool same_time(uint64_t usec, double sec) {
        uint64_t wanted = usec_from_sec(sec);

        return usec == wanted || usec + 1 == wanted;
}

static void check_row(const DpsRegistration *g, const Row *row, const DpsAction *a, size_t n) {
        static const char *const names[] = { "?",    "WAIT",    "CONNECT", "REGISTER",
                                             "POLL", "RELEASE", "FINISH",  "ANSWER_CHALLENGE" };
        const DpsError *error = dps_registration_error(g);
        bool waits_alone = a->type == DPS_ACTION_RELEASE;

        if (want_from_action(a) != row->want)
                fail_msg("row %zu: %s instead of %s", n, names[want_from_action(a)], names[row->want]);
        if (row->wake_sec != 0 && !same_time(a->wake_usec, row->wake_sec))
                fail_msg("row %zu: wakes at %.6f s, not %.6f s", n, (double) a->wake_usec / 1e6,
                         row->wake_sec);
        if (row->state && dps_registration_state(g) != row->state)
                fail_msg("row %zu: %s", n, dps_registration_state_to_string(dps_registration_state(g)));
        if (row->error && error->id != row->error)
                fail_msg("row %zu: error %u, %s", n, error->id, error->message);
        if (row->step && error->step != row->step)
                fail_msg("row %zu: step %u, %s", n, error->step, error->message);
        if (row->credential != 0 && dps_registration_credential(g) != row->credential)
                fail_msg("row %zu: credential %u", n, dps_registration_credential(g));

        assert_int_equal(dps_registration_has_answered(g), row->has_answered);
        if (row->want == POLL)
                assert_string_equal(a->request.operation_id, "4.op");
        if (row->want == REGISTER)
                assert_null(a->request.operation_id);
        if (waits_alone)
                assert_int_equal(dps_registration_next_usec(g), a->wake_usec);
        if (waits_alone || row->want == FINISH)
                assert_false(dps_registration_in_flight(g));
        if (row->want == CONNECT || row->want == REGISTER || row->want == POLL) {
                assert_true(dps_registration_in_flight(g));
                assert_int_equal(dps_registration_next_usec(g), 0);
        }
}

static void script_check(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        const Script *s = *state;
        uint64_t last_request_id = 0;

        assert_int_equal(dps_registration_new(MAX(s->n_credentials, 1U), &s->history, &g), 0);
        for (size_t i = 0; i < ELEMENTSOF(s->rows) && s->rows[i].event != END; i++) {
                DpsAction a = apply(g, &s->rows[i], last_request_id);

                check_row(g, &s->rows[i], &a, i);
                if (a.type != DPS_ACTION_SEND)
                        continue;
                assert_int_not_equal(a.request.request_id, last_request_id);
                last_request_id = a.request.request_id;
        }
}
