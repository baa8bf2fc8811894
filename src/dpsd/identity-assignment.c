/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dps/sas.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"

/*
 * The way of an assignment:
 *
 *      answer of DPS, or a new token ──> pending ──> durable ──> memory, files in /run/dps, D-Bus, journal
 *
 * A token is not kept: it is minted again whenever it is needed, and comes out the same as long as its expiry and its
 * key are the same. Its digest says whether programs have to take a new one: then the generation moves.
 */

#define HUB_PORT 8883
#define CERTIFICATE_WARNING_USEC (30 * USEC_PER_DAY)

/* ---- credential ---- */

/* What programs show to the hub. */
typedef struct Credential {
        char *token;
        ClientCertificate certificate;
        char id[65]; /* digest, hex */
} Credential;

static void credential_done(Credential *c) {
        c->token = erase_and_free(c->token);
        client_certificate_done(&c->certificate);
}

static int digest_of(const char *text, char ret[static 65]) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned size = 0;

        if (EVP_Digest(text, strlen(text), digest, &size, EVP_sha256(), NULL) != 1)
                return -EIO;
        bytes_to_hex(digest, size, ret);
        return 0;
}

/* With a file that cannot be used, its lines about keys are still the best that is known. */
static const Settings *key_settings(const Identity *i) {
        return i->settings ?: i->faulty;
}

static bool waits_for_clock(const Identity *i) {
        return manager_waits_for_clock(i->manager, NULL);
}

static int mint(const Settings *s, const Assignment *a, unsigned index, uint64_t expires_at_usec, char **ret,
                DpsError *error) {
        _cleanup_(freep) char *resource = NULL;
        int r;

        r = dps_sas_resource_hub(a->hub, a->device_id, &resource);
        if (r < 0)
                return r;
        return attestation_mint(s, a->method, index, a->registration_id, resource,
                                expires_at_usec / USEC_PER_SEC, NULL, ret, error);
}

static int load_one(const Settings *s, const Assignment *a, unsigned index, Credential *ret,
                    DpsError *error) {
        int r;

        if (a->method == METHOD_X509) {
                r = attestation_certificate(s, index, a->registration_id, &ret->certificate, error);
                if (r >= 0)
                        memcpy(ret->id, ret->certificate.id, sizeof(ret->id));
                return r;
        }

        r = mint(s, a, index, a->token_expires_at_usec, &ret->token, error);
        return r < 0 ? r : digest_of(ret->token, ret->id);
}

static const DpsError no_memory = { .id = DPS_ERROR_MEMORY,
                                    .step = DPS_STEP_CONFIG,
                                    .message = "out of memory" };

/* The one that DPS took; where that is gone, another one of ours. Fills `error` on failure. */
static int load_credential(const Identity *i, const Assignment *a, Credential *ret, DpsError *error) {
        const Settings *s = key_settings(i);
        unsigned n = s ? attestation_count(s, a->method) : 0, taken = a->credential < n ? a->credential : 0;
        int r = -ENOKEY;

        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "no key or certificate is configured for %s",
                      method_to_string(a->method));
        for (unsigned k = 0; k < n; k++) {
                DpsError trouble = *error;

                r = load_one(s, a, (taken + k) % n, ret, &trouble);
                if (r >= 0)
                        return 0;
                if (r == -ENOMEM) { /* which says nothing of the credential */
                        *error = no_memory;
                        break;
                }
                if (k == 0)
                        *error = trouble;
        }
        return r;
}

bool identity_credential_has_changed(Identity *i) {
        const Assignment *a = i->memory->assignment;
        _cleanup_(credential_done) Credential credential = { 0 };
        DpsError error;

        return load_credential(i, a, &credential, &error) >= 0 && !streq_ptr(credential.id, a->credential_id);
}

