/* SPDX-License-Identifier: MIT */
#include "users.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "basic/contract.h"
#include "basic/text.h"
#include "checks.h"
#include "dpsd/bus-internal.h"
#include "dpsd/request-copy.h"
#include "machine.h"
#include "memory.h"
#include "stream.h"

#define DRIVER "org.freedesktop.DBus"
#define POLKIT "org.freedesktop.PolicyKit1"
#define OWN_NAME ":1.0"
#define GID_MEMBER 991 /* of machine.c */
/* What sd-bus and polkit's callers wait for. */
#define ANSWER_USEC (25 * USEC_PER_SEC)
#define PASSWORD_USEC (2 * USEC_PER_MINUTE)
/* A timer may be late by its accuracy. */
#define SLACK_USEC (2 * USEC_PER_SEC)
/* What a request that waits takes beside its arguments, with what sd-bus and the identity keep for it. */
#define REQUEST_SIZE 1400U
#define HELD_MAX (256U * 1024)

/* ---- who calls, and what ---- */

typedef enum Right {
        RIGHT_NONE,
        RIGHT_USE,
        RIGHT_MANAGE,
} Right;

typedef struct Kind {
        const char *interface, *member;
        Right right;
        bool is_instant; /* dpsd answers as soon as it may */
} Kind;

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

static const struct person {
        uint32_t uid;
        bool is_member; /* of the group of all identities, by its process */
} people[] = { { 0, false }, { 5001, false }, { 5002, false }, { 5003, false }, [MEMBER] = { 5004, true } };

/* A connection to the bus. */
typedef struct Caller {
        struct Caller *next_one;
        Users *users;
        const struct person *person;
        const Kind *kind;
        char name[16];
        size_t text_size; /* of its arguments */
        bool is_gone, is_interactive;
        unsigned n_rounds, n_each; /* of calls that are still to come … */
        unsigned k;                /* … about this identity; IDENTITIES_MAX: about any */
        bool wants_answers;
        Event *next;               /* calls again, or leaves */
        unsigned n_calls;          /* that are not answered */
        unsigned n_granted, n_yes; /* answers that needed a right, and decisions of polkit for it */
        uint64_t known_usec;       /* when the bus has told dpsd who this is; 0: not yet */
} Caller;

typedef struct Call {
        struct Call *next;
        Caller *caller;
        uint64_t cookie;
} Call;

/* That polkit was asked, and dpsd waits for the answer to. */
typedef struct Question {
        struct Question *next;
        Caller *caller;
        sd_bus_message *message;
        uint64_t answer_usec, end_usec;
} Question;

/* A question to the bus that it answers later. */
typedef struct Credentials {
        struct Credentials *next;
        Caller *caller;
        sd_bus_message *message;
        Event *event;
} Credentials;

/* A request that dpsd keeps. */
typedef struct Held {
        struct Held *next;
        Caller *caller;
        sd_bus_message *message;
        unsigned n_refs;
        uint64_t since_usec;
} Held;

typedef enum Mode {
        MODE_DECIDES,
        MODE_MISSING,
        MODE_SILENT,
        MODE_SLOW,
        MODE_REFUSES,
        MODE_PASSWORD, /* it would ask for one */
        MODE_BROKEN,   /* an error, or something else than an answer */
        _MODE_MAX,
} Mode;

struct Users {
        Sim *sim;
        Bus bus; /* dpsd's; its connection is NULL: there is none */
        sd_bus *server;
        bool is_connected, is_at_work;
        bool is_watched; /* dpsd wants to be told who has gone */
        unsigned n_matches;
        uint64_t last_name, cpu_usec, usec_of_message;
        Caller *callers;
        Call *calls;
        Question *questions;
        Credentials *credentials;
        Event *due; /* what sd-bus or polkit has to do next */
        Mode mode;
        Event *mended;
        Random random; /* of the bus and of polkit */
};

/* ---- time, as sd-bus and dpsd see it ---- */

static Users *the_users; /* NULL: nobody's simulation runs */

