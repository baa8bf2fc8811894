/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a device sends to DPS: over MQTT topics, bodies and user names (Microsoft, "Communicate with DPS using
 * the MQTT protocol"), over HTTPS paths and the same bodies (Microsoft, REST reference). Returned text is freed with free(). Functions that return int return 0, or -ENOMEM
 * where nothing else is said.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** All answers come under this filter: subscribe to it before the first request. */
#define DPS_RESPONSE_FILTER "$dps/registrations/res/#"

/** The version of the device API that DPS takes in every Azure cloud. */
#define DPS_API_VERSION_DEFAULT "2019-03-31"
/** The version that issues certificates and reports a hub's connectionProfile, and the oldest one that issues. */
#define DPS_API_VERSION_ISSUANCE "2026-11-02-preview"
#define DPS_API_VERSION_ISSUANCE_OLDER "2025-07-01-preview"

#define DPS_REGISTRATION_ID_MAX 128 /* characters */

typedef enum DpsRequestKind {
        DPS_REQUEST_REGISTER,
        DPS_REQUEST_POLL, /* asks how the operation that a register began is getting on */
        DPS_REQUEST_LOOKUP, /* asks whether and where the device is registered, and registers nothing; only over HTTPS */
} DpsRequestKind;

/** One request. */
typedef struct DpsRequest {
        DpsRequestKind kind;
        uint64_t request_id;      /* $rid: DPS returns it with the answer */
        const char *operation_id; /* only of a poll; belongs to the DpsRegistration that made the request */
} DpsRequest;

/**
 * The topic to publish to. The operation id is percent-encoded, because it came from the network. -EOPNOTSUPP: MQTT has no
 * such request.
 */
int dps_request_topic(const DpsRequest *request, char **ret);

/** "/{idScope}/registrations/{registrationId}": the path of a device at DPS over HTTPS, percent-encoded. */
int dps_registration_path(const char *id_scope, const char *registration_id, char **ret);
/**
 * The path and query of a request over HTTPS (Microsoft, REST reference: "Register Device", a PUT, "Operation
 * Status Lookup", a GET, and "Device Registration Status Lookup", a POST with the body of a register). `path` is of dps_registration_path(). The operation id is percent-encoded.
 */
int dps_request_path(const DpsRequest *request, const char *path, const char *api_version, char **ret);

/** What a register tells DPS. NULL: the body has no such member. */
typedef struct DpsRegisterContent {
        const char *registration_id; /* never NULL */
        const char *payload;         /* the text of a JSON object, which custom allocation gets */
        /* TPM attestation: the public parts of both keys, TPM2B_PUBLIC in base64. Both or none. */
        const char *endorsement_key, *storage_root_key;
        const char *csr; /* PKCS#10 in DER, base64 without line breaks: asks for a certificate */
} DpsRegisterContent;

/**
 * The body of a register: {"registrationId":…,"payload":…,"tpm":{…},"csr":…} (Microsoft, REST reference:
 * RegisterDevice). -EBADMSG: the payload is not a JSON object, or longer than 96 kB. A poll has an empty body.
 */
int dps_register_body(const DpsRegisterContent *content, char **ret);

/**
 * The user name for DPS: {idScope}/registrations/{registrationId}/api-version={v}&ClientVersion={this
 * library's}.
 */
int dps_mqtt_username(const char *id_scope, const char *registration_id, const char *api_version, char **ret);

/** The user name for the assigned hub: {hub}/{deviceId}/?api-version=2021-04-12. */
int dps_hub_username(const char *hub, const char *device_id, char **ret);

/**
 * [A-Za-z0-9._:-], 1 to 128 long, the last one a letter, a digit or '-' (Microsoft, "Terminology used with
 * DPS").
 */
bool dps_registration_id_is_valid(const char *id);
/**
 * [A-Za-z0-9-], 1 to 64 long. Microsoft does not say more than that ID scopes are made by DPS; a '/' would be
 * taken for the end of the ID scope in a user name.
 */
bool dps_id_scope_is_valid(const char *scope);

#ifdef __cplusplus
}
#endif
