/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"

#include "fleet-queue.h"
#include "fleet.h"

/* The fleet of tests/run fleet, a fiftieth in size, and with it the quota: the time to drain it is the same. */

#define DEVICES 20000
#define QUOTA 20
#define DRAIN_MAX 1.05

static const FleetOptions silent = { .n_devices = DEVICES, .quota = QUOTA, .seed = 1 };
/* A tenth of the time to drain: with retry-after, each device comes back every minute. */
static const FleetOptions told = { .n_devices = DEVICES, .quota = 10 * QUOTA, .tells = true, .seed = 1 };
static const FleetOptions lossy = { .n_devices = DEVICES, .quota = QUOTA, .percent_lost = 5, .seed = 1 };

static FleetFigures run(const FleetOptions *options, const FleetPolicy *policy) {
        FleetFigures g;

        assert_int_equal(fleet_run(options, policy, &g), 0);
        return g;
}

static FleetFigures run_dps(const FleetOptions *options) {
        FleetFigures g = run(options, &fleet_policies[FLEET_DPS]);

        assert_int_equal(g.n_assigned, options->n_devices);
        assert_int_equal(g.n_early, 0);
        assert_int_equal(g.n_poll_floods, 0);
        assert_int_equal(g.n_polls_throttled, 0);
        assert_true(fleet_drain_ratio(options, &g) <= DRAIN_MAX);
        return g;
}

static void test_dps_without_retry_after_drains_the_fleet_and_asks_seldom(void **state) {
        FleetFigures g = run_dps(&silent);

        free(g.minutes);
        assert_int_equal(g.n_abandoned, 0);
        assert_true(g.n_registers < 80 * DEVICES); /* 1000 minutes in steps of 5 to 10 */
}

static void test_dps_with_retry_after_drains_the_fleet_and_asks_once_a_minute(void **state) {
        FleetFigures g = run_dps(&told);

        free(g.minutes);
        assert_int_equal(g.n_abandoned, 0);
        assert_true(g.n_registers < 52 * DEVICES); /* on average half of 100 minutes */
}

static void test_dps_on_a_bad_network_drains_the_fleet_and_resumes_its_operations(void **state) {
        FleetFigures g = run_dps(&lossy), other = run(&lossy, &fleet_policies[FLEET_SDK_NEW]);

        free(g.minutes);
        free(other.minutes);
        /* Only an operation whose id was lost on the way cannot be resumed. */
        assert_uint_in_range(g.n_abandoned, DEVICES / 100, DEVICES / 66);
        assert_true(other.n_abandoned > 2 * g.n_abandoned);
}

static void test_the_same_seed_gives_the_same_figures(void **state) {
        const FleetOptions some = { .n_devices = DEVICES / 10, .quota = QUOTA, .percent_lost = 5, .seed = 1 };
        FleetOptions other_seed = some;

        other_seed.seed++;
        for (size_t p = 0; p < _FLEET_POLICY_MAX; p++) {
                FleetFigures a = run(&some, &fleet_policies[p]), b = run(&some, &fleet_policies[p]);
                FleetFigures c = run(&other_seed, &fleet_policies[p]);

                assert_memory_equal(a.minutes, b.minutes, a.n_minutes * sizeof(*a.minutes));
                assert_int_not_equal(a.fingerprint, c.fingerprint);
                free(a.minutes);
                free(b.minutes);
                free(c.minutes);
                a.minutes = b.minutes = NULL;
                assert_memory_equal(&a, &b, sizeof(a));
        }
}

static void test_each_policy_is_held_to_the_quota(void **state) {
        const FleetOptions some = { .n_devices = DEVICES / 10, .quota = QUOTA, .seed = 1 };

        for (size_t p = 0; p < _FLEET_POLICY_MAX; p++) {
                FleetFigures g = run(&some, &fleet_policies[p]);
                uint64_t n_accepted = g.n_registers - g.n_registers_throttled, n_assigned = 0;

                assert_int_equal(g.n_assigned, some.n_devices);
                assert_int_equal(n_accepted, g.n_assigned + g.n_abandoned);
                for (size_t m = 0; m < g.n_minutes; m++) {
                        n_assigned += g.minutes[m].n_assigned;
                        assert_true(n_assigned <= (m + 1) * QUOTA);
                }
                free(g.minutes);
        }
}

