/* SPDX-License-Identifier: MIT */
#pragma once

/* TPM attestation from the service's side: keys that only one TPM can take. All of it is computed here; no TPM
 * is needed. */

#include "dps/key.h"
#include "emulator/answer.h"

/* The public part of an RSA key with 2048 bits, as DPS gets it: base64 of a TPM2B_PUBLIC. Owns its bytes. */
typedef struct TpmPublic {
        uint8_t *bytes; /* the TPM2B_PUBLIC, with its size */
        size_t size;
} TpmPublic;

/* -EBADMSG: it is not such a key. */
int tpm_public_from_base64(const char *text, TpmPublic *ret);
void tpm_public_done(TpmPublic *p);

/* Makes a random key for HMAC-SHA256, and encrypts it so that only the TPM with this endorsement key can put it
 * under this storage root key. `ret` is base64, as `authenticationKey` holds it. */
int tpm_challenge_make(const RandomSource *random, const TpmPublic *endorsement_key,
                       const TpmPublic *storage_root_key, DpsKey *ret_key, char **ret);

/* What the service knows of a device's TPM. The keys' size is 0 until they are made. */
typedef struct TpmState {
        TpmPublic storage_root_key; /* as the device told it last */
        DpsKey registration, hub;   /* what tokens for DPS and for the hub are signed with */
} TpmState;

TpmState *tpm_state_free(TpmState *t);

/* {"authenticationKey":…,"keyName":"registration","message":…} with 401: the answer to a register without a
 * token, whose body names the storage root key. 0: `ret` is the challenge, and `state` knows its key;
 * -EBADMSG: the body does not name one. */
int tpm_challenge_answer(const RandomSource *random, const TpmPublic *endorsement_key, const void *body,
                         size_t size, TpmState *state, Answer *ret);
