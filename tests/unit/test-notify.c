/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/notify.h"

/* The test is the service manager: a datagram socket that is read only when a test does so. */
typedef struct Fixture {
        sd_event *event;
        Notify *notify;
        int fd;
        char path[64];
        char message[2048]; /* the last one */
} Fixture;

static int bind_socket(const char *text) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd;

        memcpy(address.sun_path, text, strlen(text));
        if (*text == '@')
                address.sun_path[0] = 0;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address,
                              (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(text))),
                         0);
        return fd;
}

static Fixture *fixture_new(const char *name, const char *watchdog_usec) {
        Fixture *f = test_calloc(1, sizeof(*f));

        (void) snprintf(f->path, sizeof(f->path), name, (int) getpid());
        f->fd = bind_socket(f->path);
        assert_int_equal(setenv("NOTIFY_SOCKET", f->path, 1), 0);
        if (watchdog_usec)
                assert_int_equal(setenv("WATCHDOG_USEC", watchdog_usec, 1), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(notify_new(f->event, &f->notify), 0);
        return f;
}

static int setup(void **state) {
        *state = fixture_new("@dps-test-notify-%i", NULL);
        return 0;
}

static int setup_in_filesystem(void **state) {
        *state = fixture_new("/tmp/dps-test-notify-%i", NULL);
        return 0;
}

static int setup_watchdog(void **state) {
        *state = fixture_new("@dps-test-notify-%i", "200000");
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        notify_free(f->notify);
        sd_event_unref(f->event);
        close(f->fd);
        if (f->path[0] == '/')
                (void) unlink(f->path);
        test_free(f);
        return 0;
}

/* Returns the message that has arrived already; "" if there is none. */
static const char *fixture_read(Fixture *f) {
        ssize_t n = recv(f->fd, f->message, sizeof(f->message) - 1, 0);

        if (n < 0)
                assert_int_equal(errno, EAGAIN);
        f->message[MAX(n, 0)] = 0;
        return f->message;
}

/* Runs the loop until a message arrives. */
static const char *fixture_wait(Fixture *f) {
        uint64_t deadline = now_usec(CLOCK_MONOTONIC) + 20 * USEC_PER_SEC;

        while (isempty(fixture_read(f))) {
                assert_true(now_usec(CLOCK_MONOTONIC) < deadline);
                assert_true(sd_event_run(f->event, USEC_PER_SEC) >= 0);
        }
        return f->message;
}

/* Sends messages until not one more fits into the socket. */
static unsigned fixture_fill(Fixture *f) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        unsigned n = 0;

        assert_true(fd >= 0);
        memcpy(address.sun_path + 1, f->path + 1, strlen(f->path) - 1);
        while (sendto(fd, "X=1", 3, 0, (struct sockaddr *) &address,
                      (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(f->path))) > 0)
                n++;
        assert_int_equal(errno, EAGAIN);
        close(fd);
        return n;
}

static void fixture_drain(Fixture *f, unsigned n) {
        while (n-- > 0)
                assert_string_equal(fixture_read(f), "X=1");
}

static void readiness_brings_the_status(void **state) {
        Fixture *f = *state;

        notify_status(f->notify, "no identity is configured");
        assert_string_equal(fixture_read(f), "STATUS=no identity is configured");
        notify_ready(f->notify);
        assert_string_equal(fixture_read(f), "READY=1\nSTATUS=no identity is configured");
}

static void readiness_needs_no_status(void **state) {
        Fixture *f = *state;

        notify_ready(f->notify);
        assert_string_equal(fixture_read(f), "READY=1\n");
}

static void stopping_is_sent_at_once(void **state) {
        Fixture *f = *state;

        notify_stopping(f->notify);
        assert_string_equal(fixture_read(f), "STOPPING=1\n");
}

static void a_reload_sends_the_time_of_its_beginning(void **state) {
        uint64_t before = now_usec(CLOCK_MONOTONIC), since;
        Fixture *f = *state;
        const char *text;

        notify_reloading(f->notify);
        text = fixture_read(f);
        assert_true(scan_literal(&text, "RELOADING=1\nMONOTONIC_USEC="));
        assert_int_equal(scan_u64(&text, &since), 0);
        assert_string_equal(text, "\n");
        assert_uint_in_range(since, before, now_usec(CLOCK_MONOTONIC));

        notify_ready(f->notify);
        assert_string_equal(fixture_read(f), "READY=1\n");
}

static void an_unchanged_status_is_not_repeated(void **state) {
        Fixture *f = *state;

        notify_status(f->notify, "one");
        notify_status(f->notify, "one");
        assert_string_equal(fixture_read(f), "STATUS=one");
        notify_ready(f->notify);
        assert_string_equal(fixture_read(f), "READY=1\nSTATUS=one");
        assert_string_equal(fixture_read(f), "");
}

static void only_the_newest_status_follows(void **state) {
        Fixture *f = *state;

        notify_status(f->notify, "one");
        notify_status(f->notify, "two");
        notify_status(f->notify, "three");
        assert_string_equal(fixture_read(f), "STATUS=one");
        assert_string_equal(fixture_read(f), "");
        assert_string_equal(fixture_wait(f), "STATUS=three");
}

