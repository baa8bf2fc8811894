/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "build-config.h"
#include "checks.h"
#include "chip.h"
#include "emulator/attest.h"
#include "emulator/rest.h"
#include "keys.h"
#include "machine.h"
#include "memory.h"
#include "world.h"

/*
 *      MQTT     connect() ──> name, TCP, TLS, login (one event) ──> on_ready
 *               send() ──> arrives at the service ──> the answer arrives ──> on_reply
 *      HTTPS    connect() ──> name ──> on_ready
 *               send() ──> TCP, TLS, if there is no connection (any more) ──> as above; each request shows the token
 *
 * What the service answers is computed by the emulator's own code, in the moment in which the request arrives.
 */

#define DIAL_TIMEOUT_USEC (20 * USEC_PER_SEC)
/* As transport/https.c has them. */
#define HTTPS_DIAL_TIMEOUT_USEC (15 * USEC_PER_SEC)
#define HTTPS_ANSWER_TIMEOUT_USEC (25 * USEC_PER_SEC)
#define HTTPS_HANG_UP_PERCENT 20 /* how often the server closes a connection between two requests */
/* The service's clock is right, and so is the machine's when nothing has set it. */
#define SERVICE_EPOCH_USEC ((DPS_BUILD_TIME_SEC + 30 * 86400) * USEC_PER_SEC)
#define CERTIFICATE_YEARS 5

/* Of a device that can send requests; as long as there are messages of it. */
typedef struct SimSession {
        unsigned n_references;
        TransportChoice way;
        char *id;
        Caller caller;                    /* MQTT: who logged in */
        char *token;                      /* HTTPS: of each request; NULL: none */
        struct SimConnection *connection; /* NULL: it is closed */
} SimSession;

typedef struct SimConnection {
        Transport transport;
        Net *net;
        TransportHandlers handlers;
        void *userdata;
        char *id, *user_name, *token;
        Event *event;        /* the next thing that happens to it by itself */
        SimSession *session; /* NULL: nothing can be sent */
        bool is_closed, is_watched;
        /* HTTPS: */
        char *path, *api_version;
        bool is_connected; /* TCP and TLS stand */
        DpsRequest request;
        char *target, *body; /* of the request that waits for its answer; NULL: there is none */
        Event *deadline;
        struct SimConnection *next;
} SimConnection;

typedef struct Message {
        Net *net;
        SimSession *session;
        Event *event;
        char *topic, *body;
        uint64_t sent_usec;
        bool is_answer;
        uint64_t request_id; /* HTTPS */
        struct Message *next;
} Message;

struct Net {
        Sim *sim;
        Service *service;
        NetFault fault;                   /* of the whole network */
        NetFault blocked[_TRANSPORT_MAX]; /* what a firewall does with one way */
        SimConnection *connections;
        Message *messages;
        Random dice, ways, service_random; /* `ways`: what only HTTPS needs */
        bool is_moving;
        unsigned n_moves;
        size_t padding;
};

typedef struct SimTransport {
        TransportClass class;
        Net *net;
        TransportChoice way;
} SimTransport;

static TransportChoice way_of(const SimConnection *c) {
        return ((const SimTransport *) c->transport.class)->way;
}

static NetFault fault_of(const Net *n, TransportChoice way) {
        return n->fault == NET_FAULT_NONE ? n->blocked[way] : n->fault;
}

uint64_t net_service_usec(const Net *n) {
        return SERVICE_EPOCH_USEC + n->sim->now_usec;
}

static uint64_t latency(Net *n) {
        uint64_t usec = 5000 + random_wait_usec(&n->dice, 40000);

        return n->fault == NET_FAULT_SLOW ? usec + random_wait_usec(&n->dice, 4 * USEC_PER_SEC) : usec;
}

/* ---- sessions and messages ---- */

static SimSession *session_unref(SimSession *k) {
        if (!k || --k->n_references > 0)
                return NULL;
        caller_done(&k->caller);
        sim_free(k->id);
        sim_free(k->token);
        sim_free(k);
        return NULL;
}

