/* SPDX-License-Identifier: MIT */
#include "credential/device.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"

#define WAIT_MAX_USEC (10 * USEC_PER_SEC)

struct Device {
        Device *next;
        char *name;
        bool is_busy;
        uint64_t busy_since_usec; /* CLOCK_MONOTONIC */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects all devices */
static pthread_cond_t released;
static bool has_condition;
static Device *devices;

static Device *find_or_add(const char *name) {
        Device *d;

        for (d = devices; d; d = d->next)
                if (streq(d->name, name))
                        return d;
        d = calloc(1, sizeof(*d));
        if (!d)
                return NULL;
        d->name = strdup(name);
        if (!d->name) {
                free(d);
                return NULL;
        }
        d->next = devices;
        devices = d;
        return d;
}

static int make_condition(void) {
        pthread_condattr_t attributes;
        int r;

        if (has_condition)
                return 0;
        r = pthread_condattr_init(&attributes);
        if (r != 0)
                return -r;
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        r = pthread_cond_init(&released, &attributes);
        (void) pthread_condattr_destroy(&attributes);
        has_condition = r == 0;
        return -r;
}

/* The mutex must be held. */
static int take(Device *d) {
        while (d->is_busy) {
                uint64_t until_usec = d->busy_since_usec + WAIT_MAX_USEC;
                struct timespec until = { .tv_sec = (time_t) (until_usec / USEC_PER_SEC),
                                          .tv_nsec = (long) (until_usec % USEC_PER_SEC * 1000) };

                if (now_usec(CLOCK_MONOTONIC) >= until_usec)
                        return -ETIMEDOUT;
                (void) pthread_cond_timedwait(&released, &mutex, &until);
        }
        d->is_busy = true;
        d->busy_since_usec = now_usec(CLOCK_MONOTONIC);
        return 0;
}

int device_acquire(const char *name, Device **ret) {
        Device *d = NULL;
        int r;

        (void) pthread_mutex_lock(&mutex);
        r = make_condition();
        if (r >= 0) {
                d = find_or_add(name);
                r = d ? take(d) : -ENOMEM;
        }
        (void) pthread_mutex_unlock(&mutex);
        if (r >= 0)
                *ret = d;
        return r;
}

void device_release(Device *d) {
        if (!d)
                return;
        (void) pthread_mutex_lock(&mutex);
        d->is_busy = false;
        (void) pthread_cond_broadcast(&released);
        (void) pthread_mutex_unlock(&mutex);
}
