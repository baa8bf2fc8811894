/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the core of the daemon reaches of the world outside: time, randomness, timers, and work that may block. dpsd hands
 * in the real world (world-event.h), the simulation one in which time passes as fast as it can be computed. Code that is
 * given a World reads no clock and no random source by itself.
 */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "basic/cleanup.h"

typedef struct World World;
typedef struct Timer Timer;
typedef struct Work Work;

typedef void (*timer_handler_t)(void *userdata);

/* Work of one queue is begun in the order in which it was asked for. The queues do not wait for each other, so that a
 * name server that does not answer holds up no disk. */
typedef enum WorkQueue {
        WORK_DISK, /* one at a time, so that what is written later ends later; always finished, also at exit */
        WORK_NAMES, /* names to addresses; several at a time */
        WORK_KEYS, /* keys and certificates, and the files of an identity's configuration; several at a time */
        WORK_GROUPS, /* the system's database of groups; several at a time, since some groups are on a server */
        _WORK_QUEUE_MAX,
} WorkQueue;

/* One kind of work. `task` holds all that it needs and all that comes of it.
 *
 *      run    in another thread: touches nothing but the task
 *      tell   NULL, or called in the loop before done(), once in each turn until it returns false: for an answer that many
 *             wait for, so that the loop serves others in between
 *      done   in the loop: owns the task from here on
 *      free   in place of done() where the work was forgotten; perhaps in the other thread
 *
 * Neither tell() nor done() is called from within work_begin(). Both may begin and forget work, tell() its own too. */
typedef struct WorkClass {
        WorkQueue queue;
        void (*run)(void *task);
        bool (*tell)(void *task);
        void (*done)(void *task);
        void (*free)(void *task);
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

/* Whether the kernel says that somebody keeps the time of day right. */
static inline bool world_is_synchronized(const World *w) {
        return w->operations->is_synchronized(w);
}

/* A timer on CLOCK_BOOTTIME that is off. Its handler is called from the loop, once for each time that it is set. */
static inline int timer_new(World *w, timer_handler_t handler, void *userdata, Timer **ret) {
        return w->operations->timer_new(w, handler, userdata, ret);
}

/* Calls the handler at `at_usec`, or as much as `accuracy_usec` later where that saves a wake-up. 0: in the next turn of
 * the loop; USEC_INFINITY: never. Replaces what was set before. */
static inline void timer_set(Timer *t, uint64_t at_usec, uint64_t accuracy_usec) {
        t->world->operations->timer_set(t, at_usec, accuracy_usec);
}

static inline Timer *timer_free(Timer *t) {
        return t ? t->world->operations->timer_free(t) : NULL;
}
DEFINE_FREEP(Timer, timer_free)

/* Runs the class's functions on `task`, which the world owns from here on; on failure the caller keeps it.
 * `ret` is valid until done() is called or it is forgotten; NULL where nobody will want to forget it. */
static inline int work_begin(World *w, const WorkClass *class, void *task, Work **ret) {
        return w->operations->work_begin(w, class, task, ret);
}

/* Neither tell() nor done() is called any more. What has not begun to run does not run, but for WORK_DISK, which does. */
static inline Work *work_forget(Work *work) {
        return work ? work->world->operations->work_forget(work) : NULL;
}
DEFINE_FREEP(Work, work_forget)

/* Blocks until all work of the queue has run; done() is called from the loop as ever. */
static inline void work_wait(World *w, WorkQueue queue) {
        w->operations->work_wait(w, queue);
}

/* Waits for work of WORK_DISK, and for no other. All timers are freed before, and all work that has a Work is forgotten. */
static inline World *world_free(World *w) {
        return w ? w->operations->free(w) : NULL;
}
DEFINE_FREEP(World, world_free)

/* A moment of one clock as the other would show it; what does not fit is 0 or USEC_INFINITY. */
uint64_t world_boottime_of(const World *w, uint64_t realtime_usec);
uint64_t world_realtime_of(const World *w, uint64_t boottime_usec);
