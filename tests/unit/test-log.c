/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "dpsd/log.h"

/* stderr is a pipe or a terminal that the test reads; cmocka's own stderr is restored at the end. */
typedef struct Fixture {
        int saved, reader;
        char text[32768];
} Fixture;

static Fixture *fixture_new(int reader, int writer) {
        Fixture *f = test_calloc(1, sizeof(*f));

        f->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        f->reader = reader;
        assert_true(f->saved >= 0 && fcntl(reader, F_SETFL, O_NONBLOCK) >= 0);
        assert_true(dup2(writer, STDERR_FILENO) >= 0);
        close(writer);
        (void) unsetenv("JOURNAL_STREAM");
        (void) unsetenv("NO_COLOR");
        assert_int_equal(setenv("TERM", "linux", 1), 0);
        log_init();
        log_set_level(LOG_INFO);
        return f;
}

static int setup(void **state) {
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        *state = fixture_new(fds[0], fds[1]);
        return 0;
}

static int setup_terminal(void **state) {
        int reader, writer;

        assert_int_equal(openpty(&reader, &writer, NULL, NULL, NULL), 0);
        *state = fixture_new(reader, writer);
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        assert_true(dup2(f->saved, STDERR_FILENO) >= 0);
        close(f->saved);
        closep(&f->reader);
        test_free(f);
        return 0;
}

static const char *fixture_read(Fixture *f) {
        ssize_t n = read(f->reader, f->text, sizeof(f->text) - 1);

        f->text[MAX(n, 0)] = 0;
        return f->text;
}

/* A terminal may deliver one message in several pieces, and with a delay. */
static const char *fixture_read_line(Fixture *f) {
        size_t size = 0;

        do {
                struct pollfd p = { .fd = f->reader, .events = POLLIN };
                ssize_t n;

                assert_int_equal(poll(&p, 1, 20000), 1);
                n = read(f->reader, f->text + size, sizeof(f->text) - 1 - size);
                assert_true(n > 0);
                size += (size_t) n;
                f->text[size] = 0;
        } while (!endswith(f->text, "\n"));
        return f->text;
}

static void set_journal_stream(unsigned long offset) {
        _cleanup_(freep) char *stream = NULL;
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        assert_true(asprintf(&stream, "%lu:%lu", (unsigned long) st.st_dev,
                             (unsigned long) st.st_ino + offset) > 0);
        assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
        log_init();
}

static void on_a_pipe_the_level_precedes_the_message(void **state) {
        log_warning("%s is %i", "x", 3);
        assert_string_equal(fixture_read(*state), "<4>x is 3\n");
}

static void the_identity_precedes_the_message(void **state) {
        log_message(LOG_ERR, &(LogFields){ .identity = "gateway", .hub = "h" }, "refused");
        assert_string_equal(fixture_read(*state), "<3>gateway: refused\n");
}

static void a_message_is_one_line(void **state) {
        log_info("a\nb\r\033[2Jc\x7f\xff\xc2\x9b");
        assert_string_equal(fixture_read(*state), "<6>a?b??[2Jc????\n");
}

static void text_that_runs_backwards_is_not_logged(void **state) {
        log_info("a\u202eexe.gnp\u2066\u200f\u2028\u061c");
        assert_string_equal(fixture_read(*state), "<6>a???exe.gnp???????????\n");
}

static void utf8_is_kept(void **state) {
        log_info("Zürich, 北");
        assert_string_equal(fixture_read(*state), "<6>Zürich, 北\n");
}

static void an_endless_message_is_one_line_that_a_pipe_takes_whole(void **state) {
        _cleanup_(freep) char *long_text = calloc(1, 100000);
        const char *text;

        memset(long_text, 'x', 99999);
        log_message(LOG_INFO, &(LogFields){ .identity = "gateway" }, "%s", long_text);
        text = fixture_read(*state);
        assert_true(startswith(text, "<6>gateway: xxx") && endswith(text, "xxx\n"));
        assert_uint_in_range(strlen(text), 3000, PIPE_BUF);
}

static void a_message_below_the_level_is_not_logged(void **state) {
        log_debug("hidden");
        log_set_level(LOG_DEBUG);
        log_debug("shown");
        log_set_level(LOG_ERR);
        log_warning("hidden");
        assert_string_equal(fixture_read(*state), "<7>shown\n");
}

static void errno_survives(void **state) {
        errno = ENOENT;
        log_info("%m");
        assert_int_equal(errno, ENOENT);
        assert_string_equal(fixture_read(*state), "<6>No such file or directory\n");
}

