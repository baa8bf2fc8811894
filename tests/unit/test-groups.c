/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>

#include "basic/text.h"
#include "basic/world-event.h"
#include "dpsd/groups.h"

/* --- a database of groups ------------------------------------------------------------------------------- */

static atomic_uint n_lookups;
static atomic_int error; /* what the database answers */
static atomic_uint gid_of_programs;

static int look_up(const char *name, gid_t *ret) {
        atomic_fetch_add(&n_lookups, 1);
        if (error != 0)
                return error;
        if (!streq(name, "programs"))
                return -ENOENT;
        *ret = gid_of_programs;
        return 0;
}

static sd_event *event;
static World *world;
static Groups *groups;
static unsigned n_found;
static char found[32];
static gid_t gid;

static void on_found(const char *name, void *userdata) {
        n_found++;
        (void) snprintf(found, sizeof(found), "%s", name);
}

static int set_up(void **state) {
        n_lookups = n_found = 0;
        error = 0;
        gid_of_programs = 700;
        gid = 0;
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(world_event_new(event, &world), 0);
        assert_int_equal(groups_new(world, look_up, on_found, NULL, &groups), 0);
        return 0;
}

static int tear_down(void **state) {
        groups = groups_free(groups);
        world = world_free(world);
        event = sd_event_unref(event);
        return 0;
}

static void hear(void) {
        work_wait(world, WORK_GROUPS);
        while (sd_event_run(event, 0) > 0)
                ;
}

/* --- promises ------------------------------------------------------------------------------------------- */

static void a_group_is_found_in_the_loop(void **state) {
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        assert_int_equal(n_found, 0);
        hear();
        assert_int_equal(n_found, 1);
        assert_string_equal(found, "programs");
        assert_int_equal(groups_find(groups, "programs", &gid), 1);
        assert_int_equal(gid, 700);
}

static void many_requests_make_one_lookup(void **state) {
        for (unsigned k = 0; k < 10; k++)
                assert_int_equal(groups_find(groups, "programs", &gid), 0);
        hear();
        for (unsigned k = 0; k < 10; k++)
                assert_int_equal(groups_find(groups, "programs", &gid), 1);
        assert_int_equal(n_lookups, 1);
        assert_int_equal(n_found, 1);
}

static void a_group_that_does_not_exist_is_reported(void **state) {
        assert_int_equal(groups_find(groups, "nobodies", &gid), 0);
        hear();
        assert_int_equal(n_found, 1);
        assert_int_equal(groups_find(groups, "nobodies", &gid), -ENOENT);
        assert_int_equal(groups_recall(groups, "nobodies", &gid), -ENOENT);
        assert_int_equal(gid, 0);
}

static void a_failure_of_the_system_is_not_a_missing_group(void **state) {
        error = -EIO;
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        hear();
        assert_int_equal(groups_find(groups, "programs", &gid), -EIO);
        assert_int_equal(n_lookups, 1);
}

static void a_group_is_looked_up_again_after_a_reload(void **state) {
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        hear();
        gid_of_programs = 701;
        groups_forget(groups);
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        hear();
        assert_int_equal(groups_find(groups, "programs", &gid), 1);
        assert_int_equal(gid, 701);
        assert_int_equal(n_lookups, 2);
}

static void the_last_answer_is_recalled_during_a_new_lookup(void **state) {
        assert_int_equal(groups_recall(groups, "programs", &gid), 0);
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        assert_int_equal(groups_recall(groups, "programs", &gid), 0);
        hear();
        groups_forget(groups);
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        assert_int_equal(groups_recall(groups, "programs", &gid), 1);
        assert_int_equal(gid, 700);
}

static void a_lookup_that_a_reload_overtakes_is_repeated_once(void **state) {
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        work_wait(world, WORK_GROUPS);
        gid_of_programs = 701;
        for (unsigned k = 0; k < 10; k++) {
                groups_forget(groups);
                assert_int_equal(groups_find(groups, "programs", &gid), 0);
        }
        hear(); /* the first lookup ends, and the second begins */
        hear();
        assert_int_equal(n_lookups, 2);
        assert_int_equal(n_found, 1);
        assert_int_equal(groups_find(groups, "programs", &gid), 1);
        assert_int_equal(gid, 701);
}

static void freeing_forgets_lookups(void **state) {
        assert_int_equal(groups_find(groups, "programs", &gid), 0);
        groups = groups_free(groups);
        hear();
        assert_int_equal(n_found, 0);
}

static void the_database_of_the_system_is_asked(void **state) {
        groups_free(groups);
        assert_int_equal(groups_new(world, NULL, on_found, NULL, &groups), 0);
        assert_int_equal(groups_find(groups, "root", &gid), 0);
        assert_int_equal(groups_find(groups, "no-such-group-here", &gid), 0);
        hear();
        gid = 1;
        assert_int_equal(groups_find(groups, "root", &gid), 1);
        assert_int_equal(gid, 0);
        assert_int_equal(groups_find(groups, "no-such-group-here", &gid), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(a_group_is_found_in_the_loop),
                TEST(many_requests_make_one_lookup),
                TEST(a_group_that_does_not_exist_is_reported),
                TEST(a_failure_of_the_system_is_not_a_missing_group),
                TEST(a_group_is_looked_up_again_after_a_reload),
                TEST(the_last_answer_is_recalled_during_a_new_lookup),
                TEST(a_lookup_that_a_reload_overtakes_is_repeated_once),
                TEST(freeing_forgets_lookups),
                TEST(the_database_of_the_system_is_asked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
