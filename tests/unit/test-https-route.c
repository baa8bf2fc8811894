/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "basic/text.h"
#include "table.h"
#include "transport/https-route.h"

/* libcurl, as it is installed, and a proxy in a thread of its own that says just a few bytes. */

#define SECRET "hunter2"

typedef struct Server {
        int fd;
        uint16_t port;
        pthread_t thread;
        const char *answers[2]; /* the first to the first bytes that come, and so on */
        size_t sizes[2];
        bool is_endless;
        char heard[4096]; /* the first bytes */
} Server;

static void *serve(void *userdata) {
        Server *s = userdata;
        int fd = accept(s->fd, NULL, NULL);
        char more[4096];

        if (fd < 0)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(s->answers) && s->answers[i]; i++) {
                if (recv(fd, i == 0 ? s->heard : more, sizeof(more) - 1, 0) <= 0)
                        break;
                while (send(fd, s->answers[i], s->sizes[i], MSG_NOSIGNAL) > 0 && s->is_endless)
                        ;
        }
        shutdown(fd, SHUT_WR);
        while (recv(fd, more, sizeof(more), 0) > 0)
                ;
        close(fd);
        return NULL;
}

static void server_begin(Server *s) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);

        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(s->fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(listen(s->fd, 5), 0);
        assert_int_equal(getsockname(s->fd, (struct sockaddr *) &a, &size), 0);
        s->port = ntohs(a.sin_port);
        assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(Server *s) {
        shutdown(s->fd, SHUT_RDWR);
        assert_int_equal(pthread_join(s->thread, NULL), 0);
        close(s->fd);
}

static CURLcode on_context(CURL *easy, void *context, void *route) {
        (void) https_route_greets_proxy(easy, route);
        return CURLE_OK;
}

/* Asks for https://dps.invalid, a name that nobody can resolve, through the proxy, which has one too. */
static CURLcode get(const Proxy *proxy, const char *asked, DpsError *ret) {
        char *numbers[] = { (char *) "127.0.0.1", NULL };
        HttpsRoute route = { "dps.invalid", 443, proxy, asked, numbers, false };
        CURL *easy = curl_easy_init();
        HttpsRouteLists lists;
        CURLcode code;
        bool is_proxys;

        assert_non_null(easy);
        assert_int_equal(curl_easy_setopt(easy, CURLOPT_URL, "https://dps.invalid/"), CURLE_OK);
        assert_int_equal(curl_easy_setopt(easy, CURLOPT_TIMEOUT, 20L), CURLE_OK);
        assert_int_equal(curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context), CURLE_OK);
        assert_int_equal(curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, &route), CURLE_OK);
        assert_int_equal(https_route_set(easy, &route, &lists), 0);
        code = curl_easy_perform(easy);
        *ret = (DpsError){ 0 };
        is_proxys = https_route_failed(easy, code, &route, ret);
        assert_int_equal(is_proxys, ret->id != DPS_ERROR_NONE);
        curl_easy_cleanup(easy);
        https_route_done(&lists);
        return code;
}

