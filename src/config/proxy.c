/* SPDX-License-Identifier: MIT */
#include "config/proxy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/why.h"
#include "config/secret.h"

#define HOST_MAX 253

static const struct {
        const char *scheme;
        uint16_t port; /* where the URL has none */
} kinds[_PROXY_KIND_MAX] = {
        [PROXY_HTTP] = { "http", 80 },
        [PROXY_HTTPS] = { "https", 443 },
        [PROXY_SOCKS5H] = { "socks5h", 1080 },
};

/* ---- life ---- */

Proxy *proxy_free(Proxy *p) {
        if (!p)
                return NULL;

        free(p->host);
        erase_and_free(p->user);
        erase_and_free(p->password);
        free(p);
        return NULL;
}

static int copy_text(const char *text, char **ret) {
        *ret = text ? strdup(text) : NULL;
        return text && !*ret ? -ENOMEM : 0;
}

int proxy_copy(const Proxy *p, Proxy **ret) {
        _cleanup_(proxy_freep) Proxy *copy = calloc(1, sizeof(*copy));

        if (!copy)
                return -ENOMEM;
        copy->kind = p->kind;
        copy->port = p->port;
        if (copy_text(p->host, &copy->host) < 0 || copy_text(p->user, &copy->user) < 0 ||
            copy_text(p->password, &copy->password) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(copy);
        return 0;
}

/* ---- URLs ---- */

static int hex_digit(char c) {
        static const char digits[] = "0123456789abcdef";
        const char *p = c ? strchr(digits, tolower((unsigned char) c)) : NULL;

        return p ? (int) (p - digits) : -EINVAL;
}

/* Characters that neither an HTTP header nor the log-in of SOCKS5 can carry are not valid. */
static int decode(Span encoded, char **ret) {
        _cleanup_(erase_and_freep) char *text = calloc(1, encoded.size + 1);
        const char *p = encoded.start, *end = p + encoded.size;

        if (!text)
                return -ENOMEM;
        for (char *q = text; p < end; q++) {
                *q = *p++;
                if (*q == '%') {
                        int high = end - p >= 2 ? hex_digit(p[0]) : -EINVAL;
                        int low = end - p >= 2 ? hex_digit(p[1]) : -EINVAL;

                        if (high < 0 || low < 0)
                                return -EINVAL;
                        *q = (char) (high << 4 | low);
                        p += 2;
                }
                if ((unsigned char) *q < ' ' || *q == 0x7f)
                        return -EINVAL;
        }

        *ret = TAKE_PTR(text);
        return 0;
}

unsigned host_parse_address(const char *host, uint8_t ret[static 16]) {
        if (inet_pton(AF_INET, host, ret) == 1)
                return 32;
        return inet_pton(AF_INET6, host, ret) == 1 ? 128 : 0;
}

bool host_is_name(const char *host) {
        size_t size = strlen(host);

        for (const char *p = host; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr("-._", *p))
                        return false;
        return size > 0 && size <= HOST_MAX && host[0] != '.' && host[0] != '-' && !strstr(host, "..");
}

/* HOST, HOST:PORT, [ADDRESS], [ADDRESS]:PORT */
static int parse_host(Proxy *p, Span text, char **ret_why) {
        const char *end = text.start + text.size, *colon;
        bool is_in_brackets = text.size > 0 && text.start[0] == '[';
        unsigned n_bits;
        uint8_t address[16];
        uint64_t port;
        Span host = text;

        if (is_in_brackets) {
                const char *bracket = memchr(text.start, ']', text.size);

                if (!bracket)
                        return why(ret_why, -EINVAL, "has a [ without a ]");
                host = (Span){ text.start + 1, (size_t) (bracket - text.start - 1) };
                colon = bracket + 1;
        } else {
                colon = memchr(text.start, ':', text.size) ?: end;
                host.size = (size_t) (colon - text.start);
        }

        p->host = span_dup(host);
        if (!p->host)
                return -ENOMEM;
        n_bits = host_parse_address(p->host, address);
        if (is_in_brackets ? n_bits != 128 : n_bits == 0 && !host_is_name(p->host))
                return why(ret_why, -EINVAL, "has no valid host name or address");
        if (colon == end)
                return 0;
        if (*colon != ':' || span_to_u64((Span){ colon + 1, (size_t) (end - colon - 1) }, &port) < 0 ||
            port < 1 || port > UINT16_MAX)
                return why(ret_why, -EINVAL, "has no valid port; a numeric IPv6 address is written as [::1]");
        p->port = (uint16_t) port;
        return 0;
}

static int parse_user_info(Proxy *p, Span text, char **ret_why) {
        const char *colon = memchr(text.start, ':', text.size);
        size_t size = colon ? (size_t) (colon - text.start) : text.size;
        int r;

        r = decode((Span){ text.start, size }, &p->user);
        if (r >= 0 && colon)
                r = decode((Span){ colon + 1, text.size - size - 1 }, &p->password);
        if (r == -ENOMEM)
                return r;
        /* In HTTP, the name ends at the first colon. */
        if (r < 0 || !*p->user || strchr(p->user, ':'))
                return why(ret_why, -EINVAL,
                           "has no valid user: write special characters as in a URL (%%5C for a backslash)");
        return 0;
}

static int parse_scheme(Proxy *p, const char **url, bool is_environment, char **ret_why) {
        const char *end = strstr(*url, "://");
        Span scheme = { *url, end ? (size_t) (end - *url) : 0 };

        /* As curl has it. Whoever writes socks5:// there means the same proxy. */
        if (!end && is_environment)
                return 0;
        for (ProxyKind k = 0; end && k < _PROXY_KIND_MAX; k++)
                if (span_is(scheme, kinds[k].scheme) ||
                    (is_environment && k == PROXY_SOCKS5H && span_is(scheme, "socks5"))) {
                        p->kind = k;
                        *url = end + strlen("://");
                        return 0;
                }
        if (end && (span_is(scheme, "socks5") || span_is(scheme, "socks")))
                return why(ret_why, -EINVAL, "must begin with socks5h://: the proxy resolves the names");
        return why(ret_why, -EINVAL,
                   "must be http://[USER@]HOST:PORT, or the same with https:// or socks5h://, or none (the "
                   "value is not shown)");
}

static int parse(const char *url, bool is_environment, Proxy **ret, char **ret_why) {
        _cleanup_(proxy_freep) Proxy *p = calloc(1, sizeof(*p));
        const char *at;
        Span rest;
        int r;

        if (!p)
                return -ENOMEM;
        r = parse_scheme(p, &url, is_environment, ret_why);
        if (r < 0)
                return r;

        p->port = kinds[p->kind].port;
        /* The last @ counts, because people do not encode an @ in their passwords. For the same reason a slash
         * may stand before it. */
        at = strrchr(url, '@');
        if (at) {
                r = parse_user_info(p, (Span){ url, (size_t) (at - url) }, ret_why);
                if (r < 0)
                        return r;
                url = at + 1;
        }
        rest = (Span){ url, strcspn(url, "/") };
        if (url[rest.size] && !streq(url + rest.size, "/"))
                return why(ret_why, -EINVAL, "must not have a path");
        r = parse_host(p, rest, ret_why);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(p);
        return 0;
}

int proxy_from_url(const char *url, Proxy **ret, char **ret_why) {
        _cleanup_(proxy_freep) Proxy *p = NULL;
        int r;

        if (streq(url, PROXY_NONE)) {
                *ret = NULL;
                return 0;
        }

        r = parse(url, false, &p, ret_why);
        if (r < 0)
                return r;
        if (p->password)
                return why(ret_why, -EINVAL,
                           "must not hold a password (the value is not shown): write http://USER@HOST:PORT, "
                           "and ProxyPassword=FILE with the password: " SECRET_INSTALL " /dev/stdin FILE");
        *ret = TAKE_PTR(p);
        return 0;
}

static int encode(const char *text, char **ret) {
        char *encoded = malloc(3 * strlen(text) + 1), *p = encoded;

        if (!encoded)
                return -ENOMEM;
        for (; *text; text++)
                if (isalnum((unsigned char) *text) || strchr("-._~", *text))
                        *p++ = *text;
                else
                        p += snprintf(p, 4, "%%%02X", (unsigned char) *text);
        *p = 0;
        *ret = encoded;
        return 0;
}

static int to_text(const Proxy *p, const char *user, char **ret) {
        bool is_v6 = strchr(p->host, ':');

        *ret = text_format("%s://%s%s%s%s%s:%u", kinds[p->kind].scheme, user ?: "", user ? "@" : "",
                           is_v6 ? "[" : "", p->host, is_v6 ? "]" : "", p->port);
        return *ret ? 0 : -ENOMEM;
}

int proxy_to_text(const Proxy *p, char **ret) {
        return to_text(p, NULL, ret);
}

int proxy_to_url(const Proxy *p, char **ret) {
        _cleanup_(freep) char *user = NULL;
        int r = p->user ? encode(p->user, &user) : 0;

        return r < 0 ? r : to_text(p, user, ret);
}

/* ---- exceptions ---- */

/* A word of NoProxy=. */
typedef struct Exception {
        bool covers_all;
        unsigned n_address_bits; /* 32, 128; 0: a name */
        unsigned n_bits;         /* of them, those that count */
        uint8_t address[16];
        char name[HOST_MAX + 1]; /* without dots at its ends */
} Exception;

static int parse_name(Exception *e) {
        size_t n;

        if (startswith(e->name, "*."))
                memmove(e->name, e->name + 1, strlen(e->name));
        if (e->name[0] == '.')
                memmove(e->name, e->name + 1, strlen(e->name));
        n = strlen(e->name);
        if (n > 1 && e->name[n - 1] == '.')
                e->name[n - 1] = 0;
        return host_is_name(e->name) ? 0 : -EINVAL;
}

/* What follows the host: a number of bits, or a port, which is ignored. */
static int parse_rest(Exception *e, const char *rest) {
        uint64_t n;

        if (!*rest)
                return 0;
        if (parse_u64(rest + 1, &n) < 0)
                return -EINVAL;
        if (*rest == ':')
                return n <= UINT16_MAX ? 0 : -EINVAL;
        if (*rest != '/' || n > e->n_address_bits || e->n_address_bits == 0)
                return -EINVAL;
        e->n_bits = (unsigned) n;
        return 0;
}

static int parse_exception(const char *word, Exception *ret) {
        bool is_in_brackets = *word == '[';
        const char *colon = strchr(word, ':');
        bool has_port = !is_in_brackets && colon && colon == strrchr(word, ':');
        Exception e = { .covers_all = streq(word, "*") };
        size_t n;
        int r;

        word += is_in_brackets;
        n = strcspn(word, is_in_brackets ? "]" : has_port ? ":" : "/");
        if (n >= sizeof(e.name) || (is_in_brackets && !word[n]))
                return -EINVAL;

        memcpy(e.name, word, n);
        e.n_bits = e.n_address_bits = host_parse_address(e.name, e.address);
        if (is_in_brackets && e.n_bits != 128)
                return -EINVAL;
        r = e.n_bits > 0 || e.covers_all ? 0 : parse_name(&e);
        if (r >= 0)
                r = parse_rest(&e, word + n + is_in_brackets);
        if (r >= 0)
                *ret = e;
        return r;
}

static bool network_covers(const Exception *e, const uint8_t *address) {
        unsigned n = e->n_bits / 8, rest = e->n_bits % 8;

        return memcmp(e->address, address, n) == 0 &&
               (rest == 0 || (e->address[n] ^ address[n]) >> (8 - rest) == 0);
}

static bool name_covers(const char *name, const char *host) {
        size_t n = strlen(name), size = strlen(host);

        if (size > 1 && host[size - 1] == '.')
                size--;
        return size >= n && strncasecmp(host + size - n, name, n) == 0 &&
               (size == n || host[size - n - 1] == '.');
}

bool no_proxy_covers(char *const *words, const char *host) {
        uint8_t address[16];
        unsigned n_bits = host_parse_address(host, address);
        Exception e;

        STRV_FOREACH(w, words) {
                if (parse_exception(*w, &e) < 0 || (!e.covers_all && e.n_address_bits != n_bits))
                        continue;
                if (e.covers_all || (n_bits > 0 ? network_covers(&e, address) : name_covers(e.name, host)))
                        return true;
        }
        return false;
}

int no_proxy_check(const char *word, char **ret_why) {
        Exception e;

        if (parse_exception(word, &e) >= 0)
                return 0;
        return why(ret_why, -EINVAL,
                   "'%.60s' must be a name, an address, a network such as 10.0.0.0/8 or [fd00::]/8, or *",
                   word);
}

/* ---- the choice ---- */

ProxyEnvironment proxy_environment(void) {
        return (ProxyEnvironment){
                .https_proxy = secure_getenv("https_proxy") ?: secure_getenv("HTTPS_PROXY"),
                .no_proxy = secure_getenv("no_proxy") ?: secure_getenv("NO_PROXY"),
        };
}

static int is_excepted(const ProxyRules *rules, const ProxyEnvironment *environment, const char *host) {
        _cleanup_(strv_freep) char **words = NULL;
        int r;

        if (rules->no_proxy)
                return no_proxy_covers(rules->no_proxy, host);
        if (isempty(environment->no_proxy))
                return false;
        r = strv_split(environment->no_proxy, " \t,", &words);
        return r < 0 ? r : no_proxy_covers(words, host);
}

int proxy_choose(const ProxyRules *rules, const ProxyEnvironment *environment, const char *host, Proxy **ret,
                 char **ret_why) {
        _cleanup_(freep) char *reason = NULL;
        int r;

        *ret = NULL;
        if (!rules->url && isempty(environment->https_proxy))
                return 0;
        r = is_excepted(rules, environment, host);
        if (r != 0)
                return MIN(r, 0);

        if (rules->url)
                return proxy_from_url(rules->url, ret, ret_why);
        r = parse(environment->https_proxy, true, ret, &reason);
        if (r < 0 && reason)
                return why(ret_why, r, "https_proxy in the environment %s", reason);
        return r;
}
