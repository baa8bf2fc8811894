/* SPDX-License-Identifier: MIT */
#include "emulator/service.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/request.h"
#include "emulator/idtable.h"

int service_new(json_object *document, const RandomSource *random, Service **ret, ErrorText *error) {
        _cleanup_(service_freep) Service *s = NULL;
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;

        s->random = *random;
        if ((r = roster_new(document, &s->roster, error)) < 0 || (r = scripts_init(&s->scripts)) < 0 ||
            (r = devices_new(&s->devices)) < 0 ||
            (r = random->fill(&s->number, sizeof(s->number), random->userdata)) < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

Service *service_free(Service *s) {
        if (!s)
                return NULL;

        issuer_free(s->issuer);
        roster_free(s->roster);
        scripts_done(&s->scripts);
        if (s->devices)
                lh_table_free(s->devices);
        free(s);
        return NULL;
}

void caller_done(Caller *caller) {
        free(caller->registration_id);
        free(caller->api_version);
        free(caller->enrollment);
        *caller = (Caller){ 0 };
}

const Enrollment *service_enrollment(const Service *s, const char *id, bool is_group) {
        if (!id)
                return NULL;
        return is_group ? roster_group(s->roster, id) : roster_individual(s->roster, id);
}

static int answer_throttled(const Service *s, uint64_t until_usec, uint64_t now_usec, Answer *ret) {
        uint64_t wait_usec = MAX(usec_sub(until_usec, now_usec), 1);
        int r;

        r = answer_error(&s->random, 429, 429001, "Too many requests.", now_usec, ret);
        if (r < 0)
                return r;
        ret->has_retry_after = true;
        ret->retry_after_sec = (wait_usec + USEC_PER_SEC - 1) / USEC_PER_SEC;
        return 0;
}

/* One window of a minute for the whole service. It begins with the first register in it. */
static bool is_register_throttled(Service *s, uint64_t now_usec) {
        uint64_t limit = s->roster->behaviour.registrations_per_minute;

        if (now_usec < s->minute_usec || now_usec - s->minute_usec >= USEC_PER_MINUTE) {
                s->minute_usec = now_usec;
                s->registers_this_minute = 0;
        }
        return s->registers_this_minute++ >= limit;
}

/* Refuses a caller whose API version or token is not accepted. 1: `ret` is the refusal; 0: the caller may
 * ask. */
static int answer_refused_caller(const Service *s, const Caller *caller, uint64_t now_usec, Answer *ret) {
        char message[128];
        int r = 0;

        if (strv_contains(s->roster->behaviour.refused_api_versions, caller->api_version)) {
                (void) snprintf(message, sizeof(message), "Unsupported API version %.64s.",
                                caller->api_version);
                r = answer_error(&s->random, 400, 400004, message, now_usec, ret);
        } else if (caller->has_bad_certificate)
                r = answer_error(&s->random, 401, 401002, "Invalid certificate.", now_usec, ret);
        else if (caller->is_unauthorized)
                r = answer_error(&s->random, 401, 401000, "Unauthorized", now_usec, ret);
        else
                return 0;
        return r < 0 ? r : 1;
}

/* A body may be empty. Returns what is wrong with it, or NULL. */
static const char *body_fault(const Caller *caller, const void *body, size_t size, uint32_t *ret_code) {
        _cleanup_(json_freep) json_object *o = NULL;
        json_object *payload;
        const char *id;
        ErrorText ignored;

        if (size == 0)
                return NULL;
        *ret_code = 400012;
        if (json_read(body, size, &o, &ignored) < 0 || !json_object_is_type(o, json_type_object))
                return "Deserialization error: the body is not a JSON object.";

        *ret_code = 400000;
        payload = json_member(o, "payload");
        if (payload && !json_object_is_type(payload, json_type_object))
                return "The payload is not an object.";
        id = json_string(json_member(o, "registrationId"));
        return id && strcasecmp(id, caller->registration_id) != 0 ? "The body is for another registration id."
                                                                  : NULL;
}

static int answer_disabled(const Caller *caller, Answer *ret) {
        return answer_result(200,
                             &(Result){ .operation_id = "",
                                        .word = "disabled",
                                        .registration_id = caller->registration_id },
                             ret);
}

static bool is_done(const Operation *o, uint64_t now_usec) {
        /* If now is before its begin, the clock was set back. The operation ends, as nobody knows when it
         * otherwise would. */
        return o->done_usec != SECONDS_FOREVER && (now_usec < o->begun_usec || now_usec >= o->done_usec);
}

/* Versions compare correctly as text. The member is in no version before this one, not even in 2026-11-01. */
static const char *profile_for(const Service *s, const Caller *caller, const Enrollment *e, const char *hub) {
        json_object *word;

        if (strcmp(caller->api_version, "2026-11-02-preview") < 0)
                return NULL;
        if (e && e->has_connection_profile)
                return json_object_to_json_string(e->connection_profile);
        if (json_object_object_get_ex(s->roster->behaviour.connection_profiles, hub, &word))
                return json_object_to_json_string(word);
        return NULL;
}

static int answer_state(const Service *s, const Caller *caller, const Device *device, const Operation *o,
                        unsigned status, const char *word, Answer *ret) {
        const Enrollment *e = service_enrollment(s, device->enrollment, device->is_group);
        bool is_assigned = streq(word, "assigned");
        Result result = {
                .operation_id = o->id,
                .word = word,
                .registration_id = device->registration_id,
                .is_x509 = device->is_x509,
                .tpm_key = o->tpm_key,
                .error_code = streq(word, "failed") ? o->error_code : 0,
                .error_message = streq(word, "failed") ? o->error_message : NULL,
                .extra_members = s->roster->behaviour.extra_members,
        };
        int r;

        if (result.error_code > 0)
                result.device_id = e ? e->failure_device_id : NULL;
        if (is_assigned) {
                result.issued_chain = o->issued_chain;
                result.device_id = device->device_id;
                result.hub = device->hub;
                result.substatus = device->substatus;
                result.connection_profile = profile_for(s, caller, e, device->hub);
                result.enrollment_group_id = device->is_group ? device->enrollment : NULL;
                result.payload = e && e->payload ? json_object_to_json_string(e->payload) : NULL;
        }
        if (status == 200) {
                result.created_usec = device->created_usec;
                result.updated_usec = device->updated_usec;
        }

        r = answer_result(status, &result, ret);
        if (r < 0 || status != 202)
                return r;
        ret->has_retry_after = true;
        ret->retry_after_sec =
                e && e->has_retry_after ? e->retry_after_sec : s->roster->behaviour.retry_after_sec;
        return 0;
}

/* The key for the hub is made once for each operation, and replaces that of an earlier one. */
static int give_hub_key(const Service *s, Device *device, Operation *o) {
        const Enrollment *e = service_enrollment(s, device->enrollment, device->is_group);

        if (!e || e->attestation != ATTESTATION_TPM || !device->tpm || o->tpm_key)
                return 0;
        return tpm_challenge_make(&s->random, &e->endorsement_key, &device->tpm->storage_root_key,
                                  &device->tpm->hub, &o->tpm_key);
}

static int answer_operation(const Service *s, const Caller *caller, Device *device, Operation *o,
                            uint64_t now_usec, Answer *ret) {
        bool first = !o->was_polled;

        o->was_polled = true;
        if (is_done(o, now_usec) && !o->error_code) {
                int r = give_hub_key(s, device, o);

                if (r < 0)
                        return r;
        }
        if (is_done(o, now_usec))
                return answer_state(s, caller, device, o, 200, o->error_code ? "failed" : "assigned", ret);
        return answer_state(s, caller, device, o, 202,
                            first && s->roster->behaviour.unassigned_first ? "unassigned" : "assigning", ret);
}

static int begin(Service *s, const Caller *caller, const Enrollment *e, uint64_t now_usec, Device **ret) {
        const Behaviour *b = &s->roster->behaviour;
        uint64_t assigning_sec = e->has_assigning ? e->assigning_sec : b->assigning_sec;
        char *const *hubs = e->hubs ?: b->hubs;
        Device *device;
        Operation o = { 0 };
        int r;

        r = devices_get(s->devices, e->is_group ? caller->registration_id : e->id, now_usec, &device);
        if (r < 0)
                return r;
        r = device_enroll(device, e, caller->is_x509);
        if (r < 0)
                return r;
        r = operation_id_make(&s->random, s->number, b->operation_id_size, &o.id);
        if (r < 0)
                return r;

        o.begun_usec = now_usec;
        o.done_usec =
                assigning_sec == SECONDS_FOREVER ? SECONDS_FOREVER : now_usec + assigning_sec * USEC_PER_SEC;
        if (e->failure_code > 0) {
                o.error_code = e->failure_code;
                o.error_message = e->failure_message ? strdup(e->failure_message) : NULL;
        } else if (!hubs) {
                o.error_code = 400208;
                o.error_message = strdup("No IoT hub is available for the enrollment.");
        } else
                r = device_assign(device, e, hubs, now_usec);

        device_push(device, &o);
        if (r < 0)
                return r;
        device->registers++;
        *ret = device;
        return 0;
}

static int answer_challenge(Service *s, const Caller *caller, const Enrollment *e, const void *body,
                            size_t size, uint64_t now_usec, Answer *ret) {
        Device *device;
        int r;

        if (e->attestation != ATTESTATION_TPM)
                return answer_error(&s->random, 401, 401000, "Unauthorized", now_usec, ret);
        r = devices_get(s->devices, e->id, now_usec, &device);
        if (r < 0)
                return r;
        if (!device->tpm)
                device->tpm = calloc(1, sizeof(*device->tpm));
        if (!device->tpm)
                return -ENOMEM;
        r = tpm_challenge_answer(&s->random, &e->endorsement_key, body, size, device->tpm, ret);
        return r == -EBADMSG ? answer_error(&s->random, 400, 400000,
                                            "The body does not have the storage root key of the TPM.",
                                            now_usec, ret)
                             : r;
}

/* A version that does not know the member ignores it, as any other. A PEM text is refused even without a policy. 0 with a
 * code: the operation fails with it. */
static int issue(Service *s, const Caller *caller, const Enrollment *e, const void *body, size_t size,
                 uint64_t now_usec, char ***ret, uint32_t *ret_code, const char **ret_why) {
        const char *id = e->is_group ? caller->registration_id : e->id, *csr;
        _cleanup_(json_freep) json_object *o = NULL;
        _cleanup_(strv_freep) char **chain = NULL;
        ErrorText ignored;
        int r;

        if (size == 0 || strcmp(caller->api_version, DPS_API_VERSION_ISSUANCE_OLDER) < 0 ||
            json_read(body, size, &o, &ignored) < 0)
                return 0;
        csr = json_string(json_member(o, "csr"));
        if (!csr)
                return 0;
        if (!s->issuer && (r = issuer_new(now_usec, &s->issuer)) < 0)
                return r;
        r = issuer_issue(s->issuer, &e->issuance, csr, id, now_usec, &chain, ret_code, ret_why);
        if (r < 0)
                return r;
        *ret_code = e->issuance.failure_code;
        *ret = e->issuance.is_set && *ret_code == 0 ? TAKE_PTR(chain) : NULL;
        return 0;
}

int service_register(Service *s, const Caller *caller, const void *body, size_t size, uint64_t now_usec,
                     Answer *ret) {
        const Behaviour *b = &s->roster->behaviour;
        const Enrollment *e = service_enrollment(s, caller->enrollment, caller->is_group);
        Device *device = id_table_get(s->devices, caller->registration_id);
        _cleanup_(strv_freep) char **chain = NULL;
        const char *why;
        uint32_t code;
        int r;

        if (is_register_throttled(s, now_usec))
                return answer_throttled(s, s->minute_usec + USEC_PER_MINUTE, now_usec, ret);
        r = answer_refused_caller(s, caller, now_usec, ret);
        if (r != 0)
                return MIN(r, 0);
        why = body_fault(caller, body, size, &code);
        if (why)
                return answer_error(&s->random, 400, code, why, now_usec, ret);
        if (!e)
                return answer_error(&s->random, 404, 404201, "Registration not found.", now_usec, ret);
        if (!e->is_enabled)
                return answer_disabled(caller, ret);
        if (caller->has_nothing)
                return answer_challenge(s, caller, e, body, size, now_usec, ret);
        if (b->conflict && device && device->operations[0].id && !is_done(&device->operations[0], now_usec))
                return answer_error(&s->random, 409, 409203, "Precondition failed.", now_usec, ret);

        code = 0;
        r = issue(s, caller, e, body, size, now_usec, &chain, &code, &why);
        if (r == -EBADMSG)
                return answer_error(&s->random, 400, code, why, now_usec, ret);
        if (r < 0)
                return r;
        r = begin(s, caller, e, now_usec, &device);
        if (r < 0)
                return r;
        device->was_issued = device->was_issued || chain;
        device->operations[0].issued_chain = TAKE_PTR(chain);
        if (code > 0)
                device->operations[0].error_code = code;
        if (b->assign_at_once)
                return answer_operation(s, caller, device, &device->operations[0], UINT64_MAX, ret);
        return answer_state(s, caller, device, &device->operations[0], 202,
                            b->unassigned_first ? "unassigned" : "assigning", ret);
}

int service_poll(Service *s, const Caller *caller, const char *operation_id, uint64_t now_usec, Answer *ret) {
        Device *device = id_table_get(s->devices, caller->registration_id);
        uint64_t limit = s->roster->behaviour.polls_per_ten_seconds, free_usec;
        Operation *o;
        int r;

        r = answer_refused_caller(s, caller, now_usec, ret);
        if (r != 0)
                return MIN(r, 0);
        if (caller->has_nothing)
                return answer_error(&s->random, 401, 401000, "Unauthorized", now_usec, ret);
        if (!operation_id)
                return answer_error(&s->random, 400, 400000, "The operation id is missing.", now_usec, ret);

        /* The operation of another device is unknown, too. */
        o = device ? device_operation(device, operation_id) : NULL;
        if (!o)
                return answer_error(&s->random, 404, 404000, "Operation not found.", now_usec, ret);

        r = device_count_poll(device, limit, now_usec, &free_usec);
        if (r < 0)
                return r;
        if (r == 0)
                return answer_throttled(s, free_usec, now_usec, ret);

        device->polls++;
        return answer_operation(s, caller, device, o, now_usec, ret);
}

/* Leaves of a body only its member "registrationState". An error has none and stays as it is. */
static int reduce_to_state(Answer *a) {
        _cleanup_(json_freep) json_object *o = NULL;
        json_object *state;
        ErrorText ignored;
        int r;

        r = json_read(a->body, strlen(a->body), &o, &ignored);
        if (r < 0)
                return r;
        state = json_member(o, "registrationState");
        if (!state)
                return 0;

        free(TAKE_PTR(a->body));
        a->has_retry_after = false;
        return json_to_text(state, &a->body);
}

static bool has_member(const void *body, size_t size, const char *name) {
        _cleanup_(json_freep) json_object *o = NULL;
        const char *ignored;

        return json_read_object(body, size, size, &o, &ignored) >= 0 && json_member(o, name);
}

int service_lookup(Service *s, const Caller *caller, const void *body, size_t size, uint64_t now_usec,
                   Answer *ret) {
        const Device *device = id_table_get(s->devices, caller->registration_id);
        const Operation *o = device ? &device->operations[0] : NULL;
        const char *word, *why;
        Answer a = { 0 };
        uint32_t code;
        int r;

        r = answer_refused_caller(s, caller, now_usec, ret);
        if (r != 0)
                return MIN(r, 0);
        if (caller->has_nothing)
                return answer_error(&s->random, 401, 401000, "Unauthorized", now_usec, ret);
        why = body_fault(caller, body, size, &code);
        if (!why && has_member(body, size, "csr")) {
                why = "The body has a csr.";
                code = 400000;
        }
        if (why)
                return answer_error(&s->random, 400, code, why, now_usec, ret);
        if (!o || !o->id)
                return answer_error(&s->random, 404, 404201, "Registration not found.", now_usec, ret);

        word = !is_done(o, now_usec) ? "assigning" : o->error_code ? "failed" : "assigned";
        r = answer_state(s, caller, device, o, 200, word, &a);
        if (r >= 0)
                r = reduce_to_state(&a);
        if (r < 0) {
                answer_done(&a);
                return r;
        }
        *ret = a;
        return 0;
}

static const char *status_message(unsigned status) {
        static const struct {
                unsigned status;
                const char *message;
        } messages[] = {
                { 400, "Bad request." },
                { 401, "Unauthorized" },
                { 403, "Forbidden." },
                { 404, "Not found." },
                { 405, "Method not allowed." },
                { 409, "Precondition failed." },
                { 429, "Too many requests." },
                { 500, "Internal server error." },
                { 503, "Service is not available." },
        };

        for (size_t i = 0; i < ELEMENTSOF(messages); i++)
                if (messages[i].status == status)
                        return messages[i].message;
        return "As the script says.";
}

static int scripted_state(Service *s, const Caller *caller, const ScriptAnswer *script,
                          const char *operation_id, uint64_t now_usec, Answer *ret) {
        const Enrollment *e = service_enrollment(s, caller->enrollment, caller->is_group);
        Device *device = id_table_get(s->devices, caller->registration_id);
        Operation *o = device && operation_id ? device_operation(device, operation_id) : NULL;
        const char *word = script->has_code ? "failed" : script->status == 202 ? "assigning" : "assigned";
        int r;

        if (!o) {
                if (!e)
                        return answer_error(&s->random, 404, 404201, "Registration not found.", now_usec,
                                            ret);
                r = begin(s, caller, e, now_usec, &device);
                if (r < 0)
                        return r;
                o = &device->operations[0];
        }

        if (script->has_code) {
                o->error_code = (uint32_t) script->code;
                free(o->error_message);
                o->error_message = strdup("As the script says.");
        }
        return answer_state(s, caller, device, o, script->status, word, ret);
}

/* Replaces the member "status", in the answer and in its registrationState. */
static int replace_word(Answer *a, const char *word) {
        _cleanup_(json_freep) json_object *o = NULL;
        json_object *state;
        ErrorText ignored;
        int r;

        r = json_read(a->body, strlen(a->body), &o, &ignored);
        if (r < 0)
                return r;
        state = json_member(o, "registrationState");
        if (json_object_object_add(o, "status", json_object_new_string(word)) < 0 ||
            (state && json_object_object_add(state, "status", json_object_new_string(word)) < 0))
                return -ENOMEM;

        a->word = word;
        free(TAKE_PTR(a->body));
        return json_to_text(o, &a->body);
}

/* Replaces the whole body. What the log would have said of the old one is no longer true and is removed. */
static int replace_body(Answer *a, const char *text) {
        Answer bare = { .status = a->status,
                        .has_retry_after = a->has_retry_after,
                        .retry_after_sec = a->retry_after_sec,
                        .body = strdup(text) };

        if (!bare.body)
                return -ENOMEM;
        answer_done(a);
        *a = bare;
        return 0;
}

int service_scripted(Service *s, const Caller *caller, const ScriptAnswer *script, const Request *request,
                     uint64_t now_usec, Answer *ret) {
        uint32_t code = script->has_code ? (uint32_t) script->code : script->status * 1000;
        Answer a = { 0 };
        int r;

        r = script->status < 300 ? scripted_state(s, caller, script, request->operation_id, now_usec, &a)
                                 : answer_error(&s->random, script->status, code,
                                                status_message(script->status), now_usec, &a);
        if (r >= 0 && script->word)
                r = replace_word(&a, script->word);
        if (r >= 0 && request->kind == REQUEST_LOOKUP)
                r = reduce_to_state(&a);
        if (r >= 0 && script->body)
                r = replace_body(&a, script->body);
        if (r < 0) {
                answer_done(&a);
                return r;
        }

        if (script->has_retry_after) {
                a.has_retry_after = true;
                a.retry_after_sec = script->retry_after_sec;
        }
        *ret = a;
        return 0;
}

/* Nothing, white space, or any JSON. */
static bool is_poll_body_good(const char *body, size_t size) {
        _cleanup_(json_freep) json_object *o = NULL;
        ErrorText ignored;

        while (size > 0 && isspace((unsigned char) *body)) {
                body++;
                size--;
        }
        return size == 0 || json_read(body, size, &o, &ignored) >= 0;
}

int service_answer(Service *s, const Caller *caller, const Request *request, const ScriptAnswer *script,
                   const void *body, size_t size, uint64_t now_usec, Answer *ret) {
        if (script && script->act == SCRIPT_ACT_STATUS)
                return service_scripted(s, caller, script, request, now_usec, ret);
        if (request->kind == REQUEST_POLL && !is_poll_body_good(body, size))
                return answer_error(&s->random, 400, 400012, "Deserialization error: the body is not JSON.",
                                    now_usec, ret);
        if (request->kind == REQUEST_POLL)
                return service_poll(s, caller, request->operation_id, now_usec, ret);
        if (request->kind == REQUEST_LOOKUP)
                return service_lookup(s, caller, body, size, now_usec, ret);
        return service_register(s, caller, body, size, now_usec, ret);
}

const Device *service_find_device(const Service *s, const char *hub, const char *device_id) {
        struct lh_entry *entry;

        lh_foreach(s->devices, entry) {
                const Device *device = lh_entry_v(entry);

                if (device->hub && strcasecmp(device->hub, hub) == 0 && streq(device->device_id, device_id))
                        return device;
        }
        return NULL;
}

/* A connection may also be lost at any step, at random. */
int service_script(Service *s, const char *id, ScriptStep step, ScriptAnswer **ret) {
        uint64_t percent = s->roster->behaviour.lost_percent;
        uint32_t dice;
        int r;

        *ret = scripts_take(&s->scripts, id, step);
        if (*ret || percent == 0)
                return 0;
        r = s->random.fill(&dice, sizeof(dice), s->random.userdata);
        if (r < 0 || dice % 100 >= percent)
                return r;
        *ret = calloc(1, sizeof(**ret));
        if (!*ret)
                return -ENOMEM;
        **ret = (ScriptAnswer){ .step = step, .act = SCRIPT_ACT_DROP };
        return 0;
}
