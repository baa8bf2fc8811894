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
/* ---- work that hangs (hang.c) ---- */

/* The work on WORK_CHIPS that runs in this moment; NULL: none. */
const void *sim_world_running(void);
/* Whether any work runs in this moment. */
bool sim_world_is_running(void);
/* Its call does not return before this time; USEC_INFINITY: before sim_world_go_on(). Then it is run again, which stands for a
 * return. What the present run has done does not count. Returns the time of now. */
uint64_t sim_world_hang(const void *running, uint64_t until_usec);
void sim_world_go_on(World *w);
/* How many threads are in such calls, or wait for their end. */
unsigned sim_world_n_hanging(const World *w);
/* Work that was begun and has not been told, but for what a thread has alone because nobody wants its result any more: threads are
 * few, and those that hang are counted above. */
unsigned sim_world_n_works(const World *w);

/* Work of the disk that has not run: runs the first one. False: there is none. */
bool sim_world_run_disk(World *w);
