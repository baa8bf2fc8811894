/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "basic/text.h"
#include "certificates.h"
#include "remove-tree.h"
#include "transport/tls.h"

/* Handshakes in memory between one of our contexts and a server made with OpenSSL. */

#define DPS "global.azure-devices-provisioning.net"

typedef struct Outcome {
        bool client_done, server_done;
        char *server_name;     /* what the server saw as SNI; NULL: none */
        bool client_was_shown; /* the client has shown a certificate */
        DpsError error;
} Outcome;

/* With trust that is read here. */
static int tls_context_read(const char *host, char *const *ca_files, STACK_OF(X509) * chain, EVP_PKEY *key,
                            TlsContext **ret, DpsError *error) {
        _cleanup_(trust_unrefp) Trust *trust = NULL;
        int r = trust_read(ca_files, &trust, error);

        return r < 0 ? r : tls_context_new(host, trust, chain, key, ret, error);
}

/* Both ends of a connection, in memory. */
typedef struct Pair {
        SSL *client, *server;
        bool client_done, server_done;
} Pair;

static void pair_begin(Pair *p, TlsContext *c, SSL_CTX *server_ctx) {
        BIO *client_bio, *server_bio;

        *p = (Pair){ .client = SSL_new(tls_context_ssl(c)), .server = SSL_new(server_ctx) };
        assert_int_equal(BIO_new_bio_pair(&client_bio, 0, &server_bio, 0), 1);
        SSL_set_bio(p->client, client_bio, client_bio);
        SSL_set_bio(p->server, server_bio, server_bio);
        SSL_set_connect_state(p->client);
        SSL_set_accept_state(p->server);
        /* The same settings that libmosquitto applies to its connections. */
        assert_int_equal(SSL_set_tlsext_host_name(p->client, "127.0.0.1"), 1);
}

static void pair_step(Pair *p) {
        char byte;

        p->client_done = SSL_do_handshake(p->client) == 1;
        p->server_done = SSL_do_handshake(p->server) == 1;
        /* With TLS 1.3, the server judges our certificate only after the handshake. */
        if (p->client_done)
                (void) !SSL_read(p->client, &byte, 1);
}

static void pair_end(Pair *p) {
        SSL_free(p->client);
        SSL_free(p->server);
        ERR_clear_error();
}

static void handshake(TlsContext *c, SSL_CTX *server_ctx, Outcome *ret) {
        const char *name;
        Pair p;

        pair_begin(&p, c, server_ctx);
        for (unsigned i = 0; i < 10; i++)
                pair_step(&p);

        *ret = (Outcome){ .client_done = p.client_done, .server_done = p.server_done };
        tls_connection_error(p.client, &ret->error);
        name = SSL_get_servername(p.server, TLSEXT_NAMETYPE_host_name);
        ret->server_name = name ? strdup(name) : NULL;
        ret->client_was_shown = SSL_get0_peer_certificate(p.server);
        pair_end(&p);
}

/* ---- what is accepted, and what is said of the rest ---- */

