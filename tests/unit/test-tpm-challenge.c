/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "basic/json.h"
#include "basic/times.h"
#include "dps/sas.h"
#include "dps/tpm.h"
#include "emulator/attest.h"

/*
 * What the emulator builds is opened by a real (software) TPM in tests/integration/test_tpm.py; here, the service
 * is asked as a transport asks it.
 */

/* An endorsement key that was published; it takes the part of the storage root key, too. */
#define KEY                                                                                                  \
        "AToAAQALAAMAsgAgg3GXZ0SEs/"                                                                         \
        "gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAopqgkUBwtpr1sCgVJcEZ"                         \
        "xsJtpmtOAt9K7SjGFe4hsp6DJ/"                                                                         \
        "dd2E5UFzBC+Jp8Fzqf5ukRBkqrAgIuAvHRsruIedk1uarJSLhbDpFLHxFd7iDNcYfrvdgVNT2T"                         \
        "9zrvkh2y04WuRQg2D5qf0tZF82jeTjR/YJK7uWhaRwWOwZ3b1XD9l6wFOrwK/"                                      \
        "Ic0PEsjneFXQzL0n9uKyuHmHNz+wHppmOiMAabv"                                                            \
        "nXXEin9ou7/iowY/+YhFm3j7atsVvxMI5HEM3Mq+W4imUuzPxVX7fZH+oWPKP5ofpWBTf+MdttGby1AjGnv8JE69JriOYoZG2/" \
        "4q"                                                                                                 \
        "bsfv9M7a7NFrBlaW7Rt36w=="
#define ENROLLMENT                                                                                           \
        "{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":\"tpm\",\"tpm\":{\"endorsementKey\":\"" KEY  \
        "\"}}}"
#define BODY                                                                                                 \
        "{\"registrationId\":\"gw-1\",\"tpm\":{\"endorsementKey\":\"" KEY "\",\"storageRootKey\":\"" KEY     \
        "\"}}"
#define NOW (UINT64_C(1700000000) * USEC_PER_SEC)

static int fill(void *ret, size_t size, void *userdata) {
        unsigned *number = userdata;

        for (size_t k = 0; k < size; k++) {
                *number = *number * 1103515245 + 12345;
                ((uint8_t *) ret)[k] = (uint8_t) (*number >> 16);
        }
        return 0;
}

static unsigned seed;
static Service *service;
static Answer answer;

static int set_up(void **state) {
        static const char document[] =
                "{\"hubs\":[\"hub-1.example\"],\"assigningTime\":0,\"individualEnrollments\":"
                "[" ENROLLMENT "]}";
        _cleanup_(json_freep) json_object *o = json_tokener_parse(document);
        ErrorText error = { 0 };

        seed = 1;
        assert_int_equal(service_new(o, &(RandomSource){ fill, &seed }, &service, &error), 0);
        return 0;
}

static int tear_down(void **state) {
        answer_done(&answer);
        service = service_free(service);
        return 0;
}

static int log_in(const char *id, const char *token, bool is_mqtt, Caller *ret) {
        Login login = { LOGIN_DEVICE, (char *) "0ne00AABBCC", (char *) id, (char *) "2019-03-31" };
        const char *why = NULL;

        return attest_device(service, &login,
                             &(Credentials){ .client_id = id, .password = token, .is_mqtt = is_mqtt }, NOW,
                             ret, &why);
}

static void ask(const Caller *caller, const char *body) {
        answer_done(&answer);
        assert_int_equal(service_register(service, caller, body, strlen(body), NOW, &answer), 0);
}

static char *token_for(const char *resource, const DpsKey *key) {
        char *token;

        assert_int_equal(dps_sas_new(key, resource, NOW / USEC_PER_SEC + 3600, NULL, &token), 0);
        return token;
}

static const TpmState *tpm_state(void) {
        const Device *device = service_find_device(service, "hub-1.example", "gw-1");

        return device ? device->tpm : NULL;
}

static void test_the_challenge_has_the_parts_that_a_tpm_takes(void **state) {
        _cleanup_(caller_done) Caller caller = { 0 };
        _cleanup_(json_freep) json_object *o = NULL;
        _cleanup_(dps_tpm_key_done) DpsTpmKey key = { 0 };

        assert_int_equal(log_in("gw-1", NULL, false, &caller), 1);
        ask(&caller, BODY);
        assert_int_equal(answer.status, 401);
        o = json_tokener_parse(answer.body);
        assert_string_equal(json_string(json_member(o, "keyName")), "registration");
        assert_int_equal(dps_tpm_key_split(json_string(json_member(o, "authenticationKey")), &key), 0);
        assert_int_equal(key.credential.size, 52);
        assert_int_equal(key.credential_secret.size, 256);
        assert_int_equal(key.duplicate.size, 142);
        assert_int_equal(key.duplicate_seed.size, 256);
        assert_int_equal(key.public_area.size, 48);
}

