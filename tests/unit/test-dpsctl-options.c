/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsctl/options.h"
#include "dpsctl/say.h"

static Options options;

static int tear_down(void **state) {
        options_done(&options);
        options = (Options){ 0 };
        return 0;
}

/* getopt_long() sorts argv, so it must be writable and last. */
static char words[256], *argv[16];

static int parse(const char *line) {
        int argc = 0;

        (void) snprintf(words, sizeof(words), "dpsctl %s", line);
        for (char *save, *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
                argv[argc++] = word;
        argv[argc] = NULL;
        return options_parse(argc, argv, &options);
}

static void status_is_the_default(void **state) {
        assert_int_equal(parse("--json=short"), 0);
        assert_string_equal(options.verb, "status");
        assert_int_equal(options.json, JSON_SHORT);
        assert_int_equal(options.n_arguments, 0);
}

static void options_may_stand_anywhere(void **state) {
        assert_int_equal(parse("-q wait gw --timeout=2min north --any"), 0);
        assert_string_equal(options.verb, "wait");
        assert_true(options.quiet && options.any && options.has_timeout);
        assert_int_equal(options.timeout_usec, 2 * USEC_PER_MINUTE);
        assert_int_equal(options.n_arguments, 2);
        assert_string_equal(options.arguments[1], "north");
}

static void without_a_timeout_there_is_none(void **state) {
        assert_int_equal(parse("wait"), 0);
        assert_false(options.has_timeout);
        assert_true(options.timeout_usec == USEC_INFINITY);
}

static void properties_are_collected(void **state) {
        assert_int_equal(parse("show -p Name,State --property=RenewAt"), 0);
        assert_int_equal(strv_length(options.properties), 3);
        assert_string_equal(options.properties[2], "RenewAt");
}

static void an_option_of_another_verb_is_an_error(void **state) {
        assert_int_equal(parse("status --lifetime=1h"), EXIT_USAGE);
        assert_int_equal(parse("show --strict"), EXIT_USAGE);
        assert_int_equal(parse("token gw --lifetime=1h"), 0);
}

static void bad_values_are_errors(void **state) {
        assert_int_equal(parse("--json=yaml"), EXIT_USAGE);
        assert_int_equal(parse("wait --timeout=soon"), EXIT_USAGE);
        assert_int_equal(parse("sas --expiry=0"), EXIT_USAGE);
        assert_int_equal(parse("-H -oProxyCommand=x"), EXIT_USAGE);
        assert_int_equal(parse("--nonsense"), EXIT_USAGE);
}

static void help_and_version_are_verbs(void **state) {
        assert_int_equal(parse("--help"), 0);
        assert_string_equal(options.verb, "help");
        assert_int_equal(parse("--version"), 0);
        assert_string_equal(options.verb, "version");
        assert_int_equal(parse("wait gw --timeout=5 --help --strict"), 0);
        assert_string_equal(options.verb, "help");
        assert_int_equal(options.n_arguments, 0);
}

#define TEST(f) cmocka_unit_test_teardown(f, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(status_is_the_default),
                TEST(options_may_stand_anywhere),
                TEST(without_a_timeout_there_is_none),
                TEST(properties_are_collected),
                TEST(an_option_of_another_verb_is_an_error),
                TEST(bad_values_are_errors),
                TEST(help_and_version_are_verbs),
        };

        return cmocka_run_group_tests_name("dpsctl-options", tests, NULL, NULL);
}
