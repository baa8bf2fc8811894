/* SPDX-License-Identifier: MIT */
#include "dpsd/api-request.h"

#include <errno.h>
#include <stdarg.h>

#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/bus-internal.h"
#include "dpsd/identity-request.h"

#define DETAIL_MAX 256

/* An identity calls back even if the client has gone. */
struct ApiPending {
        ApiRequest *request; /* NULL: its client is gone */
        Identity *identity;  /* exists as long as its handlers are called */
        bool is_token;
};

typedef struct ApiRoute {
        const char *method, *path;
        bool may_wait;
        void (*act)(ApiRequest *q, struct MHD_Connection *c, Identity *i);
} ApiRoute;

/* ---- answers ---- */

/* Owns `text`. */
static void answer(ApiRequest *q, unsigned status, char *text) {
        q->status = status;
        q->answer = text;
        q->waiting = NULL;
}

/* Owns `o`, which is NULL without memory. */
static void answer_json(ApiRequest *q, unsigned status, json_object *o) {
        _cleanup_(json_freep) json_object *owned = o;
        char *text = NULL;

        if (!owned || json_to_text(owned, &text) < 0)
                status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        answer(q, status, text);
}

static void refuse(ApiRequest *q, unsigned status, const char *error, const char *message) {
        json_object *o = json_object_new_object();

        if (o && (json_add_string(o, "error", error) < 0 || json_add_string(o, "message", message) < 0)) {
                json_object_put(o);
                o = NULL;
        }
        answer_json(q, status, o);
}

/* The errors of D-Bus, by the last word of their names. */
static void refuse_as_bus(ApiRequest *q, const Identity *i, int r, const char *why) {
        static const struct {
                const char *name;
                unsigned status;
        } rows[] = {
                { DPS_BUS_ERROR_NOT_ASSIGNED, MHD_HTTP_CONFLICT },
                { DPS_BUS_ERROR_NOT_SUPPORTED, MHD_HTTP_NOT_IMPLEMENTED },
                { DPS_BUS_ERROR_CLOCK_NOT_TRUSTED, MHD_HTTP_SERVICE_UNAVAILABLE },
                { DPS_BUS_ERROR_KEY_UNAVAILABLE, MHD_HTTP_SERVICE_UNAVAILABLE },
                { DPS_BUS_ERROR_CONFIG, MHD_HTTP_SERVICE_UNAVAILABLE },
        };
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        unsigned status = MHD_HTTP_INTERNAL_SERVER_ERROR;

        (void) identity_refuse(i, r, why, &error);
        for (size_t k = 0; error.name && k < ELEMENTSOF(rows); k++)
                if (streq(rows[k].name, error.name))
                        status = rows[k].status;
        refuse(q, status, error.name && strrchr(error.name, '.') ? strrchr(error.name, '.') + 1 : "Failed",
               error.message ?: strerror(-r));
}

static void refuse_arguments(ApiRequest *q, const char *message) {
        refuse(q, MHD_HTTP_BAD_REQUEST, "InvalidArgs", message);
}

/* ---- GET ---- */

static int add_property(json_object *o, const char *name, const char *type, const void *value) {
        const char *text;
        uint64_t number;

        switch (*type) {
        case 's':
                memcpy(&text, value, sizeof(text));
                return json_add_string(o, name, text);
        case 't':
                memcpy(&number, value, sizeof(number));
                return json_add_u64(o, name, number);
        case 'u':
                return json_add_u64(o, name, *(const uint32_t *) value);
        default:
                return json_add(o, name, json_object_new_boolean(*(const int *) value));
        }
}