#pragma GCC visibility push(default)
int clock_gettime(clockid_t clock, struct timespec *ret) {
        Users *u = the_users;
        uint64_t usec;

        if (!u)
                return (int) syscall(SYS_clock_gettime, clock, ret);
        usec = clock == CLOCK_THREAD_CPUTIME_ID ? u->cpu_usec
               : clock == CLOCK_REALTIME        ? machine_realtime_usec(u->sim->machine)
                                                : u->sim->now_usec - u->sim->machine->clock.booted_usec;
        *ret = (struct timespec){ .tv_sec = (time_t) (usec / USEC_PER_SEC),
                                  .tv_nsec = (long) (usec % USEC_PER_SEC * 1000) };
        return 0;
}
#pragma GCC visibility pop

/* ---- what dpsd keeps ---- */

static Held *held_requests;

/* The linker's --wrap leads calls of f in dpsd's own code to __wrap_f, and those of __real_f to f. */
int __real_request_copy(sd_bus_message *request, sd_bus_message **ret);
sd_bus_message *__real_sd_bus_message_ref(sd_bus_message *m);
sd_bus_message *__real_sd_bus_message_unref(sd_bus_message *m);

#pragma GCC visibility push(default)
int __wrap_request_copy(sd_bus_message *request, sd_bus_message **ret);
sd_bus_message *__wrap_sd_bus_message_ref(sd_bus_message *m);
sd_bus_message *__wrap_sd_bus_message_unref(sd_bus_message *m);
#pragma GCC visibility pop

static Caller *find_caller(const Users *u, const char *name) {
        Caller *c = u->callers;

        while (c && !streq(c->name, name))
                c = c->next_one;
        return c;
}

int __wrap_request_copy(sd_bus_message *request, sd_bus_message **ret) {
        Caller *c = find_caller(the_users, sd_bus_message_get_sender(request));
        int r = __real_request_copy(request, ret);
        Held *h;

        if (r < 0 || !c)
                return r;
        h = sim_alloc(sizeof(*h));
        *h = (Held){ .next = held_requests,
                     .caller = c,
                     .message = *ret,
                     .n_refs = 1,
                     .since_usec = the_users->sim->now_usec };
        held_requests = h;
        return r;
}

static Held **find_held(const sd_bus_message *m) {
        Held **h = &held_requests;

        while (*h && (*h)->message != m)
                h = &(*h)->next;
        return h;
}

sd_bus_message *__wrap_sd_bus_message_ref(sd_bus_message *m) {
        Held *h = *find_held(m);

        if (h)
                h->n_refs++;
        return __real_sd_bus_message_ref(m);
}

sd_bus_message *__wrap_sd_bus_message_unref(sd_bus_message *m) {
        Held **place = m ? find_held(m) : NULL;
        Held *h = place ? *place : NULL;

        if (h && --h->n_refs == 0) {
                *place = h->next;
                sim_free(h);
        }
        return __real_sd_bus_message_unref(m);
}

/* ---- answers ---- */

static void call_free(Call **place) {
        Call *c = *place;

        *place = c->next;
        c->caller->n_calls--;
        sim_free(c);
}

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

static void on_answer(Users *u, sd_bus_message *m) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        Call **place = &u->calls;
        uint64_t cookie = 0;
        Caller *c;

        c = find_caller(u, sd_bus_message_get_destination(m) ?: "");
        if (!c || c->is_gone)
                return;
        (void) sd_bus_message_get_reply_cookie(m, &cookie);
        while (*place && (*place)->cookie != cookie)
                place = &(*place)->next;
        trace(u->sim, "bus: %s has an answer: %s", c->name, error ? error->name : "ok");
        if (!*place) {
                found(u->sim, "a call has one answer", "%s of %s has another one", c->kind->member, c->name);
                return;
        }
        call_free(place);
        check_right(u, c, error ? error->name : NULL);
        /* Promise: root is never refused for what others ask for. */
        if (c->person->uid == 0 && c->n_each <= 2 && c->text_size <= 100 && error &&
            streq(error->name, SD_BUS_ERROR_LIMITS_EXCEEDED))
                found(u->sim, "root is answered at once", "%s is refused", c->kind->member);
}

/* ---- the bus ---- */

