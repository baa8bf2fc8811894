/* SPDX-License-Identifier: MIT */
#pragma once

/* Client certificates and their keys, in files. */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "config/settings.h"
#include "dps/error.h"

/* A client certificate with its chain, leaf first, and its key. */
typedef struct ClientCertificate {
        STACK_OF(X509) * chain;
        EVP_PKEY *key;
        char *pem;           /* the chain as text */
        char *key_pem;       /* only with ShareKey=yes and a key file; a secret */
        char *key_reference; /* the path of the key */
        char id[65];         /* SHA-256 of the leaf, hex */
        char *common_name;
        uint64_t not_after_usec, not_before_usec;
} ClientCertificate;

/* Loads what two references of [Attestation] name, and checks it: the key is the leaf's, the leaf's common name is the
 * registration id. `error` as in attestation.h. */
int client_certificate_load(const Settings *s, const char *certificate, const char *private_key,
                            const char *registration_id, ClientCertificate *ret, DpsError *error);
void client_certificate_done(ClientCertificate *c);
