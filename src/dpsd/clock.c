/* SPDX-License-Identifier: MIT */
#include "dpsd/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/timex.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "build-config.h"
#include "dpsd/log.h"

/* Holds the floor: microseconds since 1970 in decimal, and a line break. */
#define FLOOR_FILE ".clock"
#define FLOOR_TEXT_MAX 32

#define BUILD_TIME_USEC (DPS_BUILD_TIME_SEC * USEC_PER_SEC)

/* A floor beyond this was confirmed by nobody: no box runs that long, but a bit may flip. */
#define FLOOR_MAX_USEC (BUILD_TIME_USEC + 30 * USEC_PER_YEAR)

/* Synchronisation steps a clock back a little, now and then; that is no wrong time. */
#define FLOOR_SLACK_USEC USEC_PER_MINUTE

/* Flash wears. */
#define FLOOR_WRITE_INTERVAL_USEC USEC_PER_DAY

#define TIME_T_MAX ((((time_t) 1 << (8 * sizeof(time_t) - 2)) - 1) * 2 + 1)

#define SYNCHRONIZATION_POLL_USEC (2 * USEC_PER_SEC)

/* The kernel lets its maximum error grow up to this while nobody disciplines the clock. STA_UNSYNC is not looked at:
 * it may be set only to keep the kernel's fingers off the RTC. */
#define MAXERROR_UNSYNCHRONIZED 16000000

struct Clock {
        int state_fd; /* a duplicate; -1: none */
        uint64_t floor_usec;
        uint64_t written_usec; /* the floor on disk; 0: none */

        clock_handler_t handler;
        void *userdata;

        int jump_fd; /* a timer that never elapses, but is cancelled when somebody sets the clock */
        sd_event_source *jump;
        sd_event_source *poll; /* looks for synchronisation; off unless watched */
        bool is_watched, was_synchronized;
};

static void clock_read_floor(Clock *c) {
        _cleanup_(freep) char *text = NULL;
        uint64_t usec;
        size_t size;
        int r;

        if (c->state_fd < 0)
                return;

        r = file_read_at(c->state_fd, FLOOR_FILE, FLOOR_TEXT_MAX, &text, &size);
        if (r == -ENOENT)
                return;
        if (r < 0) {
                log_warning("Clock: %s in the state directory cannot be read: %s; going on without",
                            FLOOR_FILE, strerror(-r));
                return;
        }

        r = span_to_u64(span_strip((Span){ text, size }), &usec);
        if (r < 0 || usec > FLOOR_MAX_USEC) {
                log_warning("Clock: %s in the state directory holds no time that can be right; it is "
                            "replaced when the time is confirmed",
                            FLOOR_FILE);
                return;
        }

        c->written_usec = usec;
        c->floor_usec = MAX(c->floor_usec, usec);
}

/* Not synced to the disk, which may be slow: a power cut costs at worst the floor, and that is only one of two. */
static void clock_write_floor(Clock *c) {
        char text[FLOOR_TEXT_MAX];
        int n, r;

        if (c->state_fd < 0 || c->floor_usec < c->written_usec + FLOOR_WRITE_INTERVAL_USEC)
                return;

        n = snprintf(text, sizeof(text), "%" PRIu64 "\n", c->floor_usec);
        r = file_write_atomic(c->state_fd, FLOOR_FILE, text, (size_t) n, 0600, (gid_t) -1);
        if (r < 0) {
                log_debug("Clock: %s in the state directory cannot be written: %s; trying again when the "
                          "time is confirmed again",
                          FLOOR_FILE, strerror(-r));
                return;
        }
        c->written_usec = c->floor_usec;
}

static int clock_arm_jump(Clock *c) {
        const struct itimerspec never = { .it_value.tv_sec = TIME_T_MAX };

        /* ECANCELED: set again just now; armed it is all the same. */
        if (timerfd_settime(c->jump_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 &&
            errno != ECANCELED)
                return -errno;
        return 0;
}

static int clock_on_jump(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        uint64_t n_elapsed;
        Clock *c = userdata;
        int r;

        if (read(fd, &n_elapsed, sizeof(n_elapsed)) < 0 && errno != ECANCELED)
                return 0;

        r = clock_arm_jump(c);
        if (r < 0) {
                log_warning("Clock: no more news of when it is set: %s", strerror(-r));
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        }
        c->handler(CLOCK_JUMPED, c->userdata);
        return 0;
}

static int clock_on_poll(sd_event_source *source, uint64_t usec, void *userdata) {
        Clock *c = userdata;
        bool was = c->was_synchronized;

        (void) sd_event_source_set_time_relative(source, SYNCHRONIZATION_POLL_USEC);
        (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);

        c->was_synchronized = clock_is_synchronized(c);
        if (c->was_synchronized && !was)
                c->handler(CLOCK_SYNCHRONIZED, c->userdata);
        return 0;
}

static int clock_add_sources(Clock *c, sd_event *event) {
        int r;

        c->jump_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (c->jump_fd < 0)
                return -errno;
        r = clock_arm_jump(c);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &c->jump, c->jump_fd, EPOLLIN, clock_on_jump, c);
        if (r < 0)
                return r;

        r = sd_event_add_time_relative(event, &c->poll, CLOCK_BOOTTIME, 0, 0, clock_on_poll, c);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(c->poll, SD_EVENT_OFF);
}

int clock_new(sd_event *event, int state_fd, clock_handler_t handler, void *userdata, Clock **ret) {
        _cleanup_(clock_freep) Clock *c = NULL;
        int r;

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->state_fd = c->jump_fd = -1;
        c->handler = handler;
        c->userdata = userdata;

        if (state_fd >= 0) {
                c->state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
                if (c->state_fd < 0)
                        return -errno;
        }
        c->floor_usec = BUILD_TIME_USEC;
        clock_read_floor(c);
        c->was_synchronized = clock_is_synchronized(c);

        r = clock_add_sources(c, event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

Clock *clock_free(Clock *c) {
        if (!c)
                return NULL;

        sd_event_source_disable_unref(c->poll);
        sd_event_source_disable_unref(c->jump);
        closep(&c->jump_fd);
        closep(&c->state_fd);
        free(c);
        return NULL;
}

bool clock_is_plausible(const Clock *c) {
        return clock_behind_usec(c) == 0;
}

bool clock_is_synchronized(const Clock *c) {
        struct timex t = { .modes = 0 };

        return adjtimex(&t) >= 0 && t.maxerror < MAXERROR_UNSYNCHRONIZED;
}

uint64_t clock_behind_usec(const Clock *c) {
        return usec_sub(c->floor_usec, now_usec(CLOCK_REALTIME));
}

void clock_confirm(Clock *c) {
        uint64_t usec = usec_sub(now_usec(CLOCK_REALTIME), FLOOR_SLACK_USEC);

        if (usec > FLOOR_MAX_USEC)
                return;

        c->floor_usec = MAX(c->floor_usec, usec);
        clock_write_floor(c);
}

void clock_watch_synchronization(Clock *c, bool on) {
        if (c->is_watched == on)
                return;

        c->is_watched = on;
        (void) sd_event_source_set_time_relative(c->poll, 0);
        (void) sd_event_source_set_enabled(c->poll, on ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}