static SimSession *session_new(SimConnection *c) {
        SimSession *k = sim_alloc(sizeof(*k));

        *k = (SimSession){ .n_references = 1, .way = way_of(c), .id = sim_copy(c->id), .connection = c };
        c->session = k;
        return k;
}

static void message_free(Message *m) {
        Message **p = &m->net->messages;

        while (*p != m)
                p = &(*p)->next;
        *p = m->next;
        event_cancel(m->net->sim, m->event);
        session_unref(m->session);
        sim_free(m->topic);
        sim_free(m->body);
        sim_free(m);
}

static void on_message(Sim *s, void *userdata);

/* Copies what it needs. */
static Message *message_send(Net *n, SimSession *session, bool is_answer, const char *topic, const char *body,
                             uint64_t delay_usec) {
        Message *m = sim_alloc(sizeof(*m));

        session->n_references++;
        *m = (Message){ .net = n,
                        .session = session,
                        .topic = sim_copy(topic),
                        .body = sim_copy(body),
                        .sent_usec = n->sim->now_usec,
                        .is_answer = is_answer,
                        .next = n->messages };
        n->messages = m;
        m->event = event_add(n->sim, n->sim->now_usec + delay_usec + latency(n), on_message, m);
        return m;
}

/* ---- the end of a connection ---- */

static void unwatch(SimConnection *c) {
        if (c->is_watched)
                checks_disconnected(c->net->sim, c->id);
        c->is_watched = false;
}

static void leave_session(SimConnection *c) {
        if (!c->session)
                return;
        c->session->connection = NULL;
        c->session = session_unref(c->session);
}

static void forget_request(SimConnection *c) {
        c->deadline = event_cancel(c->net->sim, c->deadline);
        sim_free(c->target);
        sim_free(c->body);
        c->target = c->body = NULL;
}

static DpsStep request_step(const SimConnection *c) {
        return c->request.kind == DPS_REQUEST_REGISTER ? DPS_STEP_REGISTER : DPS_STEP_POLL;
}

static void close_connection(SimConnection *c, DpsErrorId id, DpsStep step, const char *why) {
        Sim *s = c->net->sim;
        DpsError error;

        c->event = event_cancel(s, c->event);
        forget_request(c);
        c->is_closed = true;
        leave_session(c);
        unwatch(c);
        trace(s, "net: %s: closed: %s", c->id, why);
        checks_closed(s, c->id, c->transport.class->name, step);
        dps_error_set(&error, id, step, "dps.example: %s", why);
        core_enter();
        c->handlers.on_closed(&error, c->userdata);
        core_leave();
        checks_step(s);
}

static void break_connection(SimConnection *c) {
        close_connection(c, DPS_ERROR_LOST, way_of(c) == TRANSPORT_HTTPS ? request_step(c) : DPS_STEP_NONE,
                         "the connection broke");
}

/* ---- the service ---- */

static int fill_random(void *ret, size_t size, void *userdata) {
        Net *n = userdata;

        for (size_t k = 0; k < size; k++)
                ((uint8_t *) ret)[k] = (uint8_t) random_next(&n->service_random);
        return 0;
}

static void send_foreign(Net *n, SimSession *session) {
        _cleanup_(answer_done) Answer a = { 0 };
        _cleanup_(freep) char *topic = NULL;

        if (answer_error(&n->service->random, 401, 401000, "An answer to another client's request.",
                         net_service_usec(n), &a) >= 0 &&
            response_topic(401, "4294967295", false, 0, &topic) >= 0)
                message_send(n, session, true, topic, a.body, 0);
}

/* As a member that is handed through, or only takes room. */
static void pad(Answer *a, size_t size) {
        static const char begin[] = "{\"padding\":\"", end[] = "\",";
        size_t n = strlen(a->body);
        char *text = n > 2 && a->body[0] == '{' ? malloc(sizeof(begin) + size + sizeof(end) + n) : NULL, *p;

        if (!text)
                return;
        p = mempcpy(text, begin, strlen(begin));
        memset(p, 'x', size);
        p = mempcpy(p + size, end, strlen(end));
        memcpy(p, a->body + 1, n);
        free(a->body);
        a->body = text;
}

