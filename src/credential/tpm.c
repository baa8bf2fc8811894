/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/sha.h>
#include <string.h>

#include "basic/module.h"
#include "basic/text.h"
#include "credential/tpm-internal.h"
#include "dps/key.h"
#include "dps/sas.h"

/*
 * TPM attestation: DPS sends a key that only this TPM can open, and the key signs the tokens.
 *
 *      of load()                   no key at TpmKeyHandle= (it cannot sign), or the one of an earlier registration
 *      of answer(), not to keep    has the key of one registration, which is loaded for each signature and leaves
 *                                  nothing in the TPM: until DPS has assigned a hub, the old key serves
 *      of answer(), to keep        has the key for the hub, at TpmKeyHandle=
 *
 * The fingerprint is of the endorsement key and of the key at TpmKeyHandle=: if that is gone, because somebody
 * has cleared the TPM, this is another credential, with which DPS is asked again.
 */

#define PUBLIC_SIZE_MAX 1024U

typedef struct TpmCredential {
        Credential credential;
        TpmKeys keys;
        uint8_t endorsement_hash[SHA256_DIGEST_LENGTH];
        TPM2B_NAME name;        /* of the key at TpmKeyHandle=; its size is 0 if there is none */
        TpmWrappedKey *wrapped; /* the key of one registration; NULL: the one at TpmKeyHandle= is used */
} TpmCredential;

static unsigned count(const Settings *s) {
        return 1;
}

static int no_memory(const Settings *s, DpsError *error) {
        return tpm_fail(error, s, -ENOMEM, "out of memory");
}

static int set_fingerprint(TpmCredential *c) {
        uint8_t data[sizeof(c->endorsement_hash) + sizeof(c->name.name)], hash[SHA256_DIGEST_LENGTH];
        size_t size = MIN((size_t) c->name.size, sizeof(c->name.name));

        memcpy(data, c->endorsement_hash, sizeof(c->endorsement_hash));
        memcpy(data + sizeof(c->endorsement_hash), c->name.name, size);
        if (!SHA256(data, sizeof(c->endorsement_hash) + size, hash))
                return -ENOMEM;
        bytes_to_hex(hash, sizeof(hash), c->credential.fingerprint);
        return 0;
}

/* ---- loading ---- */

static int encode_public(TpmChip *t, ESYS_TR object, uint8_t *buffer, size_t *ret_size, char **ret,
                         DpsError *error) {
        int r;

        r = tpm_chip_read_public(t, object, buffer, PUBLIC_SIZE_MAX, ret_size, error);
        if (r < 0)
                return r;
        r = dps_base64_encode(buffer, *ret_size, ret);
        return r < 0 ? no_memory(t->settings, error) : 0;
}

static int read_keys(TpmChip *t, TpmCredential *c, DpsError *error) {
        uint8_t buffer[PUBLIC_SIZE_MAX];
        char id[DPS_TPM_REGISTRATION_ID_SIZE];
        size_t size;
        int r;

        r = encode_public(t, t->storage_root_key, buffer, &size, &c->keys.storage_root_key, error);
        if (r >= 0)
                r = encode_public(t, t->endorsement_key, buffer, &size, &c->keys.endorsement_key, error);
        if (r < 0)
                return r;
        if (dps_tpm_registration_id(buffer, size, id) < 0 || !SHA256(buffer, size, c->endorsement_hash))
                return no_memory(t->settings, error);
        c->keys.registration_id = strdup(id);
        return c->keys.registration_id ? 0 : no_memory(t->settings, error);
}

/* Finds our key. An object of others is not touched, and does not sign for us. */
static int find_key(TpmChip *t, ESYS_TR *ret, TPM2B_NAME *ret_name, TpmOwned *ret_owned, DpsError *error) {
        uint32_t handle = t->settings->tpm_key_handle;
        int r;

        r = tpm_owned_read(t->settings, ret_owned, error);
        if (r >= 0)
                r = tpm_key_find(t, ret, ret_name, error);
        if (r < 0 || *ret == ESYS_TR_NONE || tpm_owned_has(ret_owned, ret_name))
                return r;
        return tpm_fail(error, t->settings, -EEXIST,
                        "the object at TpmKeyHandle=0x%08x is not of this identity, and stays: name a free "
                        "handle, or if nobody needs it, remove it: tpm2_evictcontrol -C o -c 0x%08x",
                        handle, handle);
}

static int load(Credential *credential, const CredentialSource *source, DpsError *error) {
        _cleanup_(tpm_chip_close) TpmChip chip = { 0 };
        TpmCredential *c = (TpmCredential *) credential;
        TpmOwned owned;
        ESYS_TR key;
        int r;

        r = tpm_chip_open(&chip, source->settings, error);
        if (r >= 0)
                r = read_keys(&chip, c, error);
        if (r >= 0)
                r = find_key(&chip, &key, &c->name, &owned, error);
        if (r < 0)
                return r;
        credential->tpm_keys = &c->keys;
        credential->lacks_hub_key = c->name.size == 0;
        return set_fingerprint(c) < 0 ? no_memory(source->settings, error) : 0;
}

/* ---- answering ---- */

