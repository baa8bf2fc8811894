/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "client/window.h"
#include "timed-world.h"

#define SLOTS 6

typedef struct User {
        Slot slot;
        unsigned number, n_granted, n_paused;
        uint64_t paused_until_usec;
} User;

static TimedWorld world;
static Window *window;
static User users[SLOTS];
static unsigned order[SLOTS], n_order, n_idle;

static void on_granted(void *userdata) {
        User *u = userdata;

        u->n_granted++;
        order[n_order++] = u->number;
}

static void on_paused(uint64_t until_usec, void *userdata) {
        User *u = userdata;

        u->n_paused++;
        u->paused_until_usec = until_usec;
}

static void on_idle(void *userdata) {
        n_idle++;
}

static int set_up(void **state) {
        timed_world_init(&world);
        n_order = n_idle = 0;
        assert_int_equal(window_new(&world.world, &window), 0);
        for (unsigned k = 0; k < SLOTS; k++)
                users[k] = (User){
                        .number = k,
                        .slot = { .on_granted = on_granted, .on_paused = on_paused, .userdata = &users[k] }
                };
        return 0;
}

static int tear_down(void **state) {
        for (unsigned k = 0; k < SLOTS; k++)
                slot_leave(&users[k].slot);
        window_free(window);
        timed_world_done(&world);
        return 0;
}

static void enter(unsigned k, const char *scope) {
        assert_int_equal(slot_enter(&users[k].slot, window, scope, "dps.example"), 0);
}

static void turns(void) {
        timed_world_pass(&world, USEC_PER_SEC);
}

static void test_no_more_slots_are_held_than_allowed(void **state) {
        window_set_max(window, 2);
        for (unsigned k = 0; k < 4; k++) {
                enter(k, "0ne1");
                assert_int_equal(slot_acquire(&users[k].slot), k < 2);
        }
        turns();
        assert_int_equal(n_order, 0);
        assert_int_equal(users[2].slot.state, SLOT_WANTED);
}

static void test_the_slot_that_has_waited_longest_comes_first(void **state) {
        window_set_max(window, 1);
        for (unsigned k = 0; k < 4; k++) {
                enter(k, "0ne1");
                (void) slot_acquire(&users[k].slot);
        }
        for (unsigned k = 0; k < 3; k++) {
                slot_release(&users[k].slot);
                turns();
                assert_int_equal(order[k], k + 1);
        }
        assert_int_equal(n_order, 3);
}

static void test_scopes_take_turns(void **state) {
        window_set_max(window, 1);
        for (unsigned k = 0; k < 5; k++) {
                enter(k, k < 4 ? "0ne1" : "0ne2");
                (void) slot_acquire(&users[k].slot);
        }
        slot_release(&users[0].slot);
        turns();
        slot_release(&users[order[0]].slot);
        turns();
        assert_true(order[0] == 4 || order[1] == 4);
}

static void test_a_slot_that_leaves_gives_up_its_place(void **state) {
        window_set_max(window, 1);
        for (unsigned k = 0; k < 3; k++) {
                enter(k, "0ne1");
                (void) slot_acquire(&users[k].slot);
        }
        slot_leave(&users[1].slot);
        slot_leave(&users[0].slot);
        turns();
        assert_int_equal(n_order, 1);
        assert_int_equal(order[0], 2);
}

static void test_a_429_pauses_the_others_of_the_scope_and_no_other_scope(void **state) {
        uint64_t until = world.now_usec + USEC_PER_MINUTE;

        enter(0, "0ne1");
        enter(1, "0ne1");
        enter(2, "0ne2");
        assert_true(slot_acquire(&users[0].slot));
        slot_throttled(&users[0].slot, until);
        assert_int_equal(users[0].n_paused, 0);
        assert_int_equal(users[1].n_paused, 1);
        assert_true(users[1].paused_until_usec == until);
        assert_int_equal(users[2].n_paused, 0);
        assert_true(slot_paused_until_usec(&users[1].slot) == until);
        assert_true(slot_paused_until_usec(&users[2].slot) == 0);
}

static void test_a_429_halves_the_window_of_the_scope_and_success_widens_it(void **state) {
        window_set_max(window, 4);
        for (unsigned k = 0; k < SLOTS; k++)
                enter(k, "0ne1");
        assert_true(slot_acquire(&users[0].slot));
        slot_throttled(&users[0].slot, world.now_usec + 1);
        assert_true(slot_acquire(&users[1].slot));
        assert_false(slot_acquire(&users[2].slot));
        slot_succeeded(&users[0].slot);
        slot_release(&users[0].slot);
        turns();
        assert_int_equal(n_order, 1);
        assert_true(slot_acquire(&users[3].slot));
        assert_false(slot_acquire(&users[4].slot));
}

static void test_the_idle_handler_is_called_once(void **state) {
        window_on_idle(window, on_idle, NULL);
        enter(0, "0ne1");
        turns();
        assert_int_equal(n_idle, 0);
        assert_true(slot_acquire(&users[0].slot));
        turns();
        assert_int_equal(n_idle, 0);
        slot_release(&users[0].slot);
        turns();
        turns();
        assert_int_equal(n_idle, 1);
}

static void on_paused_another_leaves(uint64_t until_usec, void *userdata) {
        on_paused(until_usec, userdata);
        slot_leave(&users[1].slot);
}

static void test_a_slot_that_leaves_meanwhile_hides_the_pause_from_no_other(void **state) {
        for (unsigned k = 0; k < 4; k++)
                enter(k, "0ne1");
        users[2].slot.on_paused = on_paused_another_leaves;
        slot_throttled(&users[3].slot, world.now_usec + USEC_PER_MINUTE);
        assert_int_equal(users[2].n_paused, 1);
        assert_int_equal(users[1].n_paused, 0);
        assert_int_equal(users[0].n_paused, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_no_more_slots_are_held_than_allowed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_the_slot_that_has_waited_longest_comes_first, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_scopes_take_turns, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_slot_that_leaves_gives_up_its_place, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_a_429_pauses_the_others_of_the_scope_and_no_other_scope,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                        test_a_429_halves_the_window_of_the_scope_and_success_widens_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(
                        test_a_slot_that_leaves_meanwhile_hides_the_pause_from_no_other, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_the_idle_handler_is_called_once, set_up, tear_down),
        };

        return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
