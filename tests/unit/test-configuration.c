/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dpsd/configuration.h"
#include "dpsd/kept-error.h"
#include "settings-text.h"
#include "table.h"
#include "timed-world.h"

#define NOW UINT64_C(1800000000000000)
#define DEVICE                                                                                               \
        "Provisioning IdScope 0ne00000001\nProvisioning Endpoint dps.example\nAttestation Key "              \
        "/nowhere/key\n"
#define GW "Provisioning RegistrationId gw-1\n"

static TimedWorld world;
static Configuration configuration;
static Resolution resolution;
static DpsError error;
static bool is_news;
static char path[64];

static int set_up(void **state) {
        timed_world_init(&world);
        configuration = (Configuration){ 0 };
        resolution = _RESOLUTION_MAX;
        strcpy(path, "/tmp/test-configuration-XXXXXX");
        close(mkstemp(path));
        assert_int_equal(unlink(path), 0);
        return 0;
}

static int tear_down(void **state) {
        configuration_done(&configuration);
        (void) unlink(path);
        timed_world_done(&world);
        return 0;
}

static void take(const char *text) {
        assert_false(configuration_take(&configuration, settings_from_lines("gw", text), NULL, NOW));
}

static bool take_faulty(const char *text, const char *fault) {
        return configuration_take(&configuration, settings_from_lines("gw", text), fault, NOW);
}

static int result;

static void on_expanded(Expansion *e, void *userdata) {
        result = configuration_take_expanded(userdata, &world.world, e, &resolution, &error, &is_news);
}

static void resolve_one(Configuration *c) {
        configuration_expand(c, &world.world, on_expanded, c);
        timed_world_work(&world);
}

static int resolve(void) {
        resolve_one(&configuration);
        return result;
}

static void take_and_resolve(const char *text) {
        take(text);
        assert_int_equal(resolve(), 0);
}

/* Takes a registration id that can be resolved once the file exists. */
static void take_specifier(void) {
        char text[256];

        (void) snprintf(text, sizeof(text), DEVICE "Provisioning RegistrationId %%{file:%s}\n", path);
        take(text);
}

static void write_specifier(const char *value) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, value, strlen(value)), strlen(value));
        close(fd);
}

/* ---- the file ---- */

static void without_a_file_there_is_no_configuration(void **state) {
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_NONE);
        assert_null(configuration_settings(&configuration));
        assert_null(configuration_key_settings(&configuration));
        assert_int_equal(kept_error(configuration.fault)->id, DPS_ERROR_NONE);
}

static void a_good_file_is_in_force_when_it_is_resolved(void **state) {
        take(DEVICE GW);
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_UNRESOLVED);
        assert_null(configuration.settings);
        assert_string_equal(configuration_settings(&configuration)->registration_id, "gw-1");
        assert_int_equal(resolve(), 0);
        assert_int_equal(resolution, RESOLUTION_FIRST);
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_GOOD);
        assert_string_equal(configuration.settings->registration_id, "gw-1");
}

static void a_faulty_file_leaves_the_last_good_settings_in_force(void **state) {
        take_and_resolve(DEVICE GW);
        assert_true(take_faulty(DEVICE "Provisioning RegistrationId gw-2\n", "gw.conf:7: bad"));
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_GOOD);
        assert_string_equal(configuration.settings->registration_id, "gw-1");
        assert_string_equal(configuration_key_settings(&configuration)->registration_id, "gw-1");
        assert_int_equal(kept_error(configuration.fault)->id, DPS_ERROR_CONFIG);
        assert_string_equal(kept_error(configuration.fault)->message, "gw.conf:7: bad");
        assert_int_equal(configuration.fault_at_usec, NOW);
}

static void without_a_good_file_the_faulty_one_tells_where_the_keys_are(void **state) {
        assert_true(take_faulty(DEVICE GW, "gw.conf:7: bad"));
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_NONE);
        assert_string_equal(configuration_key_settings(&configuration)->keys[0], "/nowhere/key");
        assert_null(configuration_settings(&configuration));
}

static void the_same_fault_is_reported_once(void **state) {
        assert_true(take_faulty(DEVICE GW, "gw.conf:7: bad"));
        assert_false(take_faulty(DEVICE GW, "gw.conf:7: bad"));
        assert_true(take_faulty(DEVICE GW, "gw.conf:8: bad"));
        assert_int_equal(configuration.fault_at_usec, NOW); /* it has been faulty since then */
}

