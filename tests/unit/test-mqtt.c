/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <mosquitto.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "basic/times.h"
#include "certificates.h"
#include "transport/mqtt.h"
#include "transport/resolver.h"

/*
 * Our client against a server in its own thread. The server speaks just enough MQTT, or none at all. The
 * resolver belongs to the test, and gives the addresses that a case needs.
 */

#define MAX_ITERATIONS 60 /* turns of the loop for one connection; a busy loop takes thousands */
#define PACKET_MAX 4096

enum { CONNECT = 0x10, PUBLISH = 0x30, SUBSCRIBE = 0x80, DISCONNECT = 0xe0 };

/* ---- a world that has only time, and does work at once ---- */

typedef struct TestWorld {
        World world; /* must be first */
        sd_event *event;
} TestWorld;

typedef struct TestTimer {
        Timer timer; /* must be first */
        sd_event_source *source;
        timer_handler_t handler;
        void *userdata;
} TestTimer;

static uint64_t test_now_usec(const World *w, clockid_t clock) {
        return now_usec(clock);
}

static int on_due(sd_event_source *source, uint64_t due_usec, void *userdata) {
        TestTimer *t = userdata;

        t->handler(t->userdata);
        return 0;
}

static int test_timer_new(World *w, timer_handler_t handler, void *userdata, Timer **ret) {
        TestTimer *t = calloc(1, sizeof(*t));

        assert_non_null(t);
        *t = (TestTimer){ .timer = { w }, .handler = handler, .userdata = userdata };
        assert_true(sd_event_add_time(((TestWorld *) w)->event, &t->source, CLOCK_BOOTTIME, 0, 0, on_due,
                                      t) >= 0);
        assert_true(sd_event_source_set_enabled(t->source, SD_EVENT_OFF) >= 0);
        *ret = &t->timer;
        return 0;
}

static unsigned haste = 1; /* how much faster timers run than they are set */

static void test_timer_set(Timer *timer, uint64_t at_usec, uint64_t accuracy_usec) {
        uint64_t now = now_usec(CLOCK_BOOTTIME), left = at_usec > now ? at_usec - now : 0;
        const TestTimer *t = (TestTimer *) timer;

        if (at_usec != USEC_INFINITY)
                at_usec = now + left / haste;
        assert_true(sd_event_source_set_time(t->source, at_usec) >= 0);
        assert_true(sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT) >= 0);
}

static Timer *test_timer_free(Timer *timer) {
        TestTimer *t = (TestTimer *) timer;

        sd_event_source_disable_unref(t->source);
        free(t);
        return NULL;
}

typedef struct TestWork {
        Work work; /* must be first */
        Timer *timer;
        const WorkClass *class;
        void *task;
} TestWork;

static Work *test_work_forget(Work *work) {
        TestWork *k = (TestWork *) work;

        timer_free(k->timer);
        k->class->free(k->task);
        free(k);
        return NULL;
}

static void on_worked(void *userdata) {
        TestWork *k = userdata;

        while (k->class->tell && k->class->tell(k->task))
                ;
        k->class->done(k->task);
        timer_free(k->timer);
        free(k);
}

static int test_work_begin(World *w, const WorkClass *class, void *task, Work **ret) {
        TestWork *k = calloc(1, sizeof(*k));

        assert_non_null(k);
        *k = (TestWork){ .work = { w }, .class = class, .task = task };
        assert_int_equal(test_timer_new(w, on_worked, k, &k->timer), 0);
        test_timer_set(k->timer, 0, 0);
        class->run(task);
        *ret = &k->work;
        return 0;
}

static const WorldOperations world_operations = {
        .now_usec = test_now_usec,
        .timer_new = test_timer_new,
        .timer_set = test_timer_set,
        .timer_free = test_timer_free,
        .work_begin = test_work_begin,
        .work_forget = test_work_forget,
};

/* ---- resolver ---- */

static char **resolved;
static int resolve_error;

struct Resolver {
        World *world;
};

struct ResolverQuery {
        Timer *timer;
        resolver_handler_t handler;
        void *userdata;
};

int resolver_new(World *world, Resolver **ret) {
        Resolver *r = calloc(1, sizeof(*r));

        assert_non_null(r);
        r->world = world;
        *ret = r;
        return 0;
}

Resolver *resolver_free(Resolver *r) {
        free(r);
        return NULL;
}

