/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>
#include <sys/random.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dps/sas.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"
#include "transport/mqtt.h"

/*
 * One registration: the machine of libdps says what to do next, and this does it. An event goes in, one action comes
 * out. Before the machine gets an event that may make it connect, the identity has a slot of the manager's window, so
 * that waiting for a turn counts against no deadline.
 */

#define REGISTRATION_TOKEN_LIFETIME_SEC (60 * 60) /* it serves one short session */
#define CLOCK_TOLERANCE_SEC (10 * 60)
#define HASTEN_SPREAD_USEC (2 * USEC_PER_SEC)
#define COUNTERS_INTERVAL_USEC (15 * USEC_PER_MINUTE)
#define PAYLOAD_SIZE_MAX (96U * 1024)
#define POLLS_WINDOW_USEC (DPS_POLLS_WINDOW_SEC * USEC_PER_SEC)
/* A wait that cannot be: the clock was another one when it was written down. */
#define WAIT_MAX_USEC (USEC_PER_DAY + USEC_PER_DAY / 4)

static uint64_t fresh_random(void) {
        uint64_t random;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                random = now_usec(CLOCK_MONOTONIC) * UINT64_C(0x9e3779b97f4a7c15);
        return random;
}

static DpsMoment moment(const Identity *i) {
        return (DpsMoment){
                .now_usec = now_usec(CLOCK_BOOTTIME),
                .random = fresh_random(),
                .clock_synchronized =
                        clock_is_synchronized(i->manager->clock) || clock_is_plausible(i->manager->clock),
        };
}

/* A refusal says something of the key only where our clock is right, and is late by less than tokens live. DPS tells its
 * time with a refusal, which is better evidence than the kernel's word: many a good clock is synchronised by nobody. */
static DpsMoment moment_of(const Identity *i, const DpsReply *reply) {
        DpsMoment at = moment(i);

        if (reply->status != 401)
                return at;
        if (reply->timestamp_sec == 0)
                at.clock_synchronized = clock_is_synchronized(i->manager->clock);
        else
                at.clock_synchronized =
                        now_usec(CLOCK_REALTIME) / USEC_PER_SEC + CLOCK_TOLERANCE_SEC >= reply->timestamp_sec;
        return at;
}

/* ---- connection ---- */

static void hang_up(Identity *i) {
        i->transport = transport_free(i->transport);
        manager_release_slot(i->manager, i);
}

static void act(Identity *i, DpsAction action, const DpsReply *reply);

static void on_ready(void *userdata) {
        Identity *i = userdata;

        identity_log(i, LOG_DEBUG, "is logged in at %s", i->settings->endpoint);
        act(i, dps_registration_on_ready(i->registration, moment(i)), NULL);
        identity_update(i);
}

static void on_reply(const DpsReply *reply, void *userdata) {
        Identity *i = userdata;

        identity_log(i, LOG_DEBUG, "DPS answers %u to request %" PRIu64, (unsigned) reply->status,
                     reply->request_id);
        /* It came over verified TLS: a server whose certificate is valid now. */
        clock_confirm(i->manager->clock);
        act(i, dps_registration_on_reply(i->registration, reply, moment_of(i, reply)), reply);
        identity_update(i);
}

static void on_closed(const DpsError *error, void *userdata) {
        Identity *i = userdata;

        i->transport = transport_free(i->transport);
        act(i, dps_registration_on_lost(i->registration, error, moment(i)), NULL);
        identity_update(i);
}

static const TransportHandlers handlers = { .on_ready = on_ready,
                                            .on_reply = on_reply,
                                            .on_closed = on_closed };

/* What the identity shows at the door: a token, or a certificate in a TLS context of its own. */
typedef struct Credential {
        char *token;
        TlsContext *tls;
} Credential;

static void credential_done(Credential *c) {
        erase_and_free(c->token);
        tls_context_unref(c->tls);
}

