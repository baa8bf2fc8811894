/* SPDX-License-Identifier: MIT */
#pragma once

/* What a device sends: names, topics and bodies. */

#include <stdbool.h>
#include <stdint.h>

/** The filter that all answers come under. */
#define DPS_RESPONSE_FILTER "$dps/registrations/res/#"

/** The version of the device API that every Azure cloud takes. */
#define DPS_API_VERSION_DEFAULT "2019-03-31"

#define DPS_REGISTRATION_ID_MAX 128

typedef enum DpsRequestKind {
        DPS_REQUEST_REGISTER,
        DPS_REQUEST_POLL,
} DpsRequestKind;

/** One request. `operation_id` belongs to the registration that made it, and is set for polls only. */
typedef struct DpsRequest {
        DpsRequestKind kind;
        uint64_t request_id;
        const char *operation_id;
} DpsRequest;

/** The topic to publish to. An operation id is percent-encoded: it came from the network. */
int dps_request_topic(const DpsRequest *request, char **ret);

/**
 * The body of a register request: {"registrationId":…,"payload":…}. `payload` is the text of a JSON object, or
 * NULL. -EBADMSG: it is not one; -ENOMEM. A poll has no body.
 */
int dps_register_body(const char *registration_id, const char *payload, char **ret);

/** User name of CONNECT: {idScope}/registrations/{registrationId}/api-version={v}&ClientVersion={v}. */
int dps_mqtt_username(const char *id_scope, const char *registration_id, const char *api_version, char **ret);

/** User name for the hub afterwards: {hub}/{deviceId}/?api-version=2021-04-12. */
int dps_hub_username(const char *hub, const char *device_id, char **ret);

/** [A-Za-z0-9._:-], 1 to 128, the last one alphanumeric or '-' (DPS concept page). */
bool dps_registration_id_is_valid(const char *id);
/** Non-empty, [A-Za-z0-9-], at most 64: more is not known of ID scopes, and '/' would end it in a topic. */
bool dps_id_scope_is_valid(const char *scope);