static const struct trust_case {
        const char *promise;
        const char *host;
        const char *names; /* in the server's certificate */
        long from_sec, until_sec;
        enum { TRUSTED, UNKNOWN, UNKNOWN_AZURE } authority;
        bool for_clients;
        DpsErrorId id;       /* NONE: accepted */
        const char *telling; /* part of the message */
} trust_cases[] = {
        { "the right name is accepted", "dps.example", "DNS:dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "the case of a name does not matter", "DPS.Example", "DNS:dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "a dot at the end is not part of the name", "dps.example.", "DNS:dps.example", -DAY, DAY, TRUSTED,
          false, DPS_ERROR_NONE, "" },
        { "a wildcard is accepted", "a.dps.example", "DNS:*.dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "the right IPv4 address is accepted", "192.0.2.7", "IP:192.0.2.7", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "the right IPv6 address is accepted", "2001:db8::1", "IP:2001:db8::1", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "a wrong name is refused, and both are reported", "dps.example",
          "DNS:evil.example,email:x@y.example,DNS:b.example", -DAY, DAY, TRUSTED, false, DPS_ERROR_TLS_NAME,
          "for evil.example, b.example, not for dps.example" },
        { "a wrong address is refused", "192.0.2.7", "IP:192.0.2.8,DNS:192.0.2.7", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_TLS_NAME, "192.0.2.8" },
        { "a wildcard is for one label", "a.b.dps.example", "DNS:*.dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_TLS_NAME, "*.dps.example" },
        { "an expired certificate is told with its date and the clock's", "dps.example", "DNS:dps.example",
          -DAY, -60, TRUSTED, false, DPS_ERROR_TLS_EXPIRED, "is valid only until 20" },
        { "a certificate that is not valid yet is told with its date", "dps.example", "DNS:dps.example", 3600,
          DAY, TRUSTED, false, DPS_ERROR_TLS_EXPIRED, "is valid not before 20" },
        { "an unknown CA is told by name", "dps.example", "DNS:dps.example", -DAY, DAY, UNKNOWN, false,
          DPS_ERROR_TLS_UNTRUSTED, "Other Root" },
        { "a certificate for Azure by an unknown CA means that a proxy intercepts", DPS,
          "DNS:*.azure-devices-provisioning.net", -DAY, DAY, UNKNOWN, false, DPS_ERROR_TLS_INTERCEPTED,
          "Other Root" },
        { "where a CA of Azure is unknown, no proxy is suspected", DPS,
          "DNS:*.azure-devices-provisioning.net", -DAY, DAY, UNKNOWN_AZURE, false, DPS_ERROR_TLS_UNTRUSTED,
          "Azure-like Root" },
        { "a certificate for another name at Azure's address is only untrusted", DPS, "DNS:router.local",
          -DAY, DAY, UNKNOWN, false, DPS_ERROR_TLS_UNTRUSTED, "Other Root" },
        { "a certificate for clients is refused", "dps.example", NULL, -DAY, DAY, TRUSTED, true,
          DPS_ERROR_TLS_UNTRUSTED, "purpose" },
};

static void check_trust(void **state) {
        const struct trust_case *c = *state;
        CertifiedKey trusted = authority_new("Our Root", NULL);
        CertifiedKey issuer = c->authority == TRUSTED   ? authority_new("Unused", NULL)
                              : c->authority == UNKNOWN ? authority_new("Other Root", "Corporate Proxy")
                                                        : authority_new("Azure-like Root", "DigiCert Inc");
        CertifiedKey server = certified_key_new(c->authority == TRUSTED ? &trusted : &issuer, "server",
                                                c->names, c->from_sec, c->until_sec);
        _cleanup_(tls_context_unrefp) TlsContext *context = NULL;
        _cleanup_(freep) char *ca_file = certificate_file(&trusted);
        SSL_CTX *server_ctx = server_context(&server, NULL);
        DpsError error;
        Outcome o;

        assert_int_equal(tls_context_read(c->host, (char *[]){ ca_file, NULL }, NULL, NULL, &context, &error),
                         0);
        handshake(context, server_ctx, &o);
        assert_int_equal(o.error.id, c->id);
        assert_int_equal(o.client_done, c->id == DPS_ERROR_NONE);
        assert_int_equal(o.error.step, c->id == DPS_ERROR_NONE ? DPS_STEP_NONE : DPS_STEP_TLS);
        if (!strstr(o.error.message, c->telling))
                fail_msg("\"%s\" does not tell \"%s\"", o.error.message, c->telling);

        unlink(ca_file);
        free(o.server_name);
        SSL_CTX_free(server_ctx);
        certified_key_done(&server);
        certified_key_done(&issuer);
        certified_key_done(&trusted);
}

/* ---- the rest, with a server that is good ---- */

typedef struct Scene {
        CertifiedKey authority, server, client;
        SSL_CTX *server_ctx;
        char *ca_file;
        TlsContext *context;
        Outcome outcome;
} Scene;

static void scene_begin(Scene *s, const char *host, bool asks_client, bool shows_client) {
        STACK_OF(X509) *chain = sk_X509_new_null();
        DpsError error;

        *s = (Scene){ .authority = authority_new("Our Root", NULL) };
        s->server = certified_key_new(&s->authority, "server", "DNS:dps.example,IP:192.0.2.7", -DAY, DAY);
        s->client = certified_key_new(&s->authority, "gateway", NULL, -DAY, DAY);
        s->server_ctx = server_context(&s->server, asks_client ? &s->authority : NULL);
        s->ca_file = certificate_file(&s->authority);
        assert_int_not_equal(sk_X509_push(chain, s->client.certificate), 0);
        assert_int_equal(tls_context_read(host, (char *[]){ s->ca_file, NULL }, shows_client ? chain : NULL,
                                          shows_client ? s->client.key : NULL, &s->context, &error),
                         0);
        sk_X509_free(chain);
}

static void scene_end(Scene *s) {
        unlink(s->ca_file);
        free(s->ca_file);
        free(s->outcome.server_name);
        tls_context_unref(s->context);
        SSL_CTX_free(s->server_ctx);
        certified_key_done(&s->client);
        certified_key_done(&s->server);
        certified_key_done(&s->authority);
}

static void sends_server_name(void **state) {
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        handshake(s.context, s.server_ctx, &s.outcome);
        assert_non_null(s.outcome.server_name);
        assert_string_equal(s.outcome.server_name, "dps.example");
        scene_end(&s);
}

static void sends_no_address_as_name(void **state) {
        Scene s;

        scene_begin(&s, "192.0.2.7", false, false);
        handshake(s.context, s.server_ctx, &s.outcome);
        assert_true(s.outcome.client_done);
        assert_null(s.outcome.server_name);
        scene_end(&s);
}

static void refuses_old_tls(void **state) {
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        SSL_CTX_set_security_level(s.server_ctx, 0);
        assert_int_equal(SSL_CTX_set_min_proto_version(s.server_ctx, TLS1_VERSION), 1);
        assert_int_equal(SSL_CTX_set_max_proto_version(s.server_ctx, TLS1_1_VERSION), 1);
        handshake(s.context, s.server_ctx, &s.outcome);
        assert_false(s.outcome.client_done);
        assert_int_equal(s.outcome.error.id, DPS_ERROR_TLS);
        assert_non_null(strstr(s.outcome.error.message, "protocol version"));
        scene_end(&s);
}

static void takes_tls_1_2(void **state) {
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        assert_int_equal(SSL_CTX_set_max_proto_version(s.server_ctx, TLS1_2_VERSION), 1);
        handshake(s.context, s.server_ctx, &s.outcome);
        assert_true(s.outcome.client_done && s.outcome.server_done);
        assert_int_equal(s.outcome.error.id, DPS_ERROR_NONE);
        scene_end(&s);
}

static void shows_client_certificate(void **state) {
        Scene s;

        scene_begin(&s, "dps.example", true, true);
        handshake(s.context, s.server_ctx, &s.outcome);
        assert_true(s.outcome.client_done && s.outcome.server_done);
        assert_true(s.outcome.client_was_shown);
        scene_end(&s);
}

static void check_refused_client(bool shows_client, int version) {
        Scene s;

        scene_begin(&s, "dps.example", true, shows_client);
        if (shows_client) {
                CertifiedKey other = authority_new("Their Root", NULL);

                SSL_CTX_free(s.server_ctx);
                s.server_ctx = server_context(&s.server, &other);
                certified_key_done(&other);
        }
        assert_int_equal(SSL_CTX_set_max_proto_version(s.server_ctx, version), 1);
        handshake(s.context, s.server_ctx, &s.outcome);
        assert_false(s.outcome.server_done);
        assert_int_equal(s.outcome.error.id, DPS_ERROR_AUTH);
        assert_non_null(strstr(s.outcome.error.message,
                               shows_client ? "refused our certificate" : "wants a client certificate"));
        scene_end(&s);
}

static void refused_client_is_auth(void **state) {
        check_refused_client(true, TLS1_2_VERSION);
        check_refused_client(true, TLS1_3_VERSION);
}

static void missing_client_is_auth(void **state) {
        check_refused_client(false, TLS1_3_VERSION);
}

/* ---- connections of one context ---- */

/* The server's certificate is from an unknown CA, or for another name. */
static SSL_CTX *bad_server_context(const Scene *s, bool is_trusted) {
        CertifiedKey other = authority_new("Other Root", NULL);
        CertifiedKey server =
                certified_key_new(is_trusted ? &s->authority : &other, "server",
                                  is_trusted ? "DNS:evil.example" : "DNS:dps.example", -DAY, DAY);
        SSL_CTX *ctx = server_context(&server, NULL);

        certified_key_done(&server);
        certified_key_done(&other);
        return ctx;
}

/* Three handshakes in alternation: one succeeds, the other two fail for different reasons. */
static void each_connection_has_its_own_error(void **state) {
        static const DpsErrorId ids[] = { DPS_ERROR_TLS_UNTRUSTED, DPS_ERROR_NONE, DPS_ERROR_TLS_NAME };
        SSL_CTX *contexts[3];
        Pair pairs[3];
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        contexts[0] = bad_server_context(&s, false);
        contexts[1] = s.server_ctx;
        contexts[2] = bad_server_context(&s, true);
        for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
                pair_begin(&pairs[i], s.context, contexts[i]);
        for (unsigned k = 0; k < 10; k++)
                for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
                        pair_step(&pairs[i]);

        for (size_t i = 0; i < ELEMENTSOF(pairs); i++) {
                DpsError error;

                tls_connection_error(pairs[i].client, &error);
                assert_int_equal(error.id, ids[i]);
                assert_int_equal(pairs[i].client_done, ids[i] == DPS_ERROR_NONE);
        }
        for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
                pair_end(&pairs[i]);
        SSL_CTX_free(contexts[0]);
        SSL_CTX_free(contexts[2]);
        scene_end(&s);
}

static void error_outlives_context(void **state) {
        SSL_CTX *server_ctx;
        DpsError error;
        Scene s;
        Pair p;

        scene_begin(&s, "dps.example", false, false);
        server_ctx = bad_server_context(&s, true);
        pair_begin(&p, s.context, server_ctx);
        for (unsigned i = 0; i < 10; i++)
                pair_step(&p);
        s.context = tls_context_unref(s.context);
        tls_connection_error(p.client, &error);
        assert_non_null(strstr(error.message, "for evil.example, not for dps.example"));
        pair_end(&p);
        SSL_CTX_free(server_ctx);
        scene_end(&s);
}

static void no_error_before_the_handshake(void **state) {
        DpsError error;
        Scene s;
        Pair p;

        scene_begin(&s, "dps.example", false, false);
        pair_begin(&p, s.context, s.server_ctx);
        tls_connection_error(p.client, &error);
        assert_int_equal(error.id, DPS_ERROR_NONE);
        pair_end(&p);
        scene_end(&s);
}

/* The server is who it says it is, so TLS has not failed. */
static void a_flood_after_the_handshake_is_not_an_error_of_tls(void **state) {
        static char bytes[8 * 1024];
        unsigned n_written = 0;
        DpsError error;
        Scene s;
        Pair p;
        int n;

        scene_begin(&s, "dps.example", false, false);
        pair_begin(&p, s.context, s.server_ctx);
        for (unsigned i = 0; i < 10; i++)
                pair_step(&p);
        assert_true(p.client_done);
        do { /* some 2 MB at most */
                assert_true(SSL_write(p.server, bytes, sizeof(bytes)) > 0 && ++n_written < 256);
                while ((n = SSL_read(p.client, bytes, sizeof(bytes))) > 0)
                        ;
        } while (SSL_get_error(p.client, n) == SSL_ERROR_WANT_READ);
        tls_connection_error(p.client, &error);
        assert_int_equal(error.id, DPS_ERROR_PROTOCOL);
        pair_end(&p);
        scene_end(&s);
}

static void holds_one_connection_only(void **state) {
        Pair held, other;
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        pair_begin(&held, s.context, s.server_ctx);
        pair_begin(&other, s.context, s.server_ctx);
        tls_context_hold(s.context, TLS_HOLD_READS, 0);
        assert_int_equal(SSL_do_handshake(held.client), -1);
        tls_context_hold(s.context, TLS_HOLD_NOTHING, 0);
        for (unsigned i = 0; i < 10; i++) {
                pair_step(&held);
                pair_step(&other);
        }
        assert_true(other.client_done);
        assert_false(held.client_done);
        assert_int_equal(BIO_number_read(SSL_get_rbio(held.client)), 0);
        assert_true(BIO_number_read(SSL_get_rbio(held.server)) > 0);

        tls_connection_release(held.client);
        for (unsigned i = 0; i < 10; i++)
                pair_step(&held);
        assert_true(held.client_done && held.server_done);
        pair_end(&held);
        pair_end(&other);
        scene_end(&s);
}

/* Whoever is not proven has one budget for both of its handshakes. */
static void an_earlier_handshake_counts(void **state) {
        Pair p;
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        pair_begin(&p, s.context, s.server_ctx);
        tls_context_hold(s.context, TLS_HOLD_NOTHING, 256U * 1024);
        for (unsigned i = 0; i < 10; i++)
                pair_step(&p);
        assert_false(p.client_done);
        assert_true(tls_connection_is_flooded(p.client));
        pair_end(&p);
        scene_end(&s);
}

/* ---- contexts that cannot be made ---- */

static void names_unusable_ca_file(void **state) {
        static const char *const paths[] = { "/nonexistent/ca.pem", "/dev/null" };

        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                TlsContext *context = NULL;
                DpsError error;

                assert_true(tls_context_read("dps.example", (char *[]){ (char *) paths[i], NULL }, NULL, NULL,
                                             &context, &error) < 0);
                assert_null(context);
                assert_int_equal(error.id, DPS_ERROR_CONFIG);
                assert_non_null(strstr(error.message, paths[i]));
        }
}

