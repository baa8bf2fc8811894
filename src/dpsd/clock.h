/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tells whether the time of day can be trusted. A clock before the floor is wrong. The floor is the later of
 * the build time and the last confirmed time, which is kept in the state directory. Only confirmed time
 * raises it, so one wrong reading cannot lock us out. A synchronised clock is right, and the floor falls to
 * it if an earlier time was confirmed while the clock was ahead.
 *
 * When the clock is set, the times that were noted by it are corrected.
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
/* How far the clock is behind the floor; 0 if it is plausible. A synchronised clock always is. */
uint64_t clock_behind_usec(const Clock *c);
/* The time was confirmed, by the kernel's synchronisation or by an answer over verified TLS. Raises the
 * floor; only synchronisation also lowers it. A rising floor is written to disk at most once a day. */
void clock_confirm(Clock *c);
/* The folder of the state is another one now. */
void clock_write_again(Clock *c);

/* The handler calls these for each time (CLOCK_REALTIME; 0: none) that was noted, so that it is right by the present
 * clock. Outside of the handler they only look for times in the future.
 *
 * A planned time, to which the same wait remains as before. */
void clock_follow(const Clock *c, uint64_t *planned_usec);
/* The time of an event. One that was noted since the boot follows the clock. One that lies in the future of a synchronised
 * clock was noted before the boot, by a clock that was ahead; how far ahead it was is returned, or 0. */
uint64_t clock_correct(Clock *c, uint64_t *past_usec);

/* Times of this boot that were out of reach when the clock was set follow later: between these two calls, as if it had been set
 * just now. They were noted when the clocks were at these times. Returns what clock_end_late() is to be given. */
int64_t clock_begin_late(Clock *c, uint64_t realtime_usec, uint64_t boottime_usec);
void clock_end_late(Clock *c, int64_t before);

/* The clock was set, as ClockJump noticed. Calls the handler with CLOCK_JUMPED. */
void clock_jumped(Clock *c);
/* The kernel sends no event for synchronisation, so it is polled: every few seconds while somebody waits for it, and every
 * minute while the clock is behind the floor or behind a time that was noted. */
void clock_watch_synchronization(Clock *c, bool on);
