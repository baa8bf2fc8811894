/* SPDX-License-Identifier: MIT */
#pragma once

/* Who is at the door: user name, token and certificate against the enrollments. */

#include <openssl/x509.h>

#include "emulator/service.h"
#include "emulator/wire.h"

/* What came with a CONNECT. The certificate is proven by TLS to be the peer's, and nothing more. */
typedef struct Credentials {
        const char *client_id;
        const char *password;   /* NULL or "": none */
        X509 *certificate;      /* NULL: none */
        STACK_OF(X509) * chain; /* what came with it, NULL: nothing */
} Credentials;

/*
 * Finds out for whom a device of DPS is taken: 1, and `ret` is set, or 0: it is refused at once (CONNACK 5). In both
 * cases `ret_why` tells what is wrong, for people, and is NULL if nothing is. -ENOMEM.
 */
int attest_device(const Service *s, const Login *login, const Credentials *credentials, uint64_t now_usec,
                  Caller *ret, const char **ret_why);

/* The same for the hub's door, which is open to those who are assigned there: 1 or 0. */
int attest_hub(const Service *s, const Login *login, const Credentials *credentials, uint64_t now_usec,
               const char **ret_why);
