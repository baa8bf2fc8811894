/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/text.h"
#include "transport/resolver.h"

typedef struct Waiter {
        sd_event *event;
        ResolverQuery *query;
        ResolverQuery **other; /* freed by our handler, if set */
        unsigned n_answers;
        int error;
        char **addresses;
        unsigned *n_waiting; /* the last one ends the loop */
} Waiter;

static void event_unrefp(sd_event **e) {
        sd_event_unref(*e);
}

static void on_answer(const ResolverAnswer *answer, void *userdata) {
        Waiter *w = userdata;

        w->n_answers++;
        w->error = answer->error;
        STRV_FOREACH(a, answer->addresses)
                assert_int_equal(strv_append(&w->addresses, *a), 0);
        w->query = resolver_query_free(w->query);
        if (w->other)
                *w->other = resolver_query_free(*w->other);
        if (--*w->n_waiting == 0)
                sd_event_exit(w->event, 0);
}

static void ask(Resolver *resolver, const char *host, Waiter *w) {
        assert_int_equal(resolver_lookup(resolver, host, on_answer, w, &w->query), 0);
        assert_int_equal(w->n_answers, 0); /* never from within the call */
}

static unsigned threads_of_process(void) {
        _cleanup_(fclosep) FILE *f = fopen("/proc/self/status", "re");
        char line[256];
        unsigned n = 0;

        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                if (sscanf(line, "Threads: %u", &n) == 1)
                        return n;
        fail();
        return 0;
}

static const struct lookup_case {
        const char *promise, *host, *address; /* one of the answer; NULL: it fails */
        bool without_thread;
} lookup_cases[] = {
        { "an IPv4 address is its own answer, without a thread", "192.0.2.7", "192.0.2.7", true },
        { "an IPv6 address is its own answer, without a thread", "2001:db8::1", "2001:db8::1", true },
        { "a name is looked up", "localhost", "127.0.0.1", false },
        { "a name that cannot be is an error", "nonexistent.invalid", NULL, false },
};

static void check_lookup(void **state) {
        const struct lookup_case *c = *state;
        _cleanup_(event_unrefp) sd_event *event = NULL;
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        _cleanup_(strv_freep) char **addresses = NULL;
        unsigned n_waiting = 1, n_threads;
        Waiter w = { .n_waiting = &n_waiting };

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        w.event = event;
        n_threads = threads_of_process();
        ask(resolver, c->host, &w);
        if (c->without_thread)
                assert_true(threads_of_process() <= n_threads); /* one of an earlier test may just end */

        assert_int_equal(sd_event_loop(event), 0);
        addresses = w.addresses;
        assert_int_equal(w.n_answers, 1);
        assert_int_equal(w.error == 0, c->address != NULL);
        if (c->address)
                assert_true(strv_contains(addresses, c->address));
        else
                assert_null(addresses);
}

static void shares_lookups(void **state) {
        _cleanup_(event_unrefp) sd_event *event = NULL;
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        unsigned n_waiting = 20, n_threads;
        Waiter w[20] = { 0 };

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        n_threads = threads_of_process();
        for (size_t i = 0; i < ELEMENTSOF(w); i++) {
                w[i] = (Waiter){ .event = event, .n_waiting = &n_waiting };
                ask(resolver, i % 2 ? "localhost" : "LOCALHOST", &w[i]);
        }
        assert_true(threads_of_process() <= n_threads + 1);

        assert_int_equal(sd_event_loop(event), 0);
        for (size_t i = 0; i < ELEMENTSOF(w); i++) {
                assert_int_equal(w[i].n_answers, 1);
                assert_true(strv_contains(w[i].addresses, "127.0.0.1"));
                strv_free(w[i].addresses);
        }
}

static void handler_may_free_others(void **state) {
        _cleanup_(event_unrefp) sd_event *event = NULL;
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        unsigned n_waiting = 1;
        Waiter a = { .n_waiting = &n_waiting }, b = { .n_waiting = &n_waiting };

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        a.event = b.event = event;
        a.other = &b.query;
        b.other = &a.query;
        ask(resolver, "127.0.0.1", &a);
        ask(resolver, "127.0.0.1", &b);

        assert_int_equal(sd_event_loop(event), 0);
        assert_int_equal(a.n_answers + b.n_answers, 1);
        strv_free(a.addresses);
        strv_free(b.addresses);
}

/* Whoever asks does so when one gets its address, and nobody else does before the answer. */
static int on_asked(sd_event_source *source, void *userdata) {
        const unsigned *n_told = userdata;
        static unsigned n_asked;

        assert_int_equal(*n_told, ++n_asked);
        return 0;
}

