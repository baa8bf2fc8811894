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

static int read_document(const char *text, Roster **ret, Complaint *c) {
        _cleanup_(json_freep) json_object *document = NULL;
        int r;

        r = json_read(text, strlen(text), &document, c);
        return r < 0 ? r : roster_new(document, ret, c);
}

static Roster *roster_of(const char *text) {
        Roster *roster = NULL;
        Complaint c = { 0 };
        int r = read_document(text, &roster, &c);

        assert_string_equal(c.text, "");
        assert_int_equal(r, 0);
        return roster;
}

static const struct fault_case {
        const char *promise, *document, *complaint;
} fault_cases[] = {
        { "a fault in the syntax is told by its line", "{\n\"hubs\":[],\n}", "line 3: not JSON: " },
        { "text behind the document is a fault", "{} {}", "line 1: not JSON: " },
        { "a number is one", INDIVIDUAL(",\"payload\":[1.]"), "it holds a number that is none" },
        { "a slip of the pen is told", "{\"retry\":3}", "retry: no such member" },
        { "a member of the wrong type is told", "{\"retryAfter\":\"3\"}",
          "retryAfter: must be a whole number" },
        { "a negative delay is told", "{\"retryAfter\":-1}", "retryAfter: out of range" },
        { "the ID scope is checked", "{\"idScope\":\"a/b\"}", "idScope: not an ID scope" },
        { "hubs are host names", "{\"hubs\":[\"a b\"]}", "hubs: must be host names" },
        { "a list is of strings", "{\"hubs\":[\"a\",1]}", "hubs: must be a list of strings" },
        { "a switch is told by its path", "{\"behaviour\":{\"badSignature\":\"never\"}}",
          "behaviour.badSignature: must be one of register, connect" },
        { "an enrollment is told by its place", "{\"individualEnrollments\":[" DEVICE ",{}]}",
          "individualEnrollments[1].registrationId: is missing" },
        { "a registration id is checked", "{\"individualEnrollments\":[{\"registrationId\":\"a/b\"}]}",
          "individualEnrollments[0].registrationId: must be 1 to 128 of A-Z a-z 0-9 . _ : -" },
        { "a key is told by its path and never shown",
          "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":"
          "\"symmetricKey\","
          "\"symmetricKey\":{\"primaryKey\":\"c2hvcnQ=\"}}}]}",
          "individualEnrollments[0].attestation.symmetricKey.primaryKey: not base64 of 16 to 64 bytes" },
        { "an attestation of an unknown type is told",
          "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":\"tpm\"}}]}",
          "individualEnrollments[0].attestation.type: must be one of symmetricKey, x509" },
        { "a certificate is PEM",
          "{\"enrollmentGroups\":[{\"enrollmentGroupId\":\"g\",\"attestation\":{\"type\":\"x509\","
          "\"x509\":{\"signingCertificates\":{\"primary\":\"x\"}}}}]}",
          "enrollmentGroups[0].attestation.x509.signingCertificates.primary: not a certificate in PEM" },
        { "a group cannot give its devices an id", GROUP(",\"deviceId\":\"x\""),
          "enrollmentGroups[0].deviceId: in a group it is the registration id, always" },
        { "an enrollment is there once, whatever its case",
          "{\"individualEnrollments\":[" DEVICE ",{\"registrationId\":\"GW-1\"," SYMMETRIC "}]}",
          "individualEnrollments[1]: GW-1 is there already" },
        { "a slip of the pen in a policy is told",
          INDIVIDUAL(",\"reprovisionPolicy\":{\"updateHubAsignment\":false}"),
          "individualEnrollments[0].reprovisionPolicy.updateHubAsignment: no such member" },
        { "a slip of the pen in a failure is told",
          INDIVIDUAL(",\"failure\":{\"errorCode\":400207,\"message\":\"x\"}"),
          "individualEnrollments[0].failure.message: no such member" },
        { "a slip of the pen in the keys is told",
          "{\"individualEnrollments\":[{\"registrationId\":\"gw-1\",\"attestation\":{\"type\":"
          "\"symmetricKey\",\"symmetricKey\":{\"primaryKey\":\"" KEY "\",\"secondarykey\":\"" KEY "\"}}}]}",
          "individualEnrollments[0].attestation.symmetricKey.secondarykey: no such member" },
        { "a failure has a code", INDIVIDUAL(",\"failure\":{}"),
          "individualEnrollments[0].failure.errorCode: is missing" },
};

static void check_fault(void **state) {
        const struct fault_case *f = *state;
        Roster *roster = NULL;
        Complaint c = { 0 };

        assert_int_equal(read_document(f->document, &roster, &c), -EBADMSG);
        assert_null(roster);
        assert_memory_equal(c.text, f->complaint, strlen(f->complaint));
        assert_null(strstr(c.text, "c2hvcnQ"));
}

static void test_what_is_not_told_is_as_with_dps(void **state) {
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

static void test_what_azure_exports_and_we_need_not_is_taken(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(
                ",\"etag\":\"x\",\"initialTwin\":{},\"capabilities\":{\"iotEdge\":false},\"deviceId\":\"\""));

        assert_null(roster_individual(roster, "gw-1")->device_id);
}

