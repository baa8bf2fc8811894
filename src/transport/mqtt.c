/* SPDX-License-Identifier: MIT */
#include "transport/mqtt.h"

#include <errno.h>
#include <mosquitto.h>
#include <netdb.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

#include "basic/cleanup.h"
#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/request.h"
#include "transport/approach.h"
#include "transport/failure.h"
#include "transport/transport-module.h"
#include "transport/tunnel.h"

/*
 *      RESOLVING ──> CONNECTING ──> (TUNNELING ──>) HANDSHAKING ──> LOGGING_IN ──> SUBSCRIBING ──> READY
 *                      ^────┘ next address                                    requests may be sent
 *                                                                                          from each: CLOSED
 *
 * libmosquitto is driven from our loop, with one client for each address tried. Its behavior decides much here:
 *   - It closes its socket by itself when a call fails. So the io source is dropped as soon as a call has failed, before
 *     anything else is opened that might get the same number.
 *   - It must not be called from its own callbacks. They take notes, which are acted on once it has returned.
 *   - Until the handshake is over it always wants to write, and takes a refused connection for a success. So OpenSSL is
 *     asked what it waits for, and a hang-up is the end.
 *   - It frees its SSL when it closes the socket. So we keep a reference, to learn why the handshake failed.
 */

#define CONNECT_DEADLINE_USEC (10 * USEC_PER_SEC)
#define CONNECT_NEXT_USEC (3 * USEC_PER_SEC) /* where another address can be tried */
#define ANSWER_DEADLINE_USEC (15 * USEC_PER_SEC)
#define TIMER_ACCURACY_USEC (250 * USEC_PER_MSEC)
#define KEEP_ALIVE_SEC 60
/* Since the last traffic. The library counts whole seconds, hence a little later than it is due. */
#define KEEP_ALIVE_USEC ((KEEP_ALIVE_SEC + 1) * USEC_PER_SEC)
#define QOS_AT_LEAST_ONCE 1
#define SUBACK_FAILURE 0x80
#define RECEIVED_MAX (4U * DPS_REPLY_SIZE_MAX)    /* bytes for one request, whatever they are */
#define PACKETS_MAX 512                           /* received and sent for one request */
#define SENDING_DEADLINE_USEC (10 * USEC_PER_SEC) /* of the next byte, where there are some to be sent */
#define REPLIES_MAX 4                             /* to one request, in one read; one is the rule */

typedef enum Phase {
        PHASE_RESOLVING,
        PHASE_CONNECTING,
        PHASE_TUNNELING, /* with a proxy */
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
        [PHASE_RESOLVING] = { DPS_STEP_RESOLVE, USEC_INFINITY, NULL, NULL },
        [PHASE_CONNECTING] = { DPS_STEP_CONNECT, CONNECT_DEADLINE_USEC, "refused the connection",
                               "does not answer" },
        [PHASE_TUNNELING] = { DPS_STEP_CONNECT, ANSWER_DEADLINE_USEC,
                              "closed the connection instead of connecting us",
                              "accepted the connection, but does not answer" },
        [PHASE_HANDSHAKING] = { DPS_STEP_TLS, ANSWER_DEADLINE_USEC,
                                "closed the connection during the TLS handshake",
                                "accepted the connection, but does not answer in the TLS handshake" },
        [PHASE_LOGGING_IN] = { DPS_STEP_LOGIN, ANSWER_DEADLINE_USEC,
                               "closed the connection instead of answering the log-in",
                               "does not answer the log-in" },
        [PHASE_SUBSCRIBING] = { DPS_STEP_SUBSCRIBE, ANSWER_DEADLINE_USEC,
                                "closed the connection instead of answering the subscription",
                                "does not answer the subscription" },
        [PHASE_READY] = { DPS_STEP_NONE, KEEP_ALIVE_USEC, "closed the connection", NULL },
};

typedef struct MqttClass {
        TransportClass class; /* first */
        sd_event *event;
        Approaches approaches;
        bool has_library; /* libmosquitto is initialized */
} MqttClass;