static void a_fault_is_over_when_a_good_file_is_resolved(void **state) {
        take_and_resolve(DEVICE GW);
        take_faulty(DEVICE GW, "gw.conf:7: bad");
        take(DEVICE GW);
        assert_null(configuration.fault);
        assert_int_equal(kept_error(configuration.fault)->id, DPS_ERROR_NONE);
        assert_int_equal(configuration.fault_at_usec, 0);
}

static void the_same_file_has_nothing_to_resolve(void **state) {
        take_and_resolve(DEVICE GW);
        take(DEVICE GW);
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_GOOD);
        assert_int_equal(resolve(), 0);
        assert_int_equal(resolution, RESOLUTION_SAME);
}

/* ---- what a change means ---- */

static const struct change_case {
        const char *promise, *text;
        Resolution resolution;
} change_cases[] = {
        { "the same settings are the same", DEVICE GW, RESOLUTION_SAME },
        { "another group is another configuration of the same device", DEVICE GW "Access Group staff\n",
          RESOLUTION_OTHER },
        { "a registration id in other case is the same device", DEVICE "Provisioning RegistrationId GW-1\n",
          RESOLUTION_OTHER },
        { "another registration id is another peer", DEVICE "Provisioning RegistrationId gw-2\n",
          RESOLUTION_OTHER_PEER },
        { "another ID scope is another peer", DEVICE GW "Provisioning IdScope 0ne00000002\n",
          RESOLUTION_OTHER_PEER },
        { "another endpoint is another peer", DEVICE GW "Provisioning Endpoint other.example\n",
          RESOLUTION_OTHER_PEER },
        { "an endpoint in other case is the same peer", DEVICE GW "Provisioning Endpoint DPS.example\n",
          RESOLUTION_OTHER },
        { "another port is another peer", DEVICE GW "Provisioning MqttPort 8884\n", RESOLUTION_OTHER_PEER },
};

static void check_change(void **state) {
        const struct change_case *c = *state;

        set_up(NULL);
        take_and_resolve(DEVICE GW);
        take_and_resolve(c->text);
        assert_int_equal(resolution, c->resolution);
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_GOOD);
        tear_down(NULL);
}

/* ---- specifiers ---- */

static void a_specifier_without_a_value_is_tried_again_later(void **state) {
        take_specifier();
        assert_true(resolve() < 0);
        assert_int_equal(error.id, DPS_ERROR_CONFIG);
        assert_non_null(strstr(error.message, path));
        assert_true(is_news);
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_UNRESOLVED);
        assert_true(configuration.resolving.at_usec > world.now_usec);

        assert_true(resolve() < 0);
        assert_false(is_news);
        write_specifier("gw-7");
        assert_int_equal(resolve(), 0);
        assert_int_equal(resolution, RESOLUTION_FIRST);
        assert_string_equal(configuration.settings->registration_id, "gw-7");
        assert_null(configuration.fault);
        assert_int_equal(configuration.resolving.n, 0);
}

static void older_settings_stay_in_force_while_a_specifier_has_no_value(void **state) {
        take_and_resolve(DEVICE GW);
        take_specifier();
        assert_true(resolve() < 0);
        assert_non_null(configuration.fault);
        assert_string_equal(configuration.settings->registration_id, "gw-1");
        assert_string_equal(configuration_settings(&configuration)->registration_id, "gw-1");
}

static void a_corrected_file_that_waits_for_an_interface_has_no_fault(void **state) {
        take_faulty(DEVICE GW, "gw.conf:7: bad");
        take(DEVICE "Provisioning RegistrationId %{mac:nowhere0}\n");
        assert_int_equal(resolve(), -EAGAIN);
        assert_int_equal(error.id, DPS_ERROR_UNREACHABLE);
        assert_null(configuration.fault);
        assert_int_equal(kept_error(configuration.fault)->id, DPS_ERROR_NONE);
}

static void a_fault_stays_while_an_older_file_waits_for_an_interface(void **state) {
        take(DEVICE "Provisioning RegistrationId %{mac:nowhere0}\n");
        take_faulty(DEVICE GW, "gw.conf:7: bad");
        assert_int_equal(resolve(), -EAGAIN);
        assert_string_equal(kept_error(configuration.fault)->message, "gw.conf:7: bad");
}

static void a_specifier_that_resolves_to_the_same_is_the_same(void **state) {
        take_and_resolve(DEVICE GW);
        write_specifier("gw-1");
        take_specifier();
        assert_int_equal(resolve(), 0);
        assert_int_equal(resolution, RESOLUTION_SAME);
        assert_string_equal(configuration.settings->registration_id, "gw-1");
}

/* ---- twins ---- */

