/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A PKCS#11 token and a TPM, in which the keys of issued certificates are made. They belong to ISSUED_IDENTITY, and hang as its
 * chip does. All but the two devices themselves is real: the module "hardware-key", and the notes of keys on the disk.
 */

#include <openssl/evp.h>

#include "sim.h"

/* Where keys are made: Key= in [Issuance]. */
typedef enum KeyPlace {
        KEY_PLACE_FILE,
        KEY_PLACE_TOKEN,
        KEY_PLACE_TPM,
        _KEY_PLACE_MAX,
} KeyPlace;
const char *key_place_to_string(KeyPlace place);

typedef enum TokenFault {
        TOKEN_GOOD,
        TOKEN_ABSENT, /* and so is the TPM */
        TOKEN_FULL,
        TOKEN_KEEPS, /* it removes nothing */
        _TOKEN_FAULT_MAX,
} TokenFault;

/* Both are new. */
void token_init(Sim *s);
void token_done(void);
void token_set_fault(TokenFault fault);
/* Somebody removes one key of ours, or all of them; the TPM is cleared. */
void token_lose(uint64_t which, bool all);
void tpm_clear(void);

/* The key that a URI, or the text of a file, stands for, although it may be gone; NULL: none was ever made. Borrowed. */
EVP_PKEY *token_key(const char *reference);
/* Whether a key that is named by this is there, or was taken away by somebody else. */
bool token_can_serve(const char *reference);
/* Of the token. */
unsigned token_n_keys(void);