typedef struct Mqtt {
        Transport transport; /* first */
        unsigned n_refs;     /* the owner's, and one during each handler of the loop */

        Approach *approach;
        char *registration_id, *username;
        char *token;  /* a secret, kept until we are logged in */
        bool is_slow; /* the key of our certificate */
        TransportHandlers handlers;
        void *userdata;

        Phase phase;
        size_t n_tried; /* of the addresses */
        size_t n_heard; /* bytes, in a handshake that lacked the system's bundle */
        char *peer;     /* "127.0.0.1:8883 (localhost)", for errors */
        DpsError error; /* why the addresses tried so far failed, or, if is_broken, why the connection did */
        bool is_broken; /* closes at the next turn of the loop */

        struct mosquitto *client;
        SSL *ssl; /* the client's, a reference */
        Tunnel *tunnel;
        sd_event_source *io;
        Timer *timer;         /* the phase's deadline; when READY, keep-alive */
        bool has_heard;       /* at least a byte */
        DpsStep request_step; /* of the request sent last */
        uint64_t request_id;  /* of it */
        uint64_t n_received;  /* bytes, when it was sent */
        bool is_sending;      /* the timer is for the next byte; so many were sent when it was set: */
        uint64_t n_sent;

        /* What the library's callbacks have noted: */
        int connack; /* -1: nothing yet */
        int suback;  /* -1: nothing yet */
        DpsReply replies[REPLIES_MAX];
        size_t n_replies;
        size_t n_packets; /* since the request was sent */
} Mqtt;

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata);

/* ---- life ---- */

static MqttClass *class_of(const Mqtt *t) {
        return (MqttClass *) t->transport.class;
}

static Mqtt *mqtt_ref(Mqtt *t) {
        t->n_refs++;
        return t;
}

/* Never from within a callback of the library. */
static void client_drop(Mqtt *t) {
        t->io = sd_event_source_disable_unref(t->io);
        if (t->ssl)
                tls_connection_stop_signing(t->ssl);
        if (t->client)
                mosquitto_destroy(t->client);
        t->client = NULL;
        t->tunnel = tunnel_free(t->tunnel);
        SSL_free(t->ssl);
        t->ssl = NULL;
}

static void mqtt_close(Mqtt *t) {
        t->phase = PHASE_CLOSED;
        t->timer = timer_free(t->timer);
        client_drop(t);
}

