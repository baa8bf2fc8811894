/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "emulator/roster.h"
#include "table.h"

#define KEY "AAECAwQFBgcICQoLDA0ODw=="
#define SYMMETRIC "\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"" KEY "\"}}"
#define DEVICE "{\"registrationId\":\"gw-1\"," SYMMETRIC "}"
#define INDIVIDUAL(more) "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\"," SYMMETRIC more "}]}"
#define GROUP(more) "{\"enrollmentGroups\":[{\"enrollmentGroupId\":\"line-1\"," SYMMETRIC more "}]}"

static int read_document(const char *text, Roster **ret, ErrorText *error) {
        _cleanup_(json_freep) json_object *document = NULL;
        int r;

        r = json_read(text, strlen(text), &document, error);
        return r < 0 ? r : roster_new(document, ret, error);
}

static Roster *roster_of(const char *text) {
        Roster *roster = NULL;
        ErrorText error = { 0 };
        int r = read_document(text, &roster, &error);

        assert_string_equal(error.text, "");
        assert_int_equal(r, 0);
        return roster;
}

static const struct error_case {
        const char *promise, *document, *error;
} error_cases[] = {
        { "a syntax error names the line", "{\n\"hubs\":[],\n}", "line 3: not JSON: " },
        { "text after the document is an error", "{} {}", "line 1: not JSON: " },
        { "a number must be valid JSON", INDIVIDUAL(",\"payload\":[1.]"),
          "not JSON: a number in it is not valid" },
        { "an unknown member is an error", "{\"retry\":3}", "retry: there is no such member" },
        { "a member of the wrong type is an error", "{\"retryAfter\":\"3\"}",
          "retryAfter: must be a whole number" },
        { "a negative delay is an error", "{\"retryAfter\":-1}", "retryAfter: is out of range" },
        { "the ID scope is checked", "{\"idScope\":\"a/b\"}", "idScope: is not an ID scope" },
        { "hubs are host names", "{\"hubs\":[\"a b\"]}", "hubs: must be host names" },
        { "a list must consist of strings", "{\"hubs\":[\"a\",1]}", "hubs: must be a list of strings" },
        { "an error in a switch names its path", "{\"behaviour\":{\"badSignature\":\"never\"}}",
          "behaviour.badSignature: must be one of register, connect" },
        { "an error in an enrollment names its index", "{\"individualEnrollments\":[" DEVICE ",{}]}",
          "individualEnrollments[1].registrationId: is missing" },
        { "a registration id is checked", "{\"individualEnrollments\":[{\"registrationId\":\"a/b\"}]}",
          "individualEnrollments[0].registrationId: must be 1 to 128 of A-Z a-z 0-9 . _ : -" },
        { "an error in a key names its path and never shows the key",
          "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":"
          "\"symmetricKey\","
          "\"symmetricKey\":{\"primaryKey\":\"c2hvcnQ=\"}}}]}",
          "individualEnrollments[0].attestation.symmetricKey.primaryKey: must be base64 of 16 to 64 bytes" },
        { "an unknown type of attestation is an error",
          "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":\"password\"}}]"
          "}",
          "individualEnrollments[0].attestation.type: must be one of symmetricKey, x509, tpm" },
        { "a certificate must be PEM",
          "{\"enrollmentGroups\":[{\"enrollmentGroupId\":\"g\",\"attestation\":{\"type\":\"x509\","
          "\"x509\":{\"signingCertificates\":{\"primary\":\"x\"}}}}]}",
          "enrollmentGroups[0].attestation.x509.signingCertificates.primary: is not a certificate in PEM" },
        { "a group cannot set a device id", GROUP(",\"deviceId\":\"x\""),
          "enrollmentGroups[0].deviceId: must not be set for a group, whose devices have the registration "
          "id" },
        { "an id may occur once, whatever its case",
          "{\"individualEnrollments\":[" DEVICE ",{\"registrationId\":\"GW-1\"," SYMMETRIC "}]}",
          "individualEnrollments[1]: GW-1 is already in the list" },
        { "an unknown member of a policy is an error",
          INDIVIDUAL(",\"reprovisionPolicy\":{\"updateHubAsignment\":false}"),
          "individualEnrollments[0].reprovisionPolicy.updateHubAsignment: there is no such member" },
        { "an unknown member of a failure is an error",
          INDIVIDUAL(",\"failure\":{\"errorCode\":400207,\"message\":\"x\"}"),
          "individualEnrollments[0].failure.message: there is no such member" },
        { "an unknown member beside the keys is an error",
          "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":"
          "\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"" KEY "\",\"secondarykey\":\"" KEY "\"}}}]}",
          "individualEnrollments[0].attestation.symmetricKey.secondarykey: there is no such member" },
        { "a failure needs a code", INDIVIDUAL(",\"failure\":{}"),
          "individualEnrollments[0].failure.errorCode: is missing" },
};

