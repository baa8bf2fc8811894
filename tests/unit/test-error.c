/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "dps/error.h"
#include "table.h"

/* ---- the manual ---- */

/* Programs compare these words, so they are a promise. They are in the order of the enum. */
static const char *const words[_DPS_ERROR_MAX] = {
        "",
        "dns",
        "unreachable",
        "refused",
        "timeout",
        "lost",
        "tls",
        "tls-name",
        "tls-expired",
        "tls-untrusted",
        "tls-intercepted",
        "auth",
        "enrollment-disabled",
        "enrollment-unknown",
        "allocation",
        "api-version",
        "request",
        "conflict",
        "throttled",
        "service",
        "protocol",
        "operation-lost",
        "clock",
        "config",
        "key",
        "issuance",
        "disk",
        "memory",
        "proxy",
};

static void test_the_words_of_errors_never_change(void **state) {
        for (DpsErrorId id = 0; id < _DPS_ERROR_MAX; id++)
                assert_string_equal(dps_error_id_to_string(id), words[id]);
}

static void test_every_error_is_found_by_its_word(void **state) {
        for (DpsErrorId id = DPS_ERROR_NONE + 1; id < _DPS_ERROR_MAX; id++) {
                DpsErrorId back = DPS_ERROR_NONE;

                assert_int_equal(dps_error_id_from_string(words[id], &back), 0);
                assert_int_equal(back, id);
        }
}

static void test_other_words_are_not_errors(void **state) {
        static const char *const others[] = { "DNS", "dns ", "tls_name", "auth\n", "nonsense" };
        DpsErrorId id = DPS_ERROR_DISK;

        for (size_t k = 0; k < ELEMENTSOF(others); k++)
                assert_int_equal(dps_error_id_from_string(others[k], &id), -EINVAL);
        assert_int_equal(id, DPS_ERROR_DISK);
}

static void test_every_error_is_explained_in_one_line(void **state) {
        for (DpsErrorId id = 0; id < _DPS_ERROR_MAX; id++) {
                assert_false(isempty(dps_error_id_meaning(id)));
                assert_false(isempty(dps_error_id_advice(id)));
                assert_null(strchr(dps_error_id_meaning(id), '\n'));
                assert_null(strchr(dps_error_id_advice(id), '\n'));
        }
}

static void test_the_words_of_steps_never_change(void **state) {
        static const char *const steps[_DPS_STEP_MAX] = {
                "",          "config",   "resolve", "connect", "tls",    "login",
                "subscribe", "register", "poll",    "store",   "attest",
        };

        for (DpsStep step = 0; step < _DPS_STEP_MAX; step++)
                assert_string_equal(dps_step_to_string(step), steps[step]);
}

/* ---- DPS's codes ---- */

