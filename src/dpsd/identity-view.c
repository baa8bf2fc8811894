/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-view.h"

#include <stdio.h>

#include "basic/times.h"

uint64_t identity_next_attempt_at_usec(const Identity *i) {
        uint64_t next = i->plan.next_attempt_usec;

        return next == 0 || next == USEC_INFINITY ? 0 : world_realtime_of(i->core->world, next);
}

bool identity_is_healthy(const Identity *i) {
        const Record *m = i->keeper.record;

        return i->state == IDENTITY_ASSIGNED && m->error.id == DPS_ERROR_NONE && m->attempts == 0 &&
               !i->configuration.is_faulty;
}

const DpsError *identity_error(const Identity *i, uint64_t *ret_at_usec) {
        const Record *m = i->keeper.record;

        if (m->error.id == DPS_ERROR_NONE && i->configuration.is_faulty) {
                *ret_at_usec = i->configuration.fault_at_usec;
                return configuration_fault(&i->configuration);
        }
        *ret_at_usec = m->error_at_usec;
        return &m->error;
}

const DpsError *identity_error_at_home(const Identity *i) {
        return i->configuration.is_faulty ? configuration_fault(&i->configuration) : &i->keeper.record->error;
}

void identity_describe_next(const Identity *i, bool lasting, char *buffer, size_t size) {
        uint64_t next = identity_next_attempt_at_usec(i),
                 now = world_now_usec(i->core->world, CLOCK_REALTIME);
        char duration[DURATION_TEXT_MAX], timestamp[TIMESTAMP_TEXT_MAX];
        ClientState client = client_state(i->client);

        if (client == CLIENT_IN_FLIGHT)
                snprintf(buffer, size, "asking DPS now");
        else if (client == CLIENT_QUEUED)
                snprintf(buffer, size, "waiting for its turn");
        else if (keeper_saving(&i->keeper) != SAVING_NOTHING)
                snprintf(buffer, size, "saving what DPS has assigned");
        else if (next == 0)
                snprintf(buffer, size, "nothing is planned");
        else if (next <= now + USEC_PER_SEC)
                snprintf(buffer, size, "next try now");
        else if (lasting)
                snprintf(buffer, size, "next try at %s", format_timestamp(next, timestamp));
        else
                snprintf(buffer, size, "next try in %s", format_duration(next - now, duration));
}

void identity_describe(const Identity *i, bool lasting, char *buffer, size_t size) {
        static const char *const why[_IDENTITY_WAITING_MAX] = {
                [WAITING_THROTTLED] = "throttled",
                [WAITING_NETWORK] = "waiting for the network",
                [WAITING_CLOCK] = "waiting for the right time of day",
                [WAITING_KEY] = "waiting for its key",
        };
        const DpsError *error = &i->keeper.record->error;
        char next[DURATION_TEXT_MAX + 32];

        if (i->plan.waiting == WAITING_CONFIG) {
                snprintf(buffer, size, "its configuration cannot be used: %s",
                         identity_error_at_home(i)->message);
                return;
        }

        identity_describe_next(i, lasting, next, sizeof(next));
        if (why[i->plan.waiting])
                snprintf(buffer, size, "%s, %s", why[i->plan.waiting], next);
        else if (error->id != DPS_ERROR_NONE)
                snprintf(buffer, size, "%s (%s), %s", error->message, dps_error_id_to_string(error->id),
                         next);
        else
                snprintf(buffer, size, "%s", next);
}
