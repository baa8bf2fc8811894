/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <tss2/tss2_mu.h>

#include "credential/tpm-internal.h"

/* ---- what DPS sent ---- */

static int refuse(TpmChip *t, DpsError *error, const char *why) {
        dps_error_set(error, DPS_ERROR_PROTOCOL, DPS_STEP_ATTEST,
                      "Tcti=%s: the key that DPS sent cannot be used: %s", t->settings->tcti, why);
        return -EBADMSG;
}

/* Copies a part into a structure of the TPM, whose first member is the size. */
static int copy_part(const DpsTpmPart *part, UINT16 *ret_size, BYTE *ret, size_t max) {
        if (part->size > max)
                return -EBADMSG;
        *ret_size = (UINT16) part->size;
        memcpy(ret, part->data, part->size);
        return 0;
}

typedef struct Parts {
        TPM2B_ID_OBJECT credential;
        TPM2B_ENCRYPTED_SECRET credential_secret, duplicate_seed;
        TPM2B_PRIVATE duplicate;
} Parts;

static int copy_parts(const DpsTpmKey *k, Parts *ret) {
        if (copy_part(&k->credential, &ret->credential.size, ret->credential.credential,
                      sizeof(ret->credential.credential)) < 0 ||
            copy_part(&k->credential_secret, &ret->credential_secret.size, ret->credential_secret.secret,
                      sizeof(ret->credential_secret.secret)) < 0 ||
            copy_part(&k->duplicate, &ret->duplicate.size, ret->duplicate.buffer,
                      sizeof(ret->duplicate.buffer)) < 0 ||
            copy_part(&k->duplicate_seed, &ret->duplicate_seed.size, ret->duplicate_seed.secret,
                      sizeof(ret->duplicate_seed.secret)) < 0)
                return -EBADMSG;
        return 0;
}

/* Only a key that can sign tokens and does nothing else is let in. */
static bool is_token_key(const TPMT_PUBLIC *p) {
        const TPMS_SCHEME_HMAC *hmac = &p->parameters.keyedHashDetail.scheme.details.hmac;

        return p->type == TPM2_ALG_KEYEDHASH && (p->objectAttributes & TPMA_OBJECT_SIGN_ENCRYPT) &&
               (p->objectAttributes & TPMA_OBJECT_USERWITHAUTH) &&
               !(p->objectAttributes & (TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT)) &&
               p->parameters.keyedHashDetail.scheme.scheme == TPM2_ALG_HMAC &&
               hmac->hashAlg == TPM2_ALG_SHA256;
}

static int read_public_area(const DpsTpmPart *part, TPM2B_PUBLIC *ret) {
        size_t offset = 0;

        /* The size stands before the part. */
        if (Tss2_MU_TPM2B_PUBLIC_Unmarshal(part->data - 2, part->size + 2, &offset, ret) != TSS2_RC_SUCCESS ||
            offset != part->size + 2 || !is_token_key(&ret->publicArea))
                return -EBADMSG;
        return 0;
}

/* ---- taking it ---- */

static int begin_policy(TpmChip *t, ESYS_TR *ret, DpsError *error) {
        const TPMT_SYM_DEF no_encryption = { .algorithm = TPM2_ALG_NULL };
        ESYS_TR session;
        TSS2_RC rc;
        int r;

        r = tpm_chip_present(t, TPM_AUTH_ENDORSEMENT, error);
        if (r < 0)
                return r;
        rc = Esys_StartAuthSession(t->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                                   ESYS_TR_NONE, NULL, TPM2_SE_POLICY, &no_encryption, TPM2_ALG_SHA256,
                                   &session);
        if (rc != TSS2_RC_SUCCESS)
                return tpm_error(error, t->settings, rc, "a session cannot be started");
        tpm_chip_note(t, session);
        rc = Esys_PolicySecret(t->esys, ESYS_TR_RH_ENDORSEMENT, session, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                               ESYS_TR_NONE, NULL, NULL, NULL, 0, NULL, NULL);
        r = tpm_chip_result(t, TPM_AUTH_ENDORSEMENT, rc, "the endorsement key cannot be used", error);
        if (r < 0)
                return r;
        *ret = session;
        return 0;
}

/* The service encrypted the credential for the endorsement key of the enrollment. That only the right TPM can
 * open it is the attestation. */
