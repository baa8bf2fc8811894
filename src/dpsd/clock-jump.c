/* SPDX-License-Identifier: MIT */
#include "dpsd/clock-jump.h"

#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>

#include "basic/times.h"
#include "dpsd/log.h"

#define TIME_T_MAX ((((time_t) 1 << (8 * sizeof(time_t) - 2)) - 1) * 2 + 1)

struct ClockJump {
        sd_event *event; /* borrowed */
        Clock *clock;
        int fd; /* a timer that never elapses, but is cancelled when the clock is set */
        sd_event_source *source;
};

static int arm(const ClockJump *j) {
        const struct itimerspec never = { .it_value.tv_sec = TIME_T_MAX };

        /* ECANCELED: the clock was set just now; the timer is armed nevertheless. */
        if (timerfd_settime(j->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 &&
            errno != ECANCELED)
                return -errno;
        return 0;
}

static int on_minute(sd_event_source *source, uint64_t usec, void *userdata) {
        const ClockJump *j = userdata;

        (void) sd_event_source_set_time_relative(source, USEC_PER_MINUTE);
        clock_jumped(j->clock);
        return 0;
}

/* Time takes the place of the kernel's event. */
static int look_every_minute(ClockJump *j, int why) {
        sd_event *event = j->event;
        int r;

        log_warning("Clock: changes of the clock cannot be watched (%s): they are noticed within a minute",
                    strerror(-why));
        j->source = sd_event_source_disable_unref(j->source);
        r = sd_event_add_time_relative(event, &j->source, CLOCK_BOOTTIME, USEC_PER_MINUTE, USEC_PER_SEC,
                                       on_minute, j);
        return r < 0 ? r : sd_event_source_set_enabled(j->source, SD_EVENT_ON);
}

static int on_jump(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        ClockJump *j = userdata;
        uint64_t n_elapsed;
        int r;

        if (read(fd, &n_elapsed, sizeof(n_elapsed)) < 0 && errno != ECANCELED)
                return 0;

        r = arm(j);
        clock_jumped(j->clock);
        if (r < 0)
                (void) look_every_minute(j, r);
        return 0;
}

static int watch(ClockJump *j) {
        int r;

        if (j->fd < 0)
                return -errno;
        r = arm(j);
        return r < 0 ? r : sd_event_add_io(j->event, &j->source, j->fd, EPOLLIN, on_jump, j);
}

int clock_jump_new(sd_event *event, Clock *clock, ClockJump **ret) {
        _cleanup_(clock_jump_freep) ClockJump *j = malloc(sizeof(*j));
        int r;

        if (!j)
                return -ENOMEM;
        *j = (ClockJump){ .event = event,
                          .clock = clock,
                          .fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC) };
        r = watch(j);
        if (r < 0)
                r = look_every_minute(j, r);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(j);
        return 0;
}

ClockJump *clock_jump_free(ClockJump *j) {
        if (!j)
                return NULL;

        sd_event_source_disable_unref(j->source);
        closep(&j->fd);
        free(j);
        return NULL;
}
