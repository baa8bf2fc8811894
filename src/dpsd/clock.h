/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tells whether the time of day can be trusted. A clock before the floor is wrong. The floor is the later of
 * the build time and the last confirmed time, which is kept in the state directory. Only confirmed time
 * raises it, so one wrong reading cannot lock us out.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"
#include "basic/folder.h"
#include "basic/world.h"

typedef struct Clock Clock;

typedef enum ClockEvent {
        CLOCK_JUMPED,       /* the clock was set, or the machine has slept */
        CLOCK_SYNCHRONIZED, /* the kernel reports synchronisation now, and did not before */
} ClockEvent;

typedef void (*clock_handler_t)(ClockEvent event, void *userdata);

/* `state` is the folder of the floor's file (".clock"), borrowed; NULL: none. */
int clock_new(World *w, Folder *state, clock_handler_t handler, void *userdata, Clock **ret);
/* Blocks until a write of the floor that is under way has ended. */
Clock *clock_free(Clock *c);
DEFINE_FREEP(Clock, clock_free)

bool clock_is_plausible(const Clock *c);
bool clock_is_synchronized(const Clock *c);
/* How far the clock is behind the floor; 0 if it is plausible. */
uint64_t clock_behind_usec(const Clock *c);
/* The time was confirmed, by the kernel's synchronisation or by an answer over verified TLS. Raises the
 * floor, and writes it to disk at most once a day. */
void clock_confirm(Clock *c);
/* The clock was set, as ClockJump noticed. Calls the handler with CLOCK_JUMPED. */
void clock_jumped(Clock *c);
/* The kernel sends no event for synchronisation, so it is polled every few seconds, but only while somebody
 * waits for it. */
void clock_watch_synchronization(Clock *c, bool on);
