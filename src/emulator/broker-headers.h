/* SPDX-License-Identifier: MIT */
#pragma once

/* What Mosquitto offers plugins. Since 2.1, mosquitto.h has all of it, and the older headers warn. */

#include <mosquitto.h>
#if !__has_include(<mosquitto/broker_plugin.h>)
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#endif
