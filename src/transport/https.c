/* SPDX-License-Identifier: MIT */
#include <curl/curl.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "basic/cleanup.h"
#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dps/request.h"
#include "transport/approach.h"
#include "transport/failure.h"
#include "transport/https-head.h"
#include "transport/https-route.h"
#include "transport/transport-module.h"

/*
 *      RESOLVING ──> READY <──> ASKING          from each: CLOSED
 *
 * A module, since it needs libcurl. There is no log-in: each request shows the token, or the connection shows the client
 * certificate. libcurl connects when the first request is sent, and keeps the connection for those that follow.
 *
 *   - Each transport has a multi handle of its own. libcurl would share the connections of one among identities: it does not
 *     know that they show different certificates.
 *   - Handles are removed, and handlers called, after libcurl has returned, never from within its callbacks.
 */

#define CONNECT_DEADLINE_MSEC 15000L /* TCP, a proxy and TLS */
#define CONNECT_NEXT_MSEC 3000L      /* TCP, where another address can be tried */
#define ANSWER_DEADLINE_MSEC                                                                                 \
        25000L /* of a request; DPS_REPLY_DEADLINE_SEC would be later, and not say where it hangs */
#define SIGNATURE_DEADLINE_USEC (15 * USEC_PER_SEC)
#define TIMER_ACCURACY_USEC (10 * USEC_PER_MSEC)
#define PROXY_SIZE_MAX (256U * 1024) /* bytes, before TLS with the target begins */
#define URL_MAX 1024

typedef enum Phase {
        PHASE_RESOLVING,
        PHASE_READY,
        PHASE_ASKING,
        PHASE_CLOSED,
} Phase;

typedef struct HttpsClass {
        TransportClass class; /* first */
        sd_event *event;
        Approaches approaches;
} HttpsClass;

/* One that libcurl uses. There are several while it tries addresses. */
typedef struct Socket {
        struct Socket *next;
        struct Https *owner;
        sd_event_source *io;
} Socket;

typedef struct Https {
        Transport transport; /* first */
        unsigned n_refs;     /* the owner's, and one during each handler of the loop */

        Approach *approach;
        TlsConnection *connection; /* the newest; NULL: none */
        char *base;                /* "https://HOST:PORT" */
        char *path;                /* of a registration: "/SCOPE/registrations/ID" */
        char *api_version;
        char *peer;          /* "127.0.0.1:443 (localhost)", for errors */
        char *authorization; /* a header, and a secret; NULL: a client certificate, or nothing */
        bool is_slow;        /* the key of our certificate */
        TransportHandlers handlers;
        void *userdata;

        Phase phase;
        size_t n_tried;  /* of the addresses, before the present one */
        char *number[2]; /* the present one, and NULL */
        DpsError error;  /* why the addresses tried so far failed */
        Timer *timer;

        HttpsRoute route;
        HttpsRouteLists lists;
        CURLM *multi;
        CURL *easy;
        struct curl_slist *headers;
        Socket *sockets;

        /* The request and its answer */
        DpsRequestKind kind;
        uint64_t request_id;
        char *url, *request_body;
        char *body; /* of the answer */
        size_t size;
        HttpsHead head;
        uint64_t wanted_usec; /* CLOCK_BOOTTIME: when libcurl wants to be called */
        bool is_signing;      /* libcurl is not called: it would read and time out meanwhile */
        bool is_greeted;      /* a connection was made for it, and TLS has begun */
        bool is_secured;      /* it was sent */
        bool is_too_long;
        uint64_t n_received; /* bytes, when libcurl last reported its progress */
} Https;

/* ---- life ---- */

static HttpsClass *class_of(const Https *t) {
        return (HttpsClass *) t->transport.class;
}

static Https *https_ref(Https *t) {
        t->n_refs++;
        return t;
}

static void forget_answer(Https *t) {
        free(t->body);
        t->body = NULL;
        t->size = 0;
        https_head_done(&t->head);
        t->is_too_long = false;
}

static void socket_drop(Socket *s) {
        for (Socket **p = &s->owner->sockets; *p; p = &(*p)->next)
                if (*p == s) {
                        *p = s->next;
                        break;
                }
        sd_event_source_disable_unref(s->io);
        free(s);
}

