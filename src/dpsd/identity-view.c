/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-view.h"

#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"

/* One text that sd-bus refuses would make the read of the whole object fail. */
const char *text_or_nothing(const char *s) {
        if (!s)
                return "";
        return utf8_is_valid(s, strlen(s)) ? s : "?";
}

/* The device that the identity is meant to be, if that is known; otherwise the device it was. */
static void view_who(const Identity *i, IdentityView *ret) {
        const Settings *s = i->configuration.settings;
        const Assignment *a = identity_assignment(i);
        Method method = i->method == _METHOD_MAX && a ? a->method : i->method;

        ret->id_scope = text_or_nothing(s ? s->id_scope : a ? a->id_scope : NULL);
        ret->registration_id = text_or_nothing(s ? s->registration_id : a ? a->registration_id : NULL);
        ret->endpoint = text_or_nothing(s ? s->endpoint : a ? a->endpoint : NULL);
        ret->attestation_method = method == _METHOD_MAX ? "" : method_to_string(method);
}

static void view_assignment(const Assignment *a, IdentityView *ret) {
        static const Assignment none;

        bool has_credential = a && !assignment_lacks_credential(a);

        ret->hub_authentication = has_credential ? hub_auth_to_string(assignment_hub_auth(a)) : "";
        ret->certificate_kind = !has_credential || assignment_hub_auth(a) != HUB_AUTH_X509 ? ""
                                : a->issued                                                ? "issued"
                                                                                           : "onboarding";
        ret->connection_profile = a ? text_or_nothing(a->connection_profile ?: "classic") : "";
        if (a && a->issued)
                ret->certificate_expires_at = a->issued_expires_at_usec;
        a = a ?: &none;
        ret->assigned_hub = text_or_nothing(a->hub);
        ret->device_id = text_or_nothing(a->device_id);
        ret->substatus = text_or_nothing(a->substatus);
        ret->generation = a->generation;
        ret->assigned_at = a->assigned_at_usec;
        ret->token_expires_at = a->token_expires_at_usec;
        ret->renew_at = a->renew_at_usec;
}

static void view_error(const Identity *i, IdentityView *ret) {
        const DpsError *e = identity_error(i, &ret->last_error_at);
        bool is_readable = utf8_is_valid(e->message, strlen(e->message));

        ret->last_error = is_readable ? e->message : dps_error_id_meaning(e->id);
        ret->last_error_id = dps_error_id_to_string(e->id);
        ret->last_error_step = dps_step_to_string(e->step);
        ret->last_error_code = e->code;
        ret->last_tracking_id = text_or_nothing(e->tracking_id);
}

/* Older versions did not remember it, and had only one. */
static const char *transport_of(const Identity *i, const Assignment *a) {
        if (client_state(i->client) == CLIENT_IN_FLIGHT)
                return client_transport(i->client);
        return a ? i->keeper.record->transport ?: transport_choice_to_string(TRANSPORT_MQTT) : "";
}

void identity_view(const Identity *i, IdentityView *ret) {
        /* An assignment is shown only when programs can have it. */
        const Assignment *newest =
                i->outputs == OUTPUTS_SIGNING && i->served ? i->served : identity_assignment(i);
        const Assignment *a = i->state == IDENTITY_ASSIGNED ? newest : NULL;
        const Settings *s = configuration_settings(&i->configuration);

        *ret = (IdentityView){
                .name = i->name,
                .state = identity_state_to_string(i->state),
                .waiting = identity_waiting_to_string(i->plan.waiting),
                .transport = transport_of(i, a),
                .healthy = identity_is_healthy(i),
                .configured = i->configuration.written && !i->configuration.fault,
                .required_for_provisioned = !s || s->required_for_provisioned,
                .state_since = i->state_since_usec,
                .certificate_expires_at = i->certificate_expires_at_usec,
                .next_attempt_at = identity_next_attempt_at_usec(i),
                .last_success_at = i->keeper.record->last_success_at_usec,
                .failing_since = i->keeper.record->failing_since_usec,
                .hub_last_seen_at = i->hub_last_seen_at_usec,
                .hub_last_failure_at = i->hub_failed_at_usec,
                .hub_last_failure = text_or_nothing(i->hub_failure),
                .hub_failures = i->hub.failures,
                .attempt_since = i->attempt_since_usec,
                .attempt_step = client_step(i->client),
                .attempts = i->keeper.record->attempts,
        };
        view_who(i, ret);
        view_assignment(a, ret);
        view_error(i, ret);
}

