/* SPDX-License-Identifier: MIT */
#include "basic/cleanup.h"
#include "basic/json.h"
#include "dps/reply.h"
#include "dps/request.h"
#include "fuzz.h"

#define JSON_SIZE_MAX (16U * DPS_REPLY_SIZE_MAX) /* escapes make text longer */

static void check_texts(const DpsReply *reply) {
        const char *const texts[] = { reply->status_word,   reply->operation_id, reply->registration_id,
                                      reply->assigned_hub,  reply->device_id,    reply->substatus,
                                      reply->error_message, reply->tracking_id,  reply->authentication_key,
                                      reply->key_name };
        json_object *state = NULL;
        const char *why;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                PROMISE(!texts[i] || is_one_line(texts[i]));
        PROMISE(!reply->assigned_hub || dps_host_name_is_valid(reply->assigned_hub));
        PROMISE(!reply->device_id || dps_device_id_is_valid(reply->device_id));
        if (!reply->registration_state)
                return;

        /* The text goes into files, so it must be readable again. */
        PROMISE(json_read_object(reply->registration_state, strlen(reply->registration_state), JSON_SIZE_MAX,
                                 &state, &why) == 0);
        json_object_put(state);
}

static void check_failure(const DpsReply *reply, DpsVerdict verdict) {
        DpsError error = { 0 };

        dps_reply_error(reply, DPS_STEP_POLL, &error);
        PROMISE(error.id != DPS_ERROR_NONE && error.step == DPS_STEP_POLL);
        PROMISE(error.final == (verdict == DPS_VERDICT_FINAL));
        PROMISE(*error.message && is_one_line(error.message) && is_one_line(error.tracking_id));
        PROMISE(*dps_error_advice(&error));
}

static void check_poll(const DpsReply *reply) {
        const DpsRequest request = { DPS_REQUEST_POLL, 7, reply->operation_id };
        _cleanup_(freep) char *topic = NULL;

        if (!reply->operation_id)
                return;
        PROMISE(dps_request_topic(&request, &topic) == 0);
        PROMISE(!strpbrk(topic, "#+") && strrchr(topic, '$') == strstr(topic, "$rid=7&operationId="));
}

/* Input: a byte that chooses the status, then the body of an answer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const uint32_t statuses[] = { 200, 202, 400, 401, 404, 409, 429, 503, 204, 302, 0 };
        _cleanup_(dps_reply_done) DpsReply reply = { 0 };
        DpsVerdict verdict;

        if (size == 0)
                return 0;
        reply.status = statuses[data[0] % ELEMENTSOF(statuses)];
        PROMISE(dps_reply_parse_body(&reply, data + 1, size - 1) == 0);

        check_texts(&reply);
        check_poll(&reply);
        verdict = dps_reply_verdict(&reply);
        switch (verdict) {
        case DPS_VERDICT_ASSIGNED:
                PROMISE(reply.assigned_hub && reply.device_id && !reply.malformed);
                PROMISE(reply.status == 200 || reply.status == 202 || reply.status == 204);
                break;
        case DPS_VERDICT_ASSIGNING:
                PROMISE(!reply.malformed && reply.status < 300);
                break;
        case DPS_VERDICT_CHALLENGE:
                PROMISE(reply.status == 401 && reply.authentication_key);
                break;
        case DPS_VERDICT_RETRY:
        case DPS_VERDICT_FINAL:
                check_failure(&reply, verdict);
                break;
        }
        return 0;
}
