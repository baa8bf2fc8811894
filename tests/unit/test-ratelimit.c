/* SPDX-License-Identifier: MIT */
#include "dpsd/ratelimit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"

#define NOW (UINT64_C(1000) * USEC_PER_SEC)

static void use_up(RateLimit *l, unsigned n, uint64_t now) {
        for (unsigned k = 0; k < n; k++)
                assert_true(ratelimit_take(l, n, USEC_PER_MINUTE, now, NULL));
}

static void a_full_bucket_gives_its_burst_and_no_more(void **state) {
        RateLimit l = { 0 };
        uint64_t retry;

        use_up(&l, 5, NOW);
        assert_false(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW, &retry));
        assert_int_equal(retry, USEC_PER_MINUTE);
}

static void one_use_is_refilled_per_interval(void **state) {
        RateLimit l = { 0 };
        uint64_t retry;

        use_up(&l, 5, NOW);
        assert_false(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW + USEC_PER_MINUTE - 1, &retry));
        assert_int_equal(retry, 1);
        assert_true(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW + USEC_PER_MINUTE, NULL));
        assert_false(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW + USEC_PER_MINUTE, NULL));
}

static void after_a_long_time_the_bucket_is_only_full(void **state) {
        RateLimit l = { 0 };

        use_up(&l, 5, NOW);
        use_up(&l, 5, NOW + USEC_PER_DAY);
        assert_false(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW + USEC_PER_DAY, NULL));
}

static void a_refusal_costs_nothing(void **state) {
        RateLimit l = { 0 };

        use_up(&l, 5, NOW);
        for (unsigned k = 0; k < 100; k++)
                assert_false(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW + k, NULL));
        assert_true(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW + USEC_PER_MINUTE, NULL));
}

static void a_use_that_is_given_back_can_be_taken_again(void **state) {
        RateLimit l = { 0 };

        use_up(&l, 5, NOW);
        ratelimit_give_back(&l, USEC_PER_MINUTE);
        assert_true(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW, NULL));
        assert_false(ratelimit_take(&l, 5, USEC_PER_MINUTE, NOW, NULL));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_full_bucket_gives_its_burst_and_no_more),
                cmocka_unit_test(one_use_is_refilled_per_interval),
                cmocka_unit_test(after_a_long_time_the_bucket_is_only_full),
                cmocka_unit_test(a_refusal_costs_nothing),
                cmocka_unit_test(a_use_that_is_given_back_can_be_taken_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
