/* SPDX-License-Identifier: MIT */
#include "transport/mqtt.h"

#include <errno.h>
#include <mosquitto.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "basic/times.h"
#include "transport/failure.h"

/*
 *      RESOLVING ──> CONNECTING ──> HANDSHAKING ──> LOGGING_IN ──> SUBSCRIBING ──> READY      from each: CLOSED
 *                      ^────┘ next address                          requests may be sent
 *
 * libmosquitto is driven from our loop, one client for each address tried. Its manners decide much here:
 *   - it closes its socket behind our back, so the io source is dropped as soon as a call of it fails, before
 *     anything else is opened that might get the same number;
 *   - in its callbacks we only take notes, and act on them once it has returned;
 *   - until the handshake is over it wants to write for ever, and takes a refused connection for success: then
 *     OpenSSL is asked what it waits for, and a hang-up is the end.
 */

#define RESOLVE_DEADLINE_USEC (20 * USEC_PER_SEC)
#define CONNECT_DEADLINE_USEC (10 * USEC_PER_SEC)
#define CONNECT_NEXT_USEC (3 * USEC_PER_SEC) /* where another address can be tried */
#define ANSWER_DEADLINE_USEC (15 * USEC_PER_SEC)
#define TIMER_ACCURACY_USEC (250 * USEC_PER_MSEC)
#define KEEP_ALIVE_SEC 60
/* Since the last traffic. The library counts whole seconds, hence a little later than it is due. */
#define KEEP_ALIVE_USEC ((KEEP_ALIVE_SEC + 1) * USEC_PER_SEC)
#define QOS_AT_LEAST_ONCE 1
#define SUBACK_FAILURE 0x80
#define RECEIVED_MAX (4U * DPS_REPLY_SIZE_MAX) /* for one request, whatever it is */
#define REPLIES_MAX 4                          /* to one request, in one read; one is the rule */

typedef enum Phase {
        PHASE_RESOLVING,
        PHASE_CONNECTING,
        PHASE_HANDSHAKING,
        PHASE_LOGGING_IN,
        PHASE_SUBSCRIBING,
        PHASE_READY,
        PHASE_CLOSED,
        _PHASE_MAX,
} Phase;

static const struct {
        DpsStep step;
        uint64_t deadline_usec;
        const char *lost, *silent; /* "PEER …" */
} phases[_PHASE_MAX] = {
        [PHASE_RESOLVING] = { DPS_STEP_RESOLVE, RESOLVE_DEADLINE_USEC, NULL,
                              "is not told by any name server" },
        [PHASE_CONNECTING] = { DPS_STEP_CONNECT, CONNECT_DEADLINE_USEC, "refused the connection",
                               "does not answer" },
        [PHASE_HANDSHAKING] = { DPS_STEP_TLS, ANSWER_DEADLINE_USEC,
                                "closed the connection during the TLS handshake",
                                "connected, but does not go on with the TLS handshake" },
        [PHASE_LOGGING_IN] = { DPS_STEP_LOGIN, ANSWER_DEADLINE_USEC,
                               "closed the connection instead of answering the log-in",
                               "does not answer the log-in" },
        [PHASE_SUBSCRIBING] = { DPS_STEP_SUBSCRIBE, ANSWER_DEADLINE_USEC,
                                "closed the connection instead of answering the subscription",
                                "does not answer the subscription" },
        [PHASE_READY] = { DPS_STEP_NONE, KEEP_ALIVE_USEC, "closed the connection", NULL },
};

typedef struct Mqtt {
        Transport transport; /* first */
        unsigned n_refs;     /* the owner's, and one during each handler of the loop */

        sd_event *event;
        TlsContext *tls;
        char *host, *registration_id, *username;
        char *password; /* a secret, kept until we are logged in */
        uint16_t port;
        TransportHandlers handlers;
        void *userdata;

        Phase phase;
        ResolverQuery *query;
        char **addresses;
        size_t n_tried;
        char *peer;     /* "127.0.0.1:8883 (localhost)": whom errors name */
        DpsError error; /* why the addresses tried so far failed, or, if is_broken, why the connection did */
        bool is_broken; /* closes at the next turn of the loop */

        struct mosquitto *client;
        sd_event_source *io;
        sd_event_source *timer; /* the phase's deadline; when READY, keep-alive */
        bool has_heard;         /* at least a byte */
        DpsStep request_step;   /* of the request sent last */
        uint64_t request_id;    /* of it */
        uint64_t n_received;    /* bytes, when it was sent */

        /* What the library told, until it has returned: */
        int connack; /* -1: nothing yet */
        int suback;  /* -1: nothing yet */
        DpsReply replies[REPLIES_MAX];
        size_t n_replies;
} Mqtt;

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata);
static int on_timer(sd_event_source *s, uint64_t due_usec, void *userdata);

