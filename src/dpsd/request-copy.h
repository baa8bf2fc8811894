/* SPDX-License-Identifier: MIT */
#pragma once

/* Copies of D-Bus requests without what we do not need: unknown header fields and file descriptors. */

#include <stddef.h>
#include <systemd/sd-bus.h>

/* How many bytes its arguments have, about. -E2BIG: more than `max`; -EBADMSG: no method of ours has arguments of these types. */
int request_measure(sd_bus_message *request, size_t max, size_t *ret);
/* A copy with the arguments, which can be answered. */
int request_copy(sd_bus_message *request, sd_bus_message **ret);