static void test_an_empty_text_is_an_empty_list(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of("{\"hubs\":\"\"}");

        assert_null(roster->behaviour.hubs);
}

static int set(Roster *roster, const char *id, const char *assignment, Complaint *c) {
        char *assignments[] = { (char *) assignment, NULL };

        return roster_set(roster, id, assignments, c);
}

static void test_setting_null_takes_a_member_away(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(",\"failure\":{\"errorCode\":400207}"));
        Complaint c = { 0 };

        assert_int_equal(set(roster, "gw-1", "failure=null", &c), 0);
        assert_int_equal(roster_individual(roster, "gw-1")->failure_code, 0);
}

static void test_setting_leads_into_objects(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of("{}");
        Complaint c = { 0 };

        assert_int_equal(set(roster, "*", "quotas.pollsPerTenSeconds=7", &c), 0);
        assert_int_equal(set(roster, "*", "quotas.registrationsPerMinute=8", &c), 0);
        assert_int_equal(roster->behaviour.polls_per_ten_seconds, 7);
        assert_int_equal(roster->behaviour.registrations_per_minute, 8);
}

static void test_what_is_no_json_is_set_as_text(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(GROUP(""));
        Complaint c = { 0 };

        assert_int_equal(set(roster, "line-1", "iotHubs=hub-1.example,hub-2.example", &c), 0);
        assert_int_equal(strv_length(roster_group(roster, "line-1")->hubs), 2);
}

static void test_a_faulty_change_changes_nothing(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(",\"assigningTime\":9"));
        char *assignments[] = { (char *) "assigningTime=1", (char *) "retryAfter=never", NULL };
        Complaint c = { 0 };

        assert_int_equal(roster_set(roster, "gw-1", assignments, &c), -EBADMSG);
        assert_string_equal(c.text, "gw-1.retryAfter: must be a whole number");
        assert_int_equal(roster_individual(roster, "gw-1")->assigning_sec, 9);
}

static void test_whole_lists_are_not_set(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(""));
        Complaint c = { 0 };

        assert_int_equal(set(roster, "*", "individualEnrollments=[]", &c), -EBADMSG);
        assert_string_equal(c.text, "individualEnrollments: is changed by enroll and remove");
        assert_non_null(roster_individual(roster, "gw-1"));
}

static void test_an_enrollment_keeps_its_name(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(INDIVIDUAL(""));
        Complaint c = { 0 };

        assert_int_equal(set(roster, "gw-1", "registrationId=gw-2", &c), -EBADMSG);
        assert_non_null(roster_individual(roster, "gw-1"));
        assert_null(roster_individual(roster, "gw-2"));
}

static size_t merge(Roster *roster, const char *text) {
        _cleanup_(json_freep) json_object *json = NULL;
        Complaint c = { 0 };
        size_t n = 0;

        assert_int_equal(json_read(text, strlen(text), &json, &c), 0);
        assert_int_equal(roster_merge(roster, json, &n, &c), 0);
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

static void test_one_enrollment_alone_is_a_document_too(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of("{}");

        assert_int_equal(merge(roster, DEVICE), 1);
        assert_non_null(roster_individual(roster, "gw-1"));
}

static void test_what_is_written_can_be_read_again(void **state) {
        _cleanup_(roster_freep) Roster *roster = roster_of(GROUP(",\"assigningTime\":\"forever\"")),
                                       *again = NULL;
        _cleanup_(json_freep) json_object *json = NULL;
        Complaint c = { 0 };

        (void) merge(roster, INDIVIDUAL(""));
        json = roster_to_json(roster);
        assert_int_equal(roster_new(json, &again, &c), 0);
        assert_non_null(roster_individual(again, "gw-1"));
        assert_true(roster_group(again, "line-1")->assigning_sec == SECONDS_FOREVER);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(fault_cases) + 12] = {
                cmocka_unit_test(test_what_is_not_told_is_as_with_dps),
                cmocka_unit_test(test_what_azure_exports_and_we_need_not_is_taken),
                cmocka_unit_test(test_an_empty_text_is_an_empty_list),
                cmocka_unit_test(test_setting_null_takes_a_member_away),
                cmocka_unit_test(test_setting_leads_into_objects),
                cmocka_unit_test(test_what_is_no_json_is_set_as_text),
                cmocka_unit_test(test_a_faulty_change_changes_nothing),
                cmocka_unit_test(test_whole_lists_are_not_set),
                cmocka_unit_test(test_an_enrollment_keeps_its_name),
                cmocka_unit_test(test_merging_replaces_adds_and_leaves_the_rest),
                cmocka_unit_test(test_one_enrollment_alone_is_a_document_too),
                cmocka_unit_test(test_what_is_written_can_be_read_again),
        };
        size_t n = 12;

        ADD_ROWS(tests, n, fault_cases, check_fault);
        return _cmocka_run_group_tests("roster", tests, n, NULL, NULL);
}
