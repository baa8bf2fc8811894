/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The registers that are on their way to the service, by the time they arrive. A list for each second; the second that
 * is being played is a heap, and only where the order matters.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FleetQueue FleetQueue;

typedef struct FleetEvent {
        uint64_t usec;
        uint32_t device;
} FleetEvent;

/** Events later than `n_seconds` are dropped. */
int fleet_queue_new(size_t n_seconds, FleetQueue **ret);
FleetQueue *fleet_queue_free(FleetQueue *q);
int fleet_queue_push(FleetQueue *q, FleetEvent event);

/** Begins `second`. The one before must be empty. */
int fleet_queue_open(FleetQueue *q, size_t second, bool in_order);
/** From here on the order of that second's events does not matter. */
void fleet_queue_disorder(FleetQueue *q);
/** The next event of that second; false: there is none. */
bool fleet_queue_pop(FleetQueue *q, FleetEvent *ret);
/** The one that comes `ahead` pops after the next, if that is easily known. */
bool fleet_queue_peek(const FleetQueue *q, size_t ahead, FleetEvent *ret);
size_t fleet_queue_size(const FleetQueue *q);