typedef struct Caller {
        ResolverQuery *query;
        sd_event_source *question;
        unsigned *n_told;
} Caller;

static void on_address(const ResolverAnswer *answer, void *userdata) {
        Caller *c = userdata;

        assert_int_equal(answer->error, 0);
        assert_string_equal(answer->addresses[0], "192.0.2.7");
        ++*c->n_told;
        assert_true(sd_event_source_set_enabled(c->question, SD_EVENT_ONESHOT) >= 0);
}

static void gives_others_their_turn(void **state) {
        _cleanup_(event_unrefp) sd_event *event = NULL;
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        sd_event_source *question;
        unsigned n_told = 0;
        Caller callers[20];

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        assert_true(sd_event_add_defer(event, &question, on_asked, &n_told) >= 0);
        assert_true(sd_event_source_set_enabled(question, SD_EVENT_OFF) >= 0);
        assert_true(sd_event_source_set_priority(question, SD_EVENT_PRIORITY_IMPORTANT) >= 0);
        for (size_t k = 0; k < ELEMENTSOF(callers); k++) {
                callers[k] = (Caller){ .question = question, .n_told = &n_told };
                assert_int_equal(
                        resolver_lookup(resolver, "192.0.2.7", on_address, &callers[k], &callers[k].query),
                        0);
        }

        while (sd_event_run(event, 0) > 0)
                ;
        assert_int_equal(n_told, ELEMENTSOF(callers));
        for (size_t k = 0; k < ELEMENTSOF(callers); k++)
                resolver_query_free(callers[k].query);
        sd_event_source_unref(question);
}

static void may_go_while_it_answers(void **state) {
        _cleanup_(event_unrefp) sd_event *event = NULL;
        Resolver *resolver = NULL;
        unsigned n_waiting = 2;
        Waiter w[2] = { 0 };

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        for (size_t k = 0; k < ELEMENTSOF(w); k++) {
                w[k] = (Waiter){ .event = event, .n_waiting = &n_waiting };
                ask(resolver, "127.0.0.1", &w[k]);
        }
        assert_int_equal(sd_event_run(event, 0), 1);
        resolver_free(resolver);

        while (sd_event_run(event, 0) > 0)
                ;
        assert_int_equal(w[0].n_answers + w[1].n_answers, 1);
        for (size_t k = 0; k < ELEMENTSOF(w); k++) {
                resolver_query_free(w[k].query);
                strv_free(w[k].addresses);
        }
}

static void forgets_freed_queries(void **state) {
        _cleanup_(event_unrefp) sd_event *event = NULL;
        _cleanup_(resolver_freep) Resolver *resolver = NULL;
        unsigned n_waiting = 1;
        Waiter gone = { .n_waiting = &n_waiting }, stays = { .n_waiting = &n_waiting };

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        gone.event = stays.event = event;
        ask(resolver, "localhost", &gone);
        ask(resolver, "localhost", &stays);
        gone.query = resolver_query_free(gone.query);

        assert_int_equal(sd_event_loop(event), 0);
        assert_int_equal(gone.n_answers, 0);
        assert_int_equal(stays.n_answers, 1);
        strv_free(stays.addresses);
}

static void may_go_with_lookups_in_flight(void **state) {
        _cleanup_(event_unrefp) sd_event *event = NULL;
        Resolver *resolver = NULL;
        unsigned n_waiting = 2;
        Waiter a = { .n_waiting = &n_waiting }, b = { .n_waiting = &n_waiting };

        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(resolver_new(event, &resolver), 0);
        ask(resolver, "localhost", &a);
        ask(resolver, "127.0.0.1", &b);
        resolver_free(resolver);

        while (sd_event_run(event, 0) > 0)
                ;
        assert_int_equal(a.n_answers + b.n_answers, 0);
        resolver_query_free(a.query);
        resolver_query_free(b.query);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(lookup_cases) + 6] = {
                { .name = "who waits for the same name shares one thread", .test_func = shares_lookups },
                { .name = "a handler may free its query and others", .test_func = handler_may_free_others },
                { .name = "who asks is answered before the next gets its address",
                  .test_func = gives_others_their_turn },
                { .name = "a resolver may go while it answers", .test_func = may_go_while_it_answers },
                { .name = "a freed query gets no answer", .test_func = forgets_freed_queries },
                { .name = "a resolver may go before its threads do",
                  .test_func = may_go_with_lookups_in_flight },
        };

        for (size_t i = 0; i < ELEMENTSOF(lookup_cases); i++)
                tests[6 + i] = (struct CMUnitTest){ .name = lookup_cases[i].promise,
                                                    .test_func = check_lookup,
                                                    .initial_state = (void *) &lookup_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
