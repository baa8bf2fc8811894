/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/timex.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/folder-directory.h"
#include "basic/text.h"
#include "basic/times.h"
#include "basic/world-event.h"
#include "build-config.h"
#include "dpsd/clock.h"
#include "dpsd/log.h"

/* Replaces the C library's function. */
static bool kernel_is_synchronized, kernel_keeps_off_rtc;

int adjtimex(struct timex *t) {
        memset(t, 0, sizeof(*t));
        t->maxerror = kernel_is_synchronized ? 1500 : 16000000;
        t->status = kernel_is_synchronized && !kernel_keeps_off_rtc ? 0 : STA_UNSYNC;
        return t->status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}

typedef struct Fixture {
        sd_event *event;
        World *world;
        Folder *folder;
        Clock *clock;
        char directory[64];
        int fd;
        unsigned n_events[2];
} Fixture;

static void on_clock(ClockEvent event, void *userdata) {
        Fixture *f = userdata;

        f->n_events[event]++;
}

static void write_text(Fixture *f, const char *text) {
        assert_int_equal(file_write_atomic(f->fd, ".clock", text, strlen(text), 0600, (gid_t) -1), 0);
}

/* The initial state is the text of a floor, or NULL. */
static int setup(void **state) {
        Fixture *f = test_calloc(1, sizeof(*f));
        const char *text = *state;

        (void) snprintf(f->directory, sizeof(f->directory), "/tmp/dps-test-clock-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->fd >= 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(world_event_new(f->event, &f->world), 0);
        assert_int_equal(directory_folder_new(f->directory, 0700, &f->folder), 0);
        if (text)
                write_text(f, text);
        kernel_is_synchronized = kernel_keeps_off_rtc = false;
        log_set_level(LOG_ERR);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        clock_free(f->clock);
        world_free(f->world);
        folder_free(f->folder);
        sd_event_unref(f->event);
        (void) unlinkat(f->fd, ".clock", 0);
        assert_int_equal(rmdir(f->directory), 0); /* there is no more in it */
        close(f->fd);
        test_free(f);
        return 0;
}

static void write_floor(Fixture *f, uint64_t usec) {
        char text[32];

        (void) snprintf(text, sizeof(text), "%" PRIu64 "\n", usec);
        write_text(f, text);
}

/* The floor on disk once all is written; 0: there is none. */
static uint64_t read_floor(Fixture *f) {
        _cleanup_(freep) char *text = NULL;
        uint64_t usec;
        size_t size;
        int r;

        work_wait(f->world, WORK_DISK);
        r = file_read_at(f->fd, ".clock", 64, &text, &size);
        if (r == -ENOENT)
                return 0;
        assert_int_equal(r, 0);
        assert_int_equal(span_to_u64(span_strip((Span){ text, size }), &usec), 0);
        return usec;
}

static void start(Fixture *f) {
        assert_int_equal(clock_new(f->world, f->folder, on_clock, f, &f->clock), 0);
}

static void a_clock_ahead_of_the_build_is_plausible(void **state) {
        Fixture *f = *state;

        start(f);
        assert_true(clock_is_plausible(f->clock));
        assert_int_equal(clock_behind_usec(f->clock), 0);
}

static void a_clock_behind_the_floor_is_not_plausible(void **state) {
        Fixture *f = *state;

        write_floor(f, now_usec(CLOCK_REALTIME) + 300 * USEC_PER_DAY);
        start(f);
        assert_false(clock_is_plausible(f->clock));
        assert_uint_in_range(clock_behind_usec(f->clock), 299 * USEC_PER_DAY, 300 * USEC_PER_DAY);
}

static void a_floor_in_the_far_future_is_ignored(void **state) {
        Fixture *f = *state;

        write_floor(f, DPS_BUILD_TIME_SEC * USEC_PER_SEC + 31 * USEC_PER_YEAR);
        start(f);
        assert_true(clock_is_plausible(f->clock));
        clock_confirm(f->clock);
        assert_uint_in_range(read_floor(f), 1, now_usec(CLOCK_REALTIME));
}

static const struct garbage_case {
        const char *promise, *text;
} garbage_cases[] = {
        { "an empty floor is replaced", "" },
        { "a floor of zero bytes is replaced", "\n\n" },
        { "a floor that is a word is replaced", "yesterday\n" },
        { "a floor with a tail is replaced", "1795611600000000 or so\n" },
        { "a negative floor is replaced", "-1795611600000000\n" },
        { "a floor beyond 64 bits is replaced", "99999999999999999999999\n" },
        { "a floor of the largest number is replaced", "18446744073709551615\n" },
        { "an endless floor is replaced", "0000000000000000000000000000000000000000000000000001\n" },
};

static void check_garbage(void **state) {
        Fixture *f = *state;

        start(f);
        assert_true(clock_is_plausible(f->clock));
        clock_confirm(f->clock);
        assert_uint_in_range(read_floor(f), now_usec(CLOCK_REALTIME) - USEC_PER_HOUR,
                             now_usec(CLOCK_REALTIME));
}

static void a_confirmed_time_becomes_the_floor(void **state) {
        Fixture *f = *state;

        start(f);
        assert_int_equal(read_floor(f), 0);
        clock_confirm(f->clock);
        assert_uint_in_range(read_floor(f), DPS_BUILD_TIME_SEC * USEC_PER_SEC, now_usec(CLOCK_REALTIME));
}

static void the_floor_is_private(void **state) {
        Fixture *f = *state;
        struct stat st;

        start(f);
        clock_confirm(f->clock);
        work_wait(f->world, WORK_DISK);
        assert_int_equal(fstatat(f->fd, ".clock", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
}

static void the_floor_is_written_once_a_day(void **state) {
        uint64_t floor = now_usec(CLOCK_REALTIME) - 23 * USEC_PER_HOUR;
        Fixture *f = *state;

        write_floor(f, floor);
        start(f);
        clock_confirm(f->clock);
        assert_int_equal(read_floor(f), floor);
}

static void a_floor_of_the_day_before_is_written_again(void **state) {
        uint64_t floor = now_usec(CLOCK_REALTIME) - 25 * USEC_PER_HOUR;
        Fixture *f = *state;

        write_floor(f, floor);
        start(f);
        clock_confirm(f->clock);
        assert_uint_in_range(read_floor(f), floor + USEC_PER_DAY, now_usec(CLOCK_REALTIME));
}

static void an_answer_over_tls_does_not_lower_the_floor(void **state) {
        uint64_t floor = now_usec(CLOCK_REALTIME) + 300 * USEC_PER_DAY;
        Fixture *f = *state;

        write_floor(f, floor);
        start(f);
        clock_confirm(f->clock);
        assert_int_equal(read_floor(f), floor);
        assert_false(clock_is_plausible(f->clock));
}

static void the_floor_gives_way_to_a_synchronised_clock(void **state) {
        uint64_t ahead = now_usec(CLOCK_REALTIME) + 20 * USEC_PER_DAY;
        Fixture *f = *state;

        write_floor(f, ahead);
        start(f);
        assert_false(clock_is_plausible(f->clock));
        kernel_is_synchronized = true;
        clock_jumped(f->clock);
        assert_true(clock_is_plausible(f->clock));
        assert_uint_in_range(read_floor(f), now_usec(CLOCK_REALTIME) - USEC_PER_HOUR,
                             now_usec(CLOCK_REALTIME));

        /* The next run does not wait for the clock. */
        kernel_is_synchronized = false;
        f->clock = clock_free(f->clock);
        start(f);
        assert_true(clock_is_plausible(f->clock));
}

/* `dpsctl check` and the plan ask at any time, also before the next poll. */
static void a_synchronised_clock_is_plausible_at_once(void **state) {
        Fixture *f = *state;

        write_floor(f, now_usec(CLOCK_REALTIME) + 20 * USEC_PER_DAY);
        start(f);
        kernel_is_synchronized = true;
        assert_true(clock_is_plausible(f->clock));
        assert_int_equal(clock_behind_usec(f->clock), 0);
}

/* chrony without rtcsync leaves STA_UNSYNC set. */
static void a_kernel_that_does_not_write_the_rtc_may_be_synchronised(void **state) {
        Fixture *f = *state;

        kernel_is_synchronized = kernel_keeps_off_rtc = true;
        start(f);
        assert_true(clock_is_synchronized(f->clock));
}

static void a_clock_needs_no_state(void **state) {
        Fixture *f = *state;

        assert_int_equal(clock_new(f->world, NULL, on_clock, f, &f->clock), 0);
        clock_confirm(f->clock);
        assert_true(clock_is_plausible(f->clock));
        assert_int_equal(read_floor(f), 0);
}

static void the_kernel_says_whether_it_is_synchronized(void **state) {
        Fixture *f = *state;

        start(f);
        assert_false(clock_is_synchronized(f->clock));
        kernel_is_synchronized = true;
        assert_true(clock_is_synchronized(f->clock));
}

static void synchronization_is_reported_once(void **state) {
        Fixture *f = *state;

        start(f);
        kernel_is_synchronized = true;
        clock_watch_synchronization(f->clock, true);
        assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 1);

        clock_watch_synchronization(f->clock, false);
        clock_watch_synchronization(f->clock, true);
        assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 1);
}

static void synchronization_at_the_start_is_not_reported(void **state) {
        Fixture *f = *state;

        kernel_is_synchronized = true;
        start(f);
        clock_watch_synchronization(f->clock, true);
        assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 0);
}

