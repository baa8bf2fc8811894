/* SPDX-License-Identifier: MIT */
#pragma once

/* Requests of callers that wait for an attempt. */

#include <stdint.h>

/* A request that somebody waits for. It ends with an attempt. */
typedef struct Job {
        struct Job *next;
        uint64_t id;
} Job;

/* Jobs in the order in which they were added. A plain value that owns them; jobs_done() frees it. */
typedef struct Jobs {
        Job *first;
} Jobs;

/* -ENOMEM. */
int jobs_add(Jobs *j, uint64_t id);
/* Appends the jobs of `others`, and takes ownership of them. */
void jobs_join(Jobs *j, Jobs others);
/* Empties `j`, and returns its jobs. */
Jobs jobs_take(Jobs *j);
void jobs_done(Jobs *j);
