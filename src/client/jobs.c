/* SPDX-License-Identifier: MIT */
#include "client/jobs.h"

#include <errno.h>
#include <stdlib.h>

static Job **jobs_end(Jobs *j) {
        Job **end = &j->first;

        while (*end)
                end = &(*end)->next;
        return end;
}

int jobs_add(Jobs *j, uint64_t id) {
        Job *job = calloc(1, sizeof(*job));

        if (!job)
                return -ENOMEM;
        job->id = id;
        *jobs_end(j) = job;
        return 0;
}

void jobs_join(Jobs *j, Jobs others) {
        *jobs_end(j) = others.first;
}

Jobs jobs_take(Jobs *j) {
        Jobs jobs = *j;

        *j = (Jobs){ 0 };
        return jobs;
}

void jobs_done(Jobs *j) {
        Job *next;

        for (Job *job = j->first; job; job = next) {
                next = job->next;
                free(job);
        }
        *j = (Jobs){ 0 };
}
