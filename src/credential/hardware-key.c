/* SPDX-License-Identifier: MIT */
#include "credential/hardware-key.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <string.h>

#include "basic/module.h"
#include "basic/pause.h"
#include "basic/text.h"
#include "credential/credential-error.h"
#include "credential/token-notes.h"

#define TPM_TEXT_NAME "the key in the TPM"

/*
 * OpenSSL gets an ordinary key with the public half of the certificate, whose methods call us for signatures.
 * So TLS, hashes, random numbers and the check of the server stay with the default provider, for libmosquitto
 * and libcurl alike. In the middle of a handshake the signature is work for the worker: see basic/pause.h.
 * The methods are deprecated, but a provider could not do this on OpenSSL 3.0, which asks the default provider
 * first, and that one fails.
 */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

DEFINE_FREEP(HardwareKey, hardware_key_unref)

static void keyp(EVP_PKEY **k) {
        EVP_PKEY_free(*k);
}

/* --- signing -------------------------------------------------------------------------------------------- */

static int sign_now(const HardwareKey *k, Signature *s, DpsError *error) {
        return k->kind == HARDWARE_PKCS11 ? pkcs11_sign(k, s, error) : tpm_provider_sign(k, s, error);
}

/* On the stack of the paused job. */
typedef struct Pause {
        Signature *signature;
        PauseWaker waker;
        bool is_done;
        int r;
        DpsError error;
} Pause;

typedef struct SignTask {
        HardwareKey *key;
        Signature signature;
        Pause *pause;
        int r;
        DpsError error;
} SignTask;

static void task_run(void *task) {
        SignTask *t = task;

        t->r = sign_now(t->key, &t->signature, &t->error);
        ERR_clear_error();
}

static void task_free(void *task) {
        SignTask *t = task;

        if (t)
                hardware_key_unref(t->key);
        free(t);
}

static void task_done(void *task) {
        SignTask *t = task;
        Pause *p = t->pause;
        PauseWaker waker = p->waker;

        *p->signature = t->signature;
        p->r = t->r;
        p->error = t->error;
        p->is_done = true;
        task_free(t);
        pause_wake(waker);
}

static int sign_in_pause(HardwareKey *k, Signature *s, DpsError *error) {
        static const WorkClass class = {
                .queue = WORK_CHIPS, .run = task_run, .done = task_done, .free = task_free
        };
        Pause pause = { .signature = s, .waker = pause_waker() };
        SignTask *t = calloc(1, sizeof(*t));
        Work *work = NULL;

        if (t)
                *t = (SignTask){ .key = hardware_key_ref(k), .signature = *s, .pause = &pause };
        if (!t || work_begin(k->world, &class, t, &work) < 0) {
                task_free(t);
                return hardware_key_error(k, error, -ENOMEM, "PrivateKey", "%s", "");
        }
        if (!pause_until(&pause.is_done)) {
                work_forget(work);
                return hardware_key_error(k, error, -ENODEV, "PrivateKey", "%s: the signature came too late",
                                          k->reference);
        }
        *error = pause.error;
        return pause.r;
}

/* For OpenSSL's methods. Where OpenSSL has no jobs (musl), the signature blocks its caller. */
static bool sign(HardwareKey *k, SignatureScheme scheme, const unsigned char *input, size_t size,
                 Signature *s) {
        DpsError error = { 0 };
        int r;

        *s = (Signature){ .scheme = scheme, .input_size = size };
        if (!k || size > sizeof(s->input))
                return false;
        memcpy(s->input, input, size);
        r = k->world && pause_is_possible() ? sign_in_pause(k, s, &error) : sign_now(k, s, &error);
        if (r >= 0)
                return true;
        ERR_clear_error();
        pause_set_error(error.message);
        return false;
}

/* --- keys for OpenSSL ----------------------------------------------------------------------------------- */

static int ec_index = -1, rsa_index = -1;
static EC_KEY_METHOD *ec_method;
static RSA_METHOD *rsa_method;

static void on_free(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) {
        hardware_key_unref(data);
}

/* Nobody copies these keys, and a copy would have to have a reference. */
static int on_dup(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **data, int index, long argl,
                  void *argp) {
        *data = NULL;
        return 1;
}

static int ec_sign(int type, const unsigned char *digest, int size, unsigned char *ret, unsigned *ret_size,
                   const BIGNUM *kinv, const BIGNUM *r, EC_KEY *ec) {
        Signature s;

        if (!sign(EC_KEY_get_ex_data(ec, ec_index), SIGNATURE_ECDSA, digest, (size_t) size, &s) ||
            s.output_size > (size_t) ECDSA_size(ec))
                return 0;
        memcpy(ret, s.output, s.output_size);
        *ret_size = (unsigned) s.output_size;
        return 1;
}

