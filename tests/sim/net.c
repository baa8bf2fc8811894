/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "basic/text.h"
#include "build-config.h"
#include "checks.h"
#include "chip.h"
#include "emulator/attest.h"
#include "keys.h"
#include "machine.h"
#include "memory.h"
#include "world.h"

/*
 *      connect() ──> name, TCP, TLS, login (one event) ──> on_ready
 *      send() ──> arrives at the service ──> the answer arrives ──> on_reply
 *
 * What the service answers is computed by the emulator's own code, in the moment in which the request arrives.
 */

#define DIAL_TIMEOUT_USEC (20 * USEC_PER_SEC)
/* The service's clock is right, and so is the machine's when nothing has set it. */
#define SERVICE_EPOCH_USEC ((DPS_BUILD_TIME_SEC + 30 * 86400) * USEC_PER_SEC)
#define CERTIFICATE_YEARS 5

/* Of a device that is logged in; as long as there are messages of it. */
typedef struct SimSession {
        unsigned n_references;
        Caller caller;
        struct SimConnection *connection; /* NULL: it is closed */
} SimSession;

typedef struct SimConnection {
        Transport transport;
        Net *net;
        TransportHandlers handlers;
        void *userdata;
        char *id, *user_name, *token;
        Event *event;        /* the next thing that happens to it by itself */
        SimSession *session; /* NULL: not logged in */
        bool is_closed, is_watched;
        struct SimConnection *next;
} SimConnection;

typedef struct Message {
        Net *net;
        SimSession *session;
        Event *event;
        char *topic, *body;
        uint64_t sent_usec;
        bool is_answer;
        struct Message *next;
} Message;

struct Net {
        Sim *sim;
        Service *service;
        NetFault fault;
        SimConnection *connections;
        Message *messages;
        Random dice, service_random;
};