static void https_close(Https *t) {
        if (t->is_signing)
                tls_connection_stop_signing(tls_connection_ssl(t->connection));
        t->is_signing = false;
        t->phase = PHASE_CLOSED;
        if (t->easy)
                (void) curl_multi_remove_handle(t->multi, t->easy);
        curl_easy_cleanup(t->easy);
        curl_multi_cleanup(t->multi);
        t->timer = timer_free(t->timer); /* libcurl sets it once more */
        t->easy = NULL;
        t->multi = NULL;
        while (t->sockets)
                socket_drop(t->sockets);
        https_route_done(&t->lists);
        /* What libcurl has copied of the token is beyond our reach. */
        for (struct curl_slist *h = t->headers; h; h = h->next)
                explicit_bzero(h->data, strlen(h->data));
        curl_slist_free_all(t->headers);
        t->headers = NULL;
        t->connection = tls_connection_unref(t->connection);
}

static Https *https_unref(Https *t) {
        if (!t || --t->n_refs > 0)
                return NULL;

        https_close(t);
        forget_answer(t);
        approach_free(t->approach);
        free(t->base);
        free(t->path);
        free(t->api_version);
        free(t->peer);
        free(t->url);
        free(t->request_body);
        erase_and_free(t->authorization);
        free(t);
        return NULL;
}
DEFINE_FREEP(Https, https_unref)

static Transport *https_free(Transport *transport) {
        Https *t = (Https *) transport;

        https_close(t);
        https_unref(t);
        return NULL;
}

/* ---- failures ---- */

static void fail(Https *t, const DpsError *error) {
        DpsError copy = *error;

        if (t->phase == PHASE_CLOSED)
                return;

        https_close(t);
        t->handlers.on_closed(&copy, t->userdata);
}

static void tell(const Https *t, DpsErrorId id, DpsStep step, const char *what, DpsError *ret) {
        dps_error_set(ret, id, step, "%s %s", t->peer, what);
}

static void fail_as(Https *t, DpsErrorId id, DpsStep step, const char *what) {
        DpsError error;

        tell(t, id, step, what, &error);
        fail(t, &error);
}

static void fail_by_memory(Https *t) {
        fail_as(t, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "cannot be asked: out of memory");
}

static DpsStep request_step(const Https *t) {
        return t->kind == DPS_REQUEST_REGISTER ? DPS_STEP_REGISTER : DPS_STEP_POLL;
}

static long info(const Https *t, CURLINFO what) {
        long value = 0;

        (void) curl_easy_getinfo(t->easy, what, &value);
        return value;
}

static void tell_timeout(const Https *t, DpsError *ret) {
        if (https_route_failed(t->easy, CURLE_OPERATION_TIMEDOUT, &t->route, ret))
                return;
        if (!t->is_greeted && !t->is_secured)
                tell(t, DPS_ERROR_TIMEOUT, DPS_STEP_CONNECT, "does not answer", ret);
        else if (!t->is_secured)
                tell(t, DPS_ERROR_TIMEOUT, DPS_STEP_TLS,
                     "accepted the connection, but does not answer in the TLS handshake", ret);
        else
                tell(t, DPS_ERROR_TIMEOUT, request_step(t), "does not answer the request", ret);
}

static void tell_unreachable(const Https *t, DpsError *ret) {
        Failure f = failure_from_errno((int) info(t, CURLINFO_OS_ERRNO));

        dps_error_set(ret, f.id, DPS_STEP_CONNECT, "%s %s%s%s", t->peer, f.what, f.why ? ": " : "",
                      f.why ?: "");
}

/* There is a connection, but what comes over it cannot be used. */
static void tell_broken(const Https *t, CURLcode code, DpsError *ret) {
        DpsStep step = request_step(t);

        switch (code) {
        case CURLE_FILESIZE_EXCEEDED:
        case CURLE_WRITE_ERROR:
#if LIBCURL_VERSION_NUM >= 0x080600
        case CURLE_TOO_LARGE:
#endif
                return tell(t, DPS_ERROR_PROTOCOL, step, "sent more data than any answer has", ret);
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
                return tell(t, DPS_ERROR_LOST, step,
                            info(t, CURLINFO_RESPONSE_CODE) > 0
                                    ? "sent an answer that is broken, or breaks off"
                                    : "closed the connection instead of answering",
                            ret);
        case CURLE_PARTIAL_FILE:
                return tell(t, DPS_ERROR_LOST, step, "closed the connection in the middle of the answer",
                            ret);
        default:
                dps_error_set(ret, DPS_ERROR_PROTOCOL, step, "%s does not speak HTTP as it should: %s",
                              t->peer, curl_easy_strerror(code));
        }
}

