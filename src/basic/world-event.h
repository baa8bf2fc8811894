/* SPDX-License-Identifier: MIT */
#pragma once

/* The real world: clocks and random numbers of the kernel, timers of an sd_event loop, work in threads. */

#include <systemd/sd-event.h>

#include "basic/world.h"

int world_event_new(sd_event *event, World **ret);