static Mqtt *mqtt_unref(Mqtt *t) {
        if (!t || --t->n_refs > 0)
                return NULL;

        mqtt_close(t);
        approach_free(t->approach);
        free(t->peer);
        free(t->registration_id);
        free(t->username);
        erase_and_free(t->token);
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

static DpsErrorId error_id(const Mqtt *t, DpsErrorId id) {
        bool is_proxys = t->approach->proxy && t->phase <= PHASE_TUNNELING;

        return is_proxys && id != DPS_ERROR_MEMORY && id != DPS_ERROR_UNREACHABLE ? DPS_ERROR_PROXY : id;
}

static DpsError peer_error(const Mqtt *t, Failure f) {
        DpsStep step = t->phase == PHASE_READY ? t->request_step : phases[t->phase].step;
        DpsError error;

        dps_error_set(&error, error_id(t, f.id), step, "%s %s%s%s", t->peer, f.what, f.why ? ": " : "",
                      f.why ?: "");
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

static void note_address_failure(Mqtt *t, Failure f) {
        if (failure_weight(f.id) >= failure_weight(t->error.id))
                t->error = peer_error(t, f);
        client_drop(t);
}

/* ---- callbacks of the library ---- */

static void on_connack(struct mosquitto *m, void *userdata, int code) {
        Mqtt *t = userdata;

        t->connack = code;
}

static void on_suback(struct mosquitto *m, void *userdata, int mid, int n_granted, const int *granted) {
        Mqtt *t = userdata;

        t->suback = n_granted == 1 ? granted[0] : SUBACK_FAILURE;
}

/* Called for each packet that comes or goes: most of them cause no other callback, and each that comes may cost memory, or
 * one that goes. */
static void on_log(struct mosquitto *m, void *userdata, int level, const char *text) {
        Mqtt *t = userdata;

        t->n_packets++;
}

static void on_message(struct mosquitto *m, void *userdata, const struct mosquitto_message *message) {
        Mqtt *t = userdata;
        DpsReply reply;

        if (t->n_replies == REPLIES_MAX || dps_reply_parse_topic(message->topic, &reply) < 0)
                return;
        /* Other messages must not use up the places for answers. */
        if (reply.request_id != t->request_id)
                return;

        if (dps_reply_parse_body(&reply, message->payload ?: "", (size_t) message->payloadlen) < 0)
                reply.malformed = "there is no memory to parse it";
        t->replies[t->n_replies++] = reply;
}

/* ---- the loop ---- */

static void arm_timer(Mqtt *t, uint64_t in_usec) {
        uint64_t now_usec = world_now_usec(class_of(t)->approaches.world, CLOCK_BOOTTIME);

        timer_set(t->timer, usec_add(now_usec, in_usec), TIMER_ACCURACY_USEC);
}

static void enter_phase(Mqtt *t, Phase phase) {
        bool has_more = phase == PHASE_CONNECTING && t->approach->addresses[t->n_tried];

        t->phase = phase;
        t->is_sending = false;
        arm_timer(t, has_more ? CONNECT_NEXT_USEC : phases[phase].deadline_usec);
}

/* Whatever comes counts as a sign of life only from a peer that also reads. */
static void stay_ready(Mqtt *t) {
        uint64_t n_sent = BIO_number_written(SSL_get_wbio(t->ssl));

        if (!mosquitto_want_write(t->client))
                return enter_phase(t, PHASE_READY);
        if (t->phase == PHASE_READY && t->is_sending && n_sent == t->n_sent)
                return;
        t->phase = PHASE_READY;
        t->is_sending = true;
        t->n_sent = n_sent;
        arm_timer(t, SENDING_DEADLINE_USEC);
}

static bool is_handshaking(const Mqtt *t) {
        return !SSL_is_init_finished(t->ssl);
}

static uint32_t wanted_events(const Mqtt *t) {
        bool writes;

        if (t->phase == PHASE_CONNECTING)
                writes = true;
        else if (t->phase == PHASE_TUNNELING)
                writes = tunnel_state(t->tunnel) == TUNNEL_SENDS;
        else if (is_handshaking(t))
                writes = SSL_want_write(t->ssl);
        else
                writes = mosquitto_want_write(t->client);
        return EPOLLIN | (writes ? EPOLLOUT : 0);
}

/* To be called after every call of the library that may have changed what it waits for. */
static int watch_socket(Mqtt *t) {
        int fd = mosquitto_socket(t->client);

        if (tls_connection_is_signing(t->ssl)) {
                t->io = sd_event_source_disable_unref(t->io);
                return 0;
        }
        if (t->io)
                return sd_event_source_set_io_events(t->io, wanted_events(t));
        return sd_event_add_io(class_of(t)->event, &t->io, fd, wanted_events(t), on_io, t);
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
        mosquitto_log_callback_set(m, on_log);
        /* With defaults, each client would add CAs to the shared context. */
        return mosquitto_username_pw_set(m, t->username, t->token) ||
                               mosquitto_int_option(m, MOSQ_OPT_TCP_NODELAY, 1) ||
                               mosquitto_int_option(m, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0) ||
                               mosquitto_void_option(m, MOSQ_OPT_SSL_CTX, tls_context_ssl(t->approach->tls))
                       ? MOSQ_ERR_NOMEM
                       : MOSQ_ERR_SUCCESS;
}

/* Why there is no way to an address: an errno, or 0 if there is one. Sends nothing. */
static int route_error(const char *address) {
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM }, *a = NULL;
        _cleanup_(closep) int fd = -1;
        int error = 0;

        if (getaddrinfo(address, "9", &hints, &a) != 0)
                return 0;
        fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) < 0)
                error = errno;
        freeaddrinfo(a);
        return error;
}

/* `address` is numeric, so that the library has nothing to look up. Fails with an errno in `ret_error`, or 0 where the
 * library does not tell. */
