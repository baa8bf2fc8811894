/* SPDX-License-Identifier: MIT */
#include "client/client-internal.h"

#include <errno.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "client/way.h"
#include "config/file-kind.h"
#include "credential/credential-error.h"
#include "dps/sas.h"

/* What a connection needs: its credential, the payload, a request for a certificate, the way and a token. Each step begins
 * the next one when it ends, since most of them run on the worker. */

#define TOKEN_LIFETIME_SEC (60 * 60) /* it serves one short connection */
#define PREPARE_DEADLINE_USEC (30 * USEC_PER_SEC)
#define CHIP_DEADLINE_USEC (60 * USEC_PER_SEC)

/* What the worker makes before a connection that asks for a certificate. */
typedef struct IssuanceTask {
        Settings *settings;
        IssuancePlace place;
        IssuanceRequest request;
        DpsError error;
        int r;
        Client *client;
} IssuanceTask;

/* What the worker loads before a connection. */
typedef struct PayloadTask {
        char *path;
        char *text, *why;
        int r;
        Client *client;
} PayloadTask;

void client_stop_preparing(Client *c) {
        c->loading = credential_query_free(c->loading);
        c->signing = credential_query_free(c->signing);
        c->answering = credential_query_free(c->answering);
        c->reading = work_forget(c->reading);
        c->routing = route_query_free(c->routing);
        c->making = work_forget(c->making);
        c->prepare_until_usec = 0;
}

static void forget_route(Client *c) {
        c->has_route = false;
        c->proxy = proxy_free(c->proxy);
}

void client_disconnect(Client *c) {
        client_stop_preparing(c);
        forget_route(c);
        c->transport = transport_free(c->transport);
}

void client_forget_issuance(Client *c) {
        issuance_request_done(&c->issuance);
        c->issuance_was_sent = false;
}

void client_prepare_failed(Client *c, const DpsError *error) {
        client_disconnect(c);
        client_act(c, dps_registration_on_lost(c->registration, error, client_moment(c)), NULL);
}

static TransportChoice choose_way(const Client *c) {
        return way_choose(&(WayFacts){ .wish = c->settings->transport,
                                       .worked = c->handlers.way_that_worked(c->userdata),
                                       .last = c->way,
                                       .failures = c->n_blocked,
                                       .wants_challenge = c->method == METHOD_TPM,
                                       .mqtt_is_barred = c->proxy && c->proxy->kind == PROXY_HTTPS,
                                       .https_is_missing = c->https_is_missing });
}

/* If Transport=auto chooses a way that is not installed, the other one is taken. */
static int take_way(Client *c, TransportChoice *ret, DpsError *error) {
        bool is_auto = c->settings->transport == TRANSPORT_AUTO;
        TransportChoice way = choose_way(c);
        int r;

        r = c->transports->get(c->transports, way, &c->class, error);
        if (r == -EOPNOTSUPP && is_auto && way == TRANSPORT_HTTPS) {
                c->https_is_missing = true;
                c->handlers.on_way(TRANSPORT_MQTT, error, c->userdata);
                way = TRANSPORT_MQTT;
                r = c->transports->get(c->transports, way, &c->class, error);
        }
        if (r < 0)
                return r;
        *ret = way;
        /* Otherwise the memory or the configuration has changed, and no way is blocked. */
        if (c->n_blocked >= WAY_FAILURES_MAX && is_auto && c->way != way)
                c->handlers.on_way(way, NULL, c->userdata);
        if (c->way != way)
                c->n_blocked = 0;
        c->way = is_auto ? way : TRANSPORT_AUTO;
        return 0;
}

static void connect_with(Client *c, const char *token) {
        const ClientCertificate *certificate = credential_certificate(c->credential);
        const Settings *s = c->settings;
        TransportTarget target = {
                .host = s->endpoint,
                .addresses = s->addresses,
                .proxy = c->proxy,
                .ca_files = s->ca_files,
                .id_scope = s->id_scope,
                .registration_id = s->registration_id,
                .api_version = client_api_version(c),
                .token = token,
                .certificates = certificate ? certificate->chain : NULL,
                .key = certificate ? certificate->key : NULL,
                .is_slow = certificate && certificate->is_slow,
        };
        TransportChoice way;
        DpsError error;
        int r;

        client_stop_preparing(c);
        memcpy(c->fingerprint, credential_fingerprint(c->credential), sizeof(c->fingerprint));
        r = take_way(c, &way, &error);
        if (r >= 0) {
                target.port = way == TRANSPORT_HTTPS ? s->https_port : s->mqtt_port;
                r = transport_connect(c->class, &target, &client_transport_handlers, c, &c->transport,
                                      &error);
        }
        forget_route(c);
        if (r < 0)
                client_prepare_failed(c, &error);
        else
                client_arm(c);
}

