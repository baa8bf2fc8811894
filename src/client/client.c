/* SPDX-License-Identifier: MIT */
#include "client/client-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "client/way.h"
#include "config/leaf.h"
#include "credential/credential-error.h"

/*
 *                      begin                 attempt                     slot
 *            IDLE ───────────────> BEGUN ─────────────────> QUEUED ───────────────> IN_FLIGHT ──> IDLE
 *              │                                               ^                     │      │
 *              │ an earlier run left a wait                    │ attempt             │      │ it failed
 *              └──────────────────────────> BETWEEN ───────────┤                     │      v
 *                                                              └────── PARKED <──────┘   BETWEEN
 *
 * Each event is passed to the machine of libdps, which answers with one action, and client_act() carries it out. The
 * client gets its slot of the window before the attempt begins, so that waiting for a slot counts against no
 * deadline. Before it connects, an attempt prepares what the connection needs: client-prepare.c.
 */

#define CLOCK_TOLERANCE_SEC (10 * 60)
#define POLL_SLACK_MAX_USEC (50 * USEC_PER_MSEC)

/* ---- the world ---- */

uint64_t client_now(const Client *c) {
        return world_now_usec(c->world, CLOCK_BOOTTIME);
}

DpsMoment client_moment(Client *c) {
        return (DpsMoment){
                .now_usec = client_now(c),
                .random = world_random(c->world),
                .clock_synchronized = c->handlers.is_clock_right(c->userdata),
        };
}

/* A refusal tells something about the key only if our clock is right, and the attempt is not so late that its
 * token has expired. DPS sends its time with a refusal. That is better evidence than the kernel's word,
 * because many correct clocks are not synchronised. */
static DpsMoment moment_of(Client *c, const DpsReply *reply) {
        DpsMoment at = client_moment(c);
        uint64_t now_sec = world_now_usec(c->world, CLOCK_REALTIME) / USEC_PER_SEC;

        if (reply->status != 401)
                return at;
        if (reply->timestamp_sec == 0)
                at.clock_synchronized = world_is_synchronized(c->world);
        else
                at.clock_synchronized = now_sec + CLOCK_TOLERANCE_SEC >= reply->timestamp_sec;
        return at;
}

void client_tell(Client *c, const char *format, ...) {
        char text[512];
        va_list ap;

        if (!c->handlers.on_step)
                return;
        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        c->handlers.on_step(text, c->userdata);
}

/* Timer slack saves wake-ups and only ever delays. A poll must come when DPS said, so it gets little. */
void client_arm(Client *c) {
        uint64_t due = client_state(c) == CLIENT_IN_FLIGHT ? c->wake_usec : USEC_INFINITY;

        if (c->prepare_until_usec > 0)
                due = MIN(due, c->prepare_until_usec);
        timer_set(c->timer, due,
                  MIN(MAX(usec_sub(due, client_now(c)) / 50, USEC_PER_MSEC), POLL_SLACK_MAX_USEC));
}

/* ---- the end of a connection, of an attempt, of a registration ---- */

/* Gives back everything that an attempt holds. The key does not stay in memory between attempts. */
static void release(Client *c) {
        client_disconnect(c);
        slot_release(&c->slot);
        c->credential = credential_unref(c->credential);
        free(c->payload);
        c->payload = NULL;
}

static void forget_answer(Client *c) {
        c->answered = credential_unref(c->answered);
        free(c->key_name);
        c->key_name = NULL;
        dps_reply_done(&c->assignment);
}

static void end_registration(Client *c) {
        if (!c->registration)
                return;

        forget_answer(c);
        if (c->has_assignment) /* it came to nothing: all wait for the next one */
                c->jobs = client_take_jobs(c);

        release(c);
        timer_set(c->timer, USEC_INFINITY, 0);
        c->history = dps_registration_history(c->registration);
        c->registration = dps_registration_free(c->registration);
        slot_leave(&c->slot);
        c->wake_usec = USEC_INFINITY;
        settings_unref(c->settings);
        c->settings = NULL;
}

/* A group refuses a device whose chain does not reach its CA, and does not say why. */
static DpsError failure_of(const Client *c) {
        const ClientCertificate *x = c->credential ? credential_certificate(c->credential) : NULL;
        const DpsError *failure = dps_registration_error(c->registration);
        char issuer[LEAF_TEXT_MAX];
        DpsError error = *failure;

        if (x && error.id == DPS_ERROR_AUTH &&
            leaf_missing_issuer(sk_X509_value(x->chain, 0), sk_X509_value(x->chain, 1), issuer)) {
                dps_error_set(&error, error.id, error.step,
                              "%s; for a group, Certificate= may lack the certificate of its issuer, \"%s\"",
                              failure->message, issuer);
                error.code = failure->code;
                error.final = failure->final;
                memcpy(error.tracking_id, failure->tracking_id, sizeof(error.tracking_id));
        }
        return error;
}

