/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-bus.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/manager-bus.h"

/*
 * The properties are listed in basic/contract.h; sd-bus reads them in place, as members of an IdentityView. Listeners
 * are told only of those that have changed: for each identity we keep the digests of what was told last.
 * Methods that need a right all begin in method_guarded(), which looks the right up by the method's name.
 */

#define REPORT_DETAIL_MAX 256
/* A time reckoned from two clocks trembles, and that is no change. */
#define TREMOR_USEC (100 * USEC_PER_MSEC)

/* Text that sd-bus would not take would fail the whole object. */
static const char *presentable(const char *s) {
        if (!s)
                return "";
        return utf8_is_valid(s, strlen(s)) ? s : "?";
}

/* The last failure; where there is none, what is wrong with the file. */
static bool shows_config_error(const Identity *i) {
        return i->memory->error.id == DPS_ERROR_NONE && i->config_is_faulty;
}

static const DpsError *error_shown(const Identity *i) {
        return shows_config_error(i) ? identity_config_error(i) : &i->memory->error;
}

/* Why there is nothing to ask DPS with: a fault in the file comes before what was wrong when last looked at. */
static const DpsError *error_at_home(const Identity *i) {
        return i->config_is_faulty ? identity_config_error(i) : &i->memory->error;
}

/* Whom we are to be if that is known; else whom we were. */
static void view_who(IdentityView *v, const Settings *settings, const Assignment *a, Method method) {
        if (settings) {
                v->id_scope = presentable(settings->id_scope);
                v->registration_id = presentable(settings->registration_id);
                v->endpoint = presentable(settings->endpoint);
        } else {
                v->id_scope = presentable(a ? a->id_scope : NULL);
                v->registration_id = presentable(a ? a->registration_id : NULL);
                v->endpoint = presentable(a ? a->endpoint : NULL);
        }
        if (method == _METHOD_MAX && a)
                method = a->method;
        v->attestation_method = method == _METHOD_MAX ? "" : method_to_string(method);
}

static void view_assignment(IdentityView *v, const Assignment *a) {
        static const Assignment none;

        if (!a)
                a = &none;
        v->assigned_hub = presentable(a->hub);
        v->device_id = presentable(a->device_id);
        v->substatus = presentable(a->substatus);
        v->generation = a->generation;
        v->assigned_at = a->assigned_at_usec;
        v->token_expires_at = a->token_expires_at_usec;
        v->renew_at = a->renew_at_usec;
        v->hub_authentication = !a->hub ? "" : a->method == METHOD_X509 ? "x509" : "sas";
}

static void view_error(IdentityView *v, const DpsError *e, uint64_t at_usec) {
        bool is_readable = utf8_is_valid(e->message, strlen(e->message));

        v->last_error = is_readable ? e->message : dps_error_id_meaning(e->id);
        v->last_error_id = dps_error_id_to_string(e->id);
        v->last_error_step = dps_step_to_string(e->step);
        v->last_error_code = e->code;
        v->last_tracking_id = presentable(e->tracking_id);
        v->last_error_at = at_usec;
}

static void view_fill(const Identity *i, IdentityView *ret) {
        const Assignment *a = i->memory->assignment;
        const Settings *s = identity_settings(i);

        *ret = (IdentityView){
                .name = i->name,
                .state = identity_state_to_string(i->state),
                .waiting = identity_waiting_to_string(i->waiting),
                .transport = i->transport || a ? "mqtt" : "",
                .healthy = identity_is_healthy(i),
                .configured = i->written && !i->config_is_faulty,
                .required_for_provisioned = !s || s->required_for_provisioned,
                .state_since = i->state_since_usec,
                .certificate_expires_at = i->certificate_expires_at_usec,
                .next_attempt_at = identity_next_attempt_at_usec(i),
                .last_success_at = i->memory->last_success_at_usec,
                .failing_since = i->memory->failing_since_usec,
                .hub_last_seen_at = i->hub_last_seen_at_usec,
                .attempts = i->memory->attempts,
        };
        view_who(ret, i->settings, a, i->method);
        view_assignment(ret, a);
        view_error(ret, error_shown(i),
                   shows_config_error(i) ? i->config_error_at_usec : i->memory->error_at_usec);
}

