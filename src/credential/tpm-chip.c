/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include "basic/text.h"
#include "config/secret.h"
#include "credential/tpm-internal.h"

/* Some chips need half a minute to make a primary key. */
#define PATIENCE_SEC 60

/* A chip does one thing at a time, and has room for three objects. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- auths ---- */

/* What a TPM has refused. To present it again could lock the TPM. Digests do not reveal it. Guarded by the
 * lock. */
static uint8_t refused[16][32];
static size_t n_refused;

static int digest(uint8_t ret[32], TpmAuth which, const char *tcti, const void *object, size_t object_size,
                  const char *secret) {
        EVP_MD_CTX *c = EVP_MD_CTX_new();
        uint8_t kind = (uint8_t) which;
        bool ok = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) && EVP_DigestUpdate(c, &kind, 1) &&
                  EVP_DigestUpdate(c, tcti, strlen(tcti) + 1) && EVP_DigestUpdate(c, object, object_size) &&
                  EVP_DigestUpdate(c, secret, strlen(secret)) && EVP_DigestFinal_ex(c, ret, NULL);

        EVP_MD_CTX_free(c);
        return ok ? 0 : -ENOMEM;
}

static const char *setting_of(TpmAuth which) {
        switch (which) {
        case TPM_AUTH_OWNER:
                return "TpmOwnerAuth";
        case TPM_AUTH_ENDORSEMENT:
                return "TpmEndorsementAuth";
        case TPM_AUTH_STORAGE:
                return "the empty auth of the object at SrkHandle";
        case TPM_AUTH_KEY:
                return "the empty auth of the key that DPS sent";
        case _TPM_AUTH_MAX:
                break;
        }
        abort();
}

/* The secret is a line of text, as tpm2_changeauth takes it. */
static int read_secret(TpmChip *t, TpmAuth which, char **ret, DpsError *error) {
        const Settings *s = t->settings;
        const char *reference = which == TPM_AUTH_OWNER         ? s->tpm_owner_auth
                                : which == TPM_AUTH_ENDORSEMENT ? s->tpm_endorsement_auth
                                                                : NULL;
        _cleanup_(freep) char *why = NULL;
        size_t size = 0;
        int r;

        if (!reference) {
                *ret = strdup("");
                return *ret ? 0 : tpm_fail(error, s, -ENOMEM, "out of memory");
        }
        r = secret_read(reference, ret, &size, &why);
        if (r < 0)
                return tpm_fail(error, s, r, "%s=: %s", setting_of(which), why ?: strerror(-r));
        if (size > 0 && (*ret)[size - 1] == '\n')
                (*ret)[--size] = 0;
        if (strlen(*ret) == size && size <= sizeof(((TPM2B_AUTH *) NULL)->buffer))
                return 0;
        explicit_bzero(*ret, size);
        free(TAKE_PTR(*ret));
        return tpm_fail(error, s, -EBADMSG, "%s=: it must be a line of at most 64 characters",
                        setting_of(which));
}

static int set_auth(TpmChip *t, TpmAuth which, const char *secret) {
        ESYS_TR hierarchy = which == TPM_AUTH_OWNER ? ESYS_TR_RH_OWNER : ESYS_TR_RH_ENDORSEMENT;
        TPM2B_AUTH auth = { .size = (UINT16) strlen(secret) };
        TSS2_RC rc;

        if (which == TPM_AUTH_STORAGE || which == TPM_AUTH_KEY)
                return 0;
        memcpy(auth.buffer, secret, auth.size);
        rc = Esys_TR_SetAuth(t->esys, hierarchy, &auth);
        explicit_bzero(&auth, sizeof(auth));
        return rc == TSS2_RC_SUCCESS ? 0 : -ENOMEM;
}

int tpm_chip_present(TpmChip *t, TpmAuth which, DpsError *error) {
        TPM2B_NAME *name = NULL;
        int r;

        if (t->secrets[which])
                return 0;
        r = read_secret(t, which, &t->secrets[which], error);
        if (r < 0)
                return r;
        if (which == TPM_AUTH_STORAGE)
                (void) Esys_TR_GetName(t->esys, t->storage_root_key, &name);
        r = digest(t->digests[which], which, t->settings->tcti, name ? name->name : (BYTE *) "",
                   name ? name->size : 0, t->secrets[which]);
        Esys_Free(name);
        if (r >= 0)
                r = set_auth(t, which, t->secrets[which]);
        if (r < 0)
                return tpm_fail(error, t->settings, r, "out of memory");

        for (size_t k = 0; k < n_refused && k < ELEMENTSOF(refused); k++)
                if (memcmp(refused[k], t->digests[which], sizeof(refused[k])) == 0)
                        return tpm_fail(error, t->settings, -EACCES,
                                        "the TPM has refused %s%s, which is not tried again until it changes "
                                        "or dpsd is restarted",
                                        setting_of(which), *t->secrets[which] ? "=" : "= (which is empty)");
        return 0;
}