static bool client_connect(Mqtt *t, const char *address, int *ret_error) {
        const Approach *a = t->approach;
        int rc;

        *ret_error = ENOMEM;
        if (approach_name_peer(a, a->proxy ? NULL : address, &t->peer) < 0 ||
            client_new(t) != MOSQ_ERR_SUCCESS)
                return false;
        if (a->proxy && tunnel_new(a->proxy, a->asked, a->port, &t->tunnel) < 0)
                return false;

        tls_context_hold(a->tls, a->proxy ? TLS_HOLD_ALL : TLS_HOLD_READS, t->n_heard);
        errno = 0;
        rc = mosquitto_connect_async(t->client, address, a->proxy ? a->proxy->port : a->port, KEEP_ALIVE_SEC);
        if (rc != MOSQ_ERR_NOMEM)
                *ret_error = errno;
        if (*ret_error == EBADF) /* libmosquitto 2.1 asks for the peer of a socket that it has closed */
                *ret_error = route_error(address);
        tls_context_hold(a->tls, TLS_HOLD_NOTHING, 0);
        if (rc != MOSQ_ERR_SUCCESS || mosquitto_socket(t->client) < 0)
                return false;

        *ret_error = ENOMEM;
        t->ssl = mosquitto_ssl_get(t->client);
        if (!t->ssl)
                return false;
        SSL_up_ref(t->ssl);
        if (!a->proxy)
                tls_connection_release(t->ssl);
        return watch_socket(t) >= 0;
}

static void connect_next(Mqtt *t) {
        while (t->approach->addresses[t->n_tried]) {
                int error;

                t->phase = PHASE_CONNECTING;
                if (client_connect(t, t->approach->addresses[t->n_tried++], &error))
                        return enter_phase(t, PHASE_CONNECTING);
                note_address_failure(t, failure_from_errno(error));
        }

        fail(t, &t->error);
}

static int on_signed(SSL *ssl, void *userdata);

static void on_approached(const DpsError *error, void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);

        if (error)
                fail(t, error);
        else if (t->is_slow && tls_context_set_slow(t->approach->tls, on_signed, t) < 0)
                fail_by_memory(t);
        else
                connect_next(t);
}

/* ---- the proxy ---- */

