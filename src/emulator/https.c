/* SPDX-License-Identifier: MIT */
#include "emulator/https.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "basic/files.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "emulator/attest.h"
#include "emulator/rest.h"

#define HEADERS_MAX (32U * 1024)
#define BODY_MAX (256U * 1024)
#define PEM_MAX (64U * 1024)
#define CHUNK_SIZE 1024
#define CERTIFICATES_MAX 10
#define SILENCE_USEC (60 * USEC_PER_MINUTE)
#define CONNECTIONS_MIN 16U
#define CONNECTIONS_MAX 1000U

/* TLS 1.2 and later, as DPS. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.3"

typedef enum PeerState {
        PEER_ASKS, /* the request is not complete, or there is none */
        PEER_HELD, /* a script delays the answer, or is silent: libmicrohttpd does not look at the connection */
        PEER_IS_ANSWERED,
} PeerState;

/* A connection, and the request on it. */
typedef struct Peer {
        HttpsFront *front;
        struct MHD_Connection *connection;
        int fd;
        PeerState state;
        uint64_t since_usec; /* CLOCK_BOOTTIME: when it connected, or its last request ended */
        uint64_t due_usec;   /* while it is held */

        bool has_begun, is_too_large;
        char *target;
        struct {
                char *data;
                size_t size;
        } body;

        Answer answer;
        bool is_dropped; /* the connection is closed in place of an answer */
        const char *allow;
        bool sends_date; /* as Retry-After */
        char **headers;  /* that a script added */
        struct Peer *previous, *next;
} Peer;

struct HttpsFront {
        HttpsOptions options;
        struct MHD_Daemon *daemon;
        Peer *first;
        char *certificate, *key;
        bool is_stopping;
};

static void request_forget(Peer *peer) {
        answer_done(&peer->answer);
        free(peer->target);
        free(peer->body.data);
        peer->target = NULL;
        peer->body.data = NULL;
        peer->body.size = 0;
        peer->headers = strv_free(peer->headers);
        peer->allow = NULL;
        peer->sends_date = false;
        peer->state = PEER_ASKS;
        peer->has_begun = peer->is_too_large = peer->is_dropped = false;
        peer->since_usec = now_usec(CLOCK_BOOTTIME);
}

/* Connections */

static void *get_info(struct MHD_Connection *connection, enum MHD_ConnectionInfoType type) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, type);

        if (!info)
                return NULL;
        return type == MHD_CONNECTION_INFO_SOCKET_CONTEXT ? info->socket_context : info->tls_session;
}

/* DPS asks for a certificate and takes what comes. GnuTLS would name the CAs that it trusts, and clients with
 * others would send nothing. */
static void ask_for_certificate(struct MHD_Connection *connection) {
        gnutls_session_t session = get_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);

        if (!session)
                return;
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
        gnutls_certificate_send_x509_rdn_sequence(session, 1);
}

static void *peer_new(HttpsFront *f, struct MHD_Connection *connection) {
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        Peer *peer = calloc(1, sizeof(*peer));

        if (!peer)
                return NULL; /* its requests get no answer */
        peer->front = f;
        peer->connection = connection;
        peer->fd = info ? info->connect_fd : -1;
        peer->since_usec = now_usec(CLOCK_BOOTTIME);

        pthread_mutex_lock(f->options.lock);
        peer->next = f->first;
        if (peer->next)
                peer->next->previous = peer;
        f->first = peer;
        pthread_mutex_unlock(f->options.lock);
        return peer;
}

static void peer_free(Peer *peer) {
        HttpsFront *f = peer->front;

        pthread_mutex_lock(f->options.lock);
        if (peer->next)
                peer->next->previous = peer->previous;
        *(peer->previous ? &peer->previous->next : &f->first) = peer->next;
        request_forget(peer);
        pthread_mutex_unlock(f->options.lock);
        free(peer);
}

static void on_connection(void *userdata, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code) {
        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                ask_for_certificate(connection);
                *context = peer_new(userdata, connection);
        } else if (*context) {
                peer_free(*context);
                *context = NULL;
        }
}

/* The request's line has come. What is returned is the context of the request. */
static void *on_target(void *userdata, const char *target, struct MHD_Connection *connection) {
        Peer *peer = get_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        if (peer)
                peer->target = strdup(target);
        return peer;
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code) {
        HttpsFront *f = userdata;

        if (!*context)
                return;
        pthread_mutex_lock(f->options.lock);
        request_forget(*context);
        pthread_mutex_unlock(f->options.lock);
        *context = NULL;
}

/* What came with a request */