static void refuses_foreign_key(void **state) {
        CertifiedKey authority = authority_new("Our Root", NULL);
        CertifiedKey a = certified_key_new(&authority, "a", NULL, -DAY, DAY);
        STACK_OF(X509) *chain = sk_X509_new_null();
        _cleanup_(freep) char *ca_file = certificate_file(&authority);
        TlsContext *context = NULL;
        DpsError error;

        assert_int_not_equal(sk_X509_push(chain, a.certificate), 0);
        assert_true(tls_context_read("dps.example", (char *[]){ ca_file, NULL }, chain, authority.key,
                                     &context, &error) < 0);
        assert_int_equal(error.id, DPS_ERROR_CONFIG);
        assert_non_null(strstr(error.message, "mismatch"));
        unlink(ca_file);
        sk_X509_free(chain);
        certified_key_done(&a);
        certified_key_done(&authority);
}

/* ---- the system's store ---- */

/* Where SSL_CERT_DIR and SSL_CERT_FILE find the server's CA, and where they find nothing or another one. */
typedef enum Place {
        NOWHERE,
        RIGHT,
        FOREIGN,
} Place;

static const struct store_case {
        const char *promise;
        Place directory, second_directory, bundle;
        bool is_server_expired;
        DpsErrorId id;
} store_cases[] = {
        { "the system's hashed directory is trusted", RIGHT, NOWHERE, NOWHERE, false, DPS_ERROR_NONE },
        { "without hashes, the system's bundle is trusted", NOWHERE, NOWHERE, RIGHT, false, DPS_ERROR_NONE },
        { "what the directory does not know is looked for in the bundle", FOREIGN, NOWHERE, RIGHT, false,
          DPS_ERROR_NONE },
        { "what the bundle does not know is found in the directory", RIGHT, NOWHERE, FOREIGN, false,
          DPS_ERROR_NONE },
        { "each directory of SSL_CERT_DIR is trusted", NOWHERE, RIGHT, NOWHERE, false, DPS_ERROR_NONE },
        { "what neither knows is not trusted", FOREIGN, NOWHERE, FOREIGN, false, DPS_ERROR_TLS_UNTRUSTED },
        { "without a bundle, what the directory does not know is not trusted", FOREIGN, NOWHERE, NOWHERE,
          false, DPS_ERROR_TLS_UNTRUSTED },
        { "a CA from the bundle excuses no other fault", FOREIGN, NOWHERE, RIGHT, true,
          DPS_ERROR_TLS_EXPIRED },
};

