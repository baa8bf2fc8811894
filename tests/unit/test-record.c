/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "dps/reply.h"
#include "dpsd/record.h"

#define WHO "\"idScope\":\"0ne00AABBCC\",\"registrationId\":\"gw-1\","
#define WHERE "\"endpoint\":\"global.azure-devices-provisioning.net\",\"method\":\"symmetric-key\","
#define HUB "\"assignedHub\":\"hub.azure-devices.net\",\"deviceId\":\"gw-1\""
#define V1 "{\"version\":1,"

static Record *record;
static const char *reason;

static int set_up(void **state) {
        record = NULL;
        reason = NULL;
        return 0;
}

static int tear_down(void **state) {
        record = record_free(record);
        return 0;
}

static int read_text(const char *text) {
        return record_from_json(text, strlen(text), &record, &reason);
}

static void set(char **text, const char *value) {
        free(*text);
        *text = strdup(value);
        assert_non_null(*text);
}

static Record *full_record(void) {
        Record *full = record_new();
        Assignment *a = calloc(1, sizeof(Assignment));

        assert_non_null(full);
        assert_non_null(a);
        full->assignment = a;
        set(&a->id_scope, "0ne00AABBCC");
        set(&a->registration_id, "gw-1");
        set(&a->endpoint, "global.azure-devices-provisioning.net");
        a->method = METHOD_X509;
        set(&a->hub, "hub.azure-devices.net");
        set(&a->device_id, "gw-1");
        set(&a->substatus, "initialAssignment");
        set(&a->payload, "{\"site\" : \"n\\/o \\\"rth\\\"\", \"n\":[98765432109876543210,-0]}");
        set(&a->registration_state, "{\"etag\" : \"abc\", \"payload\":-0}");
        a->generation = 7;
        a->assigned_at_usec = 1700000000000001;
        a->token_expires_at_usec = 1700000000000002;
        a->renew_at_usec = 1700000000000003;
        a->credential = 1;
        a->hub_auth = HUB_AUTH_X509;
        set(&a->fingerprint, "00ff");
        full->attempts = 3;
        full->finals = 2;
        full->next_attempt_at_usec = 1700000000000004;
        full->not_before_usec = 1700000000000005;
        full->last_success_at_usec = 1700000000000006;
        dps_error_set(&full->error, DPS_ERROR_AUTH, DPS_STEP_REGISTER, "refused");
        full->error.code = 401002;
        strcpy(full->error.tracking_id, "8ad0463c");
        full->error_at_usec = 1700000000000008;
        full->failing_since_usec = 1700000000000009;
        assert_int_equal(record_add_transition(full, 1700000000000007, "assigned", "hub.azure-devices.net"),
                         0);
        return full;
}

