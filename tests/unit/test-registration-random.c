/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/registration.h"

/*
 * Thousands of registrations in a hostile world: random answers, lost connections, times and calls, in any
 * order. After each event the promises of registration.h are checked. The random numbers are the same in
 * every run.
 */

#define LIVES 4000
#define EVENTS 250
#define CREDENTIALS_MAX 3
/*
 * The most that may be sent at one instant: for each credential the polls of the limit, a register and a
 * connection.
 */
#define CONTACTS_AT_ONCE_MAX (2 * (CREDENTIALS_MAX + DPS_POLLS_MAX + 2))
#define LONGEST_WAIT_USEC (USEC_PER_DAY / 5 * 6)

DEFINE_FREEP(DpsRegistration, dps_registration_free)

typedef struct World {
        DpsRegistration *g;
        uint64_t seed;
        uint64_t now_usec;

        uint64_t told_usec; /* the latest time that DPS told in answers to us */
        uint64_t request_id;
        uint64_t polls_usec[DPS_POLLS_MAX];
        uint64_t n_polls;
        unsigned n_contacts; /* at this instant */
        uint64_t wake_usec;
} World;

/* SplitMix64. */
static uint64_t draw(World *w) {
        uint64_t z = w->seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

static uint64_t below(World *w, uint64_t n) {
        return draw(w) % n;
}

static DpsMoment moment(World *w) {
        return (DpsMoment){ .now_usec = w->now_usec,
                            .random = below(w, 4)   ? draw(w)
                                      : below(w, 2) ? 0
                                                    : UINT64_MAX,
                            .clock_synchronized = below(w, 4) > 0 };
}

static void pass_until(World *w, uint64_t usec) {
        if (usec <= w->now_usec)
                return;
        w->now_usec = usec;
        w->n_contacts = 0;
}

/* ---- promises ---- */

static void check_contact(World *w, const DpsAction *a) {
        assert_true(w->now_usec >= w->told_usec);
        w->n_contacts++;
        assert_uint_in_range(w->n_contacts, 1, CONTACTS_AT_ONCE_MAX);
        assert_true(dps_registration_in_flight(w->g));
        assert_int_equal(dps_registration_next_usec(w->g), 0);
        if (a->type == DPS_ACTION_CONNECT)
                assert_true(dps_registration_credential(w->g) < CREDENTIALS_MAX);
}

static void check_request(World *w, const DpsAction *a) {
        uint64_t *oldest = &w->polls_usec[w->n_polls % DPS_POLLS_MAX];

        assert_true(a->request.request_id > w->request_id);
        assert_true(a->wake_usec <= usec_add(w->now_usec, DPS_REPLY_DEADLINE_SEC * USEC_PER_SEC));
        w->request_id = a->request.request_id;
        if (a->request.kind == DPS_REQUEST_REGISTER) {
                assert_null(a->request.operation_id);
                return;
        }

        assert_non_null(a->request.operation_id);
        if (w->n_polls >= DPS_POLLS_MAX)
                assert_true(w->now_usec >= usec_add(*oldest, DPS_POLLS_WINDOW_SEC * USEC_PER_SEC));
        *oldest = w->now_usec;
        w->n_polls++;
}

/* An endless wait is allowed only if the caller acts next, or if the registration has ended. */
static void check_wait(World *w, const DpsAction *a) {
        switch (dps_registration_state(w->g)) {
        case DPS_REGISTRATION_IDLE:
        case DPS_REGISTRATION_CONNECTING:
        case DPS_REGISTRATION_ASSIGNED:
                assert_int_equal(a->wake_usec, UINT64_MAX);
                return;
        case DPS_REGISTRATION_REGISTERING:
        case DPS_REGISTRATION_PAUSING:
        case DPS_REGISTRATION_POLLING:
                assert_true(a->wake_usec <= usec_add(w->now_usec, DPS_REPLY_DEADLINE_SEC * USEC_PER_SEC));
                return;
        case DPS_REGISTRATION_ANSWERING:
                assert_true(a->wake_usec <= usec_add(w->now_usec, DPS_CHALLENGE_DEADLINE_SEC * USEC_PER_SEC));
                return;
        case DPS_REGISTRATION_PARKED:
        case DPS_REGISTRATION_BACKOFF:
        case DPS_REGISTRATION_FAILED:
                assert_true(a->wake_usec <= usec_add(w->now_usec, LONGEST_WAIT_USEC));
                assert_true(a->wake_usec >= w->told_usec);
                assert_int_equal(dps_registration_next_usec(w->g), a->wake_usec);
                assert_false(dps_registration_in_flight(w->g));
                return;
        case _DPS_REGISTRATION_STATE_MAX:
                break;
        }
        fail_msg("no state at all");
}

static void check(World *w, DpsAction a) {
        w->wake_usec = a.wake_usec;
        switch (a.type) {
        case DPS_ACTION_CONNECT:
                check_contact(w, &a);
                return;
        case DPS_ACTION_SEND:
                check_contact(w, &a);
                check_request(w, &a);
                return;
        case DPS_ACTION_RELEASE:
                assert_true(a.wake_usec > w->now_usec || a.wake_usec == UINT64_MAX);
                check_wait(w, &a);
                return;
        case DPS_ACTION_WAIT:
        case DPS_ACTION_ANSWER_CHALLENGE:
                check_wait(w, &a);
                return;
        case DPS_ACTION_FINISH:
                assert_int_equal(dps_registration_state(w->g), DPS_REGISTRATION_ASSIGNED);
                assert_int_equal(dps_registration_history(w->g).attempts, 0);
                assert_int_equal(dps_registration_history(w->g).finals, 0);
                return;
        }
        fail_msg("no action at all");
}

/* ---- events ---- */

static bool is_asking(const World *w) {
        DpsRegistrationState s = dps_registration_state(w->g);

        return s == DPS_REGISTRATION_REGISTERING || s == DPS_REGISTRATION_POLLING;
}

static void give_reply(World *w, DpsReply *reply) {
        bool ours = is_asking(w) && reply->request_id == w->request_id;

        if (ours && reply->has_retry_after)
                w->told_usec = MAX(w->told_usec,
                                   usec_add(w->now_usec, MIN(reply->retry_after_sec, 86400U) * USEC_PER_SEC));
        check(w, dps_registration_on_reply(w->g, reply, moment(w)));
}

static void any_reply(World *w) {
        static const uint32_t statuses[] = { 200, 200, 202, 202, 202, 202, 204, 301, 400,
                                             401, 404, 409, 429, 499, 503, 0,   401, 401 };
        static const uint64_t delays[] = {
                0, 0, 1, 2, 3, 29, 30, 31, 42, 900, UINT64_C(1) << 32, UINT64_MAX
        };
        static const uint32_t codes[] = { 0, 0, 400207, 401002, 404201, 409203, 429001, 500000, 999999999 };
        DpsReply reply = { .request_id = below(w, 8) ? w->request_id : w->request_id - 1 + below(w, 3) };

        reply.status = statuses[below(w, ELEMENTSOF(statuses))];
        reply.word = (DpsStatus) below(w, DPS_STATUS_UNKNOWN + 1);
        reply.malformed = below(w, 8) ? NULL : "it is garbage";
        reply.error_code = codes[below(w, ELEMENTSOF(codes))];
        reply.operation_id = below(w, 8) ? (char *) "4.op" : NULL;
        reply.authentication_key = below(w, 3) ? (char *) "AAA=" : NULL;
        reply.has_retry_after = below(w, 2);
        reply.retry_after_sec = delays[below(w, ELEMENTSOF(delays))];
        give_reply(w, &reply);
}

static void any_loss(World *w) {
        static const DpsErrorId ids[] = { DPS_ERROR_LOST, DPS_ERROR_REFUSED, DPS_ERROR_DNS, DPS_ERROR_AUTH };
        DpsError error;

        dps_error_set(&error, ids[below(w, ELEMENTSOF(ids))], (DpsStep) below(w, _DPS_STEP_MAX), "broken");
        error.final = below(w, 2);
        check(w, dps_registration_on_lost(w->g, &error, moment(w)));
}

static void any_time(World *w) {
        DpsAction a = dps_registration_on_time(w->g, moment(w));

        check(w, a);
        if (a.type != DPS_ACTION_WAIT || a.wake_usec == UINT64_MAX)
                return;
        if (below(w, 8) == 0)
                pass_until(w, usec_add(w->now_usec, below(w, USEC_PER_DAY))); /* a suspend */
        else
                pass_until(w,
                           below(w, 2) ? a.wake_usec : w->now_usec + below(w, a.wake_usec - w->now_usec + 1));
        check(w, dps_registration_on_time(w->g, moment(w)));
}

static void any_event(World *w) {
        switch (below(w, 22)) {
        case 0:
                check(w, dps_registration_begin(w->g, moment(w)));
                return;
        case 1:
                any_loss(w);
                return;
        case 2: /* an impatient operator asked for these contacts */
                w->n_contacts = 0;
                check(w, dps_registration_hasten(w->g, below(w, 3) * USEC_PER_SEC, moment(w)));
                return;
        case 3:
                check(w, dps_registration_pause(w->g, usec_add(w->now_usec, below(w, 120) * USEC_PER_SEC),
                                                moment(w)));
                return;
        case 4:
                check(w, dps_registration_pause(w->g, below(w, 2) ? UINT64_MAX : draw(w), moment(w)));
                return;
        case 5:
                pass_until(w, usec_add(w->now_usec, below(w, 2 * USEC_PER_SEC)));
                return;
        case 6:
        case 7:
        case 8:
        case 9:
                any_time(w);
                return;
        case 10:
        case 11:
        case 12:
                check(w, dps_registration_on_ready(w->g, moment(w)));
                return;
        case 13:
        case 14:
                check(w, dps_registration_on_answered(w->g, moment(w)));
                return;
        default:
                any_reply(w);
                return;
        }
}

static DpsRegistrationHistory any_history(World *w) {
        if (below(w, 2))
                return (DpsRegistrationHistory){ 0 };
        return (DpsRegistrationHistory){
                .attempts = (uint32_t) (below(w, 2) ? below(w, 20) : draw(w)),
                .finals = (uint32_t) (below(w, 2) ? below(w, 4) : draw(w)),
                .not_before_usec = below(w, 2) ? usec_add(w->now_usec, below(w, USEC_PER_DAY)) : 0,
                .next_usec = below(w, 2) ? draw(w) : 0,
                .credential = (unsigned) below(w, 5),
        };
}

/* ---- lives ---- */

static World begin_life(uint64_t seed, uint64_t now_usec) {
        World w = { .seed = seed, .now_usec = now_usec };
        DpsRegistrationHistory history = any_history(&w);

        assert_int_equal(dps_registration_new(1 + (unsigned) below(&w, CREDENTIALS_MAX), &history, &w.g), 0);
        w.told_usec = history.not_before_usec;
        check(&w, dps_registration_begin(w.g, moment(&w)));
        return w;
}

/* The next event in a world where only the service may fail. */
static void step(World *w, const DpsReply *to_register, const DpsReply *to_poll) {
        DpsMoment at = { .now_usec = w->now_usec, .random = draw(w), .clock_synchronized = true };
        DpsReply reply;

        switch (dps_registration_state(w->g)) {
        case DPS_REGISTRATION_IDLE:
                check(w, dps_registration_begin(w->g, at));
                return;
        case DPS_REGISTRATION_CONNECTING:
                check(w, dps_registration_on_ready(w->g, at));
                return;
        case DPS_REGISTRATION_REGISTERING:
        case DPS_REGISTRATION_POLLING:
                reply = dps_registration_state(w->g) == DPS_REGISTRATION_POLLING ? *to_poll : *to_register;
                reply.request_id = w->request_id;
                give_reply(w, &reply);
                return;
        case DPS_REGISTRATION_ANSWERING:
                check(w, dps_registration_on_answered(w->g, at));
                return;
        case DPS_REGISTRATION_PAUSING:
        case DPS_REGISTRATION_PARKED:
        case DPS_REGISTRATION_BACKOFF:
        case DPS_REGISTRATION_FAILED:
                pass_until(w, w->wake_usec);
                check(w, dps_registration_on_time(w->g, moment(w)));
                return;
        case DPS_REGISTRATION_ASSIGNED:
        case _DPS_REGISTRATION_STATE_MAX:
                return;
        }
}

#define ACCEPTED ((DpsReply){ .status = 202, .operation_id = (char *) "4.op" })
#define ASSIGNED                                                                                             \
        ((DpsReply){ .status = 200, .word = DPS_STATUS_ASSIGNED, .authentication_key = (char *) "AAA=" })

static void test_promises_hold_and_each_registration_is_assigned_in_the_end(void **state) {
        unsigned n_events_in[_DPS_REGISTRATION_STATE_MAX] = { 0 };

        for (uint64_t seed = 0; seed < LIVES; seed++) {
                World w = begin_life(seed, seed % 2 * USEC_PER_WEEK);
                _cleanup_(dps_registration_freep) DpsRegistration *g = w.g;

                for (size_t i = 0; i < EVENTS; i++) {
                        n_events_in[dps_registration_state(g)]++;
                        any_event(&w);
                }
                for (size_t i = 0; i < 14; i++)
                        step(&w, &ACCEPTED, &ASSIGNED);
                assert_int_equal(dps_registration_state(g), DPS_REGISTRATION_ASSIGNED);
        }

        /* Runs that reach too few states prove nothing. */
        for (DpsRegistrationState s = DPS_REGISTRATION_CONNECTING; s < _DPS_REGISTRATION_STATE_MAX; s++)
                assert_uint_in_range(n_events_in[s], LIVES, LIVES * EVENTS);
}

static void test_promises_hold_at_the_largest_times(void **state) {
        for (uint64_t seed = 0; seed < LIVES / 4; seed++) {
                World w = begin_life(seed, UINT64_MAX - 2 * USEC_PER_DAY);

                /* The largest time also means "never". */
                for (size_t i = 0; i < EVENTS && w.now_usec < UINT64_MAX - USEC_PER_HOUR; i++)
                        any_event(&w);
                dps_registration_free(w.g);
        }
}

/* ---- services of one kind ---- */

/* Register and polls get the same answer until the attempt ends. Returns how long it took. */
static uint64_t never_assign(World *w, const DpsReply *reply) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        w->g = g;
        do
                step(w, reply, reply);
        while (dps_registration_in_flight(g) || dps_registration_state(g) == DPS_REGISTRATION_PARKED);
        assert_int_equal(dps_registration_error(g)->id, DPS_ERROR_TIMEOUT);
        return w->now_usec;
}

