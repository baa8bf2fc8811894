/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The outside world as the core of the daemon sees it: time, randomness, timers, and work that may block.
 * dpsd passes the real world (world-event.h). The simulation passes one in which time runs as fast as it can
 * be computed. Code that gets a World never reads a clock or a random source directly.
 */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "basic/cleanup.h"

typedef struct World World;
typedef struct Timer Timer;
typedef struct Work Work;

typedef void (*timer_handler_t)(void *userdata);

/* Work of one queue begins in the order in which it was requested. The queues are independent, so that a name
 * server that does not answer does not delay the disk. */
typedef enum WorkQueue {
        WORK_DISK,   /* one at a time, so that a later write ends later; always completed, also at exit */
        WORK_NAMES,  /* resolves names to addresses; several at a time */
        WORK_KEYS,   /* keys, certificates, records, files of a configuration; several at a time */
        WORK_FILES,  /* looks whether such a file has changed */
        WORK_CHIPS,  /* keys in tokens and TPMs, which may take long, or hang; several at a time */
        WORK_GROUPS, /* the system's group database; several at a time, since a group may be on a server */
        WORK_CHECKS, /* what `dpsctl check` looks at: all of the above; several at a time; never in the loop */
        _WORK_QUEUE_MAX,
} WorkQueue;

/* One kind of work. `task` holds all its input and all its results.
 *
 *      run    called in another thread: uses nothing but the task
 *      tell   may be NULL. Called in the loop before done(), once in each turn until it returns false. For a
 *             result that many wait for: the loop can serve others in between
 *      done   called in the loop: owns the task from here on
 *      free   called instead of done() if the work was forgotten, perhaps in the other thread
 *      whose  may be NULL. Names what the work may hang on, such as an identity or a file. Of one class, only one work
 *             with the same name runs at a time, so a file that hangs keeps one thread, however often it is asked for
 *
 * Neither tell() nor done() is called before work_begin() returns. Both may begin and forget work; tell() may
 * even forget its own. */
typedef struct WorkClass {
        WorkQueue queue;
        void (*run)(void *task);
        bool (*tell)(void *task);
        void (*done)(void *task);
        void (*free)(void *task);
        const char *(*whose)(const void *task);
} WorkClass;

typedef struct WorldOperations {
        uint64_t (*now_usec)(const World *w, clockid_t clock);
        uint64_t (*random)(World *w);
        bool (*is_synchronized)(const World *w);
        int (*timer_new)(World *w, timer_handler_t handler, void *userdata, Timer **ret);
        void (*timer_set)(Timer *t, uint64_t at_usec, uint64_t accuracy_usec);
        Timer *(*timer_free)(Timer *t);
        int (*work_begin)(World *w, const WorkClass *class, void *task, Work **ret);
        Work *(*work_forget)(Work *work);
        void (*work_wait)(World *w, WorkQueue queue);
        World *(*free)(World *w);
} WorldOperations;

/* The first member of every World. */
struct World {
        const WorldOperations *operations;
};

/* The first member of every Timer. */
struct Timer {
        World *world;
};

/* The first member of every Work. */
struct Work {
        World *world;
};

/* CLOCK_REALTIME or CLOCK_BOOTTIME, in microseconds. */
static inline uint64_t world_now_usec(const World *w, clockid_t clock) {
        return w->operations->now_usec(w, clock);
}

/* A uniform 64-bit number. */
static inline uint64_t world_random(World *w) {
        return w->operations->random(w);
}

/* Whether the kernel reports that the clock is synchronised. */
static inline bool world_is_synchronized(const World *w) {
        return w->operations->is_synchronized(w);
}

/* Makes a timer on CLOCK_BOOTTIME that is off. Its handler is called from the loop, once for each time that
 * the timer is set. */
static inline int timer_new(World *w, timer_handler_t handler, void *userdata, Timer **ret) {
        return w->operations->timer_new(w, handler, userdata, ret);
}

/* Sets when the handler is called: at `at_usec`, or up to `accuracy_usec` later if that saves a wake-up. 0:
 * in the next turn of the loop; USEC_INFINITY: never. Replaces the earlier setting. */
static inline void timer_set(Timer *t, uint64_t at_usec, uint64_t accuracy_usec) {
        t->world->operations->timer_set(t, at_usec, accuracy_usec);
}

static inline Timer *timer_free(Timer *t) {
        return t ? t->world->operations->timer_free(t) : NULL;
}
DEFINE_FREEP(Timer, timer_free)

/* Runs the functions of the class on `task`. The world owns the task from here on; if this fails, the caller
 * keeps it (-ENOMEM; -EAGAIN: WORK_CHECKS, and there can be no thread). `ret` is valid until done() is called
 * or the work is forgotten. It may be NULL if the caller never forgets the work. */
static inline int work_begin(World *w, const WorkClass *class, void *task, Work **ret) {
        return w->operations->work_begin(w, class, task, ret);
}

/* After this, neither tell() nor done() is called. Work that has not begun does not run at all, except on
 * WORK_DISK. */
static inline Work *work_forget(Work *work) {
        return work ? work->world->operations->work_forget(work) : NULL;
}
DEFINE_FREEP(Work, work_forget)

/* Blocks until all work of the queue has run. done() is called later, from the loop as usual. */
static inline void work_wait(World *w, WorkQueue queue) {
        w->operations->work_wait(w, queue);
}

/* Waits only for the work of WORK_DISK. All timers must be freed before, and all work that has a Work must be
 * forgotten. */
static inline World *world_free(World *w) {
        return w ? w->operations->free(w) : NULL;
}
DEFINE_FREEP(World, world_free)

/* The time of one clock at a moment given by the other. Results that do not fit are 0 or USEC_INFINITY. */
uint64_t world_boottime_of(const World *w, uint64_t realtime_usec);
uint64_t world_realtime_of(const World *w, uint64_t boottime_usec);