static int rsa_sign(int size, const unsigned char *input, unsigned char *ret, RSA *rsa, int padding) {
        SignatureScheme scheme = padding == RSA_NO_PADDING ? SIGNATURE_RSA_RAW : SIGNATURE_RSA_PKCS1;
        Signature s;

        if (padding != RSA_NO_PADDING && padding != RSA_PKCS1_PADDING)
                return -1;
        if (!sign(RSA_get_ex_data(rsa, rsa_index), scheme, input, (size_t) size, &s) ||
            s.output_size != (size_t) RSA_size(rsa))
                return -1;
        memcpy(ret, s.output, s.output_size);
        return (int) s.output_size;
}

static void make_methods(void) {
        ec_index = EC_KEY_get_ex_new_index(0, NULL, NULL, on_dup, on_free);
        rsa_index = RSA_get_ex_new_index(0, NULL, NULL, on_dup, on_free);
        ec_method = EC_KEY_METHOD_new(EC_KEY_OpenSSL());
        rsa_method = RSA_meth_dup(RSA_PKCS1_OpenSSL());
        if (ec_method)
                EC_KEY_METHOD_set_sign(ec_method, ec_sign, NULL, NULL);
        if (rsa_method) {
                (void) RSA_meth_set_priv_enc(rsa_method, rsa_sign);
                (void) RSA_meth_set_flags(rsa_method, RSA_FLAG_EXT_PKEY);
        }
}

static EVP_PKEY *wrap_ec(HardwareKey *k, EVP_PKEY *public_key) {
        const EC_KEY *original = EVP_PKEY_get0_EC_KEY(public_key);
        EC_KEY *ec = original ? EC_KEY_dup(original) : NULL;
        EVP_PKEY *key = EVP_PKEY_new();

        if (ec && key && ec_method && EC_KEY_set_method(ec, ec_method) == 1 &&
            EC_KEY_set_ex_data(ec, ec_index, k) == 1) {
                hardware_key_ref(k);
                if (EVP_PKEY_assign_EC_KEY(key, ec) == 1)
                        return key;
        }
        EC_KEY_free(ec);
        EVP_PKEY_free(key);
        return NULL;
}

static EVP_PKEY *wrap_rsa(HardwareKey *k, EVP_PKEY *public_key) {
        const RSA *original = EVP_PKEY_get0_RSA(public_key);
        RSA *rsa = original ? RSAPublicKey_dup((RSA *) original) : NULL;
        EVP_PKEY *key = EVP_PKEY_new();

        if (rsa && key && rsa_method && RSA_set_method(rsa, rsa_method) == 1 &&
            RSA_set_ex_data(rsa, rsa_index, k) == 1) {
                hardware_key_ref(k);
                if (EVP_PKEY_assign_RSA(key, rsa) == 1)
                        return key;
        }
        RSA_free(rsa);
        EVP_PKEY_free(key);
        return NULL;
}

static int wrap(HardwareKey *k, EVP_PKEY *public_key, EVP_PKEY **ret, DpsError *error) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void) pthread_once(&once, make_methods);
        *ret = k->type == EVP_PKEY_EC ? wrap_ec(k, public_key) : wrap_rsa(k, public_key);
        return *ret ? 0 : hardware_key_error(k, error, -ENOMEM, "PrivateKey", "%s", "");
}

/* --- the proof ------------------------------------------------------------------------------------------ */

static bool is_signed_ec(EVP_PKEY *public_key, const Signature *s) {
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(public_key, NULL);
        bool good = c && EVP_PKEY_verify_init(c) == 1 &&
                    EVP_PKEY_verify(c, s->output, s->output_size, s->input, s->input_size) == 1;

        EVP_PKEY_CTX_free(c);
        return good;
}

/* TLS 1.3 needs a signature by PSS of an RSA key. OpenSSL makes the padding, so that the key needs to do no
 * more than what this does. */
static bool pad_rsa(EVP_PKEY *public_key, const unsigned char *digest, Signature *s) {
        RSA *rsa = (RSA *) EVP_PKEY_get0_RSA(public_key);

        if (!rsa || RSA_size(rsa) > (int) sizeof(s->input))
                return false;
        s->scheme = SIGNATURE_RSA_RAW;
        s->input_size = (size_t) RSA_size(rsa);
        return RSA_padding_add_PKCS1_PSS_mgf1(rsa, s->input, digest, EVP_sha256(), EVP_sha256(), 32) == 1;
}

static bool is_signed_rsa(EVP_PKEY *public_key, const Signature *s) {
        RSA *rsa = (RSA *) EVP_PKEY_get0_RSA(public_key);
        unsigned char opened[SIGNATURE_SIZE_MAX];

        return s->output_size == s->input_size &&
               RSA_public_decrypt((int) s->output_size, s->output, opened, rsa, RSA_NO_PADDING) ==
                       (int) s->input_size &&
               memcmp(opened, s->input, s->input_size) == 0;
}

