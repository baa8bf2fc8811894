/* SPDX-License-Identifier: MIT */
#include "transport/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "basic/pause.h"
#include "basic/text.h"
#include "transport/tls-failure.h"

/*
 * What went wrong is noted by OpenSSL's callbacks while the handshake runs, since it cannot be found out afterwards:
 * libmosquitto empties OpenSSL's queue of errors, and knows of a certificate only that it "failed".
 */

struct TlsContext {
        unsigned n_refs;
        SSL_CTX *ssl;
        char *host; /* without a dot at its end */
        bool is_numeric;
        bool has_certificate;
        TlsHold hold;    /* of connections that begin now, … */
        size_t n_before; /* … and the bytes that were received for them before */
        Trust *trust;
        tls_handler_t on_signed; /* NULL: the key does not pause */
        void *userdata;
};

/* Belongs to an SSL, as its ex_data, from the beginning of the handshake on. */
struct TlsConnection {
        unsigned n_refs;
        SSL *ssl;            /* NULL: it is freed */
        TlsContext *context; /* a reference */
        TlsHold hold;
        bool is_proven;    /* the handshake is done */
        bool lacks_bundle; /* the system's bundle was not read yet, and may know the server's CA */
        size_t n_received; /* bytes; of a place's connection, also by those before it */
        size_t n_begun;    /* n_received when it began, or the one before that was not proven */
        TlsFailure failure;
        char key_error[PAUSE_ERROR_MAX]; /* why our key did not sign */
};

#define HANDSHAKE_SIZE_MAX (256U * 1024) /* bytes, by whoever it may be */
#define RECEIVED_MAX (1024U * 1024)

static int connection_index = -1;
static int place_index = -1; /* of an SSL_CTX that is not ours: where its user keeps the newest connection */

/* ---- connections ---- */

TlsConnection *tls_connection_unref(TlsConnection *c) {
        if (!c || --c->n_refs > 0)
                return NULL;

        X509_free(c->failure.certificate);
        X509_free(c->failure.leaf);
        tls_context_unref(c->context);
        free(c);
        return NULL;
}

static void connection_free(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) {
        TlsConnection *c = data;

        if (c)
                c->ssl = NULL;
        tls_connection_unref(c);
}

TlsConnection *tls_connection_of(const SSL *ssl) {
        return SSL_get_ex_data(ssl, connection_index);
}

/* OpenSSL skips some messages, such as HelloRequest, as often as they come, and reads for as long as they do. */
static bool has_heard_enough(TlsConnection *c) {
        c->failure.is_flooded = c->n_received > RECEIVED_MAX ||
                                (!c->is_proven && c->n_received - c->n_begun > HANDSHAKE_SIZE_MAX);
        return c->failure.is_flooded;
}

/* Called before and after each read and write of the socket, among others. */
static long on_bio(BIO *bio, int operation, const char *data, size_t size, int i, long l, int result,
                   size_t *done) {
        TlsConnection *c = (TlsConnection *) BIO_get_callback_arg(bio); /* freed before the BIO is */

        if (operation == (BIO_CB_READ | BIO_CB_RETURN) && result > 0 && done)
                c->n_received += *done;
        if (operation == BIO_CB_READ && has_heard_enough(c))
                BIO_clear_retry_flags(bio);
        else if (operation == BIO_CB_READ && c->hold != TLS_HOLD_NOTHING)
                BIO_set_retry_read(bio);
        else if (operation == BIO_CB_WRITE && c->hold == TLS_HOLD_ALL)
                BIO_set_retry_write(bio);
        else
                return result;
        return -1;
}

static void connection_begin(SSL *ssl, TlsContext *context) {
        TlsConnection **place = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), place_index);
        TlsConnection *c = calloc(1, sizeof(*c));

        if (!c || SSL_set_ex_data(ssl, connection_index, c) != 1) {
                free(c);
                return;
        }

        *c = (TlsConnection){ .n_refs = 1,
                              .ssl = ssl,
                              .context = tls_context_ref(context),
                              .hold = context->hold,
                              .n_received = context->n_before,
                              .failure = { .alert = -1 } };
        if (place) {
                if (*place) {
                        c->n_received = (*place)->n_received;
                        c->n_begun = (*place)->is_proven ? c->n_received : (*place)->n_begun;
                }
                tls_connection_unref(*place);
                *place = c;
                c->n_refs++;
        }
        BIO_set_callback_arg(SSL_get_rbio(ssl), (char *) c);
        BIO_set_callback_ex(SSL_get_rbio(ssl), on_bio);
}

static void keep(X509 **where, X509 *certificate) {
        if (certificate && X509_up_ref(certificate) == 1) {
                X509_free(*where);
                *where = certificate;
        }
}

/* Names are compared only once the CA is trusted. */
static bool bundle_may_help(int error) {
        return error != X509_V_ERR_HOSTNAME_MISMATCH && error != X509_V_ERR_IP_ADDRESS_MISMATCH;
}

