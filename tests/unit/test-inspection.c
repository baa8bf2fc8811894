/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/text.h"
#include "check/inspection.h"
#include "timed-world.h"

/* The rows of a check, and what an inspection does with steps that hang. What the steps find: test_check.py. */

typedef struct Fixture {
        TimedWorld world;
        Window *window;
        Inspection *inspection;
        char *json; /* of the end */
        unsigned n_ends;
} Fixture;

static int set_up(void **state) {
        Fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        timed_world_init(&f->world);
        assert_int_equal(window_new(&f->world.world, &f->window), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        Fixture *f = *state;

        inspection_free(f->inspection);
        window_free(f->window);
        timed_world_done(&f->world);
        free(f->json);
        free(f);
        return 0;
}

static void on_end(Inspection *i, const Checks *checks, const CheckSubject *subject, void *userdata) {
        Fixture *f = userdata;

        assert_int_equal(check_to_json(checks, subject, &f->json), 0);
        f->n_ends++;
        f->inspection = inspection_free(i);
}

static void begin(Fixture *f, const char *name, bool offline, const char *directory) {
        const InspectionParts parts = { .world = &f->world.world, .window = f->window };
        const InspectionWish wish = { .offline = offline };
        CheckSubject *s;

        assert_int_equal(check_subject_new(name, &s), 0);
        assert_int_equal(strv_append(&s->directories, directory), 0);
        s->is_synchronized = true;
        assert_int_equal(inspection_new(&parts, s, &wish, on_end, f, &f->inspection), 0);
}

static void test_a_step_that_hangs_ends_with_a_row_after_30_seconds(void **state) {
        Fixture *f = *state;

        f->world.holds[WORK_CHECKS] = true;
        begin(f, "", false, "/nonexistent");
        timed_world_pass(&f->world, 29 * USEC_PER_SEC);
        assert_int_equal(f->n_ends, 0);
        timed_world_pass(&f->world, 2 * USEC_PER_SEC);
        assert_int_equal(f->n_ends, 1);
        assert_non_null(strstr(f->json, "no result within 30 s: does the disk answer?"));
}

static void test_an_identity_whose_configuration_hangs_is_not_looked_at_further(void **state) {
        Fixture *f = *state;

        f->world.holds[WORK_CHECKS] = true;
        begin(f, "gateway", false, "/nonexistent");
        timed_world_pass(&f->world, 31 * USEC_PER_SEC);
        assert_int_equal(f->n_ends, 1);
        assert_null(f->world.works);
}

static void test_however_slow_each_step_is_an_inspection_ends_within_a_minute(void **state) {
        static const char text[] = "[Provisioning]\nIdScope=0ne00AABBCC\nRegistrationId=gateway\n"
                                   "[Attestation]\nKey=/nonexistent/key\n";
        char directory[] = "/tmp/test-inspection-XXXXXX", path[64];
        Fixture *f = *state;
        FILE *conf;

        assert_non_null(mkdtemp(directory));
        (void) snprintf(path, sizeof(path), "%s/gateway.conf", directory);
        conf = fopen(path, "we");
        assert_non_null(conf);
        assert_true(fputs(text, conf) >= 0);
        assert_int_equal(fclose(conf), 0);

        begin(f, "gateway", false, directory);
        f->world.holds[WORK_CHECKS] = true;
        timed_work_wait(&f->world.world,
                        WORK_CHECKS); /* the configuration is read, and nothing else is done */
        timed_world_pass(&f->world, INSPECTION_MAX_USEC - USEC_PER_SEC);
        assert_int_equal(f->n_ends, 0);
        timed_world_pass(&f->world, 2 * USEC_PER_SEC);
        assert_int_equal(f->n_ends, 1);
        assert_non_null(strstr(f->json, "the check took too long"));
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(directory), 0);
}

static void test_the_handler_is_never_called_before_new_returns(void **state) {
        Fixture *f = *state;

        begin(f, "", true, "/nonexistent");
        assert_int_equal(f->n_ends, 0);
        timed_world_work(&f->world);
        assert_int_equal(f->n_ends, 1);
        assert_non_null(strstr(f->json, "synchronised"));
}

static void test_an_identity_without_a_file_is_told(void **state) {
        CheckSubject *s;

        (void) state;
        assert_int_equal(check_subject_new("nope", &s), 0);
        assert_int_equal(strv_append(&s->directories, "/nonexistent"), 0);
        check_configuration(&(Checks){ 0 }, s);
        assert_int_equal(s->r, -ENOENT);
        check_subject_unref(s);
}

