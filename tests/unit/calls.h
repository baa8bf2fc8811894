/* SPDX-License-Identifier: MIT */
#pragma once

/* For what calls back from the loop: runs one until a call comes, or until none can come any more. */

#include <systemd/sd-event.h>

#include "basic/times.h"

typedef struct Calls {
        sd_event *event;
        unsigned n;
} Calls;

/* The handler; `userdata` are the Calls. */
static inline void count_call(void *userdata) {
        ((Calls *) userdata)->n++;
}

/* Lets the loop run until the next call. */
static inline void await_call(Calls *c) {
        uint64_t deadline = now_usec(CLOCK_MONOTONIC) + 20 * USEC_PER_SEC;
        unsigned n_before = c->n;

        while (c->n == n_before) {
                assert_true(now_usec(CLOCK_MONOTONIC) < deadline);
                assert_true(sd_event_run(c->event, USEC_PER_SEC) >= 0);
        }
        assert_int_equal(c->n, n_before + 1);
}

/* Lets the loop run until nothing is due any more, timers included. */
static inline void assert_quiet(Calls *c) {
        unsigned n_before = c->n;

        while (sd_event_run(c->event, 400 * USEC_PER_MSEC) > 0)
                ;
        assert_int_equal(c->n, n_before);
}