static int copy_identity(const TpmCredential *from, TpmCredential *to) {
        to->keys = (TpmKeys){ .endorsement_key = strdup(from->keys.endorsement_key),
                              .storage_root_key = strdup(from->keys.storage_root_key),
                              .registration_id = strdup(from->keys.registration_id) };
        memcpy(to->endorsement_hash, from->endorsement_hash, sizeof(to->endorsement_hash));
        to->name = from->name;
        memcpy(to->credential.fingerprint, from->credential.fingerprint, sizeof(to->credential.fingerprint));
        to->credential.tpm_keys = &to->keys;
        return to->keys.endorsement_key && to->keys.storage_root_key && to->keys.registration_id ? 0
                                                                                                 : -ENOMEM;
}

/* Its name is remembered first: a power cut does not make a stranger of it. 0: the disk refuses that, so the key
 * is not put into the TPM, and serves from memory until it is loaded again. */
static int keep(TpmChip *t, const TpmWrappedKey *wrapped, TpmCredential *c, DpsError *error) {
        TpmOwned owned;
        ESYS_TR old, key;
        TPM2B_NAME ignored;
        int r;

        r = find_key(t, &old, &ignored, &owned, error);
        if (r >= 0)
                r = tpm_key_load(t, wrapped, &key, error);
        if (r >= 0)
                r = tpm_key_name(t, key, &c->name, error);
        if (r >= 0 && set_fingerprint(c) < 0)
                r = no_memory(t->settings, error);
        if (r < 0)
                return r;
        r = tpm_owned_add(t->settings, &owned, &c->name, error);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        r = tpm_key_keep(t, old, key, error);
        return r < 0 ? r : 1;
}

static int take(TpmChip *t, const char *authentication_key, TpmWrappedKey *ret, DpsError *error) {
        _cleanup_(dps_tpm_key_done) DpsTpmKey key = { 0 };
        int r;

        r = dps_tpm_key_split(authentication_key, &key);
        if (r == -ENOMEM)
                return no_memory(t->settings, error);
        if (r < 0) {
                dps_error_set(error, DPS_ERROR_PROTOCOL, DPS_STEP_ATTEST,
                              "the key that DPS sent for the TPM cannot be split into its parts");
                return r;
        }
        return tpm_key_unwrap(t, &key, ret, error);
}

static int answer(const Credential *credential, const char *authentication_key, bool is_kept,
                  Credential *answered, DpsError *error) {
        _cleanup_(tpm_chip_close) TpmChip chip = { 0 };
        TpmCredential *c = (TpmCredential *) answered;
        int r;

        c->wrapped = malloc(sizeof(*c->wrapped));
        if (!c->wrapped || copy_identity((const TpmCredential *) credential, c) < 0)
                return no_memory(credential->settings, error);
        r = tpm_chip_open(&chip, credential->settings, error);
        if (r >= 0)
                r = take(&chip, authentication_key, c->wrapped, error);
        if (r < 0 || !is_kept)
                return r;

        r = keep(&chip, c->wrapped, c, error);
        if (r > 0)
                free(TAKE_PTR(c->wrapped));
        return r;
}

/* ---- signing ---- */

/* The key to sign with. It may have gone since it was loaded. */
static int use_key(TpmChip *t, const TpmCredential *c, ESYS_TR *ret, DpsError *error) {
        TPM2B_NAME name;
        int r;

        if (c->wrapped)
                return tpm_key_load(t, c->wrapped, ret, error);
        r = tpm_key_find(t, ret, &name, error);
        if (r < 0)
                return r;
        if (c->name.size > 0 && name.size == c->name.size && memcmp(name.name, c->name.name, name.size) == 0)
                return 0;
        return tpm_fail(error, t->settings, -EAGAIN,
                        "the key for the hub is not at TpmKeyHandle=0x%08x: was the TPM cleared, or the key "
                        "removed? DPS sends it again with a registration",
                        t->settings->tpm_key_handle);
}

static int sign(const Credential *credential, const char *resource, uint64_t expiry_sec, const char *policy,
                char **ret, DpsError *error) {
        _cleanup_(tpm_chip_close) TpmChip chip = { 0 };
        _cleanup_(freep) char *text = NULL;
        const TpmCredential *c = (const TpmCredential *) credential;
        uint8_t signature[DPS_HMAC_SIZE];
        ESYS_TR key;
        int r;

        if (dps_sas_string_to_sign(resource, expiry_sec, &text) < 0)
                return no_memory(credential->settings, error);
        r = tpm_chip_open(&chip, credential->settings, error);
        if (r >= 0)
                r = use_key(&chip, c, &key, error);
        if (r >= 0)
                r = tpm_key_sign(&chip, key, text, strlen(text), signature, error);
        if (r < 0)
                return r;

        r = dps_sas_format(resource, signature, sizeof(signature), expiry_sec, policy, ret);
        explicit_bzero(signature, sizeof(signature));
        return r < 0 ? no_memory(credential->settings, error) : 0;
}

static void done(Credential *credential) {
        TpmCredential *c = (TpmCredential *) credential;

        free(c->keys.endorsement_key);
        free(c->keys.storage_root_key);
        free(c->keys.registration_id);
        free(c->wrapped);
}

static const CredentialClass tpm_class = {
        .method = METHOD_TPM,
        .size = sizeof(TpmCredential),
        .is_slow = true,
        .count = count,
        .load = load,
        .sign = sign,
        .answer = answer,
        .done = done,
};

MODULE_DEFINE("tpm", "credential", &tpm_class);