/* A device with TPM attestation has no token before the challenge, and then one that the key of the challenge
 * signed. */
static Credential *signer(const Client *c) {
        if (c->method != METHOD_TPM)
                return c->credential;
        return dps_registration_has_answered(c->registration) ? c->answered : NULL;
}

static void on_signed(char *token, const DpsError *error, void *userdata) {
        Client *c = userdata;
        _cleanup_(erase_and_freep) char *owned = token;

        c->signing = NULL;
        if (error)
                client_prepare_failed(c, error);
        else
                connect_with(c, owned);
}

/* With a clock that is right, this is known before anything is sent. If there are several certificates, DPS
 * refuses this one, and the next is tried. */
static bool is_in_time(const Client *c, DpsError *error) {
        const ClientCertificate *certificate = credential_certificate(c->credential);
        uint64_t now_usec = world_now_usec(c->world, CLOCK_REALTIME);
        char text[TIMESTAMP_TEXT_MAX];

        if (!certificate || !c->handlers.is_clock_right(c->userdata) ||
            credential_count(c->settings, c->method) > 1)
                return true;
        if (now_usec > certificate->not_after_usec)
                dps_error_set(
                        error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                        "the certificate expired on %s: put a new one into the file that Certificate= names",
                        format_timestamp(certificate->not_after_usec, text));
        else if (now_usec < certificate->not_before_usec)
                dps_error_set(error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                              "the certificate is not valid before %s: compare with the time of day here",
                              format_timestamp(certificate->not_before_usec, text));
        else
                return true;
        return false;
}

static void sign_and_connect(Client *c) {
        const Settings *s = c->settings;
        _cleanup_(erase_and_freep) char *token = NULL;
        _cleanup_(freep) char *resource = NULL;
        Credential *credential = signer(c);
        uint64_t expiry_sec = world_now_usec(c->world, CLOCK_REALTIME) / USEC_PER_SEC + TOKEN_LIFETIME_SEC;
        DpsError error;
        int r;

        if (!is_in_time(c, &error))
                return client_prepare_failed(c, &error);
        if (c->method == METHOD_X509 || !credential)
                return connect_with(c, NULL);

        error_set_memory(&error, DPS_STEP_CONNECT);
        r = dps_sas_resource_registration(s->id_scope, s->registration_id, &resource);
        if (r >= 0)
                r = credential_sign(credential, c->world, resource, expiry_sec,
                                    c->key_name ?: DPS_SAS_POLICY_REGISTRATION, &token, on_signed, c,
                                    &c->signing, &error);
        if (r < 0)
                client_prepare_failed(c, &error);
        else if (r > 0)
                connect_with(c, token);
        else
                client_arm(c);
}

static void payload_run(void *task) {
        PayloadTask *t = task;

        t->r = payload_read(t->path, &t->text, &t->why);
}

static void payload_free(void *task) {
        PayloadTask *t = task;

        free(t->path);
        free(t->text);
        free(t->why);
        free(t);
}

static void payload_done(void *task) {
        PayloadTask *t = task;
        Client *c = t->client;
        DpsError error;
        int r = t->r;

        c->reading = NULL;
        if (r >= 0)
                c->payload = TAKE_PTR(t->text);
        else
                dps_error_set(&error, r == -ENOMEM ? DPS_ERROR_MEMORY : DPS_ERROR_CONFIG, DPS_STEP_REGISTER,
                              "PayloadFile=%s %s", t->path, t->why ?: strerror(-r));
        payload_free(t);
        if (r >= 0)
                client_prepare(c);
        else
                client_prepare_failed(c, &error);
}

static const char *payload_whose(const void *task) {
        const PayloadTask *t = task;

        return t->path;
}

static int read_payload(Client *c) {
        static const WorkClass class = { .queue = WORK_KEYS,
                                         .run = payload_run,
                                         .done = payload_done,
                                         .free = payload_free,
                                         .whose = payload_whose };
        PayloadTask *t = calloc(1, sizeof(*t));
        int r = -ENOMEM;

        if (t) {
                t->client = c;
                t->path = strdup(c->settings->payload_file);
                r = t->path ? work_begin(c->world, &class, t, &c->reading) : -ENOMEM;
        }
        if (r < 0 && t)
                payload_free(t);
        return r;
}

static void on_route(Proxy *proxy, const DpsError *error, void *userdata) {
        Client *c = userdata;

        c->routing = route_query_free(c->routing);
        if (error)
                return client_prepare_failed(c, error);
        c->proxy = proxy;
        c->has_route = true;
        client_prepare(c);
}

