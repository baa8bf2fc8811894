/* SPDX-License-Identifier: MIT */

/*
 * The emulator inside Mosquitto: the broker's events become logins and requests, and answers become messages
 * for one client. Mosquitto has a single thread and calls the plugin from its loop only. It sends what a
 * plugin publishes in the next turn of that loop, and so after the PUBACK of the request, in the same order
 * as DPS.
 */

#include <errno.h>
#include <fcntl.h>
#include <json-c/linkhash.h>
#include <openssl/rand.h>
#include <stdint.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/request.h"
#include "emulator/attest.h"
#include "emulator/control.h"
#include "emulator/exchange.h"
#include "emulator/interpose.h"
#include "emulator/session.h"
#include "emulator/statedir.h"

#define MQTT_LEVEL_3_1_1 4
#define SUBACK_FAILURE 0x80
#define CONNACK_NOT_AUTHORIZED 5

static inline void X509_freep(X509 **x) {
        X509_free(*x);
}

/* The HTTPS front runs in its own thread, so each callback of the broker holds the lock. */
static inline void unlockp(pthread_mutex_t **lock) {
        pthread_mutex_unlock(*lock);
}
static pthread_mutex_t *take_lock(Plugin *p) {
        pthread_mutex_lock(&p->lock);
        return &p->lock;
}
#define WITH_LOCK(p) _cleanup_(unlockp) pthread_mutex_t *lock __attribute__((unused)) = take_lock(p)

/* CONNECT */

static void log_login(Plugin *p, const Login *login, unsigned code, const char *why) {
        bool is_device = login->kind == LOGIN_DEVICE;
        JournalEntry entry = {
                .event = is_device ? "connect" : "hub-connect",
                .registration_id = is_device ? login->id : NULL,
                .device_id = is_device ? NULL : login->id,
                .hub = is_device ? NULL : login->place,
                .has_status = true,
                .status = code,
                .reason = why,
        };

        journal_write(&p->journal, &entry, now_usec(CLOCK_REALTIME));
}

/* Success: no script refuses the login. MOSQ_ERR_AUTH sends a CONNACK; any other failure closes the
 * connection without. */
static int scripted_login(Plugin *p, const Login *login) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;

        if (service_script(p->service, login->id, SCRIPT_STEP_CONNECT, &script) < 0)
                return MOSQ_ERR_NOMEM;
        if (!script || script->act == SCRIPT_ACT_NORMAL)
                return MOSQ_ERR_SUCCESS;

        log_login(p, login, CONNACK_NOT_AUTHORIZED,
                  script->act == SCRIPT_ACT_DROP ? "closed, as the script or lostPercent says"
                                                 : "refused, as the script says");
        return script->act == SCRIPT_ACT_DROP ? MOSQ_ERR_UNKNOWN : MOSQ_ERR_AUTH;
}

static int attest(const Plugin *p, const Login *login, const Credentials *credentials, Session *session,
                  const char **ret_why) {
        if (login->kind == LOGIN_DEVICE) {
                session->kind = SESSION_DEVICE;
                return attest_device(p->service, login, credentials, now_usec(CLOCK_REALTIME),
                                     &session->caller, ret_why);
        }

        session->kind = SESSION_HUB;
        session->hub = strdup(login->place);
        session->device_id = strdup(login->id);
        return session->hub && session->device_id
                       ? attest_hub(p->service, login, credentials, now_usec(CLOCK_REALTIME), ret_why)
                       : -ENOMEM;
}

