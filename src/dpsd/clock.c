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
#define SYNCHRONIZATION_SLOW_POLL_USEC USEC_PER_MINUTE

/* Two clocks are never read at the same moment. */
#define STEP_MIN_USEC (10 * USEC_PER_MSEC)
/* In the course of days, synchronisation makes a clock slower or faster by as much as that. */
#define LATE_STEP_MIN_USEC USEC_PER_SEC

struct Clock {
        World *world;
        Folder *state; /* NULL: none */
        uint64_t floor_usec;
        uint64_t written_usec; /* the floor on disk; 0: there is none */
        Work *writing;         /* NULL: no write is under way */

        clock_handler_t handler;
        void *userdata;

        Timer *poll; /* polls for synchronisation */
        bool is_watched, was_synchronized;
        bool is_behind_notes; /* a time that was noted lies in the future, and perhaps the clock is wrong */

        int64_t boot_usec; /* CLOCK_REALTIME when CLOCK_BOOTTIME was 0, according to the present clock */
        int64_t step_usec; /* how far the clock was set just now; 0 outside of the handler */
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
        /* It is not synced, so a power cut may leave an empty one. */
        if (r == -ENOENT || (r >= 0 && size == 0))
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

        bool is_fresh = c->floor_usec < c->written_usec + FLOOR_WRITE_INTERVAL_USEC &&
                        c->floor_usec + FLOOR_SLACK_USEC >= c->written_usec;

        if (!c->state || c->writing || is_fresh)
                return;

        /* If there is no memory, the next confirmation tries again. */
        f = malloc(sizeof(*f));
        if (!f)
                return;
        *f = (FloorWrite){ .clock = c, .folder = c->state, .usec = c->floor_usec };
        if (work_begin(c->world, &floor_class, f, &c->writing) < 0)
                free(f);
}

void clock_write_again(Clock *c) {
        c->written_usec = 0;
        clock_write_floor(c);
}

/* --- synchronisation ------------------------------------------------------------------------------------ */

static void clock_arm_poll(Clock *c) {
        uint64_t now = world_now_usec(c->world, CLOCK_BOOTTIME);
        bool is_doubtful = !c->was_synchronized &&
                           (c->is_behind_notes || c->floor_usec > world_now_usec(c->world, CLOCK_REALTIME));
        uint64_t wait = c->is_watched ? SYNCHRONIZATION_POLL_USEC
                        : is_doubtful ? SYNCHRONIZATION_SLOW_POLL_USEC
                                      : USEC_INFINITY;

        timer_set(c->poll, usec_add(now, wait), MIN(wait, SYNCHRONIZATION_SLOW_POLL_USEC) / 8);
}

static int64_t clock_boot_usec(const Clock *c) {
        return (int64_t) (world_now_usec(c->world, CLOCK_REALTIME) -
                          world_now_usec(c->world, CLOCK_BOOTTIME));
}

static void clock_tell(Clock *c, ClockEvent event) {
        int64_t boot = clock_boot_usec(c), step = boot - c->boot_usec;

        if (step >= (int64_t) STEP_MIN_USEC || -step >= (int64_t) STEP_MIN_USEC) {
                c->boot_usec = boot;
                c->step_usec = step;
        }
        c->was_synchronized = clock_is_synchronized(c);
        if (c->was_synchronized)
                clock_confirm(c);
        c->is_behind_notes = false;
        c->handler(event, c->userdata);
        c->step_usec = 0;
        clock_arm_poll(c);
}

static void clock_on_poll(void *userdata) {
        Clock *c = userdata;
        bool was = c->was_synchronized;

        c->was_synchronized = clock_is_synchronized(c);
        if (c->was_synchronized && !was)
                clock_tell(c, CLOCK_SYNCHRONIZED);
        else
                clock_arm_poll(c);
}

void clock_watch_synchronization(Clock *c, bool on) {
        if (c->is_watched == on)
                return;

        c->is_watched = on;
        if (on)
                timer_set(c->poll, 0, 0);
        else
                clock_arm_poll(c);
}

/* --- times that were noted ------------------------------------------------------------------------------ */

static uint64_t at_least_1(int64_t usec) {
        return (uint64_t) MAX(usec, INT64_C(1));
}

void clock_follow(const Clock *c, uint64_t *planned_usec) {
        if (*planned_usec > 0)
                *planned_usec = at_least_1((int64_t) (*planned_usec + (uint64_t) c->step_usec));
}

uint64_t clock_correct(Clock *c, uint64_t *past_usec) {
        uint64_t now = world_now_usec(c->world, CLOCK_REALTIME), ahead;
        int64_t past = (int64_t) *past_usec;

        if (c->step_usec != 0 && past >= c->boot_usec - c->step_usec && past <= (int64_t) now - c->step_usec)
                clock_follow(c, past_usec);
        ahead = usec_sub(*past_usec, now);
        if (ahead == 0)
                return 0;
        if (!clock_is_synchronized(c)) {
                c->is_behind_notes = true;
                clock_arm_poll(c);
                return 0;
        }
        /* Before the boot, so that it does not count as an event since then. */
        *past_usec = ahead < USEC_PER_SEC ? now : at_least_1(c->boot_usec - (int64_t) USEC_PER_SEC);
        return ahead;
}

int64_t clock_begin_late(Clock *c, uint64_t realtime_usec, uint64_t boottime_usec) {
        int64_t before = c->step_usec, step = c->boot_usec - (int64_t) (realtime_usec - boottime_usec);

        if (step >= (int64_t) LATE_STEP_MIN_USEC || -step >= (int64_t) LATE_STEP_MIN_USEC)
                c->step_usec = step;
        return before;
}

void clock_end_late(Clock *c, int64_t before) {
        c->step_usec = before;
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
        c->boot_usec = clock_boot_usec(c);
        r = timer_new(w, clock_on_poll, c, &c->poll);
        if (r < 0)
                return r;
        clock_arm_poll(c);

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
        uint64_t behind = usec_sub(c->floor_usec, world_now_usec(c->world, CLOCK_REALTIME));

        return behind > 0 && clock_is_synchronized(c) ? 0 : behind;
}

void clock_confirm(Clock *c) {
        uint64_t usec = usec_sub(world_now_usec(c->world, CLOCK_REALTIME), FLOOR_SLACK_USEC);

        if (usec > FLOOR_MAX_USEC)
                return;

        c->floor_usec = c->was_synchronized ? usec : MAX(c->floor_usec, usec);
        clock_write_floor(c);
}

void clock_jumped(Clock *c) {
        clock_tell(c, CLOCK_JUMPED);
}
