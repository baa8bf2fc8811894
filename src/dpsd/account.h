/* SPDX-License-Identifier: MIT */
#pragma once

/* What users have asked for over D-Bus. Limits are by user, since a user may have many connections. Only time resets
 * them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "basic/times.h"
#include "dpsd/ratelimit.h"

#define SHARE_OF_USER 10                                 /* percent of the time */
#define SHARE_MAX_USEC ((int64_t) (100 * USEC_PER_MSEC)) /* the most that can be saved up */
#define DEBT_MAX_USEC ((int64_t) USEC_PER_SEC)

/* A part of the time. All zero: nothing is saved up yet. */
typedef struct Share {
        int64_t left_usec; /* negative: more was taken than there was */
        uint64_t settled_usec;
} Share;

/* Whether anything is left of a share of this many percent. */
bool share_is_open(Share *s, unsigned percent, uint64_t now_usec);
void share_charge(Share *s, int64_t usec);

typedef struct Account {
        struct Account *next;
        uint32_t uid;
        unsigned n_senders, n_checks, n_at_polkit;
        size_t size; /* of the arguments */
        Share share;
        RateLimit refusals;
} Account;

typedef struct Accounts {
        Account *first;
        Account *payer; /* who pays for what is done now; NULL: nobody */
} Accounts;

/* The account of a user, which may be a new one; NULL: out of memory. It stays while it has senders, or pays. */
Account *accounts_get(Accounts *a, uint32_t uid, uint64_t now_usec);
void accounts_done(Accounts *a);