/* An id of what is on disk, whatever tokens there are; "": there is no assignment to use it for, or it cannot be used. */
static void identify_credential(const Identity *i, char ret[static 65]) {
        _cleanup_(credential_done) Credential credential = { 0 };
        Assignment a = { 0 };
        DpsError error;

        if (i->memory->assignment)
                a = *i->memory->assignment;
        a.token_expires_at_usec = 0;
        *ret = 0;
        if (a.hub && load_credential(i, &a, &credential, &error) >= 0)
                memcpy(ret, credential.id, sizeof(credential.id));
}

void identity_note_credential(Identity *i) {
        identify_credential(i, i->shown_id);
}

/* It has changed since DPS was shown the old one. */
static bool is_credential_overtaken(const Identity *i) {
        char id[65];

        identify_credential(i, id);
        return *id && *i->shown_id && !streq(id, i->shown_id);
}

/* ---- what programs get ---- */

static void fill_connection(const Identity *i, const Assignment *a, const Credential *c, Connection *ret) {
        const Settings *s = key_settings(i);
        const char *key = c->certificate.key_reference;

        *ret = (Connection){
                .generation = a->generation,
                .hub = a->hub,
                .device_id = a->device_id,
                .registration_id = a->registration_id,
                .id_scope = a->id_scope,
                .port = HUB_PORT,
                .auth = a->method == METHOD_X509 ? "x509" : "sas",
                .token = c->token,
                .expires_at_usec = c->token ? a->token_expires_at_usec : 0,
                .certificate_pem = c->certificate.pem,
                .key_pem = c->certificate.key_pem,
                .key_file = key && key[0] == '/' ? key : NULL,
                .key_uri = key && key[0] != '/' ? key : NULL,
                .ca_file = s && s->ca_files ? s->ca_files[0] : NULL,
                .payload = a->payload,
                .registration_state = a->registration_state,
        };
}

static void warn_of_expiry(Identity *i) {
        uint64_t now = now_usec(CLOCK_REALTIME), expires_at = i->certificate_expires_at_usec;
        char left[DURATION_TEXT_MAX];

        if (expires_at == 0 || i->certificate_was_warned_of ||
            usec_add(now, CERTIFICATE_WARNING_USEC) < expires_at)
                return;

        i->certificate_was_warned_of = true;
        if (now >= expires_at)
                identity_log(i, LOG_ERR,
                             "its certificate has expired: replace it, the change is noticed by itself");
        else
                identity_log(i, LOG_WARNING,
                             "its certificate expires in %s: replace it, the change is noticed by itself",
                             format_duration(expires_at - now, left));
}

/* What is published of this generation, perhaps by an earlier run, and programs may be using. */
static bool files_still_stand(const Identity *i, const Assignment *a, bool with_credential) {
        uint64_t generation, expires_at;

        if (outputs_published(i->manager->outputs, i->name, &generation, &expires_at) < 0 ||
            generation != a->generation)
                return false;
        if (!with_credential && expires_at == 0)
                return true;
        return expires_at > now_usec(CLOCK_REALTIME) &&
               (expires_at == a->token_expires_at_usec || expires_at == USEC_INFINITY || !with_credential);
}

static void set_disk_error(Identity *i, const char *what, int r) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_DISK, DPS_STEP_STORE, "%s cannot be written: %s", what, strerror(-r));
        identity_set_error(i, &error);
        identity_again(i);
}

/* What is on the disk is over only where all of it is. */
static void clear_disk_error(Identity *i) {
        if (i->memory->error.id == DPS_ERROR_DISK && !i->memory->is_refused && !i->outputs_refused)
                identity_clear_error(i);
}

static void tell_outputs(Identity *i, int r) {
        bool were_refused = i->outputs_refused;

        i->outputs_refused = r < 0;
        if (r >= 0) {
                if (were_refused)
                        identity_not_again(i);
                clear_disk_error(i);
                return;
        }

        set_disk_error(i, "what programs get of it", r);
        if (!were_refused)
                identity_log_error(i, LOG_ERR, NULL, &i->memory->error, "%s; trying again",
                                   i->memory->error.message);
}

