/* SPDX-License-Identifier: MIT */
#pragma once

/* A client certificate and its key, loaded from files. */

#include "credential/credential.h"

/* Loads the two files that references of [Attestation] name, and checks them: the key must belong to the leaf
 * certificate, and the leaf's common name must be the registration id. If both references name the same file,
 * it is read once. Blocks. `error` is as in credential.h; -EOPNOTSUPP means that this build cannot use the
 * kind of key at all. */
int client_certificate_load(const Settings *s, const char *certificate, const char *private_key,
                            const char *registration_id, ClientCertificate *ret, DpsError *error);
void client_certificate_done(ClientCertificate *c);