static int open_session(Plugin *p, struct mosquitto *client, const Login *login, const char *password) {
        _cleanup_(X509_freep) X509 *certificate = mosquitto_client_certificate(client);
        _cleanup_(session_done) Session session = { 0 };
        Credentials credentials = {
                .client_id = mosquitto_client_id(client) ?: "",
                .password = password,
                .is_mqtt = true,
                .certificate = certificate,
                .chain = certificate ? peer_chain(certificate) : NULL,
        };
        const char *why = NULL;
        int r;

        r = attest(p, login, &credentials, &session, &why);
        log_login(p, login, r > 0 ? 0 : CONNACK_NOT_AUTHORIZED, r < 0 ? strerror(-r) : why);
        if (r <= 0)
                return MOSQ_ERR_AUTH;

        session.client_id = strdup(credentials.client_id);
        if (!session.client_id || sessions_add(p->sessions, client, &session) < 0)
                return MOSQ_ERR_NOMEM;
        return MOSQ_ERR_SUCCESS;
}

/* A client that connects by the socket in the state directory has its path as address; others have a numeric
 * one. */
static int open_control(Plugin *p, struct mosquitto *client) {
        Session session = { .kind = SESSION_CONTROL, .client_id = strdup(mosquitto_client_id(client)) };

        if (session.client_id && sessions_add(p->sessions, client, &session) >= 0)
                return MOSQ_ERR_SUCCESS;
        session_done(&session);
        return MOSQ_ERR_NOMEM;
}

static int on_login(int event, void *data, void *userdata) {
        const struct mosquitto_evt_basic_auth *login_event = data;
        struct mosquitto *client = login_event->client;
        _cleanup_(login_done) Login login = { 0 };
        Plugin *p = userdata;
        WITH_LOCK(p);
        int r;

        if (streq_ptr(mosquitto_client_address(client), CONTROL_SOCKET))
                return open_control(p, client);

        r = login_parse(login_event->username ?: "", &login);
        if (r < 0) {
                journal_write(
                        &p->journal,
                        &(JournalEntry){ .event = "connect",
                                         .registration_id = mosquitto_client_id(client),
                                         .has_status = true,
                                         .status = CONNACK_NOT_AUTHORIZED,
                                         .reason = "the user name is neither one for DPS nor one for a hub" },
                        now_usec(CLOCK_REALTIME));
                return MOSQ_ERR_AUTH;
        }
        if (mosquitto_client_protocol_version(client) != MQTT_LEVEL_3_1_1) {
                log_login(p, &login, CONNACK_NOT_AUTHORIZED, "the client does not speak MQTT 3.1.1");
                return MOSQ_ERR_AUTH;
        }

        if (login.kind == LOGIN_DEVICE && connect_has_will() &&
            p->service->roster->behaviour.will == MISBEHAVED_CLOSE) {
                log_login(p, &login, CONNACK_NOT_AUTHORIZED, "closed: the CONNECT has a will");
                return MOSQ_ERR_UNKNOWN;
        }

        r = scripted_login(p, &login);
        return r == MOSQ_ERR_SUCCESS ? open_session(p, client, &login, login_event->password) : r;
}

/* SUBSCRIBE and PUBLISH */

static void log_filter(Plugin *p, const Session *s, unsigned code, const char *reason) {
        JournalEntry entry = {
                .event = "subscribe",
                .registration_id = session_id(s),
                .has_status = true,
                .status = code,
                .reason = reason,
        };

        journal_write(&p->journal, &entry, now_usec(CLOCK_REALTIME));
}

static int scripted_filter(Plugin *p, const Session *s) {
        _cleanup_(script_answer_freep) ScriptAnswer *script = NULL;

        if (service_script(p->service, session_id(s), SCRIPT_STEP_SUBSCRIBE, &script) < 0)
                return MOSQ_ERR_NOMEM;
        if (!script || script->act == SCRIPT_ACT_NORMAL)
                return MOSQ_ERR_SUCCESS;

        log_filter(p, s, SUBACK_FAILURE, "refused or closed, as the script says");
        return script->act == SCRIPT_ACT_DROP ? MOSQ_ERR_UNKNOWN : MOSQ_ERR_ACL_DENIED;
}