static void get_assignment(ApiRequest *q, struct MHD_Connection *c, Identity *i) {
        json_object *o = json_object_new_object();
        IdentityView v;
        int r = o ? 0 : -ENOMEM;

        identity_view(i, &v);
#define ADD(name, type, member, emits, privacy)                                                              \
        if (r >= 0)                                                                                          \
                r = add_property(o, name, #type, &v.member);
        IDENTITY_PROPERTIES(ADD)
        if (r < 0) {
                json_object_put(o);
                o = NULL;
        }
        answer_json(q, MHD_HTTP_OK, o);
}

static void answer_text(ApiRequest *q, const ApiPending *p, char *text, uint64_t expires_at_usec) {
        json_object *o;

        if (!p->is_token) {
                answer(q, MHD_HTTP_OK, text);
                return;
        }
        o = json_object_new_object();
        if (o &&
            (json_add_string(o, "token", text) < 0 || json_add_u64(o, "expiresAt", expires_at_usec) < 0)) {
                json_object_put(o);
                o = NULL;
        }
        answer_json(q, MHD_HTTP_OK, o);
        erase_and_free(text);
}

static void on_text(int r, char *text, uint64_t expires_at_usec, const DpsError *error, void *userdata) {
        ApiPending *p = userdata;
        ApiRequest *q = p->request;

        if (!q)
                erase_and_free(text);
        else {
                q->pending = NULL;
                if (r >= 0)
                        answer_text(q, p, text, expires_at_usec);
                else
                        refuse_as_bus(q, p->identity, r, error ? error->message : NULL);
                q->on_answer(q);
        }
        free(p);
}

static ApiPending *pending_new(ApiRequest *q, Identity *i, bool is_token) {
        ApiPending *p = malloc(sizeof(*p));

        if (!p) {
                answer(q, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL);
                return NULL;
        }
        *p = (ApiPending){ .request = q, .identity = i, .is_token = is_token };
        return q->pending = p;
}

static void pending_failed(ApiRequest *q, const Identity *i, int r) {
        free(q->pending);
        q->pending = NULL;
        refuse_as_bus(q, i, r, NULL);
}

static void get_connection(ApiRequest *q, struct MHD_Connection *c, Identity *i) {
        ApiPending *p = pending_new(q, i, false);
        int r = p ? identity_connection(i, on_text, p) : 0;

        if (r < 0)
                pending_failed(q, i, r);
}

static void get_token(ApiRequest *q, struct MHD_Connection *c, Identity *i) {
        const char *lifetime = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "lifetime");
        uint64_t usec = 0;
        ApiPending *p;
        int r;

        if (lifetime && (parse_duration(lifetime, &usec) < 0 || usec < USEC_PER_SEC)) {
                refuse_arguments(q, "lifetime= must be a duration such as 3600 or 1h");
                return;
        }
        p = pending_new(q, i, true);
        r = p ? identity_token(i, usec / USEC_PER_SEC, on_text, p) : 0;
        if (r < 0)
                pending_failed(q, i, r);
}

/* ---- POST ---- */

/* The members that each report has. NULL: there is no usable body, which is answered. */
static json_object *read_report(ApiRequest *q, uint64_t *ret_generation) {
        json_object *o;
        const char *why;

        if (json_read_object(q->body, q->size, API_BODY_MAX, &o, &why) < 0) {
                refuse_arguments(q, "the body must be a JSON object, such as {\"generation\":1}");
                return NULL;
        }
        if (json_u64(json_member(o, "generation"), INT64_MAX, ret_generation) >= 0)
                return o;
        json_object_put(o);
        refuse_arguments(q, "\"generation\" must be the number that connection.json had");
        return NULL;
}

static void post_hub_connected(ApiRequest *q, struct MHD_Connection *c, Identity *i) {
        _cleanup_(json_freep) json_object *report = NULL;
        uint64_t generation;
        int r;

        report = read_report(q, &generation);
        if (!report)
                return;
        r = identity_report_hub_connected(i, generation);
        if (r < 0 && r != -ESTALE)
                refuse_as_bus(q, i, r, NULL);
        else
                answer(q, MHD_HTTP_NO_CONTENT, NULL);
}

static void answer_failure(ApiRequest *q, bool registering, uint64_t next_attempt_at) {
        json_object *o = json_object_new_object();

        if (o && (json_add(o, "registering", json_object_new_boolean(registering)) < 0 ||
                  json_add_u64(o, "nextAttemptAt", next_attempt_at) < 0)) {
                json_object_put(o);
                o = NULL;
        }
        answer_json(q, MHD_HTTP_OK, o);
}

static void post_hub_failure(ApiRequest *q, struct MHD_Connection *c, Identity *i) {
        _cleanup_(json_freep) json_object *report = NULL;
        _cleanup_(freep) char *detail = NULL;
        uint64_t generation, code = 0, next_attempt_at = 0;
        const char *told, *word;
        bool registering = false;
        DpsHubFailure kind;
        int r;

        report = read_report(q, &generation);
        if (!report)
                return;
        word = json_string(json_member(report, "kind"));
        if (!word || dps_hub_failure_from_string(word, &kind) < 0) {
                refuse_arguments(q, "\"kind\" must be auth, not-found, throttled, server or network");
                return;
        }
        if (json_member(report, "code") && json_u64(json_member(report, "code"), UINT32_MAX, &code) < 0) {
                refuse_arguments(q, "\"code\" must be a number, such as 401");
                return;
        }
        told = json_string(json_member(report, "detail")) ?: "";
        detail = text_for_people(told, strlen(told), DETAIL_MAX);
        if (!detail) {
                answer(q, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL);
                return;
        }
        r = identity_report_hub_failure(i, generation, kind, (uint32_t) code, detail, &registering,
                                        &next_attempt_at);
        if (r < 0 && r != -ESTALE)
                refuse_as_bus(q, i, r, NULL);
        else
                answer_failure(q, registering, next_attempt_at);
}

