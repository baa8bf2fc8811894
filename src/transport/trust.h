/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whom TLS believes: the certificates of CA files, or the system's. What was read serves all connections for as long as the
 * files are those that it was read from, so that a CA that somebody withdraws is believed no longer.
 */

#include <openssl/x509.h>
#include <stdbool.h>

#include "basic/cleanup.h"
#include "dps/error.h"

typedef struct Trust Trust;

/* `ca_files` NULL: the system's store. Blocks, so not for the loop. On failure `error` names the file and the reason. */
int trust_read(char *const *ca_files, Trust **ret, DpsError *error);
/* Whether the files are still the same ones, of the same content. Blocks. */
bool trust_is_current(const Trust *t);
/* In any thread. */
Trust *trust_ref(Trust *t);
Trust *trust_unref(Trust *t);
DEFINE_FREEP(Trust, trust_unref)

X509_STORE *trust_store(const Trust *t);
/* Whether there is a bundle of the system that has not been read. */
bool trust_lacks_bundle(const Trust *t);
/* Adds the system's bundle, which is large and seldom needed, where its directory did not suffice. Blocks; connections may use
 * the trust meanwhile. Returns false if nothing was added. */
bool trust_read_bundle(Trust *t);
