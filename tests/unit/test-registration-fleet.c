/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dps/registration.h"

/*
 * A whole fleet gets its power back within one second. The service has the quotas of the real one: 1000
 * registrations a minute for all devices, 5 polls in 10 s for each device. Time is simulated; the network is
 * slow and sometimes breaks.
 */

#define QUOTA 1000
#define MACHINES_MAX 3000
#define OPERATION_SEC 5 /* how long an assignment takes */

typedef struct Machine {
        DpsRegistration *g;
        uint64_t due_usec; /* when `due` happens */
        enum {
                TIME,
                READY,
                LOST,
                ANSWER,
        } due;
        uint64_t request_id;

        DpsReply reply;     /* on its way, or the last one */
        uint64_t told_usec; /* according to the replies that arrived */

        /* what the service knows of it */
        uint64_t assigned_at_usec; /* the end of its operation; 0: it has none */
        uint64_t polls_usec[DPS_POLLS_MAX];
        uint64_t n_polls;
} Machine;

typedef struct Fleet {
        Machine machines[MACHINES_MAX];
        unsigned n_machines;
        unsigned percent_lost; /* of connections, and of requests */
        uint64_t seed;
        uint64_t now_usec;

        uint64_t minute;
        unsigned n_registers_in_minute;
        unsigned n_registers, n_throttled;
} Fleet;