static int get_token(Identity *i, unsigned index, Credential *ret, DpsError *error) {
        const Settings *s = i->settings;
        _cleanup_(freep) char *resource = NULL;
        uint64_t expiry = now_usec(CLOCK_REALTIME) / USEC_PER_SEC + REGISTRATION_TOKEN_LIFETIME_SEC;
        int r;

        r = dps_sas_resource_registration(s->id_scope, s->registration_id, &resource);
        if (r < 0)
                return r;
        r = attestation_mint(s, i->method, index, s->registration_id, resource, expiry,
                             DPS_SAS_POLICY_REGISTRATION, &ret->token, error);
        if (r < 0)
                return r;
        return manager_tls_context(i->manager, s->endpoint, s->ca_files, &ret->tls, error);
}

static int get_certificate(Identity *i, unsigned index, Credential *ret, DpsError *error) {
        const Settings *s = i->settings;
        _cleanup_(client_certificate_done) ClientCertificate certificate = { 0 };
        int r;

        r = attestation_certificate(s, index, s->registration_id, &certificate, error);
        if (r < 0)
                return r;
        return tls_context_new(s->endpoint, s->ca_files, certificate.chain, certificate.key, &ret->tls,
                               error);
}

static int get_credential(Identity *i, Credential *ret, DpsError *error) {
        unsigned index = dps_registration_credential(i->registration);

        return i->method == METHOD_X509 ? get_certificate(i, index, ret, error)
                                        : get_token(i, index, ret, error);
}

/* Fills `error` on failure. */
static int connect_to_dps(Identity *i, DpsError *error) {
        const Settings *s = i->settings;
        _cleanup_(credential_done) Credential credential = { 0 };
        _cleanup_(freep) char *username = NULL;
        Resolver *resolver;
        int r;

        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "there is no memory for a connection");
        identity_note_credential(i);
        r = get_credential(i, &credential, error);
        if (r < 0)
                return r;
        r = manager_resolver(i->manager, &resolver);
        if (r < 0)
                return r;
        r = dps_mqtt_username(s->id_scope, s->registration_id, s->api_version, &username);
        if (r < 0)
                return r;

        return mqtt_connect(
                &(TransportTarget){
                        .event = i->manager->event,
                        .resolver = resolver,
                        .tls = credential.tls,
                        .host = s->endpoint,
                        .port = s->mqtt_port,
                        .registration_id = s->registration_id,
                        .username = username,
                        .password = credential.token,
                },
                &handlers, i, &i->transport);
}

static int read_payload(const Settings *s, char **ret, DpsError *error) {
        _cleanup_(freep) char *text = NULL;
        size_t size;
        int r;

        if (!s->payload_file) {
                *ret = s->payload ? strdup(s->payload) : NULL;
                return s->payload && !*ret ? -ENOMEM : 0;
        }

        r = file_read(s->payload_file, PAYLOAD_SIZE_MAX, &text, &size);
        if (r >= 0 && strlen(text) != size)
                r = -EBADMSG;
        if (r < 0) {
                dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_REGISTER, "PayloadFile=%s cannot be read: %s",
                              s->payload_file, r == -EBADMSG ? "it has a zero byte" : strerror(-r));
                return r;
        }

        *ret = TAKE_PTR(text);
        return 0;
}

/* Fills `error` on failure. */
static int send_request(Identity *i, const DpsRequest *request, DpsError *error) {
        _cleanup_(freep) char *payload = NULL, *body = NULL;
        DpsStep step = request->kind == DPS_REQUEST_REGISTER ? DPS_STEP_REGISTER : DPS_STEP_POLL;
        int r;

        dps_error_set(error, DPS_ERROR_LOST, step, "the request cannot be sent");
        if (request->kind == DPS_REQUEST_REGISTER) {
                r = read_payload(i->settings, &payload, error);
                if (r < 0)
                        return r;
                r = dps_register_body(i->settings->registration_id, payload, &body);
                if (r == -EBADMSG)
                        dps_error_set(error, DPS_ERROR_CONFIG, step, "%s is not a JSON object",
                                      i->settings->payload_file ?: "Payload=");
                else if (r < 0)
                        dps_error_set(error, DPS_ERROR_MEMORY, step, "there is no memory for the request");
                if (r < 0)
                        return r;
        }
        return transport_send(i->transport, request, body);
}

/* ---- the end of an attempt ---- */

static uint64_t realtime_of(uint64_t boottime_usec) {
        return boottime_usec > 0 ? identity_realtime_of(boottime_usec) : 0;
}

