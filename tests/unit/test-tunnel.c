/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "basic/text.h"
#include "table.h"
#include "transport/tunnel.h"

#define SECRET "hunter2"

/* What we send and what the proxy sends in turn, until the tunnel is open or has failed. */
static const struct dialogue_case {
        const char *promise;
        ProxyKind kind;
        const char *user, *password, *host;
        struct {
                const char *ours, *theirs;
                size_t n_ours, n_theirs;
        } turns[3];
        DpsErrorId id; /* NONE: the tunnel opens */
        const char *telling;
} dialogues[] = {
#define TURN(ours, theirs)                                                                                   \
        { ours, theirs, sizeof(ours) - 1, sizeof(theirs) - 1 }
#define GREETING "\5\1\0"
#define NAME "\5\1\0\3\13dps.example\x22\xb3"
#define OPEN "\5\0\0\1\0\0\0\0\0\0"
#define LOGIN "\1\3joe\7" SECRET
        { "SOCKS5 asks for the name",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, OPEN) },
          DPS_ERROR_NONE,
          NULL },
        { "SOCKS5 asks for an address of IPv4",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "10.0.0.1",
          { TURN(GREETING, "\5\0"), TURN("\5\1\0\1\12\0\0\1\x22\xb3", OPEN) },
          DPS_ERROR_NONE,
          NULL },
        { "SOCKS5 asks for an address of IPv6",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "::1",
          { TURN(GREETING, "\5\0"), TURN("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x22\xb3", OPEN) },
          DPS_ERROR_NONE,
          NULL },
        { "SOCKS5 logs in",
          PROXY_SOCKS5H,
          "joe",
          SECRET,
          "dps.example",
          { TURN("\5\2\0\2", "\5\2"), TURN(LOGIN, "\1\0"), TURN(NAME, OPEN) },
          DPS_ERROR_NONE,
          NULL },
        { "SOCKS5 logs in without a password",
          PROXY_SOCKS5H,
          "joe",
          NULL,
          "dps.example",
          { TURN("\5\2\0\2", "\5\2"), TURN("\1\3joe\0", "\1\0"), TURN(NAME, OPEN) },
          DPS_ERROR_NONE,
          NULL },
        { "an answer may hold an address of IPv6",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x22\xb3") },
          DPS_ERROR_NONE,
          NULL },
        { "an answer may hold a name",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\0\0\3\2gw\x22\xb3") },
          DPS_ERROR_NONE,
          NULL },
        { "an answer may hold an empty name",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\0\0\3\0\x22\xb3") },
          DPS_ERROR_NONE,
          NULL },
        { "a log-in that we have not",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\xff") },
          DPS_ERROR_PROXY,
          "demands a log-in: set a user in Proxy=" },
        { "a log-in that was not offered",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\2") },
          DPS_ERROR_PROXY,
          "demands a log-in: set a user in Proxy=" },
        { "a log-in of another kind",
          PROXY_SOCKS5H,
          "joe",
          SECRET,
          "dps.example",
          { TURN("\5\2\0\2", "\5\1") },
          DPS_ERROR_PROXY,
          "demands a log-in of another kind" },
        { "no log-in is accepted",
          PROXY_SOCKS5H,
          "joe",
          SECRET,
          "dps.example",
          { TURN("\5\2\0\2", "\5\xff") },
          DPS_ERROR_PROXY,
          "accepts no log-in by user and password" },
        { "a log-in that is refused",
          PROXY_SOCKS5H,
          "joe",
          SECRET,
          "dps.example",
          { TURN("\5\2\0\2", "\5\2"), TURN(LOGIN, "\1\1") },
          DPS_ERROR_PROXY,
          "refused the user or the password" },
        { "a target that is not allowed",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\2\0\1\0") },
          DPS_ERROR_PROXY,
          "does not allow a connection to dps.example:8883: its rules forbid it (SOCKS5 reply 2)" },
        { "a target without a route",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\3\0\1\0") },
          DPS_ERROR_UNREACHABLE,
          "cannot reach dps.example" },
        { "a target that is unreachable",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\4\0\1\0") },
          DPS_ERROR_UNREACHABLE,
          "cannot reach dps.example" },
        { "a target that refuses",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\5\0\1\0") },
          DPS_ERROR_REFUSED,
          "was refused there" },
        { "an answer with an unknown code",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\xee\0\1\0") },
          DPS_ERROR_PROXY,
          "(SOCKS5 reply 238)" },
        { "an answer with an unknown address",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\5\0"), TURN(NAME, "\5\0\0\7\0") },
          DPS_ERROR_PROXY,
          "not SOCKS5" },
        { "SOCKS4",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "\4\0") },
          DPS_ERROR_PROXY,
          "not SOCKS5" },
        { "HTTP instead of SOCKS5",
          PROXY_SOCKS5H,
          NULL,
          NULL,
          "dps.example",
          { TURN(GREETING, "HT") },
          DPS_ERROR_PROXY,
          "but HTTP: write http://" },

