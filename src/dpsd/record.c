/* SPDX-License-Identifier: MIT */
#include "dpsd/record.h"

#include <ctype.h>
#include <errno.h>

#include "basic/json.h"
#include "basic/text.h"
#include "dps/reply.h"
#include "dps/request.h"

/*
 * One flat object, with its members named as in the contract. The file may have been changed by anybody who
 * can write there, or written by another version. What is valid is used: a value that is not allowed is left out, and makes
 * the file unusable only where it costs the assignment. In a file of a newer version not even that does, because that
 * version may know more words than we do.
 */

#define TEXT_MAX 256
#define USEC_MAX ((uint64_t) INT64_MAX)
/* The largest count that is read or written. One more must fit, or a further failure would not be counted. */
#define COUNT_MAX ((uint64_t) INT32_MAX)

/* --- objects -------------------------------------------------------------------------------------------- */

static const char *const hub_auth_names[_HUB_AUTH_MAX] = {
        [HUB_AUTH_SAS] = "sas",
        [HUB_AUTH_X509] = "x509",
};

/* The offsets of the texts in an assignment. */
static const uint8_t assignment_texts[] = {
        offsetof(Assignment, id_scope),       offsetof(Assignment, registration_id),
        offsetof(Assignment, endpoint),       offsetof(Assignment, hub),
        offsetof(Assignment, device_id),      offsetof(Assignment, substatus),
        offsetof(Assignment, payload),        offsetof(Assignment, registration_state),
        offsetof(Assignment, fingerprint),    offsetof(Assignment, connection_profile),
        offsetof(Assignment, api_version),    offsetof(Assignment, issued),
        offsetof(Assignment, issuance_fault),
};

static char **text_of(const Assignment *a, size_t k) {
        return (char **) ((uintptr_t) a + assignment_texts[k]);
}

Assignment *assignment_free(Assignment *a) {
        if (!a)
                return NULL;

        for (size_t k = 0; k < ELEMENTSOF(assignment_texts); k++)
                free(*text_of(a, k));
        free(a);
        return NULL;
}

Assignment *assignment_copy(const Assignment *a) {
        Assignment *c = malloc(sizeof(*c));
        bool is_whole = true;

        if (!c)
                return NULL;
        *c = *a;
        for (size_t k = 0; k < ELEMENTSOF(assignment_texts); k++) {
                char **text = text_of(c, k);

                if (!*text)
                        continue;
                *text = strdup(*text);
                is_whole = *text && is_whole;
        }
        return is_whole ? c : assignment_free(c);
}

HubAuth assignment_hub_auth(const Assignment *a) {
        return a->issued ? HUB_AUTH_X509 : a->hub_auth;
}

bool assignment_shows_token(const Assignment *a) {
        return assignment_hub_auth(a) == HUB_AUTH_SAS && !dps_connection_profile_is_v5(a->connection_profile);
}

bool assignment_lacks_credential(const Assignment *a) {
        return assignment_hub_auth(a) == HUB_AUTH_SAS && dps_connection_profile_is_v5(a->connection_profile);
}

const char *hub_auth_to_string(HubAuth a) {
        return hub_auth_names[a];
}

int hub_auth_from_string(const char *word, HubAuth *ret) {
        for (HubAuth a = 0; a < _HUB_AUTH_MAX; a++)
                if (streq(word, hub_auth_names[a])) {
                        *ret = a;
                        return 0;
                }
        return -EINVAL;
}

Record *record_new(void) {
        return calloc(1, sizeof(Record));
}

static void transition_done(Transition *t) {
        free(t->state);
        free(t->detail);
        *t = (Transition){ 0 };
}

Record *record_free(Record *record) {
        if (!record)
                return NULL;

        assignment_free(record->assignment);
        free(record->asked_scope);
        free(record->asked_endpoint);
        free(record->transport);
        free(record->network);
        for (unsigned i = 0; i < record->n_transitions; i++)
                transition_done(&record->transitions[i]);
        free(record->transitions);
        free(record);
        return NULL;
}

/* Makes room for one more at the end. If there are too many, the oldest is removed. */
static int make_room(Record *record) {
        Transition *transitions;

        if (record->n_transitions == RECORD_TRANSITIONS_MAX) {
                transition_done(&record->transitions[0]);
                memmove(record->transitions, record->transitions + 1,
                        sizeof(*record->transitions) * --record->n_transitions);
                return 0;
        }

        transitions = reallocarray(record->transitions, record->n_transitions + 1, sizeof(*transitions));
        if (!transitions)
                return -ENOMEM;
        record->transitions = transitions;
        return 0;
}

