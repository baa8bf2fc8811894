/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "basic/text.h"
#include "config/pem.h"
#include "config/secret.h"
#include "credential/device.h"
#include "credential/hardware-key.h"
#include "credential/pin.h"
#include "credential/tpm-environment.h"

/*
 * The provider "tpm2" of tpm2-openssl lives in a library context of its own, so that TLS itself, random
 * numbers and the check of the server never go to the TPM. All of it exists for one signature only: a key that
 * stays loaded takes one of a TPM's three places.
 */

/* Where the provider could do more than keys, the default one does it. */
#define PROPERTIES "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes,tpm2.rand!=yes"

typedef struct Use {
        const HardwareKey *key;
        OSSL_LIB_CTX *library;
        OSSL_PROVIDER *software, *chip;
        EVP_PKEY *pkey;
        Pin pin;
        char *text; /* of a key file */
        size_t text_size;
        bool is_text_ours;
        DpsError *error;
} Use;

static void use_done(Use *u) {
        EVP_PKEY_free(u->pkey);
        if (u->chip)
                (void) OSSL_PROVIDER_unload(u->chip);
        if (u->software)
                (void) OSSL_PROVIDER_unload(u->software);
        OSSL_LIB_CTX_free(u->library);
        if (u->is_text_ours) {
                explicit_bzero(u->text, u->text_size);
                free(u->text);
        }
        pin_done(&u->pin);
}

/* --- errors --------------------------------------------------------------------------------------------- */

static int use_error(const Use *u, int r, const char *what) {
        return hardware_key_error(u->key, u->error, r, "PrivateKey", "%s: %s", u->key->reference, what);
}

/* What the TPM answered, if the provider says so in OpenSSL's queue: "… (0x98e)" or a text of libtss2. */
static void last_reason(char *ret, size_t size) {
        unsigned long error;
        const char *data;
        int flags;

        ret[0] = 0;
        while ((error = ERR_get_error_all(NULL, NULL, NULL, &data, &flags))) {
                const char *reason = ERR_reason_error_string(error);

                /* Since OpenSSL 3.5, EVP itself adds last which of its calls failed. */
                if ((flags & ERR_TXT_STRING) && data[0] && (ERR_GET_LIB(error) != ERR_LIB_EVP || !ret[0]))
                        (void) snprintf(ret, size, "%s: %s", reason ?: "error", data);
                else if (!ret[0] && reason)
                        (void) snprintf(ret, size, "%s", reason);
        }
}

static int tpm_error(const Use *u, const char *call) {
        char reason[200];
        bool is_foreign;

        last_reason(reason, sizeof(reason));
        if (strcasestr(reason, "authorization") || strcasestr(reason, "auth fail")) {
                if (u->pin.text)
                        pin_note_refused(&u->pin, u->key->reference);
                return hardware_key_error(u->key, u->error, -EINVAL, u->pin.text ? "Pin" : "PrivateKey",
                                          "%s: %s", u->key->reference,
                                          u->pin.text
                                                  ? "the TPM refused the PIN; it is not tried again until "
                                                    "its file is written anew"
                                                  : "the key has an auth value: put it into a file and "
                                                    "name that file with Pin=");
        }
        /* It was cleared, it is another one, or somebody has removed the storage root key. */
        is_foreign = u->key->kind == HARDWARE_TPM_TEXT &&
                     (strcasestr(reason, "integrity") || strcasestr(reason, "parent"));
        return hardware_key_error(u->key, u->error, is_foreign ? -ENOENT : -ENODEV, "PrivateKey",
                                  "%s: the TPM %s: %s", u->key->reference, call,
                                  reason[0] ? reason : "no reason is given");
}

/* --- the provider --------------------------------------------------------------------------------------- */

static bool is_installed(void) {
        const char *directory = secure_getenv("OPENSSL_MODULES") ?: OPENSSL_info(OPENSSL_INFO_MODULES_DIR);
        _cleanup_(freep) char *path = text_format("%s/tpm2.so", directory ?: "");

        return path && access(path, R_OK) == 0;
}

static int load_provider(Use *u) {
        const char *tcti = u->key->settings->tcti;
        char reason[200];

        if (!is_installed())
                return use_error(u, -ENODEV,
                                 "OpenSSL's provider for TPMs is missing: install the package tpm2-openssl");
        u->library = OSSL_LIB_CTX_new();
        if (!u->library)
                return use_error(u, -ENOMEM, "");
        tpm_environment_set_tcti(tcti);
        u->software = OSSL_PROVIDER_load(u->library, "default");
        u->chip = u->software ? OSSL_PROVIDER_load(u->library, "tpm2") : NULL;
        if (u->chip)
                return 0;
        last_reason(reason, sizeof(reason));
        return hardware_key_error(u->key, u->error, -ENODEV, "Tcti",
                                  "%s: there is no TPM, or it does not answer: %s", tcti,
                                  reason[0] ? reason : "no reason is given");
}

/* --- the key -------------------------------------------------------------------------------------------- */

