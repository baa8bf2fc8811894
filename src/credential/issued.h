/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Certificates that DPS issues: the key and the request for one (a CSR), the chain that comes back, and the
 * credential that both become. Key and chain are kept in one file, so that they are replaced together or not
 * at all.
 */

#include "basic/folder.h"
#include "credential/credential.h"

/* A clock may be behind that of the CA by this much. */
#define ISSUED_CLOCK_TOLERANCE_USEC (10 * UINT64_C(60) * 1000 * 1000)

typedef struct IssuanceModule IssuanceModule; /* issuance.h */

/* What DPS is asked for a certificate with. */
typedef struct IssuanceRequest {
        EVP_PKEY *key; /* a secret, unless it is in hardware */
        char *key_text; /* of a key in hardware: what the pair's file holds in its place, see hardware-key.h; else NULL */
        char *csr;                    /* PKCS#10 in DER, base64 */
        const IssuanceModule *module; /* that makes a pair of it */
} IssuanceRequest;

/* The directories with the notes of keys that were made in tokens: that of the records, and the one that is
 * used while its disk refuses (NULL: none). These are paths and not folders, since a folder may be freed before
 * a chip answers. */
typedef struct IssuancePlace {
        World *world; /* for signatures of the key */
        char *state, *notes;
} IssuancePlace;

int issuance_place_new(World *w, const Folder *state, const Folder *notes, IssuancePlace *ret);
void issuance_place_done(IssuancePlace *p);

/* Makes a new key, where the settings want it, and its request. Loads the module that can. Blocks; a chip may take a
 * minute. On failure `error` is set. */
int issuance_request_new(Settings *s, const IssuancePlace *place, IssuanceRequest *ret, DpsError *error);
void issuance_request_done(IssuanceRequest *r);
/* Removes from their tokens the keys that were made for this identity (the name of the settings) and that no file of a
 * pair names any more, on the worker. Those that cannot be removed now are removed the next time. */
void issuance_remove_old_keys(World *w, Settings *s, const Folder *state, const Folder *notes);

/* A key and the chain that was issued for it. */
typedef struct IssuedPair {
        char *text; /* of the file: the chain from the leaf up, and then the key; a secret */
        EVP_PKEY *key;
        bool is_in_hardware;
        char fingerprint[FINGERPRINT_SIZE];       /* of the leaf */
        uint64_t not_before_usec, not_after_usec; /* CLOCK_REALTIME */
} IssuedPair;

void issued_pair_done(IssuedPair *p);
/* The credential of a pair that is in memory. The settings are those of the credential. */
int issued_credential_new(const IssuedPair *p, Settings *s, const char *registration_id, Credential **ret);

/* The name of the file that holds the pair of this identity with this fingerprint: NAME.FINGERPRINT.issued,
 * with as many of the fingerprint's digits as two pairs need to differ. */
int issued_file_name(const char *identity, const char *fingerprint, char **ret);
/* Whether the file is one of an identity's. */
bool issued_file_is_any(const char *file);
/* Whether the file is one of this identity's. */
bool issued_file_is_of(const char *file, const char *identity);
#define ISSUED_SUFFIX ".issued"
/* The name of a note about a key in a token, NAME.NUMBER.token, with the random number of the key in 16
 * hexadecimal digits. The note holds the key's URI. It is on disk before the key is made, and is removed after
 * the key. */
bool token_note_is_of(const char *file, const char *identity);
#define TOKEN_NOTE_SUFFIX ".token"
#define ISSUED_SIZE_MAX (256U * 1024)
