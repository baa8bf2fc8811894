/* SPDX-License-Identifier: MIT */
#pragma once

/* A request of D-Bus without all that it needs not have: header fields that nobody knows, and file descriptors. */

#include <stddef.h>
#include <systemd/sd-bus.h>

/* How many bytes its arguments have, about. -E2BIG: more than `max`; -EBADMSG: no method of ours has arguments of these types. */
int request_measure(sd_bus_message *request, size_t max, size_t *ret);
/* A copy with the arguments, which can be answered. */
int request_copy(sd_bus_message *request, sd_bus_message **ret);
