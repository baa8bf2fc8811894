/* SPDX-License-Identifier: MIT */
#include "transport/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>

#include "basic/text.h"

/*
 * A Job is what a thread works on, and belongs to it alone until it is posted; the Mailbox is the only thing that
 * threads and loop share, and lives as long as the last of them. A Lookup is the loop's side of a job: who waits for
 * it. It stays until the job comes back, also when nobody waits any more, so that a name whose servers are silent
 * never has a second thread.
 */

typedef struct Mailbox Mailbox;
typedef struct Lookup Lookup;

typedef struct Job {
        struct Job *next;
        Mailbox *mailbox; /* a reference */
        uint64_t id;
        char *host;
        int flags; /* for getaddrinfo() */
        int error; /* the answer, from here on */
        char **addresses;
} Job;

struct Mailbox {
        atomic_uint n_refs;
        int fd; /* an eventfd: the number of jobs posted */
        pthread_mutex_t mutex;
        Job *jobs; /* done, and not yet taken; under the mutex, as all threads post here */
};

struct ResolverQuery {
        Lookup *lookup; /* NULL: answered, or the resolver is gone */
        ResolverQuery *next;
        resolver_handler_t handler;
        void *userdata;
};

struct Lookup {
        Lookup *next;
        uint64_t job_id;
        char *host;
        Job *job; /* when it is done */
        ResolverQuery *queries;
};

struct Resolver {
        sd_event_source *source;
        Mailbox *mailbox;
        Lookup *lookups;  /* in flight */
        Lookup *answered; /* those who wait for it are being told */
        uint64_t last_job_id;
};

/* ---- what threads touch ---- */

static Job *job_free(Job *j);
DEFINE_FREEP(Job, job_free)

static Mailbox *mailbox_ref(Mailbox *m) {
        atomic_fetch_add(&m->n_refs, 1);
        return m;
}

static Mailbox *mailbox_unref(Mailbox *m) {
        Job *next;

        if (!m || atomic_fetch_sub(&m->n_refs, 1) > 1)
                return NULL;

        for (Job *j = m->jobs; j; j = next) {
                next = j->next;
                job_free(j);
        }
        closep(&m->fd);
        pthread_mutex_destroy(&m->mutex);
        free(m);
        return NULL;
}
DEFINE_FREEP(Mailbox, mailbox_unref)

static int mailbox_new(Mailbox **ret) {
        Mailbox *m = calloc(1, sizeof(*m));

        if (!m)
                return -ENOMEM;

        m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
        if (m->fd < 0) {
                free(m);
                return -errno;
        }
        pthread_mutex_init(&m->mutex, NULL);
        m->n_refs = 1;
        *ret = m;
        return 0;
}

/* A posted job has no reference to its mailbox: they would keep each other. */
static void mailbox_post(Job *j) {
        _cleanup_(mailbox_unrefp) Mailbox *m = TAKE_PTR(j->mailbox);
        uint64_t one = 1;

        pthread_mutex_lock(&m->mutex);
        j->next = m->jobs;
        m->jobs = j;
        pthread_mutex_unlock(&m->mutex);

        /* It can fail only where 2^64 jobs wait. */
        (void) !write(m->fd, &one, sizeof(one));
}

static Job *mailbox_take(Mailbox *m) {
        Job *j;

        pthread_mutex_lock(&m->mutex);
        j = m->jobs;
        if (j)
                m->jobs = j->next;
        pthread_mutex_unlock(&m->mutex);
        return j;
}

static Job *job_free(Job *j) {
        if (!j)
                return NULL;

        mailbox_unref(j->mailbox);
        strv_free(j->addresses);
        free(j->host);
        free(j);
        return NULL;
}

static int job_new(Mailbox *m, uint64_t id, const char *host, Job **ret) {
        _cleanup_(job_freep) Job *j = calloc(1, sizeof(*j));

        if (!j)
                return -ENOMEM;

        j->id = id;
        j->host = strdup(host);
        if (!j->host)
                return -ENOMEM;
        j->mailbox = mailbox_ref(m);

        *ret = TAKE_PTR(j);
        return 0;
}

static void addrinfop(struct addrinfo **a) {
        if (*a)
                freeaddrinfo(*a);
}

/* The error of getaddrinfo(), or 0. */
static int job_collect(Job *j, const struct addrinfo *list) {
        char text[NI_MAXHOST];
        int r;

        for (const struct addrinfo *a = list; a; a = a->ai_next) {
                r = getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
                if (r != 0)
                        return r;
                /* A hosts file may list one twice. */
                if (!strv_contains(j->addresses, text) && strv_append(&j->addresses, text) < 0)
                        return EAI_MEMORY;
        }
        return j->addresses ? 0 : EAI_NONAME;
}

static void job_do(Job *j) {
        _cleanup_(addrinfop) struct addrinfo *list = NULL;
        /* No AI_ADDRCONFIG: it does not see loopback addresses. */
        const struct addrinfo hints = { .ai_flags = j->flags, .ai_socktype = SOCK_STREAM };

        j->error = getaddrinfo(j->host, NULL, &hints, &list);
        if (j->error == 0)
                j->error = job_collect(j, list);
}