/* To the next of three hubs. */
static void move_hub(Net *n, const char *id) {
        char text[64];

        (void) snprintf(text, sizeof(text), "iotHubs=[\"hub-%c.example\"]", 'a' + (char) (n->n_moves++ % 3));
        net_set(n, id, text);
}

static void deliver(Net *n, SimSession *session, const Request *request, const ScriptAnswer *script,
                    Answer *a) {
        ScriptAct act = script ? script->act : SCRIPT_ACT_NORMAL;
        _cleanup_(freep) char *topic = NULL;

        if (response_topic(a->status, request->request_id, a->has_retry_after, a->retry_after_sec, &topic) <
            0)
                return;
        if (act == SCRIPT_ACT_MALFORMED)
                a->body[strlen(a->body) / 2] = 0;
        if (n->padding > 0)
                pad(a, n->padding);
        if ((act == SCRIPT_ACT_FOREIGN_RID || n->padding > 0) && session->way == TRANSPORT_MQTT)
                send_foreign(n, session);
        message_send(n, session, true, topic, a->body, script ? script->delay_usec : 0);
        if (act == SCRIPT_ACT_DUPLICATE && session->way == TRANSPORT_MQTT)
                message_send(n, session, true, topic, a->body, 0);
}

static int refuse(Net *n, unsigned status, uint32_t code, const char *message, Answer *ret) {
        int r = answer_error(&n->service->random, status, code, message, net_service_usec(n), ret);

        return r < 0 ? r : 1;
}

/* As emulator/https.c does it. 1: `a` is a refusal; 0: the caller is known. */
static int read_target(Net *n, const Message *m, Request *request, Caller *caller, Answer *a) {
        _cleanup_(rest_done) RestTarget t = { 0 };
        const char *why = NULL;
        int r;

        if (rest_parse(m->topic, &t) < 0)
                return refuse(n, 404, 404000, "Resource not found.", a);
        *request = (Request){ .kind = t.kind,
                              .operation_id = TAKE_PTR(t.operation_id),
                              .request_id = sim_format("%" PRIu64, m->request_id) };
        if (!streq(t.id_scope, n->service->roster->behaviour.id_scope))
                return refuse(n, 404, 404000, "There is no such ID scope.", a);
        r = attest_device(n->service, &(Login){ LOGIN_DEVICE, t.id_scope, t.id, t.api_version },
                          &(Credentials){ .client_id = t.id, .password = m->session->token },
                          net_service_usec(n), caller, &why);
        if (r != 0)
                return MIN(r, 0);
        return refuse(n, 401, 401000, "Unauthorized", a);
}

/* Returns true if the script leaves nothing to answer. */
static bool is_unanswered(Net *n, SimSession *session, const ScriptAnswer *script, const char *id,
                          bool is_poll) {
        if (!script || (script->act != SCRIPT_ACT_SILENT && script->act != SCRIPT_ACT_DROP))
                return false;
        trace(n->sim, "dps: %s: %s %s", id, is_poll ? "poll" : "register",
              script->act == SCRIPT_ACT_SILENT ? "is not answered" : "drops the connection");
        if (script->act == SCRIPT_ACT_DROP && session->connection)
                break_connection(session->connection);
        return true;
}