/* Returns false if the proxy has gone. */
static bool carry(Tunnel *tunnel, int fd) {
        char bytes[1024];
        const char *output;
        size_t size;
        ssize_t n;

        if (tunnel_state(tunnel) == TUNNEL_SENDS) {
                output = tunnel_output(tunnel, &size);
                n = send(fd, output, size, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n > 0)
                        tunnel_sent(tunnel, (size_t) n);
        } else {
                n = recv(fd, bytes, MIN(tunnel_wanted(tunnel), sizeof(bytes)), MSG_DONTWAIT);
                if (n > 0)
                        tunnel_received(tunnel, bytes, (size_t) n);
        }
        return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Also after a hang-up, since an answer may have come before it. */
static void converse(Mqtt *t) {
        bool is_there = carry(t->tunnel, mosquitto_socket(t->client));

        switch (tunnel_state(t->tunnel)) {
        case TUNNEL_SENDS:
        case TUNNEL_READS:
                if (!is_there)
                        return fail_as(t, DPS_ERROR_PROXY, phases[PHASE_TUNNELING].lost);
                break;
        case TUNNEL_FAILED:
                return fail(t, tunnel_error(t->tunnel));
        case TUNNEL_OPEN:
                if (approach_name_peer(t->approach, t->approach->asked, &t->peer) < 0)
                        return fail_by_memory(t);
                t->tunnel = tunnel_free(t->tunnel);
                t->has_heard = true;
                tls_connection_release(t->ssl);
                enter_phase(t, PHASE_HANDSHAKING);
                break;
        }
        if (watch_socket(t) < 0)
                fail_by_memory(t);
}

/* ---- connected ---- */

static void log_in_done(Mqtt *t) {
        if (mosquitto_subscribe(t->client, NULL, DPS_RESPONSE_FILTER, QOS_AT_LEAST_ONCE) != MOSQ_ERR_SUCCESS)
                return fail_as(t, DPS_ERROR_LOST, "closed the connection after the log-in");

        t->token = erase_and_free(t->token);
        enter_phase(t, PHASE_SUBSCRIBING);
        /* DPS answers in order: a request can follow the subscription in the same flight. */
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

/* The library does not say when the handshake is over. */
static void note_handshake(Mqtt *t) {
        if (t->phase == PHASE_HANDSHAKING && !is_handshaking(t))
                enter_phase(t, PHASE_LOGGING_IN);
}

/* Acts on what the callbacks have noted. */
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
                stay_ready(t); /* again: the keep-alive counts from the last traffic */
        deliver_replies(t);
}

/* libmosquitto takes a pause for an error. Its own calls find the handshake finished. */
static int shake_hands(Mqtt *t) {
        int r;

        ERR_clear_error();
        r = SSL_do_handshake(t->ssl);
        switch (SSL_get_error(t->ssl, r)) {
        case SSL_ERROR_NONE:
                return mosquitto_loop_read(t->client, 1); /* it notices that it is connected */
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
        case SSL_ERROR_WANT_ASYNC:
                return MOSQ_ERR_SUCCESS;
        default:
                return MOSQ_ERR_CONN_LOST;
        }
}

static int pump(Mqtt *t, uint32_t revents) {
        bool is_handshake = is_handshaking(t);
        int rc = MOSQ_ERR_SUCCESS;

        if (is_handshake && t->is_slow)
                rc = shake_hands(t);
        else if (is_handshake || revents & ~(uint32_t) EPOLLOUT)
                rc = mosquitto_loop_read(t->client, 1);
        /* Not in the turn in which the handshake ends: if the server refused our certificate, that is to be read first. */
        if (rc == MOSQ_ERR_SUCCESS && !is_handshake && mosquitto_want_write(t->client))
                rc = mosquitto_loop_write(t->client, 1);
        /* In a handshake, the library takes the end for a pause. */
        if (rc == MOSQ_ERR_SUCCESS && (mosquitto_socket(t->client) < 0 || tls_connection_is_flooded(t->ssl)))
                rc = MOSQ_ERR_CONN_LOST;
        if (rc != MOSQ_ERR_SUCCESS) /* the socket is closed */
                t->io = sd_event_source_disable_unref(t->io);
        return rc;
}

static uint64_t count_received(const Mqtt *t) {
        return BIO_number_read(SSL_get_rbio(t->ssl));
}

/* The system's bundle may know the CA that its directory does not. Connects to the same address again when it is read. */
static bool connect_with_bundle(Mqtt *t) {
        if (!tls_connection_lacks_bundle(tls_connection_of(t->ssl)) || !approach_read_bundle(t->approach))
                return false;
        t->n_heard = count_received(t);
        client_drop(t);
        t->n_tried--;
        enter_phase(t, PHASE_RESOLVING);
        return true;
}

/* The library failed with `rc`. What MQTT and TLS have said before explains more. */
static void connection_failed(Mqtt *t, int rc) {
        DpsError cause, error;

        deliver_replies(t);
        if (t->phase == PHASE_CLOSED)
                return;
        if (t->connack > 0)
                return fail_by_connack(t);

        if (connect_with_bundle(t))
                return;
        tls_connection_error(t->ssl, &cause);
        if (cause.id == DPS_ERROR_PROTOCOL)
                return fail_as(t, cause.id, cause.message);
        if (cause.id != DPS_ERROR_NONE) {
                dps_error_set(&error, cause.id, cause.step, "%s: %s", t->peer, cause.message);
                return fail(t, &error);
        }
        if (t->phase != PHASE_HANDSHAKING || t->has_heard)
                return fail_by(t, failure_from_library(rc, phases[t->phase].lost));

        /* Not a byte came: that is the same as a refused connection. */
        t->phase = PHASE_CONNECTING;
        note_address_failure(t, failure_from_errno(rc == MOSQ_ERR_NOMEM ? ENOMEM : ECONNRESET));
        connect_next(t);
}

/* Whether there are bytes of the peer to read, such as an alert that it sent before it hung up. If not, `ret_error` is why
 * it did, or 0 where the library has already taken the error away. */
static bool has_unread_bytes(const Mqtt *t, int *ret_error) {
        ssize_t n = recv(mosquitto_socket(t->client), &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT);

        *ret_error = n < 0 ? errno : 0;
        return n > 0;
}

/* The library has no limit for the size of a packet, nor for the number of messages. */
static bool is_flooded(const Mqtt *t) {
        return t->phase != PHASE_CLOSED &&
               (count_received(t) > t->n_received + RECEIVED_MAX || t->n_packets > PACKETS_MAX);
}

static void exchange(Mqtt *t, uint32_t revents) {
        int error, rc;

        /* Asked first, since one read may bring the last bytes and the end, and then the library closes the socket. */
        t->has_heard = t->has_heard || has_unread_bytes(t, &error);
        rc = pump(t, revents);
        if (rc != MOSQ_ERR_SUCCESS)
                return connection_failed(t, rc);

        note_handshake(t);
        proceed(t);
        if (is_flooded(t) && !t->is_broken)
                fail_as(t, DPS_ERROR_PROTOCOL, "sent more data than any answer has");
        if (t->phase != PHASE_CLOSED && !t->is_broken && watch_socket(t) < 0)
                fail_by_memory(t);
}

/* Until we are logged in a hang-up is the end, whatever the library thinks. But an alert or a CONNACK may have come just
 * before it, so that it is read once more. */
static void on_hang_up(Mqtt *t) {
        exchange(t, EPOLLIN);
        if (t->phase == PHASE_HANDSHAKING || t->phase == PHASE_LOGGING_IN)
                connection_failed(t, MOSQ_ERR_CONN_LOST);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);
        bool is_hang_up = revents & (EPOLLHUP | EPOLLERR);
        int error;

        if (t->phase == PHASE_CONNECTING && is_hang_up && !has_unread_bytes(t, &error)) {
                note_address_failure(t, failure_from_errno(error));
                connect_next(t);
                return 0;
        }

        if (t->phase == PHASE_CONNECTING) {
                t->has_heard = false;
                enter_phase(t, t->approach->proxy ? PHASE_TUNNELING : PHASE_HANDSHAKING);
        }
        if (t->phase == PHASE_TUNNELING)
                converse(t);
        if (t->phase == PHASE_CLOSED || t->tunnel)
                return 0;
        if (is_hang_up)
                on_hang_up(t);
        else
                exchange(t, revents);
        return 0;
}