static void attempt_failed(Client *c, const DpsError *error) {
        if (error->id == DPS_ERROR_THROTTLED && error->step == DPS_STEP_REGISTER)
                slot_throttled(&c->slot, dps_registration_told_usec(c->registration)
                                                 ?: dps_registration_next_usec(c->registration));
        c->handlers.on_failed(error, client_take_jobs(c), c->userdata);
}

static void forget_way(Client *c) {
        c->way = TRANSPORT_AUTO;
        c->n_blocked = 0;
}

static void assigned(Client *c, const DpsReply *reply) {
        _cleanup_(credential_unrefp) Credential *credential = credential_ref(c->credential);
        Jobs jobs = c->has_assignment ? jobs_take(&c->served_jobs) : client_take_jobs(c);

        c->has_assignment = false;
        forget_way(c); /* the owner remembers which one worked */
        slot_succeeded(&c->slot);
        end_registration(c);
        c->handlers.on_assigned(reply, credential, jobs, c->userdata);
        client_forget_issuance(c);
}

/* ---- the transport's side ---- */

static void on_ready(void *userdata) {
        Client *c = userdata;

        if (c->class->abilities & TRANSPORT_LOG_IN) {
                c->n_blocked = 0; /* whatever comes of the requests, this way is open */
                client_tell(c, "is logged in at %s", c->settings->endpoint);
        }
        client_act(c, dps_registration_on_ready(c->registration, client_moment(c)), NULL);
}

/* Without a challenge, the TPM has no key for the hub. */
static bool is_unproven(const Client *c, const DpsReply *reply) {
        return c->method == METHOD_TPM && !dps_registration_has_answered(c->registration) &&
               dps_reply_verdict(reply) == DPS_VERDICT_ASSIGNED;
}

/* A cloud that does not know the newest version may know the older one that issues certificates too. Nothing has failed
 * then: the registration begins again, once. Returns true if it does. */
static bool step_down(Client *c, const DpsReply *reply) {
        DpsRegistrationHistory history = dps_registration_history(c->registration);
        DpsRegistration *again;

        if (reply->error_code != 400004 || !c->settings->api_version_steps)
                return false;
        if (c->api_version) { /* neither will do now: the next attempt tries the newest again */
                c->api_version = NULL;
                return false;
        }
        if (dps_registration_new(MAX(credential_count(c->settings, c->method), 1U), &history, &again) < 0)
                return false;
        dps_registration_free(c->registration);
        c->registration = again;
        c->api_version = DPS_API_VERSION_ISSUANCE_OLDER;
        client_tell(c, "DPS does not know the API version %s: trying %s", c->settings->api_version,
                    c->api_version);
        client_act(c, dps_registration_begin(c->registration, client_moment(c)), NULL);
        return true;
}

static void on_reply(const DpsReply *reply, void *userdata) {
        Client *c = userdata;
        DpsReply told = *reply; /* borrows its strings */

        client_tell(c, "DPS answers %u to request %" PRIu64, (unsigned) reply->status, reply->request_id);
        c->n_blocked = 0;
        c->handlers.on_answer(c->userdata);
        if (step_down(c, reply))
                return;
        if (is_unproven(c, reply))
                told.malformed = "it assigns a hub, but no challenge has proven the TPM";
        client_act(c, dps_registration_on_reply(c->registration, &told, moment_of(c, reply)), reply);
}

/* No document of Microsoft's says that DPS challenges a TPM over MQTT. */
static DpsError explain_refusal(const Client *c, const DpsError *refusal) {
        bool is_challenge = c->method == METHOD_TPM && !dps_registration_has_answered(c->registration);
        DpsError error = *refusal;

        if (is_challenge && error.id == DPS_ERROR_AUTH && !(c->class->abilities & TRANSPORT_TPM_CHALLENGE))
                dps_error_set(&error, DPS_ERROR_AUTH, refusal->step,
                              "%s; DPS may offer TPM attestation over HTTPS only: Transport=https",
                              refusal->message);
        return error;
}

