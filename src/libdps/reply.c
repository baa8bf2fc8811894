/* SPDX-License-Identifier: MIT */
#include "dps/reply.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "basic/cleanup.h"
#include "basic/json.h"
#include "basic/text.h"

/*
 * A member of the wrong type, or with characters that it cannot have, counts as absent. Whether it may be
 * absent depends on the status word. If a member is repeated, json-c keeps the last one.
 */

#define OPERATION_ID_MAX 256
#define WORD_MAX 64
#define AUTHENTICATION_KEY_MAX (16U * 1024) /* DPS sends about 1 kB */

/* ---- topic ---- */

int dps_reply_parse_topic(const char *topic, DpsReply *ret) {
        DpsReply reply = { 0 };
        bool has_request_id = false;
        uint64_t status;
        const char *digits;
        Span name, value;
        int r;

        if (!scan_literal(&topic, "$dps/registrations/res/"))
                return -ENOMSG;

        digits = topic;
        if (scan_u64(&topic, &status) < 0 || topic - digits != 3 || !scan_literal(&topic, "/?"))
                return -EBADMSG;
        reply.status = (uint32_t) status;

        while (scan_param(&topic, &name, &value)) {
                if (span_is(name, "$rid")) {
                        if (span_to_u64(value, &reply.request_id) < 0)
                                return -EBADMSG;
                        has_request_id = true;
                } else if (span_is(name, "retry-after")) {
                        r = span_to_u64(value, &reply.retry_after_sec);
                        reply.has_retry_after = r >= 0 || r == -ERANGE;
                        if (r == -ERANGE) /* not malformed, only a very long time */
                                reply.retry_after_sec = UINT64_MAX;
                }
        }
        if (!has_request_id)
                return -EBADMSG;

        *ret = reply;
        return 0;
}

/* ---- names ---- */

