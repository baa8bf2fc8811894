/* SPDX-License-Identifier: MIT */
#include "emulator/exchange.h"

#include <errno.h>
#include <stdint.h>

#include "basic/text.h"
#include "basic/times.h"
#include "emulator/wire.h"

void exchange_publish(const Session *s, const char *topic, const char *body) {
        (void) mosquitto_broker_publish_copy(s->client_id, topic, (int) strlen(body), body, s->qos, false,
                                             NULL);
}

static void log_request(Plugin *p, const Session *s, const Request *request, const Answer *a,
                        const char *script, const char *reason) {
        JournalEntry entry = {
                .event = request->kind == REQUEST_REGISTER ? "register" : "poll",
                .registration_id = session_id(s),
                .request_id = request->request_id,
                .operation_id = request->operation_id,
                .payload = request->payload,
                .script = script,
                .reason = reason,
        };

        if (a) {
                entry.has_status = true;
                entry.status = a->status;
                entry.error_code = a->error_code;
                entry.operation_id = a->operation_id ?: request->operation_id;
                entry.has_retry_after = a->has_retry_after;
                entry.retry_after_sec = a->retry_after_sec;
                entry.word = a->word;
                entry.substatus = a->substatus;
                entry.hub = a->hub;
        }
        journal_write(&p->journal, &entry, now_usec(CLOCK_REALTIME));
}

/* An error under a request id that the client has not used. A client must compare the ids and ignore it. */
static void publish_foreign(const Plugin *p, const Session *s) {
        _cleanup_(answer_done) Answer a = { 0 };
        _cleanup_(freep) char *topic = NULL;

        if (answer_error(&p->service->random, 401, 401000, "An answer to another client's request.",
                         now_usec(CLOCK_REALTIME), &a) >= 0 &&
            response_topic(401, "4294967295", false, 0, &topic) >= 0)
                exchange_publish(s, topic, a.body);
}

static int deliver(Plugin *p, const struct mosquitto *client, const Session *s, const Request *request,
                   const ScriptAnswer *script, const Answer *a) {
        ScriptAct act = script ? script->act : SCRIPT_ACT_NORMAL;
        _cleanup_(freep) char *topic = NULL;
        int r;

        r = response_topic(a->status, request->request_id, a->has_retry_after, a->retry_after_sec, &topic);
        if (r < 0)
                return r;

        if (act == SCRIPT_ACT_MALFORMED)
                a->body[strlen(a->body) / 2] = 0;
        if (act == SCRIPT_ACT_FOREIGN_RID)
                publish_foreign(p, s);
        if (script && script->delay_usec > 0) {
                char *body = strdup(a->body);

                return body ? outbox_add(&p->outbox, client, now_usec(CLOCK_BOOTTIME) + script->delay_usec,
                                         TAKE_PTR(topic), body)
                            : -ENOMEM;
        }

        exchange_publish(s, topic, a->body);
        if (act == SCRIPT_ACT_DUPLICATE)
                exchange_publish(s, topic, a->body);
        return 0;
}

static int answer_request(Plugin *p, const struct mosquitto_evt_message *message, const Session *s,
                          const Request *request, const ScriptAnswer *script) {
        const char *name = script && script->act != SCRIPT_ACT_NORMAL ? script_answer_name(script) : NULL;
        _cleanup_(answer_done) Answer a = { 0 };
        int r;

        if (script && (script->act == SCRIPT_ACT_DROP || script->act == SCRIPT_ACT_SILENT)) {
                log_request(p, s, request, NULL, name, NULL);
                return script->act == SCRIPT_ACT_DROP ? MOSQ_ERR_UNKNOWN : MOSQ_ERR_SUCCESS;
        }

        r = service_answer(p->service, &s->caller, request, script, message->payload, message->payloadlen,
                           now_usec(CLOCK_REALTIME), &a);
        if (r < 0) {
                log_request(p, s, request, NULL, name, strerror(-r));
                return MOSQ_ERR_UNKNOWN;
        }

        log_request(p, s, request, &a, name,
                    s->is_subscribed ? NULL : "not sent: the client has not subscribed");
        if (s->is_subscribed)
                (void) deliver(p, message->client, s, request, script, &a);
        return MOSQ_ERR_SUCCESS;
}

int exchange_on_message(Plugin *p, const Session *s, const struct mosquitto_evt_message *message) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;
        _cleanup_(request_done) Request request = { 0 };

        if (request_parse(message->topic, &request) < 0)
                return MOSQ_ERR_SUCCESS;

        if (!request.request_id) {
                log_request(p, s, &request, NULL, NULL, "not answered: the request has no $rid");
                return p->service->roster->behaviour.missing_request_id == MISBEHAVED_CLOSE
                               ? MOSQ_ERR_UNKNOWN
                               : MOSQ_ERR_SUCCESS;
        }

        if (request.kind == REQUEST_REGISTER &&
            request_read_payload(&request, message->payload, message->payloadlen) < 0)
                return MOSQ_ERR_NOMEM;
        if (service_script(p->service, s->caller.registration_id, script_step(request.kind), &script) < 0)
                return MOSQ_ERR_NOMEM;
        return answer_request(p, message, s, &request, script);
}
