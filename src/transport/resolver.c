/* SPDX-License-Identifier: MIT */
#include "transport/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>

#include "basic/text.h"

/*
 * A Lookup is the loop's side of a name in flight: who waits for it. It stays until its task is done, also when nobody
 * waits any longer, so that a name whose servers are silent never occupies a second thread. Its queries are then answered
 * one in each turn of the loop, since hundreds may wait for a name and connect as soon as they have it.
 */

typedef struct Lookup Lookup;

/* What a thread of the worker touches. */
typedef struct Task {
        char *host;
        int flags; /* for getaddrinfo() */
        int error; /* of getaddrinfo() */
        char **addresses;
        Lookup *lookup; /* the loop's only */
} Task;

struct ResolverQuery {
        Lookup *lookup; /* NULL: it was answered, or the resolver is gone */
        ResolverQuery *next;
        resolver_handler_t handler;
        void *userdata;
};

struct Lookup {
        Resolver *resolver;
        Lookup *next;
        char *host;
        Work *work; /* NULL: it is done */
        int error;  /* of getaddrinfo() */
        char **addresses;
        ResolverQuery *queries; /* in the order in which they came */
};

struct Resolver {
        World *world;
        Timer *timer;     /* for the next answer */
        Lookup *lookups;  /* in flight */
        Lookup *answered; /* those whose queries are being answered, the oldest first */
};

static Lookup *lookup_free(Lookup *l) {
        if (!l)
                return NULL;

        for (ResolverQuery *q = l->queries; q; q = q->next)
                q->lookup = NULL;
        work_forget(l->work);
        strv_free(l->addresses);
        free(l->host);
        free(l);
        return NULL;
}
DEFINE_FREEP(Lookup, lookup_free)

static void lookups_free(Lookup *l) {
        Lookup *next;

        for (; l; l = next) {
                next = l->next;
                lookup_free(l);
        }
}

/* ---- the task ---- */

static void task_free(void *task) {
        Task *t = task;

        if (!t)
                return;

        strv_free(t->addresses);
        free(t->host);
        free(t);
}

static void task_freep(Task **t) {
        task_free(*t);
}

static void addrinfop(struct addrinfo **a) {
        if (*a)
                freeaddrinfo(*a);
}

/* The error of getaddrinfo(), or 0. */
static int collect_addresses(const struct addrinfo *list, char ***ret) {
        _cleanup_(strv_freep) char **addresses = NULL;
        char text[NI_MAXHOST];
        int r;

        for (const struct addrinfo *a = list; a; a = a->ai_next) {
                r = getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
                if (r != 0)
                        return r;
                /* A hosts file may contain an address twice. */
                if (!strv_contains(addresses, text) && strv_append(&addresses, text) < 0)
                        return EAI_MEMORY;
        }
        if (!addresses)
                return EAI_NONAME;

        *ret = TAKE_PTR(addresses);
        return 0;
}

static void task_run(void *task) {
        _cleanup_(addrinfop) struct addrinfo *list = NULL;
        Task *t = task;
        /* No AI_ADDRCONFIG: it ignores loopback addresses. */
        const struct addrinfo hints = { .ai_flags = t->flags, .ai_socktype = SOCK_STREAM };

        t->error = getaddrinfo(t->host, NULL, &hints, &list);
        if (t->error == 0)
                t->error = collect_addresses(list, &t->addresses);
}

static void lookup_take_answer(Lookup *l, Task *t) {
        Lookup **last = &l->resolver->answered;

        while (*last)
                last = &(*last)->next;
        *last = l;
        l->next = NULL;
        l->work = NULL;
        l->error = t->error;
        l->addresses = TAKE_PTR(t->addresses);
        timer_set(l->resolver->timer, 0, 0);
}

static void task_done(void *task) {
        _cleanup_(task_freep) Task *t = task;
        Lookup **l = &t->lookup->resolver->lookups;

        while (*l != t->lookup)
                l = &(*l)->next;
        *l = t->lookup->next;
        lookup_take_answer(t->lookup, t);
}

