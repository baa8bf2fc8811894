/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <assert.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "checks.h"
#include "files.h"
#include "memory.h"

typedef struct SimWork {
        Work work;
        const WorkClass *class;
        void *task;
        Event *event; /* runs it, and then tells of it in the loop */
        bool has_run, is_forgotten, is_ownerless;
        bool hangs;     /* its thread does … */
        bool is_queued; /* … or that of another one with the same name, and this one has none */
        uint64_t hangs_until_usec;
        struct SimWork *next, *previous;
} SimWork;

typedef struct SimWorld {
        World world;
        Sim *sim;
        const MachineClock *clock;
        const Slowness *slowness;
        Random random; /* the core's */
        Random delays; /* of timers and work */
        SimWork *first, *last;
        uint64_t disk_free_usec; /* one at a time */
        unsigned n_timers;
} SimWorld;

typedef struct SimTimer {
        Timer timer;
        timer_handler_t handler;
        void *userdata;
        Event *event; /* NULL: it is off */
} SimTimer;

static SimWorld *world_of(const World *w) {
        return (SimWorld *) w;
}

static uint64_t sim_now(const World *w, clockid_t clock) {
        const SimWorld *sw = world_of(w);

        if (clock == CLOCK_BOOTTIME)
                return sw->sim->now_usec - sw->clock->booted_usec;
        return (uint64_t) (sw->clock->realtime_usec + (int64_t) sw->sim->now_usec);
}

static uint64_t sim_random(World *w) {
        return random_next(&world_of(w)->random);
}

static bool sim_is_synchronized(const World *w) {
        return world_of(w)->clock->is_synchronized;
}

/* ---- timers ---- */

static int sim_timer_new(World *w, timer_handler_t handler, void *userdata, Timer **ret) {
        SimTimer *t = sim_alloc(sizeof(*t));

        *t = (SimTimer){ .timer.world = w, .handler = handler, .userdata = userdata };
        world_of(w)->n_timers++;
        *ret = &t->timer;
        return 0;
}

static void on_timer(Sim *s, void *userdata) {
        SimTimer *t = userdata;

        t->event = NULL;
        s->n_wakeups++;
        core_enter();
        t->handler(t->userdata);
        core_leave();
        checks_step(s);
}

static void sim_timer_set(Timer *timer, uint64_t at_usec, uint64_t accuracy_usec) {
        SimTimer *t = (SimTimer *) timer;
        SimWorld *w = world_of(timer->world);
        uint64_t at = usec_add(at_usec, w->clock->booted_usec);

        if (at_usec == USEC_INFINITY) {
                t->event = event_cancel(w->sim, t->event);
                return;
        }
        at = MAX(at, w->sim->now_usec) + random_below(&w->delays, accuracy_usec + 1);
        if (t->event)
                event_move(w->sim, t->event, at);
        else
                t->event = event_add(w->sim, at, on_timer, t);
}

static Timer *sim_timer_free(Timer *timer) {
        SimTimer *t = (SimTimer *) timer;
        SimWorld *w = world_of(timer->world);

        event_cancel(w->sim, t->event);
        w->n_timers--;
        sim_free(t);
        return NULL;
}

/* ---- work ---- */

static void unlink_work(SimWorld *w, SimWork *k) {
        *(k->previous ? &k->previous->next : &w->first) = k->next;
        *(k->next ? &k->next->previous : &w->last) = k->previous;
}

static void work_done(SimWorld *w, SimWork *k) {
        event_cancel(w->sim, k->event);
        unlink_work(w, k);
        sim_free(k);
}

static SimWork *running;

static void run(SimWork *k) {
        k->hangs = false;
        running = k;
        core_enter();
        k->class->run(k->task);
        core_leave();
        running = NULL;
        k->has_run = true;
}

const void *sim_world_running(void) {
        return running && running->class->queue == WORK_CHIPS ? running : NULL;
}

bool sim_world_is_running(void) {
        return running;
}

uint64_t sim_world_hang(const void *work, uint64_t until_usec) {
        SimWork *k = running;
        uint64_t now = world_of(k->work.world)->sim->now_usec;

        k->hangs = until_usec > now;
        k->hangs_until_usec = until_usec;
        return now;
}

/* In the loop. One thing in each turn. */
static void on_told(Sim *s, void *userdata) {
        SimWork *k = userdata;
        SimWorld *w = world_of(k->work.world);
        bool has_more;

        k->event = NULL;
        core_enter();
        has_more = k->class->tell && k->class->tell(k->task);
        core_leave();
        if (k->is_forgotten) { /* by its own tell() */
                work_done(w, k);
        } else if (has_more) {
                k->event = event_add(s, s->now_usec + random_below(&w->delays, 1000), on_told, k);
        } else {
                const WorkClass *class = k->class;
                void *task = k->task;

                work_done(w, k);
                core_enter();
                class->done(task);
                core_leave();
        }
        checks_step(s);
}

static void on_work(Sim *s, void *userdata);

/* Of those with the same name only one has a thread (WorkClass). */
static bool has_thread(const SimWorld *w, const SimWork *k) {
        for (const SimWork *j = w->first; j; j = j->next)
                if (j != k && j->hangs && !j->is_queued && j->class == k->class &&
                    streq(j->class->whose(j->task), k->class->whose(k->task)))
                        return false;
        return true;
}