/* The key has signed. */
static int on_signed(SSL *ssl, void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);

        if (t->phase == PHASE_HANDSHAKING && ssl == t->ssl)
                exchange(t, EPOLLIN);
        return 1;
}

/* ---- time ---- */

static void keep_alive(Mqtt *t) {
        int rc = mosquitto_loop_misc(t->client);

        if (rc != MOSQ_ERR_SUCCESS || mosquitto_socket(t->client) < 0) {
                t->io = sd_event_source_disable_unref(t->io);
                return fail_as(t, DPS_ERROR_LOST, "no longer answers");
        }

        enter_phase(t, PHASE_READY);
        if (watch_socket(t) < 0)
                fail_by_memory(t);
}

static void on_timer(void *userdata) {
        _cleanup_(mqtt_unrefp) Mqtt *t = mqtt_ref(userdata);

        if (t->is_broken)
                fail(t, &t->error);
        else if (t->is_sending)
                fail_as(t, DPS_ERROR_LOST, "does not accept what it is sent");
        else if (t->phase == PHASE_READY)
                keep_alive(t);
        else if (t->phase == PHASE_CONNECTING) {
                note_address_failure(
                        t, (Failure){ .id = DPS_ERROR_TIMEOUT, .what = phases[PHASE_CONNECTING].silent });
                connect_next(t);
        } else if (t->ssl && tls_connection_is_signing(t->ssl))
                fail_as(t, DPS_ERROR_KEY,
                        "waits in vain for a signature: the device's own key does not answer");
        else
                fail_as(t, DPS_ERROR_TIMEOUT, phases[t->phase].silent);
}

/* ---- sending ---- */