/* Called for each certificate that passes, and for each reason to refuse one. */
static int on_verify(int is_good, X509_STORE_CTX *store) {
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        TlsConnection *c = tls_connection_of(ssl);

        if (is_good)
                return 1;

        if (c) {
                c->failure.verify_error = X509_STORE_CTX_get_error(store);
                c->lacks_bundle =
                        bundle_may_help(c->failure.verify_error) && trust_lacks_bundle(c->context->trust);
                keep(&c->failure.certificate, X509_STORE_CTX_get_current_cert(store));
                keep(&c->failure.leaf, X509_STORE_CTX_get0_cert(store));
        }
        return 0;
}

/* The last error of the handshake. That the peer closed the connection is not an error of TLS. */
static unsigned long handshake_error(void) {
        unsigned long error = ERR_peek_error();

        return ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING ? 0 : error;
}

static void on_info(const SSL *ssl, int where, int result) {
        TlsContext *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
        TlsConnection *c = tls_connection_of(ssl);

        if (where & SSL_CB_HANDSHAKE_START && !c) {
                /* libmosquitto has set what it connects to, which is a numeric address. */
                (void) SSL_set_tlsext_host_name((SSL *) ssl, context->is_numeric ? NULL : context->host);
                connection_begin((SSL *) ssl, context);
        }
        if (!c)
                return;
        c->is_proven = c->is_proven || where & SSL_CB_HANDSHAKE_DONE;

        /* Warnings, and the close_notify at the end is one, are no errors. */
        if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && result >> 8 == SSL3_AL_FATAL)
                c->failure.alert = result & 0xff;
        if (where & SSL_CB_EXIT && result <= 0 && !c->failure.error) {
                (void) pause_take_error(c->key_error);
                c->failure.error = handshake_error();
        }
}

/* A proxy has its own name and rules, which are libcurl's, but no larger budget. */
static void on_proxy_info(const SSL *ssl, int where, int result) {
        TlsConnection *c = tls_connection_of(ssl);

        if (!c && where & SSL_CB_HANDSHAKE_START)
                connection_begin((SSL *) ssl, SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
        else if (c && where & SSL_CB_HANDSHAKE_DONE)
                c->is_proven = true;
}

/* ---- construction ---- */

static int use_certificate(SSL_CTX *ssl, STACK_OF(X509) * chain, EVP_PKEY *key, DpsError *error) {
        bool good;

        ERR_clear_error();
        good = sk_X509_num(chain) > 0 && SSL_CTX_use_certificate(ssl, sk_X509_value(chain, 0)) == 1 &&
               SSL_CTX_use_PrivateKey(ssl, key) == 1 && SSL_CTX_check_private_key(ssl) == 1;
        for (int i = 1; good && i < sk_X509_num(chain); i++)
                good = SSL_CTX_add1_chain_cert(ssl, sk_X509_value(chain, i)) == 1;
        if (good)
                return 0;

        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                      "the client certificate cannot be used with its key: %s", tls_reason(ERR_peek_error()));
        ERR_clear_error();
        return -EINVAL;
}

/* OpenSSL checks no name unless one is set here. */
static int check_name(const TlsContext *c, SSL_CTX *ssl) {
        X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ssl);

        if (c->is_numeric)
                return X509_VERIFY_PARAM_set1_ip_asc(param, c->host) == 1 ? 0 : -ENOMEM;

        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        return X509_VERIFY_PARAM_set1_host(param, c->host, 0) == 1 ? 0 : -ENOMEM;
}

static int set_rules(TlsContext *c, SSL_CTX *ssl) {
        SSL_CTX_set_app_data(ssl, c);
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, on_verify);
        SSL_CTX_set_info_callback(ssl, on_info);
        SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
        /* A resumed session skips the checks, and a device connects once per boot. */
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
        if (SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) != 1)
                return -ENOMEM;
        return check_name(c, ssl);
}