static void synchronization_is_polled(void **state) {
        Fixture *f = *state;

        start(f);
        clock_watch_synchronization(f->clock, true);
        assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 0);

        kernel_is_synchronized = true;
        assert_true(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 1);
}

static void synchronization_is_not_polled_if_nobody_waits(void **state) {
        Fixture *f = *state;

        start(f);
        kernel_is_synchronized = true;
        clock_watch_synchronization(f->clock, true);
        clock_watch_synchronization(f->clock, false);
        assert_int_equal(sd_event_run(f->event, 0), 0);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 0);
}

static void a_jump_is_passed_on(void **state) {
        Fixture *f = *state;

        start(f);
        clock_jumped(f->clock);
        assert_int_equal(f->n_events[CLOCK_JUMPED], 1);
        assert_int_equal(f->n_events[CLOCK_SYNCHRONIZED], 0);
}

static void freeing_the_clock_waits_until_the_floor_is_written(void **state) {
        Fixture *f = *state;

        start(f);
        clock_confirm(f->clock);
        f->clock = clock_free(f->clock);
        assert_int_equal(faccessat(f->fd, ".clock", F_OK, 0), 0);
}

#define WITH_STATE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        static const struct CMUnitTest fixed[] = {
                WITH_STATE(a_clock_ahead_of_the_build_is_plausible),
                WITH_STATE(a_clock_behind_the_floor_is_not_plausible),
                WITH_STATE(a_floor_in_the_far_future_is_ignored),
                WITH_STATE(a_confirmed_time_becomes_the_floor),
                WITH_STATE(the_floor_is_private),
                WITH_STATE(the_floor_is_written_once_a_day),
                WITH_STATE(a_floor_of_the_day_before_is_written_again),
                WITH_STATE(an_answer_over_tls_does_not_lower_the_floor),
                WITH_STATE(the_floor_gives_way_to_a_synchronised_clock),
                WITH_STATE(a_synchronised_clock_is_plausible_at_once),
                WITH_STATE(a_clock_needs_no_state),
                WITH_STATE(the_kernel_says_whether_it_is_synchronized),
                WITH_STATE(a_kernel_that_does_not_write_the_rtc_may_be_synchronised),
                WITH_STATE(synchronization_is_reported_once),
                WITH_STATE(synchronization_at_the_start_is_not_reported),
                WITH_STATE(synchronization_is_polled),
                WITH_STATE(synchronization_is_not_polled_if_nobody_waits),
                WITH_STATE(a_jump_is_passed_on),
                WITH_STATE(freeing_the_clock_waits_until_the_floor_is_written),
        };
        struct CMUnitTest tests[ELEMENTSOF(fixed) + ELEMENTSOF(garbage_cases)];

        memcpy(tests, fixed, sizeof(fixed));
        for (size_t i = 0; i < ELEMENTSOF(garbage_cases); i++)
                tests[ELEMENTSOF(fixed) + i] =
                        (struct CMUnitTest){ garbage_cases[i].promise, check_garbage, setup, teardown,
                                             (void *) garbage_cases[i].text };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
