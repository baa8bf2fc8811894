/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <mosquitto.h>
#include <netdb.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "transport/failure.h"

static const struct errno_case {
        const char *promise;
        int error;
        DpsErrorId id;
        bool tells_why;
} errno_cases[] = {
        { "a refusal is refused", ECONNREFUSED, DPS_ERROR_REFUSED, false },
        { "a failure without an errno is a refusal", 0, DPS_ERROR_REFUSED, false },
        { "a reset is a refusal", ECONNRESET, DPS_ERROR_REFUSED, false },
        { "no route to the network is unreachable", ENETUNREACH, DPS_ERROR_UNREACHABLE, true },
        { "no route to the host is unreachable", EHOSTUNREACH, DPS_ERROR_UNREACHABLE, true },
        { "an address family that this machine has no address of is unreachable", EADDRNOTAVAIL,
          DPS_ERROR_UNREACHABLE, true },
        { "a firewall on this machine is unreachable", EPERM, DPS_ERROR_UNREACHABLE, true },
        { "the kernel's own timeout is a timeout", ETIMEDOUT, DPS_ERROR_TIMEOUT, true },
        { "too many open sockets is memory", EMFILE, DPS_ERROR_MEMORY, true },
};

static void check_errno(void **state) {
        const struct errno_case *c = *state;
        Failure f = failure_from_errno(c->error);

        assert_int_equal(f.id, c->id);
        assert_true(c->tells_why ? streq(f.why, strerror(c->error)) : !f.why);
}

static void connack_codes_are_explained(void **state) {
        static const DpsErrorId ids[] = {
                [1] = DPS_ERROR_PROTOCOL, [2] = DPS_ERROR_PROTOCOL, [3] = DPS_ERROR_SERVICE,
                [4] = DPS_ERROR_AUTH,     [5] = DPS_ERROR_AUTH,     [6] = DPS_ERROR_PROTOCOL,
        };

        for (int code = 1; code <= 6; code++)
                assert_int_equal(failure_from_connack(code).id, ids[code]);
        assert_int_equal(failure_from_connack(255).id, DPS_ERROR_PROTOCOL);
        assert_int_equal(failure_from_connack(-1).id, DPS_ERROR_PROTOCOL);
}

static void a_missing_name_is_not_missing_memory(void **state) {
        assert_int_equal(failure_from_resolver(EAI_NONAME).id, DPS_ERROR_DNS);
        assert_int_equal(failure_from_resolver(EAI_AGAIN).id, DPS_ERROR_DNS);
        assert_int_equal(failure_from_resolver(EAI_MEMORY).id, DPS_ERROR_MEMORY);
}

static void a_bad_peer_is_not_a_lost_connection(void **state) {
        assert_int_equal(failure_from_library(MOSQ_ERR_PROTOCOL, "went").id, DPS_ERROR_PROTOCOL);
        assert_int_equal(failure_from_library(MOSQ_ERR_NOMEM, "went").id, DPS_ERROR_MEMORY);
        assert_int_equal(failure_from_library(MOSQ_ERR_CONN_LOST, "went").id, DPS_ERROR_LOST);
        assert_string_equal(failure_from_library(MOSQ_ERR_ERRNO, "went").what, "went");
}

static void the_error_nearest_to_an_answer_counts(void **state) {
        static const DpsErrorId order[] = { DPS_ERROR_NONE, DPS_ERROR_UNREACHABLE, DPS_ERROR_TIMEOUT,
                                            DPS_ERROR_REFUSED };

        for (size_t i = 1; i < ELEMENTSOF(order); i++)
                assert_true(failure_weight(order[i - 1]) < failure_weight(order[i]));
}

int main(void) {
        static const struct {
                const char *promise;
                CMUnitTestFunction test;
        } others[] = {
                { "each code of CONNACK has its meaning", connack_codes_are_explained },
                { "a missing name is not missing memory", a_missing_name_is_not_missing_memory },
                { "a peer that does not speak MQTT is not a lost connection",
                  a_bad_peer_is_not_a_lost_connection },
                { "the failure nearest to an answer counts", the_error_nearest_to_an_answer_counts },
        };
        struct CMUnitTest tests[ELEMENTSOF(errno_cases) + ELEMENTSOF(others)] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                tests[i] = (struct CMUnitTest){ .name = others[i].promise, .test_func = others[i].test };
        for (size_t i = 0; i < ELEMENTSOF(errno_cases); i++)
                tests[ELEMENTSOF(others) + i] =
                        (struct CMUnitTest){ .name = errno_cases[i].promise,
                                             .test_func = check_errno,
                                             .initial_state = (void *) &errno_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