static void fill_directory(char *directory, const CertifiedKey *ca, const char *ca_file) {
        _cleanup_(freep) char *link_name = NULL;

        assert_non_null(mkdtemp(directory));
        if (!ca)
                return;
        assert_true(asprintf(&link_name, "%s/%08lx.0", directory,
                             X509_NAME_hash_ex(X509_get_subject_name(ca->certificate), NULL, NULL, NULL)) >
                    0);
        assert_int_equal(symlink(ca_file, link_name), 0);
}

static void check_system_store(void **state) {
        const struct store_case *c = *state;
        char first[] = "/tmp/store-XXXXXX", second[] = "/tmp/store-XXXXXX", both[64];
        CertifiedKey foreign = authority_new("Foreign Root", NULL), expired;
        _cleanup_(freep) char *foreign_file = certificate_file(&foreign);
        TlsContext *context = NULL;
        SSL_CTX *server_ctx;
        DpsError error;
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        expired = certified_key_new(&s.authority, "server", "DNS:dps.example", -DAY, -60);
        server_ctx = server_context(c->is_server_expired ? &expired : &s.server, NULL);
        fill_directory(first,
                       c->directory == RIGHT     ? &s.authority
                       : c->directory == FOREIGN ? &foreign
                                                 : NULL,
                       c->directory == RIGHT ? s.ca_file : foreign_file);
        fill_directory(second, c->second_directory == RIGHT ? &s.authority : NULL, s.ca_file);
        (void) snprintf(both, sizeof(both), "%s:%s", first, second);
        assert_int_equal(setenv("SSL_CERT_DIR", both, 1), 0);
        assert_int_equal(setenv("SSL_CERT_FILE",
                                c->bundle == RIGHT     ? s.ca_file
                                : c->bundle == FOREIGN ? foreign_file
                                                       : "/nonexistent",
                                1),
                         0);

        assert_int_equal(tls_context_read("dps.example", NULL, NULL, NULL, &context, &error), 0);
        for (unsigned i = 0; i < 2; i++) {
                free(s.outcome.server_name);
                handshake(context, server_ctx, &s.outcome);
                assert_int_equal(s.outcome.error.id, c->id);
                assert_int_equal(s.outcome.client_done, c->id == DPS_ERROR_NONE);
        }

        unsetenv("SSL_CERT_DIR");
        unsetenv("SSL_CERT_FILE");
        remove_tree(first);
        remove_tree(second);
        unlink(foreign_file);
        SSL_CTX_free(server_ctx);
        tls_context_unref(context);
        certified_key_done(&expired);
        certified_key_done(&foreign);
        scene_end(&s);
}

