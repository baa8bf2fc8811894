/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/times.h"
#include "dps/backoff.h"
#include "table.h"

#define N_RANDOMS 2000

static uint64_t scripted_backoff(uint64_t n, uint64_t random) {
        return dps_backoff_usec((uint32_t) n, random);
}

static uint64_t scripted_final(uint64_t n, uint64_t random) {
        return dps_backoff_final_usec((uint32_t) n, random);
}

/* Both ends of each range, for the smallest and the largest random number. */
static const struct range_case {
        const char *promise;
        uint64_t (*wait)(uint64_t n, uint64_t random);
        uint64_t n, least_usec, most_usec;
} range_cases[] = {
        { "the first failure waits 2.5 to 5 s", scripted_backoff, 1, 2500000, 5000000 },
        { "the second waits twice as long", scripted_backoff, 2, 5000000, 10000000 },
        { "the seventh is below the cap", scripted_backoff, 7, 160000000, 320000000 },
        { "the eighth is capped at 10 min", scripted_backoff, 8, 300000000, 600000000 },
        { "failure number 2^32-1 is capped, too", scripted_backoff, UINT32_MAX, 300000000, 600000000 },
        { "failure number 0 counts as the first", scripted_backoff, 0, 2500000, 5000000 },
        { "a delay of 3 s is never shortened", dps_backoff_told_usec, 3, 3000000, 3600000 },
        { "a delay of 0 s stays 0 s", dps_backoff_told_usec, 0, 0, 0 },
        { "a delay of a day is kept", dps_backoff_told_usec, 86400, USEC_PER_DAY, USEC_PER_DAY / 5 * 6 },
        { "a delay of a day and a second is capped at a day", dps_backoff_told_usec, 86401, USEC_PER_DAY,
          USEC_PER_DAY / 5 * 6 },
        { "the longest delay is capped at a day", dps_backoff_told_usec, UINT64_MAX, USEC_PER_DAY,
          USEC_PER_DAY / 5 * 6 },
        { "the first final answer waits 1 min, give or take 20 %", scripted_final, 1,
          USEC_PER_MINUTE * 1 / 5 * 4, USEC_PER_MINUTE * 1 / 5 * 6 },
        { "the second final answer waits 2 min, give or take 20 %", scripted_final, 2,
          USEC_PER_MINUTE * 2 / 5 * 4, USEC_PER_MINUTE * 2 / 5 * 6 },
        { "the third final answer waits 4 min, give or take 20 %", scripted_final, 3,
          USEC_PER_MINUTE * 4 / 5 * 4, USEC_PER_MINUTE * 4 / 5 * 6 },
        { "the fourth final answer waits 8 min, give or take 20 %", scripted_final, 4,
          USEC_PER_MINUTE * 8 / 5 * 4, USEC_PER_MINUTE * 8 / 5 * 6 },
        { "the fifth final answer waits 15 min, give or take 20 %", scripted_final, 5,
          USEC_PER_MINUTE * 15 / 5 * 4, USEC_PER_MINUTE * 15 / 5 * 6 },
        { "the sixth final answer waits 1 h", scripted_final, 6, USEC_PER_HOUR / 5 * 4,
          USEC_PER_HOUR / 5 * 6 },
        { "the tenth final answer waits 16 h", scripted_final, 10, USEC_PER_HOUR * 16 / 5 * 4,
          USEC_PER_HOUR * 16 / 5 * 6 },
        { "the eleventh final answer is capped at a day", scripted_final, 11, USEC_PER_DAY / 5 * 4,
          USEC_PER_DAY / 5 * 6 },
        { "final answer number 2^32-1 is capped, too", scripted_final, UINT32_MAX, USEC_PER_DAY / 5 * 4,
          USEC_PER_DAY / 5 * 6 },
};

static void check_range(void **state) {
        const struct range_case *c = *state;
        uint64_t seed = c->n;

        assert_int_equal(c->wait(c->n, 0), c->least_usec);
        /* The fraction stays below one. */
        assert_uint_in_range(c->wait(c->n, UINT64_MAX), c->most_usec - (c->most_usec > 0), c->most_usec);
        for (unsigned k = 0; k < N_RANDOMS; k++)
                assert_uint_in_range(c->wait(c->n, next_random(&seed)), c->least_usec, c->most_usec);
}

static void test_waits_never_shrink_as_failures_add_up(void **state) {
        uint64_t seed = 1;

        for (unsigned k = 0; k < N_RANDOMS; k++) {
                uint64_t random = next_random(&seed);

                for (uint32_t n = 1; n < 40; n++) {
                        assert_true(dps_backoff_usec(n, random) <= dps_backoff_usec(n + 1, random));
                        assert_true(dps_backoff_final_usec(n, random) <=
                                    dps_backoff_final_usec(n + 1, random));
                }
        }
}

