/* SPDX-License-Identifier: MIT */
#pragma once

/* A client certificate and its key, loaded from files. */

#include "credential/credential.h"

/* Loads what two references of [Attestation] name, and checks it: the key belongs to the leaf, whose common name is the
 * registration id. Where both name the same file it is read once. Blocks. `error` as in credential.h, with
 * -EOPNOTSUPP for a key that this build cannot use at all. */
int client_certificate_load(const Settings *s, const char *certificate, const char *private_key,
                            const char *registration_id, ClientCertificate *ret, DpsError *error);
void client_certificate_done(ClientCertificate *c);