static void a_bundle_that_is_a_fifo_holds_up_nothing(void **state) {
        char directory[] = "/tmp/test-tls-XXXXXX", fifo[64];
        TlsContext *context = NULL;
        DpsError error = { 0 };

        assert_non_null(mkdtemp(directory));
        (void) snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(setenv("SSL_CERT_DIR", directory, 1), 0);
        assert_int_equal(setenv("SSL_CERT_FILE", fifo, 1), 0);
        assert_int_equal(tls_context_read("dps.example", NULL, NULL, NULL, &context, &error), -ENOENT);
        assert_int_equal(error.id, DPS_ERROR_CONFIG);
        unsetenv("SSL_CERT_DIR");
        unsetenv("SSL_CERT_FILE");
        assert_int_equal(unlink(fifo), 0);
        assert_int_equal(rmdir(directory), 0);
}

static void checks_the_name_by_the_bundle(void **state) {
        char directory[] = "/tmp/store-XXXXXX";
        CertifiedKey foreign = authority_new("Foreign Root", NULL);
        _cleanup_(freep) char *foreign_file = certificate_file(&foreign);
        TlsContext *context = NULL;
        DpsError error;
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        fill_directory(directory, &foreign, foreign_file);
        assert_int_equal(setenv("SSL_CERT_DIR", directory, 1), 0);
        assert_int_equal(setenv("SSL_CERT_FILE", s.ca_file, 1), 0);

        assert_int_equal(tls_context_read("other.example", NULL, NULL, NULL, &context, &error), 0);
        handshake(context, s.server_ctx, &s.outcome);
        assert_int_equal(s.outcome.error.id, DPS_ERROR_TLS_NAME);

        unsetenv("SSL_CERT_DIR");
        unsetenv("SSL_CERT_FILE");
        remove_tree(directory);
        unlink(foreign_file);
        tls_context_unref(context);
        certified_key_done(&foreign);
        scene_end(&s);
}