/* ---- the checks find what they are for ---- */

static DpsAction hurry(const FleetPolicy *p, FleetDevice *d, const DpsReply *reply, DpsMoment at) {
        DpsAction a = fleet_policies[FLEET_SDK_C].on_reply(p, d, reply, at);

        if (a.type == DPS_ACTION_WAIT)
                a.wake_usec = at.now_usec + USEC_PER_SEC;
        return a;
}

static void test_who_does_not_wait_as_told_is_found(void **state) {
        const FleetOptions few = { .n_devices = 100, .quota = 1000, .seed = 1 };
        FleetPolicy policy = fleet_policies[FLEET_SDK_C];
        FleetFigures g;

        policy.on_reply = hurry;
        g = run(&few, &policy);
        free(g.minutes);
        assert_uint_in_range(g.n_early, few.n_devices, g.n_polls); /* the first poll of each, at least */
        assert_uint_in_range(g.n_poll_floods, 20, 80); /* whose operation takes longer than five polls */
        assert_true(g.n_polls_throttled >= g.n_poll_floods);
}

static DpsAction give_up(const FleetPolicy *p, FleetDevice *d, const DpsReply *reply, DpsMoment at) {
        return (DpsAction){ .type = DPS_ACTION_RELEASE, .wake_usec = at.now_usec + 30 * USEC_PER_DAY };
}

static void test_who_never_comes_back_is_no_success(void **state) {
        const FleetOptions few = { .n_devices = 100, .quota = 1000, .seed = 1 };
        FleetPolicy policy = fleet_policies[FLEET_SDK_C];
        FleetFigures g;

        policy.on_reply = give_up;
        g = run(&few, &policy);
        free(g.minutes);
        assert_int_equal(g.n_assigned, 0);
        assert_false(fleet_drain_ratio(&few, &g) <= DRAIN_MAX);
}

/* ---- the queue ---- */

static void test_the_queue_gives_a_second_in_order_or_whole(void **state) {
        FleetQueue *q;
        FleetEvent event, before = { 0 };
        uint64_t seed = 1, sum = 0;

        assert_int_equal(fleet_queue_new(2, &q), 0);
        for (uint32_t k = 0; k < 2000; k++) {
                seed = seed * UINT64_C(6364136223846793005) + 1;
                sum += k;
                assert_int_equal(fleet_queue_push(q, (FleetEvent){ (seed >> 33) % USEC_PER_SEC, k }), 0);
        }
        assert_int_equal(fleet_queue_push(q, (FleetEvent){ 2 * USEC_PER_SEC, 0 }),
                         0); /* after the end: dropped */
        assert_int_equal(fleet_queue_size(q), 2000);

        assert_int_equal(fleet_queue_open(q, 0, true), 0);
        for (int k = 0; k < 1000; k++) {
                assert_true(fleet_queue_pop(q, &event));
                assert_true(event.usec > before.usec ||
                            (event.usec == before.usec && event.device >= before.device));
                before = event;
                sum -= event.device;
        }
        fleet_queue_disorder(q);
        while (fleet_queue_pop(q, &event))
                sum -= event.device;
        assert_int_equal(sum, 0);
        assert_int_equal(fleet_queue_size(q), 0);
        fleet_queue_free(q);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dps_without_retry_after_drains_the_fleet_and_asks_seldom),
                cmocka_unit_test(test_dps_with_retry_after_drains_the_fleet_and_asks_once_a_minute),
                cmocka_unit_test(test_dps_on_a_bad_network_drains_the_fleet_and_resumes_its_operations),
                cmocka_unit_test(test_the_same_seed_gives_the_same_figures),
                cmocka_unit_test(test_each_policy_is_held_to_the_quota),
                cmocka_unit_test(test_who_does_not_wait_as_told_is_found),
                cmocka_unit_test(test_who_never_comes_back_is_no_success),
                cmocka_unit_test(test_the_queue_gives_a_second_in_order_or_whole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