static void on_request(Net *n, const Message *m) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;
        _cleanup_(request_done) Request request = { 0 };
        _cleanup_(caller_done) Caller own = { 0 };
        _cleanup_(answer_done) Answer a = { 0 };
        SimSession *session = m->session;
        const Caller *caller = session->way == TRANSPORT_HTTPS ? &own : &session->caller;
        const char *id = session->id;
        bool is_poll;
        int r;

        if (session->way == TRANSPORT_HTTPS)
                r = read_target(n, m, &request, &own, &a);
        else
                r = request_parse(m->topic, &request);
        if (r < 0)
                return;
        is_poll = request.kind == REQUEST_POLL;
        checks_request(n->sim, id, is_poll, session->connection ? n->sim->now_usec : m->sent_usec);
        if (!is_poll && n->is_moving)
                move_hub(n, id);
        if (!is_poll)
                (void) request_read_payload(&request, m->body, strlen(m->body));
        if (r == 0)
                script = scripts_take(&n->service->scripts, id,
                                      is_poll ? SCRIPT_STEP_POLL : SCRIPT_STEP_REGISTER);
        if (is_unanswered(n, session, script, id, is_poll))
                return;
        if (r == 0 && service_answer(n->service, caller, &request, script, m->body,
                                     m->body ? strlen(m->body) : 0, net_service_usec(n), &a) < 0)
                return;
        trace(n->sim, "dps: %s: %s: %u %s%s retry-after=%" PRId64, id, is_poll ? "poll" : "register",
              a.status, a.word ?: "", a.hub ? " with a hub" : "",
              a.has_retry_after ? (int64_t) a.retry_after_sec : -1);
        deliver(n, session, &request, script, &a);
}

static void on_answer(const Message *m) {
        SimConnection *c = m->session->connection;
        Sim *s = m->net->sim;
        DpsReply reply = { 0 };

        if (!c || dps_reply_parse_topic(m->topic, &reply) < 0)
                return;
        if (way_of(c) == TRANSPORT_HTTPS)
                forget_request(c);
        if (dps_reply_parse_body(&reply, m->body, strlen(m->body)) >= 0) {
                checks_reply(s, c->id, &reply);
                core_enter();
                c->handlers.on_reply(&reply, c->userdata);
                core_leave();
                checks_step(s);
        }
        dps_reply_done(&reply);
}

static void on_message(Sim *s, void *userdata) {
        Message *m = userdata;
        Net *n = m->net;
        SimConnection *c = m->session->connection;
        NetFault fault = fault_of(n, m->session->way);

        m->event = NULL;
        if (fault == NET_FAULT_LOSSY && c && random_chance(&n->dice, 30))
                break_connection(c);
        else if (fault != NET_FAULT_SILENT && fault != NET_FAULT_UNREACHABLE) {
                if (m->is_answer)
                        on_answer(m);
                else
                        on_request(n, m);
        }
        message_free(m);
}

/* ---- dialling ---- */

static bool log_in(SimConnection *c) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;
        _cleanup_(login_done) Login login = { 0 };
        Net *n = c->net;
        const char *why = NULL;
        Caller caller = { 0 };

        if (login_parse(c->user_name, &login) < 0)
                return false;
        script = scripts_take(&n->service->scripts, c->id, SCRIPT_STEP_CONNECT);
        if (script && script->act == SCRIPT_ACT_REFUSE)
                return false;
        if (attest_device(n->service, &login,
                          &(Credentials){ .client_id = c->id, .password = c->token, .is_mqtt = true },
                          net_service_usec(n), &caller, &why) <= 0)
                return false;
        session_new(c)->caller = caller;
        return true;
}

static bool certificate_is_valid(const Net *n) {
        uint64_t realtime = machine_realtime_usec(n->sim->machine), service = net_service_usec(n);

        return realtime + USEC_PER_YEAR >= service && realtime < service + CERTIFICATE_YEARS * USEC_PER_YEAR;
}

static void on_timed_out(Sim *s, void *userdata) {
        SimConnection *c = userdata;

        c->event = NULL;
        close_connection(c, DPS_ERROR_TIMEOUT, DPS_STEP_CONNECT, "no answer");
}

