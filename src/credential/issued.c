/* SPDX-License-Identifier: MIT */
#include "credential/issued.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "basic/module.h"
#include "basic/text.h"
#include "config/pem.h"
#include "credential/certificate.h"
#include "credential/credential-internal.h"
#include "credential/hardware-key.h"
#include "credential/issuance.h"
#include "dps/reply.h"

#define NAME_DIGITS 16 /* of a file */

/* --- the request ---------------------------------------------------------------------------------------- */

static const IssuanceModule *module; /* is loaded when it is needed first */

void issuance_set_module(const IssuanceModule *m) {
        __atomic_store_n(&module, m, __ATOMIC_RELEASE);
}

static int load_module(const char *name, const char *key, const void **ret, DpsError *error) {
        _cleanup_(freep) char *why = NULL;
        int r = module_load(module_directory(), name, name, ret, &why);

        if (r < 0)
                dps_error_set(error, why ? DPS_ERROR_CONFIG : DPS_ERROR_MEMORY, DPS_STEP_CONFIG,
                              "[Issuance] %s=: %s", key, why ?: "out of memory");
        return r;
}

static int load_hardware(const HardwareKeyModule **ret, DpsError *error) {
        return load_module("hardware-key", "Key", (const void **) ret, error);
}

int issuance_request_new(Settings *s, const IssuancePlace *place, IssuanceRequest *ret, DpsError *error) {
        const IssuanceModule *m = __atomic_load_n(&module, __ATOMIC_ACQUIRE);
        const HardwareKeyModule *hardware = NULL;
        int r = 0;

        if (!m)
                r = load_module("issuance", "Request", (const void **) &m, error);
        if (r >= 0 && settings_issue_in_hardware(s))
                r = load_hardware(&hardware, error);
        if (r >= 0)
                r = m->request_new(s, place, hardware, ret, error);
        if (r >= 0)
                ret->module = m;
        return r;
}

void issuance_request_done(IssuanceRequest *r) {
        EVP_PKEY_free(r->key);
        erase_and_free(r->key_text);
        free(r->csr);
        *r = (IssuanceRequest){ 0 };
}

/* --- keys of certificates that are not used any more ---------------------------------------------------- */

int issuance_place_new(World *w, const Folder *state, const Folder *notes, IssuancePlace *ret) {
        *ret = (IssuancePlace){ .world = w,
                                .state = state ? strdup(state->path) : NULL,
                                .notes = notes ? strdup(notes->path) : NULL };
        return (ret->state || !state) && (ret->notes || !notes) ? 0 : -ENOMEM;
}

void issuance_place_done(IssuancePlace *p) {
        free(p->state);
        free(p->notes);
}

typedef struct Removal {
        Settings *settings;
        IssuancePlace place;
} Removal;

static void removal_run(void *task) {
        Removal *t = task;
        const HardwareKeyModule *hardware;
        DpsError ignored;

        if (load_hardware(&hardware, &ignored) >= 0)
                hardware->remove_old(t->settings, &t->place);
        ERR_clear_error();
}

static void removal_free(void *task) {
        Removal *t = task;

        settings_unref(t->settings);
        issuance_place_done(&t->place);
        free(t);
}

void issuance_remove_old_keys(World *w, Settings *s, const Folder *state, const Folder *notes) {
        static const WorkClass class = {
                .queue = WORK_CHIPS, .run = removal_run, .done = removal_free, .free = removal_free
        };
        Removal *t = calloc(1, sizeof(*t));

        if (!t)
                return;
        t->settings = settings_ref(s);
        if (issuance_place_new(w, state, notes, &t->place) < 0 || work_begin(w, &class, t, NULL) < 0)
                removal_free(t);
}

/* --- the pair ------------------------------------------------------------------------------------------- */

void issued_pair_done(IssuedPair *p) {
        erase_and_free(p->text);
        EVP_PKEY_free(p->key);
        *p = (IssuedPair){ 0 };
}

/* --- its file ------------------------------------------------------------------------------------------- */

int issued_file_name(const char *identity, const char *fingerprint, char **ret) {
        *ret = text_format("%s.%.*s" ISSUED_SUFFIX, identity, NAME_DIGITS, fingerprint);
        return *ret ? 0 : -ENOMEM;
}

bool issued_file_is_any(const char *file) {
        return endswith(file, ISSUED_SUFFIX);
}

static bool is_of(const char *file, const char *identity, const char *suffix) {
        size_t n = strlen(identity);

        return strncmp(file, identity, n) == 0 && file[n] == '.' &&
               strspn(file + n + 1, "0123456789abcdef") == NAME_DIGITS &&
               streq(file + n + 1 + NAME_DIGITS, suffix);
}

bool issued_file_is_of(const char *file, const char *identity) {
        return is_of(file, identity, ISSUED_SUFFIX);
}

bool token_note_is_of(const char *file, const char *identity) {
        return is_of(file, identity, TOKEN_NOTE_SUFFIX);
}

/* --- the credential ------------------------------------------------------------------------------------- */

typedef struct IssuedCredential {
        Credential credential;
        ClientCertificate certificate;
} IssuedCredential;

static unsigned count(const Settings *s) {
        return 1;
}

