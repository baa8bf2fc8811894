/* SPDX-License-Identifier: MIT */
#include "dps/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "basic/cleanup.h"
#include "basic/json.h"
#include "basic/text.h"
#include "build-config.h"
#include "dps/sas.h"

#define PAYLOAD_SIZE_MAX (96U * 1024) /* DPS limits messages to 96 kB */
#define HUB_API_VERSION "2021-04-12"

int dps_request_topic(const DpsRequest *request, char **ret) {
        _cleanup_(freep) char *operation_id = NULL;
        int r;

        if (request->kind == DPS_REQUEST_LOOKUP)
                return -EOPNOTSUPP;
        if (request->kind == DPS_REQUEST_REGISTER) {
                r = asprintf(ret, "$dps/registrations/PUT/iotdps-register/?$rid=%" PRIu64,
                             request->request_id);
                return r < 0 ? -ENOMEM : 0;
        }

        r = dps_percent_encode(request->operation_id, &operation_id);
        if (r < 0)
                return r;
        r = asprintf(ret,
                     "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=%" PRIu64 "&operationId=%s",
                     request->request_id, operation_id);
        return r < 0 ? -ENOMEM : 0;
}

int dps_registration_path(const char *id_scope, const char *registration_id, char **ret) {
        _cleanup_(freep) char *scope = NULL, *id = NULL;
        int r;

        r = dps_percent_encode(id_scope, &scope);
        if (r >= 0)
                r = dps_percent_encode(registration_id, &id);
        if (r < 0)
                return r;
        return asprintf(ret, "/%s/registrations/%s", scope, id) < 0 ? -ENOMEM : 0;
}

int dps_request_path(const DpsRequest *request, const char *path, const char *api_version, char **ret) {
        _cleanup_(freep) char *operation_id = NULL, *version = NULL;
        int r;

        r = dps_percent_encode(api_version, &version);
        if (r >= 0 && request->kind == DPS_REQUEST_POLL)
                r = dps_percent_encode(request->operation_id, &operation_id);
        if (r < 0)
                return r;
        r = operation_id ? asprintf(ret, "%s/operations/%s?api-version=%s", path, operation_id, version)
                         : asprintf(ret, "%s%s?api-version=%s", path,
                                    request->kind == DPS_REQUEST_LOOKUP ? "" : "/register", version);
        return r < 0 ? -ENOMEM : 0;
}

/* It is sent as it is written. */
static int add_payload(json_object *body, const char *payload) {
        _cleanup_(json_freep) json_object *object = NULL;
        _cleanup_(freep) char *text = NULL;
        const char *why;
        int r;

        r = json_read_object(payload, strlen(payload), PAYLOAD_SIZE_MAX, &object, &why);
        if (r < 0)
                return r;
        text = span_dup(span_strip((Span){ payload, strlen(payload) }));
        return text ? json_add_text(body, "payload", text) : -ENOMEM;
}

static int add_tpm(json_object *body, const char *endorsement_key, const char *storage_root_key) {
        _cleanup_(json_freep) json_object *tpm = json_object_new_object();
        int r;

        if (!tpm)
                return -ENOMEM;
        r = json_add_string(tpm, "endorsementKey", endorsement_key);
        if (r >= 0)
                r = json_add_string(tpm, "storageRootKey", storage_root_key);
        return r < 0 ? r : json_add(body, "tpm", TAKE_PTR(tpm));
}

int dps_register_body(const DpsRegisterContent *content, char **ret) {
        _cleanup_(json_freep) json_object *body = json_object_new_object();
        int r;

        if (!body)
                return -ENOMEM;
        r = json_add_string(body, "registrationId", content->registration_id);
        if (r >= 0 && content->payload)
                r = add_payload(body, content->payload);
        if (r >= 0 && content->endorsement_key)
                r = add_tpm(body, content->endorsement_key, content->storage_root_key);
        if (r >= 0 && content->csr)
                r = json_add_string(body, "csr", content->csr);
        return r < 0 ? r : json_to_text(body, ret);
}

int dps_mqtt_username(const char *id_scope, const char *registration_id, const char *api_version,
                      char **ret) {
        /* ID scope and registration id are not percent-encoded: no SDK of Microsoft's does that. */
        int r = asprintf(ret, "%s/registrations/%s/api-version=%s&ClientVersion=dpsd%%2F" DPS_VERSION,
                         id_scope, registration_id, api_version);

        return r < 0 ? -ENOMEM : 0;
}

int dps_hub_username(const char *hub, const char *device_id, char **ret) {
        return asprintf(ret, "%s/%s/?api-version=" HUB_API_VERSION, hub, device_id) < 0 ? -ENOMEM : 0;
}

bool dps_registration_id_is_valid(const char *id) {
        static const char alphanumeric[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        size_t size = strlen(id);

        if (size == 0 || size > DPS_REGISTRATION_ID_MAX)
                return false;
        for (const char *p = id; *p; p++)
                if (!strchr(alphanumeric, *p) && !strchr("._:-", *p))
                        return false;
        return !strchr("._:", id[size - 1]);
}

bool dps_id_scope_is_valid(const char *scope) {
        size_t n = strspn(scope, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");

        return n > 0 && n <= 64 && !scope[n];
}
