/* SPDX-License-Identifier: MIT */

/*
 * This library is preloaded into a program (LD_PRELOAD). It gives the program another time of day and another time since
 * boot, which the test changes while the program runs. clock.py is the other half; both share the file $DPS_TEST_CLOCK.
 * A program that waits for the clock to be set reads a FIFO, instead of a timer that the kernel cancels.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

/* Symbols are hidden everywhere else in this repository, but must be visible here. */
#pragma GCC visibility push(default)

#define NSEC_PER_SEC INT64_C(1000000000)
#define FD_MAX 65536

/* Written by the test; offsets in nanoseconds. */
typedef struct Shared {
        int64_t realtime_offset, boottime_offset;
        int64_t is_synchronized;
} Shared;

static const Shared truth;
static const volatile Shared *shared = &truth;
static char jump_path[4096];
static int jump_fd = -1;
static unsigned char is_boottime_timer[FD_MAX];

__attribute__((constructor)) static void set_up(void) {
        const char *path = getenv("DPS_TEST_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *p;

        if (fd < 0)
                return;
        p = mmap(NULL, sizeof(Shared), PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (p == MAP_FAILED)
                abort();
        shared = p;
        snprintf(jump_path, sizeof(jump_path), "%s.jump", path);
}

static int64_t offset_of(clockid_t clock) {
        switch (clock) {
        case CLOCK_REALTIME:
        case CLOCK_REALTIME_COARSE:
        case CLOCK_REALTIME_ALARM:
                return shared->realtime_offset;
        case CLOCK_BOOTTIME:
        case CLOCK_BOOTTIME_ALARM:
                return shared->boottime_offset;
        default:
                return 0;
        }
}

static struct timespec timespec_add(struct timespec t, int64_t nsec) {
        int64_t sum = t.tv_sec * NSEC_PER_SEC + t.tv_nsec + nsec;

        return (struct timespec){ .tv_sec = sum / NSEC_PER_SEC, .tv_nsec = sum % NSEC_PER_SEC };
}

int clock_gettime(clockid_t clock, struct timespec *t) {
        int r = (int) syscall(SYS_clock_gettime, clock, t);

        if (r == 0 && offset_of(clock) != 0)
                *t = timespec_add(*t, offset_of(clock));
        return r;
}

time_t time(time_t *ret) {
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        if (ret)
                *ret = t.tv_sec;
        return t.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone) {
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        *ret = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
        return 0;
}

int adjtimex(struct timex *t) {
        int r = (int) syscall(SYS_adjtimex, t);

        if (shared == &truth || r < 0)
                return r;
        t->maxerror = shared->is_synchronized ? 1000 : 16000000;
        return shared->is_synchronized ? TIME_OK : TIME_ERROR;
}

int timerfd_create(int clock, int flags) {
        int fd;

        if (clock == CLOCK_REALTIME && jump_path[0]) {
                jump_fd = open(jump_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
                return jump_fd;
        }

        fd = (int) syscall(SYS_timerfd_create, clock, flags);
        if (fd >= 0 && fd < FD_MAX)
                is_boottime_timer[fd] = clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM;
        return fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old) {
        struct itimerspec real = *value;

        if (fd == jump_fd && fd >= 0)
                return 0;

        if ((flags & TFD_TIMER_ABSTIME) && fd < FD_MAX && is_boottime_timer[fd] &&
            (real.it_value.tv_sec > 0 || real.it_value.tv_nsec > 0)) {
                real.it_value = timespec_add(real.it_value, -shared->boottime_offset);
                if (real.it_value.tv_sec < 0 || (real.it_value.tv_sec == 0 && real.it_value.tv_nsec <= 0))
                        real.it_value = (struct timespec){ .tv_nsec = 1 };
        }
        return (int) syscall(SYS_timerfd_settime, fd, flags, &real, old);
}
