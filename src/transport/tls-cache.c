/* SPDX-License-Identifier: MIT */
#include "transport/tls-cache.h"

#include <errno.h>

#include "basic/text.h"

struct SharedTls {
        char *host;
        char **ca_files;
        TlsContext *context;
};

static void shared_tls_done(SharedTls *s) {
        free(s->host);
        strv_free(s->ca_files);
        tls_context_unref(s->context);
}

static TlsContext *cache_find(const TlsCache *c, const char *host, char *const *ca_files) {
        for (size_t i = 0; i < c->n_shared; i++)
                if (streq(c->shared[i].host, host) && strv_equal(c->shared[i].ca_files, ca_files))
                        return c->shared[i].context;
        return NULL;
}

static int cache_add(TlsCache *c, const char *host, char *const *ca_files, TlsContext *context) {
        SharedTls s = { .host = strdup(host), .context = tls_context_ref(context) };
        SharedTls *shared = reallocarray(c->shared, c->n_shared + 1, sizeof(*shared));

        if (shared)
                c->shared = shared;
        if (!shared || !s.host || strv_extend(&s.ca_files, ca_files) < 0) {
                shared_tls_done(&s);
                return -ENOMEM;
        }

        c->shared[c->n_shared++] = s;
        return 0;
}

int tls_cache_get(TlsCache *c, const char *host, char *const *ca_files, STACK_OF(X509) * chain, EVP_PKEY *key,
                  TlsContext **ret, DpsError *error) {
        TlsContext *context = chain ? NULL : cache_find(c, host, ca_files);
        int r;

        if (context) {
                *ret = tls_context_ref(context);
                return 0;
        }

        r = tls_context_new(host, ca_files, chain, key, &context, error);
        if (r < 0)
                return r;

        /* Where there is no memory for it, the next connection makes a context of its own. */
        if (!chain)
                (void) cache_add(c, host, ca_files, context);
        *ret = context;
        return 0;
}

void tls_cache_clear(TlsCache *c) {
        for (size_t i = 0; i < c->n_shared; i++)
                shared_tls_done(&c->shared[i]);
        free(c->shared);
        *c = (TlsCache){ 0 };
}
