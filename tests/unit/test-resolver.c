/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "transport/resolver.h"

/* ---- a world whose worker and loop do what the test says, when it says so ---- */

typedef struct TestTimer {
        Timer timer; /* must be first */
        timer_handler_t handler;
        void *userdata;
        bool is_set;
} TestTimer;

typedef struct TestWork {
        Work work; /* must be first */
        const WorkClass *class;
        void *task;
        bool is_forgotten;
} TestWork;

typedef struct TestWorld {
        World world; /* must be first */
        TestTimer *timer;
        TestWork *works[8]; /* begun, but not run yet */
        unsigned n_works;
        unsigned n_begun;
        bool has_no_memory;
} TestWorld;

static int test_timer_new(World *world, timer_handler_t handler, void *userdata, Timer **ret) {
        TestWorld *w = (TestWorld *) world;

        assert_null(w->timer);
        w->timer = calloc(1, sizeof(*w->timer));
        assert_non_null(w->timer);
        *w->timer = (TestTimer){ .timer = { world }, .handler = handler, .userdata = userdata };
        *ret = &w->timer->timer;
        return 0;
}

static void test_timer_set(Timer *timer, uint64_t at_usec, uint64_t accuracy_usec) {
        assert_int_equal(at_usec, 0);
        ((TestTimer *) timer)->is_set = true;
}

static Timer *test_timer_free(Timer *timer) {
        ((TestWorld *) timer->world)->timer = NULL;
        free(timer);
        return NULL;
}

static int test_work_begin(World *world, const WorkClass *class, void *task, Work **ret) {
        TestWorld *w = (TestWorld *) world;
        TestWork *work;

        if (w->has_no_memory)
                return -ENOMEM;

        assert_int_equal(class->queue, WORK_NAMES);
        assert_true(w->n_works < ELEMENTSOF(w->works));
        work = calloc(1, sizeof(*work));
        assert_non_null(work);
        *work = (TestWork){ .work = { world }, .class = class, .task = task };
        w->works[w->n_works++] = work;
        w->n_begun++;
        *ret = &work->work;
        return 0;
}

static Work *test_work_forget(Work *work) {
        ((TestWork *) work)->is_forgotten = true;
        return NULL;
}

static const WorldOperations operations = {
        .timer_new = test_timer_new,
        .timer_set = test_timer_set,
        .timer_free = test_timer_free,
        .work_begin = test_work_begin,
        .work_forget = test_work_forget,
};

/* Runs the work that was requested, and delivers its result to the loop. */
static void run_works(TestWorld *w) {
        for (unsigned i = 0; i < w->n_works; i++) {
                TestWork *work = w->works[i];

                work->class->run(work->task);
                if (work->is_forgotten)
                        work->class->free(work->task);
                else
                        work->class->done(work->task);
                free(work);
        }
        w->n_works = 0;
}

/* One turn of the loop; false: there was nothing to do. */
static bool turn(TestWorld *w) {
        if (!w->timer || !w->timer->is_set)
                return false;

        w->timer->is_set = false;
        w->timer->handler(w->timer->userdata);
        return true;
}

static void play(TestWorld *w) {
        run_works(w);
        while (turn(w))
                ;
}

/* ---- those who ask ---- */

typedef struct Scene {
        TestWorld world;
        Resolver *resolver;
} Scene;

typedef struct Waiter {
        ResolverQuery *query;
        ResolverQuery **other; /* freed by our handler, if set */
        Resolver **resolver;   /* freed by our handler, if set */
        unsigned n_answers;
        int error;
        char **addresses;
} Waiter;

static void scene_begin(Scene *s) {
        *s = (Scene){ .world = { .world = { &operations } } };
        assert_int_equal(resolver_new(&s->world.world, &s->resolver), 0);
}

static void scene_end(Scene *s) {
        s->resolver = resolver_free(s->resolver);
        run_works(&s->world);
        assert_null(s->world.timer);
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
        if (w->resolver)
                *w->resolver = resolver_free(*w->resolver);
}