static const struct failure_case {
        const char *promise;
        ProxyKind kind;
        const char *user;
        const char *answers[2];
        size_t sizes[2];
        bool is_endless;
        DpsErrorId id; /* NONE: it is not the proxy's fault */
        const char *telling;
} failure_cases[] = {
#define SAYS(one) { one }, { sizeof(one) - 1 }, false
#define SAYS_BOTH(one, two) { one, two }, { sizeof(one) - 1, sizeof(two) - 1 }, false
#define SAYS_ON(one) { one }, { sizeof(one) - 1 }, true
        { "407 without a user", PROXY_HTTP, NULL,
          SAYS("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nProxy-Authenticate: Digest "
               "nonce=\"1\", "
               "realm=\"x\"\r\nContent-Length: 0\r\n\r\n"),
          DPS_ERROR_PROXY, "demands a log-in (407, offers Basic, Digest): set a user in Proxy=" },
        { "a user that is refused", PROXY_HTTP, "joe",
          SAYS_BOTH("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
                    "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"),
          DPS_ERROR_PROXY, "refused the user or the password (407, offers Basic)" },
        { "a log-in that stops the loop", PROXY_HTTP, "joe",
          SAYS("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"),
          DPS_ERROR_PROXY, "offers Negotiate; dpsd has Basic, Digest and NTLM" },
        { "401 to a user", PROXY_HTTP, "joe", SAYS("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
          DPS_ERROR_PROXY, "refused the user or the password (401, " },
        { "403", PROXY_HTTP, NULL, SAYS("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
          DPS_ERROR_PROXY, "refused to connect to dps.invalid:443: 403" },
        { "502", PROXY_HTTP, NULL, SAYS("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
          DPS_ERROR_PROXY, "dps.invalid:443: 502" },
        { "hanging up", PROXY_HTTP, NULL, SAYS(""), DPS_ERROR_PROXY, "closed the connection instead" },
        { "a head without an end", PROXY_HTTP, NULL, SAYS_ON("HTTP/1.1 200 OK\r\n"), DPS_ERROR_PROXY,
          "does not end" },
        { "a tunnel that is cut is not the proxy's fault", PROXY_HTTP, NULL, SAYS("HTTP/1.1 200 OK\r\n\r\n"),
          DPS_ERROR_NONE, NULL },
        { "no TLS at the target is not the proxy's fault", PROXY_HTTP, NULL,
          SAYS_BOTH("HTTP/1.1 200 OK\r\n\r\n", "220 mail.example ESMTP\r\n"), DPS_ERROR_NONE, NULL },
        { "a proxy that does not speak TLS", PROXY_HTTPS, NULL, SAYS("220 mail.example ESMTP\r\n"),
          DPS_ERROR_PROXY, "does not speak TLS; if it is a plain HTTP proxy, write http://" },
        { "a log-in that SOCKS5 wants", PROXY_SOCKS5H, NULL, SAYS("\5\xff"), DPS_ERROR_PROXY,
          "demands a log-in: set a user in Proxy=" },
        { "a log-in that SOCKS5 refuses", PROXY_SOCKS5H, "joe", SAYS_BOTH("\5\2", "\1\1"), DPS_ERROR_PROXY,
          "refused the user or the password" },
        { "a target that SOCKS5 does not allow", PROXY_SOCKS5H, NULL,
          SAYS_BOTH("\5\0", "\5\2\0\1\0\0\0\0\0\0"), DPS_ERROR_PROXY, "its rules forbid it" },
        { "a target without a route", PROXY_SOCKS5H, NULL, SAYS_BOTH("\5\0", "\5\3\0\1\0\0\0\0\0\0"),
          DPS_ERROR_UNREACHABLE, "no route" },
        { "a target that refuses", PROXY_SOCKS5H, NULL, SAYS_BOTH("\5\0", "\5\5\0\1\0\0\0\0\0\0"),
          DPS_ERROR_REFUSED, "did not connect to dps.invalid:443: the connection was refused there" },
        { "HTTP instead of SOCKS5", PROXY_SOCKS5H, NULL, SAYS("HTTP/1.1 400 Bad Request\r\n\r\n"),
          DPS_ERROR_PROXY, "not SOCKS5" },
        { "SOCKS5 that hangs up", PROXY_SOCKS5H, NULL, SAYS("\5"), DPS_ERROR_PROXY, "closed the connection" },
};

static void check_failure(void **state) {
        const struct failure_case *c = *state;
        Server s = { .is_endless = c->is_endless };
        Proxy proxy = { c->kind, (char *) "proxy.invalid", 0, (char *) c->user,
                        c->user ? (char *) SECRET : NULL };
        DpsError error;

        memcpy(s.answers, c->answers, sizeof(s.answers));
        memcpy(s.sizes, c->sizes, sizeof(s.sizes));
        server_begin(&s);
        proxy.port = s.port;
        assert_int_not_equal(get(&proxy, "dps.invalid", &error), CURLE_OK);
        server_end(&s);

        assert_int_equal(error.id, c->id);
        if (c->id == DPS_ERROR_NONE)
                return;
        assert_true(startswith(error.message, "proxy "));
        assert_non_null(strstr(error.message, "://proxy.invalid:"));
        if (!strstr(error.message, c->telling))
                fail_msg("\"%s\" does not tell \"%s\"", error.message, c->telling);
        assert_null(strstr(error.message, "joe"));
        assert_null(strstr(error.message, SECRET));
}

static void a_proxy_is_asked_for_the_address(void **state) {
        Server s = { .answers = { "HTTP/1.1 403 No\r\n\r\n" }, .sizes = { 19 } };
        Proxy proxy = { PROXY_HTTP, (char *) "proxy.invalid", 0, NULL, NULL };
        DpsError error;

        server_begin(&s);
        proxy.port = s.port;
        (void) get(&proxy, "10.0.0.5", &error);
        server_end(&s);
        assert_true(startswith(s.heard, "CONNECT 10.0.0.5:443 HTTP/1.1\r\n"));
}

static void a_proxy_that_is_down_is_told(void **state) {
        Server s = { 0 };
        Proxy proxy = { PROXY_HTTP, (char *) "proxy.invalid", 0, NULL, NULL };
        DpsError error;

        server_begin(&s);
        proxy.port = s.port;
        server_end(&s); /* so that nobody listens there */
        assert_int_equal(get(&proxy, "dps.invalid", &error), CURLE_COULDNT_CONNECT);
        assert_int_equal(error.id, DPS_ERROR_PROXY);
        assert_non_null(strstr(error.message, "refused the connection"));
}

static void the_environment_does_not_count(void **state) {
        Server s = { .answers = { "220 mail.example ESMTP\r\n" }, .sizes = { 24 } };
        char url[64], *numbers[] = { (char *) "127.0.0.1", NULL };
        HttpsRoute route = { "dps.invalid", 0, NULL, "dps.invalid", numbers, false };
        CURL *easy = curl_easy_init();
        HttpsRouteLists lists;
        DpsError error;

        server_begin(&s);
        route.port = s.port;
        (void) snprintf(url, sizeof(url), "https://dps.invalid:%u/", s.port);
        assert_int_equal(setenv("https_proxy", "http://127.0.0.1:1", true), 0);
        assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", true), 0);
        assert_int_equal(curl_easy_setopt(easy, CURLOPT_URL, url), CURLE_OK);
        assert_int_equal(https_route_set(easy, &route, &lists), 0);
        assert_int_equal(curl_easy_perform(easy), CURLE_SSL_CONNECT_ERROR);
        assert_false(https_route_failed(easy, CURLE_SSL_CONNECT_ERROR, &route, &error));
        curl_easy_cleanup(easy);
        https_route_done(&lists);
        server_end(&s);
        assert_int_equal(s.heard[0], 0x16); /* TLS */
}

int main(void) {
        const struct CMUnitTest plain[] = {
                cmocka_unit_test(a_proxy_is_asked_for_the_address),
                cmocka_unit_test(a_proxy_that_is_down_is_told),
                cmocka_unit_test(the_environment_does_not_count),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(failure_cases)];
        size_t n = 0;
        int r;

        for (; n < ELEMENTSOF(plain); n++)
                tests[n] = plain[n];
        ADD_ROWS(tests, n, failure_cases, check_failure);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return 1;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        curl_global_cleanup();
        return r;
}