static int on_subscribe(Plugin *p, Session *s, const struct mosquitto_evt_acl_check *filter) {
        if (streq(filter->topic, DPS_RESPONSE_FILTER)) {
                int r = scripted_filter(p, s);

                if (r != MOSQ_ERR_SUCCESS)
                        return r;
                s->is_subscribed = true;
                s->qos = MIN(filter->qos, 1);
                log_filter(p, s, (unsigned) s->qos, NULL);
                return MOSQ_ERR_SUCCESS;
        }

        log_filter(p, s, SUBACK_FAILURE, "DPS has no such topics");
        return p->service->roster->behaviour.foreign_filter == MISBEHAVED_CLOSE ? MOSQ_ERR_UNKNOWN
                                                                                : MOSQ_ERR_ACL_DENIED;
}

static int on_publish(Plugin *p, const Session *s, const struct mosquitto_evt_acl_check *message) {
        _cleanup_(request_done) Request request = { 0 };

        if (request_parse(message->topic, &request) >= 0)
                return MOSQ_ERR_SUCCESS;

        journal_write(&p->journal,
                      &(JournalEntry){ .event = "publish",
                                       .registration_id = session_id(s),
                                       .reason = "DPS has no such topic" },
                      now_usec(CLOCK_REALTIME));
        /* To ignore a message is to accept it: nobody subscribes to its topic. */
        return p->service->roster->behaviour.foreign_topic == MISBEHAVED_CLOSE ? MOSQ_ERR_UNKNOWN
                                                                               : MOSQ_ERR_SUCCESS;
}

/* A device at a hub may publish and subscribe to its own topics only. */
static bool is_own_topic(const Session *s, const char *topic) {
        return startswith(topic, "$iothub/") ||
               (scan_literal(&topic, "devices/") && scan_literal(&topic, s->device_id) && *topic == '/');
}

static int on_access(int event, void *data, void *userdata) {
        const struct mosquitto_evt_acl_check *access = data;
        Plugin *p = userdata;
        WITH_LOCK(p);
        Session *s = sessions_get(p->sessions, access->client);

        if (!s)
                return MOSQ_ERR_ACL_DENIED;
        if (s->kind == SESSION_CONTROL)
                return MOSQ_ERR_SUCCESS;
        /* Messages are never delivered: all hubs share their topics here, so devices would get the messages
         * of others. */
        if (s->kind == SESSION_HUB)
                return access->access != MOSQ_ACL_READ && is_own_topic(s, access->topic)
                               ? MOSQ_ERR_SUCCESS
                               : MOSQ_ERR_ACL_DENIED;

        if (access->access == MOSQ_ACL_SUBSCRIBE)
                return on_subscribe(p, s, access);
        if (access->access == MOSQ_ACL_WRITE)
                return on_publish(p, s, access);
        if (access->access == MOSQ_ACL_UNSUBSCRIBE && streq(access->topic, DPS_RESPONSE_FILTER))
                s->is_subscribed = false;
        return MOSQ_ERR_SUCCESS;
}

static int on_message(int event, void *data, void *userdata) {
        const struct mosquitto_evt_message *message = data;
        Plugin *p = userdata;
        WITH_LOCK(p);
        const Session *s = sessions_get(p->sessions, message->client);

        return s && s->kind == SESSION_DEVICE ? exchange_on_message(p, s, message) : MOSQ_ERR_SUCCESS;
}

static int on_disconnect(int event, void *data, void *userdata) {
        const struct mosquitto_evt_disconnect *disconnect = data;
        Plugin *p = userdata;
        WITH_LOCK(p);
        const Session *s = sessions_get(p->sessions, disconnect->client);

        /* Mosquitto reports the end of some connections twice. */
        if (!s)
                return MOSQ_ERR_SUCCESS;

        if (s->kind != SESSION_CONTROL)
                journal_write(
                        &p->journal,
                        &(JournalEntry){ .event = s->kind == SESSION_DEVICE ? "disconnect" : "hub-disconnect",
                                         .registration_id = s->caller.registration_id,
                                         .device_id = s->device_id,
                                         .hub = s->hub },
                        now_usec(CLOCK_REALTIME));
        outbox_forget(&p->outbox, disconnect->client);
        sessions_remove(p->sessions, disconnect->client);
        return MOSQ_ERR_SUCCESS;
}