/* ---- life ---- */

static Mqtt *mqtt_ref(Mqtt *t) {
        t->n_refs++;
        return t;
}

/* Never from within a callback of the library. */
static void client_drop(Mqtt *t) {
        t->io = sd_event_source_disable_unref(t->io);
        if (t->client)
                mosquitto_destroy(t->client);
        t->client = NULL;
}

static void mqtt_close(Mqtt *t) {
        t->phase = PHASE_CLOSED;
        t->query = resolver_query_free(t->query);
        t->timer = sd_event_source_disable_unref(t->timer);
        client_drop(t);
}

static Mqtt *mqtt_unref(Mqtt *t) {
        if (!t || --t->n_refs > 0)
                return NULL;

        mqtt_close(t);
        strv_free(t->addresses);
        free(t->peer);
        free(t->host);
        free(t->registration_id);
        free(t->username);
        erase_and_free(t->password);
        tls_context_unref(t->tls);
        sd_event_unref(t->event);
        free(t);
        return NULL;
}
DEFINE_FREEP(Mqtt, mqtt_unref)

static Transport *mqtt_free(Transport *transport) {
        Mqtt *t = (Mqtt *) transport;

        if (t->phase == PHASE_SUBSCRIBING || t->phase == PHASE_READY) {
                /* The library closes the socket when it has said goodbye. */
                t->io = sd_event_source_disable_unref(t->io);
                if (!t->is_broken)
                        (void) mosquitto_disconnect(t->client);
        }
        mqtt_close(t);
        mqtt_unref(t);
        return NULL;
}

/* ---- failures ---- */

static void fail(Mqtt *t, const DpsError *error) {
        DpsError copy = *error;

        if (t->phase == PHASE_CLOSED)
                return;

        mqtt_close(t);
        t->handlers.on_closed(&copy, t->userdata);
}

static DpsError peer_error(const Mqtt *t, Failure f) {
        DpsStep step = t->phase == PHASE_READY ? t->request_step : phases[t->phase].step;
        DpsError error;

        dps_error_set(&error, f.id, step, "%s %s%s%s", t->peer, f.what, f.why ? ": " : "", f.why ?: "");
        return error;
}

static void fail_by(Mqtt *t, Failure f) {
        DpsError error = peer_error(t, f);

        fail(t, &error);
}

static void fail_as(Mqtt *t, DpsErrorId id, const char *what) {
        fail_by(t, (Failure){ .id = id, .what = what });
}

static void fail_by_memory(Mqtt *t) {
        fail_by(t, failure_from_errno(ENOMEM));
}

static void fail_by_connack(Mqtt *t) {
        Failure f = failure_from_connack(t->connack);
        DpsError error;

        dps_error_set(&error, f.id, DPS_STEP_LOGIN, "%s %s (CONNACK %d)", t->peer, f.what, t->connack);
        fail(t, &error);
}

/* The library failed with `rc`; what it said before, and OpenSSL, know better why. */
static void fail_by_library(Mqtt *t, int rc) {
        DpsError cause, error;

        if (t->connack > 0)
                return fail_by_connack(t);

        tls_context_blame(t->tls, &cause);
        if (cause.id == DPS_ERROR_NONE)
                return fail_by(t, failure_from_library(rc, phases[t->phase].lost));

        dps_error_set(&error, cause.id, cause.step, "%s: %s", t->peer, cause.message);
        fail(t, &error);
}

static void note_address_failure(Mqtt *t, Failure f) {
        if (failure_weight(f.id) >= failure_weight(t->error.id))
                t->error = peer_error(t, f);
        client_drop(t);
}

