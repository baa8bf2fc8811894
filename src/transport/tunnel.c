/* SPDX-License-Identifier: MIT */
#include "transport/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "basic/text.h"

/*
 *      SOCKS5   GREETING ──> (LOGIN ──>) REQUEST ──> ADDRESS ──> OPEN
 *      CONNECT  HEAD ──> OPEN
 *
 * In each phase our bytes are sent first, and the answer is then read up to its end and no further: what follows it
 * belongs to TLS.
 */

#define HEAD_MAX 8192U /* of an answer to CONNECT */
#define OUTPUT_MAX 2048U
#define SOCKS_TEXT_MAX 255U
#define REASON_MAX 60
#define SCHEMES_MAX 80U

enum { SOCKS_VERSION = 5, LOGIN_VERSION = 1, METHOD_NONE = 0, METHOD_PASSWORD = 2, METHOD_REFUSED = 0xff };
enum { COMMAND_CONNECT = 1, ADDRESS_V4 = 1, ADDRESS_NAME = 3, ADDRESS_V6 = 4 };

typedef enum Phase { PHASE_GREETING, PHASE_LOGIN, PHASE_REQUEST, PHASE_ADDRESS, PHASE_HEAD } Phase;

struct Tunnel {
        Proxy *proxy;
        char *name; /* "proxy socks5h://proxy:1080" */
        char *host;
        uint16_t port;
        Phase phase;
        TunnelState state;
        DpsError error;
        char output[OUTPUT_MAX]; /* may hold a secret */
        size_t n_output, n_sent;
        char input[HEAD_MAX + 1];
        size_t n_input, n_wanted;
};

static void fail(Tunnel *t, DpsErrorId id, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void fail(Tunnel *t, DpsErrorId id, const char *format, ...) {
        char text[DPS_MESSAGE_MAX];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        dps_error_set(&t->error, id, DPS_STEP_CONNECT, "%s %s", t->name, text);
        t->state = TUNNEL_FAILED;
}

/* ---- sending ---- */

static void put(Tunnel *t, const void *bytes, size_t size) {
        memcpy(t->output + t->n_output, bytes, size);
        t->n_output += size;
}
#define PUT(t, ...) put(t, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void put_text(Tunnel *t, const char *text) {
        size_t size = strlen(text);

        PUT(t, (uint8_t) size);
        put(t, text, size);
}

/* `output` is complete; an answer of `n_wanted` bytes follows. */
static void enter_phase(Tunnel *t, Phase phase, size_t n_wanted) {
        t->phase = phase;
        t->state = t->n_output > 0 ? TUNNEL_SENDS : TUNNEL_READS;
        t->n_sent = 0;
        t->n_wanted = n_wanted;
}

/* ---- SOCKS5 ---- */

static void greet(Tunnel *t) {
        if (t->proxy->user)
                PUT(t, SOCKS_VERSION, 2, METHOD_NONE, METHOD_PASSWORD);
        else
                PUT(t, SOCKS_VERSION, 1, METHOD_NONE);
        enter_phase(t, PHASE_GREETING, 2);
}

static void log_in(Tunnel *t) {
        const char *password = t->proxy->password ?: "";

        if (strlen(t->proxy->user) > SOCKS_TEXT_MAX || strlen(password) > SOCKS_TEXT_MAX)
                return fail(t, DPS_ERROR_PROXY,
                            "cannot be given a user or a password of more than 255 bytes by SOCKS5");
        PUT(t, LOGIN_VERSION);
        put_text(t, t->proxy->user);
        put_text(t, password);
        enter_phase(t, PHASE_LOGIN, 2);
}

static void request(Tunnel *t) {
        uint8_t address[16];

        PUT(t, SOCKS_VERSION, COMMAND_CONNECT, 0);
        if (inet_pton(AF_INET, t->host, address) == 1) {
                PUT(t, ADDRESS_V4);
                put(t, address, 4);
        } else if (inet_pton(AF_INET6, t->host, address) == 1) {
                PUT(t, ADDRESS_V6);
                put(t, address, 16);
        } else {
                PUT(t, ADDRESS_NAME);
                put_text(t, t->host);
        }
        PUT(t, (uint8_t) (t->port >> 8), (uint8_t) t->port);
        /* Up to the first byte of an address, which may be its length. */
        enter_phase(t, PHASE_REQUEST, 5);
}

static void take_method(Tunnel *t, uint8_t method) {
        if (method == METHOD_NONE)
                return request(t);
        if (method == METHOD_PASSWORD && t->proxy->user)
                return log_in(t);
        if (method == METHOD_REFUSED && t->proxy->user)
                return fail(t, DPS_ERROR_PROXY, "accepts no log-in by user and password");
        fail(t, DPS_ERROR_PROXY, "demands a log-in%s",
             t->proxy->user ? " of another kind" : ": set a user in Proxy=, and ProxyPassword=");
}

