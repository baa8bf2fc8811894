/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared access signature (SAS) tokens for DPS and IoT Hub (Microsoft, "Control access to DPS" and "Control
 * access to IoT Hub"):
 *
 *   SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fgw-1&sig=…&se=1700000000&skn=registration
 *
 * dps_sas_new() makes one with a symmetric key. A key that can sign but cannot be read (in a TPM) needs the
 * steps: dps_sas_string_to_sign(), the signature, dps_sas_format(). Returned text is freed with free().
 * Functions that return int return 0, or -ENOMEM where nothing else is said.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dps/key.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The policy name of a device's token for DPS; its token for a hub has none. */
#define DPS_SAS_POLICY_REGISTRATION "registration"

/** `sr` of a token for DPS, percent-encoded: {idScope}%2Fregistrations%2F{registrationId}. */
int dps_sas_resource_registration(const char *id_scope, const char *registration_id, char **ret);
/** `sr` of a token for a hub, percent-encoded: {hub}%2Fdevices%2F{deviceId}. */
int dps_sas_resource_hub(const char *hub, const char *device_id, char **ret);

/** What is to be signed: the encoded `sr`, a newline, and the expiry in seconds since 1970 UTC. */
int dps_sas_string_to_sign(const char *resource, uint64_t expiry_sec, char **ret);
/**
 * The token. If `policy` is NULL, there is no skn. The token is a secret: the caller wipes it before it frees
 * it.
 */
int dps_sas_format(const char *resource, const uint8_t *signature, size_t signature_size, uint64_t expiry_sec,
                   const char *policy, char **ret);

/** A whole token that `key` signs. The caller wipes it before it frees it. -EIO: OpenSSL failed. */
int dps_sas_new(const DpsKey *key, const char *resource, uint64_t expiry_sec, const char *policy, char **ret);

/** A parsed token. Owns its strings. */
typedef struct DpsSas {
        char *resource; /* `sr` as it stands in the token, still encoded: that is what was signed */
        char *policy;   /* NULL: there is no skn */
        uint8_t *signature;
        size_t signature_size;
        uint64_t expiry_sec; /* seconds since 1970 UTC */
} DpsSas;

/** Parses a token with its parameters in any order. -EBADMSG: not a token. End `ret` with dps_sas_done(). */
int dps_sas_parse(const char *token, DpsSas *ret);
/** Wipes and frees what it owns. */
void dps_sas_done(DpsSas *sas);
/**
 * 1: `key` signed it; 0: it did not; -ENOMEM; -EIO: OpenSSL failed. Takes the same time for each wrong
 * signature of the right size. Does not look at the expiry.
 */
int dps_sas_is_signed_by(const DpsSas *sas, const DpsKey *key);
/**
 * Whether it is for `resource`, given as plain text: "scope/registrations/id". Case is ignored, and so is
 * whether a slash is encoded, because Microsoft's SDKs differ in both. False also without memory.
 */
bool dps_sas_is_for(const DpsSas *sas, const char *resource);

/** Percent-encodes everything but A–Z a–z 0–9 - . _ ~, with upper-case digits. */
int dps_percent_encode(const char *text, char **ret);
/** Decodes `size` bytes of `text`. '+' stays '+'. -EBADMSG: an escape is incomplete, or is %00. */
int dps_percent_decode(const char *text, size_t size, char **ret);

#ifdef __cplusplus
}
#endif