/* The password of a proxy is read for each connection. Fills `error` on failure. */
static int find_route(Client *c, DpsError *error) {
        int r = route_find(c->world, c->settings, c->settings->endpoint, on_route, c, &c->proxy, &c->routing,
                           error);

        c->has_route = r > 0;
        return r;
}

static void issuance_run(void *task) {
        IssuanceTask *t = task;

        t->r = issuance_request_new(t->settings, &t->place, &t->request, &t->error);
}

static void issuance_free(void *task) {
        IssuanceTask *t = task;

        issuance_request_done(&t->request);
        issuance_place_done(&t->place);
        settings_unref(t->settings);
        free(t);
}

static void issuance_done(void *task) {
        IssuanceTask *t = task;
        Client *c = t->client;
        DpsError error = t->error;
        int r = t->r;

        c->making = NULL;
        if (r >= 0) {
                c->issuance = t->request;
                t->request = (IssuanceRequest){ 0 };
        }
        issuance_free(t);
        if (r >= 0)
                client_prepare(c);
        else
                client_prepare_failed(c, &error);
}

/* A chip may need a minute for an RSA key. */
static int make_issuance_request(Client *c) {
        static const WorkClass in_file = { .queue = WORK_KEYS,
                                           .run = issuance_run,
                                           .done = issuance_done,
                                           .free = issuance_free },
                               in_chip = { .queue = WORK_CHIPS,
                                           .run = issuance_run,
                                           .done = issuance_done,
                                           .free = issuance_free };
        bool is_chip = settings_issue_in_hardware(c->settings);
        IssuanceTask *t = calloc(1, sizeof(*t));
        Folder *state, *notes;
        int r;

        client_forget_issuance(c);
        if (!t)
                return -ENOMEM;
        t->client = c;
        t->settings = settings_ref(c->settings);
        c->handlers.folders(&state, &notes, c->userdata);
        r = issuance_place_new(c->world, state, notes, &t->place);
        if (r >= 0)
                r = work_begin(c->world, is_chip ? &in_chip : &in_file, t, &c->making);
        if (r < 0)
                issuance_free(t);
        else if (is_chip)
                c->prepare_until_usec = client_now(c) + CHIP_DEADLINE_USEC;
        return r;
}

/* Each request is for a new key. One that DPS may have accepted already waits for its answer. */
static bool needs_issuance_request(const Client *c) {
        return c->settings->issuance_requested &&
               (!c->issuance.key ||
                (c->issuance_was_sent && !dps_registration_has_operation(c->registration)));
}

static void on_credential(Credential *credential, const DpsError *error, void *userdata) {
        Client *c = userdata;

        c->loading = NULL;
        if (error) {
                client_prepare_failed(c, error);
                return;
        }
        credential_unref(c->credential);
        c->credential = credential;
        client_prepare(c);
}

static bool has_right_credential(const Client *c) {
        return c->credential && credential_method(c->credential) == c->method &&
               credential_index(c->credential) == dps_registration_credential(c->registration);
}

/* Starts the next step that the connection still needs, or makes the connection when there is none left. */
void client_prepare(Client *c) {
        DpsError error;
        int r = 0;

        if (c->prepare_until_usec == 0)
                c->prepare_until_usec = client_now(c) + PREPARE_DEADLINE_USEC;
        error_set_memory(&error, DPS_STEP_CONFIG);
        if (!has_right_credential(c))
                r = credential_load(c->world,
                                    &(CredentialWish){ .settings = c->settings,
                                                       .registration_id = c->settings->registration_id,
                                                       .kept = c->method,
                                                       .index = dps_registration_credential(c->registration),
                                                       .only = true },
                                    on_credential, c, &c->loading);
        else if (c->settings->payload_file && !c->payload)
                r = read_payload(c);
        else if (needs_issuance_request(c))
                r = make_issuance_request(c);
        else {
                if (!c->has_route)
                        r = find_route(c, &error);
                if (c->has_route)
                        return sign_and_connect(c);
        }

        if (r < 0) {
                client_prepare_failed(c, &error);
                return;
        }
        client_arm(c);
}

void client_prepare_timed_out(Client *c) {
        bool is_chip = c->making && settings_issue_in_hardware(c->settings);
        DpsError error;

        dps_error_set(&error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "%s did not arrive within %u s",
                      c->reading   ? c->settings->payload_file
                      : c->routing ? "the file that ProxyPassword= names"
                      : is_chip    ? "a new key from the token or TPM that Key= in [Issuance] names"
                      : c->making  ? "a new key for a certificate"
                                   : "the key",
                      (unsigned) ((is_chip ? CHIP_DEADLINE_USEC : PREPARE_DEADLINE_USEC) / USEC_PER_SEC));
        client_prepare_failed(c, &error);
}
