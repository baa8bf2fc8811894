/* SPDX-License-Identifier: MIT */
#include "users-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "basic/text.h"
#include "checks.h"
#include "dpsd/request-copy.h"
#include "machine.h"
#include "memory.h"
#include "stream.h"

static Users *the_users; /* NULL: nobody's simulation runs */

/* ---- time, as sd-bus and dpsd see it ---- */

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

/* The linker's --wrap leads calls of f in dpsd's own code to __wrap_f, and those of __real_f to f. */
int __real_request_copy(sd_bus_message *request, sd_bus_message **ret);
sd_bus_message *__real_sd_bus_message_ref(sd_bus_message *m);
sd_bus_message *__real_sd_bus_message_unref(sd_bus_message *m);

#pragma GCC visibility push(default)
int __wrap_request_copy(sd_bus_message *request, sd_bus_message **ret);
sd_bus_message *__wrap_sd_bus_message_ref(sd_bus_message *m);
sd_bus_message *__wrap_sd_bus_message_unref(sd_bus_message *m);
#pragma GCC visibility pop

Caller *caller_find(const Users *u, const char *name) {
        Caller *c = u->callers;

        while (c && !streq(c->name, name))
                c = c->next_one;
        return c;
}

int __wrap_request_copy(sd_bus_message *request, sd_bus_message **ret) {
        Caller *c = caller_find(the_users, sd_bus_message_get_sender(request));
        int r = __real_request_copy(request, ret);
        Held *h;

        if (r < 0 || !c)
                return r;
        h = sim_alloc(sizeof(*h));
        *h = (Held){ .next = the_users->held,
                     .caller = c,
                     .message = *ret,
                     .n_refs = 1,
                     .since_usec = the_users->sim->now_usec };
        the_users->held = h;
        return r;
}

static Held **find_held(const sd_bus_message *m) {
        Held **h = &the_users->held;

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

static void on_answer(Users *u, sd_bus_message *m) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        Call **place = &u->calls;
        uint64_t cookie = 0;
        Caller *c;

        c = caller_find(u, sd_bus_message_get_destination(m) ?: "");
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
        users_check_answer(u, *place, error ? error->name : NULL);
        call_free(place);
}

/* ---- the bus ---- */

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
        users_pump(u);
        checks_step(s);
}

unsigned users_n_asked(const Users *u) {
        unsigned n = 0;

        for (const Credentials *k = u->credentials; k; k = k->next)
                n++;
        return n;
}

/* dpsd asks who this is. */
static void forget_who(Users *u, Caller *c) {
        c->known_usec = 0;
        for (Call *call = u->calls; call; call = call->next)
                if (call->caller == c)
                        call->is_known = false;
}

/* Mostly at once; but the bus has others to serve. */
static int tell_credentials(Users *u, sd_bus_message *m) {
        const char *name = NULL;
        Credentials *k;
        Caller *c;

        if (sd_bus_message_read(m, "s", &name) < 0)
                return -EINVAL;
        c = caller_find(u, name);
        if (!c)
                return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_NAME_HAS_NO_OWNER, "nobody");
        forget_who(u, c);
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

sd_bus_message *users_new_call(Users *u, const char *sender, const char *path, const char *interface,
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
                users_new_call(u, OWN_NAME, sd_bus_message_get_path(request),
                               sd_bus_message_get_interface(request), sd_bus_message_get_member(request));
        int r = sd_bus_message_copy(m, request, true);

        if (r >= 0)
                r = sd_bus_call_async(u->server, NULL, m, on_relayed, sd_bus_message_ref(request),
                                      UINT64_MAX);
        sd_bus_message_unref(m);
        return r;
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
                r = polkit_serve(u, m);
        else if (streq(destination, OWN_NAME))
                r = relay(u, m);
        return r < 0 ? r : 1;
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
        uint64_t at = MIN(next_deadline(u), polkit_next_usec(u));

        if (at == USEC_INFINITY)
                u->due = event_cancel(u->sim, u->due);
        else if (u->due)
                event_move(u->sim, u->due, MAX(at, u->sim->now_usec));
        else
                u->due = event_add(u->sim, MAX(at, u->sim->now_usec), on_due, u);
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

void users_pump(Users *u) {
        do {
                while (turn(u))
                        ;
                polkit_answer(u);
        } while (turn(u));
        users_check(u);
        arm(u);
        if (!u->calls && !u->held && !u->questions && !u->credentials)
                forget_who_is_gone(u);
}

static void on_due(Sim *s, void *userdata) {
        Users *u = userdata;

        u->due = NULL;
        users_pump(u);
        checks_step(s);
}

void users_step(Sim *s) {
        Users *u = s->users;

        if (u && u->is_connected && !u->is_at_work && (u->calls || u->held))
                users_pump(u);
}

unsigned users_n_calls(const Sim *s) {
        unsigned n = 0;

        for (const Held *h = s->users->held; h; h = h->next)
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

void users_connect(Users *u) {
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
        polkit_forget(u);
        while (u->credentials)
                credentials_free(u, u->credentials);
        u->bus.access = access_free(u->bus.access);
        u->bus.connection = sd_bus_close_unref(u->bus.connection);
        u->server = sd_bus_close_unref(u->server);
        stream_close();
        for (Held *next; u->held; u->held = next) {
                next = u->held->next;
                sim_free(u->held);
        }
        callers_free(u);
        u->n_matches = 0;
}

void caller_leave(Caller *c) {
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

/* ---- begin and end ---- */

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