/* OpenSSL must not ask on the terminal. */
static int give_pin(char *buffer, size_t size, size_t *ret_size, const OSSL_PARAM *params, void *userdata) {
        const Use *u = userdata;

        if (!u->pin.text || u->pin.size > size)
                return 0;
        memcpy(buffer, u->pin.text, u->pin.size);
        *ret_size = u->pin.size;
        return 1;
}

static int ui_read(UI *ui, UI_STRING *string) {
        const Use *u = UI_get0_user_data(ui);

        if (UI_get_string_type(string) != UIT_PROMPT && UI_get_string_type(string) != UIT_VERIFY)
                return 1;
        return u->pin.text && UI_set_result_ex(ui, string, u->pin.text, (int) u->pin.size) >= 0 ? 1 : 0;
}

static EVP_PKEY *load_file(Use *u) {
        BIO *bio = BIO_new_mem_buf(u->text, (int) u->text_size);
        EVP_PKEY *key = NULL;
        OSSL_DECODER_CTX *c = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM", NULL, NULL, EVP_PKEY_KEYPAIR,
                                                            u->library, PROPERTIES);

        if (bio && c && OSSL_DECODER_CTX_set_passphrase_cb(c, give_pin, u) == 1)
                (void) OSSL_DECODER_from_bio(c, bio);
        OSSL_DECODER_CTX_free(c);
        BIO_free(bio);
        return key;
}

static EVP_PKEY *load_uri(Use *u, const char *uri) {
        UI_METHOD *ui = UI_create_method("dps");
        OSSL_STORE_CTX *store = NULL;
        EVP_PKEY *key = NULL;

        if (ui && UI_method_set_reader(ui, ui_read) == 0)
                store = OSSL_STORE_open_ex(uri, u->library, PROPERTIES, ui, u, NULL, NULL, NULL);
        if (store)
                (void) OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
        while (store && !key && !OSSL_STORE_eof(store)) {
                OSSL_STORE_INFO *info = OSSL_STORE_load(store);

                if (!info)
                        break;
                if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
                        key = OSSL_STORE_INFO_get1_PKEY(info);
                OSSL_STORE_INFO_free(info);
        }
        if (store)
                (void) OSSL_STORE_close(store);
        UI_destroy_method(ui);
        return key;
}

/* The provider asks for the auth value of a persistent key only if the URI says so. */
static int load_key(Use *u) {
        _cleanup_(freep) char *uri = NULL;

        if (u->key->kind != HARDWARE_TPM_HANDLE) {
                u->pkey = load_file(u);
        } else {
                uri = text_format("%s%s", u->key->reference, u->pin.text ? "?pass" : "");
                if (!uri)
                        return use_error(u, -ENOMEM, "");
                u->pkey = load_uri(u, uri);
        }
        return u->pkey ? 0 : tpm_error(u, "does not load this key");
}

/* --- the signature -------------------------------------------------------------------------------------- */

/* TPM2_Sign() wants to know which digest it is. */
static const char *digest_name(size_t size) {
        return size == 32 ? "SHA2-256" : size == 48 ? "SHA2-384" : size == 64 ? "SHA2-512" : "SHA1";
}

static int sign(Use *u, Signature *s) {
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(u->library, u->pkey, PROPERTIES);
        size_t size = sizeof(s->output);
        bool good;

        good = c && EVP_PKEY_sign_init(c) == 1;
        if (good && s->input_size >= 20) {
                const OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(
                                                      "digest", (char *) digest_name(s->input_size), 0),
                                              OSSL_PARAM_construct_end() };

                good = EVP_PKEY_CTX_set_params(c, params) == 1;
        }
        good = good && EVP_PKEY_sign(c, s->output, &size, s->input, s->input_size) == 1;
        EVP_PKEY_CTX_free(c);
        if (!good)
                return tpm_error(u, "does not sign");
        s->output_size = size;
        return 0;
}

static int open_tpm(Use *u, Device **ret) {
        int r = device_acquire("tpm2", ret); /* one for all TPMs, because of the environment */

        if (r == -ETIMEDOUT)
                return hardware_key_error(u->key, u->error, -ENODEV, "Tcti",
                                          "%s: the TPM does not return from an earlier call",
                                          u->key->settings->tcti);
        if (r < 0)
                return use_error(u, r, "");
        ERR_clear_error();
        return load_provider(u);
}

static int load_and_sign(Use *u, Signature *s) {
        int r = load_key(u);

        return r < 0 ? r : sign(u, s);
}

