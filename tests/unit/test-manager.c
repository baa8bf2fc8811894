/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "small-core.h"

static void provision(const char *name, const char *registration_id) {
        configure(name, registration_id);
        answer_assigned("hub-1.example");
        assert_state(name, IDENTITY_ASSIGNED);
}

static void assert_description(const char *expected) {
        char text[512];

        manager_describe(manager, text, sizeof(text));
        if (!strstr(text, expected))
                fail_msg("\"%s\" does not say \"%s\"", text, expected);
}

/* ---- what it shows ---- */

static void without_identities_the_manager_is_idle(void **state) {
        bool is_assigned = false;

        assert_string_equal(manager_state(manager), "idle");
        assert_description("no identity is configured");
        assert_true(manager_is_settled(manager, true, &is_assigned));
        assert_true(is_assigned);
}

static void the_state_of_the_manager_is_that_of_the_worst_identity(void **state) {
        configure("a", "dev-a");
        assert_string_equal(manager_state(manager), "provisioning");
        answer_assigned("hub-1.example");
        assert_string_equal(manager_state(manager), "ok");
        assert_description("1 of 1 identities assigned");

        configure("b", "dev-b");
        assert_string_equal(manager_state(manager), "provisioning");
        assert_int_equal(manager_n_assigned(manager), 1);
        answer_refused();
        assert_string_equal(manager_state(manager), "degraded");
        assert_description("1 of 2 identities assigned; b: ");
}

static void an_error_of_an_assigned_identity_is_described_but_does_not_degrade(void **state) {
        provision("a", "dev-a");
        request("a");
        answer_refused();
        assert_string_equal(manager_state(manager), "ok");
        assert_description("1 of 1 identities assigned; a: ");
}

static void the_manager_is_settled_when_all_are_assigned_or_have_failed(void **state) {
        bool is_assigned = true;

        configure("a", "dev-a");
        assert_false(manager_is_settled(manager, true, &is_assigned));
        answer_assigned("hub-1.example");
        assert_true(manager_is_settled(manager, true, &is_assigned));
        assert_true(is_assigned);
        configure("b", "dev-b");
        answer_refused();
        assert_true(manager_is_settled(manager, true, &is_assigned));
        assert_false(is_assigned);
}

/* ---- what it tells ---- */

static void several_changes_in_one_turn_are_reported_once(void **state) {
        unsigned n_changed, n_turns;

        provision("a", "dev-a");
        n_changed = core_told.n_changed;
        n_turns = core_told.n_turns;
        for (unsigned k = 0; k < 5; k++)
                identity_advance(find("a"));
        settle();
        assert_int_equal(core_told.n_changed, n_changed + 1);
        assert_int_equal(core_told.n_turns, n_turns + 1);
}

static void an_identity_is_added_once(void **state) {
        configure("a", "dev-a");
        configure("a", "dev-a");
        assert_int_equal(core_told.n_added, 1);
        assert_int_equal(core_transport.n_connects, 1);
}

static void identities_are_sorted_by_name(void **state) {
        configure("b", "dev-b");
        configure("c", "dev-c");
        configure("a", "dev-a");
        for (size_t k = 0; k < 3; k++)
                assert_int_equal(manager->identities[k]->name[0], 'a' + (int) k);
}

static void the_network_is_watched_while_somebody_waits_for_it(void **state) {
        DpsError error;

        configure("a", "dev-a");
        dps_error_set(&error, DPS_ERROR_UNREACHABLE, DPS_STEP_CONNECT, "no route");
        core_transport.last->handlers.on_closed(&error, core_transport.last->userdata);
        settle();
        assert_true(core_told.watches_network);
        manager_on_network(manager);
        timed_world_pass(&world, 5 * USEC_PER_SEC);
        assert_int_equal(core_transport.n_connects, 2);
        answer_assigned("hub-1.example");
        assert_false(core_told.watches_network);
}

/* ---- twins ---- */

static void the_first_twin_by_name_keeps_the_device(void **state) {
        configure("b", "dev-1");
        configure("a", "DEV-1");
        assert_state("b", IDENTITY_FAILED);
        assert_int_equal(find("b")->plan.waiting, WAITING_CONFIG);
        assert_string_equal(find("b")->configuration.twin, "a");
        assert_null(find("a")->configuration.twin);
        assert_state("a", IDENTITY_PROVISIONING);
        assert_int_equal(core_transport.n_open, 1); /* b has given up */
        answer_assigned("hub-1.example");
        assert_state("a", IDENTITY_ASSIGNED);
        assert_state("b", IDENTITY_FAILED);
}