int tpm_chip_result(TpmChip *t, TpmAuth which, TSS2_RC rc, const char *what, DpsError *error) {
        _cleanup_(freep) char *text = NULL;

        if (rc == TSS2_RC_SUCCESS)
                return 0;
        if (!tpm_rc_is_refusal(rc))
                return tpm_error(error, t->settings, rc, what);

        memcpy(refused[n_refused++ % ELEMENTSOF(refused)], t->digests[which], sizeof(refused[0]));
        text = text_format("%s, for which %s= is needed", what, setting_of(which));
        return tpm_error(error, t->settings, rc, text ?: what);
}

/* ---- objects ---- */

void tpm_chip_note(TpmChip *t, ESYS_TR object) {
        if (t->n_transient < ELEMENTSOF(t->transient))
                t->transient[t->n_transient++] = object;
        else
                (void) Esys_FlushContext(t->esys, object);
}

void tpm_chip_flush(TpmChip *t, ESYS_TR object) {
        for (size_t k = 0; k < t->n_transient; k++)
                if (t->transient[k] == object) {
                        t->transient[k] = t->transient[--t->n_transient];
                        (void) Esys_FlushContext(t->esys, object);
                        return;
                }
}

int tpm_chip_read_public(TpmChip *t, ESYS_TR object, uint8_t *ret, size_t max, size_t *ret_size,
                         DpsError *error) {
        TPM2B_PUBLIC *public = NULL;
        TSS2_RC rc;

        rc = Esys_ReadPublic(t->esys, object, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL, NULL);
        *ret_size = 0;
        if (rc == TSS2_RC_SUCCESS)
                rc = Tss2_MU_TPM2B_PUBLIC_Marshal(public, ret, max, ret_size);
        Esys_Free(public);
        return rc == TSS2_RC_SUCCESS ? 0 : tpm_error(error, t->settings, rc, "a public key cannot be read");
}

/* The two keys that DPS wants to know, by the templates of the TCG: an EK of EK Credential Profile 2.0,
 * template L-1, and an SRK. The unique part is not empty but zero, or other keys would be made. */
static const struct Primary {
        const char *name, *setting;
        TpmAuth auth;
        ESYS_TR hierarchy;
        TPMA_OBJECT attributes;
        TPM2B_DIGEST policy;
} endorsement = {
        .name = "endorsement key",
        .setting = "EkHandle",
        .auth = TPM_AUTH_ENDORSEMENT,
        .hierarchy = ESYS_TR_RH_ENDORSEMENT,
        .attributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                      TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
        .policy = { .size = 32,
                    .buffer = { 0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa } },
}, storage = {
        .name = "storage root key",
        .setting = "SrkHandle",
        .auth = TPM_AUTH_OWNER,
        .hierarchy = ESYS_TR_RH_OWNER,
        .attributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                      TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED |
                      TPMA_OBJECT_DECRYPT,
};

static TPM2B_PUBLIC template_of(const struct Primary *p) {
        return (TPM2B_PUBLIC){
                .publicArea = { .type = TPM2_ALG_RSA,
                                .nameAlg = TPM2_ALG_SHA256,
                                .objectAttributes = p->attributes,
                                .authPolicy = p->policy,
                                .parameters.rsaDetail = { .symmetric = { .algorithm = TPM2_ALG_AES,
                                                                         .keyBits.aes = 128,
                                                                         .mode.aes = TPM2_ALG_CFB },
                                                          .scheme.scheme = TPM2_ALG_NULL,
                                                          .keyBits = 2048 },
                                .unique.rsa.size = 256 },
        };
}

static int make_primary(TpmChip *t, const struct Primary *p, uint32_t handle, ESYS_TR *ret, DpsError *error) {
        const TPM2B_SENSITIVE_CREATE sensitive = { 0 };
        const TPM2B_DATA outside = { 0 };
        const TPML_PCR_SELECTION pcrs = { 0 };
        const TPM2B_PUBLIC template = template_of(p);
        char what[96];
        ESYS_TR key;
        TSS2_RC rc;
        int r;

        (void) snprintf(what, sizeof(what), "the %s, which is not at %s=0x%08x, cannot be made", p->name,
                        p->setting, handle);
        r = tpm_chip_present(t, p->auth, error);
        if (r >= 0)
                r = tpm_chip_present(t, TPM_AUTH_OWNER, error);
        if (r < 0)
                return r;
        rc = Esys_CreatePrimary(t->esys, p->hierarchy, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                &sensitive, &template, &outside, &pcrs, &key, NULL, NULL, NULL, NULL);
        r = tpm_chip_result(t, p->auth, rc, what, error);
        if (r < 0)
                return r;

        tpm_chip_note(t, key);
        rc = Esys_EvictControl(t->esys, ESYS_TR_RH_OWNER, key, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                               handle, ret);
        tpm_chip_flush(t, key);
        return tpm_chip_result(t, TPM_AUTH_OWNER, rc, what, error);
}

