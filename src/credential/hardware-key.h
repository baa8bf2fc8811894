/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A private key that stays in a PKCS#11 token or a TPM: a module, since few devices have one. The key is opened
 * anew for each signature and closed afterwards: no PIN stays in memory, no session and no place in the TPM stay
 * taken, and there is nothing to free that might block.
 *
 *      device.c         one call at a time for each token or TPM, and none after one that does not return
 *      pin.c            Pin=, and which PINs were refused
 *      pkcs11.c         signs in a token
 *      pkcs11-token.c   a session with a token: its module, and the log-in
 *      pkcs11-make.c    makes and removes keys in a token
 *      token-notes.c    which keys were made in tokens
 *      tpm-provider.c   signs in a TPM and makes keys in it, by OpenSSL's provider "tpm2"
 *      hardware-error.c how an error names the line of the configuration
 *      hardware-memory.c which keys are in memory
 *      hardware-key.c   makes of it a key that OpenSSL can use for TLS
 */

#include <openssl/evp.h>

#include "credential/credential-class.h"
#include "credential/issued.h"

typedef enum HardwareKind {
        HARDWARE_PKCS11,
        HARDWARE_TPM_HANDLE,
        HARDWARE_TPM_FILE,
        HARDWARE_TPM_TEXT, /* of such a file */
} HardwareKind;

typedef struct HardwareKey HardwareKey;
struct HardwareKey {
        unsigned n_references;
        World *world; /* NULL: signatures block */
        Settings *settings;
        HardwareKind kind;
        bool is_issued;    /* of an issued certificate: Key= in [Issuance], and not PrivateKey= */
        char *reference;   /* a value of PrivateKey=, a URI, or how the key is called in errors */
        char *text;        /* of HARDWARE_TPM_TEXT */
        int type;          /* EVP_PKEY_EC or EVP_PKEY_RSA */
        HardwareKey *next; /* see hardware_key_is_used() */
};

typedef enum SignatureScheme {
        SIGNATURE_ECDSA,     /* a digest; the signature is DER */
        SIGNATURE_RSA_PKCS1, /* a DigestInfo, still without padding */
        SIGNATURE_RSA_RAW,   /* as long as the modulus, with padding */
} SignatureScheme;

#define SIGNATURE_SIZE_MAX 1024U

typedef struct Signature {
        SignatureScheme scheme;
        unsigned char input[SIGNATURE_SIZE_MAX], output[SIGNATURE_SIZE_MAX];
        size_t input_size, output_size;
} Signature;

/* The class of the module "hardware-key". */
typedef struct HardwareKeyModule {
        /* Makes the key for `leaf`, and has it sign something, which proves that it belongs to the certificate.
         * Blocks. On failure `error` is set. */
        int (*load)(const CredentialSource *source, HardwareKind kind, const char *reference, X509 *leaf,
                    EVP_PKEY **ret, DpsError *error);
        /* Makes a key for an issued certificate, as [Issuance] says. Removes keys that were made in the token
         * before and never served first, so that failed attempts do not fill the token. `ret_text` is what the
         * pair's file holds of the key: its URI in a line, or for a TPM the text of a TSS2 file. Blocks. On
         * failure `error` is set. */
        int (*make)(Settings *s, const IssuancePlace *place, EVP_PKEY **ret, char **ret_text,
                    DpsError *error);
        /* Whether make() would find what it needs: the module, the token and its PIN, or the TPM. Changes
         * nothing. Blocks. On failure `error` is set. */
        int (*look)(Settings *s, DpsError *error);
        /* Removes from their tokens all keys that were made for this identity but those that a pair's file names or
         * that are in use. Blocks. */
        void (*remove_old)(Settings *s, const IssuancePlace *place);
} HardwareKeyModule;

/* All block. On failure `error` is set. */
int pkcs11_sign(const HardwareKey *k, Signature *s, DpsError *error);
int tpm_provider_sign(const HardwareKey *k, Signature *s, DpsError *error);
/* `k` has the URI of the new key, with both its label and its id. -EINVAL: the settings must be changed. */
int pkcs11_make(const HardwareKey *k, KeyType type, EVP_PKEY **ret_public, DpsError *error);
/* Removes the key with the label and the id of the URI, and its public half. It is no error if there is none. */
int pkcs11_remove(const HardwareKey *k, DpsError *error);
int pkcs11_look(const HardwareKey *k, DpsError *error);
int tpm_provider_look(const HardwareKey *k, DpsError *error);
int tpm_provider_make(const HardwareKey *k, KeyType type, EVP_PKEY **ret_public, char **ret_text,
                      DpsError *error);

/* Copies the texts, and has one reference. NULL: there is no memory. */
HardwareKey *hardware_key_new(HardwareKey k);
HardwareKey *hardware_key_ref(HardwareKey *k);
HardwareKey *hardware_key_unref(HardwareKey *k);
/* Whether there is a key of this reference in memory. */
bool hardware_key_is_used(const char *reference);

/* An error about PrivateKey=, or about `key`. */
int hardware_key_error(const HardwareKey *k, DpsError *error, int r, const char *key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