static void a_newcomer_does_not_take_the_device_from_the_twin_that_holds_the_assignment(void **state) {
        provision("b", "dev-1");
        configure("a", "DEV-1");
        assert_state("b", IDENTITY_ASSIGNED);
        assert_null(find("b")->configuration.twin);
        assert_state("a", IDENTITY_FAILED);
        assert_int_equal(find("a")->plan.waiting, WAITING_CONFIG);
        assert_string_equal(find("a")->configuration.twin, "b");
        assert_non_null(strstr(find("a")->keeper.record->error.message, "b.conf and a.conf both have"));
        assert_int_equal(core_transport.n_connects, 1);
}

static void an_assignment_of_another_device_keeps_no_device(void **state) {
        provision("b", "dev-2");
        configure("a", "dev-1");
        configure("b", "dev-1");
        assert_null(find("a")->configuration.twin);
        assert_string_equal(find("b")->configuration.twin, "a");
}

static void the_end_of_a_twin_frees_the_other(void **state) {
        char *names[] = { (char *) "b", NULL };

        provision("a", "dev-1");
        configure("b", "dev-1");
        assert_state("b", IDENTITY_FAILED);
        manager_retain(manager, names);
        settle();
        assert_state("b", IDENTITY_PROVISIONING);
        answer_assigned("hub-2.example");
        assert_state("b", IDENTITY_ASSIGNED);
}

static void a_twin_that_becomes_another_device_frees_the_other(void **state) {
        provision("a", "dev-1");
        configure("b", "dev-1");
        configure("a", "dev-2");
        assert_null(find("b")->configuration.twin);
        assert_state("b", IDENTITY_PROVISIONING);
}

static void a_twin_whose_new_registration_id_has_no_value_yet_does_not_ask(void **state) {
        provision("a", "dev-1");
        configure("b", "dev-1");
        assert_state("b", IDENTITY_FAILED);
        configure("b", "%{mac:nowhere0}");
        timed_world_pass(&world, USEC_PER_HOUR);
        assert_int_equal(core_transport.n_connects, 1);
        assert_int_equal(find("b")->plan.waiting, WAITING_NETWORK);

        configure("b", "dev-2");
        assert_state("b", IDENTITY_PROVISIONING);
}

static void each_of_three_twins_names_the_first(void **state) {
        char *names[] = { (char *) "b", (char *) "c", NULL };

        provision("a", "dev-1");
        configure("b", "dev-1");
        configure("c", "dev-1");
        assert_string_equal(find("b")->configuration.twin, "a");
        assert_string_equal(find("c")->configuration.twin, "a");
        manager_retain(manager, names);
        settle();
        assert_null(find("b")->configuration.twin);
        assert_string_equal(find("c")->configuration.twin, "b");
}

/* ---- a scope that DPS throttles ---- */

static void be_throttled(const char *name, const char *registration_id) {
        configure(name, registration_id);
        answer(&(DpsReply){
                .status = 429, .error_code = 429001, .has_retry_after = true, .retry_after_sec = 3600 });
}

static void restart(void) {
        core_stop();
        core_start();
        core_transport.n_connects = 0;
}

static void what_dps_told_one_of_a_scope_binds_the_others_after_a_restart_too(void **state) {
        be_throttled("a", "dev-a");
        configure("b", "dev-b");
        assert_int_equal(core_transport.n_connects, 1);

        restart();
        configure("a", "dev-a");
        configure("b", "dev-b");
        configure("newcomer", "dev-n");
        timed_world_pass(&world, 59 * USEC_PER_MINUTE);
        assert_int_equal(core_transport.n_connects, 0);
        timed_world_pass(&world, 14 * USEC_PER_MINUTE);
        assert_true(core_transport.n_connects >= 3);
}

static void what_dps_told_at_one_endpoint_binds_nobody_at_another(void **state) {
        be_throttled("a", "dev-a");
        configure_at("b", "dev-b", "other.example");
        assert_int_equal(core_transport.n_connects, 2);

        restart();
        configure_at("a", "dev-a", "other.example"); /* the file was changed meanwhile */
        assert_int_equal(core_transport.n_connects, 1);
        configure("c", "dev-c");
        assert_int_equal(core_transport.n_connects, 1);
}

/* ---- directories that are replaced ---- */

static unsigned count_written(unsigned n_identities, bool (*is_written)(const char *name)) {
        unsigned n = 0;

        for (unsigned k = 0; k < n_identities; k++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "gw-%u", k);
                n += is_written(name);
        }
        return n;
}

static bool is_saved(const char *name) {
        _cleanup_(freep) char *file = NULL, *text = NULL;

        assert_true(asprintf(&file, "%s.json", name) > 0);
        text = small_disk_text(disk.state, file);
        return text;
}

static bool is_public(const char *name) {
        return is_published(name, "connection.json", "hub-1.example");
}

