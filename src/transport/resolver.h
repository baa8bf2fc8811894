/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Names to addresses without blocking the loop: getaddrinfo() runs in the world's worker. There is one lookup in flight for
 * a name, shared by all who wait for it.
 */

#include "basic/cleanup.h"
#include "basic/world.h"

typedef struct Resolver Resolver;
typedef struct ResolverQuery ResolverQuery;

/* The addresses are text, such as "2001:db8::1", in the order in which to try them (RFC 6724). */
typedef struct ResolverAnswer {
        int error;        /* of getaddrinfo(); 0: there is at least one address */
        char **addresses; /* ends with NULL; valid during the call, and no longer than the resolver */
} ResolverAnswer;

typedef void (*resolver_handler_t)(const ResolverAnswer *answer, void *userdata);

int resolver_new(World *world, Resolver **ret);
/* Does not wait for lookups in flight. */
Resolver *resolver_free(Resolver *r);

/* The handler is called once, from the loop and never from within this call. It may free its query, others and the
 * resolver, and ask again. A numeric address needs no worker. */
int resolver_lookup(Resolver *r, const char *host, resolver_handler_t handler, void *userdata,
                    ResolverQuery **ret);
/* The handler is not called any more. To be called after an answer, too. */
ResolverQuery *resolver_query_free(ResolverQuery *q);

DEFINE_FREEP(Resolver, resolver_free)
DEFINE_FREEP(ResolverQuery, resolver_query_free)