static void pump(Users *u);

static void send_credentials(Users *u, Caller *c, sd_bus_message *request) {
        sd_bus_message *m = NULL;
        int r;

        if (c->is_gone) {
                r = sd_bus_reply_method_errorf(request, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "nobody");
        } else {
                r = sd_bus_message_new_method_return(request, &m);
                if (r >= 0)
                        r = sd_bus_message_open_container(m, 'a', "{sv}");
                if (r >= 0)
                        r = sd_bus_message_append(m, "{sv}", "UnixUserID", "u", c->person->uid);
                if (r >= 0)
                        r = sd_bus_message_append(m, "{sv}", "UnixGroupIDs", "au", 1,
                                                  c->person->is_member ? GID_MEMBER : 100);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
                if (r >= 0)
                        r = sd_bus_send(u->server, m, NULL);
        }
        sd_bus_message_unref(m);
        if (r < 0)
                abort();
}

static void credentials_free(Users *u, Credentials *k) {
        Credentials **place = &u->credentials;

        while (*place != k)
                place = &(*place)->next;
        *place = k->next;
        event_cancel(u->sim, k->event);
        sd_bus_message_unref(k->message);
        sim_free(k);
}

/* For want of memory, dpsd may have given up a question that it had sent. The next request makes it ask again, and then it waits
 * for the answer to that one. */
static bool is_latest(const Users *u, const Credentials *k) {
        const Credentials *latest = u->credentials;

        while (latest->caller != k->caller)
                latest = latest->next;
        return latest == k;
}

static void on_credentials(Sim *s, void *userdata) {
        Credentials *k = userdata;
        Users *u = k->caller->users;

        k->event = NULL;
        trace(s, "bus: says who %s is", k->caller->name);
        send_credentials(u, k->caller, k->message);
        if (k->caller->known_usec == 0 && is_latest(u, k) && !k->caller->is_gone)
                k->caller->known_usec = s->now_usec;
        credentials_free(u, k);
        pump(u);
        checks_step(s);
}

/* Mostly at once; but the bus has others to serve. */
static int tell_credentials(Users *u, sd_bus_message *m) {
        const char *name = NULL;
        Credentials *k;
        Caller *c;

        if (sd_bus_message_read(m, "s", &name) < 0)
                return -EINVAL;
        c = find_caller(u, name);
        if (!c)
                return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "nobody");
        c->known_usec = 0;
        if (random_chance(&u->random, 60)) {
                send_credentials(u, c, m);
                if (!c->is_gone)
                        c->known_usec = u->sim->now_usec;
                return 1;
        }
        k = sim_alloc(sizeof(*k));
        *k = (Credentials){ .next = u->credentials, .caller = c, .message = sd_bus_message_ref(m) };
        k->event = event_add(u->sim, u->sim->now_usec + random_wait_usec(&u->random, USEC_PER_SEC),
                             on_credentials, k);
        u->credentials = k;
        return 1;
}

static int serve_driver(Users *u, sd_bus_message *m) {
        const char *member = sd_bus_message_get_member(m);

        if (streq(member, "Hello"))
                return sd_bus_reply_method_return(m, "s", OWN_NAME);
        if (streq(member, "GetConnectionCredentials"))
                return tell_credentials(u, m);
        if (streq(member, "AddMatch"))
                u->n_matches++;
        if (streq(member, "RemoveMatch"))
                u->n_matches--;
        return sd_bus_reply_method_return(m, NULL);
}

static int on_relayed(sd_bus_message *answer, void *userdata, sd_bus_error *error) {
        sd_bus_message *request = userdata, *m = NULL;
        int r;

        if (sd_bus_message_is_method_error(answer, NULL) > 0) {
                r = sd_bus_reply_method_error(request, sd_bus_message_get_error(answer));
        } else {
                r = sd_bus_message_new_method_return(request, &m);
                if (r >= 0)
                        r = sd_bus_message_copy(m, answer, true);
                if (r >= 0)
                        r = sd_bus_send(NULL, m, NULL);
        }
        sd_bus_message_unref(m);
        sd_bus_message_unref(request);
        return r;
}