static const WorkClass work_class = {
        .queue = WORK_NAMES,
        .run = task_run,
        .done = task_done,
        .free = task_free,
};

/* ---- answers ---- */

static void on_turn(void *userdata) {
        Resolver *resolver = userdata;
        _cleanup_(lookup_freep) Lookup *finished = NULL;
        Lookup *l = resolver->answered;
        ResolverQuery *q = l->queries;
        ResolverAnswer answer = { .error = l->error, .addresses = l->addresses };

        if (q) {
                l->queries = q->next;
                q->lookup = NULL;
        }
        if (!l->queries) {
                finished = l;
                resolver->answered = l->next;
        }
        if (resolver->answered)
                timer_set(resolver->timer, 0, 0);

        /* The last action, since the handler may free the resolver. */
        if (q)
                q->handler(&answer, q->userdata);
}

int resolver_new(World *world, Resolver **ret) {
        _cleanup_(resolver_freep) Resolver *resolver = calloc(1, sizeof(*resolver));
        int r;

        if (!resolver)
                return -ENOMEM;

        resolver->world = world;
        r = timer_new(world, on_turn, resolver, &resolver->timer);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(resolver);
        return 0;
}

Resolver *resolver_free(Resolver *resolver) {
        if (!resolver)
                return NULL;

        lookups_free(resolver->lookups);
        lookups_free(resolver->answered);
        timer_free(resolver->timer);
        free(resolver);
        return NULL;
}

/* ---- questions ---- */

static Lookup *lookup_find(Resolver *resolver, const char *host) {
        for (Lookup *l = resolver->lookups; l; l = l->next)
                if (strcasecmp(l->host, host) == 0)
                        return l;
        return NULL;
}

static int task_new(const char *host, Task **ret) {
        _cleanup_(task_freep) Task *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;

        t->host = strdup(host);
        if (!t->host)
                return -ENOMEM;

        *ret = TAKE_PTR(t);
        return 0;
}

static int lookup_begin(Resolver *resolver, const char *host, Lookup **ret) {
        _cleanup_(lookup_freep) Lookup *l = calloc(1, sizeof(*l));
        _cleanup_(task_freep) Task *t = NULL;
        int r;

        if (!l)
                return -ENOMEM;

        l->resolver = resolver;
        l->host = strdup(host);
        if (!l->host)
                return -ENOMEM;
        r = task_new(host, &t);
        if (r < 0)
                return r;

        t->lookup = l;
        t->flags = AI_NUMERICHOST;
        task_run(t);
        if (t->error == 0) {
                lookup_take_answer(l, t);
                *ret = TAKE_PTR(l);
                return 0;
        }

        t->flags = 0;
        r = work_begin(resolver->world, &work_class, t, &l->work);
        if (r < 0)
                return r;

        TAKE_PTR(t);
        l->next = resolver->lookups;
        resolver->lookups = l;
        *ret = TAKE_PTR(l);
        return 0;
}

int resolver_lookup(Resolver *resolver, const char *host, resolver_handler_t handler, void *userdata,
                    ResolverQuery **ret) {
        _cleanup_(freep) ResolverQuery *q = calloc(1, sizeof(*q));
        ResolverQuery **last;
        Lookup *l;
        int r;

        if (!q)
                return -ENOMEM;

        l = lookup_find(resolver, host);
        if (!l) {
                r = lookup_begin(resolver, host, &l);
                if (r < 0)
                        return r;
        }

        *q = (ResolverQuery){ .lookup = l, .handler = handler, .userdata = userdata };
        for (last = &l->queries; *last;)
                last = &(*last)->next;
        *last = q;
        *ret = TAKE_PTR(q);
        return 0;
}

ResolverQuery *resolver_query_free(ResolverQuery *q) {
        ResolverQuery **p;

        if (!q)
                return NULL;

        if (q->lookup) {
                for (p = &q->lookup->queries; *p != q;)
                        p = &(*p)->next;
                *p = q->next;
        }
        free(q);
        return NULL;
}