int record_add_transition(Record *record, uint64_t at_usec, const char *state, const char *detail) {
        Transition t = { .at_usec = at_usec };

        t.state = text_for_people(state, strlen(state), TEXT_MAX);
        t.detail = text_for_people(detail ?: "", strlen(detail ?: ""), TEXT_MAX);
        if (!t.state || !t.detail || make_room(record) < 0) {
                transition_done(&t);
                return -ENOMEM;
        }

        record->transitions[record->n_transitions++] = t;
        return 0;
}

Transition *record_last_failure(Record *record) {
        Transition *t = record->n_transitions > 0 ? &record->transitions[record->n_transitions - 1] : NULL;

        return t && (streq(t->state, "failed") || streq(t->state, "attempt-failed")) ? t : NULL;
}

/* --- allowed values ------------------------------------------------------------------------------------- */

/* A host name or an address. */
static bool endpoint_is_valid(const char *text) {
        size_t size = strlen(text);

        for (const char *p = text; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr("-._:", *p))
                        return false;
        return size > 0 && size <= 253;
}

static bool credential_id_is_valid(const char *text) {
        return strlen(text) <= 64 && !text[strspn(text, "0123456789abcdef")];
}

static bool fingerprint_is_valid(const char *text) {
        return *text && credential_id_is_valid(text);
}

static bool text_is_valid(const char *text) {
        for (const char *p = text; *p; p++)
                if (iscntrl((unsigned char) *p))
                        return false;
        return strlen(text) <= TEXT_MAX;
}

static bool method_is_valid(const char *word) {
        Method m;

        return method_from_string(word, &m) >= 0;
}

static bool hub_auth_is_valid(const char *word) {
        HubAuth a;

        return hub_auth_from_string(word, &a) >= 0;
}

/* --- the members ---------------------------------------------------------------------------------------- */

typedef enum MemberType {
        MEMBER_TEXT,   /* char *, checked */
        MEMBER_JSON,   /* char *, JSON text of any kind */
        MEMBER_OBJECT, /* char *, JSON text of an object */
        MEMBER_METHOD, /* Method */
        MEMBER_HUB_AUTH,
        MEMBER_U64,
        MEMBER_U32,
} MemberType;

typedef struct Member {
        const char *name, *reason;
        MemberType type;
        size_t offset;
        bool (*is_valid)(const char *);
} Member;

#define MEMBER(name, type, thing, field, is_valid)                                                           \
        { name, "its " name " is not valid", type, offsetof(thing, field), is_valid }

static const Member assignment_members[] = {
        MEMBER("idScope", MEMBER_TEXT, Assignment, id_scope, dps_id_scope_is_valid),
        MEMBER("registrationId", MEMBER_TEXT, Assignment, registration_id, dps_registration_id_is_valid),
        MEMBER("endpoint", MEMBER_TEXT, Assignment, endpoint, endpoint_is_valid),
        MEMBER("method", MEMBER_METHOD, Assignment, method, method_is_valid),
        MEMBER("hubAuthentication", MEMBER_HUB_AUTH, Assignment, hub_auth, hub_auth_is_valid),
        MEMBER("assignedHub", MEMBER_TEXT, Assignment, hub, dps_host_name_is_valid),
        MEMBER("deviceId", MEMBER_TEXT, Assignment, device_id, dps_device_id_is_valid),
        MEMBER("substatus", MEMBER_TEXT, Assignment, substatus, text_is_valid),
        MEMBER("payload", MEMBER_JSON, Assignment, payload, NULL),
        MEMBER("registrationState", MEMBER_OBJECT, Assignment, registration_state, NULL),
        MEMBER("generation", MEMBER_U64, Assignment, generation, NULL),
        MEMBER("assignedAt", MEMBER_U64, Assignment, assigned_at_usec, NULL),
        MEMBER("tokenExpiresAt", MEMBER_U64, Assignment, token_expires_at_usec, NULL),
        MEMBER("renewAt", MEMBER_U64, Assignment, renew_at_usec, NULL),
        MEMBER("credential", MEMBER_U32, Assignment, credential, NULL),
        MEMBER("connectionProfile", MEMBER_TEXT, Assignment, connection_profile, text_is_valid),
        MEMBER("apiVersion", MEMBER_TEXT, Assignment, api_version, text_is_valid),
        MEMBER("issuedFingerprint", MEMBER_TEXT, Assignment, issued, fingerprint_is_valid),
        MEMBER("certificateExpiresAt", MEMBER_U64, Assignment, issued_expires_at_usec, NULL),
        MEMBER("issuanceFault", MEMBER_TEXT, Assignment, issuance_fault, text_is_valid),
        MEMBER("credentialFingerprint", MEMBER_TEXT, Assignment, fingerprint, fingerprint_is_valid),
};