static void test_with_retry_after_0_it_polls_at_the_limit_until_the_deadline(void **state) {
        World w = { 0 };
        DpsReply reply = { .status = 202, .operation_id = (char *) "4.op", .has_retry_after = true };

        assert_uint_in_range(never_assign(&w, &reply), 590 * USEC_PER_SEC, 600 * USEC_PER_SEC);
        assert_uint_in_range(w.n_polls, 295, 300);
}

static void test_without_retry_after_it_polls_every_2_s_until_the_deadline(void **state) {
        World w = { 0 };

        assert_uint_in_range(never_assign(&w, &ACCEPTED), 595 * USEC_PER_SEC, 600 * USEC_PER_SEC);
        assert_uint_in_range(w.n_polls, 295, 300);
}

/* Of the waits that DPS demands, only a tenth counts towards the deadline. */
static void test_with_long_retry_afters_it_polls_longer_but_not_for_ever(void **state) {
        World w = { 0 };
        DpsReply reply = {
                .status = 202, .operation_id = (char *) "4.op", .has_retry_after = true, .retry_after_sec = 3
        };

        assert_uint_in_range(never_assign(&w, &reply), 30 * USEC_PER_MINUTE, 4 * USEC_PER_HOUR);
}

/*
 * Every third poll is answered with `third`, the others with `status`. Returns the number of polls before it
 * registered again, at most 40.
 */