static void on_turn(void *userdata) {
        ResolverQuery *q = userdata;
        const ResolverAnswer answer = { .error = resolve_error,
                                        .addresses = resolve_error ? NULL : resolved };

        q->handler(&answer, q->userdata);
}

int resolver_lookup(Resolver *r, const char *host, resolver_handler_t handler, void *userdata,
                    ResolverQuery **ret) {
        ResolverQuery *q = calloc(1, sizeof(*q));

        assert_non_null(q);
        *q = (ResolverQuery){ .handler = handler, .userdata = userdata };
        assert_int_equal(timer_new(r->world, on_turn, q, &q->timer), 0);
        timer_set(q->timer, 0, 0);
        *ret = q;
        return 0;
}

ResolverQuery *resolver_query_free(ResolverQuery *q) {
        if (q)
                timer_free(q->timer);
        free(q);
        return NULL;
}

/* ---- server ---- */

typedef struct Server Server;
typedef void (*script_t)(Server *s);

struct Server {
        int listen_fd, fd;
        uint16_t port;
        pthread_t thread;
        SSL_CTX *ctx;
        SSL *ssl;
        script_t script;
        /* What the server saw; to be read only after its thread has ended: */
        unsigned n_packets;
        uint8_t types[16];
        char connect[PACKET_MAX]; /* client id, user name and password, separated by spaces */
        char publish[PACKET_MAX]; /* topic and body of the last PUBLISH */
};

static void say(Server *s, const void *bytes, size_t size) {
        (void) !SSL_write(s->ssl, bytes, (int) size);
}
#define SAY(s, ...) say(s, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static bool hear_bytes(Server *s, uint8_t *buffer, size_t size) {
        size_t n;

        for (size_t have = 0; have < size; have += n)
                if (SSL_read_ex(s->ssl, buffer + have, size - have, &n) != 1)
                        return false;
        return true;
}

/* Moves *at past an MQTT string. */
static const char *hear_string(const uint8_t **at, int *ret_size) {
        const uint8_t *start = *at + 2;

        *ret_size = (*at)[0] << 8 | (*at)[1];
        *at = start + *ret_size;
        return (const char *) start;
}

static void note_connect(Server *s, const uint8_t *body) {
        const uint8_t *at = body + 10; /* after protocol, flags and keep-alive */
        int id_size, username_size, password_size;
        const char *id = hear_string(&at, &id_size);
        const char *username = hear_string(&at, &username_size);
        const char *password = hear_string(&at, &password_size);

        snprintf(s->connect, sizeof(s->connect), "%.*s %.*s %.*s", id_size, id, username_size, username,
                 password_size, password);
}

/* Reads one packet. Returns 0 at the end of the connection. */
static uint8_t hear(Server *s) {
        uint8_t type, byte, body[PACKET_MAX] = { 0 };
        size_t size = 0;
        unsigned shift = 0;

        if (!hear_bytes(s, &type, 1))
                return 0;
        do {
                if (!hear_bytes(s, &byte, 1))
                        return 0;
                size |= (size_t) (byte & 0x7f) << shift;
                shift += 7;
        } while (byte & 0x80);
        if (size >= sizeof(body) || !hear_bytes(s, body, size))
                return 0;

        if (s->n_packets < ELEMENTSOF(s->types))
                s->types[s->n_packets++] = type;
        if (type == CONNECT)
                note_connect(s, body);
        if ((type & 0xf0) == PUBLISH) {
                size_t topic = (size_t) body[0] << 8 | body[1];

                snprintf(s->publish, sizeof(s->publish), "%.*s %.*s", (int) topic, body + 2,
                         (int) (size - topic - 4), body + topic + 4);
        }
        return type & 0xf0;
}

static void say_publish(Server *s, const char *topic, const char *body, size_t body_size) {
        size_t size = 2 + strlen(topic) + body_size;
        uint8_t head[] = { PUBLISH,
                           (uint8_t) (size & 0x7f) | 0x80,
                           (uint8_t) (size >> 7 & 0x7f) | 0x80,
                           (uint8_t) (size >> 14),
                           0,
                           (uint8_t) strlen(topic) };

        say(s, head, sizeof(head));
        say(s, topic, strlen(topic));
        say(s, body, body_size);
}

static void say_connack(Server *s, uint8_t code) {
        if (hear(s) != CONNECT)
                return;
        SAY(s, 0x20, 2, 0, code);
}

static void say_suback(Server *s, uint8_t granted) {
        SAY(s, 0x90, 3, 0, 1, granted);
}

