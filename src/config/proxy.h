/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The proxy on the way to a host: from Proxy= and NoProxy=, or, where these are not set, from the environment. Everything
 * here is pure: the password of the configuration is read by whoever connects, and the environment is an argument.
 */

#include <stdbool.h>
#include <stdint.h>

#include "basic/cleanup.h"

typedef enum ProxyKind {
        PROXY_HTTP,    /* HTTP CONNECT */
        PROXY_HTTPS,   /* HTTP CONNECT, and the connection to the proxy itself is TLS */
        PROXY_SOCKS5H, /* SOCKS5; the proxy resolves the names of targets */
        _PROXY_KIND_MAX,
} ProxyKind;

typedef struct Proxy {
        ProxyKind kind;
        char *host; /* a name, or a numeric address without brackets */
        uint16_t port;
        char *user;     /* NULL: none; never shown in messages */
        char *password; /* a secret; NULL: none */
} Proxy;

Proxy *proxy_free(Proxy *p);
DEFINE_FREEP(Proxy, proxy_free)
int proxy_copy(const Proxy *p, Proxy **ret);
/* "http://proxy:3128", for messages. */
int proxy_to_text(const Proxy *p, char **ret);
/* The same with the user, but never with the password: for programs. */
int proxy_to_url(const Proxy *p, char **ret);

/* The number of bits of a numeric address; 0: it is none. */
unsigned host_parse_address(const char *host, uint8_t ret[static 16]);
/* Whether it may be the name of a host. */
bool host_is_name(const char *host);

/* The value of Proxy= that means a direct connection, whatever the environment says. */
#define PROXY_NONE "none"

/* A value of Proxy=: SCHEME://[USER@]HOST[:PORT], or "none", for which `ret` is NULL. -EINVAL: it is neither; `ret_why` is
 * the reason, which shows nothing of the value, since people write passwords into it. */
int proxy_from_url(const char *url, Proxy **ret, char **ret_why);

/* Where the configuration is silent: https_proxy, else HTTPS_PROXY; no_proxy, else NO_PROXY. NULL: not set. */
typedef struct ProxyEnvironment {
        const char *https_proxy, *no_proxy;
} ProxyEnvironment;
ProxyEnvironment proxy_environment(void);

/* Proxy= and NoProxy=. NULL: not set. */
typedef struct ProxyRules {
        const char *url;
        char *const *no_proxy;
} ProxyRules;

/* Whether one of the words covers the host: "*", a name with all below it, a numeric address, a network (10.0.0.0/8). */
bool no_proxy_covers(char *const *words, const char *host);
/* Whether a word of NoProxy= makes sense. Fails as proxy_from_url() does. */
int no_proxy_check(const char *word, char **ret_why);

/* The proxy for a host; NULL: none. -EINVAL: the environment's URL is not valid. Its password is in `ret`, but that of the
 * configuration is not. */
int proxy_choose(const ProxyRules *rules, const ProxyEnvironment *environment, const char *host, Proxy **ret,
                 char **ret_why);