int main(void) {
        static const struct {
                const char *promise;
                CMUnitTestFunction test;
        } others[] = {
                { "the server sees the name, not what was connected to", sends_server_name },
                { "an address is no server name", sends_no_address_as_name },
                { "TLS 1.1 is refused, and the reason told", refuses_old_tls },
                { "TLS 1.2 is enough", takes_tls_1_2 },
                { "the client certificate is shown", shows_client_certificate },
                { "a client certificate that the server refuses is auth", refused_client_is_auth },
                { "a missing client certificate is auth", missing_client_is_auth },
                { "connections of one context have errors of their own", each_connection_has_its_own_error },
                { "an error can be asked for when the context is gone", error_outlives_context },
                { "before the handshake there is no error", no_error_before_the_handshake },
                { "a flood after the handshake is not an error of TLS",
                  a_flood_after_the_handshake_is_not_an_error_of_tls },
                { "a held connection only sends, and others go on", holds_one_connection_only },
                { "what an earlier handshake has received counts", an_earlier_handshake_counts },
                { "a CA file that cannot be used is named", names_unusable_ca_file },
                { "a key of another certificate is refused", refuses_foreign_key },
                { "a name is checked as well when the bundle is needed", checks_the_name_by_the_bundle },
                { "a bundle that is a FIFO holds up nothing", a_bundle_that_is_a_fifo_holds_up_nothing },
        };
        struct CMUnitTest tests[ELEMENTSOF(others) + ELEMENTSOF(trust_cases) + ELEMENTSOF(store_cases)] = {
                0
        };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                tests[i] = (struct CMUnitTest){ .name = others[i].promise, .test_func = others[i].test };
        for (size_t i = 0; i < ELEMENTSOF(trust_cases); i++)
                tests[ELEMENTSOF(others) + i] =
                        (struct CMUnitTest){ .name = trust_cases[i].promise,
                                             .test_func = check_trust,
                                             .initial_state = (void *) &trust_cases[i] };
        for (size_t i = 0; i < ELEMENTSOF(store_cases); i++)
                tests[ELEMENTSOF(others) + ELEMENTSOF(trust_cases) + i] =
                        (struct CMUnitTest){ .name = store_cases[i].promise,
                                             .test_func = check_system_store,
                                             .initial_state = (void *) &store_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
