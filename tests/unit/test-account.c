/* SPDX-License-Identifier: MIT */
#include "dpsd/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "basic/times.h"

#define NOW (UINT64_C(1000) * USEC_PER_SEC)
#define USER 1000
#define ANOTHER 1001

static void a_user_with_connections_has_one_account(void **state) {
        Accounts a = { 0 };
        Account *first = accounts_get(&a, USER, NOW);

        assert_non_null(first);
        first->n_senders = 1;
        assert_ptr_not_equal(accounts_get(&a, ANOTHER, NOW), first);
        assert_ptr_equal(accounts_get(&a, USER, NOW + USEC_PER_DAY), first);
        accounts_done(&a);
}

static void a_share_that_was_taken_is_remembered_until_it_has_refilled(void **state) {
        Accounts a = { 0 };
        Account *user = accounts_get(&a, USER, NOW);

        assert_true(share_is_open(&user->share, SHARE_OF_USER, NOW));
        share_charge(&user->share, 2 * SHARE_MAX_USEC);
        (void) accounts_get(&a, ANOTHER, NOW + USEC_PER_SEC / 2);
        assert_false(share_is_open(&accounts_get(&a, USER, NOW)->share, SHARE_OF_USER, NOW));
        accounts_done(&a);
}

static void refusals_that_were_given_are_remembered_until_they_have_refilled(void **state) {
        Accounts a = { 0 };
        uint64_t now = NOW + USEC_PER_MINUTE; /* its share is full */

        assert_true(ratelimit_take(&accounts_get(&a, USER, NOW)->refusals, 1, USEC_PER_HOUR, now, NULL));
        (void) accounts_get(&a, ANOTHER, now);
        assert_false(ratelimit_take(&accounts_get(&a, USER, now)->refusals, 1, USEC_PER_HOUR, now, NULL));
        accounts_done(&a);
}

static void a_user_who_owes_nothing_is_forgotten(void **state) {
        Accounts a = { 0 };
        Account *other;

        assert_true(ratelimit_take(&accounts_get(&a, USER, NOW)->refusals, 1, USEC_PER_HOUR, NOW, NULL));
        other = accounts_get(&a, ANOTHER, NOW + USEC_PER_HOUR);
        assert_ptr_equal(a.first, other);
        assert_null(other->next);
        accounts_done(&a);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_user_with_connections_has_one_account),
                cmocka_unit_test(a_share_that_was_taken_is_remembered_until_it_has_refilled),
                cmocka_unit_test(refusals_that_were_given_are_remembered_until_they_have_refilled),
                cmocka_unit_test(a_user_who_owes_nothing_is_forgotten),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
