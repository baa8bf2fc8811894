/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * When trouble at the hub is a reason to ask DPS again: at once for 401, 403, 404; never for 429; for server and network
 * trouble after 10 failures in a row or 15 minutes of them. And never in a loop: when DPS answers with the same hub and
 * the hub still refuses, the wait before asking again doubles.
 */

#include <stdbool.h>
#include <stdint.h>

typedef enum DpsHubFailure {
        DPS_HUB_FAILURE_AUTH,      /* "auth": 401, 403, CONNACK 4 or 5 */
        DPS_HUB_FAILURE_NOT_FOUND, /* "not-found": 404 */
        DPS_HUB_FAILURE_THROTTLED, /* "throttled": 429 */
        DPS_HUB_FAILURE_SERVER,    /* "server": 5xx, CONNACK 3 */
        DPS_HUB_FAILURE_NETWORK,   /* "network" */
        _DPS_HUB_FAILURE_MAX,
} DpsHubFailure;

int dps_hub_failure_from_string(const char *word, DpsHubFailure *ret);
const char *dps_hub_failure_to_string(DpsHubFailure kind);

/** What the programs on the box said of one hub. A plain value, all 0 at first. */
typedef struct DpsHubHealth {
        uint32_t failures; /* in a row */
        uint64_t failing_since_usec;
        uint32_t fruitless;       /* registrations in a row that gave the same hub, and it still refused */
        bool is_asked_about;      /* such a registration is under way */
        uint64_t not_before_usec; /* no registration for the hub's sake sooner */
} DpsHubHealth;

/** A failure was reported: true if it is time to register again, which then counts as done. */
bool dps_hub_health_on_failure(DpsHubHealth *h, DpsHubFailure kind, uint64_t now_usec);
/** A program got through: this ends the row of failures, and no wait. */
void dps_hub_health_on_connected(DpsHubHealth *h);
/** DPS answered: with another hub all is forgotten, with the same one the next wait is twice as long. */
void dps_hub_health_on_assigned(DpsHubHealth *h, bool moved, uint64_t now_usec);