/* ---- the library's callbacks: notes only ---- */

static void on_connack(struct mosquitto *m, void *userdata, int code) {
        Mqtt *t = userdata;

        t->connack = code;
}

static void on_suback(struct mosquitto *m, void *userdata, int mid, int n_granted, const int *granted) {
        Mqtt *t = userdata;

        t->suback = n_granted == 1 ? granted[0] : SUBACK_FAILURE;
}

static void on_message(struct mosquitto *m, void *userdata, const struct mosquitto_message *message) {
        Mqtt *t = userdata;
        DpsReply reply;

        if (t->n_replies == REPLIES_MAX || dps_reply_parse_topic(message->topic, &reply) < 0)
                return;
        /* Whatever else comes must not take the room of the answer. */
        if (reply.request_id != t->request_id)
                return;

        if (dps_reply_parse_body(&reply, message->payload ?: "", (size_t) message->payloadlen) < 0)
                reply.malformed = "there is no memory to read it";
        t->replies[t->n_replies++] = reply;
}

/* ---- the loop ---- */

static int arm_timer(Mqtt *t, uint64_t in_usec) {
        int r;

        if (!t->timer)
                return sd_event_add_time_relative(t->event, &t->timer, CLOCK_BOOTTIME, in_usec,
                                                  TIMER_ACCURACY_USEC, on_timer, t);

        r = sd_event_source_set_time_relative(t->timer, in_usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(t->timer, SD_EVENT_ONESHOT);
}

static void enter_phase(Mqtt *t, Phase phase) {
        bool has_more = phase == PHASE_CONNECTING && t->addresses[t->n_tried];

        t->phase = phase;
        if (arm_timer(t, has_more ? CONNECT_NEXT_USEC : phases[phase].deadline_usec) < 0)
                fail_by_memory(t);
}

static bool is_handshaking(const Mqtt *t) {
        SSL *ssl = mosquitto_ssl_get(t->client);

        return ssl && !SSL_is_init_finished(ssl);
}

static uint32_t wanted_events(const Mqtt *t) {
        bool writes;

        if (t->phase == PHASE_CONNECTING)
                writes = true;
        else if (is_handshaking(t))
                writes = SSL_want_write(mosquitto_ssl_get(t->client));
        else
                writes = mosquitto_want_write(t->client);
        return EPOLLIN | (writes ? EPOLLOUT : 0);
}

/* To be called after every call of the library that may have changed what it waits for. */
static int watch_socket(Mqtt *t) {
        int fd = mosquitto_socket(t->client);

        if (t->io)
                return sd_event_source_set_io_events(t->io, wanted_events(t));
        return sd_event_add_io(t->event, &t->io, fd, wanted_events(t), on_io, t);
}

/* ---- connecting ---- */

static int client_new(Mqtt *t) {
        struct mosquitto *m = mosquitto_new(t->registration_id, true, t);

        if (!m)
                return MOSQ_ERR_NOMEM;

        t->client = m;
        mosquitto_connect_callback_set(m, on_connack);
        mosquitto_subscribe_callback_set(m, on_suback);
        mosquitto_message_callback_set(m, on_message);
        /* With defaults, it would fill the shared context with CAs, once per client. */
        return mosquitto_username_pw_set(m, t->username, t->password) ||
                               mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1) ||
                               mosquitto_int_option(m, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0) ||
                               mosquitto_void_option(m, MOSQ_OPT_SSL_CTX, tls_context_ssl(t->tls))
                       ? MOSQ_ERR_NOMEM
                       : MOSQ_ERR_SUCCESS;
}

/* "127.0.0.1:8883 (localhost)", "[::1]:8883" */
static int name_peer(Mqtt *t, const char *address) {
        bool is_v6 = strchr(address, ':'), is_host = streq(address, t->host);
        char *peer;

        if (asprintf(&peer, "%s%s%s:%u%s%s%s", is_v6 ? "[" : "", address, is_v6 ? "]" : "", t->port,
                     is_host ? "" : " (", is_host ? "" : t->host, is_host ? "" : ")") < 0)
                return -ENOMEM;

        free(t->peer);
        t->peer = peer;
        return 0;
}

