/* SPDX-License-Identifier: MIT */
#pragma once

/* An answer of DPS. Over MQTT its topic carries status, request id and retry-after, and its body the rest. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dps/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A longer body, in bytes, counts as malformed. DPS limits messages to 96 kB. */
#define DPS_REPLY_SIZE_MAX (128U * 1024)

/** A longer issuedCertificateChain counts as malformed. DPS issues two or three certificates. */
#define DPS_ISSUED_CHAIN_MAX 16

/** The words of `status` in the body (Microsoft, REST reference: RegistrationOperationStatus). */
typedef enum DpsStatus {
        DPS_STATUS_NONE, /* the member is absent or null */
        DPS_STATUS_UNASSIGNED,
        DPS_STATUS_ASSIGNING,
        DPS_STATUS_ASSIGNED,
        DPS_STATUS_FAILED,
        DPS_STATUS_DISABLED,
        DPS_STATUS_UNKNOWN, /* a word that no documentation has */
} DpsStatus;

/** Owns its strings. A string is NULL where the body has no such member. End it with dps_reply_done(). */
typedef struct DpsReply {
        uint32_t status;     /* 200, 202, 401 … */
        uint64_t request_id; /* the $rid of the request */
        bool has_retry_after;
        uint64_t retry_after_sec; /* as DPS told it, whatever its size */

        const char *malformed; /* why the body cannot be used, static text for people; NULL: it can */
        DpsStatus word;
        char *status_word; /* the word as DPS sent it, safe to log */
        char *operation_id;
        char *registration_id;    /* safe to log */
        char *assigned_hub;       /* dps_host_name_is_valid() */
        char *device_id;          /* dps_device_id_is_valid() */
        char *substatus;          /* safe to log */
        char *payload;            /* JSON text: what custom allocation returned */
        char *registration_state; /* JSON text: the whole member registrationState, but for authentication_key */
        /* A key for the TPM, in base64: dps_tpm_key_split(). A 401 with one is the challenge of TPM attestation,
         * over whatever transport it came; in an assignment, the key is for the hub. */
        char *authentication_key;
        char *key_name; /* `skn` of the token that the challenge asks for: letters, digits, '.', '_', '-' */
        char *connection_profile; /* the kind of the hub, as DPS sent it, safe to log; NULL: classic */
        /* The certificates that were issued for the CSR, base64 as DPS sent them, in its order, the last one NULL. NULL: none
         * were issued. */
        char **issued_chain;

        uint32_t error_code;    /* the extended code of an error document or of a failed operation; 0: none */
        char *error_message;    /* safe to log */
        char *tracking_id;      /* safe to log */
        uint64_t timestamp_sec; /* timestampUtc of an error document, since 1970; 0: none */
} DpsReply;

/**
 * Reads a topic such as "$dps/registrations/res/202/?$rid=7&retry-after=3" (Microsoft, "Communicate with DPS
 * using the MQTT protocol"). The parameters may come in any order and case; unknown ones are ignored. Sets
 * status, request id and retry-after, and clears the rest. 0, or -ENOMSG: a topic that is not an answer of
 * DPS; -EBADMSG: it is malformed, or has no number as $rid, and so answers no request of ours.
 */
int dps_reply_parse_topic(const char *topic, DpsReply *ret);

/**
 * Reads the JSON body into a reply that dps_reply_parse_topic() made. If the body is malformed, `malformed`
 * says why, and that is a success. Hub and device id are checked, because they end up in files and topics. 0
 * or -ENOMEM; then the reply is still to be ended with dps_reply_done().
 */
int dps_reply_parse_body(DpsReply *reply, const void *body, size_t size);

/**
 * A copy that owns its own strings, for an answer that is needed after its event. -ENOMEM: `ret` is
 * untouched.
 */
int dps_reply_copy(const DpsReply *reply, DpsReply *ret);

/**
 * Whether the word names a kind of hub that speaks only MQTT 5 and takes only certificates ("mqttV5",
 * regardless of case). NULL is the classic profile.
 */
bool dps_connection_profile_is_v5(const char *profile);

/** What to do next. A 200 carries failures too; a malformed 200 or 202 is a failure that may pass. */
DpsVerdict dps_reply_verdict(const DpsReply *reply);

/**
 * The error that a reply with the verdict RETRY or FINAL stands for, or with CHALLENGE if it is not the first
 * one. `step`: REGISTER or POLL. Never fails.
 */
void dps_reply_error(const DpsReply *reply, DpsStep step, DpsError *ret);

/** Frees its strings and sets all to 0. */
void dps_reply_done(DpsReply *reply);

/**
 * Labels of [A-Za-z0-9-], 1 to 63 long, none with a hyphen at its ends, joined by dots; at most 253 in all
 * (RFC 1123).
 */
bool dps_host_name_is_valid(const char *name);
/**
 * Printable ASCII without space, slash, backslash, double quote and backtick, 1 to 128 long. Microsoft's pages allow
 * [A-Za-z0-9-.%_*?!(),:=@$'], and some of them + # and ; as well ("Understand the identity registry").
 */
bool dps_device_id_is_valid(const char *id);

#ifdef __cplusplus
}
#endif