/* TCP and TLS. Returns false if it was closed, or waits. */
static bool dial(SimConnection *c) {
        Net *n = c->net;
        Sim *s = n->sim;
        bool is_https = way_of(c) == TRANSPORT_HTTPS;

        switch (fault_of(n, way_of(c))) {
        case NET_FAULT_DNS:
                if (is_https)
                        break; /* it has its addresses */
                close_connection(c, DPS_ERROR_DNS, DPS_STEP_RESOLVE, "no such name");
                return false;
        case NET_FAULT_UNREACHABLE:
                close_connection(c, DPS_ERROR_UNREACHABLE, DPS_STEP_CONNECT, "no route");
                return false;
        case NET_FAULT_REFUSED:
                close_connection(c, DPS_ERROR_REFUSED, DPS_STEP_CONNECT, "refused");
                return false;
        case NET_FAULT_SILENT:
                c->event =
                        event_add(s, s->now_usec + (is_https ? HTTPS_DIAL_TIMEOUT_USEC : DIAL_TIMEOUT_USEC),
                                  on_timed_out, c);
                return false;
        case NET_FAULT_LOSSY:
                if (!random_chance(&n->dice, 40))
                        break;
                close_connection(c, DPS_ERROR_LOST, DPS_STEP_TLS, "the connection broke");
                return false;
        case NET_FAULT_INTERCEPTED:
                close_connection(c, DPS_ERROR_TLS_UNTRUSTED, DPS_STEP_TLS, "somebody else's certificate");
                return false;
        case NET_FAULT_NONE:
        case NET_FAULT_SLOW:
        case _NET_FAULT_MAX:
                break;
        }
        if (certificate_is_valid(n))
                return true;
        close_connection(c, DPS_ERROR_TLS_EXPIRED, DPS_STEP_TLS, "the certificate is not valid now");
        return false;
}

static void tell_ready(SimConnection *c, const char *what) {
        Sim *s = c->net->sim;

        trace(s, "net: %s: %s", c->id, what);
        core_enter();
        c->handlers.on_ready(c->userdata);
        core_leave();
        checks_step(s);
}

static void on_dialled(Sim *s, void *userdata) {
        SimConnection *c = userdata;

        c->event = NULL;
        if (!dial(c))
                return;
        checks_open(s, c->id, c->transport.class->name);
        if (!log_in(c))
                return close_connection(c, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "DPS refused the login");
        tell_ready(c, "logged in");
}

/* ---- the same for HTTPS ---- */

static void on_resolved(Sim *s, void *userdata) {
        SimConnection *c = userdata;

        c->event = NULL;
        if (c->net->fault == NET_FAULT_DNS)
                return close_connection(c, DPS_ERROR_DNS, DPS_STEP_RESOLVE, "no such name");
        session_new(c)->token = sim_copy(c->token);
        tell_ready(c, "resolved");
}

static void send_over_https(SimConnection *c) {
        message_send(c->net, c->session, false, c->target, c->body, 0)->request_id = c->request.request_id;
}

static void on_connected(Sim *s, void *userdata) {
        SimConnection *c = userdata;

        c->event = NULL;
        if (!dial(c))
                return;
        checks_open(s, c->id, c->transport.class->name);
        c->is_connected = true;
        send_over_https(c);
}

static void on_unanswered(Sim *s, void *userdata) {
        SimConnection *c = userdata;

        c->deadline = NULL;
        if (c->is_connected)
                close_connection(c, DPS_ERROR_TIMEOUT, request_step(c), "no answer to the request");
        else
                close_connection(c, DPS_ERROR_TIMEOUT, DPS_STEP_CONNECT, "no answer");
}

/* Takes the target, which libdps has made. */
static void begin_request(SimConnection *c, const DpsRequest *request, char *target, const char *body) {
        Net *n = c->net;
        Sim *s = n->sim;

        c->request = *request;
        c->request.operation_id = NULL;
        c->target = target;
        c->body = sim_copy(body ?: "");
        c->deadline = event_add(s, s->now_usec + HTTPS_ANSWER_TIMEOUT_USEC, on_unanswered, c);
        if (random_chance(&n->ways, HTTPS_HANG_UP_PERCENT))
                c->is_connected = false;
        if (c->is_connected)
                send_over_https(c);
        else
                c->event = event_add(s, s->now_usec + 2 * latency(n), on_connected, c);
}