static uint64_t answer_polls(uint32_t status, uint32_t third) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        World w = { 0 };

        assert_int_equal(dps_registration_new(1, NULL, &g), 0);
        w.g = g;
        do
                step(&w, &ACCEPTED, &(DpsReply){ .status = w.n_polls % 3 == 0 ? third : status });
        while (w.n_polls < 40 &&
               (w.n_polls == 0 || dps_registration_state(g) != DPS_REGISTRATION_REGISTERING));
        return w.n_polls;
}

static void test_after_too_many_failed_polls_it_registers_again(void **state) {
        assert_int_equal(answer_polls(500, 500), 8);
}

static void test_failures_between_good_answers_do_not_end_the_operation(void **state) {
        assert_int_equal(answer_polls(500, 202), 40);
}

static void test_throttled_polls_do_not_end_the_operation(void **state) {
        assert_int_equal(answer_polls(429, 429), 40);
}

/* Each refusal has retry-after 0: it tries each credential once, and then waits a minute. */
static void test_a_service_that_refuses_every_credential_sees_each_once(void **state) {
        _cleanup_(dps_registration_freep) DpsRegistration *g = NULL;
        World w = { 0 };

        assert_int_equal(dps_registration_new(CREDENTIALS_MAX, NULL, &g), 0);
        w.g = g;
        do
                step(&w, &(DpsReply){ .status = 401, .has_retry_after = true }, &ASSIGNED);
        while (dps_registration_in_flight(g));
        assert_int_equal(w.request_id, CREDENTIALS_MAX);
        assert_int_equal(w.now_usec, 0);
        assert_true(dps_registration_next_usec(g) >= 48 * USEC_PER_SEC);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_promises_hold_and_each_registration_is_assigned_in_the_end),
                cmocka_unit_test(test_promises_hold_at_the_largest_times),
                cmocka_unit_test(test_with_retry_after_0_it_polls_at_the_limit_until_the_deadline),
                cmocka_unit_test(test_without_retry_after_it_polls_every_2_s_until_the_deadline),
                cmocka_unit_test(test_with_long_retry_afters_it_polls_longer_but_not_for_ever),
                cmocka_unit_test(test_after_too_many_failed_polls_it_registers_again),
                cmocka_unit_test(test_failures_between_good_answers_do_not_end_the_operation),
                cmocka_unit_test(test_throttled_polls_do_not_end_the_operation),
                cmocka_unit_test(test_a_service_that_refuses_every_credential_sees_each_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