static void hear_all(Server *s) {
        while (hear(s))
                ;
}

static void *server_thread(void *userdata) {
        Server *s = userdata;

        s->fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (s->fd < 0)
                return NULL;

        (void) setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        s->ssl = SSL_new(s->ctx);
        SSL_set_fd(s->ssl, s->fd);
        s->script(s);
        SSL_free(s->ssl);
        close(s->fd);
        return NULL;
}

static int listen_at(const char *address, uint16_t *port, int backlog) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(*port) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        *port = ntohs(a.sin_port);
        if (backlog >= 0)
                assert_int_equal(listen(fd, backlog), 0);
        return fd;
}

/* ---- client ---- */

typedef enum FreeAt { FREE_AT_END, FREE_AT_READY, FREE_AT_REPLY, FREE_AT_CLOSED } FreeAt;

typedef struct Scene {
        sd_event *event;
        CertifiedKey authority, server_credential;
        char *ca_file;
        TestWorld world;
        TransportClass *class;
        Server server;
        Transport *transport;
        FreeAt free_at;
        bool is_over;
        unsigned n_iterations, n_ready, n_replies, n_closed;
        DpsReply reply; /* only its numbers */
        char *operation_id;
        bool has_defect;
        DpsError error;
} Scene;

static void end_if(Scene *s, FreeAt at) {
        if (s->free_at == at)
                s->transport = transport_free(s->transport);
        s->is_over |= s->free_at == at || at != FREE_AT_READY;
}

static const char *request_body = "{\"registrationId\":\"gw\"}";

static void on_ready(void *userdata) {
        const DpsRequest request = { .kind = DPS_REQUEST_REGISTER, .request_id = 7 };
        Scene *s = userdata;

        s->n_ready++;
        assert_int_equal(transport_send(s->transport, &request, request_body), 0);
        end_if(s, FREE_AT_READY);
}

static void on_reply(const DpsReply *reply, void *userdata) {
        Scene *s = userdata;

        s->n_replies++;
        s->reply = *reply;
        free(s->operation_id);
        s->operation_id = reply->operation_id ? strdup(reply->operation_id) : NULL;
        s->has_defect = reply->malformed;
        end_if(s, FREE_AT_REPLY);
}

static void on_closed(const DpsError *error, void *userdata) {
        Scene *s = userdata;

        s->n_closed++;
        s->error = *error;
        end_if(s, FREE_AT_CLOSED);
}

static const TransportHandlers handlers = { on_ready, on_reply, on_closed };

/* The server listens at 127.0.0.1 and plays its script for the first connection. */
static void scene_begin(Scene *s, script_t script, const char *names) {
        *s = (Scene){ .authority = authority_new("Root", NULL), .server = { .script = script, .fd = -1 } };
        s->server_credential = certified_key_new(&s->authority, "server", names, -DAY, DAY);
        s->ca_file = certificate_file(&s->authority);
        s->server.ctx = server_context(&s->server_credential, NULL);
        s->server.listen_fd = listen_at("127.0.0.1", &s->server.port, 10);
        assert_int_equal(pthread_create(&s->server.thread, NULL, server_thread, &s->server), 0);
        assert_int_equal(sd_event_new(&s->event), 0);
        s->world = (TestWorld){ .world = { &world_operations }, .event = s->event };
        assert_int_equal(mqtt_transport_open(s->event, &s->world.world, &s->class), 0);
        resolve_error = 0;
        assert_int_equal(strv_append(&resolved, "127.0.0.1"), 0);
}

static int connect_with_ca(Scene *s, const char *ca_file, DpsError *error) {
        const TransportTarget target = {
                .host = "dps.example",
                .port = s->server.port,
                .ca_files = (char *[]){ (char *) ca_file, NULL },
                .id_scope = "0ne00000000",
                .registration_id = "gw",
                .api_version = "2019-03-31",
                .token = "SharedAccessSignature sr=x",
        };

        return transport_connect(s->class, &target, &handlers, s, &s->transport, error);
}

static void scene_connect(Scene *s) {
        DpsError error;

        assert_int_equal(connect_with_ca(s, s->ca_file, &error), 0);
}

/* Runs until the connection has succeeded or failed. The number of iterations is its cost. */
static void scene_play(Scene *s) {
        while (!s->is_over && s->n_iterations < MAX_ITERATIONS) {
                assert_true(sd_event_run(s->event, UINT64_MAX) >= 0);
                s->n_iterations++;
        }
        assert_true(s->n_iterations < MAX_ITERATIONS);
}