static int activate(TpmChip *t, const Parts *p, TPM2B_DATA *ret, DpsError *error) {
        TPM2B_DIGEST *opened = NULL;
        ESYS_TR session = ESYS_TR_NONE;
        TSS2_RC rc;
        int r;

        r = begin_policy(t, &session, error);
        if (r >= 0)
                r = tpm_chip_present(t, TPM_AUTH_STORAGE, error);
        if (r < 0)
                return r;
        rc = Esys_ActivateCredential(t->esys, t->storage_root_key, t->endorsement_key, ESYS_TR_PASSWORD,
                                     session, ESYS_TR_NONE, &p->credential, &p->credential_secret, &opened);
        tpm_chip_flush(t, session);
        /* libtpms says so where a padding is wrong. A TPM that really fails would not have begun the session. */
        if (rc == TPM2_RC_FAILURE)
                rc = TPM2_RC_INTEGRITY;
        r = tpm_chip_result(t, TPM_AUTH_STORAGE, rc,
                            "the TPM cannot open the challenge: the enrollment is of another endorsement key "
                            "(dpsctl enrollment shows this one), or the challenge is damaged",
                            error);
        if (r == -EBADMSG || r == -EIO)
                error->id = DPS_ERROR_AUTH;
        if (r < 0)
                return r;

        *ret = (TPM2B_DATA){ .size = MIN(opened->size, (UINT16) sizeof(ret->buffer)) };
        memcpy(ret->buffer, opened->buffer, ret->size);
        explicit_bzero(opened, sizeof(*opened));
        Esys_Free(opened);
        return 0;
}

static int import(TpmChip *t, const Parts *p, const TPM2B_DATA *inner_key, TpmWrappedKey *key,
                  DpsError *error) {
        const TPMT_SYM_DEF_OBJECT symmetric = { .algorithm = TPM2_ALG_AES,
                                                .keyBits.aes = (TPMI_AES_KEY_BITS) (inner_key->size * 8),
                                                .mode.aes = TPM2_ALG_CFB };
        TPM2B_PRIVATE *private = NULL;
        TSS2_RC rc;
        int r;

        if (inner_key->size != 16 && inner_key->size != 24 && inner_key->size != 32)
                return refuse(t, error, "the key that opens it is not an AES key");
        rc = Esys_Import(t->esys, t->storage_root_key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                         inner_key, &key->public, &p->duplicate, &p->duplicate_seed, &symmetric, &private);
        r = tpm_chip_result(t, TPM_AUTH_STORAGE, rc, "the key that DPS sent cannot be imported", error);
        if (r == -EBADMSG || r == -EIO)
                error->id = DPS_ERROR_PROTOCOL;
        if (r < 0)
                return r;
        key->private = *private;
        Esys_Free(private);
        return 0;
}

int tpm_key_unwrap(TpmChip *t, const DpsTpmKey *key, TpmWrappedKey *ret, DpsError *error) {
        Parts parts = { 0 };
        TPM2B_DATA inner_key = { 0 };
        int r;

        if (copy_parts(key, &parts) < 0)
                return refuse(t, error, "it is longer than any TPM can take");
        *ret = (TpmWrappedKey){ 0 };
        if (read_public_area(&key->public_area, &ret->public) < 0)
                return refuse(t, error, "it is not a key for HMAC-SHA256");
        r = activate(t, &parts, &inner_key, error);
        if (r >= 0)
                r = import(t, &parts, &inner_key, ret, error);
        explicit_bzero(&inner_key, sizeof(inner_key));
        return r;
}

/* ---- the key in the TPM ---- */

int tpm_key_load(TpmChip *t, const TpmWrappedKey *key, ESYS_TR *ret, DpsError *error) {
        TSS2_RC rc;
        int r;

        r = tpm_chip_present(t, TPM_AUTH_STORAGE, error);
        if (r < 0)
                return r;
        rc = Esys_Load(t->esys, t->storage_root_key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                       &key->private, &key->public, ret);
        r = tpm_chip_result(t, TPM_AUTH_STORAGE, rc, "the key that DPS sent cannot be loaded", error);
        if (r >= 0)
                tpm_chip_note(t, *ret);
        return r;
}

int tpm_key_name(TpmChip *t, ESYS_TR key, TPM2B_NAME *ret, DpsError *error) {
        TPM2B_NAME *name = NULL;
        TSS2_RC rc = Esys_TR_GetName(t->esys, key, &name);

        if (rc != TSS2_RC_SUCCESS)
                return tpm_error(error, t->settings, rc, "a key has no name");
        *ret = *name;
        Esys_Free(name);
        return 0;
}

int tpm_key_find(TpmChip *t, ESYS_TR *ret, TPM2B_NAME *ret_name, DpsError *error) {
        ESYS_TR object;
        TSS2_RC rc;
        int r;

        rc = Esys_TR_FromTPMPublic(t->esys, t->settings->tpm_key_handle, ESYS_TR_NONE, ESYS_TR_NONE,
                                   ESYS_TR_NONE, &object);
        if (tpm_rc_is_empty(rc)) {
                *ret = ESYS_TR_NONE;
                *ret_name = (TPM2B_NAME){ 0 };
                return 0;
        }
        if (rc != TSS2_RC_SUCCESS)
                return tpm_error(error, t->settings, rc, "the object at TpmKeyHandle= cannot be read");
        r = tpm_key_name(t, object, ret_name, error);
        if (r >= 0)
                *ret = object;
        return r;
}

