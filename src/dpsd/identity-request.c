/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-request.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "credential/credential-error.h"
#include "dpsd/identity-facts.h"
#include "dpsd/identity-view.h"
#include "dpsd/log.h"

#define REQUEST_BURST 5

/* ---- reprovisioning ---- */

/* Something on this machine prevents asking DPS: returns the errno for it, or 0 if nothing does. */
static int find_obstacle(const Identity *i) {
        ConfigurationState c = configuration_state(&i->configuration);

        if (!i->configuration.settings && i->keeper.loading) /* it is not known yet */
                return 0;
        if (!i->configuration.settings || c == CONFIGURATION_TWIN)
                return -EINVAL;
        if (!i->for_dps.error)
                return 0;
        return i->for_dps.error->id == DPS_ERROR_KEY ? -ENOKEY : -EINVAL;
}

int identity_reprovision(Identity *i, bool has_looked, uint64_t *ret_job, uint64_t *ret_retry_usec) {
        uint64_t now = world_now_usec(i->core->world, CLOCK_BOOTTIME);
        int r;

        if (!has_looked &&
            !ratelimit_take(&i->requests, REQUEST_BURST, REQUEST_INTERVAL_USEC, now, ret_retry_usec))
                return -EBUSY;
        r = find_obstacle(i);
        if (r < 0 && !has_looked) {
                identity_look_again(i);
                r = find_obstacle(i);
                if (r < 0 && i->for_dps.state == CREDENTIAL_LOADING)
                        return -EAGAIN;
        }
        if (r >= 0)
                r = client_add_job(i->client, i->core->last_job + 1);
        if (r < 0) {
                ratelimit_give_back(&i->requests, REQUEST_INTERVAL_USEC);
                return r;
        }

        *ret_job = ++i->core->last_job;
        identity_log(i, LOG_INFO, "a new registration was requested");
        i->news |= NEWS_REQUEST;
        identity_advance(i);
        return 0;
}

/* ---- credentials for programs ---- */

typedef struct TextRequest {
        identity_text_handler_t handler;
        void *userdata;
        Identity *identity;
        uint64_t expires_at_usec;
        bool is_connection;
        CredentialQuery *signing; /* by a slow key */
} TextRequest;

static void answer(TextRequest *q, int r, char *text, const DpsError *error) {
        identity_forget_waiter(q->identity, q);
        credential_query_free(q->signing);
        q->handler(r, text, q->expires_at_usec, error, q->userdata);
        free(q);
}

static void fail_by_memory(TextRequest *q) {
        DpsError error;

        error_set_memory(&error, DPS_STEP_CONFIG);
        answer(q, -ENOKEY, NULL, &error);
}

static void fail_unassigned(TextRequest *q) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "the assignment is gone");
        answer(q, -ENODATA, NULL, &error);
}

/* `token` is NULL for X.509. */
static void answer_with_connection(TextRequest *q, const Credential *credential, const char *token) {
        Identity *i = q->identity;
        const Settings *settings = configuration_key_settings(&i->configuration);
        _cleanup_(freep) char *proxy = NULL;
        Connection connection;
        char *text;

        if (publication_proxy(settings, identity_assignment(i)->hub, &proxy) < 0)
                return fail_by_memory(q);
        publication_to_connection(
                &(Publication){ .assignment = identity_assignment(i),
                                .settings = settings,
                                .token = token,
                                .proxy = proxy,
                                .certificate = credential ? credential_certificate(credential) : NULL },
                &connection);
        if (connection_to_json(i->core->runtime, i->name, &connection, &text) < 0)
                fail_by_memory(q);
        else
                answer(q, 0, text, NULL);
}

static void on_token(char *token, const DpsError *error, void *userdata) {
        TextRequest *q = userdata;
        _cleanup_(erase_and_freep) char *owned = token;

        q->signing = NULL;
        if (error)
                answer(q, -ENOKEY, NULL, error);
        else if (!identity_assignment(q->identity))
                fail_unassigned(q);
        else if (q->is_connection)
                answer_with_connection(q, NULL, owned);
        else
                answer(q, 0, TAKE_PTR(owned), NULL);
}

static void on_gone(Identity *i, Credential *credential, const DpsError *error, void *userdata) {
        answer(userdata, -ENOKEY, NULL, error);
}

static void on_credential(Identity *i, Credential *credential, const DpsError *error, void *userdata) {
        const Assignment *a = identity_assignment(i);
        _cleanup_(freep) char *resource = NULL;
        TextRequest *q = userdata;
        DpsError why;
        char *token;
        int r;

        if (error)
                return answer(q, -ENOKEY, NULL, error);
        if (!a)
                return fail_unassigned(q);
        if (!assignment_shows_token(a))
                return answer_with_connection(q, credential, NULL);

        error_set_memory(&why, DPS_STEP_CONFIG);
        r = publication_resource(a, &resource);
        if (r >= 0)
                r = credential_sign(credential, i->core->world, resource, q->expires_at_usec / USEC_PER_SEC,
                                    NULL, &token, on_token, q, &q->signing, &why);
        if (r == 0)
                r = identity_wait_for_end(i, on_gone, q);
        if (r < 0)
                answer(q, -ENOKEY, NULL, &why);
        else if (r > 0)
                on_token(token, NULL, q);
}