static void run_and_tell(SimWorld *w, SimWork *k) {
        k->hangs = k->is_queued = false;
        if (files_hold(k->class, k->task)) {
                k->is_queued = !has_thread(w, k);
                k->hangs = true;
                return;
        }
        run(k);
        if (k->hangs) {
                k->event = k->hangs_until_usec == USEC_INFINITY
                                   ? NULL
                                   : event_add(w->sim, k->hangs_until_usec, on_work, k);
                return;
        }
        if (k->is_forgotten) {
                k->class->free(k->task);
                work_done(w, k);
                return;
        }
        event_cancel(w->sim, k->event);
        k->event = event_add(w->sim, w->sim->now_usec + looks_take_waited() + random_below(&w->delays, 200),
                             on_told, k);
}

static void on_work(Sim *s, void *userdata) {
        SimWork *k = userdata;

        k->event = NULL;
        run_and_tell(world_of(k->work.world), k);
        checks_step(s);
}

static uint64_t work_at(SimWorld *w, WorkQueue queue) {
        uint64_t slow = w->slowness->usec[queue], at = w->sim->now_usec + random_below(&w->delays, 2000);

        if (slow > 0)
                at += random_wait_usec(&w->delays, slow);
        if (queue == WORK_DISK)
                at = w->disk_free_usec = MAX(at, w->disk_free_usec);
        return at;
}

static int sim_work_begin(World *world, const WorkClass *class, void *task, Work **ret) {
        SimWorld *w = world_of(world);
        SimWork *k = sim_alloc(sizeof(*k));

        *k = (SimWork){ .work.world = world, .class = class, .task = task, .previous = w->last };
        *(w->last ? &w->last->next : &w->first) = k;
        w->last = k;
        k->event = event_add(w->sim, work_at(w, class->queue), on_work, k);
        k->is_ownerless = !ret;
        if (ret)
                *ret = &k->work;
        return 0;
}

static Work *sim_work_forget(Work *work) {
        SimWork *k = (SimWork *) work;
        SimWorld *w = world_of(work->world);

        assert(!k->is_forgotten);
        k->is_forgotten = true;
        if (!k->has_run && k->class->queue == WORK_DISK)
                return NULL; /* it runs all the same */
        if (k->hangs && !k->is_queued)
                return NULL; /* its thread still uses the task */
        k->class->free(k->task);
        if (k->event || k->is_queued)
                work_done(w, k); /* otherwise it is being told in this moment, and ends there */
        return NULL;
}

static void sim_work_wait(World *world, WorkQueue queue) {
        SimWorld *w = world_of(world);
        SimWork *next;

        for (SimWork *k = w->first; k; k = next) {
                next = k->next;
                if (k->class->queue == queue && !k->has_run)
                        run_and_tell(w, k);
        }
}

void sim_world_go_on(World *world) {
        SimWorld *w = world_of(world);

        for (SimWork *k = w->first; k; k = k->next)
                if (k->hangs && !k->event)
                        k->event = event_add(w->sim, w->sim->now_usec + random_below(&w->delays, 2000),
                                             on_work, k);
}

unsigned sim_world_n_hanging(const World *world) {
        unsigned n = 0;

        for (const SimWork *k = world_of(world)->first; k; k = k->next)
                n += k->hangs && k->class->queue == WORK_CHIPS;
        return n;
}

unsigned sim_world_n_works(const World *world) {
        unsigned n = 0;

        for (const SimWork *k = world_of(world)->first; k; k = k->next)
                n += !(k->is_forgotten && k->hangs);
        return n;
}

bool sim_world_run_disk(World *world) {
        SimWorld *w = world_of(world);

        for (SimWork *k = w->first; k; k = k->next)
                if (k->class->queue == WORK_DISK && !k->has_run) {
                        run_and_tell(w, k);
                        return true;
                }
        return false;
}

static World *sim_world_free(World *world) {
        SimWorld *w = world_of(world);

        sim_work_wait(world, WORK_DISK);
        for (SimWork *k = w->first, *next; k; k = next) {
                next = k->next;
                if (!k->is_ownerless && !(k->hangs && k->is_forgotten))
                        continue;
                k->class->free(k->task); /* nobody can forget it, or its thread ends with the process */
                work_done(w, k);
        }
        assert(w->n_timers == 0);
        assert(!w->first);
        sim_free(w);
        return NULL;
}

static const WorldOperations operations = {
        .now_usec = sim_now,
        .random = sim_random,
        .is_synchronized = sim_is_synchronized,
        .timer_new = sim_timer_new,
        .timer_set = sim_timer_set,
        .timer_free = sim_timer_free,
        .work_begin = sim_work_begin,
        .work_forget = sim_work_forget,
        .work_wait = sim_work_wait,
        .free = sim_world_free,
};

World *sim_world_new(Sim *s, const MachineClock *clock, const Slowness *slowness, uint64_t number) {
        SimWorld *w = sim_alloc(sizeof(*w));

        *w = (SimWorld){ .world.operations = &operations,
                         .sim = s,
                         .clock = clock,
                         .slowness = slowness,
                         .random = random_of(s->options.seed, "core", number),
                         .delays = random_of(s->options.seed, "delays", number) };
        return &w->world;
}
