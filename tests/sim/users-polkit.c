/* SPDX-License-Identifier: MIT */
#include "users-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "basic/times.h"
#include "dpsd/access.h"
#include "memory.h"

/* ---- questions ---- */

static void question_free(Users *u, Question *q) {
        Question **place = &u->questions;

        while (*place != q)
                place = &(*place)->next;
        *place = q->next;
        sd_bus_message_unref(q->message);
        sim_free(q);
}

/* Whether dpsd waits for the answer. */
static bool is_open(const Users *u, const Question *q) {
        return !q->caller->is_gone && u->sim->now_usec < q->end_usec;
}

unsigned polkit_n_open(const Users *u, const Person *person) {
        unsigned n = 0;

        for (const Question *q = u->questions; q; q = q->next)
                n += is_open(u, q) && (!person || q->caller->person == person);
        return n;
}

static void answer_question(Users *u, Question *q) {
        bool is_granted = u->mode != MODE_REFUSES && random_chance(&u->random, 50),
             needs_password = u->mode == MODE_PASSWORD && !q->caller->is_interactive;
        int r;

        if (u->mode == MODE_MISSING) {
                sd_bus_message *m = NULL;
                sd_bus_error error = SD_BUS_ERROR_MAKE_CONST(SD_BUS_ERROR_SERVICE_UNKNOWN, "no polkit");

                r = sd_bus_message_new_method_error(q->message, &m, &error);
                if (r >= 0)
                        r = sd_bus_message_set_sender(m, DRIVER);
                if (r >= 0)
                        r = sd_bus_send(u->server, m, NULL);
                sd_bus_message_unref(m);
        } else if (u->mode == MODE_BROKEN) {
                r = random_chance(&u->random, 50)
                            ? sd_bus_reply_method_return(q->message, "s", "yes")
                            : sd_bus_reply_method_errorf(q->message, SD_BUS_ERROR_FAILED, "broken");
        } else {
                is_granted = is_granted && !needs_password;
                q->caller->n_yes += is_granted;
                trace(u->sim, "polkit: about %s: %s", q->caller->name, is_granted ? "yes" : "no");
                r = sd_bus_reply_method_return(q->message, "(bba{ss})", is_granted, needs_password, 0);
        }
        if (r < 0)
                abort();
        question_free(u, q);
}

static uint64_t polkit_takes_usec(Users *u, const Caller *c) {
        switch (u->mode) {
        case MODE_SILENT:
                return USEC_INFINITY;
        case MODE_SLOW:
                return random_wait_usec(&u->random, 15 * USEC_PER_SEC);
        case MODE_PASSWORD:
                return c->is_interactive ? random_wait_usec(&u->random, USEC_PER_MINUTE) : 0;
        case MODE_DECIDES:
        case MODE_REFUSES:
                return random_chance(&u->random, 70) ? 0 : random_wait_usec(&u->random, USEC_PER_SEC);
        case MODE_MISSING:
        case MODE_BROKEN:
        case _MODE_MAX:
                break;
        }
        return 0;
}

int polkit_serve(Users *u, sd_bus_message *m) {
        const char *kind, *key, *name = NULL;
        Question *q;
        Caller *c;
        unsigned n;

        if (sd_bus_message_read(m, "(sa{sv})", &kind, 1, &key, "s", &name) < 0)
                return -EINVAL;
        c = caller_find(u, name);
        if (!c)
                return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_FAILED, "nobody");
        q = sim_alloc(sizeof(*q));
        *q = (Question){ .next = u->questions,
                         .caller = c,
                         .message = sd_bus_message_ref(m),
                         .answer_usec = usec_add(u->sim->now_usec, polkit_takes_usec(u, c)),
                         .end_usec = u->sim->now_usec + (c->is_interactive ? PASSWORD_USEC : ANSWER_USEC) };
        u->questions = q;
        trace(u->sim, "polkit: is asked about %s", c->name);
        /* Promise: no user takes all places at polkit, and the bus has places left for our other calls. */
        n = polkit_n_open(u, c->person);
        if (n > ACCESS_AT_POLKIT_PER_USER_MAX || polkit_n_open(u, NULL) > ACCESS_AT_POLKIT_MAX)
                found(u->sim, "a user has 16 questions at polkit, and all have 100",
                      "user %" PRIu32 ": %u, all: %u", c->person->uid, n, polkit_n_open(u, NULL));
        return 1;
}

void polkit_answer(Users *u) {
        Question *next;

        for (Question *q = u->questions; q; q = next) {
                next = q->next;
                if (q->answer_usec <= u->sim->now_usec)
                        answer_question(u, q);
        }
}

uint64_t polkit_next_usec(const Users *u) {
        uint64_t at = USEC_INFINITY;

        for (const Question *q = u->questions; q; q = q->next)
                at = MIN(at, q->answer_usec);
        return at;
}

void polkit_forget(Users *u) {
        while (u->questions)
                question_free(u, u->questions);
}

/* ---- what is wrong with it ---- */

static void on_mended(Sim *s, void *userdata) {
        Users *u = s->users;

        u->mended = NULL;
        u->mode = MODE_DECIDES;
        trace(s, "polkit: decides again");
}

void users_disturb_polkit(Sim *s, Random *r) {
        Users *u = s->users;

        u->mode = 1 + (Mode) random_below(r, _MODE_MAX - 1);
        trace(s, "polkit: mode %d", (int) u->mode);
        event_cancel(s, u->mended);
        u->mended = event_add(s, s->now_usec + random_wait_usec(r, 6 * USEC_PER_HOUR), on_mended, u);
}

void users_mend(Sim *s) {
        s->users->mended = event_cancel(s, s->users->mended);
        s->users->mode = MODE_DECIDES;
}