static void remove_written(const char *name) {
        _cleanup_(freep) char *file = NULL;
        _cleanup_(folder_freep) Folder *f = NULL;

        assert_true(asprintf(&file, "%s.json", name) > 0);
        assert_int_equal(folder_remove(disk.state, file), 0);
        assert_int_equal(folder_open_folder(disk.runtime, name, &f), 0);
        assert_int_equal(folder_remove(f, "connection.json"), 0);
}

#define MANY (2 * MANAGER_WRITES_MAX + 10)

static void provision_many(void) {
        for (unsigned k = 0; k < MANY; k++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "gw-%u", k);
                provision(name, name);
        }
        for (unsigned k = 0; k < MANY; k++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "gw-%u", k);
                remove_written(name);
        }
}

/* Between them others have their turn. */
static void assert_written_in_three_turns(bool (*is_written)(const char *name)) {
        assert_int_equal(count_written(MANY, is_written), 0);
        settle();
        assert_int_equal(count_written(MANY, is_written), MANAGER_WRITES_MAX);
        timed_world_pass(&world, MANAGER_PAUSE_USEC);
        assert_int_equal(count_written(MANY, is_written), 2 * MANAGER_WRITES_MAX);
        timed_world_pass(&world, MANAGER_PAUSE_USEC);
        assert_int_equal(count_written(MANY, is_written), MANY);
}

static void what_was_in_a_directory_is_written_into_another_in_turns(void **state) {
        provision_many();
        manager_save_all(manager);
        assert_written_in_three_turns(is_saved);
        assert_int_equal(count_written(MANY, is_public), 0);
        manager_publish_all(manager);
        assert_written_in_three_turns(is_public);
}

static void many_changes_are_told_in_turns(void **state) {
        provision_many();
        core_told.n_changed = core_told.n_turns = 0;
        manager_on_network(manager);
        timed_world_pass(&world, 0);
        assert_int_equal(core_told.n_changed, MANAGER_TURN_MAX);
        assert_false(manager_is_serving(manager));
        timed_world_pass(&world, MANAGER_PAUSE_USEC);
        assert_int_equal(core_told.n_changed, 2 * MANAGER_TURN_MAX);
        assert_int_equal(core_told.n_turns, 0);
        timed_world_pass(&world, MANAGER_PAUSE_USEC);
        assert_int_equal(core_told.n_changed, MANY);
        assert_int_equal(core_told.n_turns, 1);
        assert_true(manager_is_serving(manager));
}

static void who_comes_and_goes_meanwhile_changes_nothing_for_the_others(void **state) {
        provision_many();
        manager_save_all(manager);
        manager_publish_all(manager);
        settle();
        manager_retire(manager, find("gw-0"));
        configure("a", "dev-a");
        timed_world_pass(&world, 3 * MANAGER_PAUSE_USEC);
        assert_int_equal(count_written(MANY, is_public), MANY - 1);
        assert_int_equal(count_written(MANY, is_saved), MANY);
}

/* ---- identities that go ---- */

static void an_identity_without_a_file_is_not_served_and_its_record_is_kept(void **state) {
        provision("a", "dev-a");
        manager_retain(manager, NULL);
        settle();
        assert_int_equal(core_told.n_removed, 1);
        assert_null(manager_find(manager, "a"));
        assert_string_equal(manager_state(manager), "idle");
        assert_int_equal(manager_n_assigned(manager), 0);
        assert_false(is_published("a", "connection.json", "hub-1.example"));

        configure("a", "dev-a");
        assert_state("a", IDENTITY_ASSIGNED);
        assert_true(is_published("a", "connection.json", "hub-1.example"));
        assert_int_equal(core_transport.n_connects, 1);
}

static void an_identity_that_is_removed_during_an_attempt_closes_its_connection(void **state) {
        configure("a", "dev-a");
        assert_int_equal(core_transport.n_open, 1);
        manager_retain(manager, NULL);
        settle();
        assert_int_equal(core_transport.n_open, 0);
        assert_false(core_told.watches_network);
}

static void on_forgotten(int r, void *userdata) {
        *(int *) userdata = r;
}

/* Returns what the handler is told. */
static int forget(const char *name) {
        int told = 1;

        assert_int_equal(manager_forget(manager, name, on_forgotten, &told), 0);
        settle();
        return told;
}

static void only_an_identity_without_a_file_can_be_forgotten(void **state) {
        provision("a", "dev-a");
        assert_int_equal(manager_forget(manager, "a", on_forgotten, NULL), -EBUSY);
        manager_retain(manager, NULL);
        settle();
        assert_int_equal(forget("a"), 0);
        assert_null(small_disk_text(disk.state, "a.json"));
        assert_int_equal(forget("a"), -ENOENT);

        configure("a", "dev-a");
        assert_state("a", IDENTITY_PROVISIONING); /* nothing is cached any more */
}

