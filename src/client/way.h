/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which transport an attempt uses. Pure. With Transport=auto MQTT comes first. After two attempts in a row that
 * could not connect, the other way is tried, and after two more the first one again. An answer of DPS, even a
 * refusal, shows that the way is open, so the way stays. This is so even if the memory of an earlier
 * registration becomes too old meanwhile.
 */

#include <stdbool.h>

#include "config/settings.h"
#include "dps/error.h"

#define WAY_FAILURES_MAX 2

typedef struct WayFacts {
        TransportChoice wish;   /* Transport= */
        TransportChoice worked; /* on this network, not long ago; TRANSPORT_AUTO: nothing is known */
        TransportChoice
                last; /* the way of the attempt before, on this network; TRANSPORT_AUTO: there was none */
        unsigned failures;     /* attempts of that way in a row that could not connect */
        bool wants_challenge;  /* TPM attestation, which MQTT is not known to carry */
        bool mqtt_is_barred;   /* by a proxy that is reached by TLS */
        bool https_is_missing; /* the module is not installed */
} WayFacts;

/* TRANSPORT_MQTT or TRANSPORT_HTTPS. */
TransportChoice way_choose(const WayFacts *f);
/* Whether the attempt ended before there was a connection to DPS that could carry a request. */
bool way_is_blocked(const DpsError *error);
