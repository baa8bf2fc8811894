/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A World for tests of what waits: its clock stands still until the test lets time pass. Timers come exactly when they are
 * set, and work runs at once, or when the test says so. Include it behind cmocka.h.
 */

#include "basic/times.h"
#include "basic/world.h"

typedef struct TimedTimer {
        Timer timer;
        timer_handler_t handler;
        void *userdata;
        uint64_t at_usec;
        struct TimedTimer *next;
} TimedTimer;

typedef struct TimedWork {
        Work work;
        const WorkClass *class;
        void *task;
        bool has_run; /* and done() was not called yet */
        struct TimedWork *next;
} TimedWork;

typedef struct TimedWorld {
        World world;
        uint64_t now_usec;           /* CLOCK_BOOTTIME … */
        uint64_t realtime_usec;      /* … and CLOCK_REALTIME when that was 0 */
        bool is_unsynchronized;      /* nothing synchronises the clock */
        bool holds_work;             /* work does not run … */
        bool holds[_WORK_QUEUE_MAX]; /* … or only work of this queue does not */
        unsigned n_run;              /* works */
        TimedTimer *timers;
        TimedWork *works;
} TimedWorld;

static inline TimedWorld *timed_world_of(const World *w) {
        return (TimedWorld *) w;
}

static inline uint64_t timed_now(const World *w, clockid_t clock) {
        const TimedWorld *t = timed_world_of(w);

        return clock == CLOCK_BOOTTIME ? t->now_usec : t->realtime_usec + t->now_usec;
}

/* The least one: waits are as short as they may be. */
static inline uint64_t timed_random(World *w) {
        return 0;
}

static inline bool timed_is_synchronized(const World *w) {
        return !timed_world_of(w)->is_unsynchronized;
}

static inline int timed_timer_new(World *w, timer_handler_t handler, void *userdata, Timer **ret) {
        TimedTimer *t = calloc(1, sizeof(*t));

        assert_non_null(t);
        *t = (TimedTimer){ .timer.world = w,
                           .handler = handler,
                           .userdata = userdata,
                           .at_usec = USEC_INFINITY,
                           .next = timed_world_of(w)->timers };
        timed_world_of(w)->timers = t;
        *ret = &t->timer;
        return 0;
}

static inline void timed_timer_set(Timer *t, uint64_t at_usec, uint64_t accuracy_usec) {
        ((TimedTimer *) t)->at_usec = at_usec;
}

static inline Timer *timed_timer_free(Timer *timer) {
        TimedTimer *t = (TimedTimer *) timer, **p = &timed_world_of(timer->world)->timers;

        while (*p != t)
                p = &(*p)->next;
        *p = t->next;
        free(t);
        return NULL;
}

static inline int timed_work_begin(World *w, const WorkClass *class, void *task, Work **ret) {
        TimedWork *k = calloc(1, sizeof(*k)), **end = &timed_world_of(w)->works;

        assert_non_null(k);
        *k = (TimedWork){ .work.world = w, .class = class, .task = task };
        while (*end)
                end = &(*end)->next;
        *end = k;
        if (ret)
                *ret = &k->work;
        return 0;
}

static inline Work *timed_work_forget(Work *work) {
        TimedWork *k = (TimedWork *) work, **p = &timed_world_of(work->world)->works;

        while (*p != k)
                p = &(*p)->next;
        *p = k->next;
        k->class->free(k->task);
        free(k);
        return NULL;
}

static inline void timed_work_wait(World *w, WorkQueue queue) {
        for (TimedWork *k = timed_world_of(w)->works; k; k = k->next)
                if (k->class->queue == queue && !k->has_run) {
                        k->class->run(k->task);
                        k->has_run = true;
                }
}

static const WorldOperations timed_world_operations = {
        .now_usec = timed_now,
        .random = timed_random,
        .is_synchronized = timed_is_synchronized,
        .timer_new = timed_timer_new,
        .timer_set = timed_timer_set,
        .timer_free = timed_timer_free,
        .work_begin = timed_work_begin,
        .work_forget = timed_work_forget,
        .work_wait = timed_work_wait,
};

static inline void timed_world_init(TimedWorld *w) {
        *w = (TimedWorld){ .world.operations = &timed_world_operations,
                           .now_usec = USEC_PER_HOUR,
                           .realtime_usec = UINT64_C(1800000000) * USEC_PER_SEC };
}

/* The first that may run, taken out; NULL: there is none. */
static inline TimedWork *timed_world_next_work(TimedWorld *w) {
        for (TimedWork **p = &w->works; *p && !w->holds_work; p = &(*p)->next) {
                TimedWork *k = *p;

                if (w->holds[k->class->queue] && !k->has_run)
                        continue;
                *p = k->next;
                return k;
        }
        return NULL;
}

static inline void timed_world_work(TimedWorld *w) {
        TimedWork *k;

        while ((k = timed_world_next_work(w))) {
                w->n_run++;
                if (!k->has_run)
                        k->class->run(k->task);
                while (k->class->tell && k->class->tell(k->task))
                        ;
                k->class->done(k->task);
                free(k);
        }
}

static inline TimedTimer *timed_world_next(const TimedWorld *w) {
        TimedTimer *first = NULL;

        for (TimedTimer *t = w->timers; t; t = t->next)
                if (t->at_usec != USEC_INFINITY && (!first || t->at_usec < first->at_usec))
                        first = t;
        return first;
}

/* Lets so much time pass, with all that is due meanwhile. */
static inline void timed_world_pass(TimedWorld *w, uint64_t usec) {
        uint64_t end = w->now_usec + usec;
        TimedTimer *t;

        timed_world_work(w);
        while ((t = timed_world_next(w)) && t->at_usec <= end) {
                w->now_usec = MAX(w->now_usec, t->at_usec);
                t->at_usec = USEC_INFINITY;
                t->handler(t->userdata);
                timed_world_work(w);
        }
        w->now_usec = end;
}

/* Nothing is left over. */
static inline void timed_world_done(TimedWorld *w) {
        assert_null(w->timers);
        assert_null(w->works);
}
