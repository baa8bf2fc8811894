/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "basic/times.h"
#include "basic/world-event.h"

static sd_event *event;
static World *world;
static Timer *timer;
static unsigned n_fired;

static void on_timer(void *userdata) {
        n_fired++;
}

static int set_up(void **state) {
        n_fired = 0;
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(world_event_new(event, &world), 0);
        assert_int_equal(timer_new(world, on_timer, NULL, &timer), 0);
        return 0;
}

static int tear_down(void **state) {
        timer = timer_free(timer);
        world = world_free(world);
        event = sd_event_unref(event);
        return 0;
}

static void a_new_timer_is_off(void **state) {
        assert_int_equal(sd_event_run(event, 0), 0);
        assert_int_equal(n_fired, 0);
}

static void a_timer_fires_once_for_each_time_that_it_is_set(void **state) {
        for (unsigned k = 1; k <= 2; k++) {
                timer_set(timer, 0, 0);
                assert_int_equal(n_fired, k - 1);
                assert_true(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
                assert_int_equal(n_fired, k);
                assert_int_equal(sd_event_run(event, 0), 0);
                assert_int_equal(n_fired, k);
        }
}

static void a_timer_is_not_early(void **state) {
        uint64_t at = world_now_usec(world, CLOCK_BOOTTIME) + 20 * USEC_PER_MSEC;

        timer_set(timer, at, 0);
        while (n_fired == 0)
                assert_true(sd_event_run(event, 20 * USEC_PER_SEC) >= 0);
        assert_true(world_now_usec(world, CLOCK_BOOTTIME) >= at);
}

static void a_timer_can_be_switched_off(void **state) {
        timer_set(timer, 0, 0);
        timer_set(timer, USEC_INFINITY, 0);
        assert_int_equal(sd_event_run(event, 0), 0);
        assert_int_equal(n_fired, 0);
}

static void on_timer_that_frees_it(void *userdata) {
        Timer **t = userdata;

        n_fired++;
        *t = timer_free(*t);
}

static void a_timer_may_be_freed_by_its_handler(void **state) {
        Timer *other;

        assert_int_equal(timer_new(world, on_timer_that_frees_it, &other, &other), 0);
        timer_set(other, 0, 0);
        assert_true(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(n_fired, 1);
        assert_null(other);
}

static void random_numbers_differ(void **state) {
        assert_int_not_equal(world_random(world), world_random(world));
}

static void a_moment_is_the_same_on_both_clocks(void **state) {
        uint64_t now = world_now_usec(world, CLOCK_REALTIME), again;

        again = world_realtime_of(world, world_boottime_of(world, now + USEC_PER_HOUR));
        assert_uint_in_range(again, now + USEC_PER_HOUR - USEC_PER_SEC, now + USEC_PER_HOUR + USEC_PER_SEC);
        assert_int_equal(world_boottime_of(world, USEC_INFINITY), USEC_INFINITY);
        assert_int_equal(world_boottime_of(world, 0), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(a_new_timer_is_off),
                TEST(a_timer_fires_once_for_each_time_that_it_is_set),
                TEST(a_timer_is_not_early),
                TEST(a_timer_can_be_switched_off),
                TEST(a_timer_may_be_freed_by_its_handler),
                TEST(random_numbers_differ),
                TEST(a_moment_is_the_same_on_both_clocks),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
