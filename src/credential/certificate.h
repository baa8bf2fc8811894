/* SPDX-License-Identifier: MIT */
#pragma once

/* A client certificate and its key, which may be in hardware. */

#include "credential/credential-class.h"

/* Loads the two files that references of [Attestation] name, and checks them: the key must belong to the leaf
 * certificate, and the leaf's common name must be the registration id. If both references name the same file,
 * it is read once. Blocks. `error` is as in credential.h; -EINPROGRESS (no error is set): the key is in a chip,
 * and the source says not to wait for it; -EOPNOTSUPP: the module for such keys is missing. */
int client_certificate_load(const CredentialSource *source, const char *certificate, const char *private_key,
                            ClientCertificate *ret, DpsError *error);
/* CLOCK_REALTIME; 0: the time is before 1970, or not readable. */
uint64_t certificate_time_usec(const ASN1_TIME *t);
/* SHA-256 in hexadecimal digits. */
int certificate_fingerprint(const X509 *x, char ret[static FINGERPRINT_SIZE]);
void client_certificate_done(ClientCertificate *c);
