/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What all connections to one endpoint with one client certificate share: trust, the name to check and to send as
 * SNI, TLS 1.2 or newer. Reference-counted: an SSL_CTX costs 3 ms and, with a whole bundle, a megabyte.
 */

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>

#include "basic/cleanup.h"
#include "dps/error.h"

typedef struct TlsContext TlsContext;

/* `ca_files` NULL: the system's store. `chain`, leaf first, and `key` NULL: no client certificate. All are copied or
 * referenced. On failure `error` says what to tell (which file, why). `host` may be a numeric address. */
int tls_context_new(const char *host, char *const *ca_files, STACK_OF(X509) * chain, EVP_PKEY *key,
                    TlsContext **ret, DpsError *error);
TlsContext *tls_context_ref(TlsContext *c);
TlsContext *tls_context_unref(TlsContext *c);
DEFINE_FREEP(TlsContext, tls_context_unref)

/* For libmosquitto and libcurl. */
SSL_CTX *tls_context_ssl(TlsContext *c);

/* All happens in our one thread: what went wrong in TLS since tls_context_watch(), to be called right before the
 * library goes on with a handshake or reads, is told by tls_context_blame(): the server's certificate by its id, a
 * refusal of ours as DPS_ERROR_AUTH, anything else as DPS_ERROR_TLS. DPS_ERROR_NONE: nothing of TLS. */
void tls_context_watch(TlsContext *c);
void tls_context_blame(const TlsContext *c, DpsError *ret);

/* While on, handshakes send and do not read. mosquitto_connect_async() begins one, and where the peer is quick
 * enough (on loopback it is) would go through all of it, lose an alert that comes behind it, and not tell. */
void tls_context_hold(TlsContext *c, bool on);