/* Whether there is something to wait for now. A numeric address, so that the library has nothing to look up. */
static bool connect_begin(Mqtt *t, const char *address) {
        int rc, error;

        if (name_peer(t, address) < 0 || client_new(t) != MOSQ_ERR_SUCCESS) {
                note_address_failure(t, failure_from_errno(ENOMEM));
                return false;
        }

        tls_context_hold(t->tls, true);
        errno = 0;
        rc = mosquitto_connect_async(t->client, address, t->port, KEEP_ALIVE_SEC);
        error = errno;
        tls_context_hold(t->tls, false);
        if (rc != MOSQ_ERR_SUCCESS || mosquitto_socket(t->client) < 0) {
                note_address_failure(t, failure_from_errno(rc == MOSQ_ERR_NOMEM ? ENOMEM : error));
                return false;
        }

        if (watch_socket(t) < 0) {
                note_address_failure(t, failure_from_errno(ENOMEM));
                return false;
        }
        return true;
}

static void connect_next(Mqtt *t) {
        while (t->phase != PHASE_CLOSED && t->addresses[t->n_tried]) {
                t->phase = PHASE_CONNECTING;
                if (connect_begin(t, t->addresses[t->n_tried++]))
                        return enter_phase(t, PHASE_CONNECTING);
        }

        fail(t, &t->error);
}

static void on_resolved(const ResolverAnswer *answer, void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);

        t->query = resolver_query_free(t->query);
        if (answer->error != 0)
                return fail_by(t, failure_from_resolver(answer->error));
        if (strv_extend(&t->addresses, answer->addresses) < 0)
                return fail_by_memory(t);
        connect_next(t);
}

/* ---- connected ---- */

static void log_in_done(Mqtt *t) {
        if (mosquitto_subscribe(t->client, NULL, DPS_RESPONSE_FILTER, QOS_AT_LEAST_ONCE) != MOSQ_ERR_SUCCESS)
                return fail_as(t, DPS_ERROR_LOST, "closed the connection after the log-in");

        t->password = erase_and_free(t->password);
        enter_phase(t, PHASE_SUBSCRIBING);
        /* DPS answers in order: a request can follow the subscription in the same flight. */
        if (t->phase == PHASE_SUBSCRIBING)
                t->handlers.on_ready(t->userdata);
}

static void deliver_replies(Mqtt *t) {
        for (size_t i = 0; i < t->n_replies; i++) {
                if (t->phase != PHASE_CLOSED)
                        t->handlers.on_reply(&t->replies[i], t->userdata);
                dps_reply_done(&t->replies[i]);
        }
        t->n_replies = 0;
}

/* How far the handshake is, is seen only from outside. */
static void note_handshake(Mqtt *t) {
        if (t->phase == PHASE_HANDSHAKING && !is_handshaking(t))
                enter_phase(t, PHASE_LOGGING_IN);
}

/* Acts on what the library told. */
static void proceed(Mqtt *t) {
        if (t->phase == PHASE_LOGGING_IN && t->connack > 0)
                fail_by_connack(t);
        if (t->phase == PHASE_LOGGING_IN && t->connack == 0)
                log_in_done(t);
        if (t->is_broken)
                return deliver_replies(t); /* the timer is set for the end */
        if (t->phase == PHASE_SUBSCRIBING && t->suback >= SUBACK_FAILURE)
                fail_as(t, DPS_ERROR_PROTOCOL, "refused the subscription");
        else if ((t->phase == PHASE_SUBSCRIBING && t->suback >= 0) || t->phase == PHASE_READY)
                enter_phase(t, PHASE_READY); /* again: the keep-alive counts from the last traffic */
        deliver_replies(t);
}

