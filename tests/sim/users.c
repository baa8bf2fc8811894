/* SPDX-License-Identifier: MIT */
#include "users.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "basic/contract.h"
#include "basic/text.h"
#include "checks.h"
#include "machine.h"
#include "memory.h"
#include "users-internal.h"

/* ---- who calls, and what ---- */

#define GET_TOKEN 4

/* None of them changes anything, so that all other promises are what they would be without strangers. */
static const Kind kinds[] = {
        { "org.freedesktop.DBus.Properties", "GetAll", RIGHT_NONE, true },
        { "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", RIGHT_NONE, true },
        { DPS_BUS_IDENTITY, "GetHistory", RIGHT_NONE, true },
        { DPS_BUS_IDENTITY, "GetConnection", RIGHT_USE, false },
        [GET_TOKEN] = { DPS_BUS_IDENTITY, "GetToken", RIGHT_USE, false },
        { DPS_BUS_IDENTITY, "GetToken", RIGHT_USE, false },
        { DPS_BUS_IDENTITY, "ReportHubFailure", RIGHT_USE, true }, /* of a generation that never was */
        { DPS_BUS_IDENTITY, "ReportHubFailure", RIGHT_USE, true },
        { "org.freedesktop.DBus.Properties", "Set", RIGHT_MANAGE, true }, /* the log level */
        { DPS_BUS_MANAGER, "GetAllIdentities", RIGHT_NONE, true },
};

#define MEMBER 4

const Person people[N_PEOPLE] = {
        { 0, false }, { 5001, false }, { 5002, false }, { 5003, false }, [MEMBER] = { 5004, true }
};

/* ---- deeds ---- */

static sd_bus_message *compose(Users *u, Caller *c, unsigned k) {
        char *path, name[16], *text;
        sd_bus_message *m;
        int r = 0;

        machine_name(k, name);
        if (sd_bus_path_encode(DPS_BUS_IDENTITY_PREFIX, name, &path) < 0)
                abort();
        m = users_new_call(u, c->name,
                           streq(c->kind->member, "GetManagedObjects") ||
                                           streq(c->kind->member, "GetAllIdentities")
                                   ? DPS_BUS_PATH
                           : streq(c->kind->member, "Set") ? "/org/freedesktop/LogControl1"
                                                           : path,
                           c->kind->interface, c->kind->member);
        free(path);
        if (streq(c->kind->member, "GetAll"))
                r = sd_bus_message_append(m, "s", DPS_BUS_IDENTITY);
        if (streq(c->kind->member, "GetToken"))
                r = sd_bus_message_append(m, "t", UINT64_C(3600));
        if (streq(c->kind->member, "Set"))
                r = sd_bus_message_append(m, "ssv", "org.freedesktop.LogControl1", "LogLevel", "s", "info");
        if (streq(c->kind->member, "ReportHubFailure")) {
                r = sd_bus_message_append(m, "tsu", UINT64_MAX, "auth", UINT32_C(401));
                if (r >= 0)
                        r = sd_bus_message_append_string_space(m, c->text_size, &text);
                if (r >= 0)
                        memset(text, 'x', c->text_size);
        }
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(m, c->is_interactive);
        if (r < 0)
                abort();
        return m;
}

static void call(Users *u, Caller *c, unsigned k) {
        sd_bus_message *m = compose(u, c, k);
        uint64_t cookie;
        Call *call;

        if (sd_bus_message_set_expect_reply(m, c->wants_answers) < 0 ||
            sd_bus_send(u->server, m, &cookie) < 0)
                abort();
        sd_bus_message_unref(m);
        if (!c->wants_answers)
                return;
        call = sim_alloc(sizeof(*call));
        *call = (Call){ .next = u->calls, .caller = c, .cookie = cookie, .is_known = c->known_usec > 0 };
        u->calls = call;
        c->n_calls++;
}

static void plan_next(Caller *c);

static void call_all(Caller *c) {
        Users *u = c->users;

        for (unsigned n = 0; n < c->n_each; n++)
                call(u, c,
                     c->k < IDENTITIES_MAX
                             ? c->k
                             : (unsigned) random_below(&u->random, u->sim->options.n_identities));
}