static void a_written_record_reads_the_same(void **state) {
        _cleanup_(record_freep) Record *full = full_record();
        _cleanup_(freep) char *text = NULL, *again = NULL;

        assert_int_equal(record_to_json(full, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_int_equal(record_to_json(record, &again), 0);
        assert_string_equal(text, again);

        assert_int_equal(record->assignment->method, METHOD_X509);
        assert_string_equal(record->assignment->payload, full->assignment->payload);
        assert_int_equal(record->assignment->hub_auth, HUB_AUTH_X509);
        assert_string_equal(record->assignment->fingerprint, "00ff");
        assert_int_equal(record->assignment->credential, 1);
        assert_int_equal(record->assignment->renew_at_usec, 1700000000000003);
        assert_int_equal(record->not_before_usec, 1700000000000005);
        assert_int_equal(record->n_transitions, 1);
        assert_string_equal(record->transitions[0].state, "assigned");
}

static void the_members_have_the_names_of_the_contract(void **state) {
        static const char *const names[] = { "version",
                                             "idScope",
                                             "registrationId",
                                             "endpoint",
                                             "method",
                                             "deviceId",
                                             "assignedHub",
                                             "substatus",
                                             "payload",
                                             "generation",
                                             "assignedAt",
                                             "tokenExpiresAt",
                                             "renewAt",
                                             "attempts",
                                             "nextAttemptAt",
                                             "transitions",
                                             "hubAuthentication",
                                             "credentialFingerprint" };
        _cleanup_(record_freep) Record *full = full_record();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(record_to_json(full, &text), 0);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                char quoted[32];

                (void) snprintf(quoted, sizeof(quoted), "\"%s\":", names[i]);
                if (!strstr(text, quoted))
                        fail_msg("%s is not in %s", names[i], text);
        }
}

static void the_last_error_outlives_a_restart(void **state) {
        _cleanup_(record_freep) Record *full = full_record();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(record_to_json(full, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_int_equal(record->error.id, DPS_ERROR_AUTH);
        assert_int_equal(record->error.step, DPS_STEP_REGISTER);
        assert_int_equal(record->error.code, 401002);
        assert_string_equal(record->error.tracking_id, "8ad0463c");
        assert_string_equal(record->error.message, "refused");
        assert_int_equal(record->failing_since_usec, 1700000000000009);
}

static void an_unknown_error_is_left_out(void **state) {
        assert_int_equal(read_text(V1 "\"lastError\":{\"id\":\"sunspots\",\"message\":\"x\"}}"), 0);
        assert_int_equal(record->error.id, DPS_ERROR_NONE);
}

static void nothing_assigned_reads_as_nothing_assigned(void **state) {
        _cleanup_(record_freep) Record *empty = record_new();
        _cleanup_(freep) char *text = NULL;

        empty->attempts = 4;
        assert_int_equal(record_to_json(empty, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_null(record->assignment);
        assert_int_equal(record->attempts, 4);
}

static void the_oldest_transition_is_forgotten(void **state) {
        record = record_new();
        for (unsigned i = 0; i < RECORD_TRANSITIONS_MAX + 2; i++)
                assert_int_equal(record_add_transition(record, i, "renewed", NULL), 0);

        assert_int_equal(record->n_transitions, RECORD_TRANSITIONS_MAX);
        assert_int_equal(record->transitions[0].at_usec, 2);
        assert_int_equal(record->transitions[RECORD_TRANSITIONS_MAX - 1].at_usec, RECORD_TRANSITIONS_MAX + 1);
}

static void a_transition_is_one_printable_line(void **state) {
        record = record_new();
        assert_int_equal(record_add_transition(record, 1, "failed", "DPS said\n\x1b[2J"), 0);
        assert_string_equal(record->transitions[0].detail, "DPS said??[2J");
}

static void if_there_are_too_many_transitions_the_last_are_read(void **state) {
        char text[2048] = V1 "\"transitions\":[";

        for (int i = 0; i < 20; i++)
                (void) snprintf(text + strlen(text), sizeof(text) - strlen(text),
                                "%s{\"at\":%d,\"state\":\"x\"}", i ? "," : "", i);
        strcat(text, "]}");
        assert_int_equal(read_text(text), 0);
        assert_int_equal(record->n_transitions, RECORD_TRANSITIONS_MAX);
        assert_int_equal(record->transitions[0].at_usec, 4);
}

static void unknown_members_are_ignored(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB ",\"colour\":{\"of\":\"hub\"},\"attempts\":2}"), 0);
        assert_string_equal(record->assignment->hub, "hub.azure-devices.net");
        assert_int_equal(record->attempts, 2);
}

static void missing_members_are_empty(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB "}"), 0);
        assert_string_equal(record->assignment->substatus, "");
        assert_null(record->assignment->fingerprint);
        assert_null(record->assignment->payload);
        assert_int_equal(record->assignment->generation, 0);
        assert_int_equal(record->n_transitions, 0);
}

static void without_a_device_id_there_is_no_assignment(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE "\"assignedHub\":\"hub.azure-devices.net\"}"), 0);
        assert_null(record->assignment);
}

#define WHERE_X509 "\"endpoint\":\"global.azure-devices-provisioning.net\",\"method\":\"x509\","

static void an_older_record_of_a_certificate_keeps_its_fingerprint(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE_X509 HUB ",\"credentialId\":\"00ff\"}"), 0);
        assert_int_equal(record->assignment->hub_auth, HUB_AUTH_X509);
        assert_string_equal(record->assignment->fingerprint, "00ff");
}

static void an_older_record_of_a_certificate_may_have_no_fingerprint(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE_X509 HUB ",\"credentialId\":\"\"}"), 0);
        assert_null(record->assignment->fingerprint);
}

/* For a key, credentialId was the digest of a token. */
static void an_older_record_of_a_key_has_no_fingerprint(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB ",\"credentialId\":\"00ff\"}"), 0);
        assert_int_equal(record->assignment->hub_auth, HUB_AUTH_SAS);
        assert_null(record->assignment->fingerprint);
}

