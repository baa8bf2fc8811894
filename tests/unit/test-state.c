/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "dpsd/state.h"

#define WHO "\"idScope\":\"0ne00AABBCC\",\"registrationId\":\"gw-1\","
#define WHERE "\"endpoint\":\"global.azure-devices-provisioning.net\",\"method\":\"symmetric-key\","
#define HUB "\"assignedHub\":\"hub.azure-devices.net\",\"deviceId\":\"gw-1\""
#define V1 "{\"version\":1,"

static State *s;
static const char *reason;

static int set_up(void **state) {
        s = NULL;
        reason = NULL;
        return 0;
}

static int tear_down(void **state) {
        s = state_free(s);
        return 0;
}

static int read_text(const char *text) {
        return state_from_json(text, strlen(text), &s, &reason);
}

static void set(char **text, const char *value) {
        free(*text);
        *text = strdup(value);
        assert_non_null(*text);
}

static State *full_state(void) {
        State *full = state_new();
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
        set(&a->payload, "{\"site\":\"n/o \\\"rth\\\"\"}");
        set(&a->registration_state, "{\"etag\":\"abc\"}");
        a->generation = 7;
        a->assigned_at_usec = 1700000000000001;
        a->token_expires_at_usec = 1700000000000002;
        a->renew_at_usec = 1700000000000003;
        a->credential = 1;
        set(&a->credential_id, "00ff");
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
        assert_int_equal(state_add_transition(full, 1700000000000007, "assigned", "hub.azure-devices.net"),
                         0);
        return full;
}

