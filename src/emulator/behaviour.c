/* SPDX-License-Identifier: MIT */
#include "emulator/behaviour.h"

#include <errno.h>

#include "basic/text.h"
#include "dps/reply.h"
#include "dps/request.h"

static const char *const document_members[] = {
        "idScope",
        "retryAfter",
        "assigningTime",
        "hubs",
        "connectionProfiles",
        "quotas",
        "behaviour",
        "individualEnrollments",
        "enrollmentGroups",
        NULL,
};
static const char *const quota_members[] = { "registrationsPerMinute", "pollsPerTenSeconds",
                                             "secondsPerRequest", NULL };
static const char *const behaviour_members[] = {
        "badCertificate",    "badSignature", "clockTolerance", "refusedApiVersions", "foreignTopic",
        "foreignFilter",     "missingRid",   "will",           "assignAtOnce",       "unassignedFirst",
        "conflict",          "extraMembers", "chunked",        "tpmOverMqtt",        "lostPercent",
        "operationIdLength", NULL,
};
static const char *const bad_signature_words[] = { "register", "connect", NULL };
static const char *const bad_certificate_words[] = { "connect", "register", NULL };
static const char *const close_words[] = { "close", "ignore", NULL };
static const char *const refuse_words[] = { "close", "refuse", NULL };

int reader_seconds(const Reader *r, const char *name, uint64_t *ret) {
        json_object *value;

        if (reader_get(r, name, &value) && json_object_is_type(value, json_type_string)) {
                if (!streq(json_object_get_string(value), "forever"))
                        return reader_error(r, name, "must be a whole number of seconds, or \"forever\"");
                *ret = SECONDS_FOREVER;
                return 1;
        }
        return reader_number(r, name, SECONDS_MAX, ret);
}

static int read_quotas(const Reader *document, Behaviour *b) {
        Reader r;
        int k;

        k = reader_object(document, "quotas", &r);
        if (k <= 0)
                return k;

        if ((k = reader_allow(&r, quota_members)) < 0 ||
            (k = reader_number(&r, "registrationsPerMinute", UINT32_MAX, &b->registrations_per_minute)) < 0 ||
            (k = reader_number(&r, "pollsPerTenSeconds", UINT32_MAX, &b->polls_per_ten_seconds)) < 0 ||
            (k = reader_number(&r, "secondsPerRequest", SECONDS_MAX, &b->request_sec)) < 0)
                return k;
        return 0;
}

static int read_misbehaved(const Reader *r, const char *name, const char *const words[], Misbehaved *ret) {
        unsigned word;
        int k;

        k = reader_word(r, name, words, &word);
        if (k > 0)
                *ret = word == 0 ? MISBEHAVED_CLOSE : MISBEHAVED_IGNORE;
        return k;
}

static int read_switches(const Reader *document, Behaviour *b) {
        unsigned word = BAD_SIGNATURE_AT_REGISTER, certificate_word = BAD_CERTIFICATE_AT_CONNECT;
        Reader r;
        int k;

        k = reader_object(document, "behaviour", &r);
        if (k <= 0)
                return k;

        if ((k = reader_allow(&r, behaviour_members)) < 0 ||
            (k = reader_word(&r, "badSignature", bad_signature_words, &word)) < 0 ||
            (k = reader_word(&r, "badCertificate", bad_certificate_words, &certificate_word)) < 0 ||
            (k = reader_number(&r, "clockTolerance", SECONDS_MAX, &b->clock_tolerance_sec)) < 0 ||
            (k = reader_number(&r, "lostPercent", 100, &b->lost_percent)) < 0 ||
            (k = reader_number(&r, "operationIdLength", OPERATION_ID_SIZE_MAX, &b->operation_id_size)) < 0 ||
            (k = reader_strings(&r, "refusedApiVersions", &b->refused_api_versions)) < 0 ||
            (k = read_misbehaved(&r, "foreignTopic", close_words, &b->foreign_topic)) < 0 ||
            (k = read_misbehaved(&r, "foreignFilter", refuse_words, &b->foreign_filter)) < 0 ||
            (k = read_misbehaved(&r, "missingRid", close_words, &b->missing_request_id)) < 0 ||
            (k = read_misbehaved(&r, "will", close_words, &b->will)) < 0 ||
            (k = reader_boolean(&r, "tpmOverMqtt", &b->tpm_over_mqtt)) < 0 ||
            (k = reader_boolean(&r, "assignAtOnce", &b->assign_at_once)) < 0 ||
            (k = reader_boolean(&r, "unassignedFirst", &b->unassigned_first)) < 0 ||
            (k = reader_boolean(&r, "conflict", &b->conflict)) < 0 ||
            (k = reader_boolean(&r, "chunked", &b->chunked)) < 0 ||
            (k = reader_boolean(&r, "extraMembers", &b->extra_members)) < 0)
                return k;

        b->bad_signature = word;
        b->bad_certificate = certificate_word;
        return 0;
}

/* {"hub-1.example":"mqttV5"}: any word, because DPS passes on what the hub says. */
static int read_profiles(const Reader *document, Behaviour *b) {
        Reader r;
        int k;

        k = reader_object(document, "connectionProfiles", &r);
        if (k <= 0)
                return k;
        json_object_object_foreach(r.object, hub, word) {
                if (!dps_host_name_is_valid(hub))
                        return reader_error(&r, hub, "is not a host name");
                if (word && !json_object_is_type(word, json_type_string))
                        return reader_error(&r, hub, "must be a string or null");
        }
        b->connection_profiles = json_object_get(r.object);
        return 0;
}

static int read_top(const Reader *document, Behaviour *b) {
        const char *id_scope = "0ne00AABBCC";
        int k;

        if ((k = reader_allow(document, document_members)) < 0 ||
            (k = reader_string(document, "idScope", &id_scope)) < 0 ||
            (k = reader_number(document, "retryAfter", SECONDS_MAX, &b->retry_after_sec)) < 0 ||
            (k = reader_seconds(document, "assigningTime", &b->assigning_sec)) < 0 ||
            (k = reader_strings(document, "hubs", &b->hubs)) < 0)
                return k;

        if (!dps_id_scope_is_valid(id_scope))
                return reader_error(document, "idScope", "is not an ID scope");
        STRV_FOREACH(hub, b->hubs)
                if (!dps_host_name_is_valid(*hub))
                        return reader_error(document, "hubs", "must be host names");

        b->id_scope = strdup(id_scope);
        return b->id_scope ? 0 : -ENOMEM;
}

int behaviour_read(const Reader *document, Behaviour *ret) {
        Behaviour b = {
                .retry_after_sec = 3,
                .assigning_sec = 2,
                .registrations_per_minute = 1000,
                .polls_per_ten_seconds = 5,
                .request_sec = 60,
                .chunked = true,
                .clock_tolerance_sec = 300,
                .foreign_filter = MISBEHAVED_IGNORE,
                .missing_request_id = MISBEHAVED_IGNORE,
        };
        int r;

        if ((r = read_top(document, &b)) < 0 || (r = read_quotas(document, &b)) < 0 ||
            (r = read_profiles(document, &b)) < 0 || (r = read_switches(document, &b)) < 0) {
                behaviour_done(&b);
                return r;
        }

        *ret = b;
        return 0;
}

void behaviour_done(Behaviour *b) {
        free(b->id_scope);
        strv_free(b->hubs);
        json_object_put(b->connection_profiles);
        strv_free(b->refused_api_versions);
        *b = (Behaviour){ 0 };
}
