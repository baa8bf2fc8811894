/* SPDX-License-Identifier: MIT */
#pragma once

/* Why Azure may refuse a device's certificate although TLS accepts it. */

#include <openssl/x509.h>

#define LEAF_TEXT_MAX 320

/* `above` is the certificate that follows the device's own in its file, or NULL. Returns the name of the CA whose certificate
 * should follow it and does not; NULL: nothing is missing. */
const char *leaf_missing_issuer(X509 *leaf, X509 *above, char buffer[static LEAF_TEXT_MAX]);

/* leaf-warnings.c. Warnings, each a sentence about the file; NULL: there is nothing to warn of. */
const char *leaf_issuer_warning(X509 *leaf, X509 *above, char buffer[static LEAF_TEXT_MAX]);
const char *leaf_key_warning(X509 *leaf, char buffer[static LEAF_TEXT_MAX]);