static void what_is_written_reads_the_same(void **state) {
        _cleanup_(state_freep) State *full = full_state();
        _cleanup_(freep) char *text = NULL, *again = NULL;

        assert_int_equal(state_to_json(full, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_int_equal(state_to_json(s, &again), 0);
        assert_string_equal(text, again);

        assert_int_equal(s->assignment->method, METHOD_X509);
        assert_string_equal(s->assignment->payload, full->assignment->payload);
        assert_string_equal(s->assignment->credential_id, "00ff");
        assert_int_equal(s->assignment->credential, 1);
        assert_int_equal(s->assignment->renew_at_usec, 1700000000000003);
        assert_int_equal(s->not_before_usec, 1700000000000005);
        assert_int_equal(s->n_transitions, 1);
        assert_string_equal(s->transitions[0].state, "assigned");
}

static void the_members_have_the_names_of_the_contract(void **state) {
        static const char *const names[] = { "version", "idScope",    "registrationId", "endpoint",
                                             "method",  "deviceId",   "assignedHub",    "substatus",
                                             "payload", "generation", "assignedAt",     "tokenExpiresAt",
                                             "renewAt", "attempts",   "nextAttemptAt",  "transitions" };
        _cleanup_(state_freep) State *full = full_state();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(state_to_json(full, &text), 0);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                char quoted[32];

                (void) snprintf(quoted, sizeof(quoted), "\"%s\":", names[i]);
                if (!strstr(text, quoted))
                        fail_msg("%s is not in %s", names[i], text);
        }
}

static void the_last_failure_outlives_a_restart(void **state) {
        _cleanup_(state_freep) State *full = full_state();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(state_to_json(full, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_int_equal(s->error.id, DPS_ERROR_AUTH);
        assert_int_equal(s->error.step, DPS_STEP_REGISTER);
        assert_int_equal(s->error.code, 401002);
        assert_string_equal(s->error.tracking_id, "8ad0463c");
        assert_string_equal(s->error.message, "refused");
        assert_int_equal(s->failing_since_usec, 1700000000000009);
}

static void a_failure_that_nobody_knows_is_none(void **state) {
        assert_int_equal(read_text(V1 "\"lastError\":{\"id\":\"sunspots\",\"message\":\"x\"}}"), 0);
        assert_int_equal(s->error.id, DPS_ERROR_NONE);
}

static void nothing_assigned_reads_as_nothing_assigned(void **state) {
        _cleanup_(state_freep) State *empty = state_new();
        _cleanup_(freep) char *text = NULL;

        empty->attempts = 4;
        assert_int_equal(state_to_json(empty, &text), 0);
        assert_int_equal(read_text(text), 0);
        assert_null(s->assignment);
        assert_int_equal(s->attempts, 4);
}

static void the_oldest_transition_is_forgotten(void **state) {
        s = state_new();
        for (unsigned i = 0; i < STATE_TRANSITIONS_MAX + 2; i++)
                assert_int_equal(state_add_transition(s, i, "renewed", NULL), 0);

        assert_int_equal(s->n_transitions, STATE_TRANSITIONS_MAX);
        assert_int_equal(s->transitions[0].at_usec, 2);
        assert_int_equal(s->transitions[STATE_TRANSITIONS_MAX - 1].at_usec, STATE_TRANSITIONS_MAX + 1);
}

static void a_transition_is_one_harmless_line(void **state) {
        s = state_new();
        assert_int_equal(state_add_transition(s, 1, "failed", "DPS said\n\x1b[2J"), 0);
        assert_string_equal(s->transitions[0].detail, "DPS said??[2J");
}

static void of_too_many_transitions_the_last_are_read(void **state) {
        char text[2048] = V1 "\"transitions\":[";

        for (int i = 0; i < 20; i++)
                (void) snprintf(text + strlen(text), sizeof(text) - strlen(text),
                                "%s{\"at\":%d,\"state\":\"x\"}", i ? "," : "", i);
        strcat(text, "]}");
        assert_int_equal(read_text(text), 0);
        assert_int_equal(s->n_transitions, STATE_TRANSITIONS_MAX);
        assert_int_equal(s->transitions[0].at_usec, 4);
}

static void what_is_unknown_is_ignored(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB ",\"colour\":{\"of\":\"hub\"},\"attempts\":2}"), 0);
        assert_string_equal(s->assignment->hub, "hub.azure-devices.net");
        assert_int_equal(s->attempts, 2);
}

static void what_is_missing_is_empty(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE HUB "}"), 0);
        assert_string_equal(s->assignment->substatus, "");
        assert_string_equal(s->assignment->credential_id, "");
        assert_null(s->assignment->payload);
        assert_int_equal(s->assignment->generation, 0);
        assert_int_equal(s->n_transitions, 0);
}

static void without_a_device_id_there_is_no_assignment(void **state) {
        assert_int_equal(read_text(V1 WHO WHERE "\"assignedHub\":\"hub.azure-devices.net\"}"), 0);
        assert_null(s->assignment);
}

static void a_newer_version_is_read(void **state) {
        assert_int_equal(read_text("{\"version\":2," WHO WHERE HUB ",\"attempts\":3}"), 0);
        assert_string_equal(s->assignment->device_id, "gw-1");
        assert_int_equal(s->attempts, 3);
}

static void a_value_only_a_newer_version_understands_is_as_missing(void **state) {
        assert_int_equal(read_text("{\"version\":2," WHO "\"endpoint\":\"e\",\"method\":\"dice\"," HUB
                                   ",\"finals\":\"many\",\"transitions\":{},\"attempts\":3}"),
                         0);
        assert_null(s->assignment);
        assert_int_equal(s->attempts, 3);
}

static void a_state_too_long_to_be_read_again_is_not_written(void **state) {
        _cleanup_(state_freep) State *full = full_state();
        _cleanup_(freep) char *text = NULL;
        char *payload = malloc(STATE_SIZE_MAX + 3);

        assert_non_null(payload);
        memset(payload, 'x', STATE_SIZE_MAX + 2);
        payload[0] = payload[STATE_SIZE_MAX + 1] = '"';
        payload[STATE_SIZE_MAX + 2] = 0;
        free(full->assignment->payload);
        full->assignment->payload = payload;
        assert_int_equal(state_to_json(full, &text), -EFBIG);
        assert_null(text);
}

