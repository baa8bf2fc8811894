/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "emulator/script.h"
#include "table.h"

static const struct answer_case {
        const char *promise, *text;
        ScriptAnswer answer;
} answer_cases[] = {
        { "a status", "429", { .act = SCRIPT_ACT_STATUS, .status = 429 } },
        { "a status for one step, with its options",
          "poll:503,retry-after=7,code=503001,delay=1.5",
          { .step = SCRIPT_STEP_POLL,
            .act = SCRIPT_ACT_STATUS,
            .status = 503,
            .has_retry_after = true,
            .retry_after_sec = 7,
            .has_code = true,
            .code = 503001,
            .delay_usec = 1500 * USEC_PER_MSEC } },
        { "an empty body",
          "register:500,body=",
          { .step = SCRIPT_STEP_REGISTER, .act = SCRIPT_ACT_STATUS, .status = 500, .body = (char *) "" } },
        { "a body keeps its commas",
          "502,body=a,code=1",
          { .act = SCRIPT_ACT_STATUS, .status = 502, .body = (char *) "a,code=1" } },
        { "a word",
          "202,status=unassigned",
          { .act = SCRIPT_ACT_STATUS, .status = 202, .word = (char *) "unassigned" } },
        { "CONNECT can be refused",
          "connect:refuse",
          { .step = SCRIPT_STEP_CONNECT, .act = SCRIPT_ACT_REFUSE } },
        { "silence", "silent", { .act = SCRIPT_ACT_SILENT } },
};

static void check_answer(void **state) {
        const struct answer_case *a = *state;
        _cleanup_(script_answer_freep) ScriptAnswer *answer = NULL;
        ErrorText error = { 0 };

        assert_int_equal(script_answer_parse(a->text, &answer, &error), 0);
        assert_int_equal(answer->step, a->answer.step);
        assert_int_equal(answer->act, a->answer.act);
        assert_int_equal(answer->status, a->answer.status);
        assert_int_equal(answer->has_retry_after, a->answer.has_retry_after);
        assert_int_equal(answer->retry_after_sec, a->answer.retry_after_sec);
        assert_int_equal(answer->has_code, a->answer.has_code);
        assert_int_equal(answer->code, a->answer.code);
        assert_int_equal(answer->delay_usec, a->answer.delay_usec);
        assert_true(streq_ptr(answer->word, a->answer.word));
        assert_true(streq_ptr(answer->body, a->answer.body));
}

static const struct error_case {
        const char *promise, *text;
} error_cases[] = {
        { "an empty text is an error", "" },
        { "a step alone is an error", "poll:" },
        { "an unknown word is an error", "dropped" },
        { "a status must have three digits", "42" },
        { "an unknown option is an error", "429,retry=1" },
        { "an option needs a value", "429,retry-after" },
        { "retry-after must be a number", "429,retry-after=x" },
        { "a delay must be finite", "429,delay=infinity" },
        { "a code must fit into 31 bits", "429,code=2147483648" },
        { "CONNECT cannot be answered with a status", "connect:429" },
        { "no request can be refused", "poll:refuse" },
        { "a SUBSCRIBE has no status", "subscribe:200" },
        { "a header has a name and a value", "200,header=x" },
};

static void check_error(void **state) {
        const struct error_case *f = *state;
        ScriptAnswer *answer = NULL;
        ErrorText error = { 0 };

        assert_int_equal(script_answer_parse(f->text, &answer, &error), -EBADMSG);
        assert_null(answer);
        assert_string_not_equal(error.text, "");
}

static void add(Scripts *s, const char *id, const char *first, const char *second) {
        char *texts[] = { (char *) first, (char *) second, NULL };
        ErrorText error = { 0 };

        assert_int_equal(scripts_add(s, id, texts, &error), 0);
}

/* Takes the next answer and returns its status; 0: there is none. */
static unsigned take(Scripts *s, const char *id, ScriptStep step) {
        _cleanup_(script_answer_freep) ScriptAnswer *a = scripts_take(s, id, step);

        return a ? a->status : 0;
}

static void test_answers_are_taken_in_order_and_once(void **state) {
        _cleanup_(scripts_done) Scripts s = { 0 };

        assert_int_equal(scripts_init(&s), 0);
        add(&s, "gw-1", "401", "402");
        add(&s, "GW-1", "403", NULL);
        assert_int_equal(take(&s, "gw-2", SCRIPT_STEP_POLL), 0);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 401);
        assert_int_equal(take(&s, "Gw-1", SCRIPT_STEP_REGISTER), 402);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 403);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 0);
}

static void test_an_answer_waits_for_its_step(void **state) {
        _cleanup_(scripts_done) Scripts s = { 0 };

        assert_int_equal(scripts_init(&s), 0);
        add(&s, "gw-1", "poll:500", "401");
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_CONNECT), 0);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_REGISTER), 0);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 500);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_CONNECT), 0);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_REGISTER), 401);
}

static void test_a_devices_own_answers_come_before_those_for_all(void **state) {
        _cleanup_(scripts_done) Scripts s = { 0 };

        assert_int_equal(scripts_init(&s), 0);
        add(&s, "*", "500", "501");
        add(&s, "gw-1", "401", NULL);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 401);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 500);
        assert_int_equal(take(&s, "gw-2", SCRIPT_STEP_POLL), 501);
}

static void test_one_faulty_answer_means_that_none_is_added(void **state) {
        _cleanup_(scripts_done) Scripts s = { 0 };
        char *texts[] = { (char *) "401", (char *) "nonsense", NULL };
        ErrorText error = { 0 };

        assert_int_equal(scripts_init(&s), 0);
        assert_int_equal(scripts_add(&s, "gw-1", texts, &error), -EBADMSG);
        assert_int_equal(take(&s, "gw-1", SCRIPT_STEP_POLL), 0);
}

int main(void) {
        struct CMUnitTest tests[32] = {
                cmocka_unit_test(test_answers_are_taken_in_order_and_once),
                cmocka_unit_test(test_an_answer_waits_for_its_step),
                cmocka_unit_test(test_a_devices_own_answers_come_before_those_for_all),
                cmocka_unit_test(test_one_faulty_answer_means_that_none_is_added),
        };
        size_t n = 4;

        ADD_ROWS(tests, n, answer_cases, check_answer);
        ADD_ROWS(tests, n, error_cases, check_error);
        return _cmocka_run_group_tests("script", tests, n, NULL, NULL);
}
