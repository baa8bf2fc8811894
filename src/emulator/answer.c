/* SPDX-License-Identifier: MIT */
#include "emulator/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "basic/cleanup.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/key.h"

#define STAMP_TEXT_SIZE 40

void answer_done(Answer *a) {
        free(a->body);
        free(a->operation_id);
        free(a->hub);
        free(a->tracking_id);
        *a = (Answer){ 0 };
}

int guid_make(const RandomSource *random, char ret[static GUID_TEXT_SIZE]) {
        uint8_t b[16];
        int r;

        r = random->fill(b, sizeof(b), random->userdata);
        if (r < 0)
                return r;

        b[6] = (uint8_t) ((b[6] & 0x0f) | 0x40); /* version 4 */
        b[8] = (uint8_t) ((b[8] & 0x3f) | 0x80);
        (void) snprintf(ret, GUID_TEXT_SIZE,
                        "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
                        b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
                        b[15]);
        return 0;
}

int operation_id_make(const RandomSource *random, uint64_t service, size_t size, char **ret) {
        char guid[GUID_TEXT_SIZE];
        char *id;
        int n, r;

        r = guid_make(random, guid);
        if (r < 0)
                return r;
        n = snprintf(NULL, 0, "5.%016" PRIx64 ".%s", service, guid);
        n = size > (size_t) n ? (int) size - n : 0;
        if (asprintf(&id, "5.%0*" PRIx64 ".%s", 16 + n, service, guid) < 0)
                return -ENOMEM;

        *ret = id;
        return 0;
}

/* "2023-11-14T22:13:20.1234560Z": .NET prints seven digits of a second. */
static const char *format_stamp(uint64_t usec, char buffer[static STAMP_TEXT_SIZE]) {
        time_t sec = (time_t) (usec / USEC_PER_SEC);
        char day[24];
        struct tm tm;

        (void) strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", gmtime_r(&sec, &tm));
        (void) snprintf(buffer, STAMP_TEXT_SIZE, "%s.%06" PRIu64 "0Z", day, usec % USEC_PER_SEC);
        return buffer;
}

/* The etags of DPS are base64 of a quoted text that looks like a GUID. They change when the registration
 * does. */
static int make_etag(uint64_t updated_usec, char **ret) {
        char text[48];
        int n;

        n = snprintf(text, sizeof(text), "\"%08" PRIx64 "-0000-0300-0000-%012" PRIx64 "\"",
                     updated_usec >> 48, updated_usec & UINT64_C(0xffffffffffff));
        return dps_base64_encode(text, (size_t) n, ret);
}

int answer_error(const RandomSource *random, unsigned status, uint32_t code, const char *message,
                 uint64_t now_usec, Answer *ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        char guid[GUID_TEXT_SIZE], stamp[STAMP_TEXT_SIZE];
        Answer a = { .status = status, .error_code = code };
        int r;

        if ((r = guid_make(random, guid)) < 0 || (r = json_add_u64(o, "errorCode", code)) < 0 ||
            (r = json_add_string(o, "trackingId", guid)) < 0 ||
            (r = json_add_string(o, "message", message)) < 0 ||
            (r = json_add_string(o, "timestampUtc", format_stamp(now_usec, stamp))) < 0 ||
            (r = json_to_text(o, &a.body)) < 0)
                return r;
        a.tracking_id = strdup(guid);
        if (!a.tracking_id) {
                answer_done(&a);
                return -ENOMEM;
        }

        *ret = a;
        return 0;
}

/* "x509":{}, "tpm":{"authenticationKey":"AD…"} or "symmetricKey":{"enrollmentGroupId":"line-1"} */
static int add_attestation(json_object *state, const Result *result) {
        json_object *o = json_object_new_object();
        int r;

        r = json_add(state, result->tpm_key ? "tpm" : result->is_x509 ? "x509" : "symmetricKey", o);
        if (r >= 0)
                r = json_add_string(o, "authenticationKey", result->tpm_key);
        return r < 0 ? r : json_add_string(o, "enrollmentGroupId", result->enrollment_group_id);
}

static int add_dates(json_object *state, const Result *result) {
        _cleanup_(freep) char *etag = NULL;
        char stamp[STAMP_TEXT_SIZE];
        int r;

        if ((r = json_add_string(state, "createdDateTimeUtc", format_stamp(result->created_usec, stamp))) <
                    0 ||
            (r = json_add_string(state, "lastUpdatedDateTimeUtc",
                                 format_stamp(result->updated_usec, stamp))) < 0 ||
            (r = make_etag(result->updated_usec, &etag)) < 0)
                return r;
        return json_add_string(state, "etag", etag);
}

static int add_extra(json_object *state, const Result *result) {
        int r;

        if (!result->extra_members)
                return 0;

        if ((r = json_add_text(state, "generationId", "null")) < 0 ||
            (r = json_add_text(state, "trustBundle", "null")) < 0)
                return r;
        return json_add_text(state, "notInAnyDocument",
                             "{\"nested\":[1,null,{\"assignedHub\":\"wrong.example\"}]}");
}

static int add_issued_chain(json_object *state, const Result *result) {
        json_object *list;
        int r;

        if (!result->issued_chain)
                return 0;
        list = json_object_new_array();
        r = json_add(state, "issuedCertificateChain", list);
        STRV_FOREACH(text, result->issued_chain) {
                json_object *o = r < 0 ? NULL : json_object_new_string(*text);

                if (!o || json_object_array_add(list, o) < 0) {
                        json_object_put(o);
                        return -ENOMEM;
                }
        }
        return r;
}

static int add_state(json_object *state, const Result *result) {
        int r;

        if ((r = json_add_string(state, "registrationId", result->registration_id)) < 0 ||
            (r = json_add_string(state, "status", result->word)) < 0)
                return r;
        if (result->hub && (r = add_attestation(state, result)) < 0)
                return r;
        if (result->updated_usec > 0 && (r = add_dates(state, result)) < 0)
                return r;
        if (result->error_code > 0 && (r = json_add_u64(state, "errorCode", result->error_code)) < 0)
                return r;

        if ((r = json_add_string(state, "assignedHub", result->hub)) < 0 ||
            (r = json_add_text(state, "connectionProfile", result->connection_profile)) < 0 ||
            (r = json_add_string(state, "deviceId", result->device_id)) < 0 ||
            (r = json_add_string(state, "substatus", result->substatus)) < 0 ||
            (r = json_add_string(state, "errorMessage", result->error_message)) < 0 ||
            (r = add_issued_chain(state, result)) < 0 ||
            (r = json_add_text(state, "payload", result->payload)) < 0)
                return r;
        return add_extra(state, result);
}

int answer_result(unsigned status, const Result *result, Answer *ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        json_object *state = json_object_new_object();
        Answer a = { .status = status,
                     .word = result->word,
                     .substatus = result->substatus,
                     .error_code = result->error_code };
        int r;

        if ((r = json_add(o, "registrationState", state)) < 0 ||
            (r = json_add_string(o, "operationId", result->operation_id)) < 0 ||
            (r = json_add_string(o, "status", result->word)) < 0 || (r = add_state(state, result)) < 0)
                return r;

        a.operation_id = strdup(result->operation_id);
        a.hub = result->hub ? strdup(result->hub) : NULL;
        if (!a.operation_id || (result->hub && !a.hub) || json_to_text(o, &a.body) < 0) {
                answer_done(&a);
                return -ENOMEM;
        }

        *ret = a;
        return 0;
}
