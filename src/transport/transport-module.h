/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a module of the kind "transport" holds: one way to DPS. What the ways have in common (TLS, the dialogue with proxies,
 * names, the words for failures) is the shared module "transport". So a daemon that serves what it has saved loads nothing of
 * all this, neither libssl nor libmosquitto.
 */

#include <systemd/sd-event.h>

#include "transport/transport.h"

#define TRANSPORT_SHARED_MODULE "transport"

typedef struct TransportModule {
        int (*open)(sd_event *event, World *world, TransportClass **ret);
} TransportModule;
