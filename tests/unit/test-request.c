/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <json-c/json.h>

#include "basic/text.h"
#include "build-config.h"
#include "dps/request.h"
#include "table.h"

#define ID "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6"
#define OPERATION "5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550"
#define POLL "$dps/registrations/GET/iotdps-get-operationstatus/?$rid="
#define ID_64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* One device's session; its token is in test-sas.c, its answers are in test-reply.c. */
static void test_the_golden_session_is_sent_byte_for_byte(void **state) {
        const DpsRequest put = { DPS_REQUEST_REGISTER, 1, NULL };
        const DpsRequest get = { DPS_REQUEST_POLL, 2, OPERATION };
        _cleanup_(freep) char *username = NULL, *put_topic = NULL, *body = NULL, *get_topic = NULL;

        assert_int_equal(dps_mqtt_username("0ne00111111", ID, DPS_API_VERSION_DEFAULT, &username), 0);
        assert_string_equal(username, "0ne00111111/registrations/" ID
                                      "/api-version=2019-03-31&ClientVersion=dpsd%2F" DPS_VERSION);
        assert_string_equal(DPS_RESPONSE_FILTER, "$dps/registrations/res/#");
        assert_int_equal(dps_request_topic(&put, &put_topic), 0);
        assert_string_equal(put_topic, "$dps/registrations/PUT/iotdps-register/?$rid=1");
        assert_int_equal(dps_register_body(&(DpsRegisterContent){ .registration_id = ID }, &body), 0);
        assert_string_equal(body, "{\"registrationId\":\"" ID "\"}");
        assert_int_equal(dps_request_topic(&get, &get_topic), 0);
        assert_string_equal(get_topic, POLL "2&operationId=" OPERATION);
}

static void test_the_user_name_for_the_hub(void **state) {
        _cleanup_(freep) char *username = NULL;

        assert_int_equal(dps_hub_username("hub1.azure-devices.net", ID, &username), 0);
        assert_string_equal(username, "hub1.azure-devices.net/" ID "/?api-version=2021-04-12");
}

static const struct topic_case {
        const char *promise;
        DpsRequest request;
        const char *topic;
} topic_cases[] = {
        { "request ids are whole 64-bit numbers",
          { DPS_REQUEST_REGISTER, UINT64_MAX, NULL },
          "$dps/registrations/PUT/iotdps-register/?$rid=18446744073709551615" },
        { "an operation id cannot add a parameter",
          { DPS_REQUEST_POLL, 3, "a&$rid=4" },
          POLL "3&operationId=a%26%24rid%3D4" },
        { "an operation id cannot be a wildcard",
          { DPS_REQUEST_POLL, 3, "#/+" },
          POLL "3&operationId=%23%2F%2B" },
        { "a space is %20", { DPS_REQUEST_POLL, 3, "a b" }, POLL "3&operationId=a%20b" },
};

static void check_topic(void **state) {
        const struct topic_case *c = *state;
        _cleanup_(freep) char *topic = NULL;

        assert_int_equal(dps_request_topic(&c->request, &topic), 0);
        assert_string_equal(topic, c->topic);
}

static const struct body_case {
        const char *promise, *payload, *body; /* NULL: -EBADMSG */
} body_cases[] = {
        { "a payload is sent", "{\"model\":\"edge-gw-2\",\"fw\":\"1.4.0\"}",
          "{\"registrationId\":\"gw-1\",\"payload\":{\"model\":\"edge-gw-2\",\"fw\":\"1.4.0\"}}" },
        { "an empty object is a payload", " {} \n", "{\"registrationId\":\"gw-1\",\"payload\":{}}" },
        { "a payload is sent as it is written", " {\"n\": 98765432109876543210, \"m\":-0 }\n",
          "{\"registrationId\":\"gw-1\",\"payload\":{\"n\": 98765432109876543210, \"m\":-0 }}" },
        { "members of a payload may be null", "{\"a\":null}",
          "{\"registrationId\":\"gw-1\",\"payload\":{\"a\":null}}" },
        { "an array is not a payload", "[1]", NULL },
        { "a string is not a payload", "\"a\"", NULL },
        { "null is not a payload", "null", NULL },
        { "an empty text is not a payload", "", NULL },
        { "half an object is not a payload", "{\"a\":", NULL },
        { "two objects are not a payload", "{}{}", NULL },
        { "a payload cannot end the body early", "{}},\"registrationId\":\"gw-2\"", NULL },
};

static void check_body(void **state) {
        const struct body_case *c = *state;
        _cleanup_(freep) char *body = NULL;

        assert_int_equal(
                dps_register_body(&(DpsRegisterContent){ .registration_id = "gw-1", .payload = c->payload },
                                  &body),
                c->body ? 0 : -EBADMSG);
        assert_true(streq_ptr(body, c->body));
}