#define CONNECT "CONNECT dps.example:8883 HTTP/1.1\r\nHost: dps.example:8883\r\n"
        { "CONNECT",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n") },
          DPS_ERROR_NONE,
          NULL },
        { "CONNECT to an address of IPv6",
          PROXY_HTTP,
          NULL,
          NULL,
          "::1",
          { TURN("CONNECT [::1]:8883 HTTP/1.1\r\nHost: [::1]:8883\r\n\r\n", "HTTP/1.0 200\r\n\r\n") },
          DPS_ERROR_NONE,
          NULL },
        { "CONNECT logs in with Basic",
          PROXY_HTTP,
          "joe",
          SECRET,
          "dps.example",
          { TURN(CONNECT "Proxy-Authorization: Basic am9lOmh1bnRlcjI=\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n") },
          DPS_ERROR_NONE,
          NULL },
        { "407 without a user",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
                                 "proxy-authenticate:\tNTLM\r\nProxy-Authenticate: Digest a=b,c=d\r\n\r\n") },
          DPS_ERROR_PROXY,
          "demands a log-in (407, offers Basic, NTLM, Digest): set a user in Proxy=" },
        { "407 without a scheme",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 407 No\r\n\r\n") },
          DPS_ERROR_PROXY,
          "offers no scheme" },
        { "a password that is refused",
          PROXY_HTTP,
          "joe",
          SECRET,
          "dps.example",
          { TURN(CONNECT "Proxy-Authorization: Basic am9lOmh1bnRlcjI=\r\n\r\n",
                 "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n") },
          DPS_ERROR_PROXY,
          "refused the user or the password (407, offers Basic)" },
        { "a scheme that we have not",
          PROXY_HTTP,
          "joe",
          SECRET,
          "dps.example",
          { TURN(CONNECT "Proxy-Authorization: Basic am9lOmh1bnRlcjI=\r\n\r\n",
                 "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n") },
          DPS_ERROR_PROXY,
          "offers Negotiate, not Basic): let it offer Basic" },
        { "a scheme that HTTPS has",
          PROXY_HTTP,
          "joe",
          SECRET,
          "dps.example",
          { TURN(CONNECT "Proxy-Authorization: Basic am9lOmh1bnRlcjI=\r\n\r\n",
                 "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n") },
          DPS_ERROR_PROXY,
          "offers NTLM, not Basic): set Transport=https" },
        { "401 to a user",
          PROXY_HTTP,
          "joe",
          SECRET,
          "dps.example",
          { TURN(CONNECT "Proxy-Authorization: Basic am9lOmh1bnRlcjI=\r\n\r\n",
                 "HTTP/1.1 401 Unauthorized\r\n\r\n") },
          DPS_ERROR_PROXY,
          "refused the user or the password (401, " },
        { "403",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 403 Forbidden\r\nContent-Length: 99999\r\n\r\n<html>") },
          DPS_ERROR_PROXY,
          "refused to connect to dps.example:8883: 403 Forbidden" },
        { "502",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 502 Bad Gateway\r\n\r\n") },
          DPS_ERROR_PROXY,
          "502 Bad Gateway" },
        { "a redirect is a refusal",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n") },
          DPS_ERROR_PROXY,
          "302 Found" },
        { "a terminal's escape in the reason",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 403 \33[31m\r\n\r\n") },
          DPS_ERROR_PROXY,
          "403 ?[31m" },
        { "data before TLS",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 200 OK\r\n\r\nx") },
          DPS_ERROR_PROXY,
          "before TLS" },
        { "a status that is no number",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 OK\r\n\r\n") },
          DPS_ERROR_PROXY,
          "not HTTP" },
        { "a status that is too great",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 99999999999999999999 OK\r\n\r\n") },
          DPS_ERROR_PROXY,
          "not HTTP" },
        { "a zero byte",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "HTTP/1.1 200\0OK\r\n\r\n") },
          DPS_ERROR_PROXY,
          "not HTTP" },
        { "SOCKS instead of HTTP",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "\5\xff") },
          DPS_ERROR_PROXY,
          "but SOCKS: write socks5h://" },
        { "garbage",
          PROXY_HTTP,
          NULL,
          NULL,
          "dps.example",
          { TURN(CONNECT "\r\n", "\x15\3\1\0\2\2\x28") },
          DPS_ERROR_PROXY,
          "not HTTP" },
};

