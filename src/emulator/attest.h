/* SPDX-License-Identifier: MIT */
#pragma once

/* Decides whether a client may log in: compares its user name, token and certificate with the enrollments. */

#include <openssl/x509.h>

#include "emulator/service.h"

/* What came with a CONNECT. TLS has proven that the client has the certificate's key, and nothing more. */
typedef struct Credentials {
        const char *client_id;
        const char *password;   /* NULL or "": none */
        X509 *certificate;      /* NULL: none */
        STACK_OF(X509) * chain; /* the certificates that came with it; NULL: none */
        bool is_mqtt;           /* where DPS documents no TPM attestation */
} Credentials;

/*
 * Logs a device in at DPS. 1: `ret` says which device it is, and by which enrollment; 0: it is refused at
 * once (CONNACK 5); -ENOMEM. In both first cases `ret_why` says what is wrong, in English, or is NULL if
 * nothing is: a device with a wrong token is logged in and refused when it registers, unless the behaviour
 * says otherwise.
 */
int attest_device(const Service *s, const Login *login, const Credentials *credentials, uint64_t now_usec,
                  Caller *ret, const char **ret_why);

/* Logs a device in at a hub, to which it must be assigned. 1: accepted; 0: refused, and `ret_why` says
 * why. */
int attest_hub(const Service *s, const Login *login, const Credentials *credentials, uint64_t now_usec,
               const char **ret_why);
