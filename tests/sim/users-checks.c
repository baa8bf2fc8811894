/* SPDX-License-Identifier: MIT */
#include "users-internal.h"

#include <inttypes.h>

#include "basic/text.h"
#include "dpsd/access.h"

/* ---- answers ---- */

/* Whether this is the answer of who may not do what was asked for; anything else means that it was done, or tried. */
static bool is_refusal(const char *error) {
        static const char *const names[] = {
                SD_BUS_ERROR_ACCESS_DENIED,   SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                SD_BUS_ERROR_LIMITS_EXCEEDED, SD_BUS_ERROR_TIMEOUT,
                SD_BUS_ERROR_INVALID_ARGS,    SD_BUS_ERROR_UNKNOWN_OBJECT,
                SD_BUS_ERROR_NO_MEMORY
        };

        for (size_t k = 0; error && k < ELEMENTSOF(names); k++)
                if (streq(error, names[k]))
                        return true;
        return false;
}

/* Promise: nobody gets what he has no right to, and a decision of polkit is good for one request of who it is about. */
static void check_right(Users *u, Caller *c, const char *error) {
        bool has_right = c->kind->right == RIGHT_NONE || c->person->uid == 0 ||
                         (c->kind->right == RIGHT_USE && c->person->is_member);

        if (has_right || is_refusal(error))
                return;
        c->n_granted++;
        if (c->n_granted > c->n_yes)
                found(u->sim, "nobody gets a right that was not decided",
                      "%s of user %" PRIu32 ": %u answers, and polkit granted %u", c->kind->member,
                      c->person->uid, c->n_granted, c->n_yes);
}

void users_check_answer(Users *u, Caller *c, const char *error) {
        check_right(u, c, error);
        /* Promise: root is never refused for what others ask for. */
        if (c->person->uid == 0 && c->n_each <= 2 && c->text_size <= 100 && error &&
            streq(error, SD_BUS_ERROR_LIMITS_EXCEEDED))
                found(u->sim, "root is answered at once", "%s is refused", c->kind->member);
}

/* ---- what waits ---- */

/* Promise: what a user has dpsd keep is bounded, over all connections. */
static void check_sizes(Users *u) {
        for (const Person *p = people; p < people + N_PEOPLE; p++) {
                size_t size = 0;
                unsigned n = 0;

                for (const Held *h = u->held; h; h = h->next) {
                        if (h->caller->person != p)
                                continue;
                        size += REQUEST_SIZE + h->caller->text_size;
                        n++;
                }
                if (p->uid != 0 && size > HELD_MAX)
                        found(u->sim, "what a user asks for holds 256 kB at most",
                              "user %" PRIu32 " holds %zu bytes by %u requests", p->uid, size, n);
        }
}

static bool asks_for_a_right(const Held *h) {
        return h->caller->person->uid != 0 && h->caller->kind->is_instant &&
               h->caller->kind->right != RIGHT_NONE;
}

/* Promises: what a caller has asked for ends with the caller, and in time, and whoever has no question at polkit gets a place
 * there. */
static void check_waiting(Users *u) {
        for (const Held *h = u->held; h; h = h->next) {
                const Caller *c = h->caller;
                uint64_t patience = c->is_interactive ? PASSWORD_USEC : ANSWER_USEC;

                if (c->known_usec == 0 || !asks_for_a_right(h))
                        continue;
                if (c->is_gone)
                        found(u->sim, "what a caller has asked for ends with the caller", "%s of %s",
                              c->kind->member, c->name);
                if (h->since_usec + 2 * patience + SLACK_USEC < u->sim->now_usec)
                        found(u->sim, "a request that waits for permission ends in time",
                              "%s of %s waits since %" PRIu64 " s", c->kind->member, c->name,
                              (u->sim->now_usec - h->since_usec) / USEC_PER_SEC);
                if (polkit_n_open(u, c->person) == 0 && polkit_n_open(u, NULL) < ACCESS_AT_POLKIT_MAX &&
                    c->known_usec + SLACK_USEC < u->sim->now_usec) /* dpsd has read what the bus says */
                        found(u->sim, "whoever has no question at polkit gets a place there",
                              "%s of user %" PRIu32, c->kind->member, c->person->uid);
        }
}

/* Promise: root's calls are answered as soon as dpsd knows that they are root's, whatever others do. */
static void check_root(Users *u) {
        for (const Call *c = u->calls; c; c = c->next)
                if (c->caller->person->uid == 0 && c->caller->kind->is_instant && c->caller->known_usec > 0)
                        found(u->sim, "root is answered at once", "%s of %s is not", c->caller->kind->member,
                              c->caller->name);
}

void users_check(Users *u) {
        check_sizes(u);
        check_waiting(u);
        check_root(u);
}