static void test_a_body_without_a_storage_root_key_is_a_bad_request(void **state) {
        static const char *const bodies[] = {
                "",
                "{}",
                "{\"tpm\":{}}",
                "{\"tpm\":{\"storageRootKey\":7}}",
                "{\"tpm\":{\"storageRootKey\":\"AAAA\"}}",
                "{\"tpm\":{\"storageRootKey\":\"not base64\"}}",
        };
        _cleanup_(caller_done) Caller caller = { 0 };

        assert_int_equal(log_in("gw-1", NULL, false, &caller), 1);
        for (size_t k = 0; k < ELEMENTSOF(bodies); k++) {
                ask(&caller, bodies[k]);
                assert_int_equal(answer.status, 400);
        }
}

static void test_an_unknown_device_is_told_so_at_register(void **state) {
        _cleanup_(caller_done) Caller caller = { 0 };

        assert_int_equal(log_in("gw-2", NULL, false, &caller), 1);
        ask(&caller, "{}");
        assert_int_equal(answer.status, 404);
        assert_int_equal(answer.error_code, 404201);
}

static void
test_over_mqtt_a_device_without_a_token_is_refused_unless_the_behaviour_says_otherwise(void **state) {
        _cleanup_(caller_done) Caller caller = { 0 };

        assert_int_equal(log_in("gw-1", NULL, true, &caller), 0);
        service->roster->behaviour.tpm_over_mqtt = true;
        assert_int_equal(log_in("gw-1", NULL, true, &caller), 1);
}

static void test_a_poll_needs_a_token(void **state) {
        _cleanup_(caller_done) Caller caller = { 0 };

        assert_int_equal(log_in("gw-1", NULL, false, &caller), 1);
        answer_done(&answer);
        assert_int_equal(service_poll(service, &caller, "5.0", NOW, &answer), 0);
        assert_int_equal(answer.status, 401);
}

static void test_only_the_key_of_the_challenge_registers_and_only_the_next_one_opens_the_hub(void **state) {
        static const char resource[] = "0ne00AABBCC%2Fregistrations%2Fgw-1",
                          hub_resource[] = "hub-1.example%2Fdevices%2Fgw-1";
        Login hub = { LOGIN_HUB, (char *) "hub-1.example", (char *) "gw-1", (char *) "2021-04-12" };
        _cleanup_(caller_done) Caller nobody = { 0 }, wrong = { 0 }, right = { 0 };
        _cleanup_(freep) char *bad = NULL, *good = NULL, *early = NULL, *late = NULL, *operation = NULL;
        const DpsKey other = { .size = 32 };
        const char *why = NULL;

        assert_int_equal(log_in("gw-1", NULL, false, &nobody), 1);
        ask(&nobody, BODY);
        bad = token_for(resource, &other);
        assert_int_equal(log_in("gw-1", bad, false, &wrong), 1);
        ask(&wrong, BODY);
        assert_int_equal(answer.status, 401);
        assert_null(strstr(answer.body, "authenticationKey"));

        ask(&nobody, BODY);
        service->roster->behaviour.assign_at_once = false;
        good = token_for(resource,
                         &((Device *) lh_entry_v(lh_table_head(service->devices)))->tpm->registration);
        assert_int_equal(log_in("gw-1", good, false, &right), 1);
        ask(&right, BODY);
        assert_int_equal(answer.status, 202);
        operation = strdup(answer.operation_id);
        answer_done(&answer);
        assert_int_equal(service_poll(service, &right, operation, NOW, &answer), 0);
        assert_int_equal(answer.status, 200);
        assert_non_null(strstr(answer.body, "\"tpm\":{\"authenticationKey\":\"A"));

        early = token_for(hub_resource, &tpm_state()->registration);
        late = token_for(hub_resource, &tpm_state()->hub);
        assert_int_equal(attest_hub(service, &hub, &(Credentials){ .client_id = "gw-1", .password = early },
                                    NOW, &why),
                         0);
        assert_int_equal(
                attest_hub(service, &hub, &(Credentials){ .client_id = "gw-1", .password = late }, NOW, &why),
                1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_the_challenge_has_the_parts_that_a_tpm_takes, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_a_body_without_a_storage_root_key_is_a_bad_request,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_an_unknown_device_is_told_so_at_register, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(
                        test_over_mqtt_a_device_without_a_token_is_refused_unless_the_behaviour_says_otherwise,
                        set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_poll_needs_a_token, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                        test_only_the_key_of_the_challenge_registers_and_only_the_next_one_opens_the_hub,
                        set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
