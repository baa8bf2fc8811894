/* SPDX-License-Identifier: MIT */
#include "transport/tls-cache.h"

#include <errno.h>

#include "basic/text.h"

/*
 * A source is a host and a list of CA files. One thread at a time reads it, so that files that hang do not take
 * all threads. Whoever asks meanwhile waits for the next look, since the files may have changed since this one
 * began.
 */

struct TlsQuery {
        TlsSource *source; /* NULL: it was answered */
        TlsQuery *next;
        bool waits; /* for the next look, behind those for whom the present one is made */
        TlsWish wish;
        tls_query_handler_t handler;
        void *userdata;
};

struct TlsSource {
        World *world;
        TlsSource *next;
        char *host;
        char **ca_files;     /* NULL: the system's store */
        Trust *trust;        /* NULL: not read yet, or not readable */
        TlsContext *context; /* of this trust, without a certificate; NULL: none yet */
        Work *work;          /* NULL: nobody asks */
        TlsQuery *queries;
};

/* What a thread of the worker touches. */
typedef struct Task {
        TlsSource *source; /* the loop's only */
        char **ca_files;
        Trust *known; /* NULL: none */
        bool with_bundle;
        Trust *trust; /* NULL: `error` says why */
        DpsError error;
        bool was_taken;
} Task;

/* ---- sources ---- */

static void forget_trust(TlsSource *s) {
        s->context = tls_context_unref(s->context);
        s->trust = trust_unref(s->trust);
}

static void source_free(TlsSource *s) {
        forget_trust(s);
        work_forget(s->work);
        strv_free(s->ca_files);
        free(s->host);
        free(s);
}

static TlsSource *find_source(TlsCache *c, const char *host, char *const *ca_files) {
        TlsSource *s = c->sources;

        while (s && (!streq(s->host, host) || !strv_equal(s->ca_files, ca_files)))
                s = s->next;
        if (s)
                return s;
        s = calloc(1, sizeof(*s));
        if (!s)
                return NULL;
        *s = (TlsSource){ .world = c->world, .next = c->sources, .host = strdup(host) };
        if (!s->host || strv_extend(&s->ca_files, ca_files) < 0) {
                source_free(s);
                return NULL;
        }
        c->sources = s;
        return s;
}

/* A source whose files hang keeps its thread, so that it never gets a second one. */
static void free_sources(TlsCache *c, bool is_end) {
        TlsSource **p = &c->sources;

        while (*p) {
                TlsSource *s = *p;

                if (s->work && !is_end)
                        p = &s->next;
                else {
                        *p = s->next;
                        source_free(s);
                }
        }
}

void tls_cache_clear(TlsCache *c) {
        free_sources(c, false);
}

void tls_cache_done(TlsCache *c) {
        free_sources(c, true);
}

/* Returns a reference, or NULL. */
static TlsContext *make_context(TlsSource *s, const TlsWish *wish, DpsError *error) {
        TlsContext *context;

        if (!wish->chain && s->context)
                return tls_context_ref(s->context);
        if (tls_context_new(s->host, s->trust, wish->chain, wish->key, &context, error) < 0)
                return NULL;
        if (!wish->chain)
                s->context = tls_context_ref(context);
        return context;
}

/* ---- the worker ---- */

static void task_free(void *task) {
        Task *t = task;

        strv_free(t->ca_files);
        trust_unref(t->known);
        trust_unref(t->trust);
        free(t);
}

static void run(void *task) {
        Task *t = task;

        if (t->known && trust_is_current(t->known))
                t->trust = trust_ref(t->known);
        else
                (void) trust_read(t->ca_files, &t->trust, &t->error);
        if (t->trust && t->with_bundle)
                (void) trust_read_bundle(t->trust);
}

static void take_trust(TlsSource *s, Task *t) {
        t->was_taken = true;
        if (s->trust == t->trust)
                return;
        forget_trust(s);
        s->trust = t->trust ? trust_ref(t->trust) : NULL;
}

static void answer(TlsQuery *q, DpsError *error) {
        TlsSource *s = q->source;
        _cleanup_(tls_context_unrefp) TlsContext *context =
                s->trust ? make_context(s, &q->wish, error) : NULL;

        s->queries = q->next;
        q->source = NULL;
        q->handler(context, context ? NULL : error, q->userdata);
}

static bool has_asked(const TlsSource *s) {
        return s->queries && !s->queries->waits;
}

/* One in a turn of the loop: hundreds may wait for one source, and go on as soon as they have it. */
static bool tell(void *task) {
        Task *t = task;
        TlsSource *s = t->source;
        DpsError error = t->error;

        if (!t->was_taken)
                take_trust(s, t);
        if (has_asked(s))
                answer(s->queries, &error);
        return has_asked(s);
}

static int look(TlsSource *s);

static void done(void *task) {
        Task *t = task;
        TlsSource *s = t->source;
        DpsError error;

        task_free(t);
        s->work = NULL;
        for (TlsQuery *q = s->queries; q; q = q->next)
                q->waits = false;
        dps_error_set(&error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "no memory for certificates of CAs");
        while (s->queries && look(s) < 0) {
                forget_trust(s);
                answer(s->queries, &error);
        }
}

static int look(TlsSource *s) {
        static const WorkClass class = {
                .queue = WORK_KEYS, .run = run, .tell = tell, .done = done, .free = task_free
        };
        Task *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (Task){ .source = s, .known = s->trust ? trust_ref(s->trust) : NULL };
        for (const TlsQuery *q = s->queries; q; q = q->next)
                t->with_bundle = t->with_bundle || q->wish.with_bundle;
        r = strv_extend(&t->ca_files, s->ca_files);
        if (r >= 0)
                r = work_begin(s->world, &class, t, &s->work);
        if (r < 0)
                task_free(t);
        return r;
}

/* ---- queries ---- */

int tls_cache_ask(TlsCache *c, const TlsWish *wish, tls_query_handler_t handler, void *userdata,
                  TlsQuery **ret) {
        TlsSource *s = find_source(c, wish->host, wish->ca_files);
        TlsQuery *q = s ? calloc(1, sizeof(*q)) : NULL, **last;

        if (!q)
                return -ENOMEM;
        *q = (TlsQuery){
                .source = s, .waits = s->work, .wish = *wish, .handler = handler, .userdata = userdata
        };
        for (last = &s->queries; *last;)
                last = &(*last)->next;
        *last = q;
        if (!s->work && look(s) < 0) {
                tls_query_free(q);
                return -ENOMEM;
        }
        *ret = q;
        return 0;
}

TlsQuery *tls_query_free(TlsQuery *q) {
        TlsQuery **p;

        if (!q)
                return NULL;

        if (q->source) {
                p = &q->source->queries;
                while (*p != q)
                        p = &(*p)->next;
                *p = q->next;
        }
        free(q);
        return NULL;
}
