/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A World for tests of what asks for work: no clock, and timers that come when the test says so. Work runs when the test says so: in the test's own thread, or
 * in a thread for each. Include it behind cmocka.h.
 */

#include <errno.h>
#include <pthread.h>

#include "basic/world.h"

typedef struct SmallWork {
        Work work;
        const WorkClass *class;
        void *task;
        struct SmallWork *next;
        pthread_t thread;
        bool has_run, is_forgotten; /* under the world's lock */
} SmallWork;

typedef struct SmallWorld {
        World world;
        bool has_threads, refuses_work;
        pthread_mutex_t lock;
        SmallWork *first;
        struct SmallTimer *timer; /* that was set last; NULL: it is gone */
        unsigned n_run;           /* without threads */
} SmallWorld;

static inline SmallWorld *small_world_of(World *w) {
        return (SmallWorld *) w;
}

static inline void *small_work_thread(void *userdata) {
        SmallWork *k = userdata;
        SmallWorld *w = small_world_of(k->work.world);
        bool is_forgotten;

        k->class->run(k->task);
        pthread_mutex_lock(&w->lock);
        k->has_run = true;
        is_forgotten = k->is_forgotten;
        pthread_mutex_unlock(&w->lock);
        if (is_forgotten)
                k->class->free(k->task);
        return NULL;
}

static inline int small_work_begin(World *world, const WorkClass *class, void *task, Work **ret) {
        SmallWorld *w = small_world_of(world);
        SmallWork *k, **end = &w->first;

        if (w->refuses_work)
                return -ENOMEM;
        k = calloc(1, sizeof(*k));
        assert_non_null(k);
        *k = (SmallWork){ .work.world = world, .class = class, .task = task };
        while (*end)
                end = &(*end)->next;
        *end = k;
        if (ret)
                *ret = &k->work;
        if (w->has_threads)
                assert_int_equal(pthread_create(&k->thread, NULL, small_work_thread, k), 0);
        return 0;
}

static inline Work *small_work_forget(Work *work) {
        SmallWork *k = (SmallWork *) work;
        SmallWorld *w = small_world_of(work->world);
        bool is_ours;

        pthread_mutex_lock(&w->lock);
        assert_false(k->is_forgotten);
        k->is_forgotten = true;
        is_ours = !w->has_threads || k->has_run;
        pthread_mutex_unlock(&w->lock);
        if (is_ours)
                k->class->free(k->task);
        return NULL;
}

typedef struct SmallTimer {
        Timer timer;
        timer_handler_t handler;
        void *userdata;
} SmallTimer;

static inline uint64_t small_now_usec(const World *w, clockid_t clock) {
        return 0;
}

static inline int small_timer_new(World *world, timer_handler_t handler, void *userdata, Timer **ret) {
        SmallTimer *t = calloc(1, sizeof(*t));

        assert_non_null(t);
        *t = (SmallTimer){ .timer.world = world, .handler = handler, .userdata = userdata };
        *ret = &t->timer;
        return 0;
}

static inline void small_timer_set(Timer *t, uint64_t at_usec, uint64_t accuracy_usec) {
        small_world_of(t->world)->timer = (SmallTimer *) t;
}

static inline Timer *small_timer_free(Timer *t) {
        SmallWorld *w = small_world_of(t->world);

        if (w->timer == (SmallTimer *) t)
                w->timer = NULL;
        free(t);
        return NULL;
}

/* Now is the time for which the last timer was set. */
static inline void small_world_expire(SmallWorld *w) {
        assert_non_null(w->timer);
        w->timer->handler(w->timer->userdata);
}

static const WorldOperations small_world_operations = { .now_usec = small_now_usec,
                                                        .timer_new = small_timer_new,
                                                        .timer_set = small_timer_set,
                                                        .timer_free = small_timer_free,
                                                        .work_begin = small_work_begin,
                                                        .work_forget = small_work_forget };

static inline void small_world_init(SmallWorld *w, bool has_threads) {
        *w = (SmallWorld){ .world.operations = &small_world_operations, .has_threads = has_threads };
        assert_int_equal(pthread_mutex_init(&w->lock, NULL), 0);
}

/* Runs all work, and calls what waits for it. */
static inline void small_world_pump(SmallWorld *w) {
        while (w->first) {
                SmallWork *k = w->first;

                if (w->has_threads)
                        assert_int_equal(pthread_join(k->thread, NULL), 0);
                else if (!k->is_forgotten) {
                        k->class->run(k->task);
                        w->n_run++;
                }
                w->first = k->next;
                if (!k->is_forgotten)
                        k->class->done(k->task);
                free(k);
        }
}

static inline void small_world_done(SmallWorld *w) {
        small_world_pump(w);
        pthread_mutex_destroy(&w->lock);
}