static const char *header(const Peer *peer, const char *name) {
        return MHD_lookup_connection_value(peer->connection, MHD_HEADER_KIND, name);
}

static void chain_freep(STACK_OF(X509) * *chain) {
        sk_X509_pop_free(*chain, X509_free);
}

/* The client's certificate and those that came with it. NULL: there is none, or no memory. */
static STACK_OF(X509) * read_chain(struct MHD_Connection *connection) {
        gnutls_session_t session = get_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        unsigned n = 0;
        const gnutls_datum_t *sent = session ? gnutls_certificate_get_peers(session, &n) : NULL;
        STACK_OF(X509) *chain = sent && n > 0 ? sk_X509_new_null() : NULL;

        for (unsigned i = 0; chain && i < MIN(n, CERTIFICATES_MAX); i++) {
                const unsigned char *at = sent[i].data;
                X509 *certificate = d2i_X509(NULL, &at, sent[i].size);

                if (!certificate || sk_X509_push(chain, certificate) == 0) {
                        X509_free(certificate);
                        chain_freep(&chain);
                        return NULL;
                }
        }
        return chain;
}

/* Many clients add a charset. */
static bool is_json(const char *content_type) {
        size_t size = strcspn(content_type ?: "", "; \t");

        return content_type && span_is((Span){ content_type, size }, "application/json");
}

static bool announces_too_much(const Peer *peer) {
        const char *length = header(peer, "Content-Length");
        uint64_t n;

        return length && parse_u64(length, &n) != -EINVAL && (parse_u64(length, &n) < 0 || n > BODY_MAX);
}

/* The answer, with the lock */

typedef struct Exchange {
        Peer *peer;
        RestTarget target;
        Caller caller;
        Request request;
        ScriptAnswer *script;
        const char *why; /* for the log */
} Exchange;

static void exchange_done(Exchange *x) {
        rest_done(&x->target);
        caller_done(&x->caller);
        request_done(&x->request);
        script_answer_free(x->script);
}

static const RandomSource *random_of(const Peer *peer) {
        return &peer->front->options.service->random;
}

static int refuse(Peer *peer, unsigned status, uint32_t code, const char *message) {
        return answer_error(random_of(peer), status, code, message, now_usec(CLOCK_REALTIME), &peer->answer);
}

/* 1: `peer->answer` is a refusal; 0: the request is one that DPS knows. */
static int check_request(Exchange *x, const char *method) {
        Peer *peer = x->peer;
        int r;

        r = peer->target ? rest_parse(peer->target, &x->target) : -ENOMEM;
        if (r == -ENOENT)
                r = refuse(peer, 404, 404000, "Resource not found.");
        else if (r < 0)
                return r;
        else if (!streq(method, rest_method(x->target.kind))) {
                peer->allow = rest_method(x->target.kind);
                r = refuse(peer, 405, 405000, "Method not allowed.");
        } else if (peer->is_too_large)
                r = refuse(peer, 413, 413000, "The body is too large.");
        else if (peer->body.size > 0 && x->target.kind != REQUEST_POLL &&
                 !is_json(header(peer, "Content-Type")))
                r = refuse(peer, 415, 415000, "The body must be application/json.");
        else if (isempty(x->target.api_version))
                r = refuse(peer, 400, 400004, "The api-version is missing.");
        else if (!streq(x->target.id_scope, peer->front->options.service->roster->behaviour.id_scope))
                r = refuse(peer, 404, 404000, "There is no such ID scope.");
        else
                return 0;
        return r < 0 ? r : 1;
}

/* 1: `peer->answer` is a refusal; 0: the caller is known. */
static int check_caller(Exchange *x) {
        Peer *peer = x->peer;
        const Login login = { LOGIN_DEVICE, x->target.id_scope, x->target.id, x->target.api_version };
        _cleanup_(chain_freep) STACK_OF(X509) *chain = read_chain(peer->connection);
        const Credentials credentials = {
                .client_id = x->target.id,
                .password = header(peer, "Authorization"),
                .certificate = chain ? sk_X509_value(chain, 0) : NULL,
                .chain = chain,
        };
        bool by_certificate = credentials.certificate && isempty(credentials.password);
        int r;

        r = attest_device(peer->front->options.service, &login, &credentials, now_usec(CLOCK_REALTIME),
                          &x->caller, &x->why);
        if (r != 0)
                return MIN(r, 0);
        r = by_certificate ? refuse(peer, 401, 401002, "Invalid certificate.")
                           : refuse(peer, 401, 401000, "Unauthorized");
        return r < 0 ? r : 1;
}