static const struct code_case {
        const char *promise;
        uint32_t code;
        DpsErrorId id;
        DpsVerdict verdict;
} code_cases[] = {
        { "400 is our mistake", 400, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "401 is a refused credential", 401, DPS_ERROR_AUTH, DPS_VERDICT_FINAL },
        { "403 is a refused device", 403, DPS_ERROR_AUTH, DPS_VERDICT_FINAL },
        { "404 is an unknown enrollment", 404, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL },
        { "405 is our mistake", 405, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "409 may pass", 409, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY },
        { "412 is our mistake", 412, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "415 is our mistake", 415, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "429 may pass", 429, DPS_ERROR_THROTTLED, DPS_VERDICT_RETRY },
        { "499 may pass", 499, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY },
        { "500 may pass", 500, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY },
        { "502 may pass", 502, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY },
        { "503 may pass", 503, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY },
        { "504 may pass", 504, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY },
        { "400000 is our mistake", 400000, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "400004 is the API version", 400004, DPS_ERROR_API_VERSION, DPS_VERDICT_FINAL },
        { "400207 is a webhook that failed", 400207, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL },
        { "400208 is an enrollment without a hub", 400208, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL },
        { "400209 is a hub that refused DPS", 400209, DPS_ERROR_ALLOCATION, DPS_VERDICT_FINAL },
        { "401000 is a refused token", 401000, DPS_ERROR_AUTH, DPS_VERDICT_FINAL },
        { "401002 is a refused certificate", 401002, DPS_ERROR_AUTH, DPS_VERDICT_FINAL },
        { "404201 is an unknown enrollment", 404201, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL },
        { "404202 is an unknown enrollment, too", 404202, DPS_ERROR_ENROLLMENT_UNKNOWN, DPS_VERDICT_FINAL },
        { "409000 may pass", 409000, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY },
        { "409203 may pass", 409203, DPS_ERROR_CONFLICT, DPS_VERDICT_RETRY },
        { "429001 may pass", 429001, DPS_ERROR_THROTTLED, DPS_VERDICT_RETRY },
        { "a new code counts as its class: 401", 401777, DPS_ERROR_AUTH, DPS_VERDICT_FINAL },
        { "a new code counts as its class: 503", 503777, DPS_ERROR_SERVICE, DPS_VERDICT_RETRY },
        { "a code next to a known one is not that one", 400005, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "no code counts as final", 0, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "an unknown class is final", 600000, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
        { "the largest number is final", UINT32_MAX, DPS_ERROR_REQUEST, DPS_VERDICT_FINAL },
};

static void check_code(void **state) {
        const struct code_case *c = *state;
        DpsCode code = dps_code_lookup(c->code);

        assert_int_equal(code.id, c->id);
        assert_int_equal(code.verdict, c->verdict);
}

static void test_every_code_is_explained(void **state) {
        for (uint32_t code = 0; code < 600; code++)
                for (uint32_t n = 0; n < 300; n++) {
                        DpsCode c = dps_code_lookup(n == 0 ? code : code * 1000 + n);

                        assert_false(isempty(c.meaning));
                        assert_false(isempty(c.advice));
                        assert_true(c.verdict == DPS_VERDICT_RETRY || c.verdict == DPS_VERDICT_FINAL);
                }
}

static const struct advice_case {
        const char *promise;
        DpsErrorId id;
        uint32_t code, advice_of_code; /* 0: the advice is that of the id */
} advice_cases[] = {
        { "the advice of a code is more exact than that of its id", DPS_ERROR_ALLOCATION, 400209, 400209 },
        { "a refusal because of the clock has the advice of the clock", DPS_ERROR_CLOCK, 401000, 0 },
        { "a lost operation does not have the advice of its 404", DPS_ERROR_OPERATION_LOST, 404201, 0 },
        { "a code of another class than the status gives no advice", DPS_ERROR_SERVICE, 401000, 0 },
        { "an error that is not from DPS has the advice of its id", DPS_ERROR_DNS, 0, 0 },
};

static void check_advice(void **state) {
        const struct advice_case *c = *state;
        const DpsError error = { .id = c->id, .code = c->code };

        assert_string_equal(dps_error_advice(&error), c->advice_of_code
                                                              ? dps_code_lookup(c->advice_of_code).advice
                                                              : dps_error_id_advice(c->id));
}

static const struct cause_case {
        const char *promise;
        DpsErrorId id;
        uint32_t code;
        const char *words;
} cause_cases[] = {
        { "a refused token may be one of an enrollment that does not exist", DPS_ERROR_AUTH, 401000,
          "an unknown registration id is refused like this too" },
        { "a refused certificate may lack its intermediates: that comes first", DPS_ERROR_AUTH, 401002,
          "check that Certificate= has every certificate" },
        { "a refused log-in may be a refused network", DPS_ERROR_AUTH, 0,
          "IP filter, or a private endpoint" },
        { "a refused token may be a refused network", DPS_ERROR_AUTH, 401000,
          "IP filter, or a private endpoint" },
        { "a refused certificate may be a refused network", DPS_ERROR_AUTH, 401002,
          "IP filter, or a private endpoint" },
        { "a forbidden device may be a refused network", DPS_ERROR_AUTH, 403000,
          "IP filter, or a private endpoint" },
        { "a new systemd credential needs a restart", DPS_ERROR_KEY, 0,
          "but a new LoadCredential= only after: systemctl restart dpsd" },
};

static void check_cause(void **state) {
        const struct cause_case *c = *state;
        const DpsError error = { .id = c->id, .code = c->code };

        assert_non_null(strstr(dps_error_advice(&error), c->words));
}

/* It says what has changed, as systemctl does not. */
static void test_a_reload_is_by_dpsctl(void **state) {
        for (DpsErrorId id = DPS_ERROR_NONE + 1; id < _DPS_ERROR_MAX; id++)
                assert_null(strstr(dps_error_id_advice(id), "systemctl reload"));
}

static void test_an_enrollment_without_a_hub_has_other_advice_than_a_hub_that_refused_dps(void **state) {
        assert_string_not_equal(dps_code_lookup(400208).advice, dps_code_lookup(400209).advice);
        assert_string_not_equal(dps_code_lookup(400207).advice, dps_error_id_advice(DPS_ERROR_ALLOCATION));
}

/* ---- setting ---- */

static void test_setting_an_error_replaces_the_earlier_one(void **state) {
        DpsError error = { .code = 401002, .final = true, .tracking_id = "8ad0463c" };

        dps_error_set(&error, DPS_ERROR_DNS, DPS_STEP_RESOLVE, "no address for %s", "dps.example");
        assert_int_equal(error.id, DPS_ERROR_DNS);
        assert_int_equal(error.step, DPS_STEP_RESOLVE);
        assert_int_equal(error.code, 0);
        assert_false(error.final);
        assert_string_equal(error.tracking_id, "");
        assert_string_equal(error.message, "no address for dps.example");
}

static void test_a_message_may_quote_the_one_that_it_replaces(void **state) {
        DpsError error = { .message = "reset" };

        dps_error_set(&error, DPS_ERROR_LOST, DPS_STEP_LOGIN, "lost: %s", error.message);
        assert_string_equal(error.message, "lost: reset");
}

static void test_a_message_is_one_line_without_controls(void **state) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "a%sb", "\n\x1b[31m\xff\xc2\x9b");
        assert_string_equal(error.message, "a??[31m???b");
}

