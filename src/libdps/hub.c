/* SPDX-License-Identifier: MIT */
#include "dps/hub.h"

#include <assert.h>
#include <errno.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"

/*
 * Each registration that a hub's failures caused makes the next wait longer, whatever came of it. DPS may answer with the
 * same hub. It may name another one each time, where the device is refused too. A program that connects afterwards proves
 * nothing: some hubs accept the connection and refuse the device later.
 */

#define FAILURES_MAX 10                         /* in a row … */
#define FAILING_MAX_USEC (15 * USEC_PER_MINUTE) /* … or for this long: then the device registers again */
#define WAIT_FIRST_USEC USEC_PER_MINUTE         /* Microsoft asks for at least a minute between attempts */
#define WAIT_MAX_USEC USEC_PER_DAY

static const char *const words[_DPS_HUB_FAILURE_MAX] = {
        [DPS_HUB_FAILURE_AUTH] = "auth",           [DPS_HUB_FAILURE_NOT_FOUND] = "not-found",
        [DPS_HUB_FAILURE_THROTTLED] = "throttled", [DPS_HUB_FAILURE_SERVER] = "server",
        [DPS_HUB_FAILURE_NETWORK] = "network",
};

int dps_hub_failure_from_string(const char *word, DpsHubFailure *ret) {
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (streq(word, words[i])) {
                        *ret = (DpsHubFailure) i;
                        return 0;
                }
        return -EINVAL;
}

const char *dps_hub_failure_to_string(DpsHubFailure kind) {
        assert(kind < _DPS_HUB_FAILURE_MAX);
        return words[kind];
}

static uint64_t wait_usec(uint32_t n_registrations) {
        uint64_t usec = WAIT_FIRST_USEC;

        for (; n_registrations > 0 && usec < WAIT_MAX_USEC; n_registrations--)
                usec *= 2;
        return MIN(usec, WAIT_MAX_USEC);
}

static void count(uint32_t *n) {
        if (*n < UINT32_MAX)
                (*n)++;
}

static bool wants_registration(const DpsHubHealth *h, DpsHubFailure kind, uint64_t now_usec) {
        switch (kind) {
        case DPS_HUB_FAILURE_AUTH:
        case DPS_HUB_FAILURE_NOT_FOUND:
                return true;
        case DPS_HUB_FAILURE_SERVER:
        case DPS_HUB_FAILURE_NETWORK:
                return h->failures >= FAILURES_MAX ||
                       usec_sub(now_usec, h->failing_since_usec) >= FAILING_MAX_USEC;
        case DPS_HUB_FAILURE_THROTTLED:
        case _DPS_HUB_FAILURE_MAX:
                return false;
        }
        abort();
}

bool dps_hub_health_on_failure(DpsHubHealth *h, DpsHubFailure kind, uint64_t now_usec) {
        /* A hub that throttles works: this neither begins nor ends a row of failures. */
        if (kind == DPS_HUB_FAILURE_THROTTLED)
                return false;

        if (h->failures == 0) {
                h->failing_since_usec = now_usec;
                /* Some programs never report a connection: a day without failures means the same. */
                if (now_usec >= usec_add(h->not_before_usec, USEC_PER_DAY))
                        h->n_registrations = 0;
        }
        count(&h->failures);

        if (!wants_registration(h, kind, now_usec) || now_usec < h->not_before_usec)
                return false;

        h->not_before_usec = usec_add(now_usec, wait_usec(h->n_registrations));
        h->is_asked_about = true;
        return true;
}

void dps_hub_health_on_connected(DpsHubHealth *h) {
        h->failures = 0;
}

void dps_hub_health_on_assigned(DpsHubHealth *h, uint64_t now_usec) {
        h->failures = 0;
        if (!h->is_asked_about)
                return;

        h->is_asked_about = false;
        count(&h->n_registrations);
        h->not_before_usec = usec_add(now_usec, wait_usec(h->n_registrations));
}
