/* SPDX-License-Identifier: MIT */
#pragma once

/* The TLS contexts that connections without a client certificate share, one for each endpoint and list of CA files. */

#include "transport/tls.h"

typedef struct SharedTls SharedTls;

/* Part of the class of a transport; zero: empty. */
typedef struct TlsCache {
        SharedTls *shared;
        size_t n_shared;
} TlsCache;

/* As tls_context_new(), from the cache where it has one. With a client certificate the context is the caller's alone. */
int tls_cache_get(TlsCache *c, const char *host, char *const *ca_files, STACK_OF(X509) * chain, EVP_PKEY *key,
                  TlsContext **ret, DpsError *error);
/* CA files are read again for the next connection, since they may have changed. */
void tls_cache_clear(TlsCache *c);