static void a_reader_that_has_gone_does_not_kill_us(void **state) {
        Fixture *f = *state;

        close(TAKE_FD(f->reader));
        log_error("nobody hears this");
        log_error("nor this");
}

static void a_reader_that_does_not_read_does_not_stop_us(void **state) {
        Fixture *f = *state;

        assert_true(fcntl(f->reader, F_SETPIPE_SZ, 16384) >= 16384);
        for (unsigned i = 0; i < 2000; i++)
                log_info("a line, and another, and another");
        assert_true(startswith(fixture_read(f), "<6>a line"));
        log_info("read again");
        assert_true(startswith(fixture_read(f), "<4>"));
        assert_non_null(strstr(
                f->text,
                " messages before this one were lost: the reader of stderr did not read\n<6>read again\n"));
        log_info("and again");
        assert_string_equal(fixture_read(f), "<6>and again\n");
}

static void on_a_terminal_no_level_precedes_the_message(void **state) {
        log_info("plain");
        assert_string_equal(fixture_read_line(*state), "plain\r\n");
}

static void a_terminal_shows_errors_in_red(void **state) {
        log_error("bad");
        assert_string_equal(fixture_read_line(*state), "\033[1;31mbad\033[0m\r\n");
}

static void colors_can_be_declined(void **state) {
        assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
        log_init();
        log_error("bad");
        assert_string_equal(fixture_read_line(*state), "bad\r\n");
}

static void another_stream_is_not_the_journal(void **state) {
        set_journal_stream(1);
        assert_string_equal(log_target(), "console");
        log_info("here");
        assert_string_equal(fixture_read(*state), "<6>here\n");
}

static void a_malformed_journal_stream_is_ignored(void **state) {
        static const char *const words[] = { "", ":", "1", "1:", ":1", "1:2:3", "1:2 ", "-1:2", "x" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                assert_int_equal(setenv("JOURNAL_STREAM", words[i], 1), 0);
                log_init();
                assert_string_equal(log_target(), "console");
        }
}

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

