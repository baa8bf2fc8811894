/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "basic/text.h"
#include "dpsctl/bus.h"
#include "dpsctl/redact.h"
#include "dpsctl/verbs.h"

static IdentityList list;

static int set_up(void **state) {
        list = (IdentityList){ 0 };
        return 0;
}

static int tear_down(void **state) {
        identity_list_done(&list);
        redact_forget();
        return 0;
}

static void set(Identity *i, const char *property, const char *text) {
        const Property *p = property_find(property);

        assert_non_null(p);
        assert_int_equal(property_set_text(p, i, text), 0);
}

static Identity *add(const char *name, const char *state) {
        _cleanup_(freep) char *path = NULL;
        Identity *i;

        assert_true(asprintf(&path, "/io/dpsd/dps1/identity/%s", name) > 0);
        i = identity_list_add(&list, path);
        assert_non_null(i);
        set(i, "Name", name);
        set(i, "State", state);
        i->required_for_provisioned = true;
        i->healthy = streq(state, "assigned");
        return i;
}

/* JSON */

static void json_has_every_property_under_its_name(void **state) {
        json_object *o, *value;
        size_t n = 0;

        add("gw", "assigned");
        o = identity_to_json(&list.items[0]);
        while (property_at(n)) {
                assert_true(json_object_object_get_ex(o, property_at(n)->name, &value));
                n++;
        }
        assert_int_equal(json_object_object_length(o), n);
        json_object_put(o);
}

static void json_is_versioned_and_absent_is_empty_or_zero(void **state) {
        json_object *o;

        add("gw", "provisioning");
        list.items[0].next_attempt_at = 1764000000000000;
        o = identity_list_to_json(&list);
        assert_non_null(strstr(
                json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
                "{\"version\":1,\"identities\":[{\"Name\":\"gw\",\"State\":\"provisioning\",\"Waiting\":\"\","
                "\"Healthy\":false"));
        assert_non_null(strstr(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
                               "\"RenewAt\":0,\"NextAttemptAt\":1764000000000000"));
        json_object_put(o);
}

/* Exit codes */

static void status_is_0_when_all_are_assigned(void **state) {
        assert_int_equal(status_code(&list, true), EXIT_DONE); /* none at all, too */
        add("gw", "assigned");
        assert_int_equal(status_code(&list, true), EXIT_DONE);
        add("north", "provisioning");
        assert_int_equal(status_code(&list, false), EXIT_NOT_ASSIGNED);
}

static void strict_status_requires_health(void **state) {
        add("gw", "assigned")->healthy = false;
        assert_int_equal(status_code(&list, false), EXIT_DONE);
        assert_int_equal(status_code(&list, true), EXIT_NOT_ASSIGNED);
}

static void bus_errors_have_their_exit_codes(void **state) {
        static const struct {
                const char *name;
                Exit code;
        } cases[] = {
                { "io.dpsd.dps1.Error.NotAssigned", EXIT_NOT_ASSIGNED },
                { "io.dpsd.dps1.Error.NoSuchIdentity", EXIT_NO_IDENTITY },
                { "io.dpsd.dps1.Error.RateLimited", EXIT_RATE_LIMITED },
                { "io.dpsd.dps1.Error.ClockNotTrusted", EXIT_FAILED },
                { "io.dpsd.dps1.Error.KeyUnavailable", EXIT_FAILED },
                { "io.dpsd.dps1.Error.NotSupported", EXIT_FAILED },
                { "io.dpsd.dps1.Error.Config", EXIT_FAILED },
                { "org.freedesktop.DBus.Error.InvalidArgs", EXIT_USAGE },
                { "org.freedesktop.DBus.Error.AccessDenied", EXIT_NOT_PERMITTED },
                { "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", EXIT_NOT_PERMITTED },
                { "org.freedesktop.DBus.Error.ServiceUnknown", EXIT_NO_DAEMON },
                { "org.freedesktop.DBus.Error.NameHasNoOwner", EXIT_NO_DAEMON },
                { "org.freedesktop.DBus.Error.Timeout", EXIT_TIMED_OUT },
        };

        for (size_t k = 0; k < ELEMENTSOF(cases); k++)
                assert_int_equal(exit_from_bus_error(cases[k].name), cases[k].code);
}

/* wait */

static int verdict(const Options *o) {
        return wait_verdict(&list, o, 1000);
}