/* The id is `issuance` only if the pair is lost: a disk that refuses to read says nothing of what it holds. */
static int damaged(DpsError *error, const CredentialSource *source, int r, const char *what) {
        bool is_lost = r == -ENOENT || r == -EBADMSG || r == -ENODATA || r == -E2BIG;

        dps_error_set(error,
                      is_lost        ? DPS_ERROR_ISSUANCE
                      : r == -ENOMEM ? DPS_ERROR_MEMORY
                                     : DPS_ERROR_DISK,
                      DPS_STEP_CONFIG, "the issued certificate in %s/%s cannot be used: %s",
                      source->folder ? source->folder->path : "memory", source->file ?: "", what);
        return r;
}

/* The key begins where the chain ends. */
static int set_texts(const char *text, ClientCertificate *c) {
        static const char end[] = "-----END CERTIFICATE-----\n";
        const char *key = NULL;
        bool is_uri;

        for (const char *p = text; (p = strstr(p, end)); key = p)
                p += strlen(end);
        if (!key)
                return -EBADMSG;
        is_uri = startswith(key, "pkcs11:");
        c->pem = strndup(text, (size_t) (key - text));
        *(is_uri ? &c->key_reference : &c->key_pem) = is_uri ? strndup(key, strcspn(key, "\n")) : strdup(key);
        return c->pem && (c->key_pem || c->key_reference) ? 0 : -ENOMEM;
}

/* If the pair is in memory, so is its key. */
static int take_key(const CredentialSource *source, ClientCertificate *c, DpsError *error) {
        bool is_uri = c->key_reference;
        const HardwareKeyModule *hardware;
        const char *ignored;
        int r;

        c->is_slow = is_uri || strstr(c->key_pem, PEM_TSS2_BEGIN);
        if (source->key) {
                EVP_PKEY_up_ref(source->key);
                c->key = source->key;
        } else if (!c->is_slow) {
                r = pem_read_key(c->key_pem, strlen(c->key_pem), &c->key, &ignored);
                if (r < 0)
                        return r;
        } else if (!source->may_wait)
                return -EINPROGRESS;
        else {
                r = load_hardware(&hardware, error);
                if (r >= 0)
                        r = hardware->load(source, is_uri ? HARDWARE_PKCS11 : HARDWARE_TPM_TEXT,
                                           is_uri ? c->key_reference : c->key_pem, sk_X509_value(c->chain, 0),
                                           &c->key, error);
                /* The token is there and knows no such key, or it is another TPM. */
                if (r == -ENOENT)
                        error->id = DPS_ERROR_ISSUANCE;
                return r < 0 ? -EREMOTEIO : 0;
        }
        return pem_pair_fault(sk_X509_value(c->chain, 0), c->key) ? -EBADMSG : 0;
}

/* -EREMOTEIO: `error` is set. */
static int take_text(Credential *c, const CredentialSource *source, const char *text, size_t size,
                     DpsError *error) {
        ClientCertificate *certificate = &((IssuedCredential *) c)->certificate;
        const char *ignored;
        const X509 *leaf;
        int r;

        r = pem_read_certificates(text, size, DPS_ISSUED_CHAIN_MAX, &certificate->chain, &ignored);
        if (r >= 0)
                r = set_texts(text, certificate);
        if (r < 0)
                return r;
        leaf = sk_X509_value(certificate->chain, 0);
        r = certificate_common_name(leaf, &certificate->common_name);
        if (r < 0)
                return r;
        if (strcasecmp(certificate->common_name, source->registration_id) != 0)
                return -EBADMSG;
        r = take_key(source, certificate, error);
        if (r < 0)
                return r;
        certificate->not_before_usec = certificate_time_usec(X509_get0_notBefore(leaf));
        certificate->not_after_usec = c->expires_at_usec = certificate_time_usec(X509_get0_notAfter(leaf));
        c->certificate = certificate;
        return certificate_fingerprint(leaf, c->fingerprint);
}

int issued_credential_new(const IssuedPair *p, Settings *s, const char *registration_id, Credential **ret) {
        DpsError ignored;

        return credential_new(
                &issued_class,
                &(CredentialSource){
                        .settings = s, .registration_id = registration_id, .text = p->text, .key = p->key },
                ret, &ignored);
}

static int load(Credential *c, const CredentialSource *source, DpsError *error) {
        _cleanup_(erase_and_freep) char *read = NULL;
        const char *text = source->text;
        size_t size = text ? strlen(text) : 0;
        int r;

        if (!text) {
                r = folder_read(source->folder, source->file, ISSUED_SIZE_MAX, &read, &size);
                if (r < 0 && source->fallback)
                        r = folder_read(source->fallback, source->file, ISSUED_SIZE_MAX, &read, &size) >= 0
                                    ? 0
                                    : r;
                if (r < 0)
                        return damaged(error, source, r, strerror(-r));
                text = read;
        }
        r = take_text(c, source, text, size, error);
        ERR_clear_error();
        if (r == -EINPROGRESS)
                *source->ret_text = TAKE_PTR(read);
        return r >= 0 || r == -EINPROGRESS || r == -EREMOTEIO
                       ? r
                       : damaged(error, source, r, r == -ENOMEM ? "out of memory" : "it is damaged");
}

static void done(Credential *c) {
        client_certificate_done(&((IssuedCredential *) c)->certificate);
}

const CredentialClass issued_class = {
        .method = METHOD_X509,
        .size = sizeof(IssuedCredential),
        .count = count,
        .load = load,
        .done = done,
};