static void a_twin_is_a_fault_that_names_both_files(void **state) {
        take_and_resolve(DEVICE GW);
        assert_true(configuration_set_twin(&configuration, "north", NOW));
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_TWIN);
        assert_non_null(strstr(kept_error(configuration.fault)->message, "north.conf and gw.conf"));
        assert_false(configuration_set_twin(&configuration, "north", NOW));
        assert_true(configuration_set_twin(&configuration, NULL, NOW));
        assert_int_equal(configuration_state(&configuration), CONFIGURATION_GOOD);
        assert_null(configuration.fault);
        assert_false(configuration_set_twin(&configuration, NULL, NOW));
}

static void a_fault_of_the_file_outlives_the_end_of_a_twin(void **state) {
        take_and_resolve(DEVICE GW);
        configuration_set_twin(&configuration, "north", NOW);
        take_faulty(DEVICE GW, "gw.conf:7: bad");
        configuration_set_twin(&configuration, NULL, NOW);
        assert_string_equal(kept_error(configuration.fault)->message, "gw.conf:7: bad");
}

static const struct twin_case {
        const char *promise, *text;
        bool are_twins;
} twin_cases[] = {
        { "the same registration id in the same scope is a twin", DEVICE GW, true },
        { "case makes no difference between registration ids", DEVICE "Provisioning RegistrationId Gw-1\n",
          true },
        { "at another endpoint it is a twin too", DEVICE GW "Provisioning Endpoint other.example\n", true },
        { "another registration id is not a twin", DEVICE "Provisioning RegistrationId gw-2\n", false },
        { "another ID scope is not a twin", DEVICE GW "Provisioning IdScope 0ne00000002\n", false },
};

static void check_twin(void **state) {
        const struct twin_case *c = *state;
        Configuration other = { 0 };

        set_up(NULL);
        take_and_resolve(DEVICE GW);
        configuration_take(&other, settings_from_lines("other", c->text), NULL, NOW);
        assert_false(configuration_are_twins(&configuration, &other)); /* it is not in force yet */
        resolve_one(&other);
        assert_int_equal(result, 0);
        assert_int_equal(configuration_are_twins(&configuration, &other), c->are_twins);
        assert_int_equal(configuration_are_twins(&other, &configuration), c->are_twins);
        configuration_done(&other);
        tear_down(NULL);
}

static void the_tpm_is_asked_before_its_id_is_expanded(void **state) {
        DpsError busy;

        take(DEVICE "Provisioning RegistrationId %{tpm}\n");
        assert_true(configuration_needs_tpm(&configuration));
        dps_error_set(&busy, DPS_ERROR_KEY, DPS_STEP_CONFIG, "it is busy");
        configuration_take_tpm_id(&configuration, NULL, &busy);
        assert_true(configuration_needs_tpm(&configuration));
        assert_int_equal(configuration.unresolved, DPS_ERROR_KEY);
        configuration_take_tpm_id(&configuration, "6rek5qn", NULL);
        assert_false(configuration_needs_tpm(&configuration));
        assert_int_equal(resolve(), 0);
        assert_string_equal(configuration.settings->registration_id, "6rek5qn");

        /* It may be another TPM. */
        take(DEVICE "Provisioning RegistrationId %{tpm}\nProvisioning Splay 1\n");
        assert_true(configuration_needs_tpm(&configuration));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest plain[] = {
                TEST(the_tpm_is_asked_before_its_id_is_expanded),
                TEST(without_a_file_there_is_no_configuration),
                TEST(a_good_file_is_in_force_when_it_is_resolved),
                TEST(a_faulty_file_leaves_the_last_good_settings_in_force),
                TEST(without_a_good_file_the_faulty_one_tells_where_the_keys_are),
                TEST(the_same_fault_is_reported_once),
                TEST(a_fault_is_over_when_a_good_file_is_resolved),
                TEST(the_same_file_has_nothing_to_resolve),
                TEST(a_specifier_without_a_value_is_tried_again_later),
                TEST(older_settings_stay_in_force_while_a_specifier_has_no_value),
                TEST(a_corrected_file_that_waits_for_an_interface_has_no_fault),
                TEST(a_fault_stays_while_an_older_file_waits_for_an_interface),
                TEST(a_specifier_that_resolves_to_the_same_is_the_same),
                TEST(a_twin_is_a_fault_that_names_both_files),
                TEST(a_fault_of_the_file_outlives_the_end_of_a_twin),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(change_cases) + ELEMENTSOF(twin_cases)];
        size_t n = ELEMENTSOF(plain);

        memcpy(tests, plain, sizeof(plain));
        ADD_ROWS(tests, n, change_cases, check_change);
        ADD_ROWS(tests, n, twin_cases, check_twin);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
