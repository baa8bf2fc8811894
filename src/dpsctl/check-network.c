/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/error.h"
#include "dpsctl/check.h"

/* Whether the endpoint can be reached: name, connection, TLS. */

#define STEP_TIMEOUT_MSEC 5000
#define ADDRESS_TEXT_MAX 80

DEFINE_FREEP(SSL, SSL_free)
DEFINE_FREEP(struct addrinfo, freeaddrinfo)

static int wait_for(int fd, short events) {
        struct pollfd p = { .fd = fd, .events = events };
        int r = poll(&p, 1, STEP_TIMEOUT_MSEC);

        if (r < 0)
                return -errno;
        return r == 0 ? -ETIMEDOUT : 0;
}

static int connect_to(const struct addrinfo *a, int *ret_fd) {
        _cleanup_(closep) int fd = -1;
        socklen_t size = sizeof(int);
        int error = 0, r;

        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
                if (errno != EINPROGRESS)
                        return -errno;
                r = wait_for(fd, POLLOUT);
                if (r < 0)
                        return r;
                if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                        return -errno;
                if (error > 0)
                        return -error;
        }

        *ret_fd = TAKE_FD(fd);
        return 0;
}

static const char *address_text(const struct addrinfo *a, char buffer[static ADDRESS_TEXT_MAX]) {
        if (getnameinfo(a->ai_addr, a->ai_addrlen, buffer, ADDRESS_TEXT_MAX, NULL, 0, NI_NUMERICHOST) != 0)
                (void) snprintf(buffer, ADDRESS_TEXT_MAX, "?");
        return buffer;
}

/* Connects to the first address that answers. The addresses before it get a warning. */
static int connect_any(Checks *c, const Settings *s, const struct addrinfo *list) {
        char address[ADDRESS_TEXT_MAX];
        bool is_last;
        int fd = -1, r;

        for (const struct addrinfo *a = list; a; a = a->ai_next) {
                r = connect_to(a, &fd);
                is_last = !a->ai_next;
                if (r >= 0) {
                        checks_add(c, s->name, "connection", CHECK_OK, "%s accepts connections at port %u",
                                   address_text(a, address), s->mqtt_port);
                        return fd;
                }
                checks_add(c, s->name, "connection", is_last ? CHECK_FAILURE : CHECK_WARNING,
                           "%s, port %u: %s%s", address_text(a, address), s->mqtt_port, strerror(-r),
                           is_last ? "; is the port open in the firewall?" : "; the next address is tried");
        }
        return -1;
}

/* -EPROTO: the handshake failed, and the TLS context knows why. */
static int shake_hands(SSL *ssl, int fd) {
        if (SSL_set_fd(ssl, fd) != 1)
                return -ENOMEM;
        for (;;) {
                int r = SSL_connect(ssl), e;

                if (r == 1)
                        return 0;
                e = SSL_get_error(ssl, r);
                if (e == SSL_ERROR_SYSCALL)
                        return errno > 0 ? -errno : -ECONNRESET;
                if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
                        return -EPROTO;
                r = wait_for(fd, e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT);
                if (r < 0)
                        return r;
        }
}

static void check_tls(Checks *c, const Settings *s, TlsContext *tls, int fd) {
        _cleanup_(SSL_freep) SSL *ssl = SSL_new(tls_context_ssl(tls));
        DpsError error = { 0 };
        int r;

        errno = 0;
        r = ssl ? shake_hands(ssl, fd) : -ENOMEM;
        if (ssl)
                tls_connection_error(ssl, &error);
        if (r >= 0)
                checks_add(c, s->name, "TLS", CHECK_OK, "%s has a trusted certificate, %s", s->endpoint,
                           SSL_get_version(ssl));
        else if (error.id != DPS_ERROR_NONE)
                checks_add(c, s->name, "TLS", CHECK_FAILURE, "%s; %s", error.message,
                           dps_error_id_advice(error.id));
        else
                checks_add(c, s->name, "TLS", CHECK_FAILURE,
                           "%s: %s; is DPS there, or a firewall that blocks TLS?", s->endpoint, strerror(-r));
}

void check_endpoint(Checks *c, const Settings *s, TlsContext *tls) {
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
        _cleanup_(freeaddrinfop) struct addrinfo *list = NULL;
        _cleanup_(closep) int fd = -1;
        char port[8];
        int r;

        (void) snprintf(port, sizeof(port), "%u", s->mqtt_port);
        r = getaddrinfo(s->endpoint, port, &hints, &list);
        if (r != 0) {
                checks_add(c, s->name, "name", CHECK_FAILURE,
                           "%s: %s; do the network and DNS work? resolvectl query %s", s->endpoint,
                           r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r), s->endpoint);
                return;
        }
        checks_add(c, s->name, "name", CHECK_OK, "%s resolves", s->endpoint);
        fd = connect_any(c, s, list);
        if (fd >= 0)
                check_tls(c, s, tls, fd);
}