static void remember_polls(Identity *i) {
        DpsRegistrationHistory h = dps_registration_history(i->registration);
        uint64_t last = h.n_polls > 0 ? h.polls_usec[h.n_polls - 1] : 0;

        i->last_poll_usec = last;
        i->memory->last_poll_at_usec = realtime_of(last);
        i->memory->polls = 0;
        for (unsigned k = 0; k < h.n_polls; k++)
                i->memory->polls += usec_add(h.polls_usec[k], POLLS_WINDOW_USEC) > last;
}

void identity_remember_wait(Identity *i) {
        DpsRegistrationHistory h;

        if (!i->registration)
                return;

        h = dps_registration_history(i->registration);
        i->memory->attempts = h.attempts;
        i->memory->finals = h.finals;
        i->memory->next_attempt_at_usec = realtime_of(h.next_usec);
        i->memory->not_before_usec = realtime_of(h.not_before_usec);
        remember_polls(i);
}

/* Flash wears: not too soon after another. */
static void save_counters(Identity *i, bool is_due) {
        uint64_t now = now_usec(CLOCK_BOOTTIME);

        if (!is_due && i->counters_saved_at_usec > 0 &&
            now - i->counters_saved_at_usec < COUNTERS_INTERVAL_USEC) {
                store_note(i->manager->store, i->name, i->memory);
                return;
        }

        i->counters_saved_at_usec = now;
        identity_save(i);
}

/* DPS told us to wait, and nothing is wrong: the next run is bound by it too. What is short is not worth a write. */
static void keep_wait(Identity *i, bool is_long) {
        uint64_t before = i->memory->not_before_usec;

        identity_remember_wait(i);
        if (i->memory->not_before_usec <= usec_add(before, USEC_PER_SEC))
                return;
        if (is_long)
                save_counters(i, false);
        else
                store_note(i->manager->store, i->name, i->memory);
}

/* News once; what repeats itself is for those who look closely. */
static void log_failure(Identity *i, const DpsError *error) {
        char next[128];

        identity_describe_next(i, false, next, sizeof(next));
        if (error->id == i->logged_error) {
                identity_log_error(i, LOG_DEBUG, NULL, error, "attempt %" PRIu32 " failed: %s",
                                   i->memory->attempts, error->message);
                return;
        }

        i->logged_error = error->id;
        identity_log_error(i, error->final ? LOG_ERR : LOG_WARNING, MESSAGE_ID_FAILED, error,
                           "%s (%s, %s); %s; %s", error->message, dps_step_to_string(error->step),
                           dps_error_id_to_string(error->id), dps_error_advice(error),
                           i->memory->assignment ? "the assignment that is there is served on" : next);
}

static void attempt_failed(Identity *i) {
        const DpsError *error = dps_registration_error(i->registration);

        identity_remember_wait(i);
        identity_set_error(i, error);
        if (error->id == DPS_ERROR_THROTTLED && error->step == DPS_STEP_REGISTER)
                manager_scope_throttled(i->manager, i,
                                        dps_registration_told_usec(i->registration)
                                                ?: dps_registration_next_usec(i->registration));
        identity_update(i);
        log_failure(i, error);
        /* 1, 2, 4, 8 … failures are written. */
        save_counters(i, (i->memory->attempts & (i->memory->attempts - 1)) == 0);
        identity_finish_jobs(i, false, error->message);
}

static void assigned(Identity *i, const DpsReply *reply) {
        manager_scope_succeeded(i->manager, i->settings->id_scope);
        i->memory->attempts = i->memory->finals = 0;
        i->memory->next_attempt_at_usec = i->memory->not_before_usec = 0;
        identity_adopt(i, reply);
}

/* ---- actions ---- */

/* Whether the machine has seen an attempt fail since we looked last. */
static bool has_failed(const Identity *i) {
        return dps_registration_history(i->registration).attempts > i->memory->attempts;
}

static void end_registration(Identity *i) {
        hang_up(i);
        remember_polls(i);
        i->registration = dps_registration_free(i->registration);
}

static void finish(Identity *i, const DpsReply *reply) {
        hang_up(i);
        remember_polls(i);
        assigned(i, reply);
        end_registration(i);
        if (i->is_unproven)
                identity_begin(i, REASON_CREDENTIAL);
}