static Tunnel *tunnel_to(ProxyKind kind, const char *user, const char *password, const char *host) {
        const Proxy proxy = { kind, (char *) "proxy", 3128, (char *) user, (char *) password };
        Tunnel *t;

        assert_int_equal(tunnel_new(&proxy, host, 8883, &t), 0);
        return t;
}

/* `step`: so many bytes at a time. */
static void play(const struct dialogue_case *c, size_t step) {
        _cleanup_(tunnel_freep) Tunnel *t = tunnel_to(c->kind, c->user, c->password, c->host);

        for (size_t i = 0; i < ELEMENTSOF(c->turns) && c->turns[i].ours; i++) {
                size_t n_theirs = c->turns[i].n_theirs, n;

                for (size_t at = 0; at < c->turns[i].n_ours; at += n) {
                        const char *output;

                        assert_int_equal(tunnel_state(t), TUNNEL_SENDS);
                        output = tunnel_output(t, &n);
                        assert_int_equal(n, c->turns[i].n_ours - at);
                        n = MIN(n, step);
                        assert_memory_equal(output, c->turns[i].ours + at, n);
                        tunnel_sent(t, n);
                }
                for (size_t at = 0; at < n_theirs && tunnel_state(t) == TUNNEL_READS; at += n) {
                        n = MIN(MIN(tunnel_wanted(t), step), n_theirs - at);
                        assert_true(n > 0);
                        tunnel_received(t, c->turns[i].theirs + at, n);
                }
        }

        if (c->id == DPS_ERROR_NONE) {
                assert_int_equal(tunnel_state(t), TUNNEL_OPEN);
                return;
        }
        assert_int_equal(tunnel_state(t), TUNNEL_FAILED);
        assert_int_equal(tunnel_error(t)->id, c->id);
        assert_int_equal(tunnel_error(t)->step, DPS_STEP_CONNECT);
        assert_true(startswith(tunnel_error(t)->message, "proxy "));
        if (!strstr(tunnel_error(t)->message, c->telling))
                fail_msg("\"%s\" does not tell \"%s\"", tunnel_error(t)->message, c->telling);
        assert_null(strstr(tunnel_error(t)->message, "joe"));
        assert_null(strstr(tunnel_error(t)->message, SECRET));
}

static void check_dialogue(void **state) {
        const struct dialogue_case *c = *state;

        play(c, SIZE_MAX);
        if (!c->telling || !strstr(c->telling, "before TLS")) /* which would come later */
                play(c, 1);
}

static void send_all(Tunnel *t) {
        size_t n;

        (void) tunnel_output(t, &n);
        tunnel_sent(t, n);
}

static void a_head_without_an_end_is_not_read_for_ever(void **state) {
        _cleanup_(tunnel_freep) Tunnel *t = tunnel_to(PROXY_HTTP, NULL, NULL, "dps.example");
        size_t n_read = 0;

        send_all(t);
        tunnel_received(t, "HTTP/1.1 200 OK\r\n", 17);
        for (; tunnel_state(t) == TUNNEL_READS; n_read += 6)
                tunnel_received(t, "a: b\r\n", MIN(6U, tunnel_wanted(t)));
        assert_true(n_read < 10000);
        assert_int_equal(tunnel_state(t), TUNNEL_FAILED);
        assert_non_null(strstr(tunnel_error(t)->message, "does not end"));
}

static void a_password_that_is_too_long_is_told(void **state) {
        char password[3000];
        _cleanup_(tunnel_freep) Tunnel *socks = NULL, *http = NULL;

        memset(password, 'x', sizeof(password) - 1);
        password[sizeof(password) - 1] = 0;
        http = tunnel_to(PROXY_HTTP, "joe", password, "dps.example");
        assert_int_equal(tunnel_state(http), TUNNEL_FAILED);
        assert_non_null(strstr(tunnel_error(http)->message, "password that long"));

        socks = tunnel_to(PROXY_SOCKS5H, "joe", password, "dps.example");
        send_all(socks);
        tunnel_received(socks, "\5\2", 2);
        assert_int_equal(tunnel_state(socks), TUNNEL_FAILED);
        assert_non_null(strstr(tunnel_error(socks)->message, "255 bytes"));
}

int main(void) {
        const struct CMUnitTest plain[] = {
                cmocka_unit_test(a_head_without_an_end_is_not_read_for_ever),
                cmocka_unit_test(a_password_that_is_too_long_is_told),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(dialogues)];
        size_t n = 0;

        for (; n < ELEMENTSOF(plain); n++)
                tests[n] = plain[n];
        ADD_ROWS(tests, n, dialogues, check_dialogue);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