bool dps_host_name_is_valid(const char *name) {
        size_t size = strlen(name), n;

        if (size == 0 || size > 253)
                return false;

        for (const char *label = name;; label += n + 1) {
                n = strspn(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");
                if (n == 0 || n > 63 || label[0] == '-' || label[n - 1] == '-')
                        return false;
                if (!label[n])
                        return true;
                if (label[n] != '.')
                        return false;
        }
}

/* Azure's pages differ on the characters, so only those are refused that no page allows and that could do harm. */
bool dps_device_id_is_valid(const char *id) {
        size_t size = strlen(id);

        for (const char *p = id; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return false;
        return size > 0 && size <= 128 && !strpbrk(id, "/\\\"`");
}

/* Operation ids that DPS makes are of [0-9a-f.-]. What would be special in a topic is refused. */
static bool operation_id_is_valid(const char *id) {
        size_t size = strlen(id);

        for (const char *p = id; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return false;
        return size > 0 && size <= OPERATION_ID_MAX && !strpbrk(id, "/#+?&$");
}

static bool authentication_key_is_valid(const char *key) {
        size_t n = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=");

        return n > 0 && n <= AUTHENTICATION_KEY_MAX && !key[n];
}

/* It becomes a part of a token. */
static bool key_name_is_valid(const char *name) {
        size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

        return n > 0 && n <= WORD_MAX && !name[n];
}

static DpsStatus status_from_string(const char *word) {
        static const struct {
                const char *word;
                DpsStatus status;
        } words[] = {
                { "unassigned", DPS_STATUS_UNASSIGNED },
                { "assigning", DPS_STATUS_ASSIGNING },
                { "assigned", DPS_STATUS_ASSIGNED },
                { "failed", DPS_STATUS_FAILED },
                { "disabled", DPS_STATUS_DISABLED },
                { "blacklisted", DPS_STATUS_DISABLED }, /* its older name */
        };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (streq(word, words[i].word))
                        return words[i].status;
        return DPS_STATUS_UNKNOWN;
}

static bool is_success(const DpsReply *reply) {
        return reply->status >= 200 && reply->status < 300;
}

/* ---- members ---- */

/* Text for people: shortened to `max` bytes and made safe to log. */
static int get_text(json_object *object, const char *name, size_t max, char **ret) {
        const char *text = json_string(json_member(object, name));
        char *copy;

        if (!text)
                return 0;

        copy = text_for_people(text, strlen(text), max);
        if (!copy)
                return -ENOMEM;

        free(*ret);
        *ret = copy;
        return 0;
}

/* Text that ends up in files and topics: absent unless it is valid. */
static int get_checked(json_object *object, const char *name, bool (*is_valid)(const char *), char **ret) {
        const char *text = json_string(json_member(object, name));

        if (!text || !is_valid(text))
                return 0;

        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int get_authentication_key(json_object *o, char **ret) {
        return get_checked(o, "authenticationKey", authentication_key_is_valid, ret);
}

/* The key for the hub. Only the TPM can read it, and only once: it is not a part of the state that is kept. */
static int take_hub_key(json_object *state, DpsReply *reply) {
        json_object *tpm = json_member(state, "tpm");
        int r = 0;

        if (!json_object_is_type(tpm, json_type_object))
                return 0;
        if (is_success(reply))
                r = get_authentication_key(tpm, &reply->authentication_key);
        json_object_object_del(tpm, "authenticationKey");
        return r;
}

static int get_json(json_object *o, char **ret) {
        return o ? json_to_text(o, ret) : 0;
}

static void get_code(json_object *object, uint32_t *ret) {
        uint64_t code;

        if (json_u64(json_member(object, "errorCode"), INT32_MAX, &code) >= 0 && code > 0)
                *ret = (uint32_t) code;
}

/* "2020-04-10T05:24:22.4718526Z". Anything but UTC, and anything behind it, makes it invalid. */
static void get_timestamp(json_object *object, uint64_t *ret_sec) {
        const char *text = json_string(json_member(object, "timestampUtc"));
        const char *rest;
        struct tm tm = { 0 };
        time_t sec;

        rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
        if (!rest)
                return;
        if (*rest == '.')
                rest += 1 + strspn(rest + 1, "0123456789");
        if (!streq(rest, "Z") && !streq(rest, ""))
                return;

        sec = timegm(&tm);
        if (sec > 0)
                *ret_sec = (uint64_t) sec;
}

/* ---- issued certificates ---- */

/* A list of one member or more, all of them texts. Anything else counts as no chain at all: a part of one would be another
 * chain. */
static int read_issued_chain(DpsReply *reply, json_object *list) {
        _cleanup_(strv_freep) char **chain = NULL;
        size_t n;

        if (!list || !json_object_is_type(list, json_type_array))
                return 0;

        n = json_object_array_length(list);
        if (n > DPS_ISSUED_CHAIN_MAX) {
                reply->malformed = reply->malformed ?: "its issuedCertificateChain is too long";
                return 0;
        }
        for (size_t i = 0; i < n; i++) {
                const char *text = json_string(json_object_array_get_idx(list, i));

                if (!text)
                        return 0;
                if (strv_append(&chain, text) < 0)
                        return -ENOMEM;
        }

        reply->issued_chain = TAKE_PTR(chain);
        return 0;
}

bool dps_connection_profile_is_v5(const char *profile) {
        return profile && strcasecmp(profile, "mqttV5") == 0;
}

/* ---- body ---- */

static int read_state(DpsReply *reply, json_object *state, Span text) {
        int r;

        if (!state)
                return 0;
        if (!json_object_is_type(state, json_type_object)) {
                reply->malformed = reply->malformed ?: "its registrationState is not an object";
                return 0;
        }

        get_code(state, &reply->error_code);
        r = get_text(state, "errorMessage", DPS_MESSAGE_MAX - 1, &reply->error_message);
        if (r < 0)
                return r;
        r = get_text(state, "registrationId", DPS_MESSAGE_MAX - 1, &reply->registration_id);
        if (r < 0)
                return r;
        r = get_text(state, "substatus", WORD_MAX, &reply->substatus);
        if (r < 0)
                return r;
        r = get_checked(state, "assignedHub", dps_host_name_is_valid, &reply->assigned_hub);
        if (r < 0)
                return r;
        r = get_checked(state, "deviceId", dps_device_id_is_valid, &reply->device_id);
        if (r < 0)
                return r;
        r = get_text(state, "connectionProfile", WORD_MAX, &reply->connection_profile);
        if (r < 0)
                return r;
        r = read_issued_chain(reply, json_member(state, "issuedCertificateChain"));
        if (r < 0)
                return r;
        r = json_keep_text(state, text, "payload");
        if (r >= 0)
                r = get_json(json_member(state, "payload"), &reply->payload);
        if (r < 0)
                return r;
        r = take_hub_key(state, reply);
        if (r < 0)
                return r;
        return get_json(state, &reply->registration_state);
}

static int read_challenge(DpsReply *reply, json_object *o) {
        int r;

        if (reply->status != 401)
                return 0;
        r = get_authentication_key(o, &reply->authentication_key);
        return r < 0 ? r : get_checked(o, "keyName", key_name_is_valid, &reply->key_name);
}

/* DPS sends an empty one with "disabled"; that counts as absent. */
static int read_operation_id(DpsReply *reply, json_object *o) {
        const char *id = json_string(o);

        if (!o || (id && !*id))
                return 0;
        if (!id || !operation_id_is_valid(id)) {
                reply->malformed = "its operationId is not valid";
                return 0;
        }

        reply->operation_id = strdup(id);
        return reply->operation_id ? 0 : -ENOMEM;
}

static int read_word(DpsReply *reply, json_object *o) {
        const char *word;

        if (!o)
                return 0;

        word = json_string(o);
        if (!word) {
                reply->malformed = reply->malformed ?: "its status is not a string";
                return 0;
        }

        reply->word = status_from_string(word);
        reply->status_word = text_for_people(word, strlen(word), WORD_MAX);
        return reply->status_word ? 0 : -ENOMEM;
}

/* Each status word needs certain other members. NULL: they are there. */
static const char *find_missing(const DpsReply *reply) {
        switch (reply->word) {
        case DPS_STATUS_NONE:
                return reply->status == 202 ? NULL : "it has no status";
        case DPS_STATUS_UNKNOWN:
                return "its status is unknown";
        case DPS_STATUS_ASSIGNED:
                if (!reply->assigned_hub)
                        return "its assignedHub is missing or not a host name";
                if (!reply->device_id)
                        return "its deviceId is missing or not valid";
                return NULL;
        case DPS_STATUS_UNASSIGNED:
        case DPS_STATUS_ASSIGNING:
        case DPS_STATUS_FAILED:
        case DPS_STATUS_DISABLED:
                return NULL;
        }
        abort();
}

int dps_reply_parse_body(DpsReply *reply, const void *body, size_t size) {
        _cleanup_(json_freep) json_object *o = NULL;
        Span state;
        int r;

        r = json_read_object(body, size, DPS_REPLY_SIZE_MAX, &o, &reply->malformed);
        if (r < 0)
                return r == -EBADMSG ? 0 : r;

        get_code(o, &reply->error_code);
        r = get_text(o, "message", DPS_MESSAGE_MAX - 1, &reply->error_message);
        if (r < 0)
                return r;
        get_timestamp(o, &reply->timestamp_sec);
        r = get_text(o, "trackingId", DPS_TRACKING_ID_MAX - 1, &reply->tracking_id);
        if (r < 0)
                return r;
        r = read_operation_id(reply, json_member(o, "operationId"));
        if (r < 0)
                return r;
        r = read_word(reply, json_member(o, "status"));
        if (r < 0)
                return r;
        r = read_challenge(reply, o);
        if (r < 0)
                return r;
        r = json_find_text((Span){ body, size }, "registrationState", &state);
        if (r >= 0)
                r = read_state(reply, json_member(o, "registrationState"), state);
        if (r < 0)
                return r;

        if (is_success(reply) && !reply->malformed)
                reply->malformed = find_missing(reply);
        return 0;
}

/* ---- meaning ---- */

/* The extended code if it is of the status's class or of a failed operation, else the status. */
static uint32_t deciding_code(const DpsReply *reply) {
        if (is_success(reply) || reply->error_code / 1000 == reply->status)
                return reply->error_code;
        return reply->status;
}

static bool is_refusal(const DpsReply *reply) {
        return reply->status >= 400 && reply->status < 600;
}

DpsVerdict dps_reply_verdict(const DpsReply *reply) {
        if (reply->status == 401 && reply->authentication_key)
                return DPS_VERDICT_CHALLENGE;
        if (is_refusal(reply))
                return dps_code_lookup(deciding_code(reply)).verdict;
        if (!is_success(reply) || reply->malformed)
                return DPS_VERDICT_RETRY;

        switch (reply->word) {
        case DPS_STATUS_NONE:
                return reply->status == 202 ? DPS_VERDICT_ASSIGNING : DPS_VERDICT_RETRY;
        case DPS_STATUS_UNASSIGNED:
        case DPS_STATUS_ASSIGNING:
                return DPS_VERDICT_ASSIGNING;
        case DPS_STATUS_ASSIGNED:
                return DPS_VERDICT_ASSIGNED;
        case DPS_STATUS_FAILED:
                return reply->error_code ? dps_code_lookup(reply->error_code).verdict : DPS_VERDICT_FINAL;
        case DPS_STATUS_DISABLED:
                return DPS_VERDICT_FINAL;
        case DPS_STATUS_UNKNOWN:
                return DPS_VERDICT_RETRY;
        }
        abort();
}

/* "DPS answered 401002, the certificate was refused: Invalid certificate." */
static void set_refusal(const DpsReply *reply, DpsStep step, DpsError *ret) {
        uint32_t code = deciding_code(reply);
        DpsCode meaning = dps_code_lookup(code);

        dps_error_set(ret, meaning.id, step, "DPS answered %u, %s%s%s", code, meaning.meaning,
                      reply->error_message ? ": " : "", reply->error_message ?: "");
}

void dps_reply_error(const DpsReply *reply, DpsStep step, DpsError *ret) {
        if (is_refusal(reply))
                set_refusal(reply, step, ret);
        else if (!is_success(reply))
                dps_error_set(ret, DPS_ERROR_PROTOCOL, step,
                              "DPS answered with status %u, which DPS does not use", reply->status);
        else if (reply->malformed && reply->word == DPS_STATUS_UNKNOWN)
                dps_error_set(ret, DPS_ERROR_PROTOCOL, step,
                              "the answer cannot be understood: its status \"%s\" is unknown",
                              reply->status_word ?: "");
        else if (reply->malformed)
                dps_error_set(ret, DPS_ERROR_PROTOCOL, step, "the answer cannot be understood: %s",
                              reply->malformed);
        else if (reply->word == DPS_STATUS_DISABLED)
                dps_error_set(ret, DPS_ERROR_ENROLLMENT_DISABLED, step, "the enrollment is disabled");
        else if (reply->error_code)
                set_refusal(reply, step, ret);
        else
                dps_error_set(ret, DPS_ERROR_ALLOCATION, step, "the registration failed%s%s",
                              reply->error_message ? ": " : ", and DPS does not say why",
                              reply->error_message ?: "");

        ret->code = reply->error_code ?: is_success(reply) ? 0 : reply->status;
        ret->final = dps_reply_verdict(reply) != DPS_VERDICT_RETRY;
        (void) snprintf(ret->tracking_id, sizeof(ret->tracking_id), "%s", reply->tracking_id ?: "");
}

int dps_reply_copy(const DpsReply *reply, DpsReply *ret) {
        DpsReply copy = *reply;
        char **texts[] = {
                &copy.status_word,
                &copy.operation_id,
                &copy.registration_id,
                &copy.assigned_hub,
                &copy.device_id,
                &copy.substatus,
                &copy.payload,
                &copy.tracking_id,
                &copy.registration_state,
                &copy.error_message,
                &copy.key_name,
                &copy.authentication_key,
                &copy.connection_profile,
        };
        bool lacks_memory;

        copy.issued_chain = NULL;
        lacks_memory = reply->issued_chain && strv_extend(&copy.issued_chain, reply->issued_chain) < 0;

        for (size_t k = 0; k < ELEMENTSOF(texts); k++) {
                const char *text = *texts[k];

                *texts[k] = text ? strdup(text) : NULL;
                lacks_memory = lacks_memory || (text && !*texts[k]);
        }
        if (lacks_memory) {
                dps_reply_done(&copy);
                return -ENOMEM;
        }
        *ret = copy;
        return 0;
}

void dps_reply_done(DpsReply *reply) {
        free(reply->status_word);
        free(reply->operation_id);
        free(reply->registration_id);
        free(reply->assigned_hub);
        free(reply->device_id);
        free(reply->substatus);
        free(reply->payload);
        free(reply->registration_state);
        free(reply->authentication_key);
        free(reply->key_name);
        free(reply->connection_profile);
        strv_free(reply->issued_chain);
        free(reply->error_message);
        free(reply->tracking_id);
        *reply = (DpsReply){ 0 };
}