uint64_t identity_next_attempt_at_usec(const Identity *i) {
        return i->plan.next_attempt_realtime_usec;
}

bool identity_is_healthy(const Identity *i) {
        const Record *m = i->keeper.record;

        return i->state == IDENTITY_ASSIGNED && m->error.id == DPS_ERROR_NONE && m->attempts == 0 &&
               !i->issuance_error && !i->configuration.fault;
}

const DpsError *identity_error(const Identity *i, uint64_t *ret_at_usec) {
        const Record *m = i->keeper.record;

        if (i->configuration.fault &&
            (m->error.id == DPS_ERROR_NONE || i->configuration.fault_at_usec >= m->error_at_usec)) {
                *ret_at_usec = i->configuration.fault_at_usec;
                return i->configuration.fault;
        }
        if (m->error.id == DPS_ERROR_NONE && i->issuance_error) {
                *ret_at_usec = m->last_success_at_usec;
                return i->issuance_error;
        }
        *ret_at_usec = m->error_at_usec;
        return &m->error;
}

const DpsError *identity_local_error(const Identity *i) {
        return i->configuration.fault ? i->configuration.fault : &i->keeper.record->error;
}

/* NULL: it waits for the next try. */
static const char *describe_step(const Identity *i, uint64_t next_usec, uint64_t now_usec) {
        ClientState client = client_state(i->client);

        if (client == CLIENT_IN_FLIGHT)
                return "asking DPS now";
        if (client == CLIENT_QUEUED)
                return "waiting for its turn";
        if (keeper_saving(&i->keeper) != SAVING_NOTHING)
                return "saving the assignment";
        if (i->keeper.loading)
                return "reading its record";
        if (next_usec == 0)
                return "nothing is planned";
        return next_usec <= now_usec + USEC_PER_SEC ? "next try now" : NULL;
}

void identity_describe_next(const Identity *i, bool lasting, char *buffer, size_t size) {
        uint64_t next = identity_next_attempt_at_usec(i),
                 now = world_now_usec(i->core->world, CLOCK_REALTIME);
        char duration[DURATION_TEXT_MAX], timestamp[TIMESTAMP_TEXT_MAX];
        const char *step = describe_step(i, next, now);

        if (step)
                snprintf(buffer, size, "%s", step);
        else if (lasting)
                snprintf(buffer, size, "next try at %s", format_timestamp(next, timestamp));
        else
                snprintf(buffer, size, "next try in %s", format_duration(next - now, duration));
}

void identity_describe(const Identity *i, bool lasting, char *buffer, size_t size) {
        static const char *const why[_IDENTITY_WAITING_MAX] = {
                [WAITING_THROTTLED] = "throttled",
                [WAITING_NETWORK] = "waiting for the network",
                [WAITING_CLOCK] = "waiting for the right time of day",
                [WAITING_KEY] = "waiting for its key",
        };
        const DpsError *error = &i->keeper.record->error;
        char next[DURATION_TEXT_MAX + 32];

        if (i->plan.waiting == WAITING_CONFIG) {
                snprintf(buffer, size, "its configuration cannot be used: %s",
                         identity_local_error(i)->message);
                return;
        }

        identity_describe_next(i, lasting, next, sizeof(next));
        if (why[i->plan.waiting])
                snprintf(buffer, size, "%s, %s", why[i->plan.waiting], next);
        else if (error->id != DPS_ERROR_NONE)
                snprintf(buffer, size, "%s (%s), %s", error->message, dps_error_id_to_string(error->id),
                         next);
        else
                snprintf(buffer, size, "%s", next);
}
