/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <openssl/pem.h>

#include "basic/text.h"
#include "basic/times.h"
#include "certificates.h"
#include "dps/sas.h"
#include "emulator/attest.h"

/* Time is an argument, so no test waits. tests/integration/test_emulator.py tests the same over the wire. */

#define T0 (UINT64_C(1700000000) * USEC_PER_SEC)
#define AFTER(sec) (T0 + (sec) *USEC_PER_SEC)
#define DOCUMENT(more)                                                                                       \
        "{\"hubs\":[\"hub-1.example\"]" more ",\"individualEnrollments\":[{\"registrationId\":\"gw-1\","     \
        "\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":"                       \
        "\"AAECAwQFBgcICQoLDA0ODw==\"}}}]}"

static Caller caller;
static Answer answer;

/* Bytes that count up from 0 replace random ones. */
static int fill_counting(void *ret, size_t size, void *userdata) {
        for (size_t i = 0; i < size; i++)
                ((uint8_t *) ret)[i] = (*(uint8_t *) userdata)++;
        return 0;
}

static int fill_nothing(void *ret, size_t size, void *userdata) {
        return -EIO;
}

static int set_up(void **state) {
        caller = (Caller){ .registration_id = (char *) "gw-1",
                           .api_version = (char *) "2019-03-31",
                           .enrollment = (char *) "gw-1" };
        return 0;
}

static int tear_down(void **state) {
        answer_done(&answer);
        return 0;
}

static Service *service_of(const char *text) {
        static uint8_t next_byte;
        const RandomSource random = { fill_counting, &next_byte };
        _cleanup_(json_freep) json_object *document = NULL;
        Service *s = NULL;
        ErrorText error = { 0 };

        next_byte = 0;
        assert_int_equal(json_read(text, strlen(text), &document, &error), 0);
        assert_int_equal(service_new(document, &random, &s, &error), 0);
        return s;
}

static unsigned do_register(Service *s, uint64_t now_usec) {
        answer_done(&answer);
        assert_int_equal(service_register(s, &caller, "", 0, now_usec, &answer), 0);
        return answer.status;
}

static unsigned do_poll(Service *s, const char *operation_id, uint64_t now_usec) {
        answer_done(&answer);
        assert_int_equal(service_poll(s, &caller, operation_id, now_usec, &answer), 0);
        return answer.status;
}

static void test_assigning_lasts_for_the_assigning_time(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":30,\"retryAfter\":4"));
        _cleanup_(freep) char *operation_id = NULL;

        assert_int_equal(do_register(s, T0), 202);
        assert_int_equal(answer.retry_after_sec, 4);
        operation_id = strdup(answer.operation_id);
        assert_int_equal(do_poll(s, operation_id, AFTER(30) - 1), 202);
        assert_true(answer.has_retry_after);
        assert_int_equal(do_poll(s, operation_id, AFTER(30)), 200);
        assert_false(answer.has_retry_after);
        assert_string_equal(answer.hub, "hub-1.example");
}

static void test_dates_have_seven_digits(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":0"));
        _cleanup_(freep) char *operation_id = NULL;

        (void) do_register(s, T0 + 123456);
        operation_id = strdup(answer.operation_id);
        (void) do_poll(s, operation_id, AFTER(1));
        assert_non_null(strstr(answer.body, "\"createdDateTimeUtc\":\"2023-11-14T22:13:20.1234560Z\""));
}

static void test_polls_are_counted_in_a_window_that_slides(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":\"forever\""));
        _cleanup_(freep) char *operation_id = NULL;

        (void) do_register(s, T0);
        operation_id = strdup(answer.operation_id);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(do_poll(s, operation_id, AFTER(i)), 202);
        assert_int_equal(do_poll(s, operation_id, AFTER(5)), 429);
        assert_int_equal(answer.retry_after_sec, 5);
        assert_int_equal(do_poll(s, operation_id, AFTER(10)), 202);
        assert_int_equal(do_poll(s, operation_id, AFTER(10)), 429);
        assert_int_equal(answer.retry_after_sec, 1);
}

