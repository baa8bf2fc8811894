/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "basic/text.h"
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
        DpsError *error;
} Use;

static void use_done(Use *u) {
        EVP_PKEY_free(u->pkey);
        if (u->chip)
                (void) OSSL_PROVIDER_unload(u->chip);
        if (u->software)
                (void) OSSL_PROVIDER_unload(u->software);
        OSSL_LIB_CTX_free(u->library);
        if (u->text)
                explicit_bzero(u->text, u->text_size);
        free(u->text);
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

                if ((flags & ERR_TXT_STRING) && data[0])
                        (void) snprintf(ret, size, "%s: %s", reason ?: "error", data);
                else if (!ret[0] && reason)
                        (void) snprintf(ret, size, "%s", reason);
        }
}

static int tpm_error(const Use *u, const char *call) {
        char reason[200];

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
        return hardware_key_error(u->key, u->error, -ENODEV, "PrivateKey", "%s: the TPM %s: %s",
                                  u->key->reference, call, reason[0] ? reason : "no reason is given");
}

/* --- the provider --------------------------------------------------------------------------------------- */

static bool is_installed(void) {
        const char *directory = secure_getenv("OPENSSL_MODULES") ?: OPENSSL_info(OPENSSL_INFO_MODULES_DIR);
        _cleanup_(freep) char *path = NULL;

        if (asprintf(&path, "%s/tpm2.so", directory ?: "") < 0) {
                path = NULL;
                return false;
        }
        return access(path, R_OK) == 0;
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

        if (u->key->kind == HARDWARE_TPM_FILE) {
                u->pkey = load_file(u);
        } else {
                if (asprintf(&uri, "%s%s", u->key->reference, u->pin.text ? "?pass" : "") < 0) {
                        uri = NULL;
                        return use_error(u, -ENOMEM, "");
                }
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

static int use_tpm(Use *u, Signature *s) {
        int r;

        if (u->pin.text && pin_was_refused(&u->pin, u->key->reference))
                return hardware_key_error(u->key, u->error, -EINVAL, "Pin",
                                          "%s: the TPM has refused this PIN already; it is not tried again "
                                          "until its file is written anew",
                                          u->key->reference);
        ERR_clear_error();
        r = load_provider(u);
        if (r >= 0)
                r = load_key(u);
        return r < 0 ? r : sign(u, s);
}

int tpm_provider_sign(const HardwareKey *k, Signature *s, DpsError *error) {
        _cleanup_(freep) char *reason = NULL;
        _cleanup_(device_releasep) Device *device = NULL;
        _cleanup_(use_done) Use u = { .key = k, .error = error };
        int r;

        if (s->scheme != SIGNATURE_ECDSA)
                return use_error(&u, -EINVAL,
                                 "RSA keys of a TPM cannot make the signatures of TLS 1.3: use an EC key "
                                 "(P-256)");
        r = pin_read(k->settings, &u.pin, &reason);
        if (r < 0)
                return hardware_key_error(k, error, r, "Pin", "%s", reason ?: strerror(-r));
        if (k->kind == HARDWARE_TPM_FILE) {
                r = secret_read(k->reference, &u.text, &u.text_size, &reason);
                if (r < 0)
                        return hardware_key_error(k, error, r, "PrivateKey", "%s", reason ?: strerror(-r));
        }
        r = device_acquire("tpm2", &device); /* one for all TPMs, because of the environment */
        if (r == -ETIMEDOUT)
                return hardware_key_error(k, error, -ENODEV, "Tcti",
                                          "%s: the TPM does not return from an earlier call",
                                          k->settings->tcti);
        return r < 0 ? use_error(&u, r, "") : use_tpm(&u, s);
}
