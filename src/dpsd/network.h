/* SPDX-License-Identifier: MIT */
#pragma once

/* Notices when a route, an address or a link appears (rtnetlink). The socket exists only while somebody
 * waits. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Network Network;
typedef void (*network_handler_t)(void *userdata); /* something appeared; at most once a second */

int network_new(sd_event *event, network_handler_t handler, void *userdata, Network **ret);
Network *network_free(Network *n);
DEFINE_FREEP(Network, network_free)
void network_watch(Network *n, bool on);

/* The address of the default gateway, IPv4 before IPv6; "": there is none. -ENOMEM. */
int network_find_gateway(char **ret);