static Options with_names(char **names) {
        return (Options){ .arguments = names, .n_arguments = (unsigned) strv_length(names) };
}

static void wait_ends_when_each_is_assigned_or_failed(void **state) {
        char *none[] = { NULL };
        Options o = with_names(none);

        assert_int_equal(verdict(&o), EXIT_DONE);
        add("a", "assigned");
        add("b", "provisioning");
        assert_int_equal(verdict(&o), WAIT_ON);
        set(&list.items[1], "State", "failed");
        assert_int_equal(verdict(&o), EXIT_NOT_ASSIGNED);
        set(&list.items[1], "State", "assigned");
        assert_int_equal(verdict(&o), EXIT_DONE);
}

static void wait_ignores_identities_that_are_not_required(void **state) {
        char *none[] = { NULL }, *named[] = { (char *) "b", NULL };
        Options o = with_names(none);

        add("a", "assigned");
        add("b", "provisioning")->required_for_provisioned = false;
        assert_int_equal(verdict(&o), EXIT_DONE);
        o = with_names(named);
        assert_int_equal(verdict(&o), WAIT_ON);
}

static void wait_any_ends_with_the_first_one(void **state) {
        char *none[] = { NULL };
        Options o = with_names(none);

        o.any = true;
        add("a", "failed");
        add("b", "provisioning");
        assert_int_equal(verdict(&o), WAIT_ON);
        set(&list.items[1], "State", "assigned");
        assert_int_equal(verdict(&o), EXIT_DONE);
        set(&list.items[1], "State", "failed");
        assert_int_equal(verdict(&o), EXIT_NOT_ASSIGNED);
}

static void wait_fresh_requires_an_answer_since_the_boot(void **state) {
        char *none[] = { NULL };
        Options o = with_names(none);

        o.fresh = true;
        add("a", "assigned")->last_success_at = 999;
        assert_int_equal(verdict(&o), WAIT_ON);
        list.items[0].last_success_at = 1000;
        assert_int_equal(verdict(&o), EXIT_DONE);
}

/* --redact */

static void the_same_value_has_the_same_mask(void **state) {
        Identity *i = add("north", "assigned");

        set(i, "IdScope", "0ne00AABBCC");
        set(i, "RegistrationId", "GW-1");
        set(i, "DeviceId", "gw-1");
        set(i, "AssignedHub", "contoso.azure-devices.net");
        i = add("south", "assigned");
        set(i, "IdScope", "0ne00AABBCC");
        set(i, "DeviceId", "gw-2");
        assert_int_equal(identity_list_redact(&list), 0);
        assert_string_equal(list.items[0].id_scope, "scope-1");
        assert_string_equal(list.items[0].registration_id, "id-1");
        assert_string_equal(list.items[0].device_id, "id-1");
        assert_string_equal(list.items[0].assigned_hub, "hub-1.azure-devices.net");
        assert_string_equal(list.items[1].id_scope, "scope-1");
        assert_string_equal(list.items[1].device_id, "id-2");
        assert_string_equal(list.items[1].assigned_hub, "");
}

static void masks_also_cover_texts_for_people(void **state) {
        Identity *i = add("gw-1", "failed");

        set(i, "RegistrationId", "gw-1");
        set(i, "IdScope", "0ne00AABBCC");
        set(i, "LastError", "0NE00AABBCC knows no gw-1 (nor gw-11, my-gw-1)");
        assert_int_equal(identity_list_redact(&list), 0);
        assert_string_equal(list.items[0].last_error, "scope-1 knows no id-1 (nor gw-11, my-gw-1)");
        assert_string_equal(list.items[0].name, "id-1");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(json_has_every_property_under_its_name),
                TEST(json_is_versioned_and_absent_is_empty_or_zero),
                TEST(status_is_0_when_all_are_assigned),
                TEST(strict_status_requires_health),
                TEST(bus_errors_have_their_exit_codes),
                TEST(wait_ends_when_each_is_assigned_or_failed),
                TEST(wait_ignores_identities_that_are_not_required),
                TEST(wait_any_ends_with_the_first_one),
                TEST(wait_fresh_requires_an_answer_since_the_boot),
                TEST(the_same_value_has_the_same_mask),
                TEST(masks_also_cover_texts_for_people),
        };

        return cmocka_run_group_tests_name("dpsctl-identity", tests, NULL, NULL);
}