static void on_next(Sim *s, void *userdata) {
        Caller *c = userdata;
        Users *u = c->users;

        c->next = NULL;
        if (c->n_rounds > 0) {
                c->n_rounds--;
                plan_next(c);
                call_all(c);
        } else
                caller_leave(c);
        users_pump(u);
        checks_step(s);
}

/* A program that gets no answer does not wait for ever. */
static void plan_next(Caller *c) {
        Users *u = c->users;
        bool is_soon = c->n_rounds > 0 || random_chance(&u->random, 50);

        c->next = event_add(u->sim,
                            u->sim->now_usec + (is_soon ? random_wait_usec(&u->random, c->pause_usec)
                                                        : 5 * USEC_PER_MINUTE),
                            on_next, c);
}

static unsigned some(Random *r) {
        unsigned of = (unsigned) random_below(r, 100);

        return 1 + (unsigned) random_below(r, of < 70 ? 2 : of < 92 ? 20 : 300);
}

/* What all connections of a user do. */
static Caller plan(Users *u, Random *r) {
        Caller c = { .users = u,
                     .person = &people[random_below(r, N_PEOPLE)],
                     .kind = &kinds[random_below(r, ELEMENTSOF(kinds))],
                     .n_each = some(r),
                     .n_rounds = random_chance(r, 60) ? 0 : 1 + (unsigned) random_below(r, 5),
                     .pause_usec = 4 * USEC_PER_SEC,
                     .wants_answers = random_chance(r, 90),
                     .is_interactive = random_chance(r, 20),
                     .k = IDENTITIES_MAX };

        /* Whoever has the right wants much of the key that takes long. */
        if (random_chance(r, 10)) {
                c.person = &people[MEMBER];
                c.kind = &kinds[GET_TOKEN];
                c.k = u->sim->options.n_identities - 1;
                c.n_each = 300;
                c.n_rounds = 5;
        }
        if (streq(c.kind->member, "ReportHubFailure"))
                c.text_size = (size_t) random_below(r, random_chance(r, 60) ? 100 : 8500);
        return c;
}

static bool is_there(Users *u) {
        if (u->sim->machine->manager && !u->is_connected)
                users_connect(u);
        return u->sim->machine->manager && u->is_connected;
}

static void begin(Users *u, Caller planned, unsigned n_callers) {
        trace(u->sim, "user %" PRIu32 ": %u × %s, %u times again, from %u connections", planned.person->uid,
              planned.n_each, planned.kind->member, planned.n_rounds, n_callers);
        for (unsigned j = 0; j < n_callers; j++) {
                Caller *c = sim_alloc(sizeof(*c));

                *c = planned;
                c->next_one = u->callers;
                (void) snprintf(c->name, sizeof(c->name), ":1.%" PRIu64, ++u->last_name);
                u->callers = c;
                plan_next(c);
                call_all(c);
        }
}

void users_call(Sim *s, Random *r) {
        Users *u = s->users;
        unsigned n_callers = 1 + (unsigned) random_below(r, random_chance(r, 80) ? 2 : 6);
        Caller planned = plan(u, r);

        if (!is_there(u))
                return;
        u->usec_of_message = 50 + random_below(r, 2000);
        begin(u, planned, n_callers);
        users_pump(u);
}

/* Not much at a time, but again and again. */
static Caller plan_hasty(Users *u, Random *r) {
        Caller c = plan(u, r);

        if (random_chance(r, 50))
                c.person = &people[0];
        c.n_each = 3 + (unsigned) random_below(r, 6);
        c.n_rounds = 10 + (unsigned) random_below(r, 30);
        c.pause_usec = 50 * USEC_PER_MSEC;
        return c;
}

void users_crowd(Sim *s, Random *r) {
        Users *u = s->users;
        Caller flood = plan(u, r), hasty = plan_hasty(u, r);

        flood.n_each = 100 + (unsigned) random_below(r, 100);
        if (!is_there(u))
                return;
        u->usec_of_message = 50 + random_below(r, 2000);
        begin(u, flood, 1 + (unsigned) random_below(r, random_chance(r, 90) ? 2 : 12));
        begin(u, hasty, 1 + (unsigned) random_below(r, 2));
        users_pump(u);
}