static const struct hostile_case {
        const char *promise, *text, *reason;
} hostile_cases[] = {
        { "an empty file is no state", "", "it is empty" },
        { "a torn file is no state", "{\"version\":1,\"idSc", "it is not JSON" },
        { "zeros are no state", "\1\1\1", "it is not JSON" },
        { "a list is no state", "[]", "it is not a JSON object" },
        { "somebody else's object is no state", "{\"name\":\"x\"}", "it has no version" },
        { "a version is a number", "{\"version\":\"1\"}", "it has no version" },
        { "there is no version 0", "{\"version\":0}", "it has no version" },
        { "a hub is a host name", V1 "\"assignedHub\":\"hub/../x\"}", "its assignedHub makes no sense" },
        { "a hub is text", V1 "\"assignedHub\":7}", "its assignedHub makes no sense" },
        { "a device id has no slash", V1 "\"deviceId\":\"a/b\"}", "its deviceId makes no sense" },
        { "a device id hides no zero", V1 "\"deviceId\":\"a\\u0000b\"}", "its deviceId makes no sense" },
        { "a scope has no slash", V1 "\"idScope\":\"0ne/1\"}", "its idScope makes no sense" },
        { "a registration id has no space", V1 "\"registrationId\":\"a b\"}",
          "its registrationId makes no sense" },
        { "an endpoint has no path", V1 "\"endpoint\":\"a/b\"}", "its endpoint makes no sense" },
        { "a method is one we know", V1 "\"method\":\"dice\"}", "its method makes no sense" },
        { "a substatus has no new line", V1 "\"substatus\":\"a\\nb\"}", "its substatus makes no sense" },
        { "registrationState is an object", V1 "\"registrationState\":[1]}",
          "its registrationState makes no sense" },
        { "a generation is not negative", V1 "\"generation\":-1}", "its generation makes no sense" },
        { "a generation is whole", V1 "\"generation\":1.5}", "its generation makes no sense" },
        { "a time is no text", V1 "\"renewAt\":\"12\"}", "its renewAt makes no sense" },
        { "a count of attempts can be counted on", V1 "\"attempts\":2147483648}",
          "its attempts makes no sense" },
        { "a credential id is hexadecimal", V1 "\"credentialId\":\"../x\"}",
          "its credentialId makes no sense" },
        { "transitions are a list", V1 "\"transitions\":{}}", "its transitions are no list" },
        { "a transition's state is text", V1 "\"transitions\":[{\"state\":1}]}", "its state makes no sense" },
};

static void check_hostile(void **state) {
        const struct hostile_case *c = *state;

        assert_int_equal(read_text(c->text), -EBADMSG);
        assert_string_equal(reason, c->reason);
        assert_null(s);
        state_free(s);
}

int main(void) {
        static const struct CMUnitTest plain[] = {
                cmocka_unit_test_setup_teardown(what_is_written_reads_the_same, set_up, tear_down),
                cmocka_unit_test_setup_teardown(the_members_have_the_names_of_the_contract, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(the_last_failure_outlives_a_restart, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_failure_that_nobody_knows_is_none, set_up, tear_down),
                cmocka_unit_test_setup_teardown(nothing_assigned_reads_as_nothing_assigned, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(the_oldest_transition_is_forgotten, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_transition_is_one_harmless_line, set_up, tear_down),
                cmocka_unit_test_setup_teardown(of_too_many_transitions_the_last_are_read, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_unknown_is_ignored, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_missing_is_empty, set_up, tear_down),
                cmocka_unit_test_setup_teardown(without_a_device_id_there_is_no_assignment, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(a_newer_version_is_read, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_value_only_a_newer_version_understands_is_as_missing,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_state_too_long_to_be_read_again_is_not_written, set_up,
                                                tear_down),
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
