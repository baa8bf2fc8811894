/* SPDX-License-Identifier: MIT */
#include "basic/world-event.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/timex.h>

#include "basic/times.h"
#include "basic/worker.h"

/* The kernel lets its maximum error grow to this value while nothing synchronises the clock. STA_UNSYNC is
 * not used, since it may be set only to stop the kernel from writing the RTC. */
#define MAXERROR_UNSYNCHRONIZED 16000000

typedef struct EventWorld {
        World world;
        sd_event *event;
        Worker *worker;
} EventWorld;

typedef struct EventTimer {
        Timer timer;
        sd_event_source *source;
        timer_handler_t handler;
        void *userdata;
} EventTimer;

static uint64_t event_world_now_usec(const World *w, clockid_t clock) {
        return now_usec(clock);
}

static uint64_t event_world_random(World *w) {
        uint64_t random;

        /* Only a system call filter can refuse this. Time and pid then spread the devices a little, and the
         * number is never used as a secret. */
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                random = (now_usec(CLOCK_REALTIME) ^ (uint64_t) getpid()) * UINT64_C(0x9e3779b97f4a7c15);
        return random;
}

static bool event_world_is_synchronized(const World *w) {
        struct timex t = { .modes = 0 };

        return adjtimex(&t) >= 0 && t.maxerror < MAXERROR_UNSYNCHRONIZED;
}

/* --- timers --------------------------------------------------------------------------------------------- */

static int event_timer_on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        const EventTimer *t = userdata;

        t->handler(t->userdata);
        return 0;
}

static Timer *event_timer_free(Timer *timer) {
        EventTimer *t = (EventTimer *) timer;

        sd_event_source_disable_unref(t->source);
        free(t);
        return NULL;
}

static int event_timer_new(World *world, timer_handler_t handler, void *userdata, Timer **ret) {
        EventWorld *w = (EventWorld *) world;
        EventTimer *t = malloc(sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (EventTimer){ .timer = { .world = world }, .handler = handler, .userdata = userdata };
        r = sd_event_add_time(w->event, &t->source, CLOCK_BOOTTIME, USEC_INFINITY, 0, event_timer_on_time, t);
        if (r >= 0)
                r = sd_event_source_set_priority(t->source, SD_EVENT_PRIORITY_IMPORTANT);
        if (r >= 0)
                r = sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
        if (r < 0) {
                event_timer_free(&t->timer);
                return r;
        }

        *ret = &t->timer;
        return 0;
}

/* These calls fail only if the loop has ended. sd-event replaces an accuracy of 0 by a quarter of a second,
 * and fires a timer that is set to 0 in its next turn. */
static void event_timer_set(Timer *timer, uint64_t at_usec, uint64_t accuracy_usec) {
        EventTimer *t = (EventTimer *) timer;

        if (at_usec == USEC_INFINITY) {
                (void) sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(t->source, at_usec);
        (void) sd_event_source_set_time_accuracy(t->source, MIN(MAX(accuracy_usec, 1U), USEC_PER_YEAR));
        (void) sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}

/* --- work ----------------------------------------------------------------------------------------------- */

static int event_world_work_begin(World *w, const WorkClass *class, void *task, Work **ret) {
        return worker_begin(((EventWorld *) w)->worker, class, task, ret);
}

static void event_world_work_wait(World *w, WorkQueue queue) {
        worker_wait(((EventWorld *) w)->worker, queue);
}

static World *event_world_free(World *world) {
        EventWorld *w = (EventWorld *) world;

        worker_free(w->worker);
        sd_event_unref(w->event);
        free(w);
        return NULL;
}

static const WorldOperations event_world_operations = {
        .now_usec = event_world_now_usec,
        .random = event_world_random,
        .is_synchronized = event_world_is_synchronized,
        .timer_new = event_timer_new,
        .timer_set = event_timer_set,
        .timer_free = event_timer_free,
        .work_begin = event_world_work_begin,
        .work_forget = worker_forget,
        .work_wait = event_world_work_wait,
        .free = event_world_free,
};

int world_event_new(sd_event *event, World **ret) {
        EventWorld *w = malloc(sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (EventWorld){ .world = { .operations = &event_world_operations }, .event = sd_event_ref(event) };
        r = worker_new(event, &w->world, &w->worker);
        if (r < 0) {
                event_world_free(&w->world);
                return r;
        }

        *ret = &w->world;
        return 0;
}