static bool waits_for_clock(const Identity *i) {
        Facts f;

        identity_gather(i, &f);
        return f.clock == CLOCK_WAITED_FOR;
}

static int begin_request(Identity *i, bool is_connection, uint64_t expires_at_usec,
                         identity_text_handler_t handler, void *userdata) {
        TextRequest *q = calloc(1, sizeof(*q));
        int r;

        if (!q)
                return -ENOMEM;
        *q = (TextRequest){ .handler = handler,
                            .userdata = userdata,
                            .identity = i,
                            .expires_at_usec = expires_at_usec,
                            .is_connection = is_connection };
        r = identity_with_credential(i, on_credential, q);
        if (r < 0)
                free(q);
        return r;
}

int identity_connection(Identity *i, identity_text_handler_t handler, void *userdata) {
        const Assignment *a = identity_assignment(i);
        size_t size;
        char *text;
        int r;

        if (!a)
                return -ENODATA;
        if (assignment_shows_token(a) && waits_for_clock(i))
                return -ETIME;
        /* The published files are of this generation and hold everything, so no key is needed. This is also
         * so while a new credential is not proven yet. */
        if (i->outputs == OUTPUTS_COMPLETE) {
                r = outputs_read_connection(i->core->runtime, i->name, &text, &size);
                if (r >= 0) {
                        handler(0, text, a->token_expires_at_usec, NULL, userdata);
                        return 0;
                }
        }
        return begin_request(i, true, a->token_expires_at_usec, handler, userdata);
}

int identity_token(Identity *i, uint64_t lifetime_sec, identity_text_handler_t handler, void *userdata) {
        const Settings *s = configuration_key_settings(&i->configuration);
        const Assignment *a = identity_assignment(i);
        uint64_t lifetime_usec, now = world_now_usec(i->core->world, CLOCK_REALTIME);
        DpsError error;

        if (!a)
                return -ENODATA;
        if (!assignment_shows_token(a))
                return -ENOTSUP;
        if (waits_for_clock(i))
                return -ETIME;
        if (!s) {
                dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "there is no usable configuration");
                handler(-ENOKEY, NULL, 0, &error, userdata);
                return 0;
        }

        lifetime_usec = lifetime_sec == 0 || lifetime_sec > s->token_lifetime_usec / USEC_PER_SEC
                                ? s->token_lifetime_usec
                                : lifetime_sec * USEC_PER_SEC;
        return begin_request(i, false, (now + lifetime_usec) / USEC_PER_SEC * USEC_PER_SEC, handler,
                             userdata);
}

/* ---- the hub ---- */

int identity_report_hub_failure(Identity *i, uint64_t generation, DpsHubFailure kind, uint32_t code,
                                const char *detail, bool *ret_registering,
                                uint64_t *ret_next_attempt_at_usec) {
        uint64_t now = world_now_usec(i->core->world, CLOCK_BOOTTIME);
        const Assignment *a = identity_assignment(i);
        bool is_time;

        if (!a)
                return -ENODATA;
        if (generation != a->generation)
                return -ESTALE;

        identity_forget_hub_failure(i);
        i->hub_failed_at_usec = world_now_usec(i->core->world, CLOCK_REALTIME);
        i->hub_failure = text_format("%s, %" PRIu32 "%s%s", dps_hub_failure_to_string(kind), code,
                                     isempty(detail) ? "" : ": ", detail ?: "");
        is_time = dps_hub_health_on_failure(&i->hub, kind, now);
        identity_log(i, is_time ? LOG_NOTICE : LOG_DEBUG, "%s: a program was refused there (%s)%s", a->hub,
                     i->hub_failure ?: dps_hub_failure_to_string(kind), is_time ? "; asking DPS" : "");
        if (is_time && client_state(i->client) == CLIENT_IDLE)
                i->asked = REASON_HUB;
        identity_advance(i);

        *ret_registering = client_state(i->client) != CLIENT_IDLE || i->plan.reason != REASON_NONE;
        *ret_next_attempt_at_usec = identity_next_attempt_at_usec(i);
        return 0;
}

int identity_report_hub_connected(Identity *i, uint64_t generation) {
        const Assignment *a = identity_assignment(i);

        if (!a)
                return -ENODATA;
        if (generation != a->generation)
                return -ESTALE;

        dps_hub_health_on_connected(&i->hub);
        identity_forget_hub_failure(i);
        i->hub_last_seen_at_usec = world_now_usec(i->core->world, CLOCK_REALTIME);
        identity_advance(i);
        return 0;
}
