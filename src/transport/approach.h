/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a connection needs before its first socket: a TLS context, and the addresses of the names to connect to. CA files and
 * name servers may be slow, so that both come from the worker.
 */

#include "transport/resolver.h"
#include "transport/tls-cache.h"
#include "transport/transport.h"

/* What the approaches of a class of transports share. */
typedef struct Approaches {
        World *world;
        Resolver *resolver; /* NULL: there was none yet */
        TlsCache tls_cache;
        bool is_rested; /* nothing is left that approaches_rest() could free */
} Approaches;

void approaches_init(Approaches *a, World *world);
/* Frees what can be made again. */
void approaches_rest(Approaches *a);
/* All approaches must be freed. */
void approaches_done(Approaches *a);

/* `error` NULL: there is at least one address. */
typedef void (*approach_handler_t)(const DpsError *error, void *userdata);

typedef struct Approach {
        char *host;
        uint16_t port;
        Proxy *proxy; /* NULL: none */
        char *asked;  /* what a proxy is asked for: the host, or an address in its place */
        /* From the answer on: */
        TlsContext *tls;  /* after approach_read_bundle() it may be another one */
        char **addresses; /* numeric: the proxy's or, without one, the target's */

        /* Private: */
        Approaches *shared;
        char **names; /* to resolve, in order */
        size_t n_asked;
        STACK_OF(X509) * chain;
        EVP_PKEY *key;
        char **ca_files;
        Timer *timer;
        TlsQuery *reading;
        ResolverQuery *resolving;
        bool with_bundle; /* it has been asked for */
        DpsError error;   /* why a name cannot be resolved */
        approach_handler_t handler;
        void *userdata;
} Approach;

/* The handler is called once, from the loop, and may free the approach. All names are resolved; one that cannot be does not
 * matter if another one can. -ENOMEM. */
int approach_new(Approaches *shared, const TransportTarget *target, approach_handler_t handler,
                 void *userdata, Approach **ret);
Approach *approach_free(Approach *a);
DEFINE_FREEP(Approach, approach_free)

/* After an answer, and a connection that lacks the system's bundle: has the bundle read, and then the handler is called once
 * more. False: it was read before, or there is no memory for that. */
bool approach_read_bundle(Approach *a);

/* For errors: "127.0.0.1:8883 (localhost)", "[::1]:8883", "localhost:8883 through proxy socks5h://proxy:1080". `address` NULL:
 * "proxy socks5h://proxy:1080". Replaces `peer`. */
int approach_name_peer(const Approach *a, const char *address, char **peer);
