/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"

/* What somebody on the box asks for, and what programs tell of the hub. Every trigger has its limit. */

#define REQUEST_BURST 5
#define REQUEST_INTERVAL_USEC USEC_PER_MINUTE

void identity_finish_jobs(Identity *i, bool ok, const char *error) {
        for (size_t k = 0; k < i->n_jobs; k++)
                manager_job_finished(i->manager, i, i->jobs[k], ok, error ?: "");
        free(i->jobs);
        i->jobs = NULL;
        i->n_jobs = 0;
}

int identity_reprovision(Identity *i, uint64_t *ret_job, uint64_t *ret_retry_usec) {
        uint64_t *jobs;

        if (!i->settings)
                return -EINVAL;
        if (!ratelimit_take(&i->requests, REQUEST_BURST, REQUEST_INTERVAL_USEC, now_usec(CLOCK_BOOTTIME),
                            ret_retry_usec))
                return -EBUSY;
        if (i->trouble != WAITING_NOTHING)
                identity_reconsider(i);
        if (i->trouble != WAITING_NOTHING)
                return i->trouble == WAITING_KEY ? -ENOKEY : -EINVAL;

        jobs = reallocarray(i->jobs, i->n_jobs + 1, sizeof(*jobs));
        if (!jobs)
                return -ENOMEM;
        i->jobs = jobs;
        *ret_job = i->jobs[i->n_jobs++] = ++i->manager->last_job;

        identity_log(i, LOG_INFO, "asked to provision again");
        i->begin_at_usec = 0;
        identity_begin(i, REASON_REQUEST);
        identity_update(i);
        return 0;
}

int identity_report_hub_failure(Identity *i, uint64_t generation, DpsHubFailure kind, uint32_t code,
                                const char *detail, bool *ret_registering,
                                uint64_t *ret_next_attempt_at_usec) {
        const Assignment *a = i->memory->assignment;
        bool is_time;

        if (!a)
                return -ENODATA;
        if (generation != a->generation)
                return -ESTALE;

        is_time = dps_hub_health_on_failure(&i->hub, kind, now_usec(CLOCK_BOOTTIME));
        identity_log(i, is_time ? LOG_NOTICE : LOG_DEBUG,
                     "%s: a program was refused there (%s, %" PRIu32 "%s%s)%s", a->hub,
                     dps_hub_failure_to_string(kind), code, isempty(detail) ? "" : ": ", detail ?: "",
                     is_time ? "; DPS is to be asked" : "");
        if (is_time)
                identity_begin(i, REASON_HUB);
        identity_update(i);

        *ret_registering = i->registration || i->begin_at_usec > 0;
        *ret_next_attempt_at_usec = identity_next_attempt_at_usec(i);
        return 0;
}

int identity_report_hub_connected(Identity *i, uint64_t generation) {
        const Assignment *a = i->memory->assignment;

        if (!a)
                return -ENODATA;
        if (generation != a->generation)
                return -ESTALE;

        dps_hub_health_on_connected(&i->hub);
        i->hub_last_seen_at_usec = now_usec(CLOCK_REALTIME);
        identity_update(i);
        return 0;
}