static void on_closed(const DpsError *error, void *userdata) {
        Client *c = userdata;
        DpsError explained = explain_refusal(c, error);

        c->transport = transport_free(c->transport);
        c->n_blocked = way_is_blocked(error) ? c->n_blocked + 1 : 0;
        client_act(c, dps_registration_on_lost(c->registration, &explained, client_moment(c)), NULL);
}

const TransportHandlers client_transport_handlers = {
        .on_ready = on_ready,
        .on_reply = on_reply,
        .on_closed = on_closed,
};

/* ---- the challenge of TPM attestation ---- */

static void answer_failed(Client *c, const DpsError *error) {
        client_stop_preparing(c);
        client_act(c, dps_registration_on_lost(c->registration, error, client_moment(c)), NULL);
}

static void on_answered(Credential *credential, const DpsError *error, void *userdata) {
        Client *c = userdata;
        _cleanup_(dps_reply_done) DpsReply assignment =
                c->assignment; /* what follows may free the client's own */
        Credential **place = assignment.assigned_hub ? &c->credential : &c->answered;

        c->answering = NULL;
        c->assignment = (DpsReply){ 0 };
        if (error) {
                answer_failed(c, error);
                return;
        }

        credential_unref(*place);
        *place = credential;
        client_act(c, dps_registration_on_answered(c->registration, client_moment(c)), &assignment);
}

/* The connection is no longer needed: a new one shows the token. */
static int begin_answer(Client *c, const DpsReply *reply) {
        bool is_for_hub = reply->assigned_hub;
        int r = 0;

        dps_reply_done(&c->assignment);
        if (is_for_hub) {
                r = dps_reply_copy(reply, &c->assignment);
                c->served_jobs = client_take_jobs(c);
                c->has_assignment = true;
        } else {
                free(c->key_name);
                c->key_name = reply->key_name ? strdup(reply->key_name) : NULL;
                r = c->key_name || !reply->key_name ? 0 : -ENOMEM;
        }
        if (r < 0)
                return r;
        return credential_answer(c->credential, c->world, reply->authentication_key, is_for_hub, on_answered,
                                 c, &c->answering);
}

static void answer_challenge(Client *c, const DpsReply *reply) {
        DpsError error;
        int r;

        client_tell(c, "the TPM takes a key from DPS");
        c->transport = transport_free(c->transport);
        r = begin_answer(c, reply);
        if (r >= 0)
                return client_arm(c);
        if (r == -EOPNOTSUPP)
                dps_error_set(
                        &error, DPS_ERROR_AUTH, DPS_STEP_REGISTER,
                        "DPS asks for TPM attestation: the enrollment is of a TPM, and not of Method=%s",
                        method_to_string(c->method));
        else
                error_set_memory(&error, DPS_STEP_ATTEST);
        answer_failed(c, &error);
}

/* ---- actions ---- */

static int register_body(Client *c, char **ret, DpsError *error) {
        const TpmKeys *tpm = credential_tpm_keys(c->credential);
        const Settings *s = c->settings;
        int r;

        r = dps_register_body(&(DpsRegisterContent){ .registration_id = s->registration_id,
                                                     .payload = s->payload_file ? c->payload : s->payload,
                                                     .endorsement_key = tpm ? tpm->endorsement_key : NULL,
                                                     .storage_root_key = tpm ? tpm->storage_root_key : NULL,
                                                     .csr = c->issuance.csr },
                              ret);
        if (r == -EBADMSG)
                dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_REGISTER, "%s is not a JSON object",
                              s->payload_file ?: "Payload=");
        else if (r < 0)
                error_set_memory(error, DPS_STEP_REGISTER);
        return r;
}

static int send_request(Client *c, const DpsRequest *request, DpsError *error) {
        _cleanup_(freep) char *body = NULL;
        bool is_poll = request->kind == DPS_REQUEST_POLL;
        int r;

        client_tell(c, "asks DPS: request %" PRIu64 ", %s", request->request_id,
                    is_poll ? "poll" : "register");
        if (!is_poll) {
                r = register_body(c, &body, error);
                if (r < 0)
                        return r;
                c->issuance_was_sent = true;
        }
        if (is_poll)
                c->handlers.on_poll(c->userdata);
        r = transport_send(c->transport, request, body);
        if (r < 0)
                dps_error_set(error, DPS_ERROR_LOST, is_poll ? DPS_STEP_POLL : DPS_STEP_REGISTER,
                              "the request cannot be sent");
        return r;
}

