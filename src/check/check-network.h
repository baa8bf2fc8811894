/* SPDX-License-Identifier: MIT */
#pragma once

/* A connection that a check makes, with blocking calls. */

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "check/check.h"
#include "transport/tls.h"

typedef struct Peer {
        const CheckSubject *subject;
        const char *about, *about_tls; /* of the rows */
        const char *host;              /* whose certificate it must have … */
        const char *shown;             /* … and as it is shown */
        char *const *addresses;        /* NULL: those of the host */
        uint16_t port;
        const Proxy *proxy;  /* NULL: none */
        CheckResult without; /* if it cannot be reached */
        bool is_quiet;       /* no row says that it accepts connections */
} Peer;

/* Reads the CA files. `x` NULL: no certificate is shown. Fills `error` on failure. */
int peer_tls_new(const CheckSubject *s, const char *host, const ClientCertificate *x, TlsContext **ret,
                 DpsError *error);
int peer_wait(int fd, short events, uint64_t until_usec);
/* A non-blocking socket, or -1: a row says why. */
int peer_connect(Checks *c, const Peer *p);
/* Negative: a row says why. `ret` may be NULL. */
int peer_begin_tls(Checks *c, const Peer *p, TlsContext *tls, int fd, SSL **ret);