/* Without a credential hub and names are served all the same; it follows when it can be had. What is there already is
 * not made worse. */
static void publish(Identity *i) {
        const Assignment *a = i->memory->assignment;
        _cleanup_(credential_done) Credential credential = { 0 };
        Connection connection;
        DpsError error;
        int r = 0;

        /* The old one may be good for long, and the new one be wrong. */
        if (i->is_unproven && files_still_stand(i, a, true)) {
                i->is_published = i->has_credential = true;
                return;
        }

        if (a->method == METHOD_X509 || !waits_for_clock(i))
                r = load_credential(i, a, &credential, &error);
        i->has_credential = credential.token || credential.certificate.pem;
        i->certificate_expires_at_usec = credential.certificate.not_after_usec;
        warn_of_expiry(i);
        /* Where another method is to be used, the old credential may be gone with the old configuration. */
        if (r < 0 && i->trouble == WAITING_NOTHING && a->method == i->method)
                identity_set_trouble(i, &error);
        if (!i->has_credential && files_still_stand(i, a, false)) {
                i->is_published = true;
                return;
        }

        fill_connection(i, a, &credential, &connection);
        r = outputs_publish(i->manager->outputs, i->name, &connection);
        if (r == -ENOENT && identity_prepare_outputs(i) >= 0) /* somebody has removed the directory */
                r = outputs_publish(i->manager->outputs, i->name, &connection);
        i->is_published = r >= 0;
        tell_outputs(i, r);
}

/* ---- the disk ---- */

static void tell_disk(Identity *i, int r) {
        bool was_refused = i->memory->is_refused;

        i->memory->is_refused = r < 0;
        if (was_refused || r < 0)
                store_note(i->manager->store, i->name, i->memory);
        if (r >= 0) {
                if (was_refused) {
                        i->n_again = 0;
                        identity_log(i, LOG_NOTICE, "the disk takes its state again");
                }
                clear_disk_error(i);
                return;
        }

        set_disk_error(i, "its state", r);
        if (!was_refused)
                identity_log_error(i, LOG_ERR, NULL, &i->memory->error,
                                   "%s; serving from memory, and trying again. A reboot before that goes "
                                   "back to what the disk has",
                                   i->memory->error.message);
}

static void on_counters_saved(int r, void *userdata) {
        Identity *i = userdata;

        tell_disk(i, r);
        identity_update(i);
}

static void on_assignment_saved(int r, void *userdata);

/* What DPS has said counts, and what went wrong before is over. */
static void take_success(const Identity *i, State *s) {
        if (i->pending_success_at_usec == 0)
                return;

        s->last_success_at_usec = i->pending_success_at_usec;
        if (i->has_failed_since)
                return;
        s->error = (DpsError){ 0 };
        s->error_at_usec = s->failing_since_usec = 0;
}

static void save(Identity *i, store_handler_t handler) {
        State s = *i->memory;
        int r;

        if (i->pending) {
                s.assignment = i->pending;
                take_success(i, &s);
        }
        r = store_save(i->manager->store, i->name, &s, handler, i);
        if (r < 0)
                handler(r, i);
}

void identity_save(Identity *i) {
        save(i, on_counters_saved);
}

/* ---- a new one ---- */

static uint64_t renew_before(const Settings *s) {
        if (s->renew_before_percent > 0)
                return s->token_lifetime_usec / 100 * s->renew_before_percent;
        return s->renew_before_usec;
}

/* A whole number of seconds, as a token has it. */
static void set_expiry(const Identity *i, Assignment *a) {
        const Settings *s = key_settings(i);
        uint64_t now = now_usec(CLOCK_REALTIME);

        a->token_expires_at_usec = (now + s->token_lifetime_usec) / USEC_PER_SEC * USEC_PER_SEC;
        a->renew_at_usec = dps_renew_at_usec(a->token_expires_at_usec, renew_before(s),
                                             dps_stable_random(a->registration_id, "renew"));
}

