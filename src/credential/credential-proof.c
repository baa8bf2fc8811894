/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include "basic/pause.h"
#include "credential/credential-error.h"
#include "credential/credential-internal.h"

/* Loads a credential and has it sign something that is of no use to anybody. */

#define NONCE_SIZE 32

DEFINE_FREEP(EVP_MD_CTX, EVP_MD_CTX_free)

static void opensslp(unsigned char **p) {
        OPENSSL_free(*p);
}

/* Others, such as Ed25519, have a digest of their own, and take none. */
static const EVP_MD *digest_for(X509 *leaf) {
        int kind = EVP_PKEY_get_base_id(X509_get0_pubkey(leaf));

        return kind == EVP_PKEY_RSA || kind == EVP_PKEY_EC ? EVP_sha256() : NULL;
}

static int sign_nonce(EVP_PKEY *key, const EVP_MD *digest, const unsigned char *nonce, unsigned char **ret,
                      size_t *ret_size) {
        _cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _cleanup_(opensslp) unsigned char *signature = NULL;
        size_t size;

        if (!context || EVP_DigestSignInit(context, NULL, digest, NULL, key) != 1 ||
            EVP_DigestSign(context, NULL, &size, nonce, NONCE_SIZE) != 1)
                return -EIO;
        signature = OPENSSL_malloc(size);
        if (!signature || EVP_DigestSign(context, signature, &size, nonce, NONCE_SIZE) != 1)
                return -EIO;
        *ret = TAKE_PTR(signature);
        *ret_size = size;
        return 0;
}

/* 0: the key signs, and the certificate confirms it. -EBADMSG: the signature is wrong. */
static int prove_key(EVP_PKEY *key, X509 *leaf) {
        _cleanup_(EVP_MD_CTX_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _cleanup_(opensslp) unsigned char *signature = NULL;
        unsigned char nonce[NONCE_SIZE];
        size_t size;
        int r;

        if (!context || RAND_bytes(nonce, sizeof(nonce)) != 1)
                return -EIO;
        r = sign_nonce(key, digest_for(leaf), nonce, &signature, &size);
        if (r < 0)
                return r;
        if (EVP_DigestVerifyInit(context, NULL, digest_for(leaf), NULL, X509_get0_pubkey(leaf)) != 1)
                return -EIO;
        return EVP_DigestVerify(context, signature, size, nonce, sizeof(nonce)) == 1 ? 0 : -EBADMSG;
}

static int prove_certificate(const Credential *c, DpsError *error) {
        const ClientCertificate *certificate = c->certificate;
        char chip_error[PAUSE_ERROR_MAX];
        int r;

        r = prove_key(certificate->key, sk_X509_value(certificate->chain, 0));
        ERR_clear_error();
        if (r >= 0)
                return 0;
        if (pause_take_error(chip_error)) {
                dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "%s", chip_error);
                return r;
        }
        return credential_error(error, r, &c->settings->certificates_place, "PrivateKey", "%s",
                                r == -EBADMSG ? "its signature does not fit the certificate"
                                              : "it cannot sign");
}

/* The token is for no resource that a service has, and has expired long ago. */
static int prove_token(const Credential *c, DpsError *error) {
        _cleanup_(erase_and_freep) char *token = NULL;

        return c->class->sign(c, "dps-check", 1, NULL, &token, error);
}

int credential_prove(Settings *s, const char *registration_id, Method method, unsigned index,
                     Credential **ret, DpsError *error) {
        _cleanup_(freep) char *why = NULL;
        const CredentialClass *class = credential_class_load(method, &why);
        const CredentialSource source = {
                .settings = s, .registration_id = registration_id, .index = index, .may_wait = true
        };
        _cleanup_(credential_unrefp) Credential *c = NULL;
        int r;

        if (!class)
                return credential_error(error, -EOPNOTSUPP, &(Place){ 0 }, "Method", "%s cannot be used: %s",
                                        method_to_string(method), why ?: "out of memory");
        r = credential_new(class, &source, &c, error);
        if (r < 0)
                return r;
        /* The key of a TPM comes from DPS. */
        if (c->certificate) {
                r = prove_certificate(c, error);
                if (r < 0)
                        return r;
        } else if (class->sign && method != METHOD_TPM) {
                r = prove_token(c, error);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(c);
        return 0;
}