/* ---- which is which ---- */

static const ApiRoute routes[] = {
        { "GET", "/v1/assignment", true, get_assignment },
        { "GET", "/v1/connection", true, get_connection },
        { "GET", "/v1/token", false, get_token },
        { "POST", "/v1/hub-connected", false, post_hub_connected },
        { "POST", "/v1/hub-failure", false, post_hub_failure },
};

static const ApiRoute *find_route(ApiRequest *q, const char *method, const char *path) {
        for (size_t k = 0; k < ELEMENTSOF(routes); k++) {
                if (!streq(routes[k].path, path))
                        continue;
                if (streq(routes[k].method, method))
                        return &routes[k];
                q->allow = routes[k].method;
                refuse(q, MHD_HTTP_METHOD_NOT_ALLOWED, "MethodNotAllowed",
                       "this path has another method; see Allow");
                return NULL;
        }
        refuse(q, MHD_HTTP_NOT_FOUND, "NotFound",
               "there are /v1/assignment, /v1/connection, /v1/token, /v1/hub-connected and /v1/hub-failure");
        return NULL;
}

static uint64_t generation_of(const Identity *i) {
        IdentityView v;

        identity_view(i, &v);
        return v.generation;
}

/* ?generation=7&wait=30s: the answer may wait until the generation is another. 1: it waits. */
static int wait_for_news(ApiRequest *q, struct MHD_Connection *c, const ApiRoute *route, const Identity *i) {
        const char *generation = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "generation"),
                   *wait = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "wait");
        uint64_t usec = 0;

        if (!generation && !wait)
                return 0;
        if (!generation || parse_u64(generation, &q->generation) < 0 ||
            (wait && parse_duration(wait, &usec) < 0)) {
                refuse_arguments(q, "generation= must be the number of the last answer, and wait= a duration "
                                    "such as 30s");
                return -EINVAL;
        }
        if (q->generation != generation_of(i))
                return 0;
        if (usec == 0) {
                answer(q, MHD_HTTP_NOT_MODIFIED, NULL);
                return 1;
        }
        q->waiting = route;
        q->until_usec = usec_add(now_usec(CLOCK_BOOTTIME), MIN(usec, API_WAIT_MAX_USEC));
        return 1;
}

void api_request_begin(ApiRequest *q, struct MHD_Connection *c, const char *method, const char *path) {
        Identity *i = manager_find(q->manager, q->name);
        const ApiRoute *route;

        q->has_begun = true;
        if (!q->is_allowed) {
                refuse(q, MHD_HTTP_FORBIDDEN, "AccessDenied",
                       "this process is not in the group that Group= in [Access] names");
                return;
        }
        if (q->size > API_BODY_MAX) {
                refuse(q, MHD_HTTP_CONTENT_TOO_LARGE, "LimitsExceeded", "the body is too large");
                return;
        }
        if (!i) {
                api_request_changed(q, NULL);
                return;
        }
        route = find_route(q, method, path);
        if (route && !(route->may_wait && wait_for_news(q, c, route, i) != 0))
                route->act(q, c, i);
}

void api_request_changed(ApiRequest *q, Identity *i) {
        const ApiRoute *route = q->waiting;

        q->has_begun = true;
        if (!i)
                refuse(q, MHD_HTTP_NOT_FOUND, "NoSuchIdentity", "this identity is not configured any more");
        else if (route && generation_of(i) != q->generation) {
                q->waiting = NULL;
                route->act(q, NULL, i);
        }
}

/* Forgets the answer of the identity, so that nobody waits for it. */
static void forget_pending(ApiRequest *q) {
        if (q->pending)
                q->pending->request = NULL;
        q->pending = NULL;
}

void api_request_end(ApiRequest *q) {
        forget_pending(q);
        if (q->waiting)
                answer(q, MHD_HTTP_NOT_MODIFIED, NULL);
        else
                refuse(q, MHD_HTTP_SERVICE_UNAVAILABLE, "Timeout", "no answer came in time");
}

void api_request_done(ApiRequest *q) {
        forget_pending(q);
        erase_and_free(q->answer);
}
