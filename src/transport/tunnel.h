/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The dialogue with a proxy that makes a plain connection a tunnel to the target: SOCKS5 (RFC 1928, 1929) and HTTP CONNECT
 * (RFC 9110), the latter without a log-in or with Basic. It does no I/O: its owner carries the bytes. libmosquitto has
 * SOCKS5 as well, but it crashes when a proxy asks for a log-in that was not offered, and reports all failures alike.
 */

#include <stddef.h>

#include "config/proxy.h"
#include "dps/error.h"

typedef struct Tunnel Tunnel;

typedef enum TunnelState {
        TUNNEL_SENDS, /* tunnel_output() is to be sent */
        TUNNEL_READS, /* up to tunnel_wanted() bytes are to be received */
        TUNNEL_OPEN,
        TUNNEL_FAILED, /* tunnel_error() */
} TunnelState;

/* Not for PROXY_HTTPS. Everything is copied. `host` is a name or a numeric address. */
int tunnel_new(const Proxy *proxy, const char *host, uint16_t port, Tunnel **ret);
Tunnel *tunnel_free(Tunnel *t);
DEFINE_FREEP(Tunnel, tunnel_free)

TunnelState tunnel_state(const Tunnel *t);
const char *tunnel_output(const Tunnel *t, size_t *ret_size);
void tunnel_sent(Tunnel *t, size_t size);
size_t tunnel_wanted(const Tunnel *t);
/* The bytes are of the proxy, so they may be anything. */
void tunnel_received(Tunnel *t, const void *bytes, size_t size);
const DpsError *tunnel_error(const Tunnel *t);
