/* SPDX-License-Identifier: MIT */
#include "check/check-network.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "check/check.h"
#include "client/route.h"
#include "transport/tunnel.h"

/* Whether the endpoint can be reached: proxy, names, connections, TLS. */

#define CONNECT_TIMEOUT_USEC (3 * USEC_PER_SEC) /* as for a registration */
#define TLS_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define ADDRESSES_MAX 6U
#define ADDRESSES_TOLD_MAX 3U
#define ADDRESS_TEXT_MAX 80
#define RECEIVED_MAX (256U * 1024)
#define NAME_MAX_FOR_PEOPLE 64

DEFINE_FREEP(struct addrinfo, freeaddrinfo)

/* ---- sockets ---- */

int peer_wait(int fd, short events, uint64_t until_usec) {
        uint64_t left = usec_sub(until_usec, now_usec(CLOCK_BOOTTIME));
        struct pollfd p = { .fd = fd, .events = events };
        int r;

        if (left == 0)
                return -ETIMEDOUT;
        r = poll(&p, 1, (int) (left / USEC_PER_MSEC) + 1);
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
                r = peer_wait(fd, POLLOUT, now_usec(CLOCK_BOOTTIME) + CONNECT_TIMEOUT_USEC);
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

static const char *why_no_connection(int r) {
        switch (-r) {
        case ETIMEDOUT:
                return "no answer within 3 s: a firewall drops connections to this port";
        case ECONNREFUSED:
                return "refused; is the port open in the firewall?";
        case EACCES:
        case EPERM:
                return "a firewall on this machine forbids it: nft list ruleset";
        case ENETUNREACH:
        case EHOSTUNREACH:
                return "there is no route: ip route";
        default:
                return strerror(-r);
        }
}

/* ---- the tunnel ---- */

static int tunnel_send(int fd, Tunnel *t) {
        size_t size;
        const char *bytes = tunnel_output(t, &size);
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

        if (n < 0)
                return -errno;
        tunnel_sent(t, (size_t) n);
        return 0;
}

static int tunnel_receive(int fd, Tunnel *t) {
        char bytes[512];
        ssize_t n = recv(fd, bytes, MIN(tunnel_wanted(t), sizeof(bytes)), 0);

        if (n < 0)
                return -errno;
        if (n == 0)
                return -ECONNRESET;
        tunnel_received(t, bytes, (size_t) n);
        return 0;
}

static int drive_tunnel(int fd, Tunnel *t) {
        uint64_t until = now_usec(CLOCK_BOOTTIME) + TLS_TIMEOUT_USEC;

        while (tunnel_state(t) == TUNNEL_SENDS || tunnel_state(t) == TUNNEL_READS) {
                bool sends = tunnel_state(t) == TUNNEL_SENDS;
                int r = peer_wait(fd, sends ? POLLOUT : POLLIN, until);

                if (r >= 0)
                        r = sends ? tunnel_send(fd, t) : tunnel_receive(fd, t);
                if (r < 0 && r != -EAGAIN && r != -EINTR)
                        return r;
        }
        return tunnel_state(t) == TUNNEL_OPEN ? 0 : -EPROTO;
}

static int open_tunnel(Checks *c, const Peer *p, int fd) {
        _cleanup_(tunnel_freep) Tunnel *t = NULL;
        char *const *addresses = p->addresses;
        char advice[CHECK_ADVICE_MAX];
        int r;

        r = tunnel_new(p->proxy, addresses ? addresses[0] : p->host, p->port, &t);
        if (r >= 0)
                r = drive_tunnel(fd, t);
        if (r == -EPROTO)
                checks_add(c, p->about, p->without, "%s; %s", tunnel_error(t)->message,
                           check_advice(tunnel_error(t), advice));
        else if (r < 0)
                checks_add(c, p->about, p->without, "the proxy does not answer: %s; does it serve port %u?",
                           strerror(-r), p->port);
        return r;
}

/* ---- connections ---- */

/* Connects to the first address that answers. The addresses before it get a warning. */
static int connect_any(Checks *c, const Peer *p, uint16_t port, const struct addrinfo *list,
                       bool is_last_name) {
        char address[ADDRESS_TEXT_MAX];
        unsigned n = 0;
        int fd = -1, r;

        for (const struct addrinfo *a = list; a; a = a->ai_next) {
                bool is_last = !a->ai_next || ++n == ADDRESSES_MAX;

                r = connect_to(a, &fd);
                (void) address_text(a, address);
                if (r >= 0) {
                        if (!p->is_quiet)
                                checks_add(c, p->about, CHECK_OK, "%s accepts connections at port %u",
                                           address, port);
                        return fd;
                }
                is_last = is_last && is_last_name;
                checks_add(c, p->about, is_last ? p->without : CHECK_WARNING, "%s, port %u: %s%s", address,
                           port, why_no_connection(r), is_last ? "" : "; the next address is tried");
                if (n == ADDRESSES_MAX)
                        break;
        }
        return -1;
}

static int resolve(const char *host, uint16_t port, int family, struct addrinfo **ret) {
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = family };
        char service[8];

        (void) snprintf(service, sizeof(service), "%u", port);
        return getaddrinfo(host, service, &hints, ret);
}