static int pump(Mqtt *t, uint32_t revents) {
        bool is_handshake = is_handshaking(t);
        int rc = MOSQ_ERR_SUCCESS;

        tls_context_watch(t->tls);
        if (is_handshake || revents & ~(uint32_t) EPOLLOUT)
                rc = mosquitto_loop_read(t->client, 1);
        /* Not at once after the handshake: what the server thought of our certificate is to be read first. */
        if (rc == MOSQ_ERR_SUCCESS && !is_handshake && mosquitto_want_write(t->client))
                rc = mosquitto_loop_write(t->client, 1);
        if (rc == MOSQ_ERR_SUCCESS && mosquitto_socket(t->client) < 0)
                rc = MOSQ_ERR_CONN_LOST;
        if (rc != MOSQ_ERR_SUCCESS) /* the socket is closed */
                t->io = sd_event_source_disable_unref(t->io);
        return rc;
}

static void connection_failed(Mqtt *t, int rc) {
        DpsError cause;

        deliver_replies(t);
        if (t->phase == PHASE_CLOSED)
                return;

        tls_context_blame(t->tls, &cause);
        if (t->phase != PHASE_HANDSHAKING || t->has_heard || cause.id != DPS_ERROR_NONE)
                return fail_by_library(t, rc);

        /* Not a byte came: that is as good as refused. */
        t->phase = PHASE_CONNECTING;
        note_address_failure(t, failure_from_errno(rc == MOSQ_ERR_NOMEM ? ENOMEM : ECONNRESET));
        connect_next(t);
}

/* Whether the peer has said something that is not read yet, before it hung up perhaps, such as an alert; else why it
 * did, if the kernel still knows: the library may have taken the error away. */
static bool has_last_words(const Mqtt *t, int *ret_error) {
        ssize_t n = recv(mosquitto_socket(t->client), &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT);

        *ret_error = n < 0 ? errno : 0;
        return n > 0;
}

static uint64_t count_received(const Mqtt *t) {
        SSL *ssl = mosquitto_ssl_get(t->client);

        return ssl ? BIO_number_read(SSL_get_rbio(ssl)) : 0;
}

/* The library takes packets of any size, and acknowledges messages without end. */
static bool is_flooded(const Mqtt *t) {
        return t->phase != PHASE_CLOSED && count_received(t) > t->n_received + RECEIVED_MAX;
}

static void exchange(Mqtt *t, uint32_t revents) {
        int error, rc;

        /* Asked beforehand: the library closes the socket with the read that brings both words and end. */
        t->has_heard = t->has_heard || has_last_words(t, &error);
        rc = pump(t, revents);
        if (rc != MOSQ_ERR_SUCCESS)
                return connection_failed(t, rc);

        note_handshake(t);
        proceed(t);
        if (is_flooded(t) && !t->is_broken)
                fail_as(t, DPS_ERROR_PROTOCOL, "sends more than any answer can be");
        if (t->phase != PHASE_CLOSED && !t->is_broken && watch_socket(t) < 0)
                fail_by_memory(t);
}

/* Until we are logged in, a hang-up is the end, whatever the library thinks; but an alert or a refusal may have
 * come just before it, and is read once. */
static void on_hang_up(Mqtt *t) {
        exchange(t, EPOLLIN);
        if (t->phase == PHASE_HANDSHAKING || t->phase == PHASE_LOGGING_IN)
                connection_failed(t, MOSQ_ERR_CONN_LOST);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);
        bool is_hang_up = revents & (EPOLLHUP | EPOLLERR);
        int error;

        if (t->phase == PHASE_CONNECTING && is_hang_up && !has_last_words(t, &error)) {
                note_address_failure(t, failure_from_errno(error));
                connect_next(t);
                return 0;
        }

        if (t->phase == PHASE_CONNECTING) {
                t->has_heard = false;
                enter_phase(t, PHASE_HANDSHAKING);
        }
        if (t->phase == PHASE_CLOSED)
                return 0;
        if (is_hang_up)
                on_hang_up(t);
        else
                exchange(t, revents);
        return 0;
}

/* ---- time ---- */

static void keep_alive(Mqtt *t) {
        int rc = mosquitto_loop_misc(t->client);

        if (rc != MOSQ_ERR_SUCCESS || mosquitto_socket(t->client) < 0) {
                t->io = sd_event_source_disable_unref(t->io);
                return fail_as(t, DPS_ERROR_LOST, "does not answer any more");
        }

        enter_phase(t, PHASE_READY);
        if (t->phase == PHASE_READY && watch_socket(t) < 0)
                fail_by_memory(t);
}

