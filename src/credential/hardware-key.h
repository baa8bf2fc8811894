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
 *      tpm-provider.c   signs in a TPM, by OpenSSL's provider "tpm2"
 *      hardware-error.c how an error names the line of the configuration
 *      hardware-key.c   makes of it a key that OpenSSL can use for TLS
 */

#include <openssl/evp.h>

#include "credential/credential-class.h"

typedef enum HardwareKind {
        HARDWARE_PKCS11,
        HARDWARE_TPM_HANDLE,
        HARDWARE_TPM_FILE,
} HardwareKind;

typedef struct HardwareKey {
        unsigned n_references;
        World *world; /* NULL: signatures block */
        Settings *settings;
        HardwareKind kind;
        char *reference; /* a value of PrivateKey= */
        int type;        /* EVP_PKEY_EC or EVP_PKEY_RSA */
} HardwareKey;

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

/* What the module "hardware-key" is, as its class. */
typedef struct HardwareKeyModule {
        /* Makes the key for `leaf`, and has it sign something, which proves that it belongs to the certificate.
         * Blocks. On failure `error` is set. */
        int (*load)(const CredentialSource *source, HardwareKind kind, const char *reference, X509 *leaf,
                    EVP_PKEY **ret, DpsError *error);
} HardwareKeyModule;

/* Both block. On failure `error` is set. */
int pkcs11_sign(const HardwareKey *k, Signature *s, DpsError *error);
int tpm_provider_sign(const HardwareKey *k, Signature *s, DpsError *error);

/* An error about PrivateKey=, or about `key`. */
int hardware_key_error(const HardwareKey *k, DpsError *error, int r, const char *key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