int peer_connect(Checks *c, const Peer *p) {
        char *const alone[] = { (char *) (p->proxy ? p->proxy->host : p->host), NULL };
        char *const *names = p->addresses && !p->proxy ? p->addresses : alone;
        uint16_t port = p->proxy ? p->proxy->port : p->port;
        _cleanup_(closep) int fd = -1;

        for (; *names && fd < 0; names++) {
                _cleanup_(freeaddrinfop) struct addrinfo *list = NULL;

                if (resolve(*names, port, AF_UNSPEC, &list) == 0)
                        fd = connect_any(c, p, port, list, !names[1]);
                else if (!names[1])
                        checks_add(c, p->about, p->without, "%s does not resolve", *names);
        }
        if (fd >= 0 && p->proxy && open_tunnel(c, p, fd) < 0)
                return -1;
        return TAKE_FD(fd);
}

/* ---- TLS ---- */

/* -EPROTO: the handshake failed, and the TLS context knows why. */
static int shake_hands(SSL *ssl, int fd) {
        uint64_t until = now_usec(CLOCK_BOOTTIME) + TLS_TIMEOUT_USEC;

        if (SSL_set_fd(ssl, fd) != 1)
                return -ENOMEM;
        for (;;) {
                int r, e;

                errno = 0;
                r = SSL_connect(ssl);
                if (r == 1)
                        return 0;
                e = SSL_get_error(ssl, r);
                if (e == SSL_ERROR_SYSCALL)
                        return errno > 0 ? -errno : -ECONNRESET;
                if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
                        return -EPROTO;
                if (BIO_number_read(SSL_get_rbio(ssl)) > RECEIVED_MAX)
                        return -EMSGSIZE;
                r = peer_wait(fd, e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, until);
                if (r < 0)
                        return r;
        }
}

static char *name_of(const X509_NAME *name) {
        static const int kinds[] = { NID_commonName, NID_organizationName };

        for (size_t k = 0; name && k < ELEMENTSOF(kinds); k++) {
                int at = X509_NAME_get_index_by_NID(name, kinds[k], -1);
                const ASN1_STRING *value =
                        at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));

                if (value)
                        return text_for_people(ASN1_STRING_get0_data(value),
                                               (size_t) ASN1_STRING_length(value), NAME_MAX_FOR_PEOPLE);
        }
        return strdup("no name");
}

/* "server < CA < root": whose certificates the server sent, and by whom the last one was issued. */
static char *describe_chain(const SSL *ssl) {
        const STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
        char *text = NULL;
        int n = chain ? sk_X509_num(chain) : 0;

        for (int k = 0; k <= n && k < 6 && n > 0; k++) {
                const X509 *x = sk_X509_value(chain, MIN(k, n - 1));
                _cleanup_(freep) char *name =
                        name_of(k == n ? X509_get_issuer_name(x) : X509_get_subject_name(x));
                char *longer;

                longer = text_format("%s%s%s", text ?: "", text ? " < " : "", name ?: "?");
                if (!longer)
                        break;
                free(text);
                text = longer;
        }
        return text;
}

/* The certificate that all trust rests on. */
static char *root_name(const SSL *ssl) {
        const STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
        int n = chain ? sk_X509_num(chain) : 0;

        return n > 0 ? name_of(X509_get_subject_name(sk_X509_value(chain, n - 1))) : NULL;
}

static void tell_good_tls(Checks *c, const Peer *p, const SSL *ssl) {
        _cleanup_(freep) char *chain = describe_chain(ssl), *root = root_name(ssl);
        bool is_foreign = root && azure_cloud_of(p->host) != _AZURE_CLOUD_MAX &&
                          !startswith(root, "DigiCert") && !startswith(root, "Microsoft") &&
                          !startswith(root, "Baltimore");

        if (is_foreign)
                checks_add(
                        c, p->about_tls, CHECK_WARNING,
                        "%s has a trusted certificate, but it was issued by %s, which is not a CA of Azure: "
                        "a proxy intercepts the connection, and works as long as its CA is trusted here",
                        p->shown, root);
        else
                checks_add(c, p->about_tls, CHECK_OK, "%s has a trusted certificate, %s: %s", p->shown,
                           SSL_get_version(ssl), chain ?: "?");
}

