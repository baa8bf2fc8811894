/* SPDX-License-Identifier: MIT */
#pragma once

/* The proxy on the way to a host, as Proxy=, ProxyPassword=, NoProxy= and the environment have it. */

#include "basic/world.h"
#include "config/proxy.h"
#include "config/settings.h"
#include "dps/error.h"

typedef struct RouteQuery RouteQuery;

/* `proxy` NULL: there is none on the way, or, with `error`, it cannot be used. The handler owns it. */
typedef void (*route_handler_t)(Proxy *proxy, const DpsError *error, void *userdata);

/* The proxy without its password. NULL: none. -EINVAL, with `ret_why`: the environment's is not valid. */
int route_choose(const Settings *s, const char *host, Proxy **ret, char **ret_why);

/* The same with its password, which is read here: blocks. On failure `error` is filled. */
int route_read(const Settings *s, const char *host, Proxy **ret, DpsError *error);
/* The same with its password, which is read on the worker. 1: `ret` is set at once; 0: the handler is called from the loop,
 * unless the query is freed before. On failure `error` is filled. */
int route_find(World *world, Settings *s, const char *host, route_handler_t handler, void *userdata,
               Proxy **ret, RouteQuery **ret_query, DpsError *error);
/* Frees the query, also after its handler was called. */
RouteQuery *route_query_free(RouteQuery *q);
