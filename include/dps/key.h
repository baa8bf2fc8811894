/* SPDX-License-Identifier: MIT */
#pragma once

/* Symmetric keys, and what is done with them: derive, sign; and base64, in which they are written. */

#include <stddef.h>
#include <stdint.h>

#define DPS_KEY_SIZE_MIN 16
#define DPS_KEY_SIZE_MAX 64
#define DPS_HMAC_SIZE 32

/**
 * A symmetric key as it signs: the decoded bytes. A plain value: assigning it copies the secret, so pass it by
 * pointer, and end every one with dps_key_done().
 */
typedef struct DpsKey {
        uint8_t bytes[DPS_KEY_SIZE_MAX];
        size_t size;
} DpsKey;

/**
 * Decodes a key from base64; white space at either end is ignored, anything else that is not base64 is not.
 * DPS takes keys of 16 to 64 bytes (symmetric key attestation concept page).
 * -EBADMSG: not base64; -ERANGE: too short or too long. The errors say nothing of the text, it is a secret.
 */
int dps_key_from_base64(const char *text, DpsKey *ret);

/** The key as base64; the caller erases and frees it. */
int dps_key_to_base64(const DpsKey *key, char **ret);

/**
 * Derives a device's key from the key of its enrollment group: HMAC-SHA256 over the exact bytes of the
 * registration id, which is case-sensitive here and nowhere else.
 */
int dps_key_derive(const DpsKey *group_key, const char *registration_id, DpsKey *ret);

/** HMAC-SHA256 of `data`. */
int dps_key_sign(const DpsKey *key, const void *data, size_t size, uint8_t ret[static DPS_HMAC_SIZE]);

/** Wipes the key. NULL is fine. */
void dps_key_done(DpsKey *key);

/** Base64 of RFC 4648, padded, without line breaks. Decoding is strict: -EBADMSG. */
int dps_base64_encode(const void *data, size_t size, char **ret);
int dps_base64_decode(const char *text, size_t size, uint8_t **ret, size_t *ret_size);