static void ask(Scene *s, const char *host, Waiter *w) {
        assert_int_equal(resolver_lookup(s->resolver, host, on_answer, w, &w->query), 0);
        assert_int_equal(w->n_answers, 0); /* the handler is never called before the function returns */
}

static void waiter_done(Waiter *w) {
        resolver_query_free(w->query);
        strv_free(w->addresses);
}

/* ---- answers ---- */

static const struct lookup_case {
        const char *promise, *host, *address; /* of the answer; NULL: the lookup fails */
        unsigned n_works;
} lookup_cases[] = {
        { "an IPv4 address is its own answer, without the worker", "192.0.2.7", "192.0.2.7", 0 },
        { "an IPv6 address is its own answer, without the worker", "2001:db8::1", "2001:db8::1", 0 },
        { "a name is looked up by the worker", "localhost", "127.0.0.1", 1 },
        { "a name that cannot exist is an error", "nonexistent.invalid", NULL, 1 },
};

static void check_lookup(void **state) {
        const struct lookup_case *c = *state;
        Waiter w = { 0 };
        Scene s;

        scene_begin(&s);
        ask(&s, c->host, &w);
        assert_int_equal(s.world.n_begun, c->n_works);
        play(&s.world);
        assert_int_equal(w.n_answers, 1);
        assert_int_equal(w.error == 0, c->address != NULL);
        if (c->address)
                assert_true(strv_contains(w.addresses, c->address));
        else
                assert_null(w.addresses);
        waiter_done(&w);
        scene_end(&s);
}

static void shares_lookups(void **state) {
        Waiter w[20] = { 0 };
        Scene s;

        scene_begin(&s);
        for (size_t i = 0; i < ELEMENTSOF(w); i++)
                ask(&s, i % 2 ? "localhost" : "LOCALHOST", &w[i]);
        assert_int_equal(s.world.n_begun, 1);
        play(&s.world);
        for (size_t i = 0; i < ELEMENTSOF(w); i++) {
                assert_int_equal(w[i].n_answers, 1);
                assert_true(strv_contains(w[i].addresses, "127.0.0.1"));
                waiter_done(&w[i]);
        }
        scene_end(&s);
}

static void looks_different_names_up_apart(void **state) {
        Waiter w[2] = { 0 };
        Scene s;

        scene_begin(&s);
        ask(&s, "localhost", &w[0]);
        ask(&s, "nonexistent.invalid", &w[1]);
        assert_int_equal(s.world.n_begun, 2);
        play(&s.world);
        assert_int_equal(w[0].error, 0);
        assert_int_not_equal(w[1].error, 0);
        waiter_done(&w[0]);
        waiter_done(&w[1]);
        scene_end(&s);
}

static void answers_one_in_each_turn(void **state) {
        Waiter w[20] = { 0 };
        Scene s;

        scene_begin(&s);
        for (size_t i = 0; i < ELEMENTSOF(w); i++)
                ask(&s, "localhost", &w[i]);
        run_works(&s.world);
        for (size_t i = 0; i < ELEMENTSOF(w); i++) {
                assert_int_equal(w[i].n_answers, 0);
                assert_true(turn(&s.world));
                assert_int_equal(w[i].n_answers, 1);
                waiter_done(&w[i]);
        }
        assert_false(turn(&s.world));
        scene_end(&s);
}

static void asks_again_for_those_who_come_later(void **state) {
        Waiter first = { 0 }, later = { 0 };
        Scene s;

        scene_begin(&s);
        ask(&s, "localhost", &first);
        run_works(&s.world);
        ask(&s, "localhost", &later);
        assert_int_equal(s.world.n_begun, 2);
        play(&s.world);
        assert_int_equal(first.n_answers + later.n_answers, 2);
        waiter_done(&first);
        waiter_done(&later);
        scene_end(&s);
}

/* ---- ends ---- */

static void handler_may_free_others(void **state) {
        Waiter a = { 0 }, b = { 0 };
        Scene s;

        scene_begin(&s);
        a.other = &b.query;
        b.other = &a.query;
        ask(&s, "localhost", &a);
        ask(&s, "localhost", &b);
        play(&s.world);
        assert_int_equal(a.n_answers, 1);
        assert_int_equal(b.n_answers, 0);
        waiter_done(&a);
        waiter_done(&b);
        scene_end(&s);
}