static void tell_bad_tls(Checks *c, const Peer *p, const SSL *ssl, int r) {
        _cleanup_(freep) char *chain = ssl ? describe_chain(ssl) : NULL;
        char hint[CHECK_CLOCK_TEXT_MAX], advice[CHECK_ADVICE_MAX];
        DpsError error = { 0 };

        if (ssl)
                tls_connection_error(ssl, &error);
        if (error.id == DPS_ERROR_TLS_EXPIRED && *check_clock_hint(p->subject, hint))
                checks_add(c, p->about_tls, p->without, "%s; %s", error.message, hint);
        else if (error.id != DPS_ERROR_NONE)
                checks_add(c, p->about_tls, p->without, "%s; %s%s%s%s", error.message,
                           check_advice(&error, advice), chain ? " (the server sent: " : "", chain ?: "",
                           chain ? ")" : "");
        else
                checks_add(c, p->about_tls, p->without,
                           "%s: %s; is DPS there, or a firewall that blocks TLS?", p->shown,
                           r == -EPROTO ? "it does not speak TLS" : strerror(-r));
}

int peer_tls_new(const CheckSubject *s, const char *host, const ClientCertificate *x, TlsContext **ret,
                 DpsError *error) {
        _cleanup_(trust_unrefp) Trust *trust = NULL;
        int r = trust_read(s->settings->ca_files, &trust, error);

        if (r >= 0 && trust_lacks_bundle(trust))
                (void) trust_read_bundle(trust); /* dpsd connects a second time where it is needed */
        return r < 0 ? r : tls_context_new(host, trust, x ? x->chain : NULL, x ? x->key : NULL, ret, error);
}

int peer_begin_tls(Checks *c, const Peer *p, TlsContext *tls, int fd, SSL **ret) {
        SSL *ssl = SSL_new(tls_context_ssl(tls));
        int r;

        r = ssl ? shake_hands(ssl, fd) : -ENOMEM;
        if (r >= 0)
                tell_good_tls(c, p, ssl);
        else
                tell_bad_tls(c, p, ssl, r);
        ERR_clear_error();
        if (r >= 0 && ret)
                *ret = ssl;
        else
                SSL_free(ssl);
        return r;
}

static bool check_peer(Checks *c, const Peer *p) {
        _cleanup_(tls_context_unrefp) TlsContext *tls = NULL;
        _cleanup_(closep) int fd = -1;
        DpsError error;

        fd = peer_connect(c, p);
        if (fd < 0)
                return false;
        if (peer_tls_new(p->subject, p->host, NULL, &tls, &error) < 0) {
                checks_add(c, p->about_tls, CHECK_SKIPPED, "%s", error.message);
                return false;
        }
        return peer_begin_tls(c, p, tls, fd, NULL) >= 0;
}

/* ---- steps ---- */

void check_route(Checks *c, CheckSubject *s) {
        _cleanup_(freep) char *name = NULL;
        DpsError error;

        if (route_read(s->settings, s->settings->endpoint, &s->proxy, &error) < 0) {
                checks_add(c, "proxy", CHECK_FAILURE, "%s", error.message);
                s->is_lost = true;
                return;
        }
        if (!s->proxy)
                return;
        if (proxy_to_text(s->proxy, &name) < 0)
                c->failed = true;
        else
                checks_add(c, "proxy", CHECK_OK, "%s is asked for %s (%s)", name, s->settings->endpoint,
                           s->settings->proxy ? "Proxy=" : "the environment's");
}