/* Frees the client, then waits until the server has noticed. */
static void scene_hang_up(Scene *s) {
        s->transport = transport_free(s->transport);
        /* The client may never have connected to the server. */
        shutdown(s->server.listen_fd, SHUT_RDWR);
        assert_int_equal(pthread_join(s->server.thread, NULL), 0);
}

static void scene_end(Scene *s) {
        close(s->server.listen_fd);
        transport_class_close(s->class);
        sd_event_unref(s->event);
        SSL_CTX_free(s->server.ctx);
        certified_key_done(&s->server_credential);
        certified_key_done(&s->authority);
        unlink(s->ca_file);
        free(s->ca_file);
        free(s->operation_id);
        resolved = strv_free(resolved);
}

/* ---- scripts ---- */

/* Withholds the answer to the subscription until the request has come. */
static void script_dps(Server *s) {
        static const char body[] = "{\"operationId\":\"5.a\",\"status\":\"assigning\"}";

        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        if (hear(s) != SUBSCRIBE || hear(s) != PUBLISH)
                return;
        say_suback(s, 1);
        SAY(s, 0x40, 2, 0, 2);
        say_publish(s, "$dps/registrations/res/202/?$rid=7&retry-after=3", body, strlen(body));
        hear_all(s);
}

static void script_foreign_first(Server *s) {
        static const char body[] = "{\"operationId\":\"5.a\",\"status\":\"assigning\"}";

        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        hear(s);
        say_suback(s, 1);
        say_publish(s, "$iothub/twin/res/200/?$rid=7", body, strlen(body));
        say_publish(s, "$dps/registrations/res/200/?$rid=seven", body, strlen(body));
        say_publish(s, "$dps/registrations/res/202/?$rid=7", body, strlen(body));
        hear_all(s);
}

static void script_too_long(Server *s) {
        _cleanup_(freep) char *body = malloc(DPS_REPLY_SIZE_MAX + 1);

        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        hear(s);
        say_suback(s, 1);
        memset(body, ' ', DPS_REPLY_SIZE_MAX + 1);
        body[0] = '{';
        body[DPS_REPLY_SIZE_MAX] = '}';
        say_publish(s, "$dps/registrations/res/200/?$rid=7", body, DPS_REPLY_SIZE_MAX + 1);
        hear_all(s);
}

/* Reads everything before it closes the connection, so that the close is not a reset. */
static void script_reply_and_gone(Server *s) {
        static const char body[] = "{\"operationId\":\"5.a\",\"status\":\"assigning\"}";

        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        hear(s);
        hear(s);
        say_suback(s, 1);
        say_publish(s, "$dps/registrations/res/202/?$rid=7", body, strlen(body));
}

static void script_goes_at_once(Server *s) {
}

static void script_resets(Server *s) {
        const struct linger at_once = { .l_onoff = 1 };

        (void) setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

static void script_speaks_no_tls(Server *s) {
        static const char hello[] = "220 mail.example ESMTP\r\n";

        (void) !send(s->fd, hello, strlen(hello), MSG_NOSIGNAL);
        while (read(s->fd, &(char){ 0 }, 1) > 0)
                ;
}

static void script_goes_after_connect(Server *s) {
        if (SSL_accept(s->ssl) == 1)
                hear(s);
}

static void script_garbage(Server *s) {
        if (SSL_accept(s->ssl) != 1)
                return;
        hear(s);
        SAY(s, 0xf0, 0x03, 'x', 'y', 'z');
        hear_all(s);
}

static void script_http(Server *s) {
        static const char answer[] =
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n"
                "Content-Length: 16\r\n\r\n<p>Go away!</p>\r\n";

        if (SSL_accept(s->ssl) != 1)
                return;
        hear(s);
        say(s, answer, strlen(answer));
        SSL_shutdown(s->ssl);
}

#define SCRIPT_CONNACK(code)                                                                                 \
        static void script_connack_##code(Server *s) {                                                       \
                if (SSL_accept(s->ssl) != 1)                                                                 \
                        return;                                                                              \
                say_connack(s, code);                                                                        \
                hear_all(s);                                                                                 \
        }
SCRIPT_CONNACK(1)
SCRIPT_CONNACK(2)
SCRIPT_CONNACK(3)
SCRIPT_CONNACK(4)
SCRIPT_CONNACK(5)
SCRIPT_CONNACK(77)