static void take_reply(Tunnel *t, uint8_t code, uint8_t type) {
        static const struct {
                DpsErrorId id;
                const char *what, *why;
        } failures[] = {
                { DPS_ERROR_PROXY, "failed to connect to", "its answer is an unknown code" },
                { DPS_ERROR_PROXY, "failed to connect to", "it does not say why" },
                { DPS_ERROR_PROXY, "does not allow a connection to", "its rules forbid it" },
                { DPS_ERROR_UNREACHABLE, "cannot reach", "its network has no route" },
                { DPS_ERROR_UNREACHABLE, "cannot reach", "the host is unreachable or has no address" },
                { DPS_ERROR_REFUSED, "reached", "the connection was refused there" },
                { DPS_ERROR_TIMEOUT, "cannot reach", "the time to live has expired" },
                { DPS_ERROR_PROXY, "failed to connect to", "it does not support the command" },
                { DPS_ERROR_PROXY, "failed to connect to", "it does not support this kind of address" },
        };
        size_t row = code < ELEMENTSOF(failures) ? code : 0, rest;

        if (code != 0)
                return fail(t, failures[row].id, "%s %s:%u: %s (SOCKS5 reply %u)", failures[row].what,
                            t->host, t->port, failures[row].why, code);

        rest = type == ADDRESS_V4     ? 4
               : type == ADDRESS_V6   ? 16
               : type == ADDRESS_NAME ? 1U + (uint8_t) t->input[4]
                                      : 0;
        if (rest == 0)
                return fail(t, DPS_ERROR_PROXY, "answers something that is not SOCKS5");
        enter_phase(t, PHASE_ADDRESS, rest - 1 + 2);
}

static void take_socks(Tunnel *t) {
        const uint8_t *in = (const uint8_t *) t->input;

        if (t->phase == PHASE_ADDRESS)
                t->state = TUNNEL_OPEN;
        else if (in[0] != (t->phase == PHASE_LOGIN ? LOGIN_VERSION : SOCKS_VERSION))
                fail(t, DPS_ERROR_PROXY, "answers something that is not SOCKS5%s",
                     memcmp(in, "HT", 2) == 0 ? ", but HTTP: write http:// in Proxy=" : "");
        else if (t->phase == PHASE_GREETING)
                take_method(t, in[1]);
        else if (t->phase == PHASE_REQUEST)
                take_reply(t, in[1], in[3]);
        else if (in[1] == 0)
                request(t);
        else
                fail(t, DPS_ERROR_PROXY, "refused the user or the password; check Proxy= and ProxyPassword=");
}

/* ---- HTTP CONNECT ---- */

static int put_line(Tunnel *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int put_line(Tunnel *t, const char *format, ...) {
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(t->output + t->n_output, OUTPUT_MAX - t->n_output, format, ap);
        va_end(ap);
        if (n < 0 || (size_t) n >= OUTPUT_MAX - t->n_output)
                return -EMSGSIZE;
        t->n_output += (size_t) n;
        return 0;
}

static int put_basic(Tunnel *t) {
        _cleanup_(erase_and_freep) char *plain = NULL, *encoded = NULL;
        size_t size;
        int r;

        plain = text_format("%s:%s", t->proxy->user, t->proxy->password ?: "");
        if (!plain)
                return -ENOMEM;
        size = strlen(plain);
        encoded = malloc(4 * (size / 3 + 1) + 1);
        if (!encoded)
                return -ENOMEM;
        (void) EVP_EncodeBlock((unsigned char *) encoded, (const unsigned char *) plain, (int) size);
        r = put_line(t, "Proxy-Authorization: Basic %s\r\n", encoded);
        return r;
}

static int ask(Tunnel *t) {
        bool is_v6 = strchr(t->host, ':');
        const char *open = is_v6 ? "[" : "", *close = is_v6 ? "]" : "";
        int r;

        r = put_line(t, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n", open, t->host, close, t->port,
                     open, t->host, close, t->port);
        if (r >= 0 && t->proxy->user)
                r = put_basic(t);
        if (r >= 0)
                r = put_line(t, "\r\n");
        if (r < 0)
                return r;
        enter_phase(t, PHASE_HEAD, HEAD_MAX);
        return 0;
}

/* The first word of each Proxy-Authenticate header: "Basic, Digest". */
static void list_schemes(const char *head, char ret[static SCHEMES_MAX]) {
        static const char name[] = "Proxy-Authenticate:";
        size_t n = 0;

        *ret = 0;
        for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
                size_t size;

                line += 2;
                if (strncasecmp(line, name, strlen(name)) != 0)
                        continue;
                line += strlen(name);
                line += strspn(line, " \t");
                size = strcspn(line, " \t\r\n,");
                if (size > 0 && n + size + 3 < SCHEMES_MAX)
                        n += (size_t) snprintf(ret + n, SCHEMES_MAX - n, "%s%.*s", n > 0 ? ", " : "",
                                               (int) size, line);
        }
}

