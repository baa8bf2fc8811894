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

/* Root has no limit as soon as dpsd knows that it is root. Before, root shares one limit with all whom dpsd does not know, and
 * whoever asks most gives way. dpsd forgets a caller who waits for nothing; when he calls again, it asks the bus again, as soon
 * as the bus has few enough questions. */
static bool has_no_limit(const Users *u, const Call *call) {
        const Caller *c = call->caller;
        bool is_known = call->is_known && users_n_asked(u) < ACCESS_AT_BUS_MAX,
             asks_little = c->n_each <= 2 && c->text_size <= 100;

        return c->person->uid == 0 && (is_known || asks_little);
}

void users_check_answer(Users *u, const Call *call, const char *error) {
        check_right(u, call->caller, error);
        /* Promise: root is never refused for what others ask for. */
        if (error && streq(error, SD_BUS_ERROR_LIMITS_EXCEEDED) && has_no_limit(u, call))
                found(u->sim, "root is answered at once", "%s is refused", call->caller->kind->member);
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

/* Promise: dpsd keeps at most 80 requests of a user, until they are answered, and of all connections together whose user it does
 * not know yet (NULL). */
static void check_numbers(Users *u, const Person *p) {
        size_t size = 0;
        unsigned n = 0;

        for (const Held *h = u->held; h; h = h->next) {
                if ((h->caller->known_usec > 0 ? h->caller->person : NULL) != p)
                        continue;
                size += h->caller->text_size;
                n++;
        }
        if (n > REQUESTS_MAX || size > ARGUMENTS_MAX)
                found(u->sim, "what is kept for a user is 80 requests with 16 kB at most",
                      "%u requests with %zu bytes of user %" PRIi64, n, size, p ? (int64_t) p->uid : -1);
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
        for (const Held *h = u->held; h; h = h->next)
                if (h->caller->person->uid == 0 && h->caller->kind->is_instant && h->caller->known_usec > 0)
                        found(u->sim, "root is answered at once", "%s of %s waits", h->caller->kind->member,
                              h->caller->name);
        for (const Call *c = u->calls; c; c = c->next)
                if (c->caller->kind->is_instant && c->caller->known_usec > 0 && has_no_limit(u, c))
                        found(u->sim, "root is answered at once", "%s of %s is not", c->caller->kind->member,
                              c->caller->name);
}

void users_check(Users *u) {
        check_sizes(u);
        check_numbers(u, NULL);
        for (const Person *p = people; p < people + N_PEOPLE; p++)
                if (p->uid != 0)
                        check_numbers(u, p);
        check_waiting(u);
        check_root(u);
}
