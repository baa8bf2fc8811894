/* SPDX-License-Identifier: MIT */
#include "dpsd/bus-internal.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/identity-enrollment.h"
#include "dpsd/identity-request.h"
#include "dpsd/log.h"

/*
 * The properties are listed in basic/contract.h; sd-bus reads them directly from the members of an
 * IdentityView. Listeners are told only about properties that changed: for each identity we keep digests of
 * the values told last. Every method that needs a right is handled by method_guarded(), which finds the right
 * by the method's name.
 */

#define REPORT_DETAIL_MAX 256
/* This many messages may wait in our memory until the bus reads them; each is some 4 kB. */
#define UNREAD_MAX 256U
/* A time that is computed from two clocks varies slightly. A smaller difference than this is not a change. */
#define TREMOR_USEC (100 * USEC_PER_MSEC)

int identity_bus_path(const char *name, char **ret) {
        return sd_bus_path_encode(DPS_BUS_IDENTITY_PREFIX, name, ret);
}

/* 1: the name that the path stands for; 0: it stands for none. "_67ateway" stands for nothing: each object has one path. */
static int name_of_path(const char *path, char **ret) {
        _cleanup_(freep) char *name = NULL, *canonical = NULL;
        int r;

        r = sd_bus_path_decode(path, DPS_BUS_IDENTITY_PREFIX, &name);
        if (r <= 0)
                return r;
        r = identity_bus_path(name, &canonical);
        if (r < 0 || !streq(canonical, path))
                return MIN(r, 0);
        *ret = TAKE_PTR(name);
        return 1;
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

/* The identity whose object the request is sent to. */
static int find_addressed(Bus *b, sd_bus_message *request, Identity **ret, sd_bus_error *error) {
        _cleanup_(freep) char *name = NULL;
        int r;

        r = name_of_path(sd_bus_message_get_path(request), &name);
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

        format_duration(clock_behind_usec(i->core->clock), behind);
        return sd_bus_error_setf(
                error, DPS_BUS_ERROR_CLOCK_NOT_TRUSTED,
                "%s: no hub would accept a token made now: the clock is %s behind; waiting for "
                "time synchronisation",
                i->name, behind);
}

int identity_refuse(const Identity *i, int r, const char *why, sd_bus_error *error) {
        switch (-r) {
        case ENODATA:
                return refuse_not_assigned(i, error);
        case ETIME:
                return refuse_clock(i, error);
        case ENOTSUP:
                return sd_bus_error_setf(error, DPS_BUS_ERROR_NOT_SUPPORTED,
                                         "%s uses a certificate, so it has no tokens", i->name);
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

/* A D-Bus reply that is sent later. */
typedef struct LateReply {
        sd_bus_message *request;
        Identity *identity; /* exists as long as its handlers are called */
        bool is_token;
        Check *kept;
} LateReply;

static int late_reply_new(Bus *b, sd_bus_message *request, Identity *i, bool is_token, LateReply **ret) {
        LateReply *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        *l = (LateReply){ .request = sd_bus_message_ref(request), .identity = i, .is_token = is_token };
        access_keep(b->access, &l->kept);
        *ret = l;
        return 0;
}

static LateReply *late_reply_free(LateReply *l) {
        if (!l)
                return NULL;
        access_done(l->kept);
        sd_bus_message_unref(l->request);
        free(l);
        return NULL;
}
DEFINE_FREEP(LateReply, late_reply_free)

/* Replies the way sd-bus does with the result of a handler. */
static void end_late(LateReply *l, int r, const sd_bus_error *error) {
        if (r < 0)
                (void) sd_bus_reply_method_errno(l->request, r, error);
}

/* -EAGAIN: its credential is looked at first. */
static int reply_reprovision(sd_bus_message *request, Identity *i, bool has_looked, sd_bus_error *error) {
        uint64_t job, retry_usec = 0;
        int r;

        r = identity_reprovision(i, has_looked, &job, &retry_usec);
        if (r == -EAGAIN)
                return r;
        if (r == -EBUSY)
                return sd_bus_error_setf(error, DPS_BUS_ERROR_RATE_LIMITED,
                                         "%s: asked too often, possible again in %" PRIu64 " s", i->name,
                                         (retry_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
        if (r < 0)
                return identity_refuse(i, r, text_or_nothing(identity_local_error(i)->message), error);
        return sd_bus_reply_method_return(request, "t", job);
}

static void on_looked(Identity *i, Credential *credential, const DpsError *why, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(late_reply_freep) LateReply *l = userdata;
        int r;

        if (why) /* the identity is gone */
                r = identity_refuse(i, -EINVAL, text_or_nothing(why->message), &error);
        else
                r = reply_reprovision(l->request, i, true, &error);
        end_late(l, r, &error);
}

static int look_and_reply(Bus *b, sd_bus_message *request, Identity *i) {
        LateReply *l;
        int r;

        r = late_reply_new(b, request, i, false, &l);
        if (r < 0)
                return r;
        r = identity_wait_for_look(i, on_looked, l);
        if (r < 0)
                late_reply_free(l);
        return r < 0 ? r : 1;
}

int identity_bus_reprovision(Bus *b, sd_bus_message *request, Identity *i, sd_bus_error *error) {
        int r = reply_reprovision(request, i, false, error);

        return r == -EAGAIN ? look_and_reply(b, request, i) : r;
}

static int act_reprovision(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        return identity_bus_reprovision(userdata, request, i, error);
}

static int send_text(const LateReply *l, const char *text, uint64_t expires_at_usec) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(l->request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_sensitive(reply);
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "s", text);
        if (r >= 0 && l->is_token)
                r = sd_bus_message_append(reply, "t", expires_at_usec);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static void on_text(int r, char *text, uint64_t expires_at_usec, const DpsError *why, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(late_reply_freep) LateReply *l = userdata;
        _cleanup_(erase_and_freep) char *owned = text;

        if (r >= 0)
                r = send_text(l, owned, expires_at_usec);
        else
                r = identity_refuse(l->identity, r, text_or_nothing(why->message), &error);
        end_late(l, r, &error);
}

/* Begins what `begin` does, whose handler answers the request. */
static int answer_by_text(sd_bus_message *request, void *userdata,
                          int (*begin)(Identity *i, identity_text_handler_t handler, void *userdata),
                          sd_bus_error *error) {
        _cleanup_(late_reply_freep) LateReply *l = NULL;
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = late_reply_new(userdata, request, i, false, &l);
        if (r < 0)
                return r;
        r = begin(i, on_text, l);
        if (r < 0)
                return identity_refuse(i, r, NULL, error);
        l = NULL; /* its handler owns it now */
        return 1;
}

static int act_get_connection(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return answer_by_text(request, userdata, identity_connection, error);
}

static int act_get_enrollment(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        return answer_by_text(request, userdata, identity_enrollment, error);
}

static int act_get_token(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(late_reply_freep) LateReply *l = NULL;
        uint64_t lifetime_sec;
        Identity *i;
        int r;

        r = find_addressed(userdata, request, &i, error);
        if (r < 0)
                return r;
        r = sd_bus_message_read(request, "t", &lifetime_sec);
        if (r < 0)
                return r;
        r = late_reply_new(userdata, request, i, true, &l);
        if (r < 0)
                return r;
        r = identity_token(i, lifetime_sec, on_text, l);
        if (r < 0)
                return identity_refuse(i, r, NULL, error);
        l = NULL; /* its handler owns it now */
        return 1;
}

static int refuse_kind(const char *word, sd_bus_error *error) {
        _cleanup_(freep) char *shown = text_for_people(word, strlen(word), 32);
        char kinds[128] = "";
        size_t n = 0;

        for (DpsHubFailure k = 0; k < _DPS_HUB_FAILURE_MAX; k++)
                n += (size_t) snprintf(kinds + n, sizeof(kinds) - n, "%s%s", n > 0 ? ", " : "",
                                       dps_hub_failure_to_string(k));
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS,
                                 "'%s' is not a kind of hub failure; the kinds are: %s", shown ?: "?", kinds);
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
        /* -ESTALE means "already moved": the program only has to read the connection again. */
        if (r < 0 && r != -ESTALE)
                return identity_refuse(i, r, NULL, error);
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
                return identity_refuse(i, r, NULL, error);
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
        { "GetEnrollment", ACCESS_USE, act_get_enrollment },
        { "ReportHubFailure", ACCESS_USE, act_report_hub_failure },
        { "ReportHubConnected", ACCESS_USE, act_report_hub_connected },
};

static Bus *bus_of(BusIdentity *found) {
        return (Bus *) ((char *) found - offsetof(Bus, found));
}

static int method_guarded(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        Bus *b = bus_of(userdata);
        const Identity *i = ((BusIdentity *) userdata)->identity;
        const char *member = sd_bus_message_get_member(request);

        for (size_t k = 0; k < ELEMENTSOF(guarded); k++)
                if (streq(guarded[k].member, member))
                        return access_request(b->access, request, guarded[k].right, i->name,
                                              identity_group(i), guarded[k].act, error);
        return -EBADR;
}

/* A row for each of the same failures in a row would leave no room for others. */
static int append_transition(sd_bus_message *reply, const Transition *t) {
        char duration[DURATION_TEXT_MAX], text[2 * DPS_MESSAGE_MAX];

        if (t->more == 0)
                return sd_bus_message_append(reply, "(tss)", t->at_usec, text_or_nothing(t->state),
                                             text_or_nothing(t->detail));
        (void) snprintf(text, sizeof(text), "%s (%" PRIu32 " times in %s)", t->detail, t->more + 1,
                        format_duration(usec_sub(t->last_usec, t->at_usec), duration));
        return sd_bus_message_append(reply, "(tss)", t->at_usec, text_or_nothing(t->state),
                                     text_or_nothing(text));
}

static int method_get_history(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const Record *s = ((BusIdentity *) userdata)->identity->keeper.record;
        int r;

        r = sd_bus_message_new_method_return(request, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(tss)");
        if (r < 0)
                return r;
        for (unsigned k = 0; k < s->n_transitions; k++) {
                r = append_transition(reply, &s->transitions[k]);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(reply);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

/* They change too often for a signal. */
#define SD_BUS_VTABLE_PROPERTY_UNTOLD 0

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
        SD_BUS_METHOD_WITH_ARGS("GetEnrollment", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_guarded,
                                SD_BUS_VTABLE_UNPRIVILEGED),
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

/* 1: found; 0: there is no such object. */
static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found,
                sd_bus_error *error) {
        Bus *b = userdata;
        _cleanup_(freep) char *name = NULL;
        Identity *i;
        int r;

        r = name_of_path(path, &name);
        if (r <= 0)
                return r;
        i = manager_find(b->manager, name);
        if (!i)
                return 0;

        identity_view(i, &b->found.view);
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

static_assert(offsetof(BusIdentity, view) == 0,
              "the offsets of the vtable are valid for an IdentityView too");

/* The values of one property. Texts are appended one by one; 64-bit numbers, which are half of all, together. */
static int append_values(sd_bus_message *m, const sd_bus_vtable *property, const IdentityView *views,
                         size_t n) {
        const uint8_t *first = (const uint8_t *) views + property->x.property.offset;
        const char *type = property->x.property.signature;
        void *numbers;
        int r;

        if (*type == 't') {
                r = sd_bus_message_append_array_space(m, 't', n * sizeof(uint64_t), &numbers);
                for (size_t k = 0; r >= 0 && k < n; k++)
                        memcpy((uint64_t *) numbers + k, first + k * sizeof(*views), sizeof(uint64_t));
                return r;
        }
        r = sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, type);
        for (size_t k = 0; r >= 0 && k < n; k++) {
                const void *value = first + k * sizeof(*views);

                r = sd_bus_message_append_basic(m, *type,
                                                *type == 's' ? *(const char *const *) value : value);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* One {sv}: a property and an array with its value of each identity. */
static int append_column(sd_bus_message *m, const sd_bus_vtable *property, const IdentityView *views,
                         size_t n) {
        const char array[] = { SD_BUS_TYPE_ARRAY, *property->x.property.signature, '\0' };
        int r;

        r = sd_bus_message_open_container(m, SD_BUS_TYPE_DICT_ENTRY, "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', property->x.property.member);
        if (r >= 0)
                r = sd_bus_message_open_container(m, SD_BUS_TYPE_VARIANT, array);
        if (r >= 0)
                r = append_values(m, property, views, n);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int identity_bus_get_all(sd_bus_message *request, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(freep) IdentityView *views = NULL;
        const Manager *m = ((Bus *) userdata)->manager;
        int r;

        views = calloc(m->n_identities + 1, sizeof(*views));
        if (!views)
                return -ENOMEM;
        for (size_t k = 0; k < m->n_identities; k++)
                identity_view(m->identities[k], &views[k]);
        r = sd_bus_message_new_method_return(request, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "{sv}");
        for (size_t k = 0; r >= 0 && k < ELEMENTSOF(identity_vtable); k++)
                if (identity_vtable[k].type == _SD_BUS_VTABLE_PROPERTY)
                        r = append_column(reply, &identity_vtable[k], views, m->n_identities);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
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

static int on_read(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Bus *b = userdata;

        b->reading = sd_bus_slot_unref(b->reading);
        if (!b->is_connected || sd_bus_is_open(b->connection) <= 0)
                return 0;
        if (sd_bus_message_is_method_error(reply, NULL) > 0) {
                log_warning("D-Bus: the bus does not read what is sent to it: connecting anew");
                b->is_connected = false;
                b->failure_is_logged = true;
                (void) sd_event_source_set_time_relative(b->retry, 0);
                (void) sd_event_source_set_enabled(b->retry, SD_EVENT_ONESHOT);
                return 0;
        }
        for (size_t k = 0; k < b->manager->n_identities; k++)
                if (b->manager->identities[k]->is_untold)
                        bus_identity_changed(b, b->manager->identities[k]);
        manager_touch(b->manager); /* what is told at the end of a turn */
        return 0;
}

bool identity_bus_is_taken(Bus *b) {
        uint64_t n = 0;

        (void) sd_bus_get_n_queued_write(b->connection, &n);
        if (n > 0 && !b->reading)
                (void) sd_bus_call_method_async(b->connection, &b->reading, "org.freedesktop.DBus",
                                                "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId",
                                                on_read, b, NULL);
        b->is_behind = b->reading && (b->is_behind || n >= UNREAD_MAX);
        return !b->is_behind;
}

void bus_identity_changed(Bus *b, Identity *i) {
        _cleanup_(freep) char *path = NULL;
        char *names[ELEMENTSOF(identity_vtable)];
        size_t n_names = 0;
        uint32_t *told = i->bus_slot;
        IdentityView v;

        if (!b || !b->is_connected)
                return;
        i->is_untold = !identity_bus_is_taken(b);
        if (i->is_untold || identity_bus_path(i->name, &path) < 0)
                return;
        if (!told)
                told = i->bus_slot = calloc(ELEMENTSOF(identity_vtable), sizeof(*told));
        if (!told)
                return;

        identity_view(i, &v);
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
        (void) sd_bus_emit_properties_changed_strv(b->connection, path, DPS_BUS_IDENTITY, names);
}

static void forget_told(Identity *i) {
        free(i->bus_slot);
        i->bus_slot = NULL;
}

static void forget_jobs(Bus *b) {
        for (size_t k = 0; k < b->n_jobs; k++) {
                free(b->jobs[k].path);
                free(b->jobs[k].error);
        }
        free(b->jobs);
        b->jobs = NULL;
        b->n_jobs = 0;
}

void identity_bus_forget_all(Bus *b) {
        b->reading = sd_bus_slot_unref(b->reading);
        for (size_t k = 0; k < b->manager->n_identities; k++)
                forget_told(b->manager->identities[k]);
        forget_jobs(b);
}

void bus_identity_added(Bus *b, Identity *i) {
        _cleanup_(freep) char *path = NULL;

        if (!b || !b->is_connected || identity_bus_path(i->name, &path) < 0)
                return;
        (void) sd_bus_emit_object_added(b->connection, path);
        (void) sd_bus_emit_signal(b->connection, DPS_BUS_PATH, DPS_BUS_MANAGER, "IdentityAdded", "so",
                                  i->name, path);
}

void bus_identity_removed(Bus *b, Identity *i) {
        _cleanup_(freep) char *path = NULL;

        forget_told(i);
        if (!b || !b->is_connected || identity_bus_path(i->name, &path) < 0)
                return;
        /* The interfaces are named here, because sd-bus would otherwise look up an object that may be
         * gone. */
        (void) sd_bus_emit_interfaces_removed(
                b->connection, path, DPS_BUS_IDENTITY, "org.freedesktop.DBus.Peer",
                "org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Properties", NULL);
        (void) sd_bus_emit_signal(b->connection, DPS_BUS_PATH, DPS_BUS_MANAGER, "IdentityRemoved", "so",
                                  i->name, path);
}

void bus_job_ended(Bus *b, Identity *i, uint64_t job, bool ok, const char *error) {
        _cleanup_(freep) char *path = NULL, *copy = NULL;
        BusJob *jobs;

        if (!b || !b->is_connected || identity_bus_path(i->name, &path) < 0)
                return;
        copy = strdup(text_or_nothing(error));
        jobs = reallocarray(b->jobs, b->n_jobs + 1, sizeof(*jobs));
        if (!jobs || !copy) {
                b->jobs = jobs ?: b->jobs;
                return;
        }

        b->jobs = jobs;
        b->jobs[b->n_jobs++] =
                (BusJob){ .path = TAKE_PTR(path), .error = TAKE_PTR(copy), .id = job, .ok = ok };
}

void identity_bus_tell_jobs(Bus *b) {
        for (size_t k = 0; k < b->n_jobs; k++)
                (void) sd_bus_emit_signal(b->connection, b->jobs[k].path, DPS_BUS_IDENTITY,
                                          "ReprovisionFinished", "tbs", b->jobs[k].id, b->jobs[k].ok,
                                          b->jobs[k].error);
        forget_jobs(b);
}
