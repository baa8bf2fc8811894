/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Memory that runs out. The program is linked so that the calls of malloc() and its like in dpsd's own code come here; those
 * of libraries do not. Only what the core does can fail, and the simulation's own memory never does.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *sim_alloc(size_t size); /* zeroed */
void *sim_realloc(void *p, size_t size);
char *sim_copy(const char *text);
char *sim_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_free(void *p);

/* The core is at work from here to core_leave(); they nest. */
void core_enter(void);
void core_leave(void);
/* The core has called the simulation, which must not fail: to be given back to core_resume(). */
unsigned core_pause(void);
void core_resume(unsigned depth);

/* From the k-th allocation of the core on, `n` fail; 0: none. */
void memory_run_out(uint64_t after, unsigned n);
/* How many have failed since memory_run_out(). */
unsigned memory_n_failed(void);
bool memory_may_run_out(void);