int tpm_key_keep(TpmChip *t, ESYS_TR old, ESYS_TR key, DpsError *error) {
        static const char what[] = "the key that DPS sent cannot be kept at TpmKeyHandle=";
        ESYS_TR persistent;
        TSS2_RC rc = TSS2_RC_SUCCESS;
        int r;

        r = tpm_chip_present(t, TPM_AUTH_OWNER, error);
        if (r < 0)
                return r;
        if (old != ESYS_TR_NONE)
                rc = Esys_EvictControl(t->esys, ESYS_TR_RH_OWNER, old, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                       ESYS_TR_NONE, t->settings->tpm_key_handle, &persistent);
        if (rc == TSS2_RC_SUCCESS)
                rc = Esys_EvictControl(t->esys, ESYS_TR_RH_OWNER, key, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                       ESYS_TR_NONE, t->settings->tpm_key_handle, &persistent);
        return tpm_chip_result(t, TPM_AUTH_OWNER, rc, what, error);
}

/* ---- signing ---- */

/* The most that one command takes. */
static size_t input_max(TpmChip *t) {
        TPMS_CAPABILITY_DATA *data = NULL;
        size_t max = TPM2_MAX_DIGEST_BUFFER;

        if (Esys_GetCapability(t->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_TPM_PROPERTIES,
                               TPM2_PT_INPUT_BUFFER, 1, NULL, &data) == TSS2_RC_SUCCESS &&
            data->data.tpmProperties.count == 1 &&
            data->data.tpmProperties.tpmProperty[0].property == TPM2_PT_INPUT_BUFFER)
                max = MIN(max, MAX((size_t) data->data.tpmProperties.tpmProperty[0].value, (size_t) 64));
        Esys_Free(data);
        return max;
}

static TPM2B_MAX_BUFFER take(const uint8_t **data, size_t *size, size_t max) {
        TPM2B_MAX_BUFFER buffer = { .size = (UINT16) MIN(*size, max) };

        memcpy(buffer.buffer, *data, buffer.size);
        *data += buffer.size;
        *size -= buffer.size;
        return buffer;
}

/* Data that do not fit into one command. */
static TSS2_RC sign_in_sequence(TpmChip *t, ESYS_TR key, const uint8_t *data, size_t size, size_t max,
                                TPM2B_DIGEST **ret) {
        const TPM2B_AUTH no_auth = { 0 };
        TPM2B_MAX_BUFFER buffer;
        ESYS_TR sequence;
        TSS2_RC rc;

        rc = Esys_HMAC_Start(t->esys, key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &no_auth,
                             TPM2_ALG_SHA256, &sequence);
        if (rc != TSS2_RC_SUCCESS)
                return rc;
        while (rc == TSS2_RC_SUCCESS && size > max) {
                buffer = take(&data, &size, max);
                rc = Esys_SequenceUpdate(t->esys, sequence, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                         &buffer);
        }
        if (rc == TSS2_RC_SUCCESS) {
                buffer = take(&data, &size, max);
                rc = Esys_SequenceComplete(t->esys, sequence, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                           &buffer, ESYS_TR_RH_NULL, ret, NULL);
        }
        if (rc != TSS2_RC_SUCCESS)
                (void) Esys_FlushContext(t->esys, sequence);
        return rc;
}

int tpm_key_sign(TpmChip *t, ESYS_TR key, const void *data, size_t size, uint8_t ret[DPS_HMAC_SIZE],
                 DpsError *error) {
        size_t max = input_max(t);
        TPM2B_DIGEST *hmac = NULL;
        TSS2_RC rc;
        int r;

        r = tpm_chip_present(t, TPM_AUTH_KEY, error);
        if (r < 0)
                return r;
        if (size > max)
                rc = sign_in_sequence(t, key, data, size, max, &hmac);
        else {
                const uint8_t *rest = data;
                TPM2B_MAX_BUFFER buffer = take(&rest, &size, max);

                rc = Esys_HMAC(t->esys, key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &buffer,
                               TPM2_ALG_SHA256, &hmac);
        }
        r = tpm_chip_result(t, TPM_AUTH_KEY, rc, "the TPM cannot sign", error);
        if (r >= 0 && hmac->size != DPS_HMAC_SIZE)
                r = tpm_fail(error, t->settings, -EIO, "the TPM's signature is not one of HMAC-SHA256");
        if (r >= 0)
                memcpy(ret, hmac->buffer, DPS_HMAC_SIZE);
        Esys_Free(hmac);
        return r;
}