static void tell_failure(const Https *t, CURLcode code, DpsError *ret) {
        *ret = (DpsError){ 0 };
        /* Before 8.6, libcurl says so of a header that is longer than it takes, and CURLE_TOO_LARGE since. */
        if (code == CURLE_OUT_OF_MEMORY && t->n_received > CURL_MAX_HTTP_HEADER / 2)
                code = CURLE_FILESIZE_EXCEEDED;
        if (code == CURLE_OUT_OF_MEMORY || (code == CURLE_WRITE_ERROR && !t->is_too_long))
                return tell(t, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "cannot be asked: out of memory", ret);
        if (code == CURLE_OPERATION_TIMEDOUT)
                return tell_timeout(t, ret);
        if (https_route_failed(t->easy, code, &t->route, ret))
                return;
        if (t->connection) {
                DpsError cause;

                tls_connection_why(t->connection, &cause);
                if (cause.id == DPS_ERROR_PROTOCOL)
                        return tell(t, cause.id, request_step(t), cause.message, ret);
                if (cause.id != DPS_ERROR_NONE)
                        return dps_error_set(ret, cause.id, cause.step, "%s: %s", t->peer, cause.message);
        }
        if (code == CURLE_COULDNT_CONNECT)
                return tell_unreachable(t, ret);
        if (!t->is_secured)
                return tell(t, DPS_ERROR_LOST, DPS_STEP_TLS, "closed the connection during the TLS handshake",
                            ret);
        tell_broken(t, code, ret);
}

/* ---- answers ---- */

static void deliver(Https *t) {
        _cleanup_(dps_reply_done) DpsReply reply = {
                .status = (uint32_t) info(t, CURLINFO_RESPONSE_CODE),
                .request_id = t->request_id,
        };

        reply.has_retry_after = https_head_retry_after(
                &t->head, world_now_usec(class_of(t)->approaches.world, CLOCK_REALTIME) / USEC_PER_SEC,
                &reply.retry_after_sec);
        if (reply.status / 100 == 3)
                return fail_as(t, DPS_ERROR_PROTOCOL, request_step(t),
                               "answers with a redirect, which is not followed");
        if (dps_reply_parse_body(&reply, t->body ?: "", t->size) < 0)
                return fail_by_memory(t);

        forget_answer(t);
        t->phase = PHASE_READY;
        t->handlers.on_reply(&reply, t->userdata);
}

/* libcurl gives all the time there is to the first address, so it gets one address at a time. All addresses of
 * a proxy are left to it, because their time is also the time of the proxy's own connection. */
static int aim(Https *t) {
        const Approach *a = t->approach;
        HttpsRouteLists old = t->lists;
        long msec = CONNECT_DEADLINE_MSEC;
        int r;

        t->number[0] = a->addresses[t->n_tried];
        if (!a->proxy && a->addresses[t->n_tried + 1])
                msec = CONNECT_NEXT_MSEC;
        t->route = (HttpsRoute){ .host = a->host,
                                 .port = a->port,
                                 .proxy = a->proxy,
                                 .asked = a->asked,
                                 .numbers = a->proxy ? a->addresses : t->number };
        r = approach_name_peer(a, a->proxy ? a->asked : t->number[0], &t->peer);
        if (r >= 0)
                r = https_route_set(t->easy, &t->route, &t->lists);
        if (r >= 0)
                https_route_done(&old);
        return r < 0 || curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, msec) != CURLE_OK ? -ENOMEM : 0;
}

