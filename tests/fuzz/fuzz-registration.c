/* SPDX-License-Identifier: MIT */
#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/registration.h"
#include "fuzz.h"

#define N_CREDENTIALS 2
#define LONGEST_WAIT_USEC (USEC_PER_DAY / 5 * 6)

typedef struct World {
        const uint8_t *data;
        size_t size;
        DpsRegistration *g;
        uint64_t now_usec, told_usec, wake_usec, request_id;
        uint64_t polls_usec[DPS_POLLS_MAX], n_polls;
} World;

static unsigned take(World *w) {
        if (w->size == 0)
                return 0;
        w->size--;
        return *w->data++;
}

static DpsMoment moment(World *w) {
        unsigned byte = take(w);

        return (DpsMoment){ .now_usec = w->now_usec,
                            .random = byte * UINT64_C(0x0101010101010101),
                            .clock_synchronized = byte & 1 };
}

/* ---- promises ---- */

static void check_request(World *w, const DpsAction *a) {
        uint64_t *oldest = &w->polls_usec[w->n_polls % DPS_POLLS_MAX];

        PROMISE(a->request.request_id > w->request_id);
        w->request_id = a->request.request_id;
        if (a->request.kind == DPS_REQUEST_REGISTER)
                return;

        PROMISE(a->request.operation_id);
        PROMISE(w->n_polls < DPS_POLLS_MAX || w->now_usec >= *oldest + DPS_POLLS_WINDOW_SEC * USEC_PER_SEC);
        *oldest = w->now_usec;
        w->n_polls++;
}

static void check_wait(World *w, const DpsAction *a) {
        DpsRegistrationState state = dps_registration_state(w->g);
        bool is_others_turn = state == DPS_REGISTRATION_IDLE || state == DPS_REGISTRATION_CONNECTING ||
                              state == DPS_REGISTRATION_ASSIGNED;

        PROMISE(is_others_turn == (a->wake_usec == UINT64_MAX));
        PROMISE(is_others_turn || a->wake_usec <= w->now_usec + LONGEST_WAIT_USEC);
        PROMISE(state != DPS_REGISTRATION_BACKOFF || a->wake_usec >= w->told_usec);
}

static void check(World *w, DpsAction a) {
        w->wake_usec = a.wake_usec;
        PROMISE(dps_registration_credential(w->g) < N_CREDENTIALS);
        switch (a.type) {
        case DPS_ACTION_CONNECT:
                PROMISE(w->now_usec >= w->told_usec);
                break;
        case DPS_ACTION_SEND:
                PROMISE(w->now_usec >= w->told_usec);
                check_request(w, &a);
                break;
        case DPS_ACTION_RELEASE:
                PROMISE(a.wake_usec > w->now_usec);
                check_wait(w, &a);
                break;
        case DPS_ACTION_WAIT:
                check_wait(w, &a);
                break;
        case DPS_ACTION_ANSWER_CHALLENGE:
                PROMISE(dps_registration_state(w->g) == DPS_REGISTRATION_ANSWERING);
                check_wait(w, &a);
                break;
        case DPS_ACTION_FINISH:
                PROMISE(dps_registration_state(w->g) == DPS_REGISTRATION_ASSIGNED);
                PROMISE(dps_registration_history(w->g).attempts == 0);
                break;
        }
}

/* ---- events ---- */

static void give_reply(World *w) {
        static const uint32_t statuses[] = { 200, 202, 202, 204, 301, 400, 401, 404, 409, 429, 499, 503, 0 };
        static const uint64_t delays[] = { 0, 1, 3, 30, 31, 900, 86401, UINT64_MAX };
        static const uint32_t codes[] = { 0, 0, 400207, 401002, 404201, 409203, 429001, 500000, 999999999 };
        unsigned shape = take(w), delay = take(w);
        DpsRegistrationState state = dps_registration_state(w->g);
        DpsReply reply = {
                .status = statuses[take(w) % ELEMENTSOF(statuses)],
                .word = (DpsStatus) (shape % (DPS_STATUS_UNKNOWN + 1)),
                .malformed = shape & 0x20 ? "it is garbage" : NULL,
                .operation_id = shape & 0x40 ? NULL : (char *) "4.op",
                .request_id = w->request_id - (shape & 0x80 ? 1 : 0),
                .error_code = codes[take(w) % ELEMENTSOF(codes)],
                .has_retry_after = delay & 0x80,
                .retry_after_sec = delays[delay % ELEMENTSOF(delays)],
                .authentication_key = delay & 0x40 ? (char *) "AAA=" : NULL,
        };
        bool is_ours = reply.request_id == w->request_id &&
                       (state == DPS_REGISTRATION_REGISTERING || state == DPS_REGISTRATION_POLLING);

        if (is_ours && reply.has_retry_after)
                w->told_usec = MAX(w->told_usec,
                                   w->now_usec + MIN(reply.retry_after_sec, UINT64_C(86400)) * USEC_PER_SEC);
        check(w, dps_registration_on_reply(w->g, &reply, moment(w)));
}

static void lose(World *w) {
        static const DpsErrorId ids[] = { DPS_ERROR_LOST, DPS_ERROR_REFUSED, DPS_ERROR_AUTH, DPS_ERROR_TLS };
        unsigned byte = take(w);
        DpsError error;

        dps_error_set(&error, ids[byte % ELEMENTSOF(ids)], DPS_STEP_LOGIN, "broken");
        check(w, dps_registration_on_lost(w->g, &error, moment(w)));
}

/* Moves the clock to the wake-up time, before it, or after it as a suspend does. */
static void pass_time(World *w) {
        unsigned byte = take(w);

        if (byte < 0x40)
                w->now_usec += byte * USEC_PER_SEC / 8;
        else if (byte < 0x80)
                w->now_usec += (byte - 0x40) * USEC_PER_HOUR;
        else if (w->wake_usec != UINT64_MAX && w->wake_usec > w->now_usec)
                w->now_usec = w->wake_usec;
        check(w, dps_registration_on_time(w->g, moment(w)));
}

static void give_event(World *w) {
        switch (take(w) % 9) {
        case 0:
                check(w, dps_registration_begin(w->g, moment(w)));
                break;
        case 1:
                check(w, dps_registration_on_ready(w->g, moment(w)));
                break;
        case 2:
                lose(w);
                break;
        case 3:
                check(w, dps_registration_hasten(w->g, take(w) * USEC_PER_SEC, moment(w)));
                break;
        case 4:
                check(w, dps_registration_pause(w->g, w->now_usec + take(w) * USEC_PER_SEC, moment(w)));
                break;
        case 5:
                pass_time(w);
                break;
        case 8:
                check(w, dps_registration_on_answered(w->g, moment(w)));
                break;
        default:
                give_reply(w);
                break;
        }
}

/* Input: a byte for each decision of a hostile world. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        World w = { .data = data, .size = size, .now_usec = USEC_PER_DAY, .wake_usec = UINT64_MAX };

        PROMISE(dps_registration_new(N_CREDENTIALS, NULL, &w.g) == 0);
        while (w.size > 0)
                give_event(&w);
        dps_registration_free(w.g);
        return 0;
}
