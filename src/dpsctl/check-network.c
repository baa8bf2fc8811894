/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/error.h"
#include "dpsctl/check.h"

/* The way to the endpoint: its name, a connection, and TLS. */

#define STEP_TIMEOUT_MSEC 5000
#define ADDRESS_TEXT_MAX 80

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

/* The first address that answers; those that do not are worth a warning. */
static int connect_any(Checks *c, const Settings *s, const struct addrinfo *list) {
        char address[ADDRESS_TEXT_MAX];
        bool is_last;
        int fd = -1, r;

        for (const struct addrinfo *a = list; a; a = a->ai_next) {
                r = connect_to(a, &fd);
                is_last = !a->ai_next;
                if (r >= 0) {
                        checks_add(c, s->name, "connection", CHECK_OK, "%s takes connections at port %u",
                                   address_text(a, address), s->mqtt_port);
                        return fd;
                }
                checks_add(c, s->name, "connection", is_last ? CHECK_FAILURE : CHECK_WARNING,
                           "%s, port %u: %s%s", address_text(a, address), s->mqtt_port, strerror(-r),
                           is_last ? "; is the port open in the firewall?" : "; the next address is tried");
        }
        return -1;
}

void check_endpoint(Checks *c, const Settings *s) {
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
        _cleanup_(freeaddrinfop) struct addrinfo *list = NULL;
        _cleanup_(closep) int fd = -1;
        char port[8];
        int r;

        if (s->proxy) {
                checks_add(c, s->name, "connection", CHECK_SKIPPED,
                           "through a proxy; dpsd's log tells of it");
                return;
        }
        (void) snprintf(port, sizeof(port), "%u", s->mqtt_port);
        r = getaddrinfo(s->endpoint, port, &hints, &list);
        if (r != 0) {
                checks_add(c, s->name, "name", CHECK_FAILURE,
                           "%s: %s; is there a network, and DNS? resolvectl query %s", s->endpoint,
                           r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r), s->endpoint);
                return;
        }
        checks_add(c, s->name, "name", CHECK_OK, "%s resolves", s->endpoint);
        fd = connect_any(c, s, list);
}
