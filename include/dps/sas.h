/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared access signature (SAS) tokens, for DPS and for IoT Hub:
 *
 *   SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fgw-1&sig=…&se=1700000000&skn=registration
 *
 * The parts are public, so that a key that can sign and cannot be read (a TPM's) makes tokens too:
 * dps_sas_string_to_sign(), sign it, dps_sas_format().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dps/key.h"

/** The fixed policy name of device registrations; hub tokens have none. */
#define DPS_SAS_POLICY_REGISTRATION "registration"

/** `sr` of a DPS token, percent-encoded: {idScope}%2Fregistrations%2F{registrationId}. */
int dps_sas_resource_registration(const char *id_scope, const char *registration_id, char **ret);
/** `sr` of a hub token, percent-encoded: {hub}%2Fdevices%2F{deviceId}. */
int dps_sas_resource_hub(const char *hub, const char *device_id, char **ret);

/** What is signed: `sr` as sent, a newline, the expiry. */
int dps_sas_string_to_sign(const char *resource, uint64_t expiry_sec, char **ret);
/** The token. `policy` NULL leaves skn away. The caller erases and frees it. */
int dps_sas_format(const char *resource, const uint8_t *signature, size_t signature_size, uint64_t expiry_sec,
                   const char *policy, char **ret);

/** All three: a whole token of a symmetric key, expiring `expiry_sec` seconds after 1970 UTC. */
int dps_sas_new(const DpsKey *key, const char *resource, uint64_t expiry_sec, const char *policy, char **ret);

/** A token taken apart. `resource` is the literal text of `sr`, still encoded: that is what was signed. */
typedef struct DpsSas {
        char *resource;
        char *policy; /* NULL where there is no skn */
        uint8_t *signature;
        size_t signature_size;
        uint64_t expiry_sec;
} DpsSas;

/** Takes any order of parameters. -EBADMSG: not a token. End it with dps_sas_done(). */
int dps_sas_parse(const char *token, DpsSas *ret);
void dps_sas_done(DpsSas *sas);
/** Whether `key` made it (constant time). Says nothing of the expiry. Negative errno if it cannot be told. */
int dps_sas_is_signed_by(const DpsSas *sas, const DpsKey *key);
/** Whether it is for `resource` (plain text, "scope/registrations/id"); case counts not, %2F, %2f and / are one. */
bool dps_sas_is_for(const DpsSas *sas, const char *resource);

/** Percent-encoding of everything but A–Z a–z 0–9 - . _ ~, upper-case hex. */
int dps_percent_encode(const char *text, char **ret);
/** -EBADMSG: a bad escape, or %00. '+' stays '+'. */
int dps_percent_decode(const char *text, size_t size, char **ret);