static void handler_may_free_resolver(void **state) {
        Waiter a = { 0 }, b = { 0 };
        Scene s;

        scene_begin(&s);
        a.resolver = &s.resolver;
        ask(&s, "localhost", &a);
        ask(&s, "localhost", &b);
        play(&s.world);
        assert_null(s.resolver);
        assert_int_equal(a.n_answers, 1);
        assert_int_equal(b.n_answers, 0);
        waiter_done(&a);
        waiter_done(&b);
        scene_end(&s);
}

static void forgets_freed_queries(void **state) {
        Waiter gone = { 0 }, stays = { 0 };
        Scene s;

        scene_begin(&s);
        ask(&s, "localhost", &gone);
        ask(&s, "localhost", &stays);
        gone.query = resolver_query_free(gone.query);
        play(&s.world);
        assert_int_equal(gone.n_answers, 0);
        assert_int_equal(stays.n_answers, 1);
        waiter_done(&stays);
        scene_end(&s);
}

static void never_looks_a_name_up_twice_at_a_time(void **state) {
        Waiter gone = { 0 }, later = { 0 };
        Scene s;

        scene_begin(&s);
        ask(&s, "localhost", &gone);
        gone.query = resolver_query_free(gone.query);
        ask(&s, "localhost", &later);
        assert_int_equal(s.world.n_begun, 1);
        play(&s.world);
        assert_int_equal(later.n_answers, 1);
        waiter_done(&later);
        scene_end(&s);
}

static void may_be_freed_with_lookups_in_flight(void **state) {
        Waiter a = { 0 }, b = { 0 };
        Scene s;

        scene_begin(&s);
        ask(&s, "localhost", &a);
        ask(&s, "127.0.0.1", &b);
        s.resolver = resolver_free(s.resolver);
        play(&s.world);
        assert_int_equal(a.n_answers + b.n_answers, 0);
        waiter_done(&a);
        waiter_done(&b);
        scene_end(&s);
}

static void says_when_the_worker_has_no_memory(void **state) {
        ResolverQuery *query = NULL;
        Waiter w = { 0 };
        Scene s;

        scene_begin(&s);
        s.world.has_no_memory = true;
        assert_int_equal(resolver_lookup(s.resolver, "localhost", on_answer, &w, &query), -ENOMEM);
        assert_null(query);
        s.world.has_no_memory = false;
        ask(&s, "localhost", &w);
        play(&s.world);
        assert_int_equal(w.n_answers, 1);
        waiter_done(&w);
        scene_end(&s);
}

int main(void) {
        static const struct {
                const char *promise;
                CMUnitTestFunction test;
        } others[] = {
                { "all who wait for a name share one lookup", shares_lookups },
                { "different names are looked up independently", looks_different_names_up_apart },
                { "each turn of the loop answers one query, in order", answers_one_in_each_turn },
                { "a query after the answer is a new lookup", asks_again_for_those_who_come_later },
                { "a handler may free its query and others", handler_may_free_others },
                { "a handler may free the resolver", handler_may_free_resolver },
                { "a freed query gets no answer", forgets_freed_queries },
                { "a lookup that nobody waits for is joined, not repeated",
                  never_looks_a_name_up_twice_at_a_time },
                { "a resolver may be freed before its lookups end", may_be_freed_with_lookups_in_flight },
                { "a lookup that cannot begin is an error", says_when_the_worker_has_no_memory },
        };
        struct CMUnitTest tests[ELEMENTSOF(lookup_cases) + ELEMENTSOF(others)] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                tests[i] = (struct CMUnitTest){ .name = others[i].promise, .test_func = others[i].test };
        for (size_t i = 0; i < ELEMENTSOF(lookup_cases); i++)
                tests[ELEMENTSOF(others) + i] =
                        (struct CMUnitTest){ .name = lookup_cases[i].promise,
                                             .test_func = check_lookup,
                                             .initial_state = (void *) &lookup_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
