/* SPDX-License-Identifier: MIT */
#include "dpsd/clock-jump.h"

#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>

#include "dpsd/log.h"

#define TIME_T_MAX ((((time_t) 1 << (8 * sizeof(time_t) - 2)) - 1) * 2 + 1)

struct ClockJump {
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

static int on_jump(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        const ClockJump *j = userdata;
        uint64_t n_elapsed;
        int r;

        if (read(fd, &n_elapsed, sizeof(n_elapsed)) < 0 && errno != ECANCELED)
                return 0;

        r = arm(j);
        if (r < 0) {
                log_warning("Clock: cannot watch for changes of the clock any more: %s", strerror(-r));
                (void) sd_event_source_set_enabled(source, SD_EVENT_OFF);
        }
        clock_jumped(j->clock);
        return 0;
}

int clock_jump_new(sd_event *event, Clock *clock, ClockJump **ret) {
        _cleanup_(clock_jump_freep) ClockJump *j = malloc(sizeof(*j));
        int r;

        if (!j)
                return -ENOMEM;
        *j = (ClockJump){ .clock = clock, .fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC) };
        if (j->fd < 0)
                return -errno;
        r = arm(j);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &j->source, j->fd, EPOLLIN, on_jump, j);
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
