/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * TLS for connections to one endpoint: whom to trust, the name to check and to send as SNI, TLS 1.2 or newer. All
 * connections that show the same client certificate, or none, can share a context: an SSL_CTX costs 3 ms, and a megabyte
 * where a whole bundle of CAs is loaded. What goes wrong is kept for each connection by itself.
 */

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>

#include "basic/cleanup.h"
#include "dps/error.h"
#include "transport/trust.h"

typedef struct TlsContext TlsContext;

/* `chain`, leaf first, and `key` NULL: no client certificate. All are copied or referenced. `host` may be a numeric
 * address. */
int tls_context_new(const char *host, Trust *trust, STACK_OF(X509) * chain, EVP_PKEY *key, TlsContext **ret,
                    DpsError *error);
TlsContext *tls_context_ref(TlsContext *c);
TlsContext *tls_context_unref(TlsContext *c);
DEFINE_FREEP(TlsContext, tls_context_unref)

/* For libmosquitto and libcurl. The context must exist until the handshake of each of its connections has begun. */
SSL_CTX *tls_context_ssl(TlsContext *c);

typedef int (*tls_handler_t)(SSL *ssl, void *userdata);
/* The client certificate's key signs slowly (basic/pause.h). While it does, tls_connection_is_signing() is true and the
 * handshake must be left alone, until the handler is called from the loop: then it is to be continued. An SSL must not be
 * freed before tls_connection_stop_signing(), and the handler must be able to serve until then. */
int tls_context_set_slow(TlsContext *c, tls_handler_t handler, void *userdata);
bool tls_connection_is_signing(const SSL *ssl);
void tls_connection_stop_signing(SSL *ssl);

/* What is kept of a connection. */
typedef struct TlsConnection TlsConnection;
/* NULL: there was no memory for it, or no handshake has begun. */
TlsConnection *tls_connection_of(const SSL *ssl);
TlsConnection *tls_connection_unref(TlsConnection *c);
/* NULL: it is freed. */
SSL *tls_connection_ssl(const TlsConnection *c);

/* For libcurl, which makes an SSL_CTX of its own: its connections trust, check and show what those of the context do.
 * `place`, which must exist as long as they do, gets a reference to the newest of them. NULL: only the trust is lent, for a
 * proxy that is reached by TLS. -ENOMEM. */
int tls_context_lend(TlsContext *c, SSL_CTX *ssl, TlsConnection **place);
/* As tls_connection_error(), also after the SSL is freed. */
void tls_connection_why(const TlsConnection *c, DpsError *ret);

/* Whether the server's certificate was refused before the system's bundle was read, which may know its CA. With the bundle,
 * another connection may succeed. NULL: no. */
bool tls_connection_lacks_bundle(const TlsConnection *c);
/* Forgets why the connection at this place failed, before another one is made there. */
void tls_connection_forget_failure(TlsConnection *c);

/* Why the connection failed: DPS_ERROR_TLS_… for the server's certificate, DPS_ERROR_AUTH where the server
 * refused ours, DPS_ERROR_KEY where our key did not sign, DPS_ERROR_PROTOCOL where the server, once proven,
 * sent more than any exchange has, DPS_ERROR_TLS for any other failure of TLS, and DPS_ERROR_NONE for none of
 * these. To ask after a library has freed its SSL, keep a reference of it. */
void tls_connection_error(const SSL *ssl, DpsError *ret);

/* Whether the server was cut off, having sent more than a handshake or an attempt can need. The library may not notice. */
bool tls_connection_is_flooded(const SSL *ssl);

typedef enum TlsHold {
        TLS_HOLD_NOTHING,
        TLS_HOLD_READS, /* only sends */
        TLS_HOLD_ALL,   /* a proxy comes first */
} TlsHold;

/* Holds connections whose handshake begins while this is on, until tls_connection_release(). `n_before` bytes of an earlier
 * handshake count as if they had received them. For libmosquitto:
 * mosquitto_connect_async() begins the handshake and, where the peer is quick enough (on loopback it is), would go through
 * all of it, lose an alert that follows, and tell nobody. */
void tls_context_hold(TlsContext *c, TlsHold hold, size_t n_before);
void tls_connection_release(SSL *ssl);