static void check_error(void **state) {
        const struct error_case *f = *state;
        Roster *roster = NULL;
        ErrorText error = { 0 };

        assert_int_equal(read_document(f->document, &roster, &error), -EBADMSG);
        assert_null(roster);
        assert_memory_equal(error.text, f->error, strlen(f->error));
        assert_null(strstr(error.text, "c2hvcnQ"));
}

static void test_defaults_are_those_of_dps(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(""));
        const Enrollment *e = roster_individual(roster, "GW-1");

        assert_int_equal(roster->behaviour.retry_after_sec, 3);
        assert_int_equal(roster->behaviour.registrations_per_minute, 1000);
        assert_int_equal(roster->behaviour.polls_per_ten_seconds, 5);
        assert_int_equal(roster->behaviour.bad_signature, BAD_SIGNATURE_AT_REGISTER);
        assert_non_null(e);
        assert_true(e->is_enabled && e->updates_hub && e->migrates_data);
        assert_false(e->has_retry_after || e->has_assigning);
}

static void test_members_that_azure_exports_are_accepted(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(
                ",\"etag\":\"x\",\"initialTwin\":{},\"capabilities\":{\"iotEdge\":false},\"deviceId\":\"\""));

        assert_null(roster_individual(roster, "gw-1")->device_id);
}

static void test_an_empty_text_is_an_empty_list(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of("{\"hubs\":\"\"}");

        assert_null(roster->behaviour.hubs);
}

static int set(Roster *roster, const char *id, const char *assignment, ErrorText *error) {
        char *assignments[] = { (char *) assignment, NULL };

        return roster_set(roster, id, assignments, error);
}

static void test_setting_null_removes_a_member(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(",\"failure\":{\"errorCode\":400207}"));
        ErrorText error = { 0 };

        assert_int_equal(set(roster, "gw-1", "failure=null", &error), 0);
        assert_int_equal(roster_individual(roster, "gw-1")->failure_code, 0);
}

static void test_dots_in_a_key_lead_into_objects(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of("{}");
        ErrorText error = { 0 };

        assert_int_equal(set(roster, "*", "quotas.pollsPerTenSeconds=7", &error), 0);
        assert_int_equal(set(roster, "*", "quotas.registrationsPerMinute=8", &error), 0);
        assert_int_equal(roster->behaviour.polls_per_ten_seconds, 7);
        assert_int_equal(roster->behaviour.registrations_per_minute, 8);
}

static void test_a_value_that_is_not_json_is_set_as_text(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(GROUP(""));
        ErrorText error = { 0 };

        assert_int_equal(set(roster, "line-1", "iotHubs=hub-1.example,hub-2.example", &error), 0);
        assert_int_equal(strv_length(roster_group(roster, "line-1")->hubs), 2);
}