static uint64_t draw(Fleet *f) {
        uint64_t z = f->seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

static DpsMoment moment(Fleet *f) {
        return (DpsMoment){ .now_usec = f->now_usec, .random = draw(f), .clock_synchronized = true };
}

/* ---- the service ---- */

static DpsReply throttle(Fleet *f, uint64_t retry_after_sec) {
        f->n_throttled++;
        return (DpsReply){ .status = 429, .has_retry_after = true, .retry_after_sec = retry_after_sec };
}

static DpsReply on_register(Fleet *f, Machine *m) {
        uint64_t minute = f->now_usec / USEC_PER_MINUTE;

        if (minute != f->minute) {
                f->minute = minute;
                f->n_registers_in_minute = 0;
        }

        f->n_registers++;
        if (++f->n_registers_in_minute > QUOTA)
                return throttle(f, 60 - f->now_usec / USEC_PER_SEC % 60);

        m->assigned_at_usec = f->now_usec + OPERATION_SEC * USEC_PER_SEC;
        return (DpsReply){
                .status = 202, .operation_id = (char *) "4.op", .has_retry_after = true, .retry_after_sec = 3
        };
}

static DpsReply on_poll(Fleet *f, Machine *m) {
        uint64_t *oldest = &m->polls_usec[m->n_polls % DPS_POLLS_MAX];

        assert_true(m->assigned_at_usec > 0);
        assert_true(m->n_polls < DPS_POLLS_MAX ||
                    f->now_usec >= *oldest + DPS_POLLS_WINDOW_SEC * USEC_PER_SEC);
        *oldest = f->now_usec;
        m->n_polls++;

        if (f->now_usec >= m->assigned_at_usec)
                return (DpsReply){ .status = 200, .word = DPS_STATUS_ASSIGNED };
        return (DpsReply){ .status = 202, .word = DPS_STATUS_ASSIGNING };
}

/* ---- the network ---- */

static void plan(Fleet *f, Machine *m, int due, uint64_t most_usec) {
        m->due = due;
        m->due_usec = f->now_usec + USEC_PER_SEC / 50 + dps_fraction_usec(most_usec, draw(f));
}

static void carry(Fleet *f, Machine *m, const DpsRequest *request) {
        m->request_id = request->request_id;
        m->reply = request->kind == DPS_REQUEST_POLL ? on_poll(f, m) : on_register(f, m);
        m->reply.request_id = request->request_id;
        if (draw(f) % 100 < f->percent_lost)
                plan(f, m, LOST, 5 * USEC_PER_SEC);
        else
                plan(f, m, ANSWER, USEC_PER_SEC / 5);
}

static void machine_do(Fleet *f, Machine *m, DpsAction a) {
        switch (a.type) {
        case DPS_ACTION_CONNECT:
                assert_true(f->now_usec >= m->told_usec);
                plan(f, m, draw(f) % 100 < f->percent_lost ? LOST : READY, USEC_PER_SEC / 2);
                return;
        case DPS_ACTION_SEND:
                assert_true(f->now_usec >= m->told_usec);
                carry(f, m, &a.request);
                return;
        case DPS_ACTION_WAIT:
        case DPS_ACTION_RELEASE:
                m->due = TIME;
                m->due_usec = a.wake_usec;
                return;
        case DPS_ACTION_ANSWER_CHALLENGE:
        case DPS_ACTION_FINISH:
                m->due_usec = USEC_INFINITY;
                return;
        }
}

static DpsAction machine_wake(Fleet *f, Machine *m) {
        DpsError error;

        switch (m->due) {
        case TIME:
                return dps_registration_on_time(m->g, moment(f));
        case READY:
                return dps_registration_on_ready(m->g, moment(f));
        case LOST:
                dps_error_set(&error, DPS_ERROR_LOST, DPS_STEP_NONE, "the network broke");
                return dps_registration_on_lost(m->g, &error, moment(f));
        case ANSWER:
                m->told_usec = f->now_usec + m->reply.retry_after_sec * USEC_PER_SEC;
                return dps_registration_on_reply(m->g, &m->reply, moment(f));
        }
        abort();
}

/* ---- the fleet ---- */

static Machine *next_machine(Fleet *f) {
        Machine *next = &f->machines[0];

        for (unsigned i = 1; i < f->n_machines; i++)
                if (f->machines[i].due_usec < next->due_usec)
                        next = &f->machines[i];
        return next->due_usec == USEC_INFINITY ? NULL : next;
}

/* Runs until all are assigned, and returns the time of that. */
static uint64_t fleet_run(Fleet *f) {
        f->now_usec = USEC_PER_HOUR;
        for (unsigned i = 0; i < f->n_machines; i++) {
                Machine *m = &f->machines[i];

                assert_int_equal(dps_registration_new(1, NULL, &m->g), 0);
                machine_do(f, m, dps_registration_begin(m->g, moment(f)));
        }

        for (Machine *m; (m = next_machine(f));) {
                f->now_usec = m->due_usec;
                assert_true(f->now_usec < 2 * USEC_PER_HOUR);
                machine_do(f, m, machine_wake(f, m));
        }

        for (unsigned i = 0; i < f->n_machines; i++) {
                Machine *m = &f->machines[i];

                assert_int_equal(dps_registration_state(m->g), DPS_REGISTRATION_ASSIGNED);
                dps_registration_free(m->g);
        }
        return f->now_usec - USEC_PER_HOUR;
}

static int new_fleet(void **state) {
        *state = calloc(1, sizeof(Fleet));
        return *state ? 0 : -1;
}

static int free_fleet(void **state) {
        free(*state);
        return 0;
}

static void test_a_fleet_within_the_quota_is_assigned_at_once(void **state) {
        Fleet *f = *state;

        f->n_machines = QUOTA;
        assert_uint_in_range(fleet_run(f), 6 * USEC_PER_SEC, 10 * USEC_PER_SEC);
        assert_int_equal(f->n_registers, QUOTA);
        assert_int_equal(f->n_throttled, 0);
}

/*
 * Three times the quota needs three minutes. No device sends sooner than DPS told it to (see machine_do), and
 * few requests are in vain.
 */
static void test_a_fleet_of_three_quotas_is_assigned_as_fast_as_the_service_allows(void **state) {
        Fleet *f = *state;

        f->n_machines = 3 * QUOTA;
        assert_uint_in_range(fleet_run(f), 2 * USEC_PER_MINUTE, 3 * USEC_PER_MINUTE);
        assert_int_equal(f->n_throttled, 2 * QUOTA + QUOTA);
        assert_int_equal(f->n_registers, f->n_machines + f->n_throttled);
}

/*
 * A tenth of all connections and requests is lost. A device with an operation polls it again and does not
 * register twice.
 */
static void test_a_fleet_on_a_bad_network_is_assigned_too(void **state) {
        Fleet *f = *state;

        f->n_machines = QUOTA;
        f->percent_lost = 10;
        (void) fleet_run(f);
        assert_uint_in_range(f->n_registers - f->n_throttled, QUOTA, QUOTA + QUOTA / 7);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_fleet_within_the_quota_is_assigned_at_once, new_fleet,
                                                free_fleet),
                cmocka_unit_test_setup_teardown(
                        test_a_fleet_of_three_quotas_is_assigned_as_fast_as_the_service_allows, new_fleet,
                        free_fleet),
                cmocka_unit_test_setup_teardown(test_a_fleet_on_a_bad_network_is_assigned_too, new_fleet,
                                                free_fleet),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
