/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "basic/times.h"
#include "basic/world-event.h"
#include "dpsd/clock-jump.h"

/* Replaces the C library's function, since a test cannot set the clock: we write a jump as an event. */
static bool kernel_timer_is_ours, kernel_refuses;
static int clock_timer_fd;
static unsigned n_armed;

int timerfd_create(int clock, int flags) {
        if (kernel_timer_is_ours)
                return clock_timer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return (int) syscall(SYS_timerfd_create, clock, flags);
}

int timerfd_settime(int fd, int flags, const struct itimerspec *new_value, struct itimerspec *old_value) {
        if (flags & TFD_TIMER_CANCEL_ON_SET) { /* sd-event has its own timers */
                n_armed++;
                if (kernel_refuses) {
                        errno = EINVAL;
                        return -1;
                }
        }
        if (kernel_timer_is_ours)
                return 0;
        return (int) syscall(SYS_timerfd_settime, fd, flags, new_value, old_value);
}

/* Replaces libsystemd's function: a minute is a tenth of a second. */
int sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                               uint64_t accuracy, sd_event_time_handler_t handler, void *userdata) {
        return sd_event_add_time(e, ret, clock, now_usec(clock) + usec / 600, 1, handler, userdata);
}

static sd_event *event;
static World *world;
static Clock *time_of_day;
static ClockJump *jump;
static unsigned n_jumps;

static void on_clock(ClockEvent e, void *userdata) {
        n_jumps += e == CLOCK_JUMPED;
}

static int set_up(void **state) {
        kernel_timer_is_ours = kernel_refuses = false;
        n_armed = n_jumps = 0;
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(world_event_new(event, &world), 0);
        assert_int_equal(clock_new(world, NULL, on_clock, NULL, &time_of_day), 0);
        return 0;
}

static int tear_down(void **state) {
        jump = clock_jump_free(jump);
        time_of_day = clock_free(time_of_day);
        world = world_free(world);
        event = sd_event_unref(event);
        return 0;
}

static void no_jump_is_reported_while_nobody_sets_the_clock(void **state) {
        assert_int_equal(clock_jump_new(event, time_of_day, &jump), 0);
        assert_int_equal(sd_event_run(event, 0), 0);
        assert_int_equal(n_jumps, 0);
}

static void each_setting_of_the_clock_is_noticed(void **state) {
        kernel_timer_is_ours = true;
        assert_int_equal(clock_jump_new(event, time_of_day, &jump), 0);
        assert_int_equal(n_armed, 1);
        for (unsigned i = 1; i <= 2; i++) {
                assert_int_equal(eventfd_write(clock_timer_fd, 1), 0);
                assert_true(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
                assert_int_equal(n_jumps, i);
                assert_int_equal(n_armed, 1 + i);
                assert_int_equal(sd_event_run(event, 0), 0);
        }
}

static void without_the_kernels_event_the_clock_is_looked_at_by_time(void **state) {
        kernel_refuses = true;
        assert_int_equal(clock_jump_new(event, time_of_day, &jump), 0);
        assert_true(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(n_jumps, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(no_jump_is_reported_while_nobody_sets_the_clock),
                TEST(each_setting_of_the_clock_is_noticed),
                TEST(without_the_kernels_event_the_clock_is_looked_at_by_time),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
