/* SPDX-License-Identifier: MIT */
#pragma once

/* Notices at once that the clock was set, or that the machine has slept. */

#include <systemd/sd-event.h>

#include "dpsd/clock.h"

typedef struct ClockJump ClockJump;

/* Calls clock_jumped() for each jump. The clock is borrowed. */
int clock_jump_new(sd_event *event, Clock *clock, ClockJump **ret);
ClockJump *clock_jump_free(ClockJump *j);
DEFINE_FREEP(ClockJump, clock_jump_free)