static bool has_moved(const Assignment *a, const Assignment *before) {
        return !before || !streq(a->hub, before->hub) || !streq(a->device_id, before->device_id);
}

/* As far as one can be had now: it fails only for want of memory. */
static int give_credential(const Identity *i, Assignment *a) {
        _cleanup_(credential_done) Credential credential = { 0 };
        DpsError error;
        int r;

        if (a->method != METHOD_X509)
                set_expiry(i, a);
        r = load_credential(i, a, &credential, &error);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        free(a->credential_id);
        a->credential_id = strdup(credential.id);
        return a->credential_id ? 0 : -ENOMEM;
}

static void keep_credential(Assignment *a, const Assignment *before) {
        a->token_expires_at_usec = before->token_expires_at_usec;
        a->renew_at_usec = before->renew_at_usec;
        a->credential = before->credential;
}

/* Takes `a`, and gives it its generation. It counts when it is durable. */
static void settle(Identity *i, Assignment *a, uint64_t success_at_usec) {
        const Assignment *before = i->pending ?: i->memory->assignment;

        a->generation = before ? before->generation : i->memory->last_generation;
        if (has_moved(a, before) || !streq_ptr(a->credential_id, before->credential_id))
                a->generation++;
        i->memory->last_generation = a->generation;

        assignment_free(i->pending);
        i->pending = a;
        if (success_at_usec > 0) {
                i->pending_success_at_usec = success_at_usec;
                i->answered_usec = now_usec(CLOCK_BOOTTIME);
                i->has_failed_since = false;
        }
        i->n_saving++;
        save(i, on_assignment_saved);
}

static void tell_news(Identity *i, const Assignment *before) {
        const Assignment *a = i->memory->assignment;
        LogFields fields = { .identity = i->name, .hub = a->hub };

        if (!before) {
                fields.message_id = MESSAGE_ID_ASSIGNED;
                log_message(LOG_INFO, &fields, "is assigned to %s as %s", a->hub, a->device_id);
        } else if (has_moved(a, before)) {
                fields.message_id = MESSAGE_ID_HUB_CHANGED;
                log_message(LOG_NOTICE, &fields, "has moved from %s (%s) to %s (%s)", before->hub,
                            before->device_id, a->hub, a->device_id);
        } else {
                fields.message_id = MESSAGE_ID_RENEWED;
                log_message(LOG_INFO, &fields, "DPS has confirmed the assignment to %s", a->hub);
        }
}

/* It is durable, or will not be: it counts from here on. */
static void on_assignment_saved(int r, void *userdata) {
        Identity *i = userdata;
        _cleanup_(assignment_freep) Assignment *before = NULL;

        if (--i->n_saving > 0 || !i->pending) {
                tell_disk(i, r);
                return;
        }

        before = i->memory->assignment;
        i->memory->assignment = TAKE_PTR(i->pending);
        take_success(i, i->memory);
        if (i->memory->error.id == DPS_ERROR_NONE)
                i->logged_error = DPS_ERROR_NONE;
        tell_disk(i, r);
        publish(i);
        if (i->pending_success_at_usec > 0) {
                tell_news(i, before);
                identity_finish_jobs(i, true, NULL);
        }
        i->pending_success_at_usec = 0;
        identity_update(i);
}

static Assignment *assignment_from_reply(const Identity *i, const DpsReply *reply) {
        const Assignment *before = i->pending ?: i->memory->assignment;
        const Settings *s = i->settings;
        Assignment told = {
                .id_scope = s->id_scope,
                .registration_id = s->registration_id,
                .endpoint = s->endpoint,
                .method = i->method,
                .hub = reply->assigned_hub,
                .device_id = reply->device_id,
                .substatus = reply->substatus ?: (char *) "",
                .payload = reply->payload,
                .registration_state = reply->registration_state,
                .assigned_at_usec = now_usec(CLOCK_REALTIME),
                .credential = dps_registration_credential(i->registration),
                .credential_id = before ? before->credential_id : NULL,
        };

        return assignment_copy(&told);
}