/* As the service decides, or as a script dictates. */
static int ask_service(Exchange *x) {
        Peer *peer = x->peer;
        Service *service = peer->front->options.service;
        uint64_t now = now_usec(CLOCK_BOOTTIME);
        int r;

        r = service_script(service, x->caller.registration_id, script_step(x->target.kind), &x->script);
        if (r < 0)
                return r;
        if (x->script && x->script->act == SCRIPT_ACT_DROP) {
                peer->is_dropped = true;
                return 0;
        }
        if (x->script && x->script->act == SCRIPT_ACT_SILENT) {
                peer->is_dropped = true;
                peer->state = PEER_HELD;
                peer->due_usec = now + SILENCE_USEC;
                return 0;
        }

        r = service_answer(service, &x->caller, &x->request, x->script, peer->body.data ?: "",
                           peer->body.size, now_usec(CLOCK_REALTIME), &peer->answer);
        if (r < 0)
                return r;
        if (x->script && x->script->act == SCRIPT_ACT_MALFORMED)
                peer->answer.body[strlen(peer->answer.body) / 2] = 0;
        if (x->script) {
                peer->headers = TAKE_PTR(x->script->headers);
                peer->sends_date = x->script->is_date;
        }
        if (x->script && x->script->delay_usec > 0) {
                peer->state = PEER_HELD;
                peer->due_usec = now + x->script->delay_usec;
        }
        return 0;
}

static int answer(Exchange *x, const char *method) {
        Peer *peer = x->peer;
        int r;

        r = check_request(x, method);
        if (r == 0)
                r = check_caller(x);
        if (r != 0)
                return MIN(r, 0);

        x->request = (Request){ .kind = x->target.kind };
        x->request.operation_id = TAKE_PTR(x->target.operation_id);
        if (x->request.kind == REQUEST_REGISTER && peer->body.size > 0)
                r = request_read_payload(&x->request, peer->body.data, peer->body.size);
        return r < 0 ? r : ask_service(x);
}

/* An error has its tracking id already. */
static int name_answer(Peer *peer) {
        char guid[GUID_TEXT_SIZE];
        int r;

        if (peer->answer.tracking_id)
                return 0;
        r = guid_make(random_of(peer), guid);
        if (r < 0)
                return r;
        peer->answer.tracking_id = strdup(guid);
        return peer->answer.tracking_id ? 0 : -ENOMEM;
}

static void log_exchange(const Exchange *x, const char *method, int error) {
        static const char *const events[] = {
                [REQUEST_REGISTER] = "register", [REQUEST_POLL] = "poll", [REQUEST_LOOKUP] = "lookup"
        };
        const Answer *a = &x->peer->answer;
        bool is_known = x->target.id && !x->peer->allow;
        JournalEntry entry = {
                .event = is_known ? events[x->target.kind] : "http",
                .front = "https",
                .registration_id = x->caller.registration_id ?: x->target.id,
                .tracking_id = a->tracking_id,
                .operation_id = a->operation_id ?: x->request.operation_id,
                .payload = x->request.payload,
                .script = x->script && x->script->act != SCRIPT_ACT_NORMAL ? script_answer_name(x->script)
                                                                           : NULL,
                .reason = error < 0  ? strerror(-error)
                          : is_known ? x->why
                                     : method,
                .has_status = a->body,
                .status = a->status,
                .error_code = a->error_code,
                .has_retry_after = a->has_retry_after,
                .retry_after_sec = a->retry_after_sec,
                .word = a->word,
                .substatus = a->substatus,
                .hub = a->hub,
        };

        journal_write(x->peer->front->options.journal, &entry, now_usec(CLOCK_REALTIME));
}

/* HTTP */

static ssize_t read_text(void *text, uint64_t position, char *to, size_t size) {
        size_t left = strlen((const char *) text + position);

        if (left == 0)
                return MHD_CONTENT_READER_END_OF_STREAM;
        size = MIN(size, left);
        memcpy(to, (const char *) text + position, size);
        return (ssize_t) size;
}

/* DPS sends its answers in chunks, which HTTP/1.0 does not know. */
static struct MHD_Response *make_response(const Peer *peer, const char *version) {
        const Behaviour *b = &peer->front->options.service->roster->behaviour;
        char *copy = strdup(peer->answer.body);
        struct MHD_Response *response;

        if (!copy)
                return NULL;
        response = b->chunked && streq(version, MHD_HTTP_VERSION_1_1)
                           ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, CHUNK_SIZE, read_text, copy,
                                                               free)
                           : MHD_create_response_from_buffer(strlen(copy), copy, MHD_RESPMEM_MUST_FREE);
        if (!response)
                free(copy);
        return response;
}