/* Whether TCP did not connect, and another address is tried. */
static bool connect_next(Https *t, CURLcode code, const DpsError *error) {
        curl_off_t connected_usec = 0;

        (void) curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME_T, &connected_usec);
        if (t->approach->proxy || !t->approach->addresses[t->n_tried + 1] || connected_usec > 0 ||
            (code != CURLE_COULDNT_CONNECT && code != CURLE_OPERATION_TIMEDOUT))
                return false;

        if (failure_weight(error->id) >= failure_weight(t->error.id))
                t->error = *error;
        (void) curl_multi_remove_handle(t->multi, t->easy);
        t->n_tried++;
        if (aim(t) < 0 || curl_multi_add_handle(t->multi, t->easy) != CURLM_OK)
                fail_by_memory(t);
        return true;
}

/* The system's bundle may know the CA that its directory does not. The request is sent when it is read. */
static bool connect_with_bundle(Https *t) {
        if (!tls_connection_lacks_bundle(t->connection) || !approach_read_bundle(t->approach))
                return false;
        tls_connection_forget_failure(t->connection);
        t->is_greeted = false;
        (void) curl_multi_remove_handle(t->multi, t->easy);
        return true;
}

static void finish(Https *t, CURLcode code) {
        DpsError error;

        if (code == CURLE_OK) {
                (void) curl_multi_remove_handle(t->multi, t->easy);
                return deliver(t);
        }
        if (connect_with_bundle(t))
                return;
        tell_failure(t, code, &error);
        if (connect_next(t, code, &error))
                return;
        fail(t, failure_weight(t->error.id) > failure_weight(error.id) ? &t->error : &error);
}

static void take_messages(Https *t) {
        while (t->phase != PHASE_CLOSED) {
                int left;
                CURLMsg *m = curl_multi_info_read(t->multi, &left);

                if (!m)
                        return;
                if (m->msg == CURLMSG_DONE)
                        finish(t, m->data.result);
        }
}

/* ---- a key that signs slowly ---- */

static SSL *signing_ssl(const Https *t) {
        SSL *ssl = t->connection ? tls_connection_ssl(t->connection) : NULL;

        return ssl && tls_connection_is_signing(ssl) ? ssl : NULL;
}

static void set_sockets(const Https *t, int enabled) {
        for (const Socket *s = t->sockets; s; s = s->next)
                (void) sd_event_source_set_enabled(s->io, enabled);
}

static void wait_for_signature(Https *t) {
        uint64_t now_usec = world_now_usec(class_of(t)->approaches.world, CLOCK_BOOTTIME);

        t->is_signing = true;
        set_sockets(t, SD_EVENT_OFF);
        timer_set(t->timer, usec_add(now_usec, SIGNATURE_DEADLINE_USEC), TIMER_ACCURACY_USEC);
}

static void after_libcurl(Https *t, CURLMcode code) {
        if (code != CURLM_OK)
                return fail_by_memory(t);
        take_messages(t);
        if (t->phase != PHASE_CLOSED && signing_ssl(t))
                wait_for_signature(t);
}