int identity_bus_path(const char *name, char **ret) {
        return sd_bus_path_encode(DPS_BUS_IDENTITY_PREFIX, name, ret);
}

int identity_bus_find(Bus *b, const char *name, Identity **ret, sd_bus_error *error) {
        _cleanup_(freep) char *shown = NULL;
        Identity *i;

        i = manager_find(b->manager, name);
        if (!i) {
                shown = text_for_people(name, strlen(name), 64);
                return sd_bus_error_setf(error, DPS_BUS_ERROR_NO_SUCH_IDENTITY,
                                         "There is no identity named '%s'", shown ?: "?");
        }

        *ret = i;
        return 0;
}

/* Of the object that a request is for. */
static int find_addressed(Bus *b, sd_bus_message *request, Identity **ret, sd_bus_error *error) {
        _cleanup_(freep) char *name = NULL;
        int r;

        r = sd_bus_path_decode(sd_bus_message_get_path(request), DPS_BUS_IDENTITY_PREFIX, &name);
        if (r < 0)
                return r;
        return identity_bus_find(b, r > 0 ? name : "", ret, error);
}

static int refuse_not_assigned(const Identity *i, sd_bus_error *error) {
        char next[2 * DPS_MESSAGE_MAX];

        identity_describe(i, false, next, sizeof(next));
        return sd_bus_error_setf(error, DPS_BUS_ERROR_NOT_ASSIGNED, "%s is not assigned to a hub: %s",
                                 i->name, next);
}

static int refuse_clock(const Identity *i, sd_bus_error *error) {
        char behind[DURATION_TEXT_MAX];

        format_duration(clock_behind_usec(i->manager->clock), behind);
        return sd_bus_error_setf(error, DPS_BUS_ERROR_CLOCK_NOT_TRUSTED,
                                 "%s: no hub would take a token of now: the clock is %s behind; waiting for "
                                 "time synchronisation",
                                 i->name, behind);
}

/* What a function of identity.c could not do, in the words of the contract. `why` may be empty. */
static int refuse(const Identity *i, int r, const char *why, sd_bus_error *error) {
        switch (-r) {
        case ENODATA:
                return refuse_not_assigned(i, error);
        case ETIME:
                return refuse_clock(i, error);
        case ENOTSUP:
                return sd_bus_error_setf(error, DPS_BUS_ERROR_NOT_SUPPORTED,
                                         "%s proves itself by a certificate, there are no tokens for it",
                                         i->name);
        case ENOKEY:
                return sd_bus_error_setf(error, DPS_BUS_ERROR_KEY_UNAVAILABLE, "%s: %s", i->name,
                                         isempty(why) ? "the key cannot be used" : why);
        case EINVAL:
                return sd_bus_error_setf(error, DPS_BUS_ERROR_CONFIG, "%s: %s", i->name,
                                         isempty(why) ? "there is no usable configuration" : why);
        default:
                return sd_bus_error_set_errnof(error, r, "%s: %s", i->name, strerror(-r));
        }
}

