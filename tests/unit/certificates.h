/* SPDX-License-Identifier: MIT */
#pragma once

/* Certificates for tests, made on the spot. Whatever fails, fails the test. */

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#define DAY (24L * 60 * 60)

typedef struct CertifiedKey {
        X509 *certificate;
        EVP_PKEY *key;
} CertifiedKey;

/* A self-signed CA. `organization` may be NULL. */
CertifiedKey authority_new(const char *common_name, const char *organization);
/* `names`: "DNS:a.example,IP:127.0.0.1"; NULL: for clients. Valid in these seconds from now. */
CertifiedKey certified_key_new(const CertifiedKey *authority, const char *common_name, const char *names,
                               long from_sec, long until_sec);
void certified_key_done(CertifiedKey *c);

/* Writes the certificate as PEM to a new file in /tmp; the caller unlinks and frees the name. */
char *certificate_file(const CertifiedKey *c);

/* A server's context. `client_authority` NULL: it asks for no certificate. */
SSL_CTX *server_context(const CertifiedKey *server, const CertifiedKey *client_authority);