/* Called about every 100 ms, and for the first time when the broker listens. */
static int on_tick(int event, void *data, void *userdata) {
        Plugin *p = userdata;
        Delayed *d;

        if (p->https)
                https_tick(p->https);
        WITH_LOCK(p);

        if (p->ready_fd >= 0) {
                (void) !write(p->ready_fd, "", 1);
                (void) close(p->ready_fd);
                p->ready_fd = -1;
        }

        while ((d = outbox_take(&p->outbox, now_usec(CLOCK_BOOTTIME)))) {
                const Session *s = sessions_get(p->sessions, d->client);

                if (s)
                        exchange_publish(s, d->topic, d->body);
                delayed_free(d);
        }
        return MOSQ_ERR_SUCCESS;
}

/* Control */

static unsigned drop_sessions(const char *id, void *userdata) {
        _cleanup_(strv_freep) char **clients = NULL;
        Plugin *p = userdata;
        struct lh_entry *entry;

        /* Dropping a session removes it from the table, so they are collected first. */
        lh_foreach(p->sessions, entry) {
                const Session *s = lh_entry_v(entry);

                if (session_id(s) && (!id || strcasecmp(session_id(s), id) == 0))
                        (void) strv_append(&clients, s->client_id);
        }

        STRV_FOREACH(client, clients)
                (void) mosquitto_kick_client_by_clientid(*client, false);
        return (unsigned) strv_length(clients);
}

static json_object *list_sessions(void *userdata) {
        const Plugin *p = userdata;

        return sessions_to_json(p->sessions);
}

static int save(void *userdata) {
        const Plugin *p = userdata;
        _cleanup_(json_freep) json_object *o = roster_to_json(p->service->roster);
        const char *text;

        if (!o)
                return -ENOMEM;

        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
        return file_write_atomic(AT_FDCWD, ENROLLMENTS_FILE, text, strlen(text), 0600, (gid_t) -1);
}

static int on_control(int event, void *data, void *userdata) {
        const struct mosquitto_evt_control *request = data;
        Plugin *p = userdata;
        WITH_LOCK(p);
        const Session *s = sessions_get(p->sessions, request->client);
        ControlHooks hooks = { drop_sessions, list_sessions, save, p };
        _cleanup_(freep) char *answer = NULL;

        if (!s || s->kind != SESSION_CONTROL)
                return MOSQ_ERR_ACL_DENIED;

        answer = control_execute(p->service, &hooks, request->payload, request->payloadlen);
        if (answer)
                (void) mosquitto_broker_publish_copy(s->client_id, CONTROL_RESPONSE_TOPIC,
                                                     (int) strlen(answer), answer, 1, false, NULL);
        return MOSQ_ERR_SUCCESS;
}

/* The plugin itself */

static const struct {
        int event;
        MOSQ_FUNC_generic_callback callback;
        const char *data;
} callbacks[] = {
        { MOSQ_EVT_BASIC_AUTH, on_login, NULL }, { MOSQ_EVT_ACL_CHECK, on_access, NULL },
        { MOSQ_EVT_MESSAGE, on_message, NULL },  { MOSQ_EVT_DISCONNECT, on_disconnect, NULL },
        { MOSQ_EVT_TICK, on_tick, NULL },        { MOSQ_EVT_CONTROL, on_control, CONTROL_TOPIC },
};

static Plugin *plugin_free(Plugin *p) {
        Delayed *d;

        if (!p)
                return NULL;

        https_stop(p->https);
        for (size_t i = 0; p->id && i < ELEMENTSOF(callbacks); i++)
                (void) mosquitto_callback_unregister(p->id, callbacks[i].event, callbacks[i].callback,
                                                     callbacks[i].data);
        while ((d = outbox_take(&p->outbox, UINT64_MAX)))
                delayed_free(d);
        if (p->sessions)
                lh_table_free(p->sessions);
        service_free(p->service);
        journal_done(&p->journal);
        (void) pthread_mutex_destroy(&p->lock);
        free(p);
        return NULL;
}
DEFINE_FREEP(Plugin, plugin_free)

