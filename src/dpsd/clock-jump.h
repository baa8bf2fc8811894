/* SPDX-License-Identifier: MIT */
#pragma once

/* Tells at once when somebody sets the clock, or the machine has slept. */

#include <systemd/sd-event.h>

#include "dpsd/clock.h"

typedef struct ClockJump ClockJump;

/* Calls clock_jumped(). The clock is borrowed. */
int clock_jump_new(sd_event *event, Clock *clock, ClockJump **ret);
ClockJump *clock_jump_free(ClockJump *j);
DEFINE_FREEP(ClockJump, clock_jump_free)
