/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Threads for work that may block: one of the operations of the real world (world-event.h). A thread exists only while there
 * is work for it. What has run is told in the loop, one thing in each turn, since there may be hundreds, and somebody may
 * ask us meanwhile.
 */

#include <systemd/sd-event.h>

#include "basic/world.h"

typedef struct Worker Worker;

/* `world` is what its work belongs to. */
int worker_new(sd_event *event, World *world, Worker **ret);
/* Waits for work of WORK_DISK. A thread that is stuck in the C library or in a driver ends by itself. */
Worker *worker_free(Worker *w);
DEFINE_FREEP(Worker, worker_free)

int worker_begin(Worker *w, const WorkClass *class, void *task, Work **ret);
Work *worker_forget(Work *work);
void worker_wait(Worker *w, WorkQueue queue);