/* ---- the transport's operations ---- */

static int sim_connect(TransportClass *class, const TransportTarget *target,
                       const TransportHandlers *handlers, void *userdata, Transport **ret, DpsError *error) {
        Net *n = ((SimTransport *) class)->net;
        unsigned depth = core_pause();
        SimConnection *c = sim_alloc(sizeof(*c));

        *c = (SimConnection){ .transport.class = class,
                              .net = n,
                              .handlers = *handlers,
                              .userdata = userdata,
                              .id = sim_copy(target->registration_id),
                              .token = sim_copy(target->token),
                              .is_watched = true,
                              .next = n->connections };
        n->connections = c;
        if (way_of(c) == TRANSPORT_HTTPS) {
                c->api_version = sim_copy(target->api_version);
                (void) dps_registration_path(target->id_scope, target->registration_id, &c->path);
                c->event = event_add(n->sim, n->sim->now_usec + latency(n), on_resolved, c);
        } else {
                (void) dps_mqtt_username(target->id_scope, target->registration_id, target->api_version,
                                         &c->user_name);
                c->event = event_add(n->sim, n->sim->now_usec + 3 * latency(n), on_dialled, c);
        }
        trace(n->sim, "net: %s: connects to %s by %s", c->id, target->host, class->name);
        checks_connect(n->sim, c->id, target->id_scope, target->host, class->name);
        *ret = &c->transport;
        core_resume(depth);
        return 0;
}

static int sim_send(Transport *t, const DpsRequest *request, const char *body) {
        SimConnection *c = (SimConnection *) t;
        bool is_https = way_of(c) == TRANSPORT_HTTPS;
        unsigned depth = core_pause();
        char *target;
        int r = 0;

        if (!c->session || c->target)
                r = -ENOTCONN;
        else if (is_https ? dps_request_path(request, c->path, c->api_version, &target) < 0
                          : dps_request_topic(request, &target) < 0)
                r = -ENOMEM;
        else {
                checks_sent(c->net->sim, c->id, request);
                if (is_https)
                        begin_request(c, request, target, body);
                else {
                        message_send(c->net, c->session, false, target, body ?: "", 0);
                        sim_free(target);
                }
        }
        core_resume(depth);
        return r;
}

static Transport *sim_transport_free(Transport *t) {
        SimConnection *c = (SimConnection *) t, **p = &c->net->connections;

        while (*p != c)
                p = &(*p)->next;
        *p = c->next;
        event_cancel(c->net->sim, c->event);
        forget_request(c);
        leave_session(c);
        unwatch(c);
        sim_free(c->path);
        sim_free(c->api_version);
        sim_free(c->id);
        sim_free(c->user_name);
        sim_free(c->token);
        sim_free(c);
        return NULL;
}

static void sim_rest(TransportClass *class) {
}

static TransportClass *sim_close(TransportClass *class) {
        sim_free(class);
        return NULL;
}

TransportClass *net_open(Net *n, TransportChoice way) {
        SimTransport *t = sim_alloc(sizeof(*t));

        *t = (SimTransport){ .class = { .name = way == TRANSPORT_HTTPS ? "https" : "mqtt",
                                        .abilities = way == TRANSPORT_HTTPS ? TRANSPORT_TPM_CHALLENGE
                                                                            : TRANSPORT_LOG_IN,
                                        .connect = sim_connect,
                                        .send = sim_send,
                                        .free = sim_transport_free,
                                        .rest = sim_rest,
                                        .close = sim_close },
                             .net = n,
                             .way = way };
        return &t->class;
}

void net_set_fault(Net *n, NetFault fault) {
        n->fault = fault;
}

void net_set_moving(Net *n, bool on) {
        n->is_moving = on;
}

void net_set_padding(Net *n, size_t size) {
        n->padding = size;
}

void net_block(Net *n, TransportChoice way, NetFault fault) {
        n->blocked[way] = fault;
}

/* ---- the service ---- */

