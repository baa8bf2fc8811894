/* SPDX-License-Identifier: MIT */
#include "emulator/wire.h"

#include <errno.h>
#include <inttypes.h>

#include "basic/json.h"
#include "basic/text.h"
#include "dps/sas.h"

static Span next_segment(const char **text) {
        Span segment = { *text, strcspn(*text, "/") };

        *text += segment.size;
        if (**text == '/')
                (*text)++;
        return segment;
}

static int parse_parts(const char *text, Login *login) {
        Span place = next_segment(&text), id, name, value;

        login->kind = scan_literal(&text, "registrations/") ? LOGIN_DEVICE : LOGIN_HUB;
        id = next_segment(&text);
        if (place.size == 0 || id.size == 0)
                return -EBADMSG;
        if (login->kind == LOGIN_HUB)
                (void) scan_literal(&text, "?");

        login->place = span_dup(place);
        login->id = span_dup(id);
        if (!login->place || !login->id)
                return -ENOMEM;

        while (scan_param(&text, &name, &value)) {
                if (!span_is_exact(name, "api-version") || login->api_version)
                        continue;
                login->api_version = span_dup(value);
                if (!login->api_version)
                        return -ENOMEM;
        }
        return login->api_version ? 0 : -EBADMSG;
}

int login_parse(const char *user_name, Login *ret) {
        Login login = { 0 };
        int r;

        r = parse_parts(user_name, &login);
        if (r < 0) {
                login_done(&login);
                return r;
        }

        *ret = login;
        return 0;
}

void login_done(Login *login) {
        free(login->place);
        free(login->id);
        free(login->api_version);
        *login = (Login){ 0 };
}

static int parse_params(const char *text, Request *request) {
        Span name, value;
        int r;

        while (scan_param(&text, &name, &value)) {
                if (span_is(name, "$rid") && !request->request_id && value.size > 0) {
                        request->request_id = span_dup(value);
                        if (!request->request_id)
                                return -ENOMEM;
                } else if (span_is(name, "operationId") && !request->operation_id) {
                        r = dps_percent_decode(value.start, value.size, &request->operation_id);
                        if (r == -ENOMEM)
                                return r;
                }
        }
        return 0;
}

int request_parse(const char *topic, Request *ret) {
        Request request = { 0 };
        int r;

        if (scan_literal(&topic, "$dps/registrations/PUT/iotdps-register/"))
                request.kind = REQUEST_REGISTER;
        else if (scan_literal(&topic, "$dps/registrations/GET/iotdps-get-operationstatus/"))
                request.kind = REQUEST_POLL;
        else
                return -ENOMSG;
        if (!scan_literal(&topic, "?") && *topic)
                return -ENOMSG;

        r = parse_params(topic, &request);
        if (r < 0) {
                request_done(&request);
                return r;
        }

        *ret = request;
        return 0;
}

int request_read_payload(Request *request, const void *body, size_t size) {
        _cleanup_(json_freep) json_object *o = NULL;
        json_object *payload;
        const char *ignored;
        int r;

        r = json_read_object(body, size, size, &o, &ignored);
        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        r = json_keep_text(o, (Span){ body, size }, "payload");
        if (r < 0)
                return r;
        payload = json_member(o, "payload");
        r = payload ? json_to_text(payload, &request->payload) : 0;
        for (char *p = request->payload; p && *p; p++) /* the journal has one line for each request */
                if (*p == '\n' || *p == '\r')
                        *p = ' ';
        return r;
}

void request_done(Request *request) {
        free(request->request_id);
        free(request->operation_id);
        free(request->payload);
        *request = (Request){ 0 };
}

int response_topic(unsigned status, const char *request_id, bool has_retry_after, uint64_t retry_after_sec,
                   char **ret) {
        char *topic;
        int r;

        r = has_retry_after ? asprintf(&topic, "$dps/registrations/res/%u/?$rid=%s&retry-after=%" PRIu64,
                                       status, request_id, retry_after_sec)
                            : asprintf(&topic, "$dps/registrations/res/%u/?$rid=%s", status, request_id);
        if (r < 0)
                return -ENOMEM;

        *ret = topic;
        return 0;
}
