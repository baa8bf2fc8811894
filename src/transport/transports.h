/* SPDX-License-Identifier: MIT */
#pragma once

/* The ways to DPS by name, so that whoever uses one need not know which there are. */

#include <systemd/sd-event.h>

#include "transport/transport.h"

/* -ENOENT: there is no transport of this name. */
int transport_open(const char *name, sd_event *event, World *world, TransportClass **ret);
