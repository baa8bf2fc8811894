/* SPDX-License-Identifier: MIT */
#pragma once

#include "transport/transport.h"

/* To be called once before the first and once after the last connection. */
int mqtt_init(void);
void mqtt_done(void);

/* Begins to resolve and connect; returns at once. */
int mqtt_connect(const TransportTarget *target, const TransportHandlers *handlers, void *userdata,
                 Transport **ret);