static sd_bus_message *new_call(Users *u, const char *sender, const char *path, const char *interface,
                                const char *member) {
        sd_bus_message *m;

        if (sd_bus_message_new_method_call(u->server, &m, OWN_NAME, path, interface, member) < 0 ||
            sd_bus_message_set_sender(m, sender) < 0)
                abort();
        return m;
}

/* dpsd calls itself. */
static int relay(Users *u, sd_bus_message *request) {
        sd_bus_message *m =
                new_call(u, OWN_NAME, sd_bus_message_get_path(request), sd_bus_message_get_interface(request),
                         sd_bus_message_get_member(request));
        int r = sd_bus_message_copy(m, request, true);

        if (r >= 0)
                r = sd_bus_call_async(u->server, NULL, m, on_relayed, sd_bus_message_ref(request),
                                      UINT64_MAX);
        sd_bus_message_unref(m);
        return r;
}

/* ---- polkit ---- */

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

static unsigned n_open(const Users *u, const struct person *person) {
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

static int serve_polkit(Users *u, sd_bus_message *m) {
        const char *kind, *key, *name = NULL;
        Question *q;
        Caller *c;
        unsigned n;

        if (sd_bus_message_read(m, "(sa{sv})", &kind, 1, &key, "s", &name) < 0)
                return -EINVAL;
        c = find_caller(u, name);
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
        n = n_open(u, c->person);
        if (n > ACCESS_AT_POLKIT_PER_USER_MAX || n_open(u, NULL) > ACCESS_AT_POLKIT_MAX)
                found(u->sim, "a user has 16 questions at polkit, and all have 100",
                      "user %" PRIu32 ": %u, all: %u", c->person->uid, n, n_open(u, NULL));
        return 1;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *destination = sd_bus_message_get_destination(m) ?: "";
        Users *u = userdata;
        int r = 1;

        if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
                on_answer(u, m);
        else if (streq(destination, DRIVER))
                r = serve_driver(u, m);
        else if (streq(destination, POLKIT))
                r = serve_polkit(u, m);
        else if (streq(destination, OWN_NAME))
                r = relay(u, m);
        return r < 0 ? r : 1;
}

/* ---- what must hold ---- */

/* Promise: what a user has dpsd keep is bounded, over all connections. */
static void check_sizes(Users *u) {
        for (const struct person *p = people; p < people + ELEMENTSOF(people); p++) {
                size_t size = 0;
                unsigned n = 0;

                for (const Held *h = held_requests; h; h = h->next) {
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
        for (const Held *h = held_requests; h; h = h->next) {
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
                if (n_open(u, c->person) == 0 && n_open(u, NULL) < ACCESS_AT_POLKIT_MAX &&
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

/* ---- turns ---- */

static void on_due(Sim *s, void *userdata);

/* When sd-bus has to do something next, though nothing arrives: calls have deadlines. */
static uint64_t next_deadline(const Users *u) {
        uint64_t at = USEC_INFINITY;

        if (sd_bus_get_timeout(u->bus.connection, &at) < 0)
                abort();
        return usec_add(at, u->sim->machine->clock.booted_usec);
}

static void arm(Users *u) {
        uint64_t at = next_deadline(u);

        for (const Question *q = u->questions; q; q = q->next)
                at = MIN(at, q->answer_usec);
        if (at == USEC_INFINITY)
                u->due = event_cancel(u->sim, u->due);
        else if (u->due)
                event_move(u->sim, u->due, MAX(at, u->sim->now_usec));
        else
                u->due = event_add(u->sim, MAX(at, u->sim->now_usec), on_due, u);
}

static void answer_what_is_due(Users *u) {
        Question *next;

        for (Question *q = u->questions; q; q = next) {
                next = q->next;
                if (q->answer_usec <= u->sim->now_usec)
                        answer_question(u, q);
        }
}

/* One message on each side. False: there was none. */
static bool turn(Users *u) {
        int ours, theirs;

        u->is_at_work = true;
        core_enter();
        ours = sd_bus_process(u->bus.connection, NULL);
        core_leave();
        u->is_at_work = false;
        u->cpu_usec += ours > 0 ? u->usec_of_message : 0;
        theirs = sd_bus_process(u->server, NULL);
        if (ours < 0 || theirs < 0)
                found(u->sim, "the simulation itself works", "bus: %s, %s", strerror(-ours),
                      strerror(-theirs));
        return (ours > 0 || theirs > 0 || next_deadline(u) <= u->sim->now_usec) && !u->sim->finding.promise;
}

static void forget_who_is_gone(Users *u) {
        for (Caller **place = &u->callers; *place;) {
                Caller *c = *place;

                if (!c->is_gone) {
                        place = &c->next_one;
                        continue;
                }
                *place = c->next_one;
                sim_free(c);
        }
}

static void pump(Users *u) {
        do {
                while (turn(u))
                        ;
                answer_what_is_due(u);
        } while (turn(u));
        check_sizes(u);
        check_waiting(u);
        check_root(u);
        arm(u);
        if (!u->calls && !held_requests && !u->questions && !u->credentials)
                forget_who_is_gone(u);
}

static void on_due(Sim *s, void *userdata) {
        Users *u = userdata;

        u->due = NULL;
        pump(u);
        checks_step(s);
}

void users_step(Sim *s) {
        Users *u = s->users;

        if (u && u->is_connected && !u->is_at_work && (u->calls || held_requests))
                pump(u);
}

unsigned users_n_calls(const Sim *s) {
        unsigned n = 0;

        for (const Held *h = held_requests; h; h = h->next)
                n++;
        return n;
}

/* ---- dpsd's connection ---- */

static uint64_t no_reload(void *userdata) {
        return 0;
}

static int open_server(Users *u, int fd) {
        static const sd_id128_t id = SD_ID128_MAKE(1, 2, 3, 4, 5, 6, 7, 8, 9, a, b, c, d, e, f, 10);
        int r = sd_bus_new(&u->server);

        if (r >= 0)
                r = sd_bus_set_fd(u->server, fd, fd);
        if (r >= 0)
                r = sd_bus_set_server(u->server, true, id);
        if (r >= 0)
                r = sd_bus_add_filter(u->server, NULL, on_message, u);
        return r < 0 ? r : sd_bus_start(u->server);
}

/* As bus.c does it. */
static int open_client(Users *u, int fd) {
        Manager *m = u->sim->machine->manager;
        int r = sd_bus_new(&u->bus.connection);

        if (r >= 0)
                r = sd_bus_set_fd(u->bus.connection, fd, fd);
        if (r >= 0)
                r = sd_bus_set_bus_client(u->bus.connection, true);
        if (r >= 0)
                r = access_new(m->core.world, m->core.groups, &u->bus, &u->bus.access);
        if (r >= 0)
                r = bus_add_objects(&u->bus);
        return r < 0 ? r : sd_bus_start(u->bus.connection);
}

static void connect_bus(Users *u) {
        int fds[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
                abort();
        stream_open(fds);
        u->bus = (Bus){ .manager = u->sim->machine->manager, .handlers.reload = no_reload };
        if (open_server(u, fds[0]) < 0)
                abort();
        core_enter();
        r = open_client(u, fds[1]);
        core_leave();
        if (!u->bus.connection)
                close(fds[1]);
        u->is_connected = true;
        while (r >= 0 && sd_bus_is_ready(u->bus.connection) == 0 && turn(u))
                ;
        if (r < 0)
                users_disconnect(u->sim); /* there was no memory */
}

static void callers_free(Users *u) {
        for (Caller *next; u->callers; u->callers = next) {
                next = u->callers->next_one;
                event_cancel(u->sim, u->callers->next);
                sim_free(u->callers);
        }
}

void users_disconnect(Sim *s) {
        Users *u = s->users;

        if (!u->is_connected)
                return;
        u->is_connected = false;
        u->due = event_cancel(s, u->due);
        while (u->calls)
                call_free(&u->calls);
        while (u->questions)
                question_free(u, u->questions);
        while (u->credentials)
                credentials_free(u, u->credentials);
        u->bus.access = access_free(u->bus.access);
        u->bus.connection = sd_bus_close_unref(u->bus.connection);
        u->server = sd_bus_close_unref(u->server);
        stream_close();
        while (held_requests) {
                Held *h = held_requests;

                held_requests = h->next;
                sim_free(h);
        }
        callers_free(u);
        u->n_matches = 0;
}

/* ---- deeds ---- */

static void leave(Caller *c) {
        Users *u = c->users;
        sd_bus_message *m = NULL;
        int r = 0;

        if (c->is_gone)
                return;
        c->is_gone = true;
        trace(u->sim, "bus: %s is gone", c->name);
        for (Call **place = &u->calls; *place;)
                if ((*place)->caller == c)
                        call_free(place);
                else
                        place = &(*place)->next;
        if (u->n_matches == 0)
                return;
        r = sd_bus_message_new_signal(u->server, &m, "/org/freedesktop/DBus", DRIVER, "NameOwnerChanged");
        if (r >= 0)
                r = sd_bus_message_set_sender(m, DRIVER);
        if (r >= 0)
                r = sd_bus_message_append(m, "sss", c->name, c->name, "");
        if (r >= 0)
                r = sd_bus_send(u->server, m, NULL);
        sd_bus_message_unref(m);
        if (r < 0)
                abort();
}

static sd_bus_message *compose(Users *u, Caller *c, unsigned k) {
        char *path, name[16], *text;
        sd_bus_message *m;
        int r = 0;

        machine_name(k, name);
        if (sd_bus_path_encode(DPS_BUS_IDENTITY_PREFIX, name, &path) < 0)
                abort();
        m = new_call(u, c->name,
                     streq(c->kind->member, "GetManagedObjects") || streq(c->kind->member, "GetAllIdentities")
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
                text = sim_alloc(c->text_size + 1);
                memset(text, 'x', c->text_size);
                r = sd_bus_message_append(m, "tsus", UINT64_MAX, "auth", UINT32_C(401), text);
                sim_free(text);
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
        *call = (Call){ .next = u->calls, .caller = c, .cookie = cookie };
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
                leave(c);
        pump(u);
        checks_step(s);
}

/* A program that gets no answer does not wait for ever. */
static void plan_next(Caller *c) {
        Users *u = c->users;
        bool is_soon = c->n_rounds > 0 || random_chance(&u->random, 50);

        c->next = event_add(u->sim,
                            u->sim->now_usec + (is_soon ? random_wait_usec(&u->random, 4 * USEC_PER_SEC)
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
                     .person = &people[random_below(r, ELEMENTSOF(people))],
                     .kind = &kinds[random_below(r, ELEMENTSOF(kinds))],
                     .n_each = some(r),
                     .n_rounds = random_chance(r, 60) ? 0 : 1 + (unsigned) random_below(r, 5),
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

void users_call(Sim *s, Random *r) {
        Users *u = s->users;
        unsigned n_callers = 1 + (unsigned) random_below(r, random_chance(r, 80) ? 2 : 6);
        Caller planned = plan(u, r);

        if (!s->machine->manager)
                return;
        if (!u->is_connected)
                connect_bus(u);
        if (!u->is_connected)
                return;
        trace(s, "user %" PRIu32 ": %u × %s, %u times again, from %u connections", planned.person->uid,
              planned.n_each, planned.kind->member, planned.n_rounds, n_callers);
        u->usec_of_message = 50 + random_below(r, 2000);
        for (unsigned j = 0; j < n_callers; j++) {
                Caller *c = sim_alloc(sizeof(*c));

                *c = planned;
                c->next_one = u->callers;
                (void) snprintf(c->name, sizeof(c->name), ":1.%" PRIu64, ++u->last_name);
                u->callers = c;
                plan_next(c);
                call_all(c);
        }
        pump(u);
}

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

Users *users_new(Sim *s) {
        Users *u = sim_alloc(sizeof(*u));

        *u = (Users){ .sim = s, .random = random_of(s->options.seed, "users", 0) };
        the_users = u;
        return u;
}

Users *users_free(Users *u) {
        users_disconnect(u->sim);
        the_users = NULL;
        sim_free(u);
        return NULL;
}
