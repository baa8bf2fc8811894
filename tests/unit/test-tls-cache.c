/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "basic/text.h"
#include "certificates.h"
#include "timed-world.h"
#include "transport/tls-cache.h"

typedef struct Answer {
        unsigned n;
        TlsContext *context; /* a reference; NULL: `error` */
        DpsError error;
        TlsQuery *query;
} Answer;

typedef struct Scene {
        CertifiedKey authority, client;
        STACK_OF(X509) * chain;
        char *ca_file;
        TimedWorld world;
        TlsCache cache;
} Scene;

static void scene_begin(Scene *s) {
        *s = (Scene){ .authority = authority_new("Our Root", NULL), .chain = sk_X509_new_null() };
        s->client = certified_key_new(&s->authority, "gateway", NULL, -DAY, DAY);
        s->ca_file = certificate_file(&s->authority);
        assert_int_not_equal(sk_X509_push(s->chain, s->client.certificate), 0);
        timed_world_init(&s->world);
        s->cache = (TlsCache){ .world = &s->world.world };
}

static void scene_end(Scene *s) {
        tls_cache_done(&s->cache);
        timed_world_done(&s->world);
        unlink(s->ca_file);
        free(s->ca_file);
        sk_X509_free(s->chain);
        certified_key_done(&s->client);
        certified_key_done(&s->authority);
}

static void on_answer(TlsContext *context, const DpsError *error, void *userdata) {
        Answer *a = userdata;

        a->n++;
        a->context = context ? tls_context_ref(context) : NULL;
        a->error = error ? *error : (DpsError){ 0 };
        a->query = tls_query_free(a->query);
}

static void ask(Scene *s, const char *host, unsigned n_ca_files, bool shows_client, Answer *ret) {
        char *ca_files[] = { s->ca_file, n_ca_files > 1 ? s->ca_file : NULL, NULL };
        const TlsWish wish = { .host = host,
                               .ca_files = ca_files,
                               .chain = shows_client ? s->chain : NULL,
                               .key = shows_client ? s->client.key : NULL };

        *ret = (Answer){ 0 };
        assert_int_equal(tls_cache_ask(&s->cache, &wish, on_answer, ret, &ret->query), 0);
        assert_int_equal(ret->n, 0);
}

/* Returns a reference. */
static TlsContext *get(Scene *s, const char *host, unsigned n_ca_files, bool shows_client) {
        Answer a;

        ask(s, host, n_ca_files, shows_client, &a);
        timed_world_work(&s->world);
        assert_int_equal(a.n, 1);
        assert_non_null(a.context);
        return a.context;
}

static void assert_same(TlsContext *a, TlsContext *b, bool is_same) {
        assert_int_equal(a == b, is_same);
        tls_context_unref(b);
}

static void shares_by_host_and_ca_files(void **state) {
        TlsContext *first;
        Scene s;

        scene_begin(&s);
        first = get(&s, "a.example", 1, false);
        assert_same(first, get(&s, "b.example", 1, false), false);
        assert_same(first, get(&s, "a.example", 2, false), false);
        assert_same(first, get(&s, "a.example", 1, false), true);
        tls_context_unref(first);
        scene_end(&s);
}

static void shares_no_client_certificate(void **state) {
        TlsContext *without, *with;
        Scene s;

        scene_begin(&s);
        without = get(&s, "a.example", 1, false);
        with = get(&s, "a.example", 1, true);
        assert_same(without, with, false);
        with = get(&s, "a.example", 1, true);
        assert_same(with, get(&s, "a.example", 1, true), false);
        tls_context_unref(with);
        assert_same(without, get(&s, "a.example", 1, false), true);
        tls_context_unref(without);
        scene_end(&s);
}

/* Each way in which a file is replaced. */
typedef enum Change { RENAMED_OVER, WRITTEN_OVER, WRITTEN_OVER_AND_BACK_DATED, REMOVED } Change;

static void change(const char *file, Change how) {
        CertifiedKey other = authority_new("New Root", NULL);
        _cleanup_(freep) char *from = certificate_file(&other);
        char copy[128];
        struct stat before;

        assert_int_equal(stat(file, &before), 0);
        if (how == RENAMED_OVER)
                assert_int_equal(rename(from, file), 0);
        else if (how == REMOVED)
                assert_int_equal(unlink(file), 0);
        else {
                (void) snprintf(copy, sizeof(copy), "cat %s >%s", from, file);
                assert_int_equal(system(copy), 0);
        }
        if (how == WRITTEN_OVER_AND_BACK_DATED)
                assert_int_equal(
                        utimensat(AT_FDCWD, file, (struct timespec[]){ before.st_atim, before.st_mtim }, 0),
                        0);
        (void) unlink(from);
        certified_key_done(&other);
}