static void script_refuses_subscription(Server *s) {
        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        hear(s);
        say_suback(s, 0x80);
        hear_all(s);
}

static void script_goes_after_request(Server *s) {
        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        hear(s);
        say_suback(s, 1);
        hear(s);
}

static void script_accepts(Server *s) {
        (void) SSL_accept(s->ssl);
        hear_all(s);
}

/* ---- failures ---- */

static const struct failure_case {
        const char *promise;
        script_t script;
        const char *names;
        DpsErrorId id;
        DpsStep step;
        const char *telling;
} failure_cases[] = {
        { "a version that is refused is protocol", script_connack_1, NULL, DPS_ERROR_PROTOCOL, DPS_STEP_LOGIN,
          "CONNACK 1" },
        { "a client id that is refused is protocol", script_connack_2, NULL, DPS_ERROR_PROTOCOL,
          DPS_STEP_LOGIN, "CONNACK 2" },
        { "a service that is not available is service", script_connack_3, NULL, DPS_ERROR_SERVICE,
          DPS_STEP_LOGIN, "CONNACK 3" },
        { "a password that is refused is auth", script_connack_4, NULL, DPS_ERROR_AUTH, DPS_STEP_LOGIN,
          "CONNACK 4" },
        { "not authorized is auth", script_connack_5, NULL, DPS_ERROR_AUTH, DPS_STEP_LOGIN, "CONNACK 5" },
        { "an unknown code of CONNACK is protocol", script_connack_77, NULL, DPS_ERROR_PROTOCOL,
          DPS_STEP_LOGIN, "CONNACK 77" },
        { "hanging up before TLS is a refusal", script_goes_at_once, NULL, DPS_ERROR_REFUSED,
          DPS_STEP_CONNECT, "the connection" },
        { "resetting before TLS is a refusal", script_resets, NULL, DPS_ERROR_REFUSED, DPS_STEP_CONNECT,
          "the connection" },
        { "a server that does not speak TLS", script_speaks_no_tls, NULL, DPS_ERROR_TLS, DPS_STEP_TLS,
          "wrong version number" },
        { "a certificate for another name", script_accepts, "DNS:evil.example", DPS_ERROR_TLS_NAME,
          DPS_STEP_TLS, "(dps.example): the certificate is for evil.example" },
        { "hanging up instead of CONNACK", script_goes_after_connect, NULL, DPS_ERROR_LOST, DPS_STEP_LOGIN,
          "log-in" },
        { "garbage instead of CONNACK", script_garbage, NULL, DPS_ERROR_PROTOCOL, DPS_STEP_LOGIN,
          "not MQTT" },
        { "HTTP instead of CONNACK", script_http, NULL, DPS_ERROR_PROTOCOL, DPS_STEP_LOGIN, "not MQTT" },
        { "a subscription that is refused", script_refuses_subscription, NULL, DPS_ERROR_PROTOCOL,
          DPS_STEP_SUBSCRIBE, "refused the subscription" },
        { "hanging up on a request names its step", script_goes_after_request, NULL, DPS_ERROR_LOST,
          DPS_STEP_REGISTER, "closed the connection" },
};

static void check_failure(void **state) {
        const struct failure_case *c = *state;
        Scene s;

        scene_begin(&s, c->script, c->names ?: "DNS:dps.example");
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_closed, 1);
        assert_int_equal(s.error.id, c->id);
        assert_int_equal(s.error.step, c->step);
        assert_true(startswith(s.error.message, "127.0.0.1:"));
        if (!strstr(s.error.message, c->telling))
                fail_msg("\"%s\" does not tell \"%s\"", s.error.message, c->telling);
        scene_hang_up(&s);
        scene_end(&s);
}

static void unresolved_is_dns(void **state) {
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        resolve_error = EAI_NONAME;
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.error.id, DPS_ERROR_DNS);
        assert_int_equal(s.error.step, DPS_STEP_RESOLVE);
        assert_true(startswith(s.error.message, "dps.example cannot be resolved"));
        scene_hang_up(&s);
        scene_end(&s);
}

