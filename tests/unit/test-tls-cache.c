/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "certificates.h"
#include "transport/tls-cache.h"

typedef struct Scene {
        CertifiedKey authority, client;
        STACK_OF(X509) * chain;
        char *ca_file;
        TlsCache cache;
} Scene;

static void scene_begin(Scene *s) {
        *s = (Scene){ .authority = authority_new("Our Root", NULL), .chain = sk_X509_new_null() };
        s->client = certified_key_new(&s->authority, "gateway", NULL, -DAY, DAY);
        s->ca_file = certificate_file(&s->authority);
        assert_int_not_equal(sk_X509_push(s->chain, s->client.certificate), 0);
}

static void scene_end(Scene *s) {
        tls_cache_clear(&s->cache);
        unlink(s->ca_file);
        free(s->ca_file);
        sk_X509_free(s->chain);
        certified_key_done(&s->client);
        certified_key_done(&s->authority);
}

/* Returns a reference. */
static TlsContext *get(Scene *s, const char *host, unsigned n_ca_files, bool shows_client) {
        char *ca_files[] = { s->ca_file, n_ca_files > 1 ? s->ca_file : NULL, NULL };
        TlsContext *context;
        DpsError error;

        assert_int_equal(tls_cache_get(&s->cache, host, ca_files, shows_client ? s->chain : NULL,
                                       shows_client ? s->client.key : NULL, &context, &error),
                         0);
        return context;
}

static void shares_by_host_and_ca_files(void **state) {
        TlsContext *first, *same, *other_host, *other_files;
        Scene s;

        scene_begin(&s);
        first = get(&s, "a.example", 1, false);
        other_host = get(&s, "b.example", 1, false);
        other_files = get(&s, "a.example", 2, false);
        same = get(&s, "a.example", 1, false);
        assert_ptr_equal(same, first);
        assert_ptr_not_equal(other_host, first);
        assert_ptr_not_equal(other_files, first);
        tls_context_unref(first);
        tls_context_unref(same);
        tls_context_unref(other_host);
        tls_context_unref(other_files);
        scene_end(&s);
}

static void shares_no_client_certificate(void **state) {
        TlsContext *without, *with, *again, *without_again;
        Scene s;

        scene_begin(&s);
        without = get(&s, "a.example", 1, false);
        with = get(&s, "a.example", 1, true);
        again = get(&s, "a.example", 1, true);
        without_again = get(&s, "a.example", 1, false);
        assert_ptr_not_equal(with, without);
        assert_ptr_not_equal(again, with);
        assert_ptr_equal(without_again, without);
        tls_context_unref(without);
        tls_context_unref(with);
        tls_context_unref(again);
        tls_context_unref(without_again);
        scene_end(&s);
}

static void reads_files_again_after_clearing(void **state) {
        TlsContext *old, *none = NULL;
        DpsError error;
        Scene s;

        scene_begin(&s);
        old = get(&s, "a.example", 1, false);
        assert_int_equal(unlink(s.ca_file), 0);
        tls_context_unref(get(&s, "a.example", 1, false));
        tls_cache_clear(&s.cache);
        assert_true(tls_cache_get(&s.cache, "a.example", (char *[]){ s.ca_file, NULL }, NULL, NULL, &none,
                                  &error) < 0);
        assert_null(none);
        assert_int_equal(error.id, DPS_ERROR_CONFIG);
        assert_non_null(tls_context_ssl(old)); /* the holder of a reference may continue to use it */
        tls_context_unref(old);
        scene_end(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                { .name = "a context is shared by endpoint and CA files",
                  .test_func = shares_by_host_and_ca_files },
                { .name = "a context with a client certificate is not shared",
                  .test_func = shares_no_client_certificate },
                { .name = "after clearing, CA files are read again",
                  .test_func = reads_files_again_after_clearing },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
