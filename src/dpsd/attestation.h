/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How an identity proves who it is. Secrets are read when they are used and wiped afterwards. All failures fill `error`: id `config` where the file or what is in it is wrong
 * (unreadable, too open, bad base64, key and certificate differ), id `key` where it is not there yet.
 */

#include <stdint.h>

#include "config/settings.h"
#include "dps/error.h"
#include "dpsd/certificate.h"

/* How many credentials the method has, to be tried in turn when DPS refuses one. Where an `index` below is none of them,
 * because the list has become shorter, the first is meant. */
unsigned attestation_count(const Settings *s, Method method);

/* The method to use: the first possible one of Method=, one whose keys this build can use and at least one credential of
 * which can be loaded. But `kept` stays while it is in Method= and has keys in the configuration: where they cannot be
 * loaded now, that is the failure. _METHOD_MAX: none is kept. */
int attestation_choose(const Settings *s, const char *registration_id, Method kept, Method *ret,
                       DpsError *error);

/* Mints a SAS token with credential `index`; for methods that sign tokens. The caller erases and frees it. */
int attestation_mint(const Settings *s, Method method, unsigned index, const char *registration_id,
                     const char *resource, uint64_t expiry_sec, const char *policy, char **ret,
                     DpsError *error);

/* Loads the client certificate of credential `index`, and checks it. */
int attestation_certificate(const Settings *s, unsigned index, const char *registration_id,
                            ClientCertificate *ret, DpsError *error);

/* The files to watch for changes: keys, certificates, credentials. */
int attestation_paths(const Settings *s, char ***ret);