static void refused_port_is_refused(void **state) {
        uint16_t port = 0;
        int fd;
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        fd = listen_at("127.0.0.2", &port, -1); /* bound, not listening: refused, and nobody else's */
        s.server.port = port;
        resolved = strv_free(resolved);
        assert_int_equal(strv_append(&resolved, "127.0.0.2"), 0);
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.error.id, DPS_ERROR_REFUSED);
        assert_int_equal(s.error.step, DPS_STEP_CONNECT);
        assert_true(startswith(s.error.message, "127.0.0.2:"));
        assert_non_null(strstr(s.error.message, "(dps.example) refused the connection"));
        close(fd);
        scene_hang_up(&s);
        scene_end(&s);
}

/* ---- addresses ---- */

static void put_first(const char *address) {
        char **list = NULL;

        assert_int_equal(strv_append(&list, address), 0);
        STRV_FOREACH(a, resolved)
                assert_int_equal(strv_append(&list, *a), 0);
        strv_free(resolved);
        resolved = list;
}

static void refused_address_is_skipped(void **state) {
        Scene s;
        int fd;

        scene_begin(&s, script_dps, "DNS:dps.example");
        fd = listen_at("127.0.0.2", &s.server.port, -1);
        put_first("127.0.0.2");
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_replies, 1);
        close(fd);
        scene_hang_up(&s);
        scene_end(&s);
}

/* Fills the queue of a listening socket, so that it drops further connections. */
static void fill_queue(const char *address, uint16_t port, int fds[static 4]) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

        assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
        for (size_t i = 0; i < 4; i++) {
                fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                assert_true(fds[i] >= 0);
                (void) connect(fds[i], (struct sockaddr *) &a, sizeof(a));
        }
}

static void silent_address_is_skipped(void **state) {
        int fd, fds[4];
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        fd = listen_at("127.0.0.2", &s.server.port, 0);
        fill_queue("127.0.0.2", s.server.port, fds);
        put_first("127.0.0.2");
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_replies, 1);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                close(fds[i]);
        close(fd);
        scene_hang_up(&s);
        scene_end(&s);
}

static void a_refusal_counts_more_than_no_route(void **state) {
        uint16_t port = 0;
        Scene s;
        int fd;

        scene_begin(&s, script_dps, "DNS:dps.example");
        fd = listen_at("127.0.0.2", &port, -1);
        s.server.port = port;
        resolved = strv_free(resolved);
        assert_int_equal(strv_append(&resolved, "127.0.0.2"), 0);
        assert_int_equal(strv_append(&resolved, "255.255.255.255"), 0); /* connect() says: no permission */
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.error.id, DPS_ERROR_REFUSED);
        assert_true(startswith(s.error.message, "127.0.0.2:"));
        close(fd);
        scene_hang_up(&s);
        scene_end(&s);
}

/* ---- exchange ---- */

static void carries_request_and_reply(void **state) {
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_ready, 1);
        assert_int_equal(s.n_replies, 1);
        assert_int_equal(s.reply.status, 202);
        assert_int_equal(s.reply.request_id, 7);
        assert_int_equal(s.reply.retry_after_sec, 3);
        assert_string_equal(s.operation_id, "5.a");
        scene_hang_up(&s);
        assert_true(startswith(s.server.connect, "gw 0ne00000000/registrations/gw/api-version=2019-03-31&"));
        assert_true(endswith(s.server.connect, " SharedAccessSignature sr=x"));
        assert_string_equal(s.server.publish,
                            "$dps/registrations/PUT/iotdps-register/?$rid=7 {\"registrationId\":\"gw\"}");
        assert_int_equal(s.server.types[2], PUBLISH | 0x02); /* QoS 1, not retained */
        scene_end(&s);
}

static void says_goodbye(void **state) {
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        s.free_at = FREE_AT_REPLY;
        scene_connect(&s);
        scene_play(&s);
        scene_hang_up(&s);
        assert_int_equal(s.server.types[s.server.n_packets - 1], DISCONNECT);
        scene_end(&s);
}

static void drops_foreign_topics(void **state) {
        Scene s;

        scene_begin(&s, script_foreign_first, "DNS:dps.example");
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_replies, 1);
        assert_int_equal(s.reply.status, 202);
        scene_hang_up(&s);
        scene_end(&s);
}

static void hands_on_malformed_replies(void **state) {
        Scene s;

        scene_begin(&s, script_too_long, "DNS:dps.example");
        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_replies, 1);
        assert_true(s.has_defect);
        scene_hang_up(&s);
        scene_end(&s);
}

