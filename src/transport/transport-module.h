/* SPDX-License-Identifier: MIT */
#pragma once

/* What a module of the kind "transport" holds. */

#include <systemd/sd-event.h>

#include "transport/transport.h"

typedef struct TransportModule {
        int (*open)(sd_event *event, World *world, TransportClass **ret);
} TransportModule;
