/* SPDX-License-Identifier: MIT */

/*
 * DPS asks every client for a certificate, accepts clients without one (they have a token), and refuses a
 * wrong one in the CONNACK. Mosquitto can either never ask, or end the handshake unless a fixed CA signed the
 * certificate. So the launcher also preloads the plugin into Mosquitto (LD_PRELOAD), and Mosquitto calls the
 * plugin's SSL_CTX_set_verify() instead of OpenSSL's: the server asks for a certificate, it may be missing,
 * and anybody may have signed it. TLS still proves that the client has its key. Everything else is decided at
 * CONNECT, by the enrollments, which may change at any time.
 *
 * Mosquitto gives a plugin the client's certificate, but not the certificates that came with it. They are
 * attached to the client's certificate, which is the same object in both places.
 *
 * DPS keeps no session, whatever the client asks for. Mosquitto would keep it, and no option changes that. So
 * SSL_read() sets the flag "clean session" in every CONNECT before Mosquitto sees it.
 */

#include "emulator/interpose.h"

#include <assert.h>
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <string.h>

typedef void SetVerify(SSL_CTX *ctx, int mode, SSL_verify_cb callback);
typedef int Read(SSL *ssl, void *data, int size);

#define CONNECT_TYPE 0x10
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

/* Called in place of X509_verify_cert(). When there is no memory for the chain, the client is refused at
 * CONNECT. */
static int accept_any(X509_STORE_CTX *ctx, void *userdata) {
        X509 *certificate = X509_STORE_CTX_get0_cert(ctx);
        STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx), *others = sk_X509_new_null();

        for (int i = 0; others && i < sk_X509_num(sent); i++) {
                X509 *other = sk_X509_value(sent, i);

                /* A certificate that referred to itself would never be freed. */
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

        /* A resumed session would bring the certificate without its chain. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        (void) SSL_CTX_set_num_tickets(ctx, 0);

        /* A device that closes the connection without an alert is not an error. */
        SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

static bool has_will;

bool connect_has_will(void) {
        return has_will;
}

/* Mosquitto 2.0 reads a packet's type and length first, and then all of the rest; 2.1 reads what there is. So what is read of
 * a CONNECT begins with its type, or with the protocol's name. No other packet that DPS accepts begins so. */
static unsigned char *find_connect_flags(unsigned char *data, int size) {
        static const char protocol[] = "\0\4MQTT\4";
        int at = 0;

        if (size > 0 && data[0] == CONNECT_TYPE) {
                do
                        at++;
                while (at < size && data[at] & 0x80); /* all bytes of the length but its last */
                at++;
        }
        if (size - at <= CONNECT_FLAGS_OFFSET || memcmp(data + at, protocol, CONNECT_FLAGS_OFFSET) != 0)
                return NULL;
        return data + at + CONNECT_FLAGS_OFFSET;
}

__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *data, int size) {
        static Read *original;
        unsigned char *flags;
        int n;

        if (!original)
                original = (Read *) dlsym(RTLD_NEXT, "SSL_read");
        assert(original);

        n = original(ssl, data, size);
        flags = find_connect_flags(data, n);
        if (flags) {
                has_will = *flags & CONNECT_WILL;
                *flags |= CONNECT_CLEAN_SESSION;
        }
        return n;
}
