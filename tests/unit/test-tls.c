/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "basic/text.h"
#include "certificates.h"
#include "transport/tls.h"

/* Handshakes between a context of ours and a server of OpenSSL's, in memory. */

#define DPS "global.azure-devices-provisioning.net"

typedef struct Outcome {
        bool client_done, server_done;
        char *server_name;     /* what the server saw as SNI; NULL: none */
        bool client_was_shown; /* a certificate of the client */
        DpsError error;
} Outcome;

static void handshake(TlsContext *c, SSL_CTX *server_ctx, Outcome *ret) {
        SSL *client = SSL_new(tls_context_ssl(c)), *server = SSL_new(server_ctx);
        BIO *client_bio, *server_bio;
        const char *name;

        assert_int_equal(BIO_new_bio_pair(&client_bio, 0, &server_bio, 0), 1);
        SSL_set_bio(client, client_bio, client_bio);
        SSL_set_bio(server, server_bio, server_bio);
        SSL_set_connect_state(client);
        SSL_set_accept_state(server);
        /* As libmosquitto does with what it connects to. */
        assert_int_equal(SSL_set_tlsext_host_name(client, "127.0.0.1"), 1);

        *ret = (Outcome){ 0 };
        tls_context_watch(c);
        for (unsigned i = 0; i < 10; i++) {
                char byte;

                ret->client_done = SSL_do_handshake(client) == 1;
                ret->server_done = SSL_do_handshake(server) == 1;
                /* With TLS 1.3, what the server thinks of our certificate comes afterwards. */
                if (ret->client_done)
                        (void) !SSL_read(client, &byte, 1);
        }
        tls_context_blame(c, &ret->error);

        name = SSL_get_servername(server, TLSEXT_NAMETYPE_host_name);
        ret->server_name = name ? strdup(name) : NULL;
        ret->client_was_shown = SSL_get0_peer_certificate(server);
        SSL_free(client);
        SSL_free(server);
        ERR_clear_error();
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
        { "case counts not in a name", "DPS.Example", "DNS:dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "a dot at the end is not part of the name", "dps.example.", "DNS:dps.example", -DAY, DAY, TRUSTED,
          false, DPS_ERROR_NONE, "" },
        { "a wildcard is accepted", "a.dps.example", "DNS:*.dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "the right IPv4 address is accepted", "192.0.2.7", "IP:192.0.2.7", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "the right IPv6 address is accepted", "2001:db8::1", "IP:2001:db8::1", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_NONE, "" },
        { "a wrong name is refused, and both are told", "dps.example",
          "DNS:evil.example,email:x@y.example,DNS:b.example", -DAY, DAY, TRUSTED, false, DPS_ERROR_TLS_NAME,
          "for evil.example, b.example, not for dps.example" },
        { "a wrong address is refused", "192.0.2.7", "IP:192.0.2.8,DNS:192.0.2.7", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_TLS_NAME, "192.0.2.8" },
        { "a wildcard is for one label", "a.b.dps.example", "DNS:*.dps.example", -DAY, DAY, TRUSTED, false,
          DPS_ERROR_TLS_NAME, "*.dps.example" },
        { "an expired certificate is told with its date and ours", "dps.example", "DNS:dps.example", -DAY,
          -60, TRUSTED, false, DPS_ERROR_TLS_EXPIRED, "is valid only until 20" },
        { "one not yet valid is told so", "dps.example", "DNS:dps.example", 3600, DAY, TRUSTED, false,
          DPS_ERROR_TLS_EXPIRED, "is valid not before 20" },
        { "an unknown CA is told by name", "dps.example", "DNS:dps.example", -DAY, DAY, UNKNOWN, false,
          DPS_ERROR_TLS_UNTRUSTED, "Other Root" },
        { "an unknown CA that speaks for Azure looks into the connection", DPS,
          "DNS:*.azure-devices-provisioning.net", -DAY, DAY, UNKNOWN, false, DPS_ERROR_TLS_INTERCEPTED,
          "Other Root" },
        { "where Azure's own CA is unknown, the store is old", DPS, "DNS:*.azure-devices-provisioning.net",
          -DAY, DAY, UNKNOWN_AZURE, false, DPS_ERROR_TLS_UNTRUSTED, "Azure-like Root" },
        { "a stranger under Azure's name is a stranger", DPS, "DNS:router.local", -DAY, DAY, UNKNOWN, false,
          DPS_ERROR_TLS_UNTRUSTED, "Other Root" },
        { "a client's certificate makes no server", "dps.example", NULL, -DAY, DAY, TRUSTED, true,
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

        assert_int_equal(tls_context_new(c->host, (char *[]){ ca_file, NULL }, NULL, NULL, &context, &error),
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
        assert_int_equal(tls_context_new(host, (char *[]){ s->ca_file, NULL }, shows_client ? chain : NULL,
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

static void watching_forgets(void **state) {
        Scene s;
        CertifiedKey other = authority_new("Other", NULL);
        CertifiedKey stranger = certified_key_new(&other, "x", "DNS:dps.example", -DAY, DAY);
        SSL_CTX *strange_ctx = server_context(&stranger, NULL);
        DpsError error;

        scene_begin(&s, "dps.example", false, false);
        handshake(s.context, strange_ctx, &s.outcome);
        assert_int_equal(s.outcome.error.id, DPS_ERROR_TLS_UNTRUSTED);
        tls_context_watch(s.context);
        tls_context_blame(s.context, &error);
        assert_int_equal(error.id, DPS_ERROR_NONE);
        SSL_CTX_free(strange_ctx);
        certified_key_done(&stranger);
        certified_key_done(&other);
        scene_end(&s);
}

/* ---- contexts that cannot be made ---- */

static void names_unusable_ca_file(void **state) {
        static const char *const paths[] = { "/nonexistent/ca.pem", "/dev/null" };

        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                TlsContext *context = NULL;
                DpsError error;

                assert_true(tls_context_new("dps.example", (char *[]){ (char *) paths[i], NULL }, NULL, NULL,
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
        assert_true(tls_context_new("dps.example", (char *[]){ ca_file, NULL }, chain, authority.key,
                                    &context, &error) < 0);
        assert_int_equal(error.id, DPS_ERROR_CONFIG);
        assert_non_null(strstr(error.message, "mismatch"));
        unlink(ca_file);
        sk_X509_free(chain);
        certified_key_done(&a);
        certified_key_done(&authority);
}

/* ---- the system's store ---- */

/* A directory with the CA under its hash, or as a bundle only, is the system's. */
static void check_system_store(bool is_hashed) {
        char directory[] = "/tmp/store-XXXXXX";
        _cleanup_(freep) char *link_name = NULL;
        TlsContext *context = NULL;
        DpsError error;
        Scene s;

        scene_begin(&s, "dps.example", false, false);
        assert_non_null(mkdtemp(directory));
        assert_true(asprintf(&link_name, "%s/%08lx.0", directory,
                             X509_NAME_hash_ex(X509_get_subject_name(s.authority.certificate), NULL, NULL,
                                               NULL)) > 0);
        if (is_hashed)
                assert_int_equal(symlink(s.ca_file, link_name), 0);
        assert_int_equal(setenv("SSL_CERT_DIR", directory, 1), 0);
        assert_int_equal(setenv("SSL_CERT_FILE", is_hashed ? "/nonexistent" : s.ca_file, 1), 0);

        assert_int_equal(tls_context_new("dps.example", NULL, NULL, NULL, &context, &error), 0);
        handshake(context, s.server_ctx, &s.outcome);
        assert_true(s.outcome.client_done);

        unsetenv("SSL_CERT_DIR");
        unsetenv("SSL_CERT_FILE");
        (void) unlink(link_name);
        rmdir(directory);
        tls_context_unref(context);
        scene_end(&s);
}

static void trusts_hashed_directory(void **state) {
        check_system_store(true);
}

static void falls_back_to_bundle(void **state) {
        check_system_store(false);
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
                { "a refused client certificate is a matter of ours", refused_client_is_auth },
                { "so is a missing one", missing_client_is_auth },
                { "watching forgets earlier trouble", watching_forgets },
                { "a CA file that cannot be used is named", names_unusable_ca_file },
                { "a key of another certificate is refused", refuses_foreign_key },
                { "the system's hashed directory is trusted", trusts_hashed_directory },
                { "without hashes, the system's bundle is", falls_back_to_bundle },
        };
        struct CMUnitTest tests[ELEMENTSOF(trust_cases) + ELEMENTSOF(others)] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                tests[i] = (struct CMUnitTest){ .name = others[i].promise, .test_func = others[i].test };
        for (size_t i = 0; i < ELEMENTSOF(trust_cases); i++)
                tests[ELEMENTSOF(others) + i] =
                        (struct CMUnitTest){ .name = trust_cases[i].promise,
                                             .test_func = check_trust,
                                             .initial_state = (void *) &trust_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
