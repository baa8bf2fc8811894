/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "basic/text.h"
#include "table.h"
#include "transport/https-head.h"

#define NOW 1790000000
#define STATUS "HTTP/1.1 429 Too Many Requests\r\n"

static const struct wait_case {
        const char *promise;
        const char *lines[4];
        bool is_told;
        uint64_t sec;
} wait_cases[] = {
        { "seconds are read", { STATUS, "Retry-After: 17\r\n" }, true, 17 },
        { "names have no case, values no blanks", { STATUS, "rEtRy-aFtEr:\t 17 \t\r\n" }, true, 17 },
        { "more seconds than a number holds are a very long time",
          { STATUS, "Retry-After: 99999999999999999999999\r\n" },
          true,
          UINT64_MAX },
        { "a date counts from the server's clock",
          { STATUS, "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
            "Retry-After: Fri, 01 Jan 2100 02:00:00 GMT\r\n" },
          true,
          7200 },
        { "without that a date counts from ours",
          { STATUS, "Retry-After: Mon, 21 Sep 2026 14:13:30 GMT\r\n" },
          true,
          10 },
        { "a date of the old form is understood",
          { STATUS, "Retry-After: Monday, 21-Sep-26 14:13:30 GMT\r\n" },
          true,
          10 },
        { "a date as C writes it is understood",
          { STATUS, "Retry-After: Mon Sep 21 14:13:30 2026\r\n" },
          true,
          10 },
        { "a date with something behind it is not told",
          { STATUS, "Retry-After: Mon, 21 Sep 2026 14:13:30 GMT or so\r\n" },
          false,
          0 },
        { "a date in the past means now",
          { STATUS, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n" },
          true,
          0 },
        { "a word is not told", { STATUS, "Retry-After: soon\r\n" }, false, 0 },
        { "an empty value is not told", { STATUS, "Retry-After:\r\n" }, false, 0 },
        { "a longer name is another header", { STATUS, "Retry-After-All: 17\r\n" }, false, 0 },
        { "what an informational answer said is forgotten",
          { "HTTP/1.1 103 Early Hints\r\n", "Retry-After: 17\r\n", "\r\n", STATUS },
          false,
          0 },
};

static void check_wait(void **state) {
        const struct wait_case *c = *state;
        HttpsHead h = { 0 };
        uint64_t sec = 0;

        for (size_t i = 0; i < ELEMENTSOF(c->lines) && c->lines[i]; i++)
                assert_int_equal(https_head_take(&h, c->lines[i], strlen(c->lines[i])), 0);
        assert_int_equal(https_head_retry_after(&h, NOW, &sec), c->is_told);
        assert_true(sec == c->sec);
        https_head_done(&h);
}

static void test_a_head_has_an_end(void **state) {
        static const char line[1024] = "X-More: ";
        HttpsHead h = { 0 };

        for (size_t n = 0; n < HTTPS_HEAD_SIZE_MAX; n += sizeof(line))
                assert_int_equal(https_head_take(&h, line, sizeof(line)), 0);
        assert_int_equal(https_head_take(&h, line, 1), -E2BIG);
        https_head_done(&h);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(wait_cases) + 1] = { cmocka_unit_test(test_a_head_has_an_end) };
        size_t n = 1;

        ADD_ROWS(tests, n, wait_cases, check_wait);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