static int bind_journal(void) {
        static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (const struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

/* Makes a namespace with its own /run, in which the test is the journal. */
static int journal_socket(void) {
        if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                return -errno;
        if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0 || mkdir("/run/systemd", 0755) < 0 ||
            mkdir("/run/systemd/journal", 0755) < 0)
                return -errno;
        return bind_journal();
}

static bool has_line(const char *text, const char *line) {
        size_t n = strlen(line);

        for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
                if (strcspn(p, "\n") == n && memcmp(p, line, n) == 0)
                        return true;
        return false;
}

static int journal_fd; /* -errno: no namespace could be made */

static void the_journal_gets_fields(void **state) {
        char text[4096] = "";

        if (journal_fd < 0)
                return;

        set_journal_stream(0);
        assert_string_equal(log_target(), "journal");
        log_message(LOG_WARNING,
                    &(LogFields){ .identity = "gateway",
                                  .hub = "h.azure-devices.net",
                                  .error_id = "auth",
                                  .error_code = 401002,
                                  .message_id = MESSAGE_ID_FAILED },
                    "refused");
        assert_true(recv(journal_fd, text, sizeof(text) - 1, 0) > 0);
        assert_true(has_line(text, "MESSAGE=gateway: refused"));
        assert_true(has_line(text, "PRIORITY=4"));
        assert_true(has_line(text, "SYSLOG_IDENTIFIER=dpsd"));
        assert_true(has_line(text, "MESSAGE_ID=" MESSAGE_ID_FAILED));
        assert_true(has_line(text, "DPS_IDENTITY=gateway"));
        assert_true(has_line(text, "DPS_HUB=h.azure-devices.net"));
        assert_true(has_line(text, "DPS_ERROR_ID=auth"));
        assert_true(has_line(text, "DPS_ERROR_CODE=401002"));
        assert_null(strstr(text, "DPS_TRACKING_ID"));
        assert_string_equal(fixture_read(*state), "");
}

/* Neither directly nor by stderr, which is connected to it. sd_journal_sendv() would wait here for ever. */
static void a_journal_that_does_not_read_does_not_stop_us(void **state) {
        char text[8192] = "";

        if (journal_fd < 0)
                return;

        set_journal_stream(0);
        for (unsigned i = 0; i < 4000; i++)
                log_message(LOG_INFO, &(LogFields){ .identity = "gateway" },
                            "a line, and another, and another");
        while (recv(journal_fd, text, sizeof(text), 0) > 0)
                assert_true(startswith(text, "MESSAGE=gateway: a line"));
        log_info("read again");
        memset(text, 0, sizeof(text));
        assert_true(recv(journal_fd, text, sizeof(text) - 1, 0) > 0);
        assert_non_null(
                strstr(text, " messages before this one were lost: the journal did not read\nPRIORITY=4\n"));
        memset(text, 0, sizeof(text));
        assert_true(recv(journal_fd, text, sizeof(text) - 1, 0) > 0);
        assert_true(has_line(text, "MESSAGE=read again"));
}

/* The socket of a journal that was started anew. */
static void another_journal_gets_what_follows(void **state) {
        char text[8192] = "";

        if (journal_fd < 0)
                return;

        set_journal_stream(0);
        log_info("to the first");
        assert_true(recv(journal_fd, text, sizeof(text) - 1, 0) > 0);
        close(journal_fd);
        assert_int_equal(unlink(JOURNAL_SOCKET), 0);
        log_info("to none");
        assert_string_equal(fixture_read(*state), "<6>to none\n");
        journal_fd = bind_journal();
        log_info("to the second");
        memset(text, 0, sizeof(text));
        assert_true(recv(journal_fd, text, sizeof(text) - 1, 0) > 0);
        assert_true(has_line(text, "MESSAGE=to the second"));
}

static void what_a_field_brings_makes_no_other_field(void **state) {
        char text[8192] = "";

        if (journal_fd < 0)
                return;

        set_journal_stream(0);
        log_message(LOG_INFO, &(LogFields){ .tracking_id = "a\nPRIORITY=0" }, "text");
        assert_true(recv(journal_fd, text, sizeof(text) - 1, 0) > 0);
        assert_true(has_line(text, "DPS_TRACKING_ID=a") && !has_line(text, "PRIORITY=0"));
}

static void levels_have_the_words_of_systemctl(void **state) {
        static const char *const words[] = { "emerg",   "alert",  "crit", "err",
                                             "warning", "notice", "info", "debug" };

        for (int i = 0; i < (int) ELEMENTSOF(words); i++) {
                assert_int_equal(log_level_from_string(words[i]), i);
                assert_string_equal(log_level_to_string(i), words[i]);
        }
}

static void other_words_are_not_levels(void **state) {
        assert_int_equal(log_level_from_string("loud"), -EINVAL);
        assert_int_equal(log_level_from_string(""), -EINVAL);
        assert_int_equal(log_level_from_string("DEBUG"), -EINVAL);
}

#define ON_PIPE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define ON_TERMINAL(f) cmocka_unit_test_setup_teardown(f, setup_terminal, teardown)

int main(void) {
        char journal_test[128] = "the_journal_gets_fields";
        const struct CMUnitTest tests[] = {
                ON_PIPE(on_a_pipe_the_level_precedes_the_message),
                ON_PIPE(the_identity_precedes_the_message),
                ON_PIPE(a_message_is_one_line),
                ON_PIPE(text_that_runs_backwards_is_not_logged),
                ON_PIPE(utf8_is_kept),
                ON_PIPE(an_endless_message_is_one_line_that_a_pipe_takes_whole),
                ON_PIPE(a_message_below_the_level_is_not_logged),
                ON_PIPE(errno_survives),
                ON_PIPE(a_reader_that_has_gone_does_not_kill_us),
                ON_PIPE(a_reader_that_does_not_read_does_not_stop_us),
                ON_TERMINAL(on_a_terminal_no_level_precedes_the_message),
                ON_TERMINAL(a_terminal_shows_errors_in_red),
                ON_TERMINAL(colors_can_be_declined),
                ON_PIPE(another_stream_is_not_the_journal),
                ON_PIPE(a_malformed_journal_stream_is_ignored),
                cmocka_unit_test(levels_have_the_words_of_systemctl),
                cmocka_unit_test(other_words_are_not_levels),
                { journal_test, the_journal_gets_fields, setup, teardown, NULL },
                ON_PIPE(a_journal_that_does_not_read_does_not_stop_us),
                ON_PIPE(another_journal_gets_what_follows),
                ON_PIPE(what_a_field_brings_makes_no_other_field),
        };

        /* cmocka 1.1.5 reports a skip() as "not ok", so the name of the test says that it was skipped. */
        journal_fd = journal_socket();
        if (journal_fd < 0)
                (void) snprintf(journal_test + strlen(journal_test),
                                sizeof(journal_test) - strlen(journal_test), " # SKIP no /run of our own: %s",
                                strerror(-journal_fd));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