static const struct fraction_case {
        const char *promise;
        uint64_t usec, random, fraction;
} fraction_cases[] = {
        { "half of 10 is 5", 10, UINT64_C(1) << 63, 5 },
        { "a quarter of 10 is 2, rounded down", 10, UINT64_C(1) << 62, 2 },
        { "the fraction 0 of the largest number is 0", UINT64_MAX, 0, 0 },
        { "the largest fraction of the largest number is one less", UINT64_MAX, UINT64_MAX, UINT64_MAX - 1 },
        { "the largest fraction of 1 is 0", 1, UINT64_MAX, 0 },
        { "carries reach the upper half", UINT64_C(0xffffffff00000001), UINT64_C(0xffffffffffffffff),
          UINT64_C(0xffffffff00000000) },
};

static void check_fraction(void **state) {
        const struct fraction_case *c = *state;

        assert_int_equal(dps_fraction_usec(c->usec, c->random), c->fraction);
        assert_int_equal(dps_fraction_usec(c->random, c->usec), c->fraction);
}

#ifdef __SIZEOF_INT128__
static void test_a_fraction_is_the_upper_half_of_the_product(void **state) {
        uint64_t seed = 2;

        for (unsigned k = 0; k < N_RANDOMS; k++) {
                uint64_t a = next_random(&seed), b = next_random(&seed);

                assert_int_equal(dps_fraction_usec(a, b), (uint64_t) ((unsigned __int128) a * b >> 64));
        }
}
#endif

/* ---- a device's own numbers ---- */

/* These numbers decide when devices renew, so no release may change them. */
static void test_a_device_always_has_the_same_number(void **state) {
        assert_int_equal(dps_stable_random("gw-1", "renew"), UINT64_C(0x0f2d41aab06510a1));
        assert_int_equal(dps_stable_random("gw-1", "splay"), UINT64_C(0xfd3026cc5ea802ef));
}

static void test_device_and_purpose_are_kept_apart(void **state) {
        assert_int_not_equal(dps_stable_random("a", "bc"), dps_stable_random("ab", "c"));
        assert_int_not_equal(dps_stable_random("a", ""), dps_stable_random("", "a"));
}

/* 16 buckets with 1000 each on average: the limit is six standard deviations. */
static void test_devices_spread_evenly(void **state) {
        static const char *const purposes[] = { "renew", "splay" };

        for (size_t p = 0; p < ELEMENTSOF(purposes); p++) {
                unsigned buckets[16] = { 0 };

                for (unsigned k = 0; k < 16000; k++) {
                        char device[32];

                        (void) snprintf(device, sizeof(device), "gw-%06u", k);
                        buckets[dps_stable_random(device, purposes[p]) >> 60]++;
                }
                for (size_t b = 0; b < ELEMENTSOF(buckets); b++)
                        assert_uint_in_range(buckets[b], 1000 - 184, 1000 + 184);
        }
}

static const struct renew_case {
        const char *promise;
        uint64_t expires_at_usec, before_usec, random, renew_at_usec;
} renew_cases[] = {
        { "the latest renewal is at half of the time before", 1000, 100, 0, 950 },
        { "the middle renewal is at three quarters of it", 1000, 100, UINT64_C(1) << 63, 925 },
        { "the earliest renewal is at nearly all of it", 1000, 100, UINT64_MAX, 901 },
        { "a renewal before time 0 is at time 0", 10, 100, 0, 0 },
        { "without time before, the renewal is at the expiry", 1000, 0, UINT64_MAX, 1000 },
};

static void check_renew(void **state) {
        const struct renew_case *c = *state;

        assert_int_equal(dps_renew_at_usec(c->expires_at_usec, c->before_usec, c->random), c->renew_at_usec);
}

int main(void) {
        struct CMUnitTest
                tests[ELEMENTSOF(range_cases) + ELEMENTSOF(fraction_cases) + ELEMENTSOF(renew_cases) + 5] = {
                        cmocka_unit_test(test_waits_never_shrink_as_failures_add_up),
                        cmocka_unit_test(test_a_device_always_has_the_same_number),
                        cmocka_unit_test(test_device_and_purpose_are_kept_apart),
                        cmocka_unit_test(test_devices_spread_evenly),
                };
        size_t n = 4;

#ifdef __SIZEOF_INT128__
        tests[n++] = (struct CMUnitTest) cmocka_unit_test(test_a_fraction_is_the_upper_half_of_the_product);
#endif
        ADD_ROWS(tests, n, range_cases, check_range);
        ADD_ROWS(tests, n, fraction_cases, check_fraction);
        ADD_ROWS(tests, n, renew_cases, check_renew);
        return _cmocka_run_group_tests("backoff", tests, n, NULL, NULL);
}
