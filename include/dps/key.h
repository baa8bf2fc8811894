/* SPDX-License-Identifier: MIT */
#pragma once

/* Symmetric keys: reading, deriving and signing; and base64, in which keys are written. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In bytes. DPS takes keys of 16 to 64 bytes (Microsoft, "Symmetric key attestation"). */
#define DPS_KEY_SIZE_MIN 16
#define DPS_KEY_SIZE_MAX 64
/** The size of a signature (HMAC-SHA256) in bytes. */
#define DPS_HMAC_SIZE 32

/**
 * A symmetric key: the decoded bytes. A plain value, and each copy of it is a copy of the secret: pass it by
 * pointer, and wipe each one with dps_key_done().
 */
typedef struct DpsKey {
        uint8_t bytes[DPS_KEY_SIZE_MAX];
        size_t size;
} DpsKey;

/**
 * Decodes a key. White space at either end of the text is ignored. 0, or -EBADMSG: the text is not base64;
 * -ERANGE: the key is too short or too long; -ENOMEM.
 */
int dps_key_from_base64(const char *text, DpsKey *ret);

/** Encodes a key. 0 or -ENOMEM. The text is a secret: the caller wipes it and frees it with free(). */
int dps_key_to_base64(const DpsKey *key, char **ret);

/**
 * Derives a device's key from the key of its enrollment group: HMAC-SHA256 over the exact bytes of the
 * registration id (Microsoft, "Symmetric key attestation"). Here, and only here, upper and lower case differ.
 * 0, or -EIO: OpenSSL failed.
 */
int dps_key_derive(const DpsKey *group_key, const char *registration_id, DpsKey *ret);

/** HMAC-SHA256 of `data`. 0, or -EIO: OpenSSL failed. */
int dps_key_sign(const DpsKey *key, const void *data, size_t size, uint8_t ret[DPS_HMAC_SIZE]);

/** Wipes a key. NULL is allowed. */
void dps_key_done(DpsKey *key);

/**
 * Encodes to base64 (RFC 4648, padded, no line breaks). 0, -ENOMEM, or -EFBIG: 1 GB or more. Freed with
 * free().
 */
int dps_base64_encode(const void *data, size_t size, char **ret);
/**
 * Decodes base64: nothing but whole groups of four, with their padding. 0, -EBADMSG, or -ENOMEM. Freed with
 * free(); the caller wipes it first if it is a secret.
 */
int dps_base64_decode(const char *text, size_t size, uint8_t **ret, size_t *ret_size);

#ifdef __cplusplus
}
#endif