static int on_signed(SSL *ssl, void *userdata) {
        _cleanup_(https_unrefp) Https *t = https_ref(userdata);
        int running;

        if (t->phase == PHASE_CLOSED || !t->is_signing || ssl != signing_ssl(t))
                return 1;
        t->is_signing = false;
        set_sockets(t, SD_EVENT_ON);
        timer_set(t->timer, t->wanted_usec, TIMER_ACCURACY_USEC);
        /* There is no other way to make a transfer go on while its socket has nothing new. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        after_libcurl(t, curl_multi_socket_all(t->multi, &running));
#pragma GCC diagnostic pop
        return 1;
}

static void act(Https *t, curl_socket_t fd, int events) {
        int running;

        after_libcurl(t, curl_multi_socket_action(t->multi, fd, events, &running));
}

/* ---- callbacks of libcurl ---- */

static size_t on_body(char *bytes, size_t one, size_t n, void *userdata) {
        Https *t = userdata;
        char *longer;

        if (n > DPS_REPLY_SIZE_MAX - t->size) {
                t->is_too_long = true;
                return 0;
        }
        longer = realloc(t->body, t->size + n + 1);
        if (!longer)
                return 0;
        t->body = longer;
        memcpy(t->body + t->size, bytes, n);
        t->size += n;
        return n;
}

/* Called for each line, status line and trailers included. */
static size_t on_header(char *line, size_t one, size_t n, void *userdata) {
        Https *t = userdata;
        int r = https_head_take(&t->head, line, n);

        t->is_too_long = r == -E2BIG;
        return r < 0 ? 0 : n;
}

/* How many bytes the kernel has received from a proxy. Nobody else counts these. */
static uint64_t received_from_sockets(const Https *t) {
        uint64_t n = 0;

        for (const Socket *s = t->sockets; s; s = s->next) {
                struct tcp_info told = { 0 };
                socklen_t size = sizeof(told);

                if (getsockopt(sd_event_source_get_io_fd(s->io), IPPROTO_TCP, TCP_INFO, &told, &size) == 0)
                        n += told.tcpi_bytes_received;
        }
        return n;
}

/* Called for each piece that libcurl reads. It would read whatever a proxy sends after a refusal. */
static int on_progress(void *userdata, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
        Https *t = userdata;

        t->n_received = received_from_sockets(t);
        if (t->approach->proxy && !t->route.is_through)
                t->is_too_long = t->n_received > PROXY_SIZE_MAX;
        return t->is_too_long;
}

static CURLcode on_ssl(CURL *easy, void *ssl, void *userdata) {
        Https *t = userdata;
        bool is_proxys = https_route_greets_proxy(easy, &t->route);

        t->is_greeted = !is_proxys;
        (void) curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_DEADLINE_MSEC);
        return tls_context_lend(t->approach->tls, ssl, is_proxys ? NULL : &t->connection) < 0
                       ? CURLE_OUT_OF_MEMORY
                       : CURLE_OK;
}

/* Called when the request is about to be sent, over a connection that is new or was kept. */
static int on_connected(void *userdata, char *ip, char *local_ip, int port, int local_port) {
        Https *t = userdata;

        t->is_secured = true;
        return CURL_PREREQFUNC_OK;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Socket *s = userdata;
        _cleanup_(https_unrefp) Https *t = https_ref(s->owner);
        int events = (revents & EPOLLIN ? CURL_CSELECT_IN : 0) | (revents & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                     (revents & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

        act(t, fd, events);
        return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket) {
        uint32_t events = (what & CURL_POLL_IN ? (uint32_t) EPOLLIN : 0) |
                          (what & CURL_POLL_OUT ? (uint32_t) EPOLLOUT : 0);
        Https *t = userdata;
        Socket *s = socket;

        if (what == CURL_POLL_REMOVE) {
                if (s)
                        socket_drop(s);
                (void) curl_multi_assign(t->multi, fd, NULL);
                return 0;
        }
        if (s)
                return sd_event_source_set_io_events(s->io, events) < 0 ? -1 : 0;

        s = calloc(1, sizeof(*s));
        if (!s)
                return -1;
        *s = (Socket){ .owner = t, .next = t->sockets };
        t->sockets = s;
        if (sd_event_add_io(class_of(t)->event, &s->io, fd, events, on_io, s) < 0 ||
            curl_multi_assign(t->multi, fd, s) != CURLM_OK) {
                socket_drop(s);
                return -1;
        }
        return 0;
}

static int on_wanted_time(CURLM *multi, long msec, void *userdata) {
        Https *t = userdata;
        uint64_t now_usec = world_now_usec(class_of(t)->approaches.world, CLOCK_BOOTTIME);

        t->wanted_usec = msec < 0 ? USEC_INFINITY : usec_add(now_usec, (uint64_t) msec * USEC_PER_MSEC);
        timer_set(t->timer, t->wanted_usec, TIMER_ACCURACY_USEC);
        return 0;
}

/* ---- connecting ---- */

static int add_header(Https *t, const char *text) {
        struct curl_slist *longer = curl_slist_append(t->headers, text);

        if (!longer)
                return -ENOMEM;
        t->headers = longer;
        return 0;
}

static int make_headers(Https *t) {
        static const char *const always[] = {
                "Content-Type: application/json; charset=utf-8",
                "Accept: application/json",
                "Expect:",
        };

        for (size_t i = 0; i < ELEMENTSOF(always); i++)
                if (add_header(t, always[i]) < 0)
                        return -ENOMEM;
        return t->authorization ? add_header(t, t->authorization) : 0;
}

static CURLcode set_limits(CURL *easy) {
        const struct {
                CURLoption option;
                long value;
        } longs[] = {
                { CURLOPT_NOSIGNAL, 1 },
                { CURLOPT_FOLLOWLOCATION, 0 },
                { CURLOPT_NETRC, CURL_NETRC_IGNORED },
                { CURLOPT_CONNECTTIMEOUT_MS, CONNECT_DEADLINE_MSEC },
                { CURLOPT_TIMEOUT_MS, ANSWER_DEADLINE_MSEC },
                { CURLOPT_MAXFILESIZE, DPS_REPLY_SIZE_MAX },
                { CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS },
                { CURLOPT_SSL_SESSIONID_CACHE, 0 },
                { CURLOPT_TCP_NODELAY, 1 },
                { CURLOPT_NOPROGRESS, 0 },
        };
        CURLcode c = CURLE_OK;

        for (size_t i = 0; c == CURLE_OK && i < ELEMENTSOF(longs); i++)
                c = curl_easy_setopt(easy, longs[i].option, longs[i].value);
        return c;
}

/* CAs are not libcurl's business: loading its bundle would cost more than all the rest. */
static CURLcode set_callbacks(Https *t) {
        const struct {
                CURLoption option;
                void *value;
        } pointers[] = {
                { CURLOPT_CAINFO, NULL },       { CURLOPT_CAPATH, NULL },  { CURLOPT_PROXY_CAINFO, NULL },
                { CURLOPT_PROXY_CAPATH, NULL }, { CURLOPT_PRIVATE, t },    { CURLOPT_SSL_CTX_DATA, t },
                { CURLOPT_WRITEDATA, t },       { CURLOPT_HEADERDATA, t }, { CURLOPT_HTTPHEADER, t->headers },
                { CURLOPT_XFERINFODATA, t },    { CURLOPT_PREREQDATA, t },
        };
        CURLcode c = CURLE_OK;

        for (size_t i = 0; c == CURLE_OK && i < ELEMENTSOF(pointers); i++)
                c = curl_easy_setopt(t->easy, pointers[i].option, pointers[i].value);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_PREREQFUNCTION, on_connected);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_USERAGENT, "dpsd/" DPS_VERSION);
        return c == CURLE_OK ? curl_easy_setopt(t->easy, CURLOPT_PROTOCOLS_STR, "https") : c;
}

