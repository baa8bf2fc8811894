/* SPDX-License-Identifier: MIT */
#pragma once

/* The World of one run of the daemon: simulated time, timers that come as late as they may, and work that takes a while. */

#include "basic/world.h"
#include "sim.h"

/* How long work takes, on the average; 0: hardly any time. */
typedef struct Slowness {
        uint64_t usec[_WORK_QUEUE_MAX];
} Slowness;

typedef struct MachineClock {
        uint64_t booted_usec;  /* of the simulation; CLOCK_BOOTTIME counts from here */
        int64_t realtime_usec; /* CLOCK_REALTIME at the beginning of the simulation, as this machine has it */
        bool is_synchronized;
} MachineClock;

World *sim_world_new(Sim *s, const MachineClock *clock, const Slowness *slowness, uint64_t number);
/* Work of the disk that has not run: runs the first one. False: there is none. */
bool sim_world_run_disk(World *w);