/* Whether an attempt has failed since the last report of what is to be remembered. */
static bool has_failed(const Client *c) {
        return dps_registration_history(c->registration).attempts > c->history.attempts;
}

/* Carries out the action that the machine answered to an event. */
void client_act(Client *c, DpsAction action, const DpsReply *reply) {
        bool failed = has_failed(c);
        DpsError error;

        if (!dps_registration_has_answered(c->registration))
                c->answered = credential_unref(c->answered);
        c->wake_usec = action.wake_usec;
        c->history = dps_registration_history(c->registration);
        switch (action.type) {
        case DPS_ACTION_WAIT:
                break;
        case DPS_ACTION_SEND:
                if (send_request(c, &action.request, &error) < 0)
                        return client_prepare_failed(c, &error);
                break;
        case DPS_ACTION_CONNECT:
                client_tell(c, "connects to %s", c->settings->endpoint);
                client_disconnect(c);
                return client_prepare(c);
        case DPS_ACTION_RELEASE:
                error = failure_of(c);
                release(c);
                if (!dps_registration_has_operation(c->registration))
                        client_forget_issuance(c);
                client_arm(c);
                if (failed)
                        return attempt_failed(c, &error);
                break;
        case DPS_ACTION_FINISH:
                return assigned(c, reply);
        case DPS_ACTION_ANSWER_CHALLENGE:
                answer_challenge(c, reply);
                return c->handlers.on_changed(c->userdata);
        }
        client_arm(c);
        c->handlers.on_changed(c->userdata);
}

/* ---- the owner's side ---- */

static bool is_begun(const Client *c) {
        return dps_registration_state(c->registration) != DPS_REGISTRATION_IDLE;
}

static void on_timer(void *userdata) {
        Client *c = userdata;

        if (c->prepare_until_usec > 0 && client_now(c) >= c->prepare_until_usec)
                client_prepare_timed_out(c);
        else
                client_act(c, dps_registration_on_time(c->registration, client_moment(c)), NULL);
}

/* DPS throttled another client of the scope. The machine never takes back a request that was sent, and
 * continues to poll for its operation. */
static void on_paused(uint64_t until_usec, void *userdata) {
        Client *c = userdata;

        if (c->registration && is_begun(c) && c->slot.state != SLOT_WANTED)
                client_act(c, dps_registration_pause(c->registration, until_usec, client_moment(c)), NULL);
}

/* A slot is held, or none is needed: passes the machine the event that it waits for. */
static void advance(Client *c) {
        client_act(c,
                   is_begun(c) ? dps_registration_on_time(c->registration, client_moment(c))
                               : dps_registration_begin(c->registration, client_moment(c)),
                   NULL);
}

/* While the scope is paused, no client takes a slot only to wait in it: the machine is told the time, and
 * waits for it. Returns true if it does. */
static bool pause_with_scope(Client *c) {
        uint64_t until = slot_paused_until_usec(&c->slot);

        if (until <= client_now(c))
                return false;
        (void) dps_registration_pause(c->registration, until, client_moment(c));
        if (is_begun(c) && dps_registration_next_usec(c->registration) <= client_now(c))
                return false; /* it only polls for its operation */

        release(c);
        if (is_begun(c))
                c->handlers.on_changed(c->userdata);
        else
                advance(c);
        return true;
}

static void on_granted(void *userdata) {
        Client *c = userdata;

        if (!pause_with_scope(c))
                advance(c);
}

int client_new(World *world, Window *window, Transports *transports, const ClientHandlers *handlers,
               void *userdata, Client **ret) {
        Client *c = malloc(sizeof(*c));

        if (!c)
                return -ENOMEM;
        *c = (Client){ .world = world,
                       .window = window,
                       .transports = transports,
                       .handlers = *handlers,
                       .userdata = userdata,
                       .wake_usec = USEC_INFINITY,
                       .slot = { .on_granted = on_granted, .on_paused = on_paused, .userdata = c } };
        *ret = c;
        return 0;
}

Client *client_free(Client *c) {
        if (!c)
                return NULL;

        client_cancel(c);
        jobs_done(&c->jobs);
        jobs_done(&c->served_jobs);
        issuance_request_done(&c->issuance);
        timer_free(c->timer);
        free(c);
        return NULL;
}

