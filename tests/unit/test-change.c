/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/times.h"
#include "consumers/change.h"
#include "remove-tree.h"

#define CONNECTION                                                                                           \
        "{\"generation\":7,\"port\":8883,\"hub\":\"a.example\",\"deviceId\":\"gw-1\",\"auth\":\"sas\","      \
        "\"password\":\"one\",\"expiresAt\":1,\"payload\":{\"site\":\"north\"},\"registrationState\":{}}"
#define CERTIFIED                                                                                            \
        "{\"generation\":7,\"port\":8883,\"hub\":\"a.example\",\"deviceId\":\"gw-1\",\"auth\":\"x509\","     \
        "\"certificateFile\":\"/run/dps/gw/cert.pem\",\"certificateExpiresAt\":1}"

static char path[64];
static int fd = -1;

static int set_up(void **state) {
        (void) snprintf(path, sizeof(path), "/tmp/test-change-XXXXXX");
        if (!mkdtemp(path))
                return -1;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 ? 0 : -1;
}

static int tear_down(void **state) {
        (void) close(fd);
        return remove_tree(path);
}

static void put(const char *name, const char *text) {
        assert_int_equal(file_write_atomic(fd, name, text, strlen(text), 0640, (gid_t) -1), 0);
}

static Digests digests_of(const char *connection) {
        uint64_t changed_at_usec;
        Digests d;

        put("connection.json", connection);
        assert_int_equal(digests_read(fd, &d, &changed_at_usec), 0);
        return d;
}

/* Which change it is when one text takes the place of another. */
static Change change_between(const char *before, const char *after) {
        Digests old = digests_of(before), now = digests_of(after);

        return digests_compare(&old, &now);
}

/* The connection with one part replaced. */
static char *with(const char *part, const char *other) {
        static char text[1024];
        const char *at = strstr(CONNECTION, part);

        assert_non_null(at);
        (void) snprintf(text, sizeof(text), "%.*s%s%s", (int) (at - CONNECTION), CONNECTION, other,
                        at + strlen(part));
        return text;
}

static void what_programs_do_not_use_is_no_change(void **state) {
        assert_int_equal(change_between(CONNECTION, CONNECTION), CHANGE_NONE);
        assert_int_equal(change_between(CONNECTION, with("\"generation\":7", "\"generation\":8")),
                         CHANGE_NONE);
        assert_int_equal(change_between(CONNECTION, with("{}", "{\"lastUpdated\":2}")), CHANGE_NONE);
        assert_int_equal(change_between(CONNECTION, with("\"port\"", "\"ofANewerDaemon\":1,\"port\"")),
                         CHANGE_NONE);
}

static void a_new_token_is_a_new_credential(void **state) {
        assert_int_equal(change_between(CONNECTION, with("one", "two")), CHANGE_CREDENTIAL);
}

static void a_new_certificate_is_a_new_credential(void **state) {
        Digests old, now;

        put("cert.pem", "first");
        old = digests_of(CERTIFIED);
        put("cert.pem", "second");
        now = digests_of(CERTIFIED);
        assert_int_equal(digests_compare(&old, &now), CHANGE_CREDENTIAL);
}

static void everything_else_is_a_new_connection(void **state) {
        assert_int_equal(change_between(CONNECTION, with("a.example", "b.example")), CHANGE_CONNECTION);
        assert_int_equal(change_between(CONNECTION, with("gw-1", "gw-2")), CHANGE_CONNECTION);
        assert_int_equal(change_between(CONNECTION, with("north", "south")), CHANGE_CONNECTION);
        assert_int_equal(change_between(CONNECTION, with("8883", "443")), CHANGE_CONNECTION);
        assert_int_equal(change_between(CONNECTION, with("\"auth\"", "\"proxy\":\"http://p\",\"auth\"")),
                         CHANGE_CONNECTION);
}

/* The two are different, although the texts in a row are the same. */
static void a_value_does_not_run_into_the_next(void **state) {
        assert_int_equal(change_between(with("\"hub\":\"a.example\",\"deviceId\":\"gw-1\"",
                                             "\"keyFile\":\"ab\",\"keyUri\":\"c\""),
                                        CONNECTION),
                         CHANGE_CONNECTION);
        assert_int_equal(change_between("{\"idScope\":\"a\"}", "{\"clientId\":\"a\"}"), CHANGE_CONNECTION);
}

static void what_was_never_told_is_a_new_connection(void **state) {
        Digests now = digests_of(CONNECTION);

        assert_int_equal(digests_compare(NULL, &now), CHANGE_CONNECTION);
}

static void what_was_told_is_remembered(void **state) {
        Digests d = digests_of(CONNECTION), read;
        char text[DIGESTS_TEXT_MAX];

        digests_to_text(&d, text);
        assert_int_equal(digests_from_text(text, &read), 0);
        assert_int_equal(digests_compare(&d, &read), CHANGE_NONE);
        text[10] = '\0';
        assert_int_equal(digests_from_text(text, &read), -EBADMSG);
        assert_int_equal(digests_from_text("", &read), -EBADMSG);
}

static void files_that_the_daemon_would_not_write_are_refused(void **state) {
        uint64_t changed_at_usec;
        Digests d;

        assert_int_equal(digests_read(fd, &d, &changed_at_usec), -ENOENT);
        put("connection.json", "[1]");
        assert_int_equal(digests_read(fd, &d, &changed_at_usec), -EBADMSG);
        assert_int_equal(unlinkat(fd, "connection.json", 0), 0);
        assert_int_equal(symlinkat("/etc/passwd", fd, "connection.json"), 0);
        assert_int_equal(digests_read(fd, &d, &changed_at_usec), -EBADMSG);
        assert_int_equal(unlinkat(fd, "connection.json", 0), 0);
        assert_int_equal(mkfifoat(fd, "connection.json", 0600), 0);
        assert_int_equal(digests_read(fd, &d, &changed_at_usec), -EBADMSG);
}

/* Seconds. */
static bool is_older(uint64_t realtime, uint64_t monotonic, uint64_t changed_at, uint64_t now) {
        return unit_is_older(&(UnitStart){ realtime * USEC_PER_SEC, monotonic * USEC_PER_SEC },
                             changed_at * USEC_PER_SEC, now * USEC_PER_SEC);
}

static void only_units_that_started_before_the_change_are_told(void **state) {
        assert_true(is_older(100, 50, 101, 51));
        assert_false(is_older(102, 50, 101, 51));
}

static void a_clock_that_was_ahead_spares_no_unit(void **state) {
        assert_true(is_older(5000, 50, 101, 80));
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(what_programs_do_not_use_is_no_change),
                TEST(a_new_token_is_a_new_credential),
                TEST(a_new_certificate_is_a_new_credential),
                TEST(everything_else_is_a_new_connection),
                TEST(a_value_does_not_run_into_the_next),
                TEST(what_was_never_told_is_a_new_connection),
                TEST(what_was_told_is_remembered),
                TEST(files_that_the_daemon_would_not_write_are_refused),
                TEST(only_units_that_started_before_the_change_are_told),
                TEST(a_clock_that_was_ahead_spares_no_unit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