static void last_reply_is_read(void **state) {
        Scene s;

        scene_begin(&s, script_reply_and_gone, "DNS:dps.example");
        scene_connect(&s);
        while (s.n_closed == 0 && s.n_iterations++ < MAX_ITERATIONS)
                assert_true(sd_event_run(s.event, UINT64_MAX) >= 0);
        assert_int_equal(s.n_replies, 1);
        assert_int_equal(s.error.id, DPS_ERROR_LOST);
        scene_hang_up(&s);
        scene_end(&s);
}

/* ---- ends ---- */

static void may_be_freed_after_any_step(void **state) {
        for (unsigned n = 0; n < 16; n++) {
                Scene s;

                scene_begin(&s, script_dps, "DNS:dps.example");
                scene_connect(&s);
                for (unsigned i = 0; i < n && !s.is_over; i++)
                        assert_true(sd_event_run(s.event, UINT64_MAX) >= 0);
                scene_hang_up(&s);
                while (sd_event_run(s.event, 0) > 0)
                        ;
                assert_int_equal(s.n_closed, 0);
                scene_end(&s);
        }
}

static void check_freed_in(FreeAt at, script_t script) {
        Scene s;

        scene_begin(&s, script, "DNS:dps.example");
        s.free_at = at;
        scene_connect(&s);
        scene_play(&s);
        assert_null(s.transport);
        assert_int_equal(s.n_closed, at == FREE_AT_CLOSED);
        assert_int_equal(s.n_replies, at == FREE_AT_REPLY);
        scene_hang_up(&s);
        scene_end(&s);
}

static void may_be_freed_in_handlers(void **state) {
        check_freed_in(FREE_AT_READY, script_dps);
        check_freed_in(FREE_AT_REPLY, script_dps);
        check_freed_in(FREE_AT_CLOSED, script_goes_after_connect);
}

static void refuses_requests_too_early(void **state) {
        const DpsRequest request = { .kind = DPS_REQUEST_REGISTER, .request_id = 7 };
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        scene_connect(&s);
        assert_int_equal(transport_send(s.transport, &request, NULL), -ENOTCONN);
        scene_hang_up(&s);
        scene_end(&s);
}

/* ---- the class ---- */

static void tells_unusable_ca_file(void **state) {
        DpsError error;
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        assert_int_equal(connect_with_ca(&s, "/nonexistent/ca.pem", &error), 0);
        scene_play(&s);
        assert_int_equal(s.n_closed, 1);
        assert_int_equal(s.error.id, DPS_ERROR_CONFIG);
        assert_int_equal(s.error.step, DPS_STEP_CONFIG);
        assert_non_null(strstr(s.error.message, "/nonexistent/ca.pem"));
        scene_hang_up(&s);
        scene_end(&s);
}

static void connects_again_after_all_have_ended(void **state) {
        Scene s;

        scene_begin(&s, script_dps, "DNS:dps.example");
        scene_connect(&s);
        s.transport = transport_free(s.transport);
        transport_class_rest(s.class);
        transport_class_rest(s.class);

        scene_connect(&s);
        scene_play(&s);
        assert_int_equal(s.n_replies, 1);
        scene_hang_up(&s);
        scene_end(&s);
}

/* Two connections of one class, in one loop. */
static void each_connection_has_its_own_error(void **state) {
        Scene a, b;

        scene_begin(&a, script_accepts, "DNS:evil.example");
        scene_begin(&b, script_speaks_no_tls, "DNS:dps.example");
        transport_class_close(b.class);
        sd_event_unref(b.event);
        b.class = a.class;
        b.event = a.event;
        scene_connect(&a);
        scene_connect(&b);
        while ((!a.is_over || !b.is_over) && a.n_iterations++ < 2 * MAX_ITERATIONS)
                assert_true(sd_event_run(a.event, UINT64_MAX) >= 0);

        assert_int_equal(a.error.id, DPS_ERROR_TLS_NAME);
        assert_int_equal(b.error.id, DPS_ERROR_TLS);
        scene_hang_up(&a);
        scene_hang_up(&b);
        b.class = NULL;
        b.event = NULL;
        scene_end(&b);
        scene_end(&a);
}

/* ---- a server that does not read ---- */

static bool is_narrow;

/* Replaces the C library's function, so that the kernel keeps little of what is sent. */
__attribute__((visibility("default"))) int socket(int domain, int type, int protocol) {
        int (*real)(int, int, int) = (int (*)(int, int, int)) dlsym(RTLD_NEXT, "socket");
        int fd = real(domain, type, protocol);

        if (is_narrow && domain == AF_INET) {
                (void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4096 }, sizeof(int));
                (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int));
        }
        return fd;
}