static int prove(const HardwareKey *k, EVP_PKEY *public_key, DpsError *error) {
        Signature s = { .scheme = SIGNATURE_ECDSA, .input_size = 32 };
        unsigned char nonce[32];
        bool good = RAND_bytes(nonce, sizeof(nonce)) == 1;
        int r;

        if (k->type == EVP_PKEY_EC)
                memcpy(s.input, nonce, sizeof(nonce));
        else
                good = good && pad_rsa(public_key, nonce, &s);
        if (!good)
                return hardware_key_error(k, error, -ENOMEM, "PrivateKey", "%s", "");
        r = sign_now(k, &s, error);
        if (r < 0)
                return r;
        if (k->type == EVP_PKEY_EC ? is_signed_ec(public_key, &s) : is_signed_rsa(public_key, &s))
                return 0;
        return hardware_key_error(k, error, -EINVAL, "PrivateKey",
                                  k->is_issued
                                          ? "%s: its signature does not fit the certificate or the "
                                            "public key: another key has taken its place"
                                          : "%s: not the key of the first certificate in Certificate=: "
                                            "the device's certificate comes first, and its key goes here",
                                  k->reference);
}

static int no_memory(DpsError *error) {
        return credential_error(error, -ENOMEM, &(Place){ 0 }, "PrivateKey", "%s", "");
}

static int load(const CredentialSource *source, HardwareKind kind, const char *reference, X509 *leaf,
                EVP_PKEY **ret, DpsError *error) {
        _cleanup_(hardware_key_unrefp) HardwareKey *k = NULL;
        EVP_PKEY *public_key = X509_get0_pubkey(leaf);
        bool is_text = kind == HARDWARE_TPM_TEXT;
        int type = public_key ? EVP_PKEY_get_base_id(public_key) : 0, r;

        k = hardware_key_new((HardwareKey){ .world = source->world,
                                            .settings = source->settings,
                                            .kind = kind,
                                            .is_issued = source->text,
                                            .reference = (char *) (is_text ? TPM_TEXT_NAME : reference),
                                            .text = (char *) (is_text ? reference : NULL),
                                            .type = type });
        if (!k)
                return no_memory(error);
        if (type != EVP_PKEY_EC && type != EVP_PKEY_RSA)
                return hardware_key_error(k, error, -EINVAL, "PrivateKey",
                                          "%s: a key in hardware must be EC (P-256 is best) or RSA, and that "
                                          "of the certificate is neither",
                                          k->reference);
        r = prove(k, public_key, error);
        return r < 0 ? r : wrap(k, public_key, ret, error);
}

/* --- keys of issued certificates ------------------------------------------------------------------------ */

static int make_in_token(HardwareKey *k, const IssuancePlace *place, EVP_PKEY **ret_public, char **ret_text,
                         DpsError *error) {
        int r;

        r = token_notes_remove_old(k->settings, place, error);
        if (r >= 0)
                r = token_note_write(k, place, error);
        if (r >= 0)
                r = pkcs11_make(k, k->settings->issuance_key_type, ret_public, error);
        if (r < 0)
                return r;
        *ret_text = text_format("%s\n", k->reference);
        return *ret_text ? r : no_memory(error);
}

static int make(Settings *s, const IssuancePlace *place, EVP_PKEY **ret, char **ret_text, DpsError *error) {
        bool is_tpm = streq(s->issuance_key, "tpm");
        HardwareKey wanted = { .world = place->world,
                               .settings = s,
                               .kind = is_tpm ? HARDWARE_TPM_TEXT : HARDWARE_PKCS11,
                               .is_issued = true,
                               .reference = (char *) TPM_TEXT_NAME,
                               .text = (char *) "" };
        _cleanup_(hardware_key_unrefp) HardwareKey *k = NULL;
        _cleanup_(keyp) EVP_PKEY *public_key = NULL;
        _cleanup_(freep) char *uri = NULL, *text = NULL;
        int r;

        r = is_tpm ? 0 : token_uri_choose(s, &uri, error);
        if (r < 0)
                return r;
        if (uri)
                wanted.reference = uri;
        k = hardware_key_new(wanted);
        if (!k)
                return no_memory(error);
        r = is_tpm ? tpm_provider_make(k, s->issuance_key_type, &public_key, &text, error)
                   : make_in_token(k, place, &public_key, &text, error);
        if (r < 0)
                return r;
        if (is_tpm) {
                free(k->text);
                k->text = strdup(text);
                if (!k->text)
                        return no_memory(error);
        }
        k->type = EVP_PKEY_get_base_id(public_key);
        r = prove(k, public_key, error);
        if (r >= 0)
                r = wrap(k, public_key, ret, error);
        if (r >= 0)
                *ret_text = TAKE_PTR(text);
        return r;
}

static int look(Settings *s, DpsError *error) {
        HardwareKey k = { .settings = s, .is_issued = true, .reference = s->issuance_key };

        return streq(s->issuance_key, "tpm") ? tpm_provider_look(&k, error) : pkcs11_look(&k, error);
}

static void remove_old(Settings *s, const IssuancePlace *place) {
        DpsError ignored;

        (void) token_notes_remove_old(s, place, &ignored);
}

static const HardwareKeyModule module = {
        .load = load, .make = make, .look = look, .remove_old = remove_old
};

MODULE_DEFINE("hardware-key", "hardware-key", &module);
