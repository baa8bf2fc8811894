/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How an identity proves who it is: the one place that knows what keys and certificates are. Secrets are read when
 * they are used and wiped afterwards. All failures fill `error`: id `config` where the file or what is in it is wrong
 * (unreadable, too open, bad base64, key and certificate differ), id `key` where it is not there yet.
 */

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/settings.h"
#include "dps/error.h"

/* How many credentials the method has, to be tried in turn when DPS refuses one. */
unsigned attestation_count(const Settings *s, Method method);

/* The method to use: `kept` if it is still possible, else the first possible one of Method=. Possible is one whose
 * keys this build can use and at least one credential of which can be loaded. Pass _METHOD_MAX for no `kept`. */
int attestation_choose(const Settings *s, const char *registration_id, Method kept, Method *ret,
                       DpsError *error);

/* Mints a SAS token with credential `index`; for methods that sign tokens. The caller erases and frees it. */
int attestation_mint(const Settings *s, Method method, unsigned index, const char *registration_id,
                     const char *resource, uint64_t expiry_sec, const char *policy, char **ret,
                     DpsError *error);

/* A client certificate with its chain, leaf first, and its key. */
typedef struct ClientCertificate {
        STACK_OF(X509) * chain;
        EVP_PKEY *key;
        char *pem;     /* the chain as text */
        char *key_pem; /* only with ShareKey=yes and a key file; a secret */
        char *key_reference;
        char id[65]; /* SHA-256 of the leaf, hex */
        char *common_name;
        uint64_t not_after_usec, not_before_usec;
} ClientCertificate;

/* Loads and checks it: the key belongs to it, its CN is the registration id. */
int attestation_certificate(const Settings *s, unsigned index, const char *registration_id,
                            ClientCertificate *ret, DpsError *error);
void client_certificate_done(ClientCertificate *c);

/* The files to watch for changes: keys, certificates, credentials. */
int attestation_paths(const Settings *s, char ***ret);
