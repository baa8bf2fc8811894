/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "basic/cleanup.h"
#include "client/way.h"
#include "table.h"

static const struct way_case {
        const char *promise;
        WayFacts facts;
        TransportChoice way;
} way_cases[] = {
        { "MQTT comes first", { 0 }, TRANSPORT_MQTT },
        { "one failure to connect changes nothing",
          { .last = TRANSPORT_MQTT, .failures = 1 },
          TRANSPORT_MQTT },
        { "after two HTTPS is tried", { .last = TRANSPORT_MQTT, .failures = 2 }, TRANSPORT_HTTPS },
        { "HTTPS gets two attempts as well", { .last = TRANSPORT_HTTPS, .failures = 1 }, TRANSPORT_HTTPS },
        { "then it is the turn of MQTT again", { .last = TRANSPORT_HTTPS, .failures = 2 }, TRANSPORT_MQTT },
        { "what worked on this network comes first", { .worked = TRANSPORT_HTTPS }, TRANSPORT_HTTPS },
        { "MQTT is tried where HTTPS no longer works",
          { .worked = TRANSPORT_HTTPS, .last = TRANSPORT_HTTPS, .failures = 2 },
          TRANSPORT_MQTT },
        { "a way that is open is kept, though the other one worked earlier",
          { .worked = TRANSPORT_HTTPS, .last = TRANSPORT_MQTT },
          TRANSPORT_MQTT },
        { "a way that is open is kept, though it is too long ago that it worked",
          { .last = TRANSPORT_HTTPS },
          TRANSPORT_HTTPS },
        { "Transport=mqtt means MQTT alone",
          { .wish = TRANSPORT_MQTT, .last = TRANSPORT_MQTT, .failures = 2 },
          TRANSPORT_MQTT },
        { "Transport=mqtt also counts for TPM attestation",
          { .wish = TRANSPORT_MQTT, .wants_challenge = true },
          TRANSPORT_MQTT },
        { "Transport=https means HTTPS alone",
          { .wish = TRANSPORT_HTTPS, .last = TRANSPORT_HTTPS, .failures = 2 },
          TRANSPORT_HTTPS },
        { "Transport=https is not replaced where it is missing",
          { .wish = TRANSPORT_HTTPS, .https_is_missing = true },
          TRANSPORT_HTTPS },
        { "TPM attestation goes over HTTPS", { .wants_challenge = true }, TRANSPORT_HTTPS },
        { "a proxy that MQTT cannot use is used by HTTPS", { .mqtt_is_barred = true }, TRANSPORT_HTTPS },
        { "without HTTPS there is MQTT",
          { .https_is_missing = true, .last = TRANSPORT_MQTT, .failures = 2 },
          TRANSPORT_MQTT },
};

static void check_way(void **state) {
        const struct way_case *c = *state;

        assert_int_equal(way_choose(&c->facts), c->way);
}

static const struct blocked_case {
        const char *promise;
        DpsErrorId id;
        DpsStep step;
        bool is_blocked;
} blocked_cases[] = {
        { "a refused connection is a blocked way", DPS_ERROR_REFUSED, DPS_STEP_CONNECT, true },
        { "silence is a blocked way", DPS_ERROR_TIMEOUT, DPS_STEP_CONNECT, true },
        { "a handshake that is cut is a blocked way", DPS_ERROR_LOST, DPS_STEP_TLS, true },
        { "interception is a blocked way", DPS_ERROR_TLS_INTERCEPTED, DPS_STEP_TLS, true },
        { "a log-in without an answer is a blocked way", DPS_ERROR_TIMEOUT, DPS_STEP_LOGIN, true },
        { "a refused log-in is an answer", DPS_ERROR_AUTH, DPS_STEP_LOGIN, false },
        { "a refused certificate is an answer", DPS_ERROR_AUTH, DPS_STEP_TLS, false },
        { "a name that cannot be resolved says nothing about the way", DPS_ERROR_DNS, DPS_STEP_RESOLVE,
          false },
        { "a request without an answer is not about the way", DPS_ERROR_TIMEOUT, DPS_STEP_REGISTER, false },
        { "a lack of memory is not about the way", DPS_ERROR_MEMORY, DPS_STEP_CONNECT, false },
};

static void check_blocked(void **state) {
        const struct blocked_case *c = *state;

        assert_int_equal(way_is_blocked(&(DpsError){ .id = c->id, .step = c->step }), c->is_blocked);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(way_cases) + ELEMENTSOF(blocked_cases)];
        size_t n = 0;

        ADD_ROWS(tests, n, way_cases, check_way);
        ADD_ROWS(tests, n, blocked_cases, check_blocked);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
