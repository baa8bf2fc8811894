/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>

#include "basic/text.h"
#include "basic/times.h"
#include "check/check-network.h"
#include "client/route.h"
#include "dps/request.h"

/* The assigned hub: its name, port and certificate; and a log-in, as programs do it, if that is wished for. */

#define HUB_PORT 8883
#define LOGIN_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define PACKET_MAX 4096U

DEFINE_FREEP(SSL, SSL_free)

/* MQTT 3.1.1 */
enum {
        CONNECT = 0x10,
        CONNACK = 0x20,
        DISCONNECT = 0xe0,
        LEVEL = 4,
        CLEAN = 0x02,
        USERNAME = 0x80,
        PASSWORD = 0x40
};

typedef struct Packet {
        uint8_t bytes[PACKET_MAX]; /* holds a secret */
        size_t n;
        bool is_full;
} Packet;

static void packet_done(Packet *p) {
        explicit_bzero(p, sizeof(*p));
}

static void put(Packet *p, const void *bytes, size_t n) {
        p->is_full = p->is_full || n > sizeof(p->bytes) - p->n;
        if (p->is_full)
                return;
        memcpy(p->bytes + p->n, bytes, n);
        p->n += n;
}

static void put_text(Packet *p, const char *text) {
        size_t n = MIN(strlen(text), (size_t) UINT16_MAX);

        put(p, (const uint8_t[]){ (uint8_t) (n >> 8), (uint8_t) n }, 2);
        put(p, text, n);
}

/* Its length takes two bytes, which is enough up to 16383. */
static void make_connect(const CheckHub *h, const char *username, Packet *ret) {
        const uint8_t flags = CLEAN | USERNAME | (h->token ? PASSWORD : 0);
        size_t n;

        put(ret, (const uint8_t[]){ CONNECT, 0, 0, 0, 4, 'M', 'Q', 'T', 'T', LEVEL, flags, 0, 60 }, 13);
        put_text(ret, h->device_id);
        put_text(ret, username);
        if (h->token)
                put_text(ret, h->token);
        n = ret->n - 3;
        ret->bytes[1] = (uint8_t) (n % 128 | 128);
        ret->bytes[2] = (uint8_t) (n / 128);
}

static int wait_for_tls(const SSL *ssl, int result, uint64_t until) {
        int e = SSL_get_error(ssl, result);

        if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
                return -ECONNRESET;
        return peer_wait(SSL_get_fd(ssl), e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until);
}

static int write_all(SSL *ssl, const void *bytes, size_t n, uint64_t until) {
        for (;;) {
                int done = SSL_write(ssl, bytes, (int) n), r;

                if (done > 0)
                        return 0;
                r = wait_for_tls(ssl, done, until);
                if (r < 0)
                        return r;
        }
}

/* The code of the CONNACK. */
static int read_connack(SSL *ssl, uint64_t until, uint8_t *ret) {
        uint8_t answer[4];
        size_t n = 0;

        while (n < sizeof(answer)) {
                int done = SSL_read(ssl, answer + n, (int) (sizeof(answer) - n)), r;

                if (done > 0) {
                        n += (size_t) done;
                        continue;
                }
                r = wait_for_tls(ssl, done, until);
                if (r < 0)
                        return r;
        }
        if (answer[0] != CONNACK || answer[1] != 2)
                return -EPROTO;
        *ret = answer[3];
        return 0;
}

static int log_in(const CheckHub *h, SSL *ssl, uint8_t *ret_code) {
        uint64_t until = now_usec(CLOCK_BOOTTIME) + LOGIN_TIMEOUT_USEC;
        _cleanup_(packet_done) Packet packet = { 0 };
        _cleanup_(freep) char *username = NULL;
        int r;

        r = dps_hub_username(h->host, h->device_id, &username);
        if (r < 0)
                return r;
        make_connect(h, username, &packet);
        if (packet.is_full)
                return -EMSGSIZE;
        r = write_all(ssl, packet.bytes, packet.n, until);
        if (r >= 0)
                r = read_connack(ssl, until, ret_code);
        if (r >= 0)
                (void) write_all(ssl, (const uint8_t[]){ DISCONNECT, 0 }, 2, until);
        return r;
}

static void tell_login(Checks *c, const CheckSubject *s, int r, uint8_t code) {
        const CheckHub *h = &s->hub;
        char hint[CHECK_CLOCK_TEXT_MAX];

        if (r < 0)
                checks_add(c, "hub log-in", CHECK_FAILURE, "\"%s\" gave no answer to the log-in: %s", h->host,
                           strerror(-r));
        else if (code == 0)
                checks_add(
                        c, "hub log-in", CHECK_OK,
                        "\"%s\" let \"%s\" in; a program that was connected has been displaced, and has to "
                        "connect again",
                        h->host, h->device_id);
        else
                checks_add(c, "hub log-in", CHECK_FAILURE, "\"%s\" refused \"%s\" (code %u); %s", h->host,
                           h->device_id, code,
                           *check_clock_hint(s, hint) ? hint
                                                      : "is the device enabled there? dpsctl reprovision");
}

/* `ret` NULL: only TLS. */
static int reach(Checks *c, const CheckSubject *s, SSL **ret_ssl, int *ret_fd) {
        const ClientCertificate *x =
                ret_ssl && s->hub.credential ? credential_certificate(s->hub.credential) : NULL;
        _cleanup_(proxy_freep) Proxy *proxy = NULL;
        _cleanup_(tls_context_unrefp) TlsContext *tls = NULL;
        _cleanup_(closep) int fd = -1;
        Peer p = { .subject = s,
                   .about = "hub",
                   .about_tls = "hub",
                   .host = s->hub.host,
                   .shown = "the hub",
                   .port = HUB_PORT,
                   .without = CHECK_FAILURE,
                   .is_quiet = true };
        DpsError error;
        int r;

        r = route_read(s->settings, s->hub.host, &proxy, &error);
        if (r >= 0 && proxy && proxy->kind == PROXY_HTTPS) {
                checks_add(c, "hub", CHECK_SKIPPED, "the way through an https:// proxy is not looked at");
                return -EOPNOTSUPP;
        }
        if (r >= 0)
                r = peer_tls_new(s, s->hub.host, x, &tls, &error);
        if (r < 0) {
                checks_add(c, "hub", CHECK_FAILURE, "%s", error.message);
                return r;
        }
        p.proxy = proxy;
        fd = peer_connect(c, &p);
        if (fd < 0)
                return -ENOTCONN;
        r = peer_begin_tls(c, &p, tls, fd, ret_ssl);
        if (r >= 0 && ret_fd)
                *ret_fd = TAKE_FD(fd);
        return r;
}

void check_hub(Checks *c, CheckSubject *s) {
        if (!s->hub.host)
                checks_add(c, "hub", CHECK_SKIPPED, "not assigned");
        else if (!s->hub.is_asked)
                (void) reach(c, s, NULL, NULL);
}

void check_hub_login(Checks *c, CheckSubject *s) {
        _cleanup_(SSL_freep) SSL *ssl = NULL;
        _cleanup_(closep) int fd = -1;
        uint8_t code = 0;
        int r;

        if (!s->hub.token && !s->hub.credential) {
                checks_add(c, "hub log-in", CHECK_SKIPPED, "%s", s->hub.why_not ?: "not assigned");
                return;
        }
        if (reach(c, s, &ssl, &fd) < 0)
                return;
        r = log_in(&s->hub, ssl, &code);
        ERR_clear_error();
        tell_login(c, s, r, code);
}