static void test_a_faulty_change_changes_nothing(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(",\"assigningTime\":9"));
        char *assignments[] = { (char *) "assigningTime=1", (char *) "retryAfter=never", NULL };
        ErrorText error = { 0 };

        assert_int_equal(roster_set(roster, "gw-1", assignments, &error), -EBADMSG);
        assert_string_equal(error.text, "gw-1.retryAfter: must be a whole number");
        assert_int_equal(roster_individual(roster, "gw-1")->assigning_sec, 9);
}

static void test_lists_of_enrollments_cannot_be_set(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(""));
        ErrorText error = { 0 };

        assert_int_equal(set(roster, "*", "individualEnrollments=[]", &error), -EBADMSG);
        assert_string_equal(error.text, "individualEnrollments: use enroll and remove to change it");
        assert_non_null(roster_individual(roster, "gw-1"));
}

static void test_an_enrollment_cannot_be_renamed(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(""));
        ErrorText error = { 0 };

        assert_int_equal(set(roster, "gw-1", "registrationId=gw-2", &error), -EBADMSG);
        assert_non_null(roster_individual(roster, "gw-1"));
        assert_null(roster_individual(roster, "gw-2"));
}

static size_t merge(Roster *roster, const char *text) {
        _cleanup_(json_freep) json_object *json = NULL;
        ErrorText error = { 0 };
        size_t n = 0;

        assert_int_equal(json_read(text, strlen(text), &json, &error), 0);
        assert_int_equal(roster_merge(roster, json, &n, &error), 0);
        return n;
}

static void test_merging_replaces_adds_and_leaves_the_rest(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(
                "{\"retryAfter\":9,\"hubs\":[\"hub-1.example\"],\"individualEnrollments\":[" DEVICE "]}");

        assert_int_equal(merge(roster, INDIVIDUAL(",\"deviceId\":\"press\"")), 1);
        assert_int_equal(merge(roster, GROUP("")), 1);
        assert_string_equal(roster_individual(roster, "gw-1")->device_id, "press");
        assert_non_null(roster_group(roster, "line-1"));
        assert_int_equal(roster->behaviour.retry_after_sec, 9);
        assert_int_equal(strv_length(roster->behaviour.hubs), 1);
}

static void test_a_single_enrollment_can_be_merged(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of("{}");

        assert_int_equal(merge(roster, DEVICE), 1);
        assert_non_null(roster_individual(roster, "gw-1"));
}

static void test_what_is_written_can_be_read_again(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(GROUP(",\"assigningTime\":\"forever\"")),
                                       *again = NULL;
        _cleanup_(json_freep) json_object *json = NULL;
        ErrorText error = { 0 };

        (void) merge(roster, INDIVIDUAL(""));
        json = roster_to_json(roster);
        assert_int_equal(roster_new(json, &again, &error), 0);
        assert_non_null(roster_individual(again, "gw-1"));
        assert_true(roster_group(again, "line-1")->assigning_sec == SECONDS_FOREVER);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(error_cases) + 12] = {
                cmocka_unit_test(test_defaults_are_those_of_dps),
                cmocka_unit_test(test_members_that_azure_exports_are_accepted),
                cmocka_unit_test(test_an_empty_text_is_an_empty_list),
                cmocka_unit_test(test_setting_null_removes_a_member),
                cmocka_unit_test(test_dots_in_a_key_lead_into_objects),
                cmocka_unit_test(test_a_value_that_is_not_json_is_set_as_text),
                cmocka_unit_test(test_a_faulty_change_changes_nothing),
                cmocka_unit_test(test_lists_of_enrollments_cannot_be_set),
                cmocka_unit_test(test_an_enrollment_cannot_be_renamed),
                cmocka_unit_test(test_merging_replaces_adds_and_leaves_the_rest),
                cmocka_unit_test(test_a_single_enrollment_can_be_merged),
                cmocka_unit_test(test_what_is_written_can_be_read_again),
        };
        size_t n = 12;

        ADD_ROWS(tests, n, error_cases, check_error);
        return _cmocka_run_group_tests("roster", tests, n, NULL, NULL);
}