static bool is_numeric(const char *host) {
        struct in6_addr address;

        return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static int context_new(const char *host, TlsContext **ret) {
        _cleanup_(tls_context_unrefp) TlsContext *c = calloc(1, sizeof(*c));
        size_t size = strlen(host);

        if (!c)
                return -ENOMEM;

        if (connection_index < 0)
                connection_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, connection_free);
        if (place_index < 0)
                place_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
        if (connection_index < 0 || place_index < 0)
                return -ENOMEM;

        c->n_refs = 1;
        c->is_numeric = is_numeric(host);
        if (size > 1 && host[size - 1] == '.')
                size--;
        c->host = strndup(host, size);
        c->ssl = SSL_CTX_new(TLS_client_method());
        if (!c->host || !c->ssl || set_rules(c, c->ssl) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

int tls_context_new(const char *host, Trust *trust, STACK_OF(X509) * chain, EVP_PKEY *key, TlsContext **ret,
                    DpsError *error) {
        _cleanup_(tls_context_unrefp) TlsContext *c = NULL;
        int r;

        r = context_new(host, &c);
        if (r < 0) {
                dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "no memory for a TLS context");
                return r;
        }
        c->trust = trust_ref(trust);
        SSL_CTX_set1_cert_store(c->ssl, trust_store(trust));

        if (chain) {
                r = use_certificate(c->ssl, chain, key, error);
                if (r < 0)
                        return r;
                c->has_certificate = true;
        }

        *ret = TAKE_PTR(c);
        return 0;
}

TlsContext *tls_context_ref(TlsContext *c) {
        c->n_refs++;
        return c;
}

TlsContext *tls_context_unref(TlsContext *c) {
        if (!c || --c->n_refs > 0)
                return NULL;

        SSL_CTX_free(c->ssl);
        trust_unref(c->trust);
        free(c->host);
        free(c);
        return NULL;
}

SSL_CTX *tls_context_ssl(TlsContext *c) {
        return c->ssl;
}

static int set_slow(const TlsContext *c, SSL_CTX *ssl) {
        SSL_CTX_set_mode(ssl, SSL_MODE_ASYNC);
        return SSL_CTX_set_async_callback(ssl, c->on_signed) == 1 &&
                               SSL_CTX_set_async_callback_arg(ssl, c->userdata) == 1
                       ? 0
                       : -ENOMEM;
}

/* The certificate was checked when the context was made. */
static int lend_certificate(const TlsContext *c, SSL_CTX *ssl) {
        STACK_OF(X509) *chain = NULL;

        if (SSL_CTX_get0_chain_certs(c->ssl, &chain) != 1 ||
            SSL_CTX_use_certificate(ssl, SSL_CTX_get0_certificate(c->ssl)) != 1 ||
            SSL_CTX_use_PrivateKey(ssl, SSL_CTX_get0_privatekey(c->ssl)) != 1)
                return -ENOMEM;
        return !chain || SSL_CTX_set1_chain(ssl, chain) == 1 ? 0 : -ENOMEM;
}

int tls_context_lend(TlsContext *c, SSL_CTX *ssl, TlsConnection **place) {
        int r;

        /* libcurl would write the keys of the session to the file that $SSLKEYLOGFILE names. */
        SSL_CTX_set_keylog_callback(ssl, NULL);
        SSL_CTX_set1_cert_store(ssl, trust_store(c->trust));
        if (!place) {
                SSL_CTX_set_app_data(ssl, c);
                SSL_CTX_set_info_callback(ssl, on_proxy_info);
                SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
                return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 ? 0 : -ENOMEM;
        }
        if (SSL_CTX_set_ex_data(ssl, place_index, place) != 1)
                return -ENOMEM;
        r = set_rules(c, ssl);
        if (r >= 0 && c->on_signed)
                r = set_slow(c, ssl);
        return r >= 0 && c->has_certificate ? lend_certificate(c, ssl) : r;
}

void tls_context_hold(TlsContext *c, TlsHold hold, size_t n_before) {
        c->hold = hold;
        c->n_before = n_before;
}

void tls_connection_release(SSL *ssl) {
        TlsConnection *c = tls_connection_of(ssl);

        if (c)
                c->hold = TLS_HOLD_NOTHING;
}

void tls_connection_why(const TlsConnection *c, DpsError *ret) {
        if (c->key_error[0])
                return dps_error_set(ret, DPS_ERROR_KEY, DPS_STEP_TLS, "%s", c->key_error);
        if (c->failure.is_flooded && c->is_proven)
                return dps_error_set(ret, DPS_ERROR_PROTOCOL, DPS_STEP_NONE,
                                     "sent more data than any answer has");
        tls_failure_tell(&c->failure, c->context->host, c->context->has_certificate, ret);
}

void tls_connection_error(const SSL *ssl, DpsError *ret) {
        const TlsConnection *c = tls_connection_of(ssl);

        *ret = (DpsError){ 0 };
        if (c)
                tls_connection_why(c, ret);
        else if (!SSL_in_before(ssl))
                dps_error_set(ret, DPS_ERROR_MEMORY, DPS_STEP_TLS, "no memory for a TLS connection");
}

bool tls_connection_lacks_bundle(const TlsConnection *c) {
        return c && c->lacks_bundle;
}

void tls_connection_forget_failure(TlsConnection *c) {
        X509_free(c->failure.certificate);
        X509_free(c->failure.leaf);
        c->failure = (TlsFailure){ .alert = -1 };
        c->lacks_bundle = false;
}

bool tls_connection_is_flooded(const SSL *ssl) {
        const TlsConnection *c = tls_connection_of(ssl);

        return c && c->failure.is_flooded;
}

int tls_context_set_slow(TlsContext *c, tls_handler_t handler, void *userdata) {
        c->on_signed = handler;
        c->userdata = userdata;
        return set_slow(c, c->ssl);
}

SSL *tls_connection_ssl(const TlsConnection *c) {
        return c->ssl;
}

bool tls_connection_is_signing(const SSL *ssl) {
        return SSL_waiting_for_async((SSL *) ssl);
}

/* The handshake ends with an error, and so the job ends, too. Its alert is held: libcurl's socket can be used only while
 * libcurl runs. */
void tls_connection_stop_signing(SSL *ssl) {
        TlsConnection *c = tls_connection_of(ssl);

        if (!tls_connection_is_signing(ssl))
                return;
        if (c)
                c->hold = TLS_HOLD_ALL;
        pause_give_up(true);
        (void) SSL_do_handshake(ssl);
        pause_give_up(false);
        ERR_clear_error();
}