static int make_handles(Https *t) {
        t->multi = curl_multi_init();
        t->easy = curl_easy_init();
        if (!t->multi || !t->easy || make_headers(t) < 0 || set_limits(t->easy) != CURLE_OK ||
            set_callbacks(t) != CURLE_OK)
                return -ENOMEM;
        if (curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, on_socket) != CURLM_OK ||
            curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t) != CURLM_OK ||
            curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, on_wanted_time) != CURLM_OK ||
            curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t) != CURLM_OK)
                return -ENOMEM;

        t->error = (DpsError){ 0 };
        return aim(t);
}

static void on_approached(const DpsError *error, void *userdata) {
        _cleanup_(https_unrefp) Https *t = https_ref(userdata);

        if (error)
                return fail(t, error);
        if ((t->is_slow && tls_context_set_slow(t->approach->tls, on_signed, t) < 0) ||
            (!t->easy && make_handles(t) < 0))
                return fail_by_memory(t);
        if (t->phase == PHASE_ASKING) { /* it lacked the system's bundle */
                if (aim(t) < 0 || curl_multi_add_handle(t->multi, t->easy) != CURLM_OK)
                        fail_by_memory(t);
                return;
        }
        t->phase = PHASE_READY;
        t->handlers.on_ready(t->userdata);
}

static void on_timer(void *userdata) {
        _cleanup_(https_unrefp) Https *t = https_ref(userdata);

        if (t->is_signing)
                fail_as(t, DPS_ERROR_KEY, DPS_STEP_TLS,
                        "waits in vain for a signature: the device's own key does not answer");
        else
                act(t, CURL_SOCKET_TIMEOUT, 0);
}

/* ---- sending ---- */

