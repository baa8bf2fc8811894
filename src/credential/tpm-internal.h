/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the files of the module "tpm". It is the only code that is linked with tpm2-tss. Every function
 * blocks, and runs on the worker. A function that returns int returns 0 or a negative errno with `error` set.
 */

#include <tss2/tss2_esys.h>

#include "credential/credential-class.h"
#include "dps/key.h"
#include "dps/tpm.h"

/* ---- tpm-error.c ---- */

/* Tells what the TPM, or the way to it, answered. `what` is what could not be done. Returns a negative
 * errno. */
int tpm_error(DpsError *error, const Settings *s, TSS2_RC rc, const char *what);
/* The same for what has no code of the TPM; as credential_error(). */
int tpm_fail(DpsError *error, const Settings *s, int r, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* Whether there is no object at the handle that was asked for. */
bool tpm_rc_is_empty(TSS2_RC rc);
/* Whether the auth was refused. */
bool tpm_rc_is_refusal(TSS2_RC rc);

/* ---- tpm-chip.c ---- */

typedef enum TpmAuth {
        TPM_AUTH_OWNER,
        TPM_AUTH_ENDORSEMENT,
        TPM_AUTH_STORAGE, /* of the storage root key; always empty, like the next */
        TPM_AUTH_KEY,     /* of the key that DPS sent */
        _TPM_AUTH_MAX,
} TpmAuth;

/* An open connection to the TPM, which no other thread has at the same time. Closing it leaves nothing in the
 * TPM but what was made persistent. */
typedef struct TpmChip {
        const Settings *settings;
        TSS2_TCTI_CONTEXT *tcti;
        ESYS_CONTEXT *esys;
        ESYS_TR endorsement_key, storage_root_key;
        ESYS_TR transient[4]; /* to be flushed */
        size_t n_transient;
        bool is_locked;
        char *secrets[_TPM_AUTH_MAX]; /* the auths that were presented */
        uint8_t digests[_TPM_AUTH_MAX][32];
} TpmChip;

/* Before a command that needs the auth: presents it, unless the TPM has refused it before. */
int tpm_chip_present(TpmChip *t, TpmAuth which, DpsError *error);
/* After the command: 0, or what tpm_error() returns. A refusal is remembered. */
int tpm_chip_result(TpmChip *t, TpmAuth which, TSS2_RC rc, const char *what, DpsError *error);
/* What is to be flushed before the connection is closed, at the latest. */
void tpm_chip_note(TpmChip *t, ESYS_TR object);
void tpm_chip_flush(TpmChip *t, ESYS_TR object);

/* Opens it, and reads both keys, or makes them if their handles are empty. `ret` must be all 0. */
int tpm_chip_open(TpmChip *t, const Settings *s, DpsError *error);
/* Also closes a connection that is only half open. */
void tpm_chip_close(TpmChip *t);
/* Marshals the public part of an object, with its size. */
int tpm_chip_read_public(TpmChip *t, ESYS_TR object, uint8_t *ret, size_t max, size_t *ret_size,
                         DpsError *error);

/* ---- tpm-key.c ---- */

/* A key as only this TPM can load it. */
typedef struct TpmWrappedKey {
        TPM2B_PUBLIC public;
        TPM2B_PRIVATE private;
} TpmWrappedKey;

/* Opens what DPS sent, which proves the endorsement key, and puts the key under the storage root key. */
int tpm_key_unwrap(TpmChip *t, const DpsTpmKey *key, TpmWrappedKey *ret, DpsError *error);
int tpm_key_load(TpmChip *t, const TpmWrappedKey *key, ESYS_TR *ret, DpsError *error);
int tpm_key_name(TpmChip *t, ESYS_TR key, TPM2B_NAME *ret, DpsError *error);
/* The object at TpmKeyHandle=. ESYS_TR_NONE: there is none. */
int tpm_key_find(TpmChip *t, ESYS_TR *ret, TPM2B_NAME *ret_name, DpsError *error);
/* Makes `key` persistent at TpmKeyHandle=, in place of `old` (ESYS_TR_NONE: nothing is there). */
int tpm_key_keep(TpmChip *t, ESYS_TR old, ESYS_TR key, DpsError *error);
int tpm_key_sign(TpmChip *t, ESYS_TR key, const void *data, size_t size, uint8_t ret[DPS_HMAC_SIZE],
                 DpsError *error);

/* ---- tpm-owned.c ---- */

#define TPM_OWNED_MAX 3

/* The names of objects at TpmKeyHandle= that dpsd put there, or was about to, in hex, newest first: in
 * $STATE_DIRECTORY/NAME.tpm. Without its name there, an object is somebody else's. */
typedef struct TpmOwned {
        char names[TPM_OWNED_MAX][2 * sizeof(TPMU_NAME) + 1];
        size_t n;
} TpmOwned;

/* If there is no such file, the list is empty. */
int tpm_owned_read(const Settings *s, TpmOwned *ret, DpsError *error);
bool tpm_owned_has(const TpmOwned *o, const TPM2B_NAME *name);
/* Adds a name and is durable when it returns. Forgets the oldest. */
int tpm_owned_add(const Settings *s, TpmOwned *o, const TPM2B_NAME *name, DpsError *error);