int identity_bus_reprovision(sd_bus_message *request, Identity *i, sd_bus_error *error) {
        uint64_t job, retry_usec = 0;
        int r;

        r = identity_reprovision(i, &job, &retry_usec);
        if (r == -EBUSY)
                return sd_bus_error_setf(error, DPS_BUS_ERROR_RATE_LIMITED,
                                         "%s: asked too often, possible again in %" PRIu64 " s", i->name,
                                         (retry_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
        if (r < 0)
                return refuse(i, r, presentable(error_at_home(i)->message), error);
        return sd_bus_reply_method_return(request, "t", job);
}

static int act_reprovision(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        return identity_bus_reprovision(request, i, error);
}

static int act_get_connection(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(erase_and_freep) char *json = NULL;
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = identity_connection(i, &json);
        if (r < 0)
                return refuse(i, r, presentable(error_shown(i)->message), error);

        r = sd_bus_message_new_method_return(request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_sensitive(reply);
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "s", json);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int act_get_token(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(erase_and_freep) char *token = NULL;
        uint64_t lifetime_sec, expires_at_usec;
        DpsError why = { 0 };
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(request, "t", &lifetime_sec);
        if (r < 0)
                return r;
        r = identity_token(i, lifetime_sec, &token, &expires_at_usec, &why);
        if (r < 0)
                return refuse(i, r, presentable(why.message), error);

        r = sd_bus_message_new_method_return(request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_sensitive(reply);
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "st", token, expires_at_usec);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int refuse_kind(const char *word, sd_bus_error *error) {
        _cleanup_(freep) char *shown = text_for_people(word, strlen(word), 32);
        char kinds[128] = "";
        size_t n = 0;

        for (DpsHubFailure k = 0; k < _DPS_HUB_FAILURE_MAX; k++)
                n += (size_t) snprintf(kinds + n, sizeof(kinds) - n, "%s%s", n > 0 ? ", " : "",
                                       dps_hub_failure_to_string(k));
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                 "'%s' is no kind of hub failure; there are: %s", shown ?: "?", kinds);
}

static int act_report_hub_failure(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(freep) char *detail = NULL;
        const char *word, *told;
        uint64_t generation, next_attempt_at = 0;
        bool registering = false;
        DpsHubFailure kind;
        uint32_t code;
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(request, "tsus", &generation, &word, &code, &told);
        if (r < 0)
                return r;
        if (dps_hub_failure_from_string(word, &kind) < 0)
                return refuse_kind(word, error);
        detail = text_for_people(told, strlen(told), REPORT_DETAIL_MAX);
        if (!detail)
                return -ENOMEM;

        r = identity_report_hub_failure(i, generation, kind, code, detail, &registering, &next_attempt_at);
        /* Already moved: nothing is to be done but to read the connection again. */
        if (r < 0 && r != -ESTALE)
                return refuse(i, r, NULL, error);
        return sd_bus_reply_method_return(request, "bt", registering, next_attempt_at);
}

static int act_report_hub_connected(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        uint64_t generation;
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(request, "t", &generation);
        if (r < 0)
                return r;

        r = identity_report_hub_connected(i, generation);
        if (r < 0 && r != -ESTALE)
                return refuse(i, r, NULL, error);
        return sd_bus_reply_method_return(request, NULL);
}

/* The methods that need a right. */
static const struct guarded {
        const char *member;
        AccessRight right;
        access_handler_t act;
} guarded[] = {
        { "Reprovision", ACCESS_MANAGE, act_reprovision },
        { "GetConnection", ACCESS_USE, act_get_connection },
        { "GetToken", ACCESS_USE, act_get_token },
        { "ReportHubFailure", ACCESS_USE, act_report_hub_failure },
        { "ReportHubConnected", ACCESS_USE, act_report_hub_connected },
};

static int method_guarded(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        const Identity *i = ((BusIdentity *) userdata)->identity;
        const char *member = sd_bus_message_get_member(request);

        for (size_t k = 0; k < ELEMENTSOF(guarded); k++)
                if (streq(guarded[k].member, member))
                        return access_request(bus_of(i->manager)->access, request, guarded[k].right, i->name,
                                              identity_group(i), guarded[k].act, error);
        return -EBADR;
}

static int method_get_history(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const State *s = ((BusIdentity *) userdata)->identity->memory;
        int r;

        r = sd_bus_message_new_method_return(request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(tss)");
        if (r < 0)
                return r;
        for (unsigned k = 0; k < s->n_transitions; k++) {
                const Transition *t = &s->transitions[k];

                r = sd_bus_message_append(reply, "(tss)", t->at_usec, presentable(t->state),
                                          presentable(t->detail));
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

#define PROPERTY(name, type, member, emits, privacy)                                                         \
        SD_BUS_PROPERTY(name, #type, NULL, offsetof(BusIdentity, view.member),                               \
                        SD_BUS_VTABLE_PROPERTY_##emits),

static const sd_bus_vtable identity_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Reprovision", SD_BUS_NO_ARGS, SD_BUS_RESULT("t", id), method_guarded,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetConnection", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_guarded,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("GetToken", SD_BUS_ARGS("t", lifetime_sec),
                                SD_BUS_RESULT("s", token, "t", expires_at_usec), method_guarded,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("ReportHubFailure",
                                SD_BUS_ARGS("t", generation, "s", kind, "u", code, "s", detail),
                                SD_BUS_RESULT("b", registering, "t", next_attempt_at), method_guarded,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ReportHubConnected", SD_BUS_ARGS("t", generation), SD_BUS_NO_RESULT,
                                method_guarded, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetHistory", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(tss)", transitions),
                                method_get_history, SD_BUS_VTABLE_UNPRIVILEGED),

        SD_BUS_SIGNAL_WITH_ARGS("ReprovisionFinished", SD_BUS_ARGS("t", id, "b", ok, "s", error), 0),
        IDENTITY_PROPERTIES(PROPERTY) SD_BUS_VTABLE_END
};

/* 1: found, 0: no such object. */
static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                sd_bus_error *error) {
        Bus *b = userdata;
        _cleanup_(freep) char *name = NULL;
        Identity *i;
        int r;

        r = sd_bus_path_decode(path, DPS_BUS_IDENTITY_PREFIX, &name);
        if (r <= 0)
                return r;
        i = manager_find(b->manager, name);
        if (!i)
                return 0;

        view_fill(i, &b->found.view);
        b->found.identity = i;
        *ret_found = &b->found;
        return 1;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        const Manager *m = ((Bus *) userdata)->manager;
        _cleanup_(strv_freep) char **paths = NULL;
        int r;

        paths = calloc(m->n_identities + 1, sizeof(*paths));
        if (!paths)
                return -ENOMEM;
        for (size_t k = 0; k < m->n_identities; k++) {
                r = identity_bus_path(m->identities[k]->name, &paths[k]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(paths);
        return 0;
}

int identity_bus_add(Bus *b) {
        int r;

        r = sd_bus_add_fallback_vtable(b->connection, NULL, DPS_BUS_IDENTITY_PREFIX, DPS_BUS_IDENTITY,
                                       identity_vtable, find, b);
        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(b->connection, NULL, DPS_BUS_IDENTITY_PREFIX, enumerate, b);
}

/* FNV-1a. */
static uint32_t digest(const void *data, size_t size) {
        uint32_t hash = UINT32_C(0x811c9dc5);

        for (size_t k = 0; k < size; k++)
                hash = (hash ^ ((const uint8_t *) data)[k]) * UINT32_C(0x01000193);
        return hash;
}

static_assert(offsetof(BusIdentity, view) == 0, "the offsets of the vtable are those of an IdentityView too");

static uint32_t property_digest(const IdentityView *v, const sd_bus_vtable *property) {
        const uint8_t *value = (const uint8_t *) v + property->x.property.offset;
        uint64_t number;
        const char *text;

        switch (property->x.property.signature[0]) {
        case 's':
                memcpy(&text, value, sizeof(text));
                return digest(text, strlen(text));
        case 't':
                memcpy(&number, value, sizeof(number));
                if (property->x.property.offset == offsetof(IdentityView, next_attempt_at))
                        number = (number + TREMOR_USEC / 2) / TREMOR_USEC;
                return digest(&number, sizeof(number));
        default: /* b, u */
                return digest(value, sizeof(uint32_t));
        }
}

void bus_identity_changed(Manager *m, Identity *i) {
        _cleanup_(freep) char *path = NULL;
        char *names[ELEMENTSOF(identity_vtable)];
        size_t n_names = 0;
        uint32_t *told = i->bus_slot;
        IdentityView v;

        if (!m->bus || identity_bus_path(i->name, &path) < 0)
                return;
        if (!told)
                told = i->bus_slot = calloc(ELEMENTSOF(identity_vtable), sizeof(*told));
        if (!told)
                return;

        view_fill(i, &v);
        for (size_t k = 0; k < ELEMENTSOF(identity_vtable); k++) {
                const sd_bus_vtable *property = &identity_vtable[k];
                uint32_t now;

                if (property->type != _SD_BUS_VTABLE_PROPERTY ||
                    !(property->flags & SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE))
                        continue;
                now = property_digest(&v, property);
                if (now == told[k])
                        continue;
                told[k] = now;
                names[n_names++] = (char *) property->x.property.member;
        }
        names[n_names] = NULL;
        (void) sd_bus_emit_properties_changed_strv(m->bus, path, DPS_BUS_IDENTITY, names);
}

void identity_bus_forget(Identity *i) {
        free(i->bus_slot);
        i->bus_slot = NULL;
}

void bus_identity_added(Manager *m, Identity *i) {
        _cleanup_(freep) char *path = NULL;

        if (!m->bus || identity_bus_path(i->name, &path) < 0)
                return;
        (void) sd_bus_emit_object_added(m->bus, path);
        (void) sd_bus_emit_signal(m->bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "IdentityAdded", "so", i->name,
                                  path);
}

void bus_identity_removed(Manager *m, Identity *i) {
        _cleanup_(freep) char *path = NULL;

        identity_bus_forget(i);
        if (!m->bus || identity_bus_path(i->name, &path) < 0)
                return;
        /* By their names: sd_bus_emit_object_removed() would look for an object that may be gone by now. */
        (void) sd_bus_emit_interfaces_removed(m->bus, path, DPS_BUS_IDENTITY, "org.freedesktop.DBus.Peer",
                                              "org.freedesktop.DBus.Introspectable",
                                              "org.freedesktop.DBus.Properties", NULL);
        (void) sd_bus_emit_signal(m->bus, DPS_BUS_PATH, DPS_BUS_MANAGER, "IdentityRemoved", "so", i->name,
                                  path);
}

void bus_job_finished(Manager *m, Identity *i, uint64_t job, bool ok, const char *error) {
        _cleanup_(freep) char *path = NULL, *copy = NULL;
        Bus *b = bus_of(m);
        BusJob *jobs;

        if (!m->bus || identity_bus_path(i->name, &path) < 0)
                return;
        copy = strdup(presentable(error));
        jobs = reallocarray(b->jobs, b->n_jobs + 1, sizeof(*jobs));
        if (!jobs || !copy) {
                b->jobs = jobs ?: b->jobs;
                return;
        }

        b->jobs = jobs;
        b->jobs[b->n_jobs++] =
                (BusJob){ .path = TAKE_PTR(path), .error = TAKE_PTR(copy), .id = job, .ok = ok };
        manager_identity_changed(m, i); /* so that the turn has an end */
}

void identity_bus_tell_jobs(Bus *b) {
        for (size_t k = 0; k < b->n_jobs; k++)
                (void) sd_bus_emit_signal(b->connection, b->jobs[k].path, DPS_BUS_IDENTITY,
                                          "ReprovisionFinished", "tbs", b->jobs[k].id, b->jobs[k].ok,
                                          b->jobs[k].error);
        identity_bus_forget_jobs(b);
}

void identity_bus_forget_jobs(Bus *b) {
        for (size_t k = 0; k < b->n_jobs; k++) {
                free(b->jobs[k].path);
                free(b->jobs[k].error);
        }
        free(b->jobs);
        b->jobs = NULL;
        b->n_jobs = 0;
}