static bool add_number(struct MHD_Response *response, const char *name, uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        return MHD_add_response_header(response, name, text) == MHD_YES;
}

static bool add_retry_after(const Peer *peer, struct MHD_Response *response) {
        time_t due = (time_t) (now_usec(CLOCK_REALTIME) / USEC_PER_SEC + peer->answer.retry_after_sec);
        struct tm tm;
        char text[40];

        if (!peer->answer.has_retry_after)
                return true;
        if (!peer->sends_date)
                return add_number(response, MHD_HTTP_HEADER_RETRY_AFTER, peer->answer.retry_after_sec);
        (void) strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&due, &tm));
        return MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, text) == MHD_YES;
}

/* What HTTP does not allow as a header is left out. */
static void add_scripted(const Peer *peer, struct MHD_Response *response) {
        STRV_FOREACH(line, peer->headers) {
                const char *colon = strchr(*line, ':');
                _cleanup_(freep) char *name = span_dup((Span){ *line, (size_t) (colon - *line) });

                if (name)
                        (void) MHD_add_response_header(response, name, colon + 1 + strspn(colon + 1, " "));
        }
}

/* It is the URL of the register, although the operation is elsewhere: so does DPS. */
static bool add_location(const Peer *peer, struct MHD_Response *response) {
        const char *host = header(peer, "Host");
        _cleanup_(freep) char *text = NULL;
        int path = (int) strcspn(peer->target, "?");

        if (!host || *peer->target != '/')
                return true;
        if (asprintf(&text, "https://%s%.*s", host, path, peer->target) < 0)
                return false;
        return MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, text) == MHD_YES;
}

static bool add_headers(const Peer *peer, struct MHD_Response *response) {
        const Answer *a = &peer->answer;
        const char *content_type =
                *a->body == '{' ? "application/json; charset=utf-8" : "text/plain; charset=utf-8";

        return MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) == MHD_YES &&
               MHD_add_response_header(response, "x-ms-request-id", a->tracking_id) == MHD_YES &&
               MHD_add_response_header(response, "Strict-Transport-Security", "max-age=31536000") ==
                       MHD_YES &&
               add_retry_after(peer, response) &&
               (a->error_code == 0 || a->status < 300 ||
                add_number(response, "x-ms-error-code", a->error_code)) &&
               (!peer->allow ||
                MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, peer->allow) == MHD_YES) &&
               (a->status != 202 || add_location(peer, response));
}

/* MHD_NO closes the connection. */
static enum MHD_Result send_answer(Peer *peer, const char *version) {
        struct MHD_Response *response;
        enum MHD_Result result;

        if (peer->is_dropped || !peer->answer.body)
                return MHD_NO;
        response = make_response(peer, version);
        if (!response)
                return MHD_NO;
        add_scripted(peer, response);
        result = add_headers(peer, response)
                         ? MHD_queue_response(peer->connection, peer->answer.status, response)
                         : MHD_NO;
        MHD_destroy_response(response);
        return result;
}

static enum MHD_Result process(Peer *peer, const char *method, const char *version) {
        _cleanup_(exchange_done) Exchange x = { .peer = peer };
        int r;

        peer->state = PEER_IS_ANSWERED;
        r = answer(&x, method);
        if (r >= 0 && peer->answer.body)
                r = name_answer(peer);
        if (r < 0)
                peer->is_dropped = true;
        log_exchange(&x, method, r);

        /* With the lock, so that https_tick() does not resume what is not suspended yet. */
        if (r >= 0 && peer->state == PEER_HELD && !peer->front->is_stopping) {
                MHD_suspend_connection(peer->connection);
                return MHD_YES;
        }
        peer->state = PEER_IS_ANSWERED;
        return send_answer(peer, version);
}

/* Keeps the body as far as it is not too large. */
static bool take_body(Peer *peer, const char *data, size_t size) {
        char *grown;

        if (peer->is_too_large || size > BODY_MAX - peer->body.size) {
                peer->is_too_large = true;
                return true;
        }
        grown = realloc(peer->body.data, peer->body.size + size + 1);
        if (!grown)
                return false;
        memcpy(grown + peer->body.size, data, size);
        peer->body.data = grown;
        peer->body.size += size;
        grown[peer->body.size] = 0;
        return true;
}