static bool is_storage_key(const TPMT_PUBLIC *p) {
        const TPMA_OBJECT wanted = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;

        return p->type == TPM2_ALG_RSA && (p->objectAttributes & wanted) == wanted &&
               !(p->objectAttributes & TPMA_OBJECT_SIGN_ENCRYPT);
}

static int check_primary(TpmChip *t, const struct Primary *p, uint32_t handle, ESYS_TR key, DpsError *error) {
        TPM2B_PUBLIC *public = NULL;
        bool is_good;
        TSS2_RC rc;

        rc = Esys_ReadPublic(t->esys, key, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public, NULL, NULL);
        if (rc != TSS2_RC_SUCCESS)
                return tpm_error(error, t->settings, rc, "a public key cannot be read");
        is_good = is_storage_key(&public->publicArea);
        Esys_Free(public);
        return is_good ? 0
                       : tpm_fail(error, t->settings, -EINVAL,
                                  "the object at %s=0x%08x is not an RSA %s: name another handle", p->setting,
                                  handle, p->name);
}

static int find_primary(TpmChip *t, const struct Primary *p, uint32_t handle, ESYS_TR *ret, DpsError *error) {
        TSS2_RC rc;

        rc = Esys_TR_FromTPMPublic(t->esys, handle, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ret);
        if (tpm_rc_is_empty(rc))
                return make_primary(t, p, handle, ret, error);
        if (rc != TSS2_RC_SUCCESS)
                return tpm_error(error, t->settings, rc, "the TPM does not answer");
        return check_primary(t, p, handle, *ret, error);
}

/* ---- the connection ---- */

static int take_lock(TpmChip *t, DpsError *error) {
        struct timespec until;
        int r;

#ifdef __GLIBC__
        (void) clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += PATIENCE_SEC;
        r = pthread_mutex_clocklock(&lock, CLOCK_MONOTONIC, &until);
#else /* musl has only this, which ends too early or too late if the clock is set meanwhile */
        (void) clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PATIENCE_SEC;
        r = pthread_mutex_timedlock(&lock, &until);
#endif
        if (r != 0)
                return tpm_fail(error, t->settings, -EAGAIN,
                                "an earlier request to the TPM has not ended for %d s", PATIENCE_SEC);
        t->is_locked = true;
        return 0;
}

#define UNIT_HELP "dps.conf(5), TPM ATTESTATION"

/* The libraries do not say why a device cannot be opened. */
static int check_device(const Settings *s, DpsError *error) {
        const char *path = s->tcti;

        if (!scan_literal(&path, "device:") || access(path, R_OK | W_OK) == 0)
                return 0;
        if (errno == EACCES)
                return tpm_fail(error, s, -EACCES,
                                "dpsd may not open it: its unit must let it (" UNIT_HELP ")");
        return tpm_fail(error, s, -EAGAIN,
                        "there is no TPM: %s; if there is one, the unit must show it to dpsd (" UNIT_HELP ")",
                        strerror(errno));
}

static int connect_chip(TpmChip *t, DpsError *error) {
        TSS2_RC rc;
        int r;

        r = check_device(t->settings, error);
        if (r < 0)
                return r;
        rc = Tss2_TctiLdr_Initialize(t->settings->tcti, &t->tcti);
        if (rc == TSS2_RC_SUCCESS)
                rc = Esys_Initialize(&t->esys, t->tcti, NULL);
        return rc == TSS2_RC_SUCCESS ? 0 : tpm_error(error, t->settings, rc, "the TPM cannot be reached");
}

int tpm_chip_open(TpmChip *t, const Settings *s, DpsError *error) {
        int r;

        t->settings = s;
        r = take_lock(t, error);
        if (r >= 0)
                r = connect_chip(t, error);
        if (r >= 0)
                r = find_primary(t, &endorsement, s->ek_handle, &t->endorsement_key, error);
        if (r >= 0)
                r = find_primary(t, &storage, s->srk_handle, &t->storage_root_key, error);
        return r;
}

void tpm_chip_close(TpmChip *t) {
        while (t->n_transient > 0)
                (void) Esys_FlushContext(t->esys, t->transient[--t->n_transient]);
        if (t->esys)
                Esys_Finalize(&t->esys);
        if (t->tcti)
                Tss2_TctiLdr_Finalize(&t->tcti);
        for (TpmAuth k = 0; k < _TPM_AUTH_MAX; k++)
                erase_and_free(t->secrets[k]);
        if (t->is_locked)
                (void) pthread_mutex_unlock(&lock);
        *t = (TpmChip){ 0 };
}
