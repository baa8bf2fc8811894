/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How libcurl gets to the target: to addresses that our resolver found, directly or through a proxy, and why it did not get
 * through that. Without it libcurl would look up names in a thread that it then waits for, and take its proxy from the
 * environment.
 */

#include <curl/curl.h>
#include <openssl/ssl.h>

#include "config/proxy.h"
#include "dps/error.h"

/* All borrowed, and must outlive the transfer. */
typedef struct HttpsRoute {
        const char *host; /* of the URL */
        uint16_t port;
        const Proxy *proxy;   /* NULL: none */
        const char *asked;    /* what a proxy is asked for: `host`, or an address in its place */
        char *const *numbers; /* numeric addresses of the proxy or, without one, of the target */
        bool is_through;      /* TLS with the target has begun */
} HttpsRoute;

/* The name to resolve for `numbers`, if there is a proxy, is that of the proxy. `ret_lists` hold what libcurl does not copy;
 * they are freed after the handle: https_route_done(). -ENOMEM. */
typedef struct HttpsRouteLists {
        struct curl_slist *resolve, *connect_to;
} HttpsRouteLists;

int https_route_set(CURL *easy, HttpsRoute *route, HttpsRouteLists *ret_lists);
void https_route_done(HttpsRouteLists *lists);

/* To be called by CURLOPT_SSL_CTX_FUNCTION, for every route. True: this TLS is with the proxy itself, which must not get what
 * belongs to the target: the client's certificate, and the name to check. libcurl checks the proxy's name. */
bool https_route_greets_proxy(CURL *easy, HttpsRoute *route);

/* Whether the transfer failed before there was a way through the proxy; if so, `ret` says why. CURLE_OPERATION_TIMEDOUT may
 * be the caller's own deadline. */
bool https_route_failed(CURL *easy, CURLcode code, const HttpsRoute *route, DpsError *ret);