static const char with_issued[] = V1 WHO WHERE HUB
        ",\"hubAuthentication\":\"sas\",\"connectionProfile\":\"mqttV5\",\"apiVersion\":\"2025-07-01-"
        "preview\","
        "\"issuedFingerprint\":\"00ff\",\"certificateExpiresAt\":7,\"issuanceFault\":\"none\"}";

static void an_issued_certificate_is_what_the_hub_is_shown(void **state) {
        const Assignment *a;

        assert_int_equal(read_text(with_issued), 0);
        a = record->assignment;
        assert_string_equal(a->issued, "00ff");
        assert_int_equal(a->issued_expires_at_usec, 7);
        assert_string_equal(a->connection_profile, "mqttV5");
        assert_string_equal(a->api_version, "2025-07-01-preview");
        assert_string_equal(a->issuance_fault, "none");
        assert_int_equal(assignment_hub_auth(a), HUB_AUTH_X509);
        assert_false(assignment_shows_token(a) || assignment_lacks_credential(a));
}

/* It knows nothing of certificates, and goes on with tokens. */
static void an_older_version_finds_what_it_needs_without_the_certificate(void **state) {
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(read_text(with_issued), 0);
        assert_int_equal(record_to_json(record, &text), 0);
        assert_non_null(strstr(text, "\"hubAuthentication\":\"sas\""));
        assert_non_null(strstr(text, "\"version\":1"));
        assert_non_null(strstr(text, "\"certificateKind\":\"issued\""));
}

static void a_hub_of_mqtt_5_is_shown_no_token(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB ",\"connectionProfile\":\"MQTTV5\"}"), 0);
        assert_true(assignment_lacks_credential(record->assignment));
        assert_false(assignment_shows_token(record->assignment));
        record_free(record);
        record = NULL;
        assert_int_equal(read_text(V1 WHO WHERE_X509 HUB ",\"connectionProfile\":\"mqttV5\"}"), 0);
        assert_false(assignment_lacks_credential(record->assignment));
}

static void the_hub_authentication_does_not_depend_on_the_method(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB ",\"hubAuthentication\":\"x509\"}"), 0);
        assert_int_equal(record->assignment->method, METHOD_SYMMETRIC_KEY);
        assert_int_equal(record->assignment->hub_auth, HUB_AUTH_X509);
}

static void the_newer_fingerprint_counts(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE_X509 HUB
                                   ",\"credentialId\":\"00ff\",\"credentialFingerprint\":\"11ee\"}"),
                         0);
        assert_string_equal(record->assignment->fingerprint, "11ee");
}

static void an_older_version_finds_the_certificate_that_dps_accepted(void **state) {
        _cleanup_(record_freep) Record *full = full_record();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(record_to_json(full, &text), 0);
        assert_non_null(strstr(text, "\"credentialId\":\"00ff\""));
        text = (free(text), NULL);

        full->assignment->method = METHOD_SYMMETRIC_KEY;
        assert_int_equal(record_to_json(full, &text), 0);
        assert_null(strstr(text, "credentialId"));
}

static void a_copy_of_an_assignment_is_the_same_and_its_own(void **state) {
        _cleanup_(freep) char *text = NULL, *again = NULL;
        _cleanup_(record_freep) Record *full = full_record();
        Assignment *copy = assignment_copy(full->assignment);

        assert_int_equal(record_to_json(full, &text), 0);
        assert_non_null(copy);
        assignment_free(full->assignment);
        full->assignment = copy;
        assert_int_equal(record_to_json(full, &again), 0);
        assert_string_equal(text, again);
}

static void a_newer_version_is_read(void **state) {
        assert_int_equal(read_text("{\"version\":2," WHO WHERE HUB ",\"attempts\":3}"), 0);
        assert_string_equal(record->assignment->device_id, "gw-1");
        assert_int_equal(record->attempts, 3);
}

static void a_value_that_only_a_newer_version_understands_is_left_out(void **state) {
        assert_int_equal(read_text("{\"version\":2," WHO "\"endpoint\":\"e\",\"method\":\"dice\"," HUB
                                   ",\"finals\":\"many\",\"transitions\":{},\"attempts\":3}"),
                         0);
        assert_null(record->assignment);
        assert_int_equal(record->attempts, 3);
}

static void a_wrong_counter_or_history_does_not_cost_the_assignment(void **state) {
        assert_int_equal(read_text("{\"version\":1," WHO WHERE HUB
                                   ",\"attempts\":\"x\",\"finals\":2147483648,\"polls\":7,\"transport\":[],"
                                   "\"transitions\":[{\"state\":1},7,{\"state\":\"assigned\",\"at\":{}}]}"),
                         0);
        assert_string_equal(record->assignment->device_id, "gw-1");
        assert_int_equal(record->attempts, 0);
        assert_int_equal(record->finals, 0);
        assert_int_equal(record->polls, 7);
        assert_null(record->transport);
        assert_int_equal(record->n_transitions, 1);
}