static void *job_thread(void *userdata) {
        Job *j = userdata;

        job_do(j);
        mailbox_post(j);
        return NULL;
}

/* Takes the job where it succeeds. Signals are the loop's: the thread has them all blocked. */
static int job_start(Job *j) {
        pthread_attr_t attributes;
        sigset_t all, old;
        pthread_t thread;
        int r;

        r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;

        (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&thread, &attributes, job_thread, j);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attributes);
        return -r;
}

/* ---- the loop's side ---- */

static Lookup *lookup_free(Lookup *l) {
        if (!l)
                return NULL;

        for (ResolverQuery *q = l->queries; q; q = q->next)
                q->lookup = NULL;
        job_free(l->job);
        free(l->host);
        free(l);
        return NULL;
}
DEFINE_FREEP(Lookup, lookup_free)

/* Of a job that is done; NULL: none is. */
static Lookup *lookup_take(Resolver *resolver) {
        _cleanup_(job_freep) Job *j = mailbox_take(resolver->mailbox);

        for (Lookup **l = &resolver->lookups; j && *l; l = &(*l)->next)
                if ((*l)->job_id == j->id) {
                        Lookup *found = *l;

                        *l = found->next;
                        found->job = TAKE_PTR(j);
                        return found;
                }
        return NULL;
}

/* The handler may free its query, others that wait for the same, and the resolver; and ask anew. */
static void lookup_answer_one(Lookup *l) {
        const Job *j = l->job;
        ResolverAnswer answer = { .error = j->error, .addresses = j->error == 0 ? j->addresses : NULL };
        ResolverQuery *q = l->queries;

        l->queries = q->next;
        q->lookup = NULL;
        q->handler(&answer, q->userdata);
}

/* One is told in each turn, since hundreds may wait for a name, and connect when they have it: only when nobody is
 * left is the descriptor read. */
static int on_posted(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Resolver *resolver = userdata;
        uint64_t one;

        if (!resolver->answered)
                resolver->answered = lookup_take(resolver);
        if (resolver->answered && resolver->answered->queries) {
                lookup_answer_one(resolver->answered);
                return 0;
        }

        resolver->answered = lookup_free(resolver->answered);
        (void) !read(fd, &one, sizeof(one));
        return 0;
}

int resolver_new(sd_event *event, Resolver **ret) {
        _cleanup_(resolver_freep) Resolver *resolver = calloc(1, sizeof(*resolver));
        int r;

        if (!resolver)
                return -ENOMEM;

        r = mailbox_new(&resolver->mailbox);
        if (r < 0)
                return r;
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): after a failure errno is not 0, so that there is a mailbox. */
        r = sd_event_add_io(event, &resolver->source, resolver->mailbox->fd, EPOLLIN, on_posted, resolver);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(resolver->source, "resolver");

        *ret = TAKE_PTR(resolver);
        return 0;
}

Resolver *resolver_free(Resolver *resolver) {
        Lookup *next;

        if (!resolver)
                return NULL;

        for (Lookup *l = resolver->lookups; l; l = next) {
                next = l->next;
                lookup_free(l);
        }
        lookup_free(resolver->answered);
        sd_event_source_disable_unref(resolver->source);
        mailbox_unref(resolver->mailbox);
        free(resolver);
        return NULL;
}

static Lookup *lookup_find(Resolver *resolver, const char *host) {
        for (Lookup *l = resolver->lookups; l; l = l->next)
                if (strcasecmp(l->host, host) == 0)
                        return l;
        return NULL;
}

/* What is numeric is answered without a thread, but by way of the loop too. */
static int lookup_begin(Resolver *resolver, const char *host, Lookup **ret) {
        _cleanup_(lookup_freep) Lookup *l = calloc(1, sizeof(*l));
        _cleanup_(job_freep) Job *j = NULL;
        int r;

        if (!l)
                return -ENOMEM;
        l->host = strdup(host);
        if (!l->host)
                return -ENOMEM;
        l->job_id = ++resolver->last_job_id;

        r = job_new(resolver->mailbox, l->job_id, host, &j);
        if (r < 0)
                return r;

        j->flags = AI_NUMERICHOST;
        job_do(j);
        if (j->error == 0)
                mailbox_post(TAKE_PTR(j));
        else {
                j->flags = 0;
                r = job_start(j);
                if (r < 0)
                        return r;
                TAKE_PTR(j);
        }

        l->next = resolver->lookups;
        resolver->lookups = l;
        *ret = TAKE_PTR(l);
        return 0;
}

int resolver_lookup(Resolver *resolver, const char *host, resolver_handler_t handler, void *userdata,
                    ResolverQuery **ret) {
        _cleanup_(freep) ResolverQuery *q = calloc(1, sizeof(*q));
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

        *q = (ResolverQuery){ .lookup = l, .next = l->queries, .handler = handler, .userdata = userdata };
        l->queries = q;
        *ret = TAKE_PTR(q);
        return 0;
}

ResolverQuery *resolver_query_free(ResolverQuery *q) {
        if (!q)
                return NULL;

        if (q->lookup)
                for (ResolverQuery **p = &q->lookup->queries; *p; p = &(*p)->next)
                        if (*p == q) {
                                *p = q->next;
                                break;
                        }
        free(q);
        return NULL;
}
