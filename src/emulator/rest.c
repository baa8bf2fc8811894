/* SPDX-License-Identifier: MIT */
#include "emulator/rest.h"

#include <errno.h>
#include <stdlib.h>

#include "basic/text.h"
#include "dps/sas.h"

/* Decodes the next segment of the path and moves *text to the '/' after it. An empty one is -ENOENT. */
static int take_segment(const char **text, char **ret) {
        size_t size = strcspn(*text, "/?");
        int r;

        if (size == 0)
                return -ENOENT;
        r = dps_percent_decode(*text, size, ret);
        if (r < 0)
                return r == -ENOMEM ? r : -ENOENT;
        *text += size;
        return 0;
}

static bool has_ended(const char *text) {
        return *text == 0 || *text == '?';
}

static int parse_path(const char **text, RestTarget *t) {
        int r;

        if (!scan_literal(text, "/"))
                return -ENOENT;
        r = take_segment(text, &t->id_scope);
        if (r < 0)
                return r;
        if (!scan_literal(text, "/registrations/"))
                return -ENOENT;
        r = take_segment(text, &t->id);
        if (r < 0)
                return r;

        if (has_ended(*text)) {
                t->kind = REQUEST_LOOKUP;
                return 0;
        }
        if (scan_literal(text, "/register")) {
                t->kind = REQUEST_REGISTER;
                return has_ended(*text) ? 0 : -ENOENT;
        }
        if (!scan_literal(text, "/operations/"))
                return -ENOENT;
        t->kind = REQUEST_POLL;
        r = take_segment(text, &t->operation_id);
        if (r < 0)
                return r;
        return has_ended(*text) ? 0 : -ENOENT;
}

static int parse_query(const char *text, RestTarget *t) {
        Span name, value;
        int r;

        while (scan_param(&text, &name, &value)) {
                if (!span_is(name, "api-version") || t->api_version)
                        continue;
                r = dps_percent_decode(value.start, value.size, &t->api_version);
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

/* A proxy may get a whole URL in the request line, and a server must accept one. */
static const char *skip_origin(const char *target) {
        if (!scan_literal(&target, "https://"))
                return target;
        return target + strcspn(target, "/");
}

int rest_parse(const char *target, RestTarget *ret) {
        RestTarget t = { 0 };
        int r;

        target = skip_origin(target);
        r = parse_path(&target, &t);
        if (r >= 0 && scan_literal(&target, "?"))
                r = parse_query(target, &t);
        if (r < 0) {
                rest_done(&t);
                return r;
        }

        *ret = t;
        return 0;
}

void rest_done(RestTarget *t) {
        free(t->id_scope);
        free(t->id);
        free(t->operation_id);
        free(t->api_version);
        *t = (RestTarget){ 0 };
}

const char *rest_method(RequestKind kind) {
        switch (kind) {
        case REQUEST_REGISTER:
                return "PUT";
        case REQUEST_POLL:
                return "GET";
        case REQUEST_LOOKUP:
                return "POST";
        }
        abort();
}