void net_set(Net *n, const char *id, const char *assignment) {
        char *const assignments[] = { (char *) assignment, NULL };
        ErrorText error = { 0 };

        if (roster_set(n->service->roster, id, assignments, &error) < 0)
                found(n->sim, "the simulation itself works", "service: %s: %s", assignment, error.text);
}

void net_script(Net *n, const char *id, const char *text) {
        char *const texts[] = { (char *) text, NULL };
        ErrorText error = { 0 };

        if (scripts_add(&n->service->scripts, id, texts, &error) < 0)
                found(n->sim, "the simulation itself works", "script: %s: %s", text, error.text);
}

static void add_enrollment(json_object *list, const char *prefix, unsigned k) {
        char id[32], text[1024];

        (void) snprintf(id, sizeof(id), "%s-%u", prefix, k);
        (void) snprintf(
                text, sizeof(text),
                "{\"registrationId\":\"%s\",\"attestation\":{\"type\":\"symmetricKey\",\"symmetricKey\":"
                "{\"primaryKey\":\"%s\",\"secondaryKey\":\"%s\"}}%s}",
                id, keys_text(k, 0), keys_text(k, 1),
                k == ISSUED_IDENTITY ? ",\"issuance\":{\"lifetime\":604800}" : "");
        if (chip_is_of(k))
                (void) snprintf(text, sizeof(text),
                                "{\"registrationId\":\"%s\",\"attestation\":{\"type\":\"tpm\",\"tpm\":"
                                "{\"endorsementKey\":\"%s\"}}}",
                                id, chip_endorsement_key());
        (void) json_object_array_add(list, json_tokener_parse(text));
}

static json_object *make_document(unsigned n_identities) {
        json_object *o = json_tokener_parse("{\"idScope\":\"0ne00000001\",\"hubs\":[\"hub-a.example\","
                                            "\"hub-b.example\",\"hub-c.example\"],\"retryAfter\":3,"
                                            "\"assigningTime\":4}");
        json_object *list = json_object_new_array();

        for (unsigned k = 0; k < n_identities; k++) {
                add_enrollment(list, "dev", k);
                add_enrollment(list, "alt", k);
        }
        (void) json_object_object_add(o, "individualEnrollments", list);
        return o;
}

void net_clear_scripts(Net *n) {
        char id[32];

        scripts_clear(&n->service->scripts, "*");
        for (unsigned k = 0; k < n->sim->options.n_identities; k++)
                for (unsigned j = 0; j < 2; j++) {
                        (void) snprintf(id, sizeof(id), "%s-%u", j ? "alt" : "dev", k);
                        scripts_clear(&n->service->scripts, id);
                }
}

void net_mend(Net *n) {
        json_object *document = make_document(n->sim->options.n_identities);
        Roster *roster;
        ErrorText error = { 0 };

        n->fault = NET_FAULT_NONE;
        n->is_moving = false;
        n->padding = 0;
        memset(n->blocked, 0, sizeof(n->blocked));
        net_clear_scripts(n);
        if (roster_new(document, &roster, &error) >= 0) {
                roster_free(n->service->roster);
                n->service->roster = roster;
        }
        json_object_put(document);
}

Net *net_new(Sim *s) {
        json_object *document = make_document(s->options.n_identities);
        Net *n = sim_alloc(sizeof(*n));
        ErrorText error = { 0 };

        *n = (Net){ .sim = s,
                    .dice = random_of(s->options.seed, "net", 0),
                    .ways = random_of(s->options.seed, "ways of the net", 0),
                    .service_random = random_of(s->options.seed, "service", 0) };
        if (service_new(document, &(RandomSource){ .fill = fill_random, .userdata = n }, &n->service,
                        &error) < 0)
                found(s, "the simulation itself works", "the service: %s", error.text);
        json_object_put(document);
        return n;
}

Net *net_free(Net *n) {
        while (n->messages)
                message_free(n->messages);
        service_free(n->service);
        sim_free(n);
        return NULL;
}