/* One kind of address of a name. Returns whether there is one. */
static bool check_family(Checks *c, const char *host, int family, bool other, int *ret_error) {
        _cleanup_(freeaddrinfop) struct addrinfo *list = NULL;
        const char *kind = family == AF_INET ? "A (IPv4)" : "AAAA (IPv6)";
        char text[ADDRESSES_TOLD_MAX * (ADDRESS_TEXT_MAX + 2)] = "", address[ADDRESS_TEXT_MAX];
        unsigned n = 0;
        size_t size = 0;
        int r = resolve(host, 0, family, &list);

        *ret_error = r == EAI_NONAME || r == EAI_NODATA || r == EAI_ADDRFAMILY ? 0 : r;
        for (const struct addrinfo *a = list; r == 0 && a; a = a->ai_next, n++)
                if (n < ADDRESSES_TOLD_MAX)
                        size += (size_t) snprintf(text + size, sizeof(text) - size, "%s%s", n > 0 ? ", " : "",
                                                  address_text(a, address));
        if (r == 0)
                checks_add(c, "name", CHECK_OK, "%s, %s: %s%s", host, kind, text,
                           n > ADDRESSES_TOLD_MAX ? ", …" : "");
        else if (*ret_error != 0)
                checks_add(c, "name", other ? CHECK_WARNING : CHECK_FAILURE,
                           "%s, %s: %s; do the network and its name servers work? resolvectl query %s", host,
                           kind, r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r), host);
        else if (other)
                checks_add(c, "name", CHECK_OK, "%s, %s: no address, the others are used", host, kind);
        return r == 0;
}

static void check_name(Checks *c, const char *host) {
        _cleanup_(freeaddrinfop) struct addrinfo *list = NULL;
        const struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST };
        bool has_v4, has_v6;
        int e4, e6;

        if (getaddrinfo(host, NULL, &numeric, &list) == 0) {
                checks_add(c, "name", CHECK_OK, "%s is an address", host);
                return;
        }
        has_v6 = resolve(host, 0, AF_INET6, &list) == 0;
        has_v4 = check_family(c, host, AF_INET, has_v6, &e4);
        (void) check_family(c, host, AF_INET6, has_v4, &e6);
        if (!has_v4 && !has_v6 && e4 == 0 && e6 == 0)
                checks_add(c, "name", CHECK_FAILURE,
                           "%s has no address, neither A nor AAAA; is it spelt right? resolvectl query %s",
                           host, host);
}

void check_names(Checks *c, CheckSubject *s) {
        if (s->proxy)
                return check_name(c, s->proxy->host);
        if (!s->settings->addresses)
                return check_name(c, s->settings->endpoint);
        STRV_FOREACH(name, s->settings->addresses)
                check_name(c, *name);
}

static Peer peer_of(const CheckSubject *s, uint16_t port, const char *about, const char *about_tls) {
        return (Peer){ .subject = s,
                       .about = about,
                       .about_tls = about_tls,
                       .host = s->settings->endpoint,
                       .shown = s->settings->endpoint,
                       .addresses = s->settings->addresses,
                       .port = port,
                       .proxy = s->proxy,
                       .without = CHECK_FAILURE };
}

void check_mqtt(Checks *c, CheckSubject *s) {
        Peer p = peer_of(s, s->settings->mqtt_port, "connection", "TLS");

        if (s->settings->transport == TRANSPORT_HTTPS)
                return;
        if (s->proxy && s->proxy->kind == PROXY_HTTPS) {
                checks_add(c, "connection", CHECK_FAILURE,
                           "MQTT cannot go through a proxy that is reached by TLS (https://): use http:// or "
                           "socks5h://, or Transport=https");
                return;
        }
        s->is_reached = check_peer(c, &p);
}

/* Whether HTTPS could be used: a file is there. Whether it is of this build is found out when it is loaded. */
static bool has_https(void) {
        _cleanup_(freep) char *path = text_format("%s/https.so", module_directory());

        return path && access(path, R_OK) == 0;
}

void check_https(Checks *c, CheckSubject *s) {
        bool is_needed = s->settings->transport == TRANSPORT_HTTPS;
        Peer p = peer_of(s, s->settings->https_port, "HTTPS", "HTTPS");
        bool is_open;

        p.without = is_needed ? CHECK_FAILURE : CHECK_WARNING;
        p.is_quiet = true;
        if (s->proxy && s->proxy->kind == PROXY_HTTPS) {
                checks_add(c, "HTTPS", CHECK_SKIPPED, "the way through an https:// proxy is not looked at");
                s->is_reached_by_https = true;
        } else {
                s->is_reached_by_https = is_open = check_peer(c, &p);
                if (is_open && !s->is_reached && s->settings->transport == TRANSPORT_MQTT)
                        checks_add(c, "HTTPS", CHECK_WARNING,
                                   "port %u is open where port %u is not: with Transport=auto or https this "
                                   "device would get through",
                                   p.port, s->settings->mqtt_port);
        }
        if (s->settings->transport == TRANSPORT_MQTT)
                return;
        checks_add(c, "HTTPS", has_https() ? CHECK_OK : p.without,
                   has_https() ? "the module is installed in %s"
                               : "the module is not in %s, so only MQTT can be used: install dps-https",
                   module_directory());
}