/* Tinyproxy answers 401 to a wrong password, without a scheme. */
static void fail_by_login(Tunnel *t, unsigned status) {
        char schemes[SCHEMES_MAX];

        list_schemes(t->input, schemes);
        if (!t->proxy->user)
                fail(t, DPS_ERROR_PROXY,
                     "demands a log-in (407, offers %s): set a user in Proxy=, and ProxyPassword=",
                     *schemes ? schemes : "no scheme");
        else if (strcasestr(schemes, "Basic") || status == 401)
                fail(t, DPS_ERROR_PROXY,
                     "refused the user or the password (%u, offers %s); check Proxy= and ProxyPassword=",
                     status, *schemes ? schemes : "nothing else");
        else
                fail(t, DPS_ERROR_PROXY, "offers no log-in that MQTT can use (407, offers %s, not Basic): %s",
                     *schemes ? schemes : "no scheme",
                     strcasestr(schemes, "Digest") || strcasestr(schemes, "NTLM")
                             ? "set Transport=https"
                             : "let it offer Basic, or let this device through without a log-in");
}

static void take_head(Tunnel *t) {
        const char *end = strstr(t->input, "\r\n\r\n"), *p = t->input;
        uint64_t status;

        if (strncmp(p, "HTTP/1.", MIN(t->n_input, 7U)) != 0)
                return fail(t, DPS_ERROR_PROXY, "answers something that is not HTTP%s",
                            (uint8_t) *p == SOCKS_VERSION ? ", but SOCKS: write socks5h:// in Proxy=" : "");
        if (strlen(t->input) < t->n_input || (!end && t->n_input == HEAD_MAX))
                return fail(t, DPS_ERROR_PROXY, "answers with a head that is not HTTP or does not end");
        if (!end)
                return;

        p += strcspn(p, " \r");
        p += *p == ' ';
        if (scan_u64(&p, &status) < 0 || status < 100 || status > 599)
                return fail(t, DPS_ERROR_PROXY, "answers something that is not HTTP");
        if (status == 407 || (status == 401 && t->proxy->user))
                return fail_by_login(t, (unsigned) status);
        if (status / 100 != 2)
                return fail(t, DPS_ERROR_PROXY, "refused to connect to %s:%u: %u%.*s", t->host, t->port,
                            (unsigned) status, (int) MIN(strcspn(p, "\r\n"), (size_t) REASON_MAX), p);
        if (end[4])
                return fail(t, DPS_ERROR_PROXY, "sent something before TLS began");
        t->state = TUNNEL_OPEN;
}

/* ---- life ---- */

int tunnel_new(const Proxy *proxy, const char *host, uint16_t port, Tunnel **ret) {
        _cleanup_(tunnel_freep) Tunnel *t = calloc(1, sizeof(*t));
        _cleanup_(freep) char *text = NULL;
        int r;

        if (!t)
                return -ENOMEM;
        r = proxy_copy(proxy, &t->proxy);
        if (r >= 0)
                r = proxy_to_text(proxy, &text);
        if (r < 0)
                return r;
        t->port = port;
        t->host = strdup(host);
        t->name = text_format("proxy %s", text);
        if (!t->host || !t->name)
                return -ENOMEM;

        if (proxy->kind == PROXY_SOCKS5H)
                greet(t);
        else
                r = ask(t);
        if (r == -EMSGSIZE)
                fail(t, DPS_ERROR_PROXY, "cannot be given a user or a password that long");
        else if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

Tunnel *tunnel_free(Tunnel *t) {
        if (!t)
                return NULL;

        explicit_bzero(t->output, sizeof(t->output));
        proxy_free(t->proxy);
        free(t->name);
        free(t->host);
        free(t);
        return NULL;
}

TunnelState tunnel_state(const Tunnel *t) {
        return t->state;
}

const char *tunnel_output(const Tunnel *t, size_t *ret_size) {
        *ret_size = t->n_output - t->n_sent;
        return t->output + t->n_sent;
}

void tunnel_sent(Tunnel *t, size_t size) {
        t->n_sent += size;
        if (t->n_sent < t->n_output)
                return;

        explicit_bzero(t->output, t->n_output);
        t->n_output = t->n_sent = t->n_input = 0;
        t->state = TUNNEL_READS;
}

size_t tunnel_wanted(const Tunnel *t) {
        return t->n_wanted - t->n_input;
}

void tunnel_received(Tunnel *t, const void *bytes, size_t size) {
        memcpy(t->input + t->n_input, bytes, size);
        t->n_input += size;
        t->input[t->n_input] = 0;
        if (t->phase == PHASE_HEAD)
                take_head(t);
        else if (t->n_input == t->n_wanted) {
                take_socks(t);
                t->n_input = 0;
        }
}

const DpsError *tunnel_error(const Tunnel *t) {
        return &t->error;
}