static void test_the_paths_over_https(void **state) {
        const DpsRequest put = { DPS_REQUEST_REGISTER, 1, NULL },
                         get = { DPS_REQUEST_POLL, 2, OPERATION "/?#" };
        _cleanup_(freep) char *path = NULL, *register_path = NULL, *poll_path = NULL, *lookup_path = NULL;
        const DpsRequest post = { .kind = DPS_REQUEST_LOOKUP };
        char *topic;

        assert_int_equal(dps_registration_path("0ne00111111", "gw.1:a_b-2", &path), 0);
        assert_string_equal(path, "/0ne00111111/registrations/gw.1%3Aa_b-2");
        assert_int_equal(dps_request_path(&put, path, "2019-03-31", &register_path), 0);
        assert_string_equal(register_path,
                            "/0ne00111111/registrations/gw.1%3Aa_b-2/register?api-version=2019-03-31");
        assert_int_equal(dps_request_path(&post, path, "2019-03-31", &lookup_path), 0);
        assert_string_equal(lookup_path, "/0ne00111111/registrations/gw.1%3Aa_b-2?api-version=2019-03-31");
        assert_int_equal(dps_request_topic(&post, &topic), -EOPNOTSUPP);
        assert_int_equal(dps_request_path(&get, path, "2019-03-31", &poll_path), 0);
        assert_string_equal(poll_path, "/0ne00111111/registrations/gw.1%3Aa_b-2/operations/" OPERATION
                                       "%2F%3F%23?api-version=2019-03-31");
}

static void test_a_register_can_attest_with_a_tpm_and_ask_for_a_certificate(void **state) {
        _cleanup_(freep) char *body = NULL;

        assert_int_equal(dps_register_body(&(DpsRegisterContent){ .registration_id = "gw-1",
                                                                  .payload = "{}",
                                                                  .endorsement_key = "RUs=",
                                                                  .storage_root_key = "U1JL",
                                                                  .csr = "Q1NS" },
                                           &body),
                         0);
        assert_string_equal(body, "{\"registrationId\":\"gw-1\",\"payload\":{},"
                                  "\"tpm\":{\"endorsementKey\":\"RUs=\",\"storageRootKey\":\"U1JL\"},"
                                  "\"csr\":\"Q1NS\"}");
}

/* Replaces json-c's function, also for libdps, and can fail as if there were no memory. */
static bool has_no_memory;

__attribute__((visibility("default"))) struct json_tokener *json_tokener_new_ex(int depth) {
        typedef struct json_tokener *(*new_t)(int depth);
        new_t next = (new_t) dlsym(RTLD_NEXT, "json_tokener_new_ex");

        return has_no_memory ? NULL : next(depth);
}

static void test_running_out_of_memory_is_not_a_malformed_payload(void **state) {
        char *body = NULL;

        has_no_memory = true;
        assert_int_equal(
                dps_register_body(&(DpsRegisterContent){ .registration_id = "gw-1", .payload = "{}" }, &body),
                -ENOMEM);
        has_no_memory = false;
        assert_null(body);
}

static const struct id_case {
        const char *promise, *id;
        bool is_valid;
} id_cases[] = {
        { "the registration id of the documentation is valid", ID, true },
        { "capitals, dots, underscores and colons are valid within", "Plant:A_01.gw", true },
        { "one character is enough", "a", true },
        { "the last may be a hyphen", "a-", true },
        { "the last may not be a dot", "a.", false },
        { "the last may not be an underscore", "a_", false },
        { "the last may not be a colon", "a:", false },
        { "128 characters are valid", ID_64 ID_64, true },
        { "129 are too many", ID_64 ID_64 "a", false },
        { "an empty id is not valid", "", false },
        { "a slash is not valid: it would end the id in a topic", "a/b", false },
        { "a space is not valid", "a b", false },
        { "a newline is not valid", "a\n", false },
        { "letters of other alphabets are not valid", "caf\xc3\xa9", false },
        { "a percent sign is not valid", "a%2Fb", false },
};

static void check_registration_id(void **state) {
        const struct id_case *c = *state;

        assert_int_equal(dps_registration_id_is_valid(c->id), c->is_valid);
}

static const struct id_case scope_cases[] = {
        { "a scope of the public cloud is valid", "0ne00111111", true },
        { "a scope of China is valid", "0cn00000001", true },
        { "capitals and hyphens are valid", "0neFEEDC0DE-x", true },
        { "64 characters are valid in a scope", ID_64, true },
        { "65 are too many in a scope", ID_64 "a", false },
        { "an empty scope is not valid", "", false },
        { "a slash is not valid in a scope", "0ne/x", false },
        { "a dot is not valid in a scope", "0ne.x", false },
        { "an ampersand is not valid in a scope", "0ne&x", false },
};

static void check_scope(void **state) {
        const struct id_case *c = *state;

        assert_int_equal(dps_id_scope_is_valid(c->id), c->is_valid);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(topic_cases) + ELEMENTSOF(body_cases) + ELEMENTSOF(id_cases) +
                                ELEMENTSOF(scope_cases) + 5] = {
                cmocka_unit_test(test_the_golden_session_is_sent_byte_for_byte),
                cmocka_unit_test(test_the_user_name_for_the_hub),
                cmocka_unit_test(test_the_paths_over_https),
                cmocka_unit_test(test_a_register_can_attest_with_a_tpm_and_ask_for_a_certificate),
                cmocka_unit_test(test_running_out_of_memory_is_not_a_malformed_payload),
        };
        size_t n = 5;

        ADD_ROWS(tests, n, topic_cases, check_topic);
        ADD_ROWS(tests, n, body_cases, check_body);
        ADD_ROWS(tests, n, id_cases, check_registration_id);
        ADD_ROWS(tests, n, scope_cases, check_scope);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