int client_begin(Client *c, Settings *settings, Method method, const DpsRegistrationHistory *history) {
        int r;

        client_cancel(c);
        r = c->timer ? 0 : timer_new(c->world, on_timer, c, &c->timer);
        if (r < 0)
                return r;
        r = slot_enter(&c->slot, c->window, settings->id_scope, settings->endpoint);
        if (r < 0)
                return r;
        r = dps_registration_new(MAX(credential_count(settings, method), 1U), history, &c->registration);
        if (r < 0) {
                slot_leave(&c->slot);
                return r;
        }

        c->settings = settings_ref(settings);
        c->method = method;
        c->history = *history;
        c->https_is_missing = false; /* it may have been installed meanwhile */
        c->fingerprint[0] = 0;
        c->api_version = settings->api_version_steps ? c->told_version : NULL;
        client_forget_issuance(c);
        /* If it is too early, the client waits without a slot. */
        if (MAX(history->next_usec, history->not_before_usec) > client_now(c))
                advance(c);
        return 0;
}

void client_attempt(Client *c, Credential *credential) {
        ClientState state = client_state(c);

        if (state != CLIENT_BEGUN && state != CLIENT_PARKED && state != CLIENT_BETWEEN)
                return;
        if (client_next_usec(c) > client_now(c) || pause_with_scope(c))
                return;

        credential_unref(c->credential);
        c->credential = credential ? credential_ref(credential) : NULL;
        if (slot_acquire(&c->slot))
                advance(c);
        else
                c->handlers.on_changed(c->userdata);
}

void client_hasten(Client *c, uint64_t spread_usec) {
        if (spread_usec > 0)
                forget_way(c); /* the network may be another one */
        if (client_state(c) == CLIENT_BETWEEN)
                client_act(c, dps_registration_hasten(c->registration, spread_usec, client_moment(c)), NULL);
}

void client_fail(Client *c, const DpsError *error) {
        if (client_state(c) == CLIENT_IN_FLIGHT)
                client_prepare_failed(c, error);
}

void client_cancel(Client *c) {
        end_registration(c);
}

int client_add_job(Client *c, uint64_t id) {
        return jobs_add(&c->jobs, id);
}

bool client_has_jobs(const Client *c) {
        return c->jobs.first || c->served_jobs.first;
}

Jobs client_take_jobs(Client *c) {
        Jobs jobs = jobs_take(&c->served_jobs);

        c->has_assignment = false;
        jobs_join(&jobs, jobs_take(&c->jobs));
        return jobs;
}

/* ---- views ---- */

ClientState client_state(const Client *c) {
        if (!c->registration)
                return CLIENT_IDLE;
        if (c->slot.state == SLOT_WANTED)
                return CLIENT_QUEUED;
        if (dps_registration_in_flight(c->registration))
                return CLIENT_IN_FLIGHT;
        if (!is_begun(c))
                return CLIENT_BEGUN;
        return dps_registration_state(c->registration) == DPS_REGISTRATION_PARKED ? CLIENT_PARKED
                                                                                  : CLIENT_BETWEEN;
}

uint64_t client_next_usec(const Client *c) {
        switch (client_state(c)) {
        case CLIENT_BEGUN:
                return 0;
        case CLIENT_PARKED:
        case CLIENT_BETWEEN:
                return dps_registration_next_usec(c->registration);
        case CLIENT_IDLE:
        case CLIENT_QUEUED:
        case CLIENT_IN_FLIGHT:
        case _CLIENT_STATE_MAX:
                return USEC_INFINITY;
        }
        abort();
}

const char *client_step(const Client *c) {
        ClientState state = client_state(c);

        if (state == CLIENT_QUEUED)
                return "queued";
        return state == CLIENT_IN_FLIGHT
                       ? dps_registration_state_to_string(dps_registration_state(c->registration))
                       : "";
}

uint64_t client_told_usec(const Client *c) {
        return c->registration ? dps_registration_told_usec(c->registration) : 0;
}

const DpsError *client_error(const Client *c) {
        return c->registration ? dps_registration_error(c->registration) : NULL;
}

const DpsRegistrationHistory *client_history(Client *c) {
        if (c->registration)
                c->history = dps_registration_history(c->registration);
        return &c->history;
}

void client_set_api_version(Client *c, const char *version) {
        c->told_version = version;
}

const char *client_api_version(const Client *c) {
        if (c->api_version)
                return c->api_version;
        return c->settings ? c->settings->api_version : NULL;
}

const IssuanceRequest *client_issuance(const Client *c) {
        return c->issuance.key ? &c->issuance : NULL;
}

const char *client_fingerprint(const Client *c) {
        return c->fingerprint;
}

const char *client_transport(const Client *c) {
        return c->class ? c->class->name : "";
}