typedef struct SimTransport {
        TransportClass class;
        Net *net;
} SimTransport;

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
        sim_free(k);
        return NULL;
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
static void message_send(Net *n, SimSession *session, bool is_answer, const char *topic, const char *body,
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

static void close_connection(SimConnection *c, DpsErrorId id, DpsStep step, const char *why) {
        Sim *s = c->net->sim;
        DpsError error;

        c->event = event_cancel(s, c->event);
        c->is_closed = true;
        leave_session(c);
        unwatch(c);
        trace(s, "net: %s: closed: %s", c->id, why);
        dps_error_set(&error, id, step, "dps.example: %s", why);
        core_enter();
        c->handlers.on_closed(&error, c->userdata);
        core_leave();
        checks_step(s);
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

static void deliver(Net *n, SimSession *session, const Request *request, const ScriptAnswer *script,
                    Answer *a) {
        ScriptAct act = script ? script->act : SCRIPT_ACT_NORMAL;
        _cleanup_(freep) char *topic = NULL;

        if (response_topic(a->status, request->request_id, a->has_retry_after, a->retry_after_sec, &topic) <
            0)
                return;
        if (act == SCRIPT_ACT_MALFORMED)
                a->body[strlen(a->body) / 2] = 0;
        if (act == SCRIPT_ACT_FOREIGN_RID)
                send_foreign(n, session);
        message_send(n, session, true, topic, a->body, script ? script->delay_usec : 0);
        if (act == SCRIPT_ACT_DUPLICATE)
                message_send(n, session, true, topic, a->body, 0);
}

static void on_request(Net *n, const Message *m) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;
        _cleanup_(request_done) Request request = { 0 };
        _cleanup_(answer_done) Answer a = { 0 };
        SimSession *session = m->session;
        const char *id = session->caller.registration_id;
        bool is_poll;

        if (request_parse(m->topic, &request) < 0)
                return;
        is_poll = request.kind == REQUEST_POLL;
        checks_request(n->sim, id, is_poll, session->connection ? n->sim->now_usec : m->sent_usec);
        if (!is_poll)
                (void) request_read_payload(&request, m->body, strlen(m->body));
        script = scripts_take(&n->service->scripts, id, is_poll ? SCRIPT_STEP_POLL : SCRIPT_STEP_REGISTER);
        if (script && script->act == SCRIPT_ACT_SILENT) {
                trace(n->sim, "dps: %s: %s is not answered", id, is_poll ? "poll" : "register");
                return;
        }
        if (script && script->act == SCRIPT_ACT_DROP) {
                trace(n->sim, "dps: %s: %s drops the connection", id, is_poll ? "poll" : "register");
                if (session->connection)
                        close_connection(session->connection, DPS_ERROR_LOST, DPS_STEP_NONE,
                                         "the connection broke");
                return;
        }
        if (service_answer(n->service, &session->caller, &request, script, m->body,
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

        m->event = NULL;
        if (n->fault == NET_FAULT_LOSSY && c && random_chance(&n->dice, 30))
                close_connection(c, DPS_ERROR_LOST, DPS_STEP_NONE, "the connection broke");
        else if (n->fault != NET_FAULT_SILENT && n->fault != NET_FAULT_UNREACHABLE) {
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
        SimSession *k;
        Caller caller = { 0 };

        if (login_parse(c->user_name, &login) < 0)
                return false;
        script = scripts_take(&n->service->scripts, c->id, SCRIPT_STEP_CONNECT);
        if (script && script->act == SCRIPT_ACT_REFUSE)
                return false;
        if (attest_device(n->service, &login, &(Credentials){ .client_id = c->id, .password = c->token },
                          net_service_usec(n), &caller, &why) <= 0)
                return false;
        k = sim_alloc(sizeof(*k));
        *k = (SimSession){ .n_references = 1, .caller = caller, .connection = c };
        c->session = k;
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

static void on_dialled(Sim *s, void *userdata) {
        SimConnection *c = userdata;
        Net *n = c->net;

        c->event = NULL;
        switch (n->fault) {
        case NET_FAULT_DNS:
                return close_connection(c, DPS_ERROR_DNS, DPS_STEP_RESOLVE, "no such name");
        case NET_FAULT_UNREACHABLE:
                return close_connection(c, DPS_ERROR_UNREACHABLE, DPS_STEP_CONNECT, "no route");
        case NET_FAULT_REFUSED:
                return close_connection(c, DPS_ERROR_REFUSED, DPS_STEP_CONNECT, "refused");
        case NET_FAULT_SILENT:
                c->event = event_add(s, s->now_usec + DIAL_TIMEOUT_USEC, on_timed_out, c);
                return;
        case NET_FAULT_LOSSY:
                if (random_chance(&n->dice, 40))
                        return close_connection(c, DPS_ERROR_LOST, DPS_STEP_TLS, "the connection broke");
                break;
        case NET_FAULT_NONE:
        case NET_FAULT_SLOW:
        case _NET_FAULT_MAX:
                break;
        }
        if (!certificate_is_valid(n))
                return close_connection(c, DPS_ERROR_TLS_EXPIRED, DPS_STEP_TLS,
                                        "the certificate is not valid now");
        if (!log_in(c))
                return close_connection(c, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "DPS refused the login");
        trace(s, "net: %s: logged in", c->id);
        core_enter();
        c->handlers.on_ready(c->userdata);
        core_leave();
        checks_step(s);
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
        (void) dps_mqtt_username(target->id_scope, target->registration_id, target->api_version,
                                 &c->user_name);
        n->connections = c;
        c->event = event_add(n->sim, n->sim->now_usec + 3 * latency(n), on_dialled, c);
        trace(n->sim, "net: %s: connects to %s", c->id, target->host);
        checks_connect(n->sim, c->id, target->id_scope, target->host, class->name);
        *ret = &c->transport;
        core_resume(depth);
        return 0;
}

static int sim_send(Transport *t, const DpsRequest *request, const char *body) {
        SimConnection *c = (SimConnection *) t;
        unsigned depth = core_pause();
        char *topic;
        int r = 0;

        if (!c->session)
                r = -ENOTCONN;
        else if (dps_request_topic(request, &topic) < 0)
                r = -ENOMEM;
        else {
                checks_sent(c->net->sim, c->id, request);
                message_send(c->net, c->session, false, topic, body ?: "", 0);
                sim_free(topic);
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
        leave_session(c);
        unwatch(c);
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
                                        .abilities = way == TRANSPORT_HTTPS ? TRANSPORT_TPM_CHALLENGE : 0,
                                        .connect = sim_connect,
                                        .send = sim_send,
                                        .free = sim_transport_free,
                                        .rest = sim_rest,
                                        .close = sim_close },
                             .net = n };
        return &t->class;
}

void net_set_fault(Net *n, NetFault fault) {
        n->fault = fault;
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