/* Older versions wrote and read this member. For a certificate it holds the fingerprint, for a key the digest
 * of a token. */
static const Member credential_id_member = { "credentialId", "its credentialId is not valid", MEMBER_TEXT, 0,
                                             credential_id_is_valid };

static const Member record_members[] = {
        MEMBER("attempts", MEMBER_U32, Record, attempts, NULL),
        MEMBER("finals", MEMBER_U32, Record, finals, NULL),
        MEMBER("nextAttemptAt", MEMBER_U64, Record, next_attempt_at_usec, NULL),
        MEMBER("notBefore", MEMBER_U64, Record, not_before_usec, NULL),
        MEMBER("askedIdScope", MEMBER_TEXT, Record, asked_scope, dps_id_scope_is_valid),
        MEMBER("askedEndpoint", MEMBER_TEXT, Record, asked_endpoint, endpoint_is_valid),
        MEMBER("pausedUntil", MEMBER_U64, Record, paused_until_usec, NULL),
        MEMBER("lastPollAt", MEMBER_U64, Record, last_poll_at_usec, NULL),
        MEMBER("polls", MEMBER_U32, Record, polls, NULL),
        MEMBER("lastGeneration", MEMBER_U64, Record, last_generation, NULL),
        MEMBER("lastSuccessAt", MEMBER_U64, Record, last_success_at_usec, NULL),
        MEMBER("lastErrorAt", MEMBER_U64, Record, error_at_usec, NULL),
        MEMBER("failingSince", MEMBER_U64, Record, failing_since_usec, NULL),
        MEMBER("transport", MEMBER_TEXT, Record, transport, text_is_valid),
        MEMBER("network", MEMBER_TEXT, Record, network, text_is_valid),
        MEMBER("transportAt", MEMBER_U64, Record, transport_at_usec, NULL),
        MEMBER("notedAt", MEMBER_U64, Record, noted_at_usec, NULL),
        MEMBER("notedUptime", MEMBER_U64, Record, noted_uptime_usec, NULL),
};

static const Member transition_members[] = {
        MEMBER("at", MEMBER_U64, Transition, at_usec, NULL),
        MEMBER("state", MEMBER_TEXT, Transition, state, text_is_valid),
        MEMBER("detail", MEMBER_TEXT, Transition, detail, text_is_valid),
        MEMBER("more", MEMBER_U32, Transition, more, NULL),
        MEMBER("lastAt", MEMBER_U64, Transition, last_usec, NULL),
};

_Static_assert(sizeof(unsigned) == sizeof(uint32_t), "MEMBER_U32 holds Assignment.credential");

/* --- writing -------------------------------------------------------------------------------------------- */

static int add_member(json_object *object, const Member *m, const void *thing) {
        const void *field = (const char *) thing + m->offset;

        switch (m->type) {
        case MEMBER_TEXT:
                return json_add_string(object, m->name, *(char *const *) field);
        case MEMBER_JSON:
        case MEMBER_OBJECT:
                return json_add_text(object, m->name, *(char *const *) field);
        case MEMBER_METHOD:
                return json_add_string(object, m->name, method_to_string(*(const Method *) field));
        case MEMBER_HUB_AUTH:
                return json_add_string(object, m->name, hub_auth_to_string(*(const HubAuth *) field));
        case MEMBER_U64:
                return json_add_u64(object, m->name, MIN(*(const uint64_t *) field, USEC_MAX));
        case MEMBER_U32:
                return json_add_u64(object, m->name, MIN(*(const uint32_t *) field, COUNT_MAX));
        }
        abort();
}