static int fill_random(void *ret, size_t size, void *userdata) {
        return RAND_bytes(ret, (int) size) == 1 ? 0 : -EIO;
}

/* Closing a session calls us back inside of a callback. */
static void make_lock(pthread_mutex_t *ret) {
        pthread_mutexattr_t attributes;

        (void) pthread_mutexattr_init(&attributes);
        (void) pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
        (void) pthread_mutex_init(ret, &attributes);
        (void) pthread_mutexattr_destroy(&attributes);
}

/* The broker's working directory is the state directory. */
static int plugin_new(Plugin **ret, ErrorText *error) {
        _cleanup_(plugin_freep) Plugin *p = NULL;
        _cleanup_(json_freep) json_object *document = NULL;
        int r;

        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        *p = (Plugin){ .journal.fd = -1, .ready_fd = -1 };
        make_lock(&p->lock);

        if ((r = json_read_file(ENROLLMENTS_FILE, &document, error)) < 0 ||
            (r = service_new(document, &(RandomSource){ .fill = fill_random }, &p->service, error)) < 0 ||
            (r = sessions_new(&p->sessions)) < 0 || (r = journal_init(JOURNAL_FILE, &p->journal)) < 0)
                return r;

        *ret = TAKE_PTR(p);
        return 0;
}

static int open_https(Plugin *p, int listen_fd, ErrorText *error) {
        const HttpsOptions options = {
                .listen_fd = listen_fd,
                .certificate_file = SERVER_NAME ".pem",
                .key_file = SERVER_NAME ".key",
                .service = p->service,
                .journal = &p->journal,
                .lock = &p->lock,
        };

        return https_start(&options, &p->https, error);
}

__attribute__((visibility("default"))) int mosquitto_plugin_version(int n_versions, const int *versions) {
        for (int i = 0; i < n_versions; i++)
                if (versions[i] == MOSQ_PLUGIN_VERSION)
                        return MOSQ_PLUGIN_VERSION;
        return -1;
}

__attribute__((visibility("default"))) int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata,
                                                                 struct mosquitto_opt *options,
                                                                 int n_options) {
        _cleanup_(plugin_freep) Plugin *p = NULL;
        ErrorText error = { 0 };
        int https_fd = -1, r;
        uint64_t fd;

        r = plugin_new(&p, &error);
        if (r < 0) {
                mosquitto_log_printf(MOSQ_LOG_ERR, "%s", *error.text ? error.text : strerror(-r));
                return MOSQ_ERR_UNKNOWN;
        }

        for (int i = 0; i < n_options; i++) {
                if (parse_u64(options[i].value, &fd) < 0)
                        continue;
                if (streq(options[i].key, "ready_fd"))
                        p->ready_fd = (int) fd;
                else if (streq(options[i].key, "https_fd"))
                        https_fd = (int) fd;
        }

        p->id = id;
        for (size_t i = 0; i < ELEMENTSOF(callbacks); i++) {
                r = mosquitto_callback_register(id, callbacks[i].event, callbacks[i].callback,
                                                callbacks[i].data, p);
                if (r != MOSQ_ERR_SUCCESS)
                        return r;
        }
        r = https_fd >= 0 ? open_https(p, https_fd, &error) : 0;
        if (r < 0) {
                mosquitto_log_printf(MOSQ_LOG_ERR, "%s", *error.text ? error.text : strerror(-r));
                return MOSQ_ERR_UNKNOWN;
        }
        *userdata = TAKE_PTR(p);
        return MOSQ_ERR_SUCCESS;
}

__attribute__((visibility("default"))) int
mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int n_options) {
        plugin_free(userdata);
        return MOSQ_ERR_SUCCESS;
}
