/* SPDX-License-Identifier: MIT */
#include "dpsd/account.h"

#include <stdlib.h>

#include "basic/cleanup.h"

bool share_is_open(Share *s, unsigned percent, uint64_t now_usec) {
        uint64_t refill = usec_sub(now_usec, s->settled_usec) * percent / 100;

        s->left_usec = refill > (uint64_t) (SHARE_MAX_USEC - s->left_usec) ? SHARE_MAX_USEC
                                                                           : s->left_usec + (int64_t) refill;
        s->settled_usec = now_usec;
        return s->left_usec > 0;
}

void share_charge(Share *s, int64_t usec) {
        s->left_usec = MAX(s->left_usec - usec, -DEBT_MAX_USEC);
}

/* A user who is gone is forgotten only when nothing is left of what was taken, refusals too. */
static void forget_idle(Accounts *a, uint64_t now_usec) {
        for (Account **place = &a->first; *place;) {
                Account *account = *place;

                (void) share_is_open(&account->share, SHARE_OF_USER, now_usec);
                if (account->n_senders > 0 || account == a->payer ||
                    account->share.left_usec < SHARE_MAX_USEC ||
                    !ratelimit_is_full(&account->refusals, now_usec)) {
                        place = &account->next;
                        continue;
                }
                *place = account->next;
                free(account);
        }
}

Account *accounts_get(Accounts *a, uint32_t uid, uint64_t now_usec) {
        Account *account;

        for (account = a->first; account; account = account->next)
                if (account->uid == uid)
                        return account;
        account = calloc(1, sizeof(*account));
        if (account) {
                forget_idle(a, now_usec);
                account->uid = uid;
                account->next = a->first;
                a->first = account;
        }
        return account;
}

void accounts_done(Accounts *a) {
        for (Account *next; a->first; a->first = next) {
                next = a->first->next;
                free(a->first);
        }
}
