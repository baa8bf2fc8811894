/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * TPM attestation, as far as it needs no TPM (Microsoft, "TPM attestation"; the layouts are those of the TPM 2.0
 * library specification, part 2, and of azure-utpm-c): DPS sends a key that only the TPM with the right
 * endorsement key can take. The steps in the TPM are ActivateCredential, Import and Load.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The size of dps_tpm_registration_id()'s text in bytes, with the NUL byte. */
#define DPS_TPM_REGISTRATION_ID_SIZE 53

/**
 * The registration id of a device that has TPM attestation and no other id: SHA-256 of the endorsement key's
 * public part (TPM2B_PUBLIC with its two bytes of size) in base32 of lower case, without padding. 0, or -EIO:
 * OpenSSL failed.
 */
int dps_tpm_registration_id(const void *endorsement_key, size_t size, char ret[DPS_TPM_REGISTRATION_ID_SIZE]);

/** A part of an authentication key: the bytes behind its size. */
typedef struct DpsTpmPart {
        const uint8_t *data;
        size_t size; /* 1 to 65535 */
} DpsTpmPart;

/** An authentication key that was split into its parts. They point into `data`, which the key owns. */
typedef struct DpsTpmKey {
        DpsTpmPart credential;        /* TPM2B_ID_OBJECT: holds the key that opens `duplicate` */
        DpsTpmPart credential_secret; /* TPM2B_ENCRYPTED_SECRET, for the endorsement key */
        DpsTpmPart duplicate;         /* TPM2B_PRIVATE: the HMAC key, encrypted */
        DpsTpmPart duplicate_seed;    /* TPM2B_ENCRYPTED_SECRET, for the storage root key */
        DpsTpmPart public_area;       /* TPM2B_PUBLIC of the HMAC key */
        uint8_t *data;
} DpsTpmKey;

/**
 * Splits an `authenticationKey` of DPS: base64 of TPM structures, each behind its size. What follows the first
 * five is ignored, since no device needs it. Checks the sizes and nothing else: the TPM judges the rest. 0,
 * -ENOMEM, or -EBADMSG. End `ret` with dps_tpm_key_done().
 */
int dps_tpm_key_split(const char *base64, DpsTpmKey *ret);
/** Frees what it owns, and sets all to 0. */
void dps_tpm_key_done(DpsTpmKey *key);

#ifdef __cplusplus
}
#endif
