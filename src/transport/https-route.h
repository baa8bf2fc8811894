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
} HttpsRoute;

/* The name to resolve for `numbers`, if there is a proxy, is that of the proxy. `ret_lists` hold what libcurl does not copy;
 * they are freed after the handle: https_route_done(). -ENOMEM. */
typedef struct HttpsRouteLists {
        struct curl_slist *resolve, *connect_to;
} HttpsRouteLists;

int https_route_set(CURL *easy, const HttpsRoute *route, HttpsRouteLists *ret_lists);
void https_route_done(HttpsRouteLists *lists);

/* For CURLOPT_SSL_CTX_FUNCTION, which libcurl calls for a proxy that is reached by TLS as well: whether it does so now. Such
 * a proxy must not get what belongs to the target: the client's certificate, and the name to check. */
bool https_route_is_at_proxy(CURL *easy, const HttpsRoute *route);

/* Whether the transfer failed before there was a way through the proxy; if so, `ret` says why. */
bool https_route_failed(CURL *easy, CURLcode code, const HttpsRoute *route, DpsError *ret);
/* The same for a transfer that was given up because its time was over. */
bool https_route_is_silent(CURL *easy, const HttpsRoute *route, DpsError *ret);
