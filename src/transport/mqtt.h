/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "transport/transport.h"

/* The class "mqtt". Opening it is cheap: libmosquitto and TLS are initialized by the first connection. All of its
 * transports must have been freed before it is closed. */
int mqtt_transport_open(sd_event *event, World *world, TransportClass **ret);
