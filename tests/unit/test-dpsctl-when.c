/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "basic/text.h"
#include "dpsctl/when.h"

#define NOW (UINT64_C(1764000000) * USEC_PER_SEC)
#define IN(usec) (NOW + (usec))

static void times_are_relative_to_now(void **state) {
        static const struct {
                uint64_t at_usec;
                const char *text;
        } cases[] = {
                { 0, "-" },
                { NOW, "now" },
                { IN(4 * USEC_PER_MINUTE), "in 4 min" },
                { IN(4 * USEC_PER_MINUTE - USEC_PER_MSEC), "in 4 min" },
                { NOW - 3 * USEC_PER_DAY, "3 days ago" },
        };
        char buffer[WHEN_TEXT_MAX];

        for (size_t k = 0; k < ELEMENTSOF(cases); k++)
                assert_string_equal(format_when(cases[k].at_usec, NOW, buffer), cases[k].text);
}

static void moments_are_absolute_and_relative(void **state) {
        char buffer[MOMENT_TEXT_MAX];

        assert_string_equal(format_moment(NOW - USEC_PER_HOUR, NOW, buffer),
                            "2025-11-24 15:00:00 UTC (1 h ago)");
        assert_string_equal(format_moment(0, NOW, buffer), "-");
}

static const struct next_case {
        const char *promise, *state, *waiting;
        uint64_t next_attempt_at, renew_at, certificate_expires_at;
        uint32_t attempts;
        const char *text;
} next_cases[] = {
        { "a healthy identity renews", "assigned", "", IN(26 * USEC_PER_DAY), IN(26 * USEC_PER_DAY), 0, 0,
          "renews in 26 days" },
        { "a token that dpsd makes itself renews too", "assigned", "", 0, IN(26 * USEC_PER_DAY), 0, 0,
          "renews in 26 days" },
        { "a renewal in flight is shown", "assigned", "", 0, NOW - USEC_PER_SEC, 0, 0, "asking DPS now" },
        { "with a certificate nothing is due until it expires", "assigned", "", 0, 0, IN(80 * USEC_PER_DAY),
          0, "nothing is due; the certificate must be replaced in 80 days at the latest" },
        { "an expired certificate is shown", "assigned", "", 0, 0, NOW - USEC_PER_DAY, 0,
          "waits for a new certificate: this one expired 1 day ago" },
        { "a splayed registration comes before the renewal", "assigned", "", IN(USEC_PER_MINUTE),
          IN(26 * USEC_PER_DAY), 0, 1, "asks DPS again in 1 min" },
        { "a throttled identity says why", "provisioning", "throttled", IN(4 * USEC_PER_MINUTE), 0, 0, 1,
          "throttled, asks DPS again in 4 min: DPS said to wait that long" },
        { "a failed attempt is made again", "provisioning", "retry", IN(10 * USEC_PER_SEC), 0, 0, 1,
          "asks DPS again in 10 s" },
        { "an attempt that is due is made at any moment", "provisioning", "retry", NOW - 1, 0, 0, 1,
          "asks DPS again at any moment" },
        { "before the first attempt, nothing is said of asking again", "provisioning", "",
          IN(USEC_PER_MINUTE), 0, 0, 0, "asks DPS in 1 min" },
        { "an attempt in flight is shown", "provisioning", "", 0, 0, 0, 2, "asking DPS now" },
        { "after a final answer, people can ask sooner", "failed", "retry", IN(USEC_PER_HOUR), 0, 0, 1,
          "asks DPS again in 1 h; to ask sooner: dpsctl reprovision gw" },
        { "a bad configuration waits for people", "failed", "config", 0, 0, 0, 0,
          "nothing until its configuration can be used; after a change: dpsctl reload" },
        { "a corrected file is found without a reload", "failed", "config", IN(9 * USEC_PER_SEC), 0, 0, 0,
          "looks at the files named in its configuration again in 9 s; after a change of the configuration "
          "itself: dpsctl reload" },
        { "a bad configuration takes nothing away", "assigned", "config", 0, 0, 0, 0,
          "continues as before until its configuration can be used; after a change: dpsctl reload" },
        { "it waits for the network", "provisioning", "network", 0, 0, 0, 0, "waits for the network" },
        { "it does not wait for the network for ever", "provisioning", "network", IN(USEC_PER_MINUTE), 0, 0,
          1, "waits for the network, asks DPS again in 1 min at the latest" },
        { "it waits for the clock", "unprovisioned", "clock", 0, 0, 0, 0, "waits for time synchronisation" },
        { "it looks for the key again", "unprovisioned", "key", IN(9 * USEC_PER_SEC), 0, 0, 0,
          "waits for its key to appear, checks again in 9 s" },
        { "it waits for the key without a time", "unprovisioned", "key", 0, 0, 0, 0,
          "waits for its key to appear" },
};

static void an_attempt_in_flight_says_what_it_waits_for(void **state) {
        static const struct {
                const char *step;
                uint64_t since_usec;
                const char *text;
        } cases[] = {
                { "connecting", NOW, "asking DPS now: connects" },
                { "registering", NOW - 2 * USEC_PER_SEC - 1,
                  "asking DPS now, for 2 s: waits for the answer to register" },
                { "polling", NOW - USEC_PER_MINUTE,
                  "asking DPS now, for 1 min: waits for the answer to a poll" },
                { "pausing", NOW - USEC_PER_SEC,
                  "asking DPS now, for 1 s: waits as long as DPS said, and then polls" },
                { "", NOW - USEC_PER_SEC, "asking DPS now, for 1 s" },
                { "of a newer dpsd", NOW, "asking DPS now" },
                { "queued", NOW, "is about to ask DPS, behind other identities (MaxAttempts=)" },
        };
        char buffer[NEXT_TEXT_MAX];

        for (size_t k = 0; k < ELEMENTSOF(cases); k++) {
                Identity i = { .name = (char *) "gw",
                               .state = (char *) "assigned",
                               .waiting = (char *) "",
                               .renew_at = IN(26 * USEC_PER_DAY),
                               .attempt_since = cases[k].since_usec,
                               .attempt_step = (char *) cases[k].step };

                assert_string_equal(identity_next(&i, NOW, buffer), cases[k].text);
                assert_int_equal(identity_next_at(&i), cases[k].since_usec);
        }
}

static void check_next(void **state) {
        const struct next_case *c = *state;
        char buffer[NEXT_TEXT_MAX];
        Identity i = {
                .name = (char *) "gw",
                .state = (char *) c->state,
                .waiting = (char *) c->waiting,
                .next_attempt_at = c->next_attempt_at,
                .renew_at = c->renew_at,
                .certificate_expires_at = c->certificate_expires_at,
                .attempts = c->attempts,
        };

        assert_string_equal(identity_next(&i, NOW, buffer), c->text);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(next_cases) + 3] = {
                cmocka_unit_test(times_are_relative_to_now),
                cmocka_unit_test(moments_are_absolute_and_relative),
                cmocka_unit_test(an_attempt_in_flight_says_what_it_waits_for),
        };

        for (size_t k = 0; k < ELEMENTSOF(next_cases); k++)
                tests[k + 3] = (struct CMUnitTest){ .name = next_cases[k].promise,
                                                    .test_func = check_next,
                                                    .initial_state = (void *) &next_cases[k] };
        return cmocka_run_group_tests_name("dpsctl-when", tests, NULL, NULL);
}