static void an_identity_that_returns_while_it_is_forgotten_begins_anew_and_stays(void **state) {
        int told = 1;

        provision("a", "dev-a");
        manager_retain(manager, NULL);
        settle();
        world.holds[WORK_DISK] = true;
        assert_int_equal(manager_forget(manager, "a", on_forgotten, &told), 0);
        configure("a", "dev-a");
        assert_state("a", IDENTITY_PROVISIONING);
        answer_assigned("hub-2.example");
        assert_int_equal(told, 1);
        world.holds[WORK_DISK] = false;
        settle();
        assert_int_equal(told, 0);
        assert_state("a", IDENTITY_ASSIGNED);
        assert_true(is_published("a", "connection.json", "hub-2.example"));
        restart();
        configure("a", "dev-a");
        assert_state("a", IDENTITY_ASSIGNED);
        assert_int_equal(core_transport.n_connects, 0);
}

static void only_so_many_identities_are_forgotten_at_a_time(void **state) {
        int told[MANAGER_FORGETS_MAX];
        char name[16];

        world.holds[WORK_DISK] = true;
        for (unsigned k = 0; k < MANAGER_FORGETS_MAX; k++) {
                told[k] = 1;
                (void) snprintf(name, sizeof(name), "gone-%u", k);
                assert_int_equal(manager_forget(manager, name, on_forgotten, &told[k]), 0);
        }
        assert_int_equal(manager_forget(manager, "more", on_forgotten, NULL), -EAGAIN);
        world.holds[WORK_DISK] = false;
        settle();
        for (unsigned k = 0; k < MANAGER_FORGETS_MAX; k++)
                assert_int_equal(told[k], -ENOENT);
        assert_int_equal(forget("more"), -ENOENT);
}

static void outputs_of_removed_identities_are_deleted_and_foreign_directories_stay(void **state) {
        Folder *foreign;

        provision("a", "dev-a");
        provision("b", "dev-b");
        core_stop();
        assert_int_equal(folder_make_folder(disk.runtime, "foreign", 0755, (gid_t) -1, &foreign), 0);
        small_disk_put(foreign, "connection.json", "{}");
        small_disk_put(foreign, "data", "somebody else's");
        folder_free(foreign);
        core_start();
        configure("a", "dev-a");
        manager_remove_leftovers(manager);
        assert_true(is_published("a", "connection.json", "hub-1.example"));
        assert_false(is_published("b", "connection.json", "hub-1.example"));
        assert_true(is_published("foreign", "data", "somebody else's"));
        assert_int_equal(forget("b"), 0); /* its record was kept */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, core_set_up, core_tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(without_identities_the_manager_is_idle),
                TEST(the_state_of_the_manager_is_that_of_the_worst_identity),
                TEST(an_error_of_an_assigned_identity_is_described_but_does_not_degrade),
                TEST(the_manager_is_settled_when_all_are_assigned_or_have_failed),
                TEST(several_changes_in_one_turn_are_reported_once),
                TEST(an_identity_is_added_once),
                TEST(identities_are_sorted_by_name),
                TEST(the_network_is_watched_while_somebody_waits_for_it),
                TEST(the_first_twin_by_name_keeps_the_device),
                TEST(a_newcomer_does_not_take_the_device_from_the_twin_that_holds_the_assignment),
                TEST(an_assignment_of_another_device_keeps_no_device),
                TEST(the_end_of_a_twin_frees_the_other),
                TEST(a_twin_that_becomes_another_device_frees_the_other),
                TEST(a_twin_whose_new_registration_id_has_no_value_yet_does_not_ask),
                TEST(each_of_three_twins_names_the_first),
                TEST(what_dps_told_one_of_a_scope_binds_the_others_after_a_restart_too),
                TEST(what_dps_told_at_one_endpoint_binds_nobody_at_another),
                TEST(what_was_in_a_directory_is_written_into_another_in_turns),
                TEST(many_changes_are_told_in_turns),
                TEST(who_comes_and_goes_meanwhile_changes_nothing_for_the_others),
                TEST(an_identity_without_a_file_is_not_served_and_its_record_is_kept),
                TEST(an_identity_that_is_removed_during_an_attempt_closes_its_connection),
                TEST(only_an_identity_without_a_file_can_be_forgotten),
                TEST(an_identity_that_returns_while_it_is_forgotten_begins_anew_and_stays),
                TEST(only_so_many_identities_are_forgotten_at_a_time),
                TEST(outputs_of_removed_identities_are_deleted_and_foreign_directories_stay),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