static void a_file_that_changes_is_read_again_while_others_hold_what_it_was(void **state) {
        for (Change how = RENAMED_OVER; how <= REMOVED; how++) {
                TlsContext *old;
                Answer a;
                Scene s;

                scene_begin(&s);
                old = get(&s, "a.example", 1, false);
                (void) usleep(20000); /* the clock of the file system is coarse */
                change(s.ca_file, how);
                ask(&s, "a.example", 1, false, &a);
                timed_world_work(&s.world);
                assert_int_equal(a.n, 1);
                assert_ptr_not_equal(a.context, old);
                assert_int_equal(a.error.id, how == REMOVED ? DPS_ERROR_CONFIG : DPS_ERROR_NONE);
                assert_int_equal(!a.context, how == REMOVED);
                assert_non_null(tls_context_ssl(old)); /* the holder of a reference may continue to use it */
                tls_context_unref(a.context);
                tls_context_unref(old);
                scene_end(&s);
        }
}

static void who_asks_during_a_look_gets_a_look_of_its_own(void **state) {
        Answer before, after[2];
        Scene s;

        scene_begin(&s);
        s.world.holds[WORK_KEYS] = true;
        ask(&s, "a.example", 1, false, &before);
        timed_work_wait(&s.world.world, WORK_KEYS);
        change(s.ca_file, RENAMED_OVER);
        for (unsigned k = 0; k < 2; k++)
                ask(&s, "a.example", 1, false, &after[k]);
        s.world.holds[WORK_KEYS] = false;
        timed_world_work(&s.world);
        assert_int_equal(before.n + after[0].n + after[1].n, 3);
        assert_int_equal(s.world.n_run, 2);
        assert_ptr_equal(after[0].context, after[1].context);
        assert_ptr_not_equal(after[0].context, before.context);
        tls_context_unref(before.context);
        tls_context_unref(after[0].context);
        tls_context_unref(after[1].context);
        scene_end(&s);
}

static void files_that_hang_take_one_thread(void **state) {
        Answer a[3];
        Scene s;

        scene_begin(&s);
        s.world.holds[WORK_KEYS] = true;
        for (unsigned k = 0; k < 3; k++) {
                ask(&s, "a.example", 1, false, &a[k]);
                tls_query_free(a[k].query);
                tls_cache_clear(&s.cache);
                assert_non_null(s.world.works);
                assert_null(s.world.works->next);
        }
        ask(&s, "a.example", 1, false, &a[0]);
        ask(&s, "a.example", 2, false, &a[1]); /* another list */
        assert_non_null(s.world.works->next);
        s.world.holds[WORK_KEYS] = false;
        timed_world_work(&s.world);
        for (unsigned k = 0; k < 2; k++) {
                assert_non_null(a[k].context);
                tls_context_unref(a[k].context);
        }
        assert_int_equal(a[2].n, 0);
        scene_end(&s);
}

static void reads_files_again_after_clearing(void **state) {
        TlsContext *old;
        Scene s;

        scene_begin(&s);
        old = get(&s, "a.example", 1, false);
        tls_cache_clear(&s.cache);
        assert_null(s.cache.sources);
        assert_same(old, get(&s, "a.example", 1, false), false);
        tls_context_unref(old);
        scene_end(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                { .name = "a context is shared by endpoint and CA files",
                  .test_func = shares_by_host_and_ca_files },
                { .name = "a context with a client certificate is not shared",
                  .test_func = shares_no_client_certificate },
                { .name = "a CA file that changes is read again while others hold what it was",
                  .test_func = a_file_that_changes_is_read_again_while_others_hold_what_it_was },
                { .name = "who asks during a look gets a look of its own",
                  .test_func = who_asks_during_a_look_gets_a_look_of_its_own },
                { .name = "CA files that hang take one thread",
                  .test_func = files_that_hang_take_one_thread },
                { .name = "after clearing, CA files are read again",
                  .test_func = reads_files_again_after_clearing },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