/* `word`: the word expected in the log. It may point into the script, which is freed here. */
static void answer_as_scripted(Service *s, const char *text, const char *word) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;
        ErrorText error = { 0 };

        assert_int_equal(script_answer_parse(text, &script, &error), 0);
        assert_int_equal(
                service_scripted(s, &caller, script, &(Request){ .kind = REQUEST_REGISTER }, T0, &answer), 0);
        assert_true(streq_ptr(answer.word, word));
        answer.word = NULL;
}

static void test_the_log_has_the_word_that_was_sent(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(""));

        answer_as_scripted(s, "register:200,status=pondering", "pondering");
        assert_non_null(strstr(answer.body, "\"status\":\"pondering\""));
}

static void test_a_replaced_body_leaves_nothing_of_the_old_answer_in_the_log(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(""));

        answer_as_scripted(s, "register:200,retry-after=7,body={}", NULL);
        assert_string_equal(answer.body, "{}");
        assert_true(answer.has_retry_after && answer.retry_after_sec == 7);
        assert_null(answer.hub);
        assert_null(answer.operation_id);
}

static void test_the_registers_of_a_minute_are_limited(void **state) {
        _cleanup_(service_freep) Service *s =
                service_of(DOCUMENT(",\"quotas\":{\"registrationsPerMinute\":2}"));

        assert_int_equal(do_register(s, T0), 202);
        assert_int_equal(do_register(s, AFTER(20)), 202);
        assert_int_equal(do_register(s, AFTER(20)), 429);
        assert_int_equal(answer.error_code, 429001);
        assert_int_equal(answer.retry_after_sec, 40);
        assert_int_equal(do_register(s, AFTER(60)), 202);
}

static void test_an_operation_ends_when_the_clock_is_set_back(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":30"));
        _cleanup_(freep) char *operation_id = NULL;

        (void) do_register(s, AFTER(86400));
        operation_id = strdup(answer.operation_id);
        assert_int_equal(do_poll(s, operation_id, T0), 200);
}

static void test_polls_are_forgotten_when_the_clock_is_set_back(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":\"forever\""));
        _cleanup_(freep) char *operation_id = NULL;

        (void) do_register(s, AFTER(86400));
        operation_id = strdup(answer.operation_id);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(do_poll(s, operation_id, AFTER(86400)), 202);
        assert_int_equal(do_poll(s, operation_id, AFTER(86400)), 429);
        assert_int_equal(do_poll(s, operation_id, T0), 202);
}

static void test_the_last_operations_of_a_device_are_remembered(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":0"));
        char *ids[OPERATIONS_PER_DEVICE + 1] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                (void) do_register(s, T0);
                ids[i] = strdup(answer.operation_id);
        }
        assert_int_equal(do_poll(s, ids[0], T0), 404);
        assert_int_equal(do_poll(s, ids[1], T0), 200);
        assert_int_equal(do_poll(s, ids[OPERATIONS_PER_DEVICE], T0), 200);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                free(ids[i]);
}

static void test_a_conflict_ends_with_the_operation(void **state) {
        _cleanup_(service_freep) Service *s =
                service_of(DOCUMENT(",\"assigningTime\":5,\"behaviour\":{\"conflict\":true}"));

        assert_int_equal(do_register(s, T0), 202);
        assert_int_equal(do_register(s, AFTER(4)), 409);
        assert_int_equal(answer.error_code, 409203);
        assert_int_equal(do_register(s, AFTER(5)), 202);
}

static void test_both_requests_of_an_unauthorized_caller_are_answered_401(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(""));

        caller.is_unauthorized = true;
        assert_int_equal(do_register(s, T0), 401);
        assert_int_equal(do_poll(s, "5.0.0", T0), 401);
        assert_int_equal(answer.error_code, 401000);
}