/* Only what names the device and its hub is worth the file. */
static void a_wrong_member_does_not_cost_the_assignment(void **state) {
        assert_int_equal(
                read_text("{\"version\":1," WHO WHERE HUB
                          ",\"substatus\":7,\"registrationState\":[],\"generation\":\"x\",\"renewAt\":{},"
                          "\"tokenExpiresAt\":9,\"hubAuthentication\":\"face\",\"credentialId\":\"../x\","
                          "\"credentialFingerprint\":\"\",\"issuedFingerprint\":1}"),
                0);
        assert_string_equal(record->assignment->device_id, "gw-1");
        assert_int_equal(record->assignment->token_expires_at_usec, 9);
        assert_int_equal(record->assignment->generation, 0);
        assert_int_equal(record->assignment->hub_auth, HUB_AUTH_SAS);
        assert_null(record->assignment->fingerprint);
        assert_null(record->assignment->issued);
}

static void a_wrong_counter_or_history_does_not_cost_the_waits(void **state) {
        assert_int_equal(
                read_text("{\"version\":1,\"attempts\":2147483648,\"notBefore\":5,\"transitions\":{}}"), 0);
        assert_int_equal(record->not_before_usec, 5);
        assert_int_equal(record->attempts, 0);
        record = record_free(record);
        assert_int_equal(read_text("{\"version\":1,\"finals\":3,\"transitions\":[{\"state\":1}]}"), 0);
        assert_int_equal(record->finals, 3);
        assert_int_equal(record->n_transitions, 0);
}

static void a_history_that_is_no_list_is_left_out(void **state) {
        assert_int_equal(read_text("{\"version\":1," WHO WHERE HUB ",\"transitions\":{}}"), 0);
        assert_non_null(record->assignment);
        assert_int_equal(record->n_transitions, 0);
}

static void a_record_too_long_to_be_read_again_is_not_written(void **state) {
        _cleanup_(record_freep) Record *full = full_record();
        _cleanup_(freep) char *text = NULL;
        char *payload = malloc(RECORD_SIZE_MAX + 3);

        assert_non_null(payload);
        memset(payload, 'x', RECORD_SIZE_MAX + 2);
        payload[0] = payload[RECORD_SIZE_MAX + 1] = '"';
        payload[RECORD_SIZE_MAX + 2] = 0;
        free(full->assignment->payload);
        full->assignment->payload = payload;
        assert_int_equal(record_to_json(full, &text), -EFBIG);
        assert_null(text);
}