/* It sends, but reads nothing after the subscription. */
static void script_deaf(Server *s) {
        struct pollfd end = { .fd = s->fd, .events = POLLRDHUP };

        if (SSL_accept(s->ssl) != 1)
                return;
        say_connack(s, 0);
        if (hear(s) != SUBSCRIBE)
                return;
        say_suback(s, 1);
        while (poll(&end, 1, 20) == 0)
                SAY(s, 0xd0, 0); /* PINGRESP */
}

static void a_server_that_takes_nothing_more_is_lost(void **state) {
        static char body[90000];
        const char *before = request_body;
        Scene s;

        memset(body, 'x', sizeof(body) - 1);
        request_body = body;
        is_narrow = true;
        haste = 50;
        scene_begin(&s, script_deaf, "DNS:dps.example");
        scene_connect(&s);
        while (s.n_closed == 0 && s.n_iterations++ < 1000)
                assert_true(sd_event_run(s.event, UINT64_MAX) >= 0);
        assert_int_equal(s.error.id, DPS_ERROR_LOST);
        assert_non_null(strstr(s.error.message, "does not accept"));
        assert_int_equal(s.error.step, DPS_STEP_REGISTER);
        haste = 1;
        is_narrow = false;
        request_body = before;
        scene_hang_up(&s);
        scene_end(&s);
}

static unsigned n_initializations;

/* Replaces the library's function. */
int mosquitto_lib_init(void) {
        int (*real)(void) = (int (*)(void)) dlsym(RTLD_NEXT, "mosquitto_lib_init");

        n_initializations++;
        return real();
}

static void initializes_library_late(void **state) {
        Scene s;

        n_initializations = 0;
        scene_begin(&s, script_dps, "DNS:dps.example");
        assert_int_equal(n_initializations, 0);
        for (unsigned i = 0; i < 2; i++) {
                scene_connect(&s);
                assert_int_equal(n_initializations, 1);
                s.transport = transport_free(s.transport);
        }
        scene_hang_up(&s);
        scene_end(&s);
}

/* As dpsd does at its start: either side may write to a peer that is gone. Some versions of libmosquitto do it, and no longer
 * in each connection. */
static int begin(void **state) {
        return signal(SIGPIPE, SIG_IGN) == SIG_ERR;
}

int main(void) {
        static const struct {
                const char *promise;
                CMUnitTestFunction test;
        } others[] = {
                { "a request is sent with the subscription, and gets its reply", carries_request_and_reply },
                { "the client ends with a DISCONNECT", says_goodbye },
                { "messages that answer no request of ours are dropped", drops_foreign_topics },
                { "a reply with too long a body is handed on as malformed", hands_on_malformed_replies },
                { "a reply is read even if the peer hangs up after it", last_reply_is_read },
                { "a name that is not known is dns", unresolved_is_dns },
                { "a refused port is reported without a busy loop", refused_port_is_refused },
                { "a refused address is skipped", refused_address_is_skipped },
                { "a silent address is skipped without a busy loop", silent_address_is_skipped },
                { "of two failures, the one nearest to an answer is reported",
                  a_refusal_counts_more_than_no_route },
                { "it may be freed after any step", may_be_freed_after_any_step },
                { "it may be freed in any handler", may_be_freed_in_handlers },
                { "no request can be sent before it is ready", refuses_requests_too_early },
                { "libmosquitto is initialized by the first connection, and once", initializes_library_late },
                { "a CA file that cannot be used is reported", tells_unusable_ca_file },
                { "a server that takes nothing more is a lost connection, whatever it says",
                  a_server_that_takes_nothing_more_is_lost },
                { "connections are possible after the last one has ended",
                  connects_again_after_all_have_ended },
                { "connections that fail at once have errors of their own",
                  each_connection_has_its_own_error },
        };
        struct CMUnitTest tests[ELEMENTSOF(failure_cases) + ELEMENTSOF(others)] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                tests[i] = (struct CMUnitTest){ .name = others[i].promise, .test_func = others[i].test };
        for (size_t i = 0; i < ELEMENTSOF(failure_cases); i++)
                tests[ELEMENTSOF(others) + i] =
                        (struct CMUnitTest){ .name = failure_cases[i].promise,
                                             .test_func = check_failure,
                                             .initial_state = (void *) &failure_cases[i] };
        return cmocka_run_group_tests(tests, begin, NULL);
}