/* The machine's answer to an event, and to what becomes of its answer. */
static void act(Identity *i, DpsAction action, const DpsReply *reply) {
        DpsError error;

        for (;;) {
                i->wake_usec = action.wake_usec;
                switch (action.type) {
                case DPS_ACTION_WAIT:
                        keep_wait(i, false);
                        return;
                case DPS_ACTION_SEND:
                        identity_log(i, LOG_DEBUG, "asks DPS: request %" PRIu64 ", %s",
                                     action.request.request_id,
                                     action.request.kind == DPS_REQUEST_POLL ? "poll" : "register");
                        if (action.request.kind == DPS_REQUEST_POLL) {
                                remember_polls(i);
                                store_note(i->manager->store, i->name, i->memory);
                        }
                        if (send_request(i, &action.request, &error) >= 0)
                                return;
                        break;
                case DPS_ACTION_CONNECT:
                        identity_log(i, LOG_DEBUG, "connects to %s", i->settings->endpoint);
                        i->transport = transport_free(i->transport);
                        if (connect_to_dps(i, &error) >= 0)
                                return;
                        break;
                case DPS_ACTION_RELEASE:
                        hang_up(i);
                        if (has_failed(i))
                                attempt_failed(i);
                        else
                                keep_wait(i, true);
                        return;
                case DPS_ACTION_FINISH:
                        finish(i, reply);
                        return;
                }
                i->transport = transport_free(i->transport);
                action = dps_registration_on_lost(i->registration, &error, moment(i));
        }
}

/* What was remembered of a wait, on the clock of today; one that cannot be is the usual one after so many failures. */
static uint64_t wait_until(const Identity *i, uint64_t realtime_usec) {
        uint64_t now = now_usec(CLOCK_BOOTTIME), until;

        if (realtime_usec == 0)
                return 0;
        until = identity_boottime_of(realtime_usec);
        if (until > now + WAIT_MAX_USEC)
                return now + dps_backoff_usec(i->memory->attempts, fresh_random());
        return until;
}

static int make_registration(Identity *i) {
        const Assignment *a = i->memory->assignment;
        DpsRegistrationHistory history = {
                .attempts = i->memory->attempts,
                .finals = i->memory->finals,
                .next_usec = wait_until(i, i->memory->next_attempt_at_usec),
                .not_before_usec = wait_until(i, i->memory->not_before_usec),
                .credential = a && a->method == i->method ? a->credential : 0,
                .n_polls = MIN(i->memory->polls, (uint32_t) DPS_POLLS_MAX),
        };

        /* As if all had been with the last: no sooner than the service may count them. */
        for (unsigned k = 0; k < history.n_polls; k++)
                history.polls_usec[k] = i->last_poll_usec;
        i->is_begun = false;
        return dps_registration_new(MAX(attestation_count(i->settings, i->method), 1U), &history,
                                    &i->registration);
}

/* A neighbour was throttled: who waits for that takes no slot. */
static bool pause_with_scope(Identity *i) {
        uint64_t until = manager_scope_paused_until_usec(i->manager, i->settings->id_scope);

        if (until <= now_usec(CLOCK_BOOTTIME))
                return false;

        (void) dps_registration_pause(i->registration, until, moment(i));
        if (!i->is_begun || dps_registration_next_usec(i->registration) <= now_usec(CLOCK_BOOTTIME))
                return false; /* it is told when it begins; or it only asks for an operation */
        i->wake_usec = dps_registration_next_usec(i->registration);
        return true;
}

/* Gives the machine the event it waits for between two attempts, as soon as the clock and the window allow. */
static void advance(Identity *i) {
        uint64_t clock_until;

        i->waits_for_clock = manager_waits_for_clock(i->manager, &clock_until);
        if (i->waits_for_clock) {
                i->wake_usec = clock_until;
                return;
        }
        if (pause_with_scope(i)) {
                manager_release_slot(i->manager, i);
                return;
        }
        if (!manager_acquire_slot(i->manager, i)) {
                i->wake_usec = USEC_INFINITY;
                return;
        }

        if (i->is_begun) {
                act(i, dps_registration_on_time(i->registration, moment(i)), NULL);
                return;
        }
        i->is_begun = true;
        act(i, dps_registration_begin(i->registration, moment(i)), NULL);
}

