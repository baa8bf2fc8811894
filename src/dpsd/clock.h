/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whether the time of day can be trusted. Behind max(build time, floor) it is wrong; the floor is kept in the state
 * directory and rises only with confirmed time, so that one bad moment cannot lock us out.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/folder.h"
#include "basic/world.h"

typedef struct Clock Clock;

typedef enum ClockEvent {
        CLOCK_JUMPED,       /* somebody set it, or the machine slept */
        CLOCK_SYNCHRONIZED, /* the kernel says so now, and did not before */
} ClockEvent;

typedef void (*clock_handler_t)(ClockEvent event, void *userdata);

/* `state` is the folder of the floor (file ".clock"), borrowed; NULL: none. */
int clock_new(World *w, Folder *state, clock_handler_t handler, void *userdata, Clock **ret);
/* Waits until the floor is written, where that is under way. */
Clock *clock_free(Clock *c);
DEFINE_FREEP(Clock, clock_free)

bool clock_is_plausible(const Clock *c);
bool clock_is_synchronized(const Clock *c);
/* How far behind the floor; 0 if plausible. */
uint64_t clock_behind_usec(const Clock *c);
/* The time was confirmed (kernel synchronised, or an answer over verified TLS): the floor rises, written to disk
 * at most once a day. */
void clock_confirm(Clock *c);
/* Somebody set the clock (clock-jump.h tells): the handler is called with CLOCK_JUMPED. */
void clock_jumped(Clock *c);
/* Synchronisation raises no event in the kernel: it is looked for every few seconds, only while somebody waits. */
void clock_watch_synchronization(Clock *c, bool on);
