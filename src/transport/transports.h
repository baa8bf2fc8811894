/* SPDX-License-Identifier: MIT */
#pragma once

/* The ways to DPS by name, so that whoever uses one need not know which there are. Each is a module. */

#include <systemd/sd-event.h>

#include "basic/cleanup.h"
#include "transport/transport.h"

int transports_new(sd_event *event, World *world, Transports **ret);
Transports *transports_free(Transports *t);
DEFINE_FREEP(Transports, transports_free)
