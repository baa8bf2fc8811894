/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Threads for work that may block, which is one of the operations of the real world (world-event.h). A thread
 * exists only while there is work for it, and a moment longer. Results are delivered in the loop, one in each
 * turn, because there may be hundreds, and requests may arrive meanwhile.
 */

#include <systemd/sd-event.h>

#include "basic/world.h"

typedef struct Worker Worker;

/* `world` is the one that the work belongs to. */
int worker_new(sd_event *event, World *world, Worker **ret);
/* Blocks until the work of WORK_DISK is done. A thread that is stuck in the C library or in a driver ends by
 * itself later. */
Worker *worker_free(Worker *w);
DEFINE_FREEP(Worker, worker_free)

/* Whether a thread of any worker still runs, even of one that was freed. If so, the program must end by
 * _exit(): at a normal end, libraries free what the thread uses. */
bool worker_has_threads(void);

int worker_begin(Worker *w, const WorkClass *class, void *task, Work **ret);
Work *worker_forget(Work *work);
void worker_wait(Worker *w, WorkQueue queue);