/* Something has happened that may help: 0, or, where that was too often in the last hour, how long it has to wait. */
static uint64_t take_event(Identity *i, uint64_t now) {
        uint64_t *oldest = &i->events_usec[i->n_events % EVENTS_PER_HOUR_MAX];

        if (*oldest > 0 && now < *oldest + USEC_PER_HOUR)
                return *oldest + USEC_PER_HOUR - now;

        *oldest = now;
        i->n_events++;
        return 0;
}

static void start(Identity *i) {
        uint64_t now = now_usec(CLOCK_BOOTTIME), wait_usec;

        i->begin_at_usec = 0;
        wait_usec = i->reason == REASON_CREDENTIAL ? take_event(i, now) : 0;
        if (wait_usec > 0) {
                i->begin_at_usec = now + wait_usec;
                return;
        }
        if (make_registration(i) < 0) {
                identity_log(i, LOG_ERR, "there is no memory to ask DPS; trying again in a minute");
                i->begin_at_usec = now + USEC_PER_MINUTE;
                return;
        }
        advance(i);
}

static bool is_splayed(const Identity *i, IdentityReason reason) {
        return (reason == REASON_CONFIG || reason == REASON_HUB) && i->memory->assignment &&
               i->settings->splay_usec > 0;
}

void identity_begin(Identity *i, IdentityReason reason) {
        if (!i->settings || i->trouble != WAITING_NOTHING)
                return;
        if (i->registration) {
                if (reason == REASON_REQUEST && i->is_begun)
                        act(i, dps_registration_hasten(i->registration, 0, moment(i)), NULL);
                return;
        }

        i->reason = reason;
        i->is_cut_off = false;
        if (is_splayed(i, reason)) {
                i->begin_at_usec =
                        i->begin_at_usec
                                ?: now_usec(CLOCK_BOOTTIME) + 1 +
                                           dps_fraction_usec(
                                                   i->settings->splay_usec,
                                                   dps_stable_random(i->settings->registration_id, "splay"));
                return;
        }
        start(i);
}

void identity_cancel(Identity *i) {
        if ((i->registration || i->begin_at_usec > 0) && i->reason >= REASON_RENEWAL)
                i->is_cut_off = true;
        i->begin_at_usec = 0;
        if (!i->registration)
                return;

        i->waits_for_clock = false;
        end_registration(i);
}

/* What is under way has failed, so that a key that comes and goes is no flood. */
void identity_give_up(Identity *i) {
        DpsError error = i->memory->error;

        if (i->registration && dps_registration_in_flight(i->registration))
                act(i, dps_registration_on_lost(i->registration, &error, moment(i)), NULL);
        identity_cancel(i);
}

void identity_hasten(Identity *i) {
        uint64_t now = now_usec(CLOCK_BOOTTIME);

        if (!i->registration || !i->is_begun)
                return;
        /* It is at it, or about to be: a network comes bit by bit, and the first bit has hastened it already. */
        if (dps_registration_next_usec(i->registration) <= now + HASTEN_SPREAD_USEC)
                return;
        if (take_event(i, now) > 0)
                return;
        act(i, dps_registration_hasten(i->registration, HASTEN_SPREAD_USEC, moment(i)), NULL);
}

void identity_on_due(Identity *i, uint64_t now) {
        if (i->begin_at_usec > 0 && now >= i->begin_at_usec)
                start(i);
        else if (!i->registration || i->wants_slot)
                return;
        else if (i->waits_for_clock)
                advance(i);
        else if (now < i->wake_usec)
                return;
        else if (dps_registration_in_flight(i->registration))
                act(i, dps_registration_on_time(i->registration, moment(i)), NULL);
        else
                advance(i);
}

void identity_on_slot(Identity *i) {
        if (!i->registration)
                manager_release_slot(i->manager, i);
        else
                advance(i);
        identity_update(i);
}

void identity_on_scope_paused(Identity *i, uint64_t until_usec) {
        if (!i->registration || !i->is_begun || i->wants_slot)
                return;
        act(i, dps_registration_pause(i->registration, until_usec, moment(i)), NULL);
        identity_update(i);
}