/* What DPS said is kept as it came, so it cannot outgrow the limit of an answer. */
static void the_largest_answer_is_written_and_read_again(void **state) {
        _cleanup_(record_freep) Record *full = full_record();
        size_t n = (DPS_REPLY_SIZE_MAX - 64) / 6;
        char *payload = malloc(6 * n + 3), *p = payload;
        _cleanup_(freep) char *text = NULL;

        assert_non_null(payload);
        *p++ = '"';
        for (size_t i = 0; i < n; i++)
                p = stpcpy(p, "\\u0001");
        (void) stpcpy(p, "\"");
        free(full->assignment->payload);
        full->assignment->payload = payload;
        free(full->assignment->registration_state);
        assert_true(asprintf(&full->assignment->registration_state, "{\"payload\":%s}", payload) > 0);
        assert_int_equal(record_to_json(full, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_string_equal(record->assignment->payload, payload);
        assert_string_equal(record->assignment->registration_state, full->assignment->registration_state);
}

static const struct hostile_case {
        const char *promise, *text, *reason;
} hostile_cases[] = {
        { "an empty file is not a record", "", "it is empty" },
        { "an incomplete file is not a record", "{\"version\":1,\"idSc", "it is not JSON" },
        { "a file of zeros is not a record", "\1\1\1", "it is not JSON" },
        { "a list is not a record", "[]", "it is not a JSON object" },
        { "another kind of object is not a record", "{\"name\":\"x\"}", "it has no version" },
        { "a version is a number", "{\"version\":\"1\"}", "it has no version" },
        { "there is no version 0", "{\"version\":0}", "it has no version" },
        { "a hub is a host name", V1 "\"assignedHub\":\"hub/../x\"}", "its assignedHub is not valid" },
        { "a hub is text", V1 "\"assignedHub\":7}", "its assignedHub is not valid" },
        { "a device id has no slash", V1 "\"deviceId\":\"a/b\"}", "its deviceId is not valid" },
        { "a device id has no zero byte", V1 "\"deviceId\":\"a\\u0000b\"}", "its deviceId is not valid" },
        { "a scope has no slash", V1 "\"idScope\":\"0ne/1\"}", "its idScope is not valid" },
        { "a registration id has no space", V1 "\"registrationId\":\"a b\"}",
          "its registrationId is not valid" },
        { "an endpoint has no path", V1 "\"endpoint\":\"a/b\"}", "its endpoint is not valid" },
        { "a method is a known word", V1 "\"method\":\"dice\"}", "its method is not valid" },
        { "a substatus has no new line", V1 "\"substatus\":\"a\\nb\"}", "its substatus is not valid" },
        { "registrationState is an object", V1 "\"registrationState\":[1]}",
          "its registrationState is not valid" },
        { "a generation is not negative", V1 "\"generation\":-1}", "its generation is not valid" },
        { "a generation is whole", V1 "\"generation\":1.5}", "its generation is not valid" },
        { "a time is a number", V1 "\"renewAt\":\"12\"}", "its renewAt is not valid" },
        { "the hub authentication is a known word", V1 "\"hubAuthentication\":\"face\"}",
          "its hubAuthentication is not valid" },
        { "a fingerprint is hexadecimal", V1 "\"credentialFingerprint\":\"../x\"}",
          "its credentialFingerprint is not valid" },
        { "a fingerprint is not empty", V1 "\"credentialFingerprint\":\"\"}",
          "its credentialFingerprint is not valid" },
        { "an older version's credential id is hexadecimal", V1 "\"credentialId\":\"../x\"}",
          "its credentialId is not valid" },
};

static void check_hostile(void **state) {
        const struct hostile_case *c = *state;

        assert_int_equal(read_text(c->text), -EBADMSG);
        assert_string_equal(reason, c->reason);
        assert_null(record);
        record_free(record);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest plain[] = {
                TEST(a_written_record_reads_the_same),
                TEST(the_members_have_the_names_of_the_contract),
                TEST(the_last_error_outlives_a_restart),
                TEST(an_unknown_error_is_left_out),
                TEST(nothing_assigned_reads_as_nothing_assigned),
                TEST(the_oldest_transition_is_forgotten),
                TEST(a_transition_is_one_printable_line),
                TEST(if_there_are_too_many_transitions_the_last_are_read),
                TEST(unknown_members_are_ignored),
                TEST(missing_members_are_empty),
                TEST(without_a_device_id_there_is_no_assignment),
                TEST(an_issued_certificate_is_what_the_hub_is_shown),
                TEST(an_older_version_finds_what_it_needs_without_the_certificate),
                TEST(a_hub_of_mqtt_5_is_shown_no_token),
                TEST(an_older_record_of_a_certificate_keeps_its_fingerprint),
                TEST(an_older_record_of_a_certificate_may_have_no_fingerprint),
                TEST(an_older_record_of_a_key_has_no_fingerprint),
                TEST(the_hub_authentication_does_not_depend_on_the_method),
                TEST(the_newer_fingerprint_counts),
                TEST(an_older_version_finds_the_certificate_that_dps_accepted),
                TEST(a_copy_of_an_assignment_is_the_same_and_its_own),
                TEST(a_newer_version_is_read),
                TEST(a_value_that_only_a_newer_version_understands_is_left_out),
                TEST(a_wrong_counter_or_history_does_not_cost_the_assignment),
                TEST(a_wrong_member_does_not_cost_the_assignment),
                TEST(a_wrong_counter_or_history_does_not_cost_the_waits),
                TEST(a_history_that_is_no_list_is_left_out),
                TEST(the_largest_answer_is_written_and_read_again),
                TEST(a_record_too_long_to_be_read_again_is_not_written),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(hostile_cases)];
        size_t n = ELEMENTSOF(plain);

        memcpy(tests, plain, sizeof(plain));
        for (size_t i = 0; i < ELEMENTSOF(hostile_cases); i++)
                tests[n++] = (struct CMUnitTest){ .name = hostile_cases[i].promise,
                                                  .test_func = check_hostile,
                                                  .setup_func = set_up,
                                                  .initial_state = (void *) &hostile_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
