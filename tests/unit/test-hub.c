/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "basic/times.h"
#include "dps/hub.h"

/* What happens, when (in seconds), and whether it is time to register again. */
typedef enum Event {
        END,
        FAILURE,   /* of `kind`, `times` times (0: once), all at once; the last one gives the answer */
        CONNECTED, /* a program got through */
        SAME_HUB,  /* DPS answered */
        OTHER_HUB,
} Event;

#define AT(sec, what)                                                                                        \
        { .at_sec = (sec), .event = (what) }

static const struct hub_case {
        const char *promise;
        struct {
                uint64_t at_sec;
                Event event;
                DpsHubFailure kind;
                unsigned times;
                bool registers;
        } rows[12];
} cases[] = {
        { "a refused credential is a reason at once", { { 5, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a device that the hub does not know is a reason at once",
          { { 5, FAILURE, DPS_HUB_FAILURE_NOT_FOUND, 0, true } } },
        { "a busy hub is never a reason",
          { { 5, FAILURE, DPS_HUB_FAILURE_THROTTLED, 100, false },
            { 90000, FAILURE, DPS_HUB_FAILURE_THROTTLED, 100, false } } },
        { "a busy hub is not counted with the others",
          { { 5, FAILURE, DPS_HUB_FAILURE_THROTTLED, 50, false },
            { 6, FAILURE, DPS_HUB_FAILURE_SERVER, 9, false },
            { 7, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "nine failures of the server are none, ten are a reason",
          { { 5, FAILURE, DPS_HUB_FAILURE_SERVER, 9, false },
            { 6, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "nine failures of the network are none, ten are a reason",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            { 6, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, true } } },
        { "failures of server and network are one row",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 5, false },
            { 6, FAILURE, DPS_HUB_FAILURE_SERVER, 5, true } } },
        { "a quarter of an hour of failures is a reason, a second less is none",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 904, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 905, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "a failure at time 0 begins a row as any other",
          { { 0, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 899, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 900, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, true } } },
        { "who gets through ends the row",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            AT(6, CONNECTED),
            { 7, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            { 906, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "one registration answers the complaints of many programs",
          { { 5, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            { 6, FAILURE, DPS_HUB_FAILURE_AUTH, 20, false } } },
        { "the same hub that still refuses is asked about ever more rarely",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, SAME_HUB),
            { 129, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(140, SAME_HUB),
            { 379, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 380, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(390, SAME_HUB),
            { 869, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 870, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "with another hub the waits are forgotten",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, SAME_HUB),
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(140, OTHER_HUB),
            { 141, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "who gets through ends no wait: a hub that lets in and then refuses is no loop",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, SAME_HUB),
            AT(20, CONNECTED),
            { 129, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(140, CONNECTED),
            AT(150, SAME_HUB),
            { 389, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 390, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a registration for another reason is not held against the hub",
          { AT(0, SAME_HUB), AT(10, SAME_HUB), { 20, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "nor one that comes in the middle of trouble",
          { { 0, FAILURE, DPS_HUB_FAILURE_NETWORK, 2, false },
            AT(10, SAME_HUB),
            { 20, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "renewals while nobody complains lengthen no wait",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, SAME_HUB),
            AT(20, SAME_HUB),
            AT(30, SAME_HUB),
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a new assignment begins a new row",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            AT(6, SAME_HUB),
            { 7, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            { 906, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "a day without complaints is a hub that works",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, SAME_HUB), /* the wait ends at 130 */
            { 86530, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(86540, SAME_HUB), /* and is the first one again */
            { 86659, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 86660, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
};

static void check(void **state) {
        const struct hub_case *c = *state;
        DpsHubHealth h = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(c->rows) && c->rows[i].event != END; i++) {
                uint64_t now_usec = c->rows[i].at_sec * USEC_PER_SEC;
                bool registers = false;

                switch (c->rows[i].event) {
                case FAILURE:
                        for (unsigned n = 0; n < MAX(c->rows[i].times, 1U); n++)
                                registers = dps_hub_health_on_failure(&h, c->rows[i].kind, now_usec);
                        break;
                case CONNECTED:
                        dps_hub_health_on_connected(&h);
                        break;
                case SAME_HUB:
                case OTHER_HUB:
                        dps_hub_health_on_assigned(&h, c->rows[i].event == OTHER_HUB, now_usec);
                        break;
                case END:
                        break;
                }
                if (registers != c->rows[i].registers)
                        fail_msg("row %zu: %s", i, registers ? "registers" : "does not register");
        }
}

/* The worst programs: they complain every second, for a hundred days, whatever DPS says. */
static void test_a_loop_is_damped_to_once_a_day(void **state) {
        DpsHubHealth h = { 0 };
        unsigned n = 0;

        for (uint64_t sec = 0; sec < 100 * 86400; sec++)
                if (dps_hub_health_on_failure(&h, DPS_HUB_FAILURE_AUTH, sec * USEC_PER_SEC)) {
                        n++;
                        dps_hub_health_on_assigned(&h, false, (sec + 1) * USEC_PER_SEC);
                }
        assert_in_range(n, 100, 112);
}

static void test_the_end_of_time_is_no_trouble(void **state) {
        DpsHubHealth h = { .failures = UINT32_MAX, .fruitless = UINT32_MAX };

        assert_true(dps_hub_health_on_failure(&h, DPS_HUB_FAILURE_AUTH, UINT64_MAX - 1));
        dps_hub_health_on_assigned(&h, false, UINT64_MAX - 1);
        assert_int_equal(h.not_before_usec, UINT64_MAX);
        assert_int_equal(h.fruitless, UINT32_MAX);
        assert_false(dps_hub_health_on_failure(&h, DPS_HUB_FAILURE_AUTH, UINT64_MAX - 1));
}

static void test_every_kind_has_a_word_that_leads_back(void **state) {
        for (DpsHubFailure kind = 0; kind < _DPS_HUB_FAILURE_MAX; kind++) {
                DpsHubFailure back = _DPS_HUB_FAILURE_MAX;

                assert_int_equal(dps_hub_failure_from_string(dps_hub_failure_to_string(kind), &back), 0);
                assert_int_equal(back, kind);
        }
}

static void test_other_words_are_no_kind(void **state) {
        static const char *const words[] = { "", "AUTH", "auth ", "401", "notfound" };
        DpsHubFailure kind = DPS_HUB_FAILURE_SERVER;

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                assert_int_equal(dps_hub_failure_from_string(words[i], &kind), -EINVAL);
        assert_int_equal(kind, DPS_HUB_FAILURE_SERVER);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(cases) + 4] = {
                cmocka_unit_test(test_a_loop_is_damped_to_once_a_day),
                cmocka_unit_test(test_the_end_of_time_is_no_trouble),
                cmocka_unit_test(test_every_kind_has_a_word_that_leads_back),
                cmocka_unit_test(test_other_words_are_no_kind),
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                tests[4 + i] = (struct CMUnitTest){ .name = cases[i].promise,
                                                    .test_func = check,
                                                    .initial_state = (void *) &cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