static int add_members(json_object *object, const Member *members, size_t n, const void *thing) {
        for (size_t i = 0; i < n; i++) {
                int r = add_member(object, &members[i], thing);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_assignment(json_object *object, const Assignment *a) {
        int r = add_members(object, assignment_members, ELEMENTSOF(assignment_members), a);

        /* For people: which of two certificates the hub is shown. */
        if (r >= 0 && assignment_hub_auth(a) == HUB_AUTH_X509)
                r = json_add_string(object, "certificateKind", a->issued ? "issued" : "onboarding");
        if (r < 0 || a->method != METHOD_X509)
                return r;
        /* Without this member, an older version that reads the file would assume that the certificate has
         * changed. */
        return add_member(object, &credential_id_member, &a->fingerprint);
}

static int add_transitions(json_object *object, const Record *record) {
        json_object *list = json_object_new_array();
        int r;

        r = json_add(object, "transitions", list);
        for (unsigned i = 0; r >= 0 && i < record->n_transitions; i++) {
                json_object *o = json_object_new_object();

                if (!o || json_object_array_add(list, o) < 0) {
                        json_object_put(o);
                        return -ENOMEM;
                }
                r = add_members(o, transition_members, ELEMENTSOF(transition_members),
                                &record->transitions[i]);
        }
        return r;
}

static int add_error(json_object *object, const DpsError *e) {
        json_object *o;
        int r;

        if (e->id == DPS_ERROR_NONE)
                return 0;
        o = json_object_new_object();
        r = json_add(object, "lastError", o);
        if (r >= 0)
                r = json_add_string(o, "id", dps_error_id_to_string(e->id));
        if (r >= 0)
                r = json_add_string(o, "step", dps_step_to_string(e->step));
        if (r >= 0)
                r = json_add_u64(o, "code", e->code);
        if (r >= 0)
                r = json_add_string(o, "trackingId", e->tracking_id);
        return r < 0 ? r : json_add_string(o, "message", e->message);
}

int record_to_json(const Record *record, char **ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        _cleanup_(freep) char *text = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_u64(o, "version", RECORD_VERSION);
        if (r < 0)
                return r;
        if (record->assignment) {
                r = add_assignment(o, record->assignment);
                if (r < 0)
                        return r;
        }
        r = add_members(o, record_members, ELEMENTSOF(record_members), record);
        if (r < 0)
                return r;
        r = add_error(o, &record->error);
        if (r < 0)
                return r;
        r = add_transitions(o, record);
        if (r < 0)
                return r;

        r = json_to_text(o, &text);
        if (r < 0)
                return r;
        if (strlen(text) > RECORD_SIZE_MAX)
                return -EFBIG;
        *ret = TAKE_PTR(text);
        return 0;
}

/* --- reading -------------------------------------------------------------------------------------------- */

typedef struct Reader {
        bool is_lenient;    /* values that we do not understand are treated as missing */
        const char *reason; /* the first reason to reject the file; a literal */
} Reader;

static int read_text(const char *text, char **ret) {
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

/* -EINVAL: the value is not allowed. */
static int read_value(json_object *o, const Member *m, void *field) {
        const char *text = json_string(o);
        uint64_t number;
        int r;

        switch (m->type) {
        case MEMBER_TEXT:
                return text && m->is_valid(text) ? read_text(text, field) : -EINVAL;
        case MEMBER_JSON:
                return json_to_text(o, field);
        case MEMBER_OBJECT:
                return json_object_is_type(o, json_type_object) ? json_to_text(o, field) : -EINVAL;
        case MEMBER_METHOD:
                return text && m->is_valid(text) ? method_from_string(text, field) : -EINVAL;
        case MEMBER_HUB_AUTH:
                return text && m->is_valid(text) ? hub_auth_from_string(text, field) : -EINVAL;
        case MEMBER_U64:
                return json_u64(o, USEC_MAX, field) < 0 ? -EINVAL : 0;
        case MEMBER_U32:
                r = json_u64(o, COUNT_MAX, &number);
                if (r < 0)
                        return -EINVAL;
                *(uint32_t *) field = (uint32_t) number;
                return 0;
        }
        abort();
}

static int read_members(Reader *reader, json_object *object, const Member *members, size_t n, void *thing) {
        for (size_t i = 0; i < n; i++) {
                json_object *o = json_member(object, members[i].name);
                int r;

                if (!o)
                        continue;
                r = read_value(o, &members[i], (char *) thing + members[i].offset);
                if (r == -ENOMEM)
                        return r;
                if (r < 0 && !reader->is_lenient)
                        reader->reason = reader->reason ?: members[i].reason;
        }
        return 0;
}

static int read_what_older_versions_wrote(Reader *reader, json_object *object, Assignment *a) {
        _cleanup_(freep) char *id = NULL;
        int r;

        r = read_members(reader, object, &credential_id_member, 1, &id);
        if (r < 0)
                return r;
        if (a->method == METHOD_X509 && !a->fingerprint && !isempty(id))
                a->fingerprint = TAKE_PTR(id);
        if (a->hub_auth == _HUB_AUTH_MAX)
                a->hub_auth = a->method == METHOD_X509 ? HUB_AUTH_X509 : HUB_AUTH_SAS;
        return 0;
}

/* An assignment without a hub, a device id, a scope or a registration id is not usable, and is left out. */
static int read_assignment(Reader *reader, json_object *object, Record *record) {
        _cleanup_(assignment_freep) Assignment *a = calloc(1, sizeof(Assignment));
        int r;

        if (!a)
                return -ENOMEM;
        a->method = _METHOD_MAX;
        a->hub_auth = _HUB_AUTH_MAX;
        r = read_members(reader, object, assignment_members, ELEMENTSOF(assignment_members), a);
        if (r >= 0)
                r = read_what_older_versions_wrote(reader, object, a);
        if (r < 0)
                return r;
        if (!a->id_scope || !a->registration_id || !a->endpoint || a->method == _METHOD_MAX || !a->hub ||
            !a->device_id)
                return 0;

        if (!a->substatus && read_text("", &a->substatus) < 0)
                return -ENOMEM;
        record->assignment = TAKE_PTR(a);
        return 0;
}

static int read_transition(Reader *reader, json_object *object, Record *record) {
        Transition t = { 0 };
        int r;

        r = read_members(reader, object, transition_members, ELEMENTSOF(transition_members), &t);
        if (r >= 0 && t.state)
                r = record_add_transition(record, t.at_usec, t.state, t.detail);
        if (r >= 0 && record->n_transitions > 0) {
                record->transitions[record->n_transitions - 1].more = t.more;
                record->transitions[record->n_transitions - 1].last_usec = t.last_usec;
        }
        transition_done(&t);
        return r;
}

static int read_transitions(Reader *reader, json_object *list, Record *record) {
        size_t n;

        if (!list)
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return 0;

        n = json_object_array_length(list);
        for (size_t i = 0; i < n; i++) {
                int r = read_transition(reader, json_object_array_get_idx(list, i), record);

                if (r < 0)
                        return r;
        }
        return 0;
}

static DpsStep step_from_string(const char *word) {
        for (DpsStep step = DPS_STEP_NONE; step < _DPS_STEP_MAX; step++)
                if (streq(dps_step_to_string(step), word))
                        return step;
        return DPS_STEP_NONE;
}

static void copy_safely(json_object *o, char *ret, size_t size) {
        const char *text = json_string(o);
        _cleanup_(freep) char *safe = text ? text_for_people(text, strlen(text), size - 1) : NULL;

        (void) snprintf(ret, size, "%s", safe ?: "");
}

/* The error only informs people, so invalid parts of it are left out. */
static void read_error(json_object *object, DpsError *ret) {
        const char *id = json_string(json_member(object, "id"));
        const char *step = json_string(json_member(object, "step"));
        DpsError e = { 0 };
        uint64_t code = 0;

        if (!id || dps_error_id_from_string(id, &e.id) < 0)
                return;
        e.step = step_from_string(step ?: "");
        if (json_u64(json_member(object, "code"), UINT32_MAX, &code) >= 0)
                e.code = (uint32_t) code;
        copy_safely(json_member(object, "trackingId"), e.tracking_id, sizeof(e.tracking_id));
        copy_safely(json_member(object, "message"), e.message, sizeof(e.message));
        *ret = e;
}

static int read_all(Reader *reader, json_object *object, Record *record) {
        int r;

        r = read_assignment(reader, object, record);
        if (r < 0)
                return r;
        if (record->assignment) /* nothing else is worth it */
                reader->reason = NULL;
        reader->is_lenient = true;
        r = read_members(reader, object, record_members, ELEMENTSOF(record_members), record);
        if (r < 0)
                return r;
        read_error(json_member(object, "lastError"), &record->error);
        return read_transitions(reader, json_member(object, "transitions"), record);
}

int record_from_json(const char *text, size_t size, Record **ret, const char **ret_why) {
        _cleanup_(json_freep) json_object *object = NULL;
        _cleanup_(record_freep) Record *record = NULL;
        Reader reader = { 0 };
        uint64_t version;
        int r;

        r = json_read_object(text, size, RECORD_SIZE_MAX, &object, ret_why);
        if (r < 0)
                return r;
        if (json_u64(json_member(object, "version"), INT32_MAX, &version) < 0 || version == 0) {
                *ret_why = "it has no version";
                return -EBADMSG;
        }

        r = json_keep_text(object, (Span){ text, size }, "payload");
        if (r >= 0)
                r = json_keep_text(object, (Span){ text, size }, "registrationState");
        if (r < 0)
                return r;
        record = record_new();
        if (!record)
                return -ENOMEM;
        reader.is_lenient = version > RECORD_VERSION;
        r = read_all(&reader, object, record);
        if (r < 0)
                return r;
        if (reader.reason) {
                *ret_why = reader.reason;
                return -EBADMSG;
        }

        *ret = TAKE_PTR(record);
        return 0;
}