static void test_a_faulty_body_assigns_nothing(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":0"));

        assert_int_equal(service_register(s, &caller, "{\"a\":1}x", 8, T0, &answer), 0);
        assert_int_equal(answer.status, 400);
        assert_null(service_find_device(s, "hub-1.example", "gw-1"));
}

static void test_the_same_random_bytes_give_the_same_operation_id(void **state) {
        const char expected[] = "5.0706050403020100.08090a0b-0c0d-4e0f-9011-121314151617";

        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(service_freep) Service *s = service_of(DOCUMENT(""));

                assert_int_equal(do_register(s, T0), 202);
                assert_string_equal(answer.operation_id, expected);
        }
}

static void test_the_same_random_bytes_give_the_same_tracking_id(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(""));

        assert_int_equal(do_poll(s, "5.0.0", T0), 404);
        assert_non_null(strstr(answer.body, "\"trackingId\":\"08090a0b-0c0d-4e0f-9011-121314151617\""));
}

static void test_without_random_bytes_there_is_no_service(void **state) {
        _cleanup_(json_freep) json_object *document = json_object_new_object();
        const RandomSource random = { .fill = fill_nothing };
        ErrorText error = { 0 };
        Service *s = NULL;

        assert_int_equal(service_new(document, &random, &s, &error), -EIO);
        assert_null(s);
}

/* A group of the devices' CA, and the login of a device whose certificate that CA signed for two hours. */
static int log_in_by_certificate(uint64_t now_usec, const char **ret_why) {
        _cleanup_(certified_key_done) CertifiedKey ca = authority_new("device CA", NULL),
                                                   device = certified_key_new(&ca, "gw-9", NULL, -3600, 3600);
        _cleanup_(service_freep) Service *s = service_of("{}");
        _cleanup_(json_freep) json_object *group = NULL;
        Login login = { LOGIN_DEVICE, (char *) "0ne00AABBCC", (char *) "gw-9", (char *) "2019-03-31" };
        Credentials credentials = { .client_id = "gw-9", .certificate = device.certificate };
        Caller attested = { 0 };
        ErrorText error = { 0 };
        BIO *pem = BIO_new(BIO_s_mem());
        char *text;
        size_t n;
        int r;

        assert_int_equal(PEM_write_bio_X509(pem, ca.certificate), 1);
        assert_int_equal(BIO_write(pem, "", 1), 1);
        (void) BIO_get_mem_data(pem, &text);
        group = json_tokener_parse("{\"enrollmentGroupId\":\"factory\",\"attestation\":{\"type\":\"x509\","
                                   "\"x509\":{\"signingCertificates\":{}}}}");
        assert_int_equal(json_add_string(json_member(json_member(json_member(group, "attestation"), "x509"),
                                                     "signingCertificates"),
                                         "primary", text),
                         0);
        BIO_free(pem);
        assert_int_equal(roster_merge(s->roster, group, &n, &error), 0);

        r = attest_device(s, &login, &credentials, now_usec, &attested, ret_why);
        assert_int_equal(r, attested.is_x509);
        caller_done(&attested);
        return r;
}

static void test_a_certificate_is_judged_by_the_time_that_is_handed_in(void **state) {
        uint64_t now = now_usec(CLOCK_REALTIME);
        const char *why = NULL;

        assert_int_equal(log_in_by_certificate(now, &why), 1);
        assert_null(why);
        assert_int_equal(log_in_by_certificate(now + 2 * USEC_PER_HOUR, &why), 0);
        assert_non_null(strstr(why, "expired"));
        assert_int_equal(log_in_by_certificate(now - 2 * USEC_PER_HOUR, &why), 0);
}