int tpm_provider_sign(const HardwareKey *k, Signature *s, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        _cleanup_(device_releasep) Device *device = NULL;
        _cleanup_(use_done) Use u = { .key = k, .error = error };
        int r = 0;

        if (s->scheme != SIGNATURE_ECDSA)
                return use_error(&u, -EINVAL,
                                 "RSA keys of a TPM cannot make the signatures of TLS 1.3: use an EC key "
                                 "(P-256)");
        /* Keys that we make have no auth value. */
        if (k->kind != HARDWARE_TPM_TEXT)
                r = pin_read(k->settings, &u.pin, &reason);
        if (r < 0)
                return hardware_key_error(k, error, r, "Pin", "%s", reason ?: strerror(-r));
        if (k->kind == HARDWARE_TPM_FILE) {
                r = secret_read(k->reference, &u.text, &u.text_size, &reason);
                if (r < 0)
                        return hardware_key_error(k, error, r, "PrivateKey", "%s", reason ?: strerror(-r));
                u.is_text_ours = true;
        } else if (k->kind == HARDWARE_TPM_TEXT) {
                u.text = k->text;
                u.text_size = strlen(k->text);
        }
        if (u.pin.text && pin_was_refused(&u.pin, k->reference))
                return hardware_key_error(k, error, -EINVAL, "Pin",
                                          "%s: the TPM has refused this PIN already; it is not tried again "
                                          "until its file is written anew",
                                          k->reference);
        r = open_tpm(&u, &device);
        return r < 0 ? r : load_and_sign(&u, s);
}

/* --- to make a key -------------------------------------------------------------------------------------- */

static EVP_PKEY *generate(const Use *u, const char *curve, uint32_t parent) {
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(u->library, "EC", "provider=tpm2");
        EVP_PKEY *key = NULL;
        OSSL_PARAM params[3];
        size_t n = 0;

        params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *) curve, 0);
        if (parent)
                params[n++] = OSSL_PARAM_construct_uint32("parent", &parent);
        params[n] = OSSL_PARAM_construct_end();
        if (!c || EVP_PKEY_keygen_init(c) != 1 || EVP_PKEY_CTX_set_params(c, params) != 1 ||
            EVP_PKEY_keygen(c, &key) != 1)
                key = NULL;
        EVP_PKEY_CTX_free(c);
        return key;
}

/* The parent is the storage root key at its handle. Where there is none, the provider makes one that does not stay, each
 * time that the key is used; this needs a TPM whose owner has no auth value. */
static int generate_below_root(Use *u, const char *curve) {
        char first[200], second[200];

        u->pkey = generate(u, curve, u->key->settings->srk_handle);
        if (u->pkey)
                return 0;
        last_reason(first, sizeof(first));
        u->pkey = generate(u, curve, 0);
        if (u->pkey)
                return 0;
        last_reason(second, sizeof(second));
        if (strcasestr(second, "auth"))
                return hardware_key_error(u->key, u->error, -ENODEV, "PrivateKey",
                                          "tpm: there is no storage root key at 0x%08x (SrkHandle=), and the "
                                          "owner's auth value keeps dpsd from making one: make it with "
                                          "tpm2_createprimary and tpm2_evictcontrol",
                                          u->key->settings->srk_handle);
        return hardware_key_error(u->key, u->error, -ENODEV, "PrivateKey",
                                  "tpm: the TPM does not make a key on the curve %s: %s%s%s; if it does not "
                                  "know this curve, set KeyType=ec-p256",
                                  curve, second[0] ? second : "no reason is given", first[0] ? "; " : "",
                                  first);
}

static int take_texts(const Use *u, EVP_PKEY **ret_public, char **ret_text) {
        BIO *bio = BIO_new(BIO_s_mem());
        unsigned char *der = NULL;
        const unsigned char *p;
        int size = i2d_PUBKEY(u->pkey, &der);
        char *data, *text = NULL;
        EVP_PKEY *key = NULL;
        long n;

        p = der;
        if (size > 0)
                key = d2i_PUBKEY(NULL, &p, size);
        if (bio && PEM_write_bio_PrivateKey_ex(bio, u->pkey, NULL, NULL, 0, NULL, NULL, u->library,
                                               PROPERTIES) == 1) {
                n = BIO_get_mem_data(bio, &data);
                text = n > 0 ? strndup(data, (size_t) n) : NULL;
        }
        OPENSSL_free(der);
        BIO_free(bio);
        if (key && text && startswith(text, PEM_TSS2_BEGIN)) {
                *ret_public = key;
                *ret_text = text;
                return 0;
        }
        EVP_PKEY_free(key);
        free(text);
        return tpm_error(u, "made a key that cannot be written down");
}

int tpm_provider_look(const HardwareKey *k, DpsError *error) {
        _cleanup_(device_releasep) Device *device = NULL;
        _cleanup_(use_done) Use u = { .key = k, .error = error };

        return open_tpm(&u, &device);
}

int tpm_provider_make(const HardwareKey *k, KeyType type, EVP_PKEY **ret_public, char **ret_text,
                      DpsError *error) {
        static const char *const curves[_KEY_TYPE_MAX] = {
                [KEY_TYPE_EC_P256] = "P-256", [KEY_TYPE_EC_P384] = "P-384"
        };
        _cleanup_(device_releasep) Device *device = NULL;
        _cleanup_(use_done) Use u = { .key = k, .error = error };
        int r;

        if (!curves[type])
                return use_error(
                        &u, -EINVAL,
                        "RSA keys of a TPM cannot make the signatures of TLS 1.3: set KeyType=ec-p256");
        r = open_tpm(&u, &device);
        if (r >= 0)
                r = generate_below_root(&u, curves[type]);
        return r < 0 ? r : take_texts(&u, ret_public, ret_text);
}