static int on_timer(sd_event_source *s, uint64_t due_usec, void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);

        if (t->is_broken)
                fail(t, &t->error);
        else if (t->phase == PHASE_READY)
                keep_alive(t);
        else if (t->phase == PHASE_CONNECTING) {
                note_address_failure(
                        t, (Failure){ .id = DPS_ERROR_TIMEOUT, .what = phases[PHASE_CONNECTING].silent });
                connect_next(t);
        } else
                fail_as(t, t->phase == PHASE_RESOLVING ? DPS_ERROR_DNS : DPS_ERROR_TIMEOUT,
                        phases[t->phase].silent);
        return 0;
}

/* ---- sending ---- */

/* No handler may be called from here. */
static int break_soon(Mqtt *t) {
        t->io = sd_event_source_disable_unref(t->io);
        t->error = peer_error(t, (Failure){ .id = DPS_ERROR_LOST, .what = phases[PHASE_READY].lost });
        t->is_broken = true;
        return arm_timer(t, 0);
}

static int mqtt_send(Transport *transport, const DpsRequest *request, const char *body) {
        Mqtt *t = (Mqtt *) transport;
        _cleanup_(freep) char *topic = NULL;
        int r, rc;

        if (t->is_broken || (t->phase != PHASE_SUBSCRIBING && t->phase != PHASE_READY))
                return -ENOTCONN;

        r = dps_request_topic(request, &topic);
        if (r < 0)
                return r;

        t->request_id = request->request_id;
        t->n_received = count_received(t);
        t->request_step = request->kind == DPS_REQUEST_POLL ? DPS_STEP_POLL : DPS_STEP_REGISTER;
        rc = mosquitto_publish(t->client, NULL, topic, body ? (int) strlen(body) : 0, body, QOS_AT_LEAST_ONCE,
                               false);
        if (mosquitto_socket(t->client) < 0)
                return break_soon(t);

        switch (rc) {
        case MOSQ_ERR_SUCCESS:
                break;
        case MOSQ_ERR_NOMEM:
                return -ENOMEM;
        case MOSQ_ERR_INVAL:
        case MOSQ_ERR_PAYLOAD_SIZE:
        case MOSQ_ERR_MALFORMED_UTF8:
                return -EINVAL;
        default:
                return break_soon(t);
        }

        if (t->phase == PHASE_READY) {
                r = arm_timer(t, KEEP_ALIVE_USEC);
                if (r < 0)
                        return r;
        }
        return watch_socket(t);
}

/* ---- beginning ---- */

static const TransportOperations operations = { .send = mqtt_send, .free = mqtt_free };

static int copy_target(Mqtt *t, const TransportTarget *target) {
        t->event = sd_event_ref(target->event);
        t->tls = tls_context_ref(target->tls);
        t->port = target->port;
        t->host = strdup(target->host);
        t->peer = strdup(target->host);
        t->registration_id = strdup(target->registration_id);
        t->username = strdup(target->username);
        if (!t->host || !t->peer || !t->registration_id || !t->username)
                return -ENOMEM;

        if (target->password) {
                t->password = strdup(target->password);
                if (!t->password)
                        return -ENOMEM;
        }
        return 0;
}

int mqtt_init(void) {
        return mosquitto_lib_init() == MOSQ_ERR_SUCCESS ? 0 : -ENOMEM;
}

void mqtt_done(void) {
        (void) mosquitto_lib_cleanup();
}

int mqtt_connect(const TransportTarget *target, const TransportHandlers *handlers, void *userdata,
                 Transport **ret) {
        _cleanup_(mqtt_unrefp) Mqtt *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;

        *t = (Mqtt){ .transport = { &operations },
                     .n_refs = 1,
                     .handlers = *handlers,
                     .userdata = userdata,
                     .connack = -1,
                     .suback = -1 };
        r = copy_target(t, target);
        if (r < 0)
                return r;
        r = resolver_lookup(target->resolver, t->host, on_resolved, t, &t->query);
        if (r < 0)
                return r;
        r = arm_timer(t, RESOLVE_DEADLINE_USEC);
        if (r < 0)
                return r;

        *ret = &TAKE_PTR(t)->transport;
        return 0;
}