/* Logs in with a token for `resource`, which is percent-encoded. */
static int log_in_by_token(const Service *s, const char *user_name, const char *resource, uint64_t now_usec,
                           Caller *ret) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        _cleanup_(login_done) Login login = { 0 };
        _cleanup_(freep) char *token = NULL;
        Credentials credentials = { .client_id = "gw-1" };
        const char *why = NULL;

        assert_int_equal(dps_key_from_base64("AAECAwQFBgcICQoLDA0ODw==", &key), 0);
        assert_int_equal(dps_sas_new(&key, resource, now_usec / USEC_PER_SEC + 3600, NULL, &token), 0);
        credentials.password = token;
        assert_int_equal(login_parse(user_name, &login), 0);
        if (login.kind == LOGIN_HUB)
                return attest_hub(s, &login, &credentials, now_usec, &why);
        return attest_device(s, &login, &credentials, now_usec, ret, &why);
}

/* Sends one request, as the plugin does, and checks the topic of the answer. */
static void exchange(Service *s, const Caller *from, const char *topic, uint64_t now_usec,
                     const char *expected) {
        _cleanup_(request_done) Request request = { 0 };
        _cleanup_(freep) char *response = NULL;

        answer_done(&answer);
        assert_int_equal(request_parse(topic, &request), 0);
        assert_int_equal(service_answer(s, from, &request, NULL, "", 0, now_usec, &answer), 0);
        assert_int_equal(response_topic(answer.status, request.request_id, answer.has_retry_after,
                                        answer.retry_after_sec, &response),
                         0);
        assert_string_equal(response, expected);
}

static void test_a_program_can_drive_it_from_the_login_to_the_hub(void **state) {
        _cleanup_(service_freep) Service *s = service_of(DOCUMENT(",\"assigningTime\":2,\"retryAfter\":2"));
        const char hub_user[] = "hub-1.example/gw-1/?api-version=2021-04-12";
        const char hub_resource[] = "hub-1.example%2Fdevices%2Fgw-1";
        _cleanup_(caller_done) Caller gateway = { 0 };
        _cleanup_(freep) char *poll_topic = NULL;

        assert_int_equal(log_in_by_token(s, "0ne00AABBCC/registrations/gw-1/api-version=2019-03-31",
                                         "0ne00AABBCC%2Fregistrations%2Fgw-1", T0, &gateway),
                         1);
        assert_false(gateway.is_unauthorized);
        assert_int_equal(log_in_by_token(s, hub_user, hub_resource, T0, NULL), 0);

        exchange(s, &gateway, "$dps/registrations/PUT/iotdps-register/?$rid=1", T0,
                 "$dps/registrations/res/202/?$rid=1&retry-after=2");
        assert_true(asprintf(&poll_topic,
                             "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=%s",
                             answer.operation_id) > 0);
        exchange(s, &gateway, poll_topic, AFTER(2) - 1, "$dps/registrations/res/202/?$rid=2&retry-after=2");
        exchange(s, &gateway, poll_topic, AFTER(2), "$dps/registrations/res/200/?$rid=2");
        assert_string_equal(answer.hub, "hub-1.example");
        assert_int_equal(log_in_by_token(s, hub_user, hub_resource, AFTER(2), NULL), 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_assigning_lasts_for_the_assigning_time, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_dates_have_seven_digits, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_polls_are_counted_in_a_window_that_slides, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_the_log_has_the_word_that_was_sent, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                        test_a_replaced_body_leaves_nothing_of_the_old_answer_in_the_log, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_the_registers_of_a_minute_are_limited, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_an_operation_ends_when_the_clock_is_set_back, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_polls_are_forgotten_when_the_clock_is_set_back, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_the_last_operations_of_a_device_are_remembered, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_a_conflict_ends_with_the_operation, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_both_requests_of_an_unauthorized_caller_are_answered_401,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_faulty_body_assigns_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_the_same_random_bytes_give_the_same_operation_id, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_the_same_random_bytes_give_the_same_tracking_id, set_up,
                                                tear_down),
                cmocka_unit_test(test_without_random_bytes_there_is_no_service),
                cmocka_unit_test_setup_teardown(test_a_program_can_drive_it_from_the_login_to_the_hub, set_up,
                                                tear_down),
                cmocka_unit_test(test_a_certificate_is_judged_by_the_time_that_is_handed_in),
        };

        return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
