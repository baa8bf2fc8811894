/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Certificates and private keys in PEM, as people have them in a file. What is unambiguous is taken: a byte order mark, and
 * what OpenSSL calls a trusted certificate. On failure `ret_why` is a static text that says what the file is instead, and
 * what to do; it shows nothing of the file.
 */

#include <openssl/x509.h>

#define PEM_CHAIN_MAX 16
#define PEM_TSS2_BEGIN "-----BEGIN TSS2 PRIVATE KEY-----" /* a key that only its TPM can use */

static inline void certificates_freep(STACK_OF(X509) * *certificates) {
        sk_X509_pop_free(*certificates, X509_free);
}

/* At least one certificate, and at most `max`. -ENODATA, -EBADMSG, -E2BIG, -ENOMEM. */
int pem_read_certificates(const char *text, size_t size, int max, STACK_OF(X509) * *ret,
                          const char **ret_why);
/* -EBADMSG, -ENOMEM. */
int pem_read_key(const char *text, size_t size, EVP_PKEY **ret, const char **ret_why);
/* The subject's common name. -ENODATA: it has none, or it is not text. */
int certificate_common_name(const X509 *x, char **ret);
/* Why this is not the key of the certificate; NULL: it is. */
const char *pem_pair_fault(X509 *leaf, EVP_PKEY *key);