/* The handler is called in the next turn of the loop, not from within the call of our user. */
static void fail_soon(Mqtt *t) {
        t->io = sd_event_source_disable_unref(t->io);
        t->error = peer_error(t, (Failure){ .id = DPS_ERROR_LOST, .what = phases[PHASE_READY].lost });
        t->is_broken = true;
        arm_timer(t, 0);
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
        t->n_packets = 0;
        t->request_step = request->kind == DPS_REQUEST_POLL ? DPS_STEP_POLL : DPS_STEP_REGISTER;
        rc = mosquitto_publish(t->client, NULL, topic, body ? (int) strlen(body) : 0, body, QOS_AT_LEAST_ONCE,
                               false);
        if (mosquitto_socket(t->client) < 0)
                rc = MOSQ_ERR_CONN_LOST;

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
                fail_soon(t);
                return 0;
        }

        if (t->phase == PHASE_READY)
                stay_ready(t);
        return watch_socket(t);
}

/* ---- the class ---- */

static int copy_target(Mqtt *t, const TransportTarget *target) {
        t->is_slow = target->is_slow;
        t->peer = strdup(target->host);
        t->registration_id = strdup(target->registration_id);
        if (!t->peer || !t->registration_id)
                return -ENOMEM;
        if (target->token) {
                t->token = strdup(target->token);
                if (!t->token)
                        return -ENOMEM;
        }
        return dps_mqtt_username(target->id_scope, target->registration_id, target->api_version,
                                 &t->username);
}

static int mqtt_new(MqttClass *c, const TransportTarget *target, Mqtt **ret) {
        _cleanup_(mqtt_unrefp) Mqtt *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;

        *t = (Mqtt){ .transport = { &c->class }, .n_refs = 1, .connack = -1, .suback = -1 };
        r = copy_target(t, target);
        if (r >= 0)
                r = timer_new(c->approaches.world, on_timer, t, &t->timer);
        if (r >= 0)
                r = approach_new(&c->approaches, target, on_approached, t, &t->approach);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(t);
        return 0;
}

static int mqtt_connect(TransportClass *class, const TransportTarget *target,
                        const TransportHandlers *handlers, void *userdata, Transport **ret, DpsError *error) {
        MqttClass *c = (MqttClass *) class;
        Mqtt *t = NULL;
        int r;

        if (target->proxy && target->proxy->kind == PROXY_HTTPS) {
                dps_error_set(
                        error, DPS_ERROR_PROXY, DPS_STEP_CONFIG,
                        "MQTT cannot go through a proxy that is reached by TLS (https://); use http:// or "
                        "socks5h://, or set Transport=https");
                return -EOPNOTSUPP;
        }
        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "there is no memory for a connection");
        /* For the first connection only, so that a start with a cached assignment need not pay for it. */
        if (!c->has_library && mosquitto_lib_init() != MOSQ_ERR_SUCCESS)
                return -ENOMEM;
        c->has_library = true;
        r = mqtt_new(c, target, &t);
        if (r < 0)
                return r;

        t->handlers = *handlers;
        t->userdata = userdata;
        *error = (DpsError){ 0 };
        *ret = &t->transport;
        return 0;
}

static void mqtt_rest(TransportClass *class) {
        approaches_rest(&((MqttClass *) class)->approaches);
}

static TransportClass *mqtt_close_class(TransportClass *class) {
        MqttClass *c = (MqttClass *) class;

        approaches_done(&c->approaches);
        if (c->has_library)
                (void) mosquitto_lib_cleanup();
        sd_event_unref(c->event);
        free(c);
        return NULL;
}

int mqtt_transport_open(sd_event *event, World *world, TransportClass **ret) {
        MqttClass *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;

        *c = (MqttClass){ .class = { .name = "mqtt",
                                     .abilities = TRANSPORT_LOG_IN,
                                     .connect = mqtt_connect,
                                     .send = mqtt_send,
                                     .free = mqtt_free,
                                     .rest = mqtt_rest,
                                     .close = mqtt_close_class },
                          .event = sd_event_ref(event) };
        approaches_init(&c->approaches, world);
        *ret = &c->class;
        return 0;
}

static const TransportModule mqtt_module = { .open = mqtt_transport_open };

MODULE_DEFINE("mqtt", "transport", &mqtt_module);