void identity_adopt(Identity *i, const DpsReply *reply) {
        const Assignment *before = i->memory->assignment;
        uint64_t now = now_usec(CLOCK_REALTIME);
        Assignment *a = assignment_from_reply(i, reply);
        bool moved = a && has_moved(a, before);
        bool is_unproven = a && !moved && a->method == before->method && is_credential_overtaken(i);

        if (is_unproven)
                keep_credential(a, i->pending ?: before);
        if (!a || (!is_unproven && give_credential(i, a) < 0)) {
                assignment_free(a);
                identity_log(i, LOG_ERR,
                             "there is no memory for what DPS has assigned; asking again in a minute");
                i->begin_at_usec = now_usec(CLOCK_BOOTTIME) + USEC_PER_MINUTE;
                return;
        }

        if (!moved)
                a->assigned_at_usec = before->assigned_at_usec;
        dps_hub_health_on_assigned(&i->hub, moved, now_usec(CLOCK_BOOTTIME));
        i->is_unproven = is_unproven;
        i->certificate_was_warned_of = false;
        (void) state_add_transition(i->memory, now,
                                    !before ? "assigned"
                                    : moved ? "hub-changed"
                                            : "renewed",
                                    a->hub);
        settle(i, a, now);
}

/* Only a new token, of the same assignment. */
static void mint_anew(Identity *i) {
        Assignment *a = assignment_copy(i->memory->assignment);

        if (a && give_credential(i, a) >= 0) {
                settle(i, a, 0);
                return;
        }

        assignment_free(a);
        i->has_credential = false; /* so that it is looked for again */
        identity_set_trouble(i, &no_memory);
}

void identity_drop_assignment(Identity *i) {
        i->memory->assignment = assignment_free(i->memory->assignment);
        i->pending = assignment_free(i->pending);
        i->pending_success_at_usec = 0;
        i->is_published = i->has_credential = i->is_unproven = false;
        i->certificate_expires_at_usec = 0;
        i->hub = (DpsHubHealth){ 0 };
        (void) outputs_clear(i->manager->outputs, i->name);
        identity_save(i);
}

/* ---- time ---- */

static bool uses_tokens(const Assignment *a) {
        return a && a->method != METHOD_X509;
}

/* The last moment for a new token, if DPS is not to be had for a renewal. */
static uint64_t mint_at(const Identity *i, const Assignment *a) {
        const Settings *s = key_settings(i);

        if (s->renew == RENEW_TOKEN)
                return a->renew_at_usec;
        return usec_sub(a->token_expires_at_usec, renew_before(s) / 4);
}

/* It is as good as expired, or of a time when the clock was ahead; and not of one when it was not behind yet. */
static bool token_is_due(const Identity *i, const Assignment *a) {
        const Settings *s = key_settings(i);
        uint64_t now = now_usec(CLOCK_REALTIME);

        return now >= mint_at(i, a) || a->renew_at_usec == 0 ||
               (clock_is_plausible(i->manager->clock) &&
                a->token_expires_at_usec > now + s->token_lifetime_usec + s->token_lifetime_usec / 8);
}

bool identity_renewal_is_due(const Identity *i) {
        const Assignment *a = i->memory->assignment;

        return uses_tokens(a) && i->settings && i->settings->renew == RENEW_PROVISION &&
               a->renew_at_usec > 0 && now_usec(CLOCK_REALTIME) >= a->renew_at_usec;
}

bool identity_awaits_token(const Identity *i) {
        return uses_tokens(i->memory->assignment) && waits_for_clock(i);
}

