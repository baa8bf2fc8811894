/* SPDX-License-Identifier: MIT */
#include "dpsd/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "basic/text.h"
#include "basic/times.h"
#include "build-config.h"
#include "dpsd/log.h"

/* The file holds the floor in microseconds since 1970, in decimal, and a newline. */
#define FLOOR_FILE ".clock"
#define FLOOR_TEXT_MAX 32

#define BUILD_TIME_USEC (DPS_BUILD_TIME_SEC * USEC_PER_SEC)

/* A floor beyond this was never confirmed: no device runs that long, but a bit on flash may flip. */
#define FLOOR_MAX_USEC (BUILD_TIME_USEC + 30 * USEC_PER_YEAR)

/* Synchronisation sometimes steps a clock back a little. Such a clock is not wrong. */
#define FLOOR_SLACK_USEC USEC_PER_MINUTE

/* Flash wears, so the floor is written rarely. */
#define FLOOR_WRITE_INTERVAL_USEC USEC_PER_DAY

#define SYNCHRONIZATION_POLL_USEC (2 * USEC_PER_SEC)

#define SYNCHRONIZATION_POLL_ACCURACY_USEC (USEC_PER_SEC / 4)

struct Clock {
        World *world;
        Folder *state; /* NULL: none */
        uint64_t floor_usec;
        uint64_t written_usec; /* the floor on disk; 0: there is none */
        Work *writing;         /* NULL: no write is under way */

        clock_handler_t handler;
        void *userdata;

        Timer *poll; /* polls for synchronisation; off unless somebody waits for it */
        bool is_watched, was_synchronized;
};

/* --- the floor ------------------------------------------------------------------------------------------ */

static void clock_read_floor(Clock *c) {
        _cleanup_(freep) char *text = NULL;
        uint64_t usec;
        size_t size;
        int r;

        if (!c->state)
                return;

        r = folder_read(c->state, FLOOR_FILE, FLOOR_TEXT_MAX, &text, &size);
        if (r == -ENOENT)
                return;
        if (r < 0) {
                log_warning("Clock: %s in the state directory cannot be read: %s; continuing without it",
                            FLOOR_FILE, strerror(-r));
                return;
        }

        r = span_to_u64(span_strip((Span){ text, size }), &usec);
        if (r < 0 || usec > FLOOR_MAX_USEC) {
                log_warning("Clock: %s in the state directory holds an impossible time; it is "
                            "replaced when the time is confirmed",
                            FLOOR_FILE);
                return;
        }

        c->written_usec = usec;
        c->floor_usec = MAX(c->floor_usec, usec);
}

typedef struct FloorWrite {
        Clock *clock; /* used only in the loop */
        Folder *folder;
        uint64_t usec;
        int r;
} FloorWrite;

/* The file is not synced to disk: a power cut costs at most this floor, and the build time is still a
 * floor. */
static void floor_run(void *task) {
        FloorWrite *f = task;
        char text[FLOOR_TEXT_MAX];
        int n;

        n = snprintf(text, sizeof(text), "%" PRIu64 "\n", f->usec);
        f->r = folder_write(f->folder, FLOOR_FILE, text, (size_t) n, 0600, (gid_t) -1);
}

static void floor_done(void *task) {
        _cleanup_(freep) FloorWrite *f = task;
        Clock *c = f->clock;

        c->writing = NULL;
        if (f->r >= 0)
                c->written_usec = f->usec;
        else
                log_debug("Clock: %s in the state directory cannot be written: %s; trying again when the "
                          "time is confirmed again",
                          FLOOR_FILE, strerror(-f->r));
}

static const WorkClass floor_class = {
        .queue = WORK_DISK,
        .run = floor_run,
        .done = floor_done,
        .free = free,
};

static void clock_write_floor(Clock *c) {
        FloorWrite *f;

        if (!c->state || c->writing || c->floor_usec < c->written_usec + FLOOR_WRITE_INTERVAL_USEC)
                return;

        /* If there is no memory, the next confirmation tries again. */
        f = malloc(sizeof(*f));
        if (!f)
                return;
        *f = (FloorWrite){ .clock = c, .folder = c->state, .usec = c->floor_usec };
        if (work_begin(c->world, &floor_class, f, &c->writing) < 0)
                free(f);
}

/* --- synchronisation ------------------------------------------------------------------------------------ */

static void clock_on_poll(void *userdata) {
        Clock *c = userdata;
        bool was = c->was_synchronized;

        timer_set(c->poll, usec_add(world_now_usec(c->world, CLOCK_BOOTTIME), SYNCHRONIZATION_POLL_USEC),
                  SYNCHRONIZATION_POLL_ACCURACY_USEC);
        c->was_synchronized = clock_is_synchronized(c);
        if (c->was_synchronized && !was)
                c->handler(CLOCK_SYNCHRONIZED, c->userdata);
}

void clock_watch_synchronization(Clock *c, bool on) {
        if (c->is_watched == on)
                return;

        c->is_watched = on;
        timer_set(c->poll, on ? 0 : USEC_INFINITY, 0);
}

/* --- the clock ------------------------------------------------------------------------------------------ */

int clock_new(World *w, Folder *state, clock_handler_t handler, void *userdata, Clock **ret) {
        _cleanup_(clock_freep) Clock *c = NULL;
        int r;

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->world = w;
        c->state = state;
        c->handler = handler;
        c->userdata = userdata;
        c->floor_usec = BUILD_TIME_USEC;
        clock_read_floor(c);
        c->was_synchronized = clock_is_synchronized(c);
        r = timer_new(w, clock_on_poll, c, &c->poll);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

Clock *clock_free(Clock *c) {
        if (!c)
                return NULL;

        if (c->writing) {
                work_wait(c->world, WORK_DISK);
                work_forget(c->writing);
        }
        timer_free(c->poll);
        free(c);
        return NULL;
}

bool clock_is_plausible(const Clock *c) {
        return clock_behind_usec(c) == 0;
}

bool clock_is_synchronized(const Clock *c) {
        return world_is_synchronized(c->world);
}

uint64_t clock_behind_usec(const Clock *c) {
        return usec_sub(c->floor_usec, world_now_usec(c->world, CLOCK_REALTIME));
}

void clock_confirm(Clock *c) {
        uint64_t usec = usec_sub(world_now_usec(c->world, CLOCK_REALTIME), FLOOR_SLACK_USEC);

        if (usec > FLOOR_MAX_USEC)
                return;

        c->floor_usec = MAX(c->floor_usec, usec);
        clock_write_floor(c);
}

void clock_jumped(Clock *c) {
        c->handler(CLOCK_JUMPED, c->userdata);
}