/* Called when the headers are complete, then for each part of the body, at last without one, and once more when
 * a held connection is resumed. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *size,
                                  void **context) {
        HttpsFront *f = userdata;
        Peer *peer = *context;
        enum MHD_Result result = MHD_YES;

        if (!peer)
                return MHD_NO;
        if (*size > 0) {
                bool taken = take_body(peer, data, *size);

                *size = 0;
                return taken ? MHD_YES : MHD_NO;
        }

        pthread_mutex_lock(f->options.lock);
        if (!peer->has_begun) {
                peer->has_begun = true;
                peer->is_too_large = announces_too_much(peer);
                if (peer->is_too_large)
                        result = process(peer, method, version);
        } else if (peer->state == PEER_ASKS)
                result = process(peer, method, version);
        else if (peer->state == PEER_IS_ANSWERED)
                result = send_answer(peer, version);
        pthread_mutex_unlock(f->options.lock);
        return result;
}

/* Time */

/* libmicrohttpd does not report that the client of a suspended connection has gone. */
static bool has_gone(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static bool is_to_be_released(Peer *peer, uint64_t now) {
        if (peer->state != PEER_HELD)
                return false;
        if (peer->front->is_stopping || has_gone(peer->fd))
                peer->is_dropped = true;
        else if (now < peer->due_usec)
                return false;
        peer->state = PEER_IS_ANSWERED;
        peer->since_usec = now;
        return true;
}

void https_tick(HttpsFront *f) {
        uint64_t now, limit;
        Peer *released;

        /* The lock is not kept while libmicrohttpd takes its own. A released connection stays until it is
         * resumed. */
        do {
                released = NULL;
                pthread_mutex_lock(f->options.lock);
                now = now_usec(CLOCK_BOOTTIME); /* not earlier: nobody's request has ended in the future */
                limit = f->options.service->roster->behaviour.request_sec * USEC_PER_SEC;
                for (Peer *peer = f->first; peer && !released; peer = peer->next)
                        if (is_to_be_released(peer, now))
                                released = peer;
                        else if (peer->state != PEER_HELD && now - peer->since_usec > limit)
                                (void) shutdown(peer->fd, SHUT_RDWR);
                pthread_mutex_unlock(f->options.lock);
                if (released)
                        MHD_resume_connection(released->connection);
        } while (released);
}

/* The broker's loop gets all signals, and its clients most of the descriptors. */
static int start_daemon(HttpsFront *f) {
        struct rlimit files = { CONNECTIONS_MIN, CONNECTIONS_MIN };
        unsigned n_connections;
        sigset_t all, before;

        (void) getrlimit(RLIMIT_NOFILE, &files);
        n_connections = MIN(MAX((unsigned) MIN(files.rlim_cur / 4, CONNECTIONS_MAX), CONNECTIONS_MIN),
                            CONNECTIONS_MAX);

        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        f->daemon = MHD_start_daemon(
                MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_TLS | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
                on_request, f, MHD_OPTION_LISTEN_SOCKET, f->options.listen_fd, MHD_OPTION_HTTPS_MEM_CERT,
                f->certificate, MHD_OPTION_HTTPS_MEM_KEY, f->key, MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES,
                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) HEADERS_MAX, MHD_OPTION_CONNECTION_LIMIT,
                n_connections, MHD_OPTION_NOTIFY_CONNECTION, on_connection, f, MHD_OPTION_NOTIFY_COMPLETED,
                on_completed, f, MHD_OPTION_URI_LOG_CALLBACK, on_target, f, MHD_OPTION_END);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        return f->daemon ? 0 : -EIO;
}

int https_start(const HttpsOptions *options, HttpsFront **ret, ErrorText *error) {
        HttpsFront *f = calloc(1, sizeof(*f));
        size_t size;
        int r;

        if (!f)
                return -ENOMEM;
        f->options = *options;
        r = file_read(options->certificate_file, PEM_MAX, &f->certificate, &size);
        if (r >= 0)
                r = file_read(options->key_file, PEM_MAX, &f->key, &size);
        if (r < 0)
                r = error_set(error, "%s: %s", f->certificate ? options->key_file : options->certificate_file,
                              strerror(-r));
        else if (start_daemon(f) < 0)
                r = error_set(error, "libmicrohttpd cannot serve HTTPS with this certificate");
        if (r < 0) {
                https_stop(f);
                return r;
        }

        *ret = f;
        return 0;
}

HttpsFront *https_stop(HttpsFront *f) {
        if (!f)
                return NULL;

        if (f->daemon) {
                pthread_mutex_lock(f->options.lock);
                f->is_stopping = true;
                pthread_mutex_unlock(f->options.lock);
                https_tick(f);
                MHD_stop_daemon(f->daemon);
        }
        free(f->certificate);
        erase_and_free(f->key);
        free(f);
        return NULL;
}
