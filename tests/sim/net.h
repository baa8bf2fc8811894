/* SPDX-License-Identifier: MIT */
#pragma once

/* The way to DPS, a TransportClass, and the emulator's service at its end. */

#include "sim.h"
#include "transport/transport.h"

typedef struct Net Net;

typedef enum NetFault {
        NET_FAULT_NONE,
        NET_FAULT_DNS,
        NET_FAULT_UNREACHABLE,
        NET_FAULT_REFUSED,
        NET_FAULT_SILENT,      /* nothing comes back, at whatever step */
        NET_FAULT_LOSSY,       /* connections break at any step */
        NET_FAULT_SLOW,        /* seconds for each message */
        NET_FAULT_INTERCEPTED, /* somebody else answers, with another certificate */
        _NET_FAULT_MAX,
} NetFault;

Net *net_new(Sim *s);
Net *net_free(Net *n);

/* For one run of the daemon. */
TransportClass *net_open(Net *n, TransportChoice way);

/* Of the whole network, whichever way is taken. */
void net_set_fault(Net *n, NetFault fault);
/* What a firewall does with one way. */
/* Each register moves the device to another hub. */
void net_set_moving(Net *n, bool on);
/* So many bytes more in each answer. */
void net_set_padding(Net *n, size_t size);
void net_block(Net *n, TransportChoice way, NetFault fault);

/* ---- the service's side ---- */

/* As `dps-emulator ctl set`: "provisioningStatus=disabled"; `id` "*" is the service. */
void net_set(Net *n, const char *id, const char *assignment);
/* As `dps-emulator ctl script`. */
void net_script(Net *n, const char *id, const char *text);
void net_clear_scripts(Net *n);
/* All as it was at the beginning. */
void net_mend(Net *n);
uint64_t net_service_usec(const Net *n);
