/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * When failures at the hub are a reason to register again: at once after 401, 403 and 404; never after 429;
 * after server and network failures once there were 10 in a row, or once they have lasted for 15 minutes
 * (Microsoft, "Manage device reconnections to create resilient applications"). If the hub that DPS then
 * assigns, the same or another, refuses as well, the wait until the next registration doubles each time.
 *
 * Times are microseconds of any one clock that never goes back.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum DpsHubFailure {
        DPS_HUB_FAILURE_AUTH,      /* "auth": 401, 403, CONNACK 4 or 5 */
        DPS_HUB_FAILURE_NOT_FOUND, /* "not-found": 404 */
        DPS_HUB_FAILURE_THROTTLED, /* "throttled": 429 */
        DPS_HUB_FAILURE_SERVER,    /* "server": 5xx, CONNACK 3 */
        DPS_HUB_FAILURE_NETWORK,   /* "network" */
        _DPS_HUB_FAILURE_MAX,
} DpsHubFailure;

/** 0, or -EINVAL: there is no such word. */
int dps_hub_failure_from_string(const char *word, DpsHubFailure *ret);
/** Its word. Static text. */
const char *dps_hub_failure_to_string(DpsHubFailure kind);

/** What the programs on this machine reported about the hubs of a device. A plain value, all 0 at first. */
typedef struct DpsHubHealth {
        uint32_t failures;           /* in a row */
        uint64_t failing_since_usec; /* the first of them */
        uint32_t n_registrations;    /* that failures caused, without a day of quiet between them */
        bool is_asked_about;         /* a registration that failures caused is under way */
        uint64_t not_before_usec;    /* failures cause no registration before then */
} DpsHubHealth;

/** A program reported a failure. True: register now; the next one is then not due before a wait. */
bool dps_hub_health_on_failure(DpsHubHealth *h, DpsHubFailure kind, uint64_t now_usec);
/** A program reported that the hub let it in. This ends the row of failures, but shortens no wait. */
void dps_hub_health_on_connected(DpsHubHealth *h);
/** DPS assigned a hub. Its failures are counted anew. If those of the last one were the reason to register, the next wait is
 * twice as long: only time makes it shorter again. */
void dps_hub_health_on_assigned(DpsHubHealth *h, uint64_t now_usec);

#ifdef __cplusplus
}
#endif