static void check_cut(const char *unit) {
        char text[DPS_MESSAGE_MAX * 4] = "";
        DpsError error;

        for (size_t n = strlen(unit), k = 0; k + n < sizeof(text); k += n)
                memcpy(text + k, unit, n);
        dps_error_set(&error, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "%s", text);
        assert_true(utf8_is_valid(error.message, strlen(error.message)));
        assert_uint_in_range(strlen(error.message), DPS_MESSAGE_MAX - 12, DPS_MESSAGE_MAX - 1);
        assert_null(strchr(error.message, '?'));
}

static void test_a_long_message_is_cut_between_characters(void **state) {
        check_cut("\xc3\xa9\xc3\xa9 ");
        check_cut("\xe2\x82\xac ");
}

static void test_a_long_word_is_cut_between_characters(void **state) {
        check_cut("\xc3\xa9");
        check_cut("\xe2\x82\xac");
        check_cut("\xf0\x9f\x94\x91");
}

#define PATH_32 "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PATH_256 PATH_32 PATH_32 PATH_32 PATH_32 PATH_32 PATH_32 PATH_32 PATH_32

static void test_a_long_word_that_is_not_utf_8_is_cut_too(void **state) {
        char word[2 * DPS_MESSAGE_MAX];
        DpsError error;

        memset(word, 0x80, sizeof(word));
        word[sizeof(word) - 1] = 0;
        dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "%s", word);
        assert_true(strlen(error.message) < DPS_MESSAGE_MAX);
        assert_int_equal(strspn(error.message, "?."), strlen(error.message));
        assert_non_null(strstr(error.message, "..."));
}

static void test_a_long_path_does_not_displace_the_cause(void **state) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "/etc%s/gw.conf:7: Key=: /run%s/gw.key: %s",
                      PATH_256, PATH_256, "Permission denied");
        assert_uint_in_range(strlen(error.message), 1, DPS_MESSAGE_MAX - 1);
        assert_true(startswith(error.message, "/etc/aa"));
        assert_non_null(strstr(error.message, "..."));
        assert_non_null(strstr(error.message, "/gw.conf:7: Key=: /run/aa"));
        assert_true(endswith(error.message, "/gw.key: Permission denied"));
}

static void test_a_path_is_cut_no_more_than_needed(void **state) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "/etc%s: gone", PATH_256);
        assert_uint_in_range(strlen(error.message), DPS_MESSAGE_MAX - 12, DPS_MESSAGE_MAX - 1);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(code_cases) + ELEMENTSOF(advice_cases) + ELEMENTSOF(cause_cases) +
                                16] = {
                cmocka_unit_test(test_the_words_of_errors_never_change),
                cmocka_unit_test(test_every_error_is_found_by_its_word),
                cmocka_unit_test(test_other_words_are_not_errors),
                cmocka_unit_test(test_every_error_is_explained_in_one_line),
                cmocka_unit_test(test_the_words_of_steps_never_change),
                cmocka_unit_test(test_every_code_is_explained),
                cmocka_unit_test(test_a_reload_is_by_dpsctl),
                cmocka_unit_test(
                        test_an_enrollment_without_a_hub_has_other_advice_than_a_hub_that_refused_dps),
                cmocka_unit_test(test_setting_an_error_replaces_the_earlier_one),
                cmocka_unit_test(test_a_message_may_quote_the_one_that_it_replaces),
                cmocka_unit_test(test_a_message_is_one_line_without_controls),
                cmocka_unit_test(test_a_long_message_is_cut_between_characters),
                cmocka_unit_test(test_a_long_word_is_cut_between_characters),
                cmocka_unit_test(test_a_long_word_that_is_not_utf_8_is_cut_too),
                cmocka_unit_test(test_a_long_path_does_not_displace_the_cause),
                cmocka_unit_test(test_a_path_is_cut_no_more_than_needed),
        };
        size_t n = 16;

        ADD_ROWS(tests, n, code_cases, check_code);
        ADD_ROWS(tests, n, advice_cases, check_advice);
        ADD_ROWS(tests, n, cause_cases, check_cause);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
