/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files that decide on requests, which form one module. All others include access.h.
 *
 * May call each other:
 *
 *      access.c          checks: from the arrival of a request to its end
 *      access-sender.c   the connections that requests come from: who is there, and that it has gone
 *      access-polkit.c   asking polkit, one sender after the other
 *      access-admit.c    what needs no right: how much of it is carried out
 */

#include "dpsd/access.h"
#include "dpsd/account.h"

typedef struct CheckList {
        Check *first, *last;
} CheckList;

/* A connection with requests that are not decided yet. While too much is asked for, any connection that we have heard of. */
typedef struct Sender {
        struct Sender *next;
        Access *access;
        char *name;
        CheckList waiting, at_polkit; /* in order of arrival */
        CheckList kept;
        unsigned n_checks;
        sd_bus_slot *slot; /* of the question to the bus; NULL: there is none, or not yet */
        Account *account;  /* NULL: the answer has not come yet */
        bool has_uid;
        uint32_t uid;
        uint32_t *gids; /* NULL if the bus did not send the groups */
        size_t n_gids;
} Sender;

struct Check {
        Check *previous, *next;
        CheckList *list;
        Sender *sender;
        sd_bus_message *request; /* our copy */
        size_t size;
        uint64_t deadline_usec; /* CLOCK_BOOTTIME */
        int64_t cost_usec;      /* with ACCESS_READ */
        Account *account;       /* it is charged to this one; NULL: to none yet */
        Check **kept;           /* who keeps the request to answer it later; NULL: nobody */
        sd_bus_slot *slot;      /* of the call to polkit */
        AccessRight right;
        char *identity, *group; /* NULL: none */
        access_handler_t handler;
};

struct Access {
        World *world;
        const Groups *groups;
        void *userdata;
        Sender *senders; /* the one whose turn it is comes first */
        Accounts accounts;
        Account unknown;               /* of all senders whose user is not known yet */
        Check *current;                /* whose handler is called */
        sd_bus_slot *gone;             /* tells of connections that end; NULL: there are no senders */
        unsigned n_asked, n_at_polkit; /* questions to the bus, and to polkit */
        Timer *deadline;
        uint64_t armed_usec; /* the first deadline of the checks that wait; 0: none waits */

        Share share; /* of all that needs no right */
        bool is_overloaded;
        uint64_t cpu_usec; /* when the share was charged last, by the clock of this thread's work */
        RateLimit large;
};

static inline uint64_t access_now(const Access *a) {
        return world_now_usec(a->world, CLOCK_BOOTTIME);
}

/* access.c */
#define POLKIT_INTERACTIVE_TIMEOUT (2 * USEC_PER_MINUTE) /* for a person to find and type a password */
#define TOO_MUCH "You ask too often; try again in some seconds"
Check *check_free(Check *c);
DEFINE_FREEP(Check, check_free)
void check_join(Check *c, CheckList *l);
bool check_is_interactive(const Check *c);
/* What the groups of the sender's process decide. */
AccessVerdict check_by_group(const Check *c);
/* Charges the check to the user of its sender, and decides it if we can. */
void check_decide(Check *c);
/* Ends a check: does what was asked, or refuses it. A request that is answered later stays with its sender. */
void check_end(Check *c, AccessVerdict verdict);
/* Ends a check with this D-Bus error. */
void check_fail(Check *check, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* access_request(), with what the user pays for the request if the right is ACCESS_READ. */
int access_take(Access *a, sd_bus_message *request, AccessRight right, int64_t cost_usec,
                const char *identity, const char *group, access_handler_t handler, sd_bus_error *error);
/* Tells the caller that it asks for too much, unless its user was told so too often. */
void access_refuse_excess(const Access *a, Account *account, sd_bus_message *request, const char *why);

/* access-sender.c */
int sender_new(Access *a, sd_bus_message *request, Sender **ret);
void sender_free(Sender *s);
void sender_free_if_done(Sender *s);
Sender *sender_find(const Access *a, const char *name);
void access_forget_senders(Access *a);

/* access-polkit.c */
const char *access_action(AccessRight right);
/* Sends one check of this sender to polkit. False: it has none, or its user has as many there as a user may have. */
bool sender_ask_polkit(Sender *s);
/* Sends what there is room for to polkit. The senders take turns. */
void access_ask_polkit(Access *a);

/* access-admit.c */
/* Whether the user of this sender has time left of the share for what needs no right. */
bool sender_may_read(Sender *s);