static CURLcode set_request(Https *t, const char *body) {
        CURLcode c = curl_easy_setopt(t->easy, CURLOPT_URL, t->url);

        if (c != CURLE_OK || !body)
                return c == CURLE_OK ? curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L) : c;
        c = curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
        if (c == CURLE_OK)
                c = curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long) strlen(body));
        return c == CURLE_OK ? curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, body) : c;
}

static int https_send(Transport *transport, const DpsRequest *request, const char *body) {
        Https *t = (Https *) transport;
        _cleanup_(freep) char *path = NULL;
        char *url;
        int r;

        if (t->phase != PHASE_READY)
                return -ENOTCONN;
        r = dps_request_path(request, t->path, t->api_version, &path);
        if (r < 0)
                return r;
        url = text_format("%s%s", t->base, path);
        if (!url)
                return -ENOMEM;
        free(t->url);
        t->url = url;
        free(t->request_body);
        t->request_body = body ? strdup(body) : NULL;
        if (body && !t->request_body)
                return -ENOMEM;

        forget_answer(t);
        t->is_greeted = t->is_secured = false;
        t->kind = request->kind;
        t->request_id = request->request_id;
        if (set_request(t, t->request_body) != CURLE_OK ||
            curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST,
                             request->kind == DPS_REQUEST_REGISTER ? "PUT" : NULL) != CURLE_OK)
                return -ENOMEM;
        t->phase = PHASE_ASKING;
        return curl_multi_add_handle(t->multi, t->easy) == CURLM_OK ? 0 : -ENOMEM;
}

/* ---- the class ---- */

static int copy_target(Https *t, const TransportTarget *target) {
        bool is_v6 = strchr(target->host, ':');

        t->is_slow = target->is_slow;
        t->peer = strdup(target->host);
        t->api_version = strdup(target->api_version);
        t->base = text_format("https://%s%s%s:%u", is_v6 ? "[" : "", target->host, is_v6 ? "]" : "",
                              target->port);
        if (target->token)
                t->authorization = text_format("Authorization: %s", target->token);
        if (!t->peer || !t->api_version || !t->base || (target->token && !t->authorization))
                return -ENOMEM;
        return dps_registration_path(target->id_scope, target->registration_id, &t->path);
}

static int https_connect(TransportClass *class, const TransportTarget *target,
                         const TransportHandlers *handlers, void *userdata, Transport **ret,
                         DpsError *error) {
        HttpsClass *c = (HttpsClass *) class;
        _cleanup_(https_unrefp) Https *t = calloc(1, sizeof(*t));
        int r;

        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONNECT, "there is no memory for a connection");
        if (!t)
                return -ENOMEM;
        *t = (Https){ .transport = { class }, .n_refs = 1, .handlers = *handlers, .userdata = userdata };
        r = copy_target(t, target);
        if (r >= 0)
                r = timer_new(c->approaches.world, on_timer, t, &t->timer);
        if (r >= 0)
                r = approach_new(&c->approaches, target, on_approached, t, &t->approach);
        if (r < 0)
                return r;

        *error = (DpsError){ 0 };
        *ret = &TAKE_PTR(t)->transport;
        return 0;
}

static void https_rest(TransportClass *class) {
        approaches_rest(&((HttpsClass *) class)->approaches);
}

static TransportClass *https_close_class(TransportClass *class) {
        HttpsClass *c = (HttpsClass *) class;

        approaches_done(&c->approaches);
        sd_event_unref(c->event);
        free(c);
        curl_global_cleanup();
        return NULL;
}

static int https_open(sd_event *event, World *world, TransportClass **ret) {
        HttpsClass *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
                free(c);
                return -ENOMEM;
        }

        c->class = (TransportClass){ .name = "https",
                                     .abilities = TRANSPORT_TPM_CHALLENGE,
                                     .connect = https_connect,
                                     .send = https_send,
                                     .free = https_free,
                                     .rest = https_rest,
                                     .close = https_close_class };
        c->event = sd_event_ref(event);
        approaches_init(&c->approaches, world);
        *ret = &c->class;
        return 0;
}

static const TransportModule https_module = { .open = https_open };

MODULE_DEFINE("https", "transport", &https_module);
