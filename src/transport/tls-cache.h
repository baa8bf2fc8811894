/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * TLS contexts for connections. CA files are read in the world's worker, once for all who want the same ones, and looked at
 * again for each connection. Connections to one host that trust the same and show no client certificate share a context.
 */

#include "basic/world.h"
#include "transport/tls.h"

typedef struct TlsSource TlsSource;
typedef struct TlsQuery TlsQuery;

typedef struct TlsCache {
        World *world;
        TlsSource *sources; /* NULL: empty */
} TlsCache;

/* Borrowed until the answer. */
typedef struct TlsWish {
        const char *host;
        char *const *ca_files;  /* NULL: the system's store */
        STACK_OF(X509) * chain; /* leaf first; NULL: no client certificate, as `key` */
        EVP_PKEY *key;
        bool with_bundle; /* of the system, although its directory has certificates */
} TlsWish;

/* `context` is borrowed; NULL: `error` says why there is none. */
typedef void (*tls_query_handler_t)(TlsContext *context, const DpsError *error, void *userdata);

/* The handler is called once, from the loop and never from within this call. It may free its query and others. -ENOMEM. */
int tls_cache_ask(TlsCache *c, const TlsWish *wish, tls_query_handler_t handler, void *userdata,
                  TlsQuery **ret);
/* The handler is not called any more. To be called after the answer, too. */
TlsQuery *tls_query_free(TlsQuery *q);
DEFINE_FREEP(TlsQuery, tls_query_free)

/* Frees what nobody waits for. */
void tls_cache_clear(TlsCache *c);
/* All queries must be freed. */
void tls_cache_done(TlsCache *c);
