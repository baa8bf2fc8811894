/* SPDX-License-Identifier: MIT */

/*
 * DPS asks every client for a certificate, takes those who have none (they have a token), and says no to a wrong one
 * in the CONNACK. Mosquitto knows only "never ask" and "no handshake without one that a fixed CA signed". So the
 * plugin is also preloaded into it (LD_PRELOAD, by the launcher), where its SSL_CTX_set_verify() stands before
 * OpenSSL's: a certificate is asked for, may be missing, and passes whoever signed it. TLS still proves that the
 * client has its key; everything else is decided at CONNECT, against the enrollments, which change while it runs.
 *
 * Mosquitto gives a plugin the client's certificate and not those that came with it. They are hung on the
 * certificate itself, which is the same object in both places.
 *
 * And DPS keeps no session, whatever the client asks for. Mosquitto would, and cannot be told otherwise; so its
 * SSL_read() finds every CONNECT asking for a clean one.
 */

#include "emulator/interpose.h"

#include <assert.h>
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <string.h>

typedef void SetVerify(SSL_CTX *ctx, int mode, SSL_verify_cb callback);
typedef int Read(SSL *ssl, void *data, int size);

#define CONNECT_FLAGS_OFFSET 7
#define CONNECT_CLEAN_SESSION 0x02
#define CONNECT_WILL 0x04

static void free_chain(void *parent, void *chain, CRYPTO_EX_DATA *data, int index, long argl, void *argp) {
        sk_X509_pop_free((STACK_OF(X509) *) chain, X509_free);
}

static int chain_index(void) {
        static int index = -1;

        if (index < 0)
                index = X509_get_ex_new_index(0, NULL, NULL, NULL, free_chain);
        return index;
}

STACK_OF(X509) * peer_chain(X509 *certificate) {
        return X509_get_ex_data(certificate, chain_index());
}

/* In place of X509_verify_cert(). Without the chain the client is refused later, so a lack of memory may pass. */
static int accept_any(X509_STORE_CTX *ctx, void *userdata) {
        X509 *certificate = X509_STORE_CTX_get0_cert(ctx);
        STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx), *others = sk_X509_new_null();

        for (int i = 0; others && i < sk_X509_num(sent); i++) {
                X509 *other = sk_X509_value(sent, i);

                /* Not itself: it would never be freed. */
                if (other != certificate && X509_up_ref(other) == 1 && sk_X509_push(others, other) == 0)
                        X509_free(other);
        }
        if (X509_set_ex_data(certificate, chain_index(), others) != 1)
                sk_X509_pop_free(others, X509_free);

        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return 1;
}

__attribute__((visibility("default"))) void SSL_CTX_set_verify(SSL_CTX *ctx, int mode,
                                                               SSL_verify_cb callback) {
        SetVerify *original = (SetVerify *) dlsym(RTLD_NEXT, "SSL_CTX_set_verify");

        assert(original);
        original(ctx, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_cert_verify_callback(ctx, accept_any, NULL);

        /* A resumed session would come with the certificate and without its chain. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        (void) SSL_CTX_set_num_tickets(ctx, 0);

        /* Devices that hang up without a word are no news. */
        SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

static bool has_will;

bool connect_has_will(void) {
        return has_will;
}

/* Mosquitto reads a packet's type and length first and then all of the rest, so a CONNECT begins with its protocol. No
 * other packet that DPS takes begins so. */
__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *data, int size) {
        static const char protocol[] = "\0\4MQTT\4";
        static Read *original;
        int n;

        if (!original)
                original = (Read *) dlsym(RTLD_NEXT, "SSL_read");
        assert(original);

        n = original(ssl, data, size);
        if (n > CONNECT_FLAGS_OFFSET && memcmp(data, protocol, CONNECT_FLAGS_OFFSET) == 0) {
                unsigned char *flags = (unsigned char *) data + CONNECT_FLAGS_OFFSET;

                has_will = *flags & CONNECT_WILL;
                *flags |= CONNECT_CLEAN_SESSION;
        }
        return n;
}
