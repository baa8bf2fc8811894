/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Names to addresses without blocking the loop: getaddrinfo() in a helper thread, one lookup in flight for a name,
 * shared by all who wait for it. The threads exist only while there is something to look up.
 */

#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"

typedef struct Resolver Resolver;
typedef struct ResolverQuery ResolverQuery;

/* In the order in which to try them, as RFC 6724 has it; each as text, such as "2001:db8::1". */
typedef struct ResolverAnswer {
        int error;        /* of getaddrinfo(); 0: there is at least one address */
        char **addresses; /* ends with NULL; valid during the call */
} ResolverAnswer;

typedef void (*resolver_handler_t)(const ResolverAnswer *answer, void *userdata);

int resolver_new(sd_event *event, Resolver **ret);
/* Does not wait for threads stuck in the C library: they end by themselves. */
Resolver *resolver_free(Resolver *r);

/* The handler is called once, from the loop and never from within this call; a numeric address needs no thread. */
int resolver_lookup(Resolver *r, const char *host, resolver_handler_t handler, void *userdata,
                    ResolverQuery **ret);
/* Forgets it; the handler is not called any more. Free it in or after the handler too. */
ResolverQuery *resolver_query_free(ResolverQuery *q);

DEFINE_FREEP(Resolver, resolver_free)
DEFINE_FREEP(ResolverQuery, resolver_query_free)