static void test_a_freed_inspection_leaves_no_work_behind(void **state) {
        Fixture *f = *state;

        f->world.holds[WORK_CHECKS] = true;
        begin(f, "gateway", false, "/nonexistent");
        f->inspection = inspection_free(f->inspection);
        assert_null(f->world.works);
        assert_int_equal(f->n_ends, 0);
}

static void test_each_cloud_is_known_by_its_names(void **state) {
        (void) state;
        assert_int_equal(azure_cloud_of("global.azure-devices-provisioning.net"), AZURE_GLOBAL);
        assert_int_equal(azure_cloud_of("my.Azure-Devices.NET"), AZURE_GLOBAL);
        assert_int_equal(azure_cloud_of("global.azure-devices-provisioning.cn"), AZURE_CHINA);
        assert_int_equal(azure_cloud_of("hub.azure-devices.us"), AZURE_US_GOVERNMENT);
        assert_int_equal(azure_cloud_of("azure-devices.net"), _AZURE_CLOUD_MAX);
        assert_int_equal(azure_cloud_of("azure-devices.net.example"), _AZURE_CLOUD_MAX);
        assert_int_equal(azure_cloud_of(""), _AZURE_CLOUD_MAX);
}

static void test_no_check_advises_to_check(void **state) {
        static const uint32_t codes[] = { 0, 401000, 401002, 403000, 404201, 400208 };
        char buffer[CHECK_ADVICE_MAX];

        for (DpsErrorId id = DPS_ERROR_NONE + 1; id < _DPS_ERROR_MAX; id++)
                for (size_t k = 0; k < ELEMENTSOF(codes); k++) {
                        const DpsError error = { .id = id, .code = codes[k] };
                        const char *advice = check_advice(&error, buffer);

                        assert_null(strstr(advice, "dpsctl check"));
                        assert_true(strlen(advice) < CHECK_ADVICE_MAX - 1 && !strstr(advice, "  "));
                }
        assert_string_equal(check_advice(&(DpsError){ .id = DPS_ERROR_TIMEOUT }, buffer),
                            "check that no firewall drops the port; if not, DPS is slow: dpsd tries again");
}

static void test_a_row_holds_no_control_characters_and_not_more_than_a_kilobyte(void **state) {
        _cleanup_(checks_done) Checks c = { 0 };
        char text[3000];

        (void) state;
        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = 0;
        checks_add(&c, "key", CHECK_OK, "a\033[2Jb\xff");
        checks_add(&c, "key", CHECK_FAILURE, "%s", text);
        assert_string_equal(c.rows[0].text, "a?[2Jb?");
        assert_true(strlen(c.rows[1].text) <= 1024);
        assert_false(c.failed);
}

static void test_the_hint_names_a_clock_that_is_behind_before_one_that_is_not_synchronised(void **state) {
        CheckSubject s = { .behind_usec = USEC_PER_DAY };
        char text[CHECK_CLOCK_TEXT_MAX];

        (void) state;
        assert_non_null(strstr(check_clock_hint(&s, text), "behind"));
        s.behind_usec = 0;
        assert_non_null(strstr(check_clock_hint(&s, text), "not synchronised"));
        s.is_synchronized = true;
        assert_string_equal(check_clock_hint(&s, text), "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_step_that_hangs_ends_with_a_row_after_30_seconds,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                        test_an_identity_whose_configuration_hangs_is_not_looked_at_further, set_up,
                        tear_down),
                cmocka_unit_test_setup_teardown(
                        test_however_slow_each_step_is_an_inspection_ends_within_a_minute, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_the_handler_is_never_called_before_new_returns, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_a_freed_inspection_leaves_no_work_behind, set_up,
                                                tear_down),
                cmocka_unit_test(test_an_identity_without_a_file_is_told),
                cmocka_unit_test(test_each_cloud_is_known_by_its_names),
                cmocka_unit_test(test_no_check_advises_to_check),
                cmocka_unit_test(test_a_row_holds_no_control_characters_and_not_more_than_a_kilobyte),
                cmocka_unit_test(
                        test_the_hint_names_a_clock_that_is_behind_before_one_that_is_not_synchronised),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