static void statuses_are_a_second_apart(void **state) {
        Fixture *f = *state;
        uint64_t first;

        first = now_usec(CLOCK_MONOTONIC);
        notify_status(f->notify, "one");
        notify_status(f->notify, "two");
        assert_string_equal(fixture_read(f), "STATUS=one");
        assert_string_equal(fixture_wait(f), "STATUS=two");
        assert_true(now_usec(CLOCK_MONOTONIC) >= first + USEC_PER_SEC);
}

static void a_line_break_in_a_status_does_not_begin_a_variable(void **state) {
        Fixture *f = *state;

        notify_status(f->notify, "one\nMAINPID=1");
        assert_string_equal(fixture_read(f), "STATUS=one?MAINPID=1");
}

static void a_manager_that_does_not_read_gets_readiness_in_the_end(void **state) {
        Fixture *f = *state;
        unsigned n = fixture_fill(f);

        notify_ready(f->notify);
        fixture_drain(f, n);
        assert_string_equal(fixture_read(f), "");
        assert_string_equal(fixture_wait(f), "READY=1\n");
}

static void a_manager_that_does_not_read_gets_the_newest_status_in_the_end(void **state) {
        Fixture *f = *state;
        unsigned n = fixture_fill(f);

        notify_status(f->notify, "one");
        notify_status(f->notify, "two");
        fixture_drain(f, n);
        assert_string_equal(fixture_wait(f), "STATUS=two");
}

static void a_manager_that_does_not_read_gets_every_turn_in_order(void **state) {
        Fixture *f = *state;
        unsigned n = fixture_fill(f);

        notify_ready(f->notify);
        notify_reloading(f->notify);
        notify_ready(f->notify);
        notify_stopping(f->notify);
        fixture_drain(f, n);
        assert_string_equal(fixture_wait(f), "READY=1\n");
        assert_true(startswith(fixture_wait(f), "RELOADING=1\n"));
        assert_string_equal(fixture_wait(f), "READY=1\n");
        assert_string_equal(fixture_wait(f), "STOPPING=1\n");
}

static void a_reload_replaces_one_that_was_not_sent(void **state) {
        Fixture *f = *state;
        unsigned n = fixture_fill(f);

        notify_reloading(f->notify);
        notify_ready(f->notify);
        notify_reloading(f->notify);
        fixture_drain(f, n);
        assert_true(startswith(fixture_wait(f), "RELOADING=1\n"));
        assert_string_equal(fixture_read(f), "");
        notify_ready(f->notify);
        assert_string_equal(fixture_wait(f), "READY=1\n");
}

static void the_watchdog_is_fed(void **state) {
        Fixture *f = *state;

        assert_string_equal(fixture_wait(f), "WATCHDOG=1\n");
        assert_string_equal(fixture_wait(f), "WATCHDOG=1\n");
}

static void the_socket_is_not_inherited(void **state) {
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_null(getenv("WATCHDOG_USEC"));
}

static void without_a_socket_nothing_happens(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(notify_freep) Notify *n = NULL;

        (void) unsetenv("NOTIFY_SOCKET");
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(notify_new(event, &n), 0);
        notify_status(n, "nobody listens");
        notify_ready(n);
        notify_reloading(n);
        notify_stopping(n);
        assert_int_equal(sd_event_run(event, 0), 0);
}

static void an_address_of_another_kind_is_ignored(void **state) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(notify_freep) Notify *n = NULL;

        assert_int_equal(setenv("NOTIFY_SOCKET", "vsock:2:1234", 1), 0);
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(notify_new(event, &n), 0);
        notify_ready(n);
        assert_int_equal(sd_event_run(event, 0), 0);
}

#define WITH_MANAGER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_MANAGER(readiness_brings_the_status),
                WITH_MANAGER(readiness_needs_no_status),
                { "a socket in the file system will do", readiness_needs_no_status, setup_in_filesystem,
                  teardown, NULL },
                WITH_MANAGER(stopping_is_sent_at_once),
                WITH_MANAGER(a_reload_sends_the_time_of_its_beginning),
                WITH_MANAGER(an_unchanged_status_is_not_repeated),
                WITH_MANAGER(only_the_newest_status_follows),
                WITH_MANAGER(statuses_are_a_second_apart),
                WITH_MANAGER(a_line_break_in_a_status_does_not_begin_a_variable),
                WITH_MANAGER(a_manager_that_does_not_read_gets_readiness_in_the_end),
                WITH_MANAGER(a_manager_that_does_not_read_gets_the_newest_status_in_the_end),
                WITH_MANAGER(a_manager_that_does_not_read_gets_every_turn_in_order),
                WITH_MANAGER(a_reload_replaces_one_that_was_not_sent),
                cmocka_unit_test_setup_teardown(the_watchdog_is_fed, setup_watchdog, teardown),
                cmocka_unit_test_setup_teardown(the_socket_is_not_inherited, setup_watchdog, teardown),
                cmocka_unit_test(without_a_socket_nothing_happens),
                cmocka_unit_test(an_address_of_another_kind_is_ignored),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
