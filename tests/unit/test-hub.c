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

/* The events with their times in seconds, and whether the device must register then. */
typedef enum Event {
        END,
        FAILURE,   /* of `kind`, `times` times (0: once) at one time; `registers` applies to the last one */
        CONNECTED, /* a program reported it */
        ASSIGNED,  /* DPS assigned a hub, the same or another */
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
        { "a refused credential is at once a reason to register",
          { { 5, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a device that the hub does not know is at once a reason",
          { { 5, FAILURE, DPS_HUB_FAILURE_NOT_FOUND, 0, true } } },
        { "a hub that throttles is never a reason",
          { { 5, FAILURE, DPS_HUB_FAILURE_THROTTLED, 100, false },
            { 90000, FAILURE, DPS_HUB_FAILURE_THROTTLED, 100, false } } },
        { "throttling does not count as a failure",
          { { 5, FAILURE, DPS_HUB_FAILURE_THROTTLED, 50, false },
            { 6, FAILURE, DPS_HUB_FAILURE_SERVER, 9, false },
            { 7, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "ten failures of the server are a reason, nine are not",
          { { 5, FAILURE, DPS_HUB_FAILURE_SERVER, 9, false },
            { 6, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "ten failures of the network are a reason, nine are not",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            { 6, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, true } } },
        { "failures of server and network are counted together",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 5, false },
            { 6, FAILURE, DPS_HUB_FAILURE_SERVER, 5, true } } },
        { "15 minutes of failures are a reason, a second less is not",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 904, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 905, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "a failure at time 0 counts like any other",
          { { 0, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 899, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, false },
            { 900, FAILURE, DPS_HUB_FAILURE_NETWORK, 0, true } } },
        { "a connected program ends the row of failures",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            AT(6, CONNECTED),
            { 7, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            { 906, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "failures of many programs cause one registration",
          { { 5, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            { 6, FAILURE, DPS_HUB_FAILURE_AUTH, 20, false } } },
        { "while hubs refuse, each wait is twice as long",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, ASSIGNED),
            { 129, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(140, ASSIGNED),
            { 379, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 380, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(390, ASSIGNED),
            { 869, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 870, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a connected program does not shorten the wait",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, ASSIGNED),
            AT(20, CONNECTED),
            { 129, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(140, CONNECTED),
            AT(150, ASSIGNED),
            { 389, FAILURE, DPS_HUB_FAILURE_AUTH, 0, false },
            { 390, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a registration for another reason lengthens no wait",
          { AT(0, ASSIGNED), AT(10, ASSIGNED), { 20, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a registration for another reason between failures lengthens no wait",
          { { 0, FAILURE, DPS_HUB_FAILURE_NETWORK, 2, false },
            AT(10, ASSIGNED),
            { 20, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "renewals without failures lengthen no wait",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, ASSIGNED),
            AT(20, ASSIGNED),
            AT(30, ASSIGNED),
            { 130, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true } } },
        { "a new assignment begins a new row",
          { { 5, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            AT(6, ASSIGNED),
            { 7, FAILURE, DPS_HUB_FAILURE_NETWORK, 9, false },
            { 906, FAILURE, DPS_HUB_FAILURE_SERVER, 0, true } } },
        { "after a day without failures the waits begin anew",
          { { 0, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(10, ASSIGNED), /* the wait ends at 130 */
            { 86530, FAILURE, DPS_HUB_FAILURE_AUTH, 0, true },
            AT(86540, ASSIGNED), /* this wait is as short as the first */
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
                case ASSIGNED:
                        dps_hub_health_on_assigned(&h, now_usec);
                        break;
                case END:
                        break;
                }
                if (registers != c->rows[i].registers)
                        fail_msg("row %zu: %s", i, registers ? "registers" : "does not register");
        }
}

/* In the worst case, programs report a failure every second for a hundred days, whatever DPS answers. */
static void test_a_hub_that_always_refuses_causes_one_registration_a_day(void **state) {
        DpsHubHealth h = { 0 };
        unsigned n = 0;

        for (uint64_t sec = 0; sec < 100 * 86400; sec++)
                if (dps_hub_health_on_failure(&h, DPS_HUB_FAILURE_AUTH, sec * USEC_PER_SEC)) {
                        n++;
                        dps_hub_health_on_assigned(&h, (sec + 1) * USEC_PER_SEC);
                }
        assert_uint_in_range(n, 100, 112);
}

static void test_times_do_not_overflow(void **state) {
        DpsHubHealth h = { .failures = UINT32_MAX, .n_registrations = UINT32_MAX };

        assert_true(dps_hub_health_on_failure(&h, DPS_HUB_FAILURE_AUTH, UINT64_MAX - 1));
        dps_hub_health_on_assigned(&h, UINT64_MAX - 1);
        assert_int_equal(h.not_before_usec, UINT64_MAX);
        assert_int_equal(h.n_registrations, UINT32_MAX);
        assert_false(dps_hub_health_on_failure(&h, DPS_HUB_FAILURE_AUTH, UINT64_MAX - 1));
}

static void test_every_kind_is_found_by_its_word(void **state) {
        for (DpsHubFailure kind = 0; kind < _DPS_HUB_FAILURE_MAX; kind++) {
                DpsHubFailure back = _DPS_HUB_FAILURE_MAX;

                assert_int_equal(dps_hub_failure_from_string(dps_hub_failure_to_string(kind), &back), 0);
                assert_int_equal(back, kind);
        }
}

static void test_other_words_are_not_kinds(void **state) {
        static const char *const words[] = { "", "AUTH", "auth ", "401", "notfound" };
        DpsHubFailure kind = DPS_HUB_FAILURE_SERVER;

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                assert_int_equal(dps_hub_failure_from_string(words[i], &kind), -EINVAL);
        assert_int_equal(kind, DPS_HUB_FAILURE_SERVER);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(cases) + 4] = {
                cmocka_unit_test(test_a_hub_that_always_refuses_causes_one_registration_a_day),
                cmocka_unit_test(test_times_do_not_overflow),
                cmocka_unit_test(test_every_kind_is_found_by_its_word),
                cmocka_unit_test(test_other_words_are_not_kinds),
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                tests[4 + i] = (struct CMUnitTest){ .name = cases[i].promise,
                                                    .test_func = check,
                                                    .initial_state = (void *) &cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