void identity_serve(Identity *i) {
        const Assignment *a = i->memory->assignment;

        if (!a || i->pending || (i->is_published && i->has_credential))
                return;

        i->memory->last_generation = MAX(i->memory->last_generation, a->generation);
        i->is_unproven = identity_credential_has_changed(i);
        if (i->is_unproven ? !files_still_stand(i, a, true)
                           : (uses_tokens(a) && key_settings(i) && !waits_for_clock(i) && token_is_due(i, a)))
                mint_anew(i);
        else
                publish(i);
}

/* Whether DPS would be asked for a renewal. */
static bool can_be_renewed(const Identity *i) {
        return i->settings && i->settings->renew == RENEW_PROVISION && i->trouble == WAITING_NOTHING &&
               !i->registration && i->begin_at_usec == 0;
}

void identity_tend_token(Identity *i) {
        const Assignment *a = i->memory->assignment;

        if (!a || i->pending || !key_settings(i) || waits_for_clock(i))
                return;

        identity_serve(i);
        a = i->memory->assignment; /* where the disk refuses at once there is a new one already */
        warn_of_expiry(i);
        if (can_be_renewed(i) && identity_renewal_is_due(i))
                identity_begin(i, REASON_RENEWAL);
        if (uses_tokens(a) && !i->pending && i->has_credential && token_is_due(i, a))
                mint_anew(i);
}

uint64_t identity_next_tending_usec(const Identity *i) {
        const Assignment *a = i->memory->assignment;
        uint64_t next = USEC_INFINITY, clock_until;

        if (!a || i->pending || !key_settings(i))
                return USEC_INFINITY;
        if (manager_waits_for_clock(i->manager, &clock_until))
                return clock_until;
        if (!i->has_credential)
                return USEC_INFINITY; /* that is trouble, and has its own time */

        if (uses_tokens(a)) {
                next = mint_at(i, a);
                if (can_be_renewed(i))
                        next = MIN(next, a->renew_at_usec);
        } else if (i->certificate_expires_at_usec > 0 && !i->certificate_was_warned_of)
                next = usec_sub(i->certificate_expires_at_usec, CERTIFICATE_WARNING_USEC);
        return next == USEC_INFINITY ? next : identity_boottime_of(next);
}

/* ---- on request ---- */

int identity_connection(Identity *i, char **ret_json) {
        const Assignment *a = i->memory->assignment;
        _cleanup_(credential_done) Credential credential = { 0 };
        Connection connection;
        DpsError error;
        size_t size;

        if (!a)
                return -ENODATA;
        if (uses_tokens(a) && waits_for_clock(i))
                return -ETIME;
        if (i->is_unproven && files_still_stand(i, a, true))
                return outputs_read_connection(i->manager->outputs, i->name, ret_json, &size);
        if (load_credential(i, a, &credential, &error) < 0)
                return -ENOKEY;

        fill_connection(i, a, &credential, &connection);
        return connection_to_json(i->manager->outputs, i->name, &connection, ret_json);
}

int identity_token(Identity *i, uint64_t lifetime_sec, char **ret_token, uint64_t *ret_expires_at_usec,
                   DpsError *error) {
        const Assignment *a = i->memory->assignment;
        const Settings *s = key_settings(i);
        uint64_t lifetime_usec, expires_at_usec;

        if (!a)
                return -ENODATA;
        if (!uses_tokens(a))
                return -ENOTSUP;
        if (waits_for_clock(i))
                return -ETIME;
        dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "there is no usable configuration");
        if (!s)
                return -ENOKEY;

        lifetime_usec = lifetime_sec == 0 || lifetime_sec > s->token_lifetime_usec / USEC_PER_SEC
                                ? s->token_lifetime_usec
                                : lifetime_sec * USEC_PER_SEC;
        expires_at_usec = (now_usec(CLOCK_REALTIME) + lifetime_usec) / USEC_PER_SEC * USEC_PER_SEC;
        if (mint(s, a, a->credential < attestation_count(s, a->method) ? a->credential : 0, expires_at_usec,
                 ret_token, error) < 0)
                return -ENOKEY;

        *ret_expires_at_usec = expires_at_usec;
        return 0;
}
