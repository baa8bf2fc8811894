/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "config/proxy.h"
#include "table.h"

#define SECRET "hunter2"

/* ---- URLs ---- */

static const struct url_case {
        const char *promise, *url;
        ProxyKind kind;
        const char *host, *user;
        uint16_t port;
        const char *text, *shown; /* for programs, and for messages */
} url_cases[] = {
        { "http with a port", "http://proxy:3128", PROXY_HTTP, "proxy", NULL, 3128, "http://proxy:3128",
          NULL },
        { "the scheme has no case, and the path may be /", "HTTPS://proxy.corp.example:8443/", PROXY_HTTPS,
          "proxy.corp.example", NULL, 8443, "https://proxy.corp.example:8443", NULL },
        { "socks5h", "socks5h://10.1.2.3:9050", PROXY_SOCKS5H, "10.1.2.3", NULL, 9050,
          "socks5h://10.1.2.3:9050", NULL },
        { "http without a port is 80", "http://proxy", PROXY_HTTP, "proxy", NULL, 80, "http://proxy:80",
          NULL },
        { "https without a port is 443", "https://proxy", PROXY_HTTPS, "proxy", NULL, 443,
          "https://proxy:443", NULL },
        { "socks5h without a port is 1080", "socks5h://proxy", PROXY_SOCKS5H, "proxy", NULL, 1080,
          "socks5h://proxy:1080", NULL },
        { "an address of IPv6 is in brackets", "http://[2001:db8::1]:3128", PROXY_HTTP, "2001:db8::1", NULL,
          3128, "http://[2001:db8::1]:3128", NULL },
        { "IPv6 without a port", "http://[::1]", PROXY_HTTP, "::1", NULL, 80, "http://[::1]:80", NULL },
        { "a user is shown to programs only", "http://joe@proxy:3128", PROXY_HTTP, "proxy", "joe", 3128,
          "http://joe@proxy:3128", "http://proxy:3128" },
        { "special characters of a user are encoded", "http://CORP%5cjoe%40x@proxy:3128", PROXY_HTTP, "proxy",
          "CORP\\joe@x", 3128, "http://CORP%5Cjoe%40x@proxy:3128", "http://proxy:3128" },
        { "a user may be written as people do", "http://CORP\\joe@x@proxy:1", PROXY_HTTP, "proxy",
          "CORP\\joe@x", 1, "http://CORP%5Cjoe%40x@proxy:1", "http://proxy:1" },
};

static void check_url(void **state) {
        const struct url_case *c = *state;
        _cleanup_(proxy_freep) Proxy *p = NULL, *copy = NULL;
        _cleanup_(freep) char *why = NULL, *url = NULL, *text = NULL;

        assert_int_equal(proxy_from_url(c->url, &p, &why), 0);
        assert_int_equal(proxy_copy(p, &copy), 0);
        assert_int_equal(copy->kind, c->kind);
        assert_int_equal(copy->port, c->port);
        assert_string_equal(copy->host, c->host);
        assert_true(streq_ptr(copy->user, c->user));
        assert_null(copy->password);
        assert_int_equal(proxy_to_url(copy, &url), 0);
        assert_string_equal(url, c->text);
        assert_int_equal(proxy_to_text(copy, &text), 0);
        assert_string_equal(text, c->shown ?: c->text);
}

static const struct bad_case {
        const char *promise, *url, *telling;
} bad_cases[] = {
        { "a proxy has a scheme", "proxy:3128", "must be http://" },
        { "a scheme that is unknown", "ftp://proxy:1", "must be http://" },
        { "nothing at all", "", "must be http://" },
        { "socks5 resolves names here", "socks5://proxy:1080", "socks5h://" },
        { "a password is refused", "http://joe:" SECRET "@proxy:1", "ProxyPassword=" },
        { "a password with an @ is refused", "http://joe:p@" SECRET "@proxy:1", "ProxyPassword=" },
        { "a password with a slash is refused", "http://joe:/" SECRET "@proxy:1", "ProxyPassword=" },
        { "an empty password is one too", "http://joe:@proxy:1", "ProxyPassword=" },
        { "an empty user", "http://@proxy:1", "no valid user" },
        { "a user with a control character", "http://joe%0a" SECRET "@proxy:1", "no valid user" },
        { "a user with a colon", "http://joe%3a" SECRET "@proxy:1", "no valid user" },
        { "a user with a broken escape", "http://joe%4@proxy:1", "no valid user" },
        { "no host", "http://:3128", "no valid host" },
        { "a host with a space", "http://pro xy:1", "no valid host" },
        { "IPv6 without brackets", "http://2001:db8::1", "no valid port" },
        { "brackets around a name", "http://[proxy]:1", "no valid host" },
        { "half a bracket", "http://[::1:1", "without a ]" },
        { "something after the brackets", "http://[::1]x", "no valid port" },
        { "port 0", "http://proxy:0", "no valid port" },
        { "a port that is too great", "http://proxy:65536", "no valid port" },
        { "a port that is no number", "http://proxy:http", "no valid port" },
        { "a path", "http://proxy:1/pac", "path" },
};

static void check_bad_url(void **state) {
        const struct bad_case *c = *state;
        _cleanup_(proxy_freep) Proxy *p = NULL;
        _cleanup_(freep) char *why = NULL;

        assert_int_equal(proxy_from_url(c->url, &p, &why), -EINVAL);
        assert_null(p);
        assert_non_null(strstr(why, c->telling));
        assert_null(strstr(why, SECRET));
        assert_null(strstr(why, "joe"));
}

/* ---- exceptions ---- */

static const struct exception_case {
        const char *promise, *words, *host;
        bool is_covered;
} exception_cases[] = {
        { "* covers names", "*", "dps.example", true },
        { "* covers addresses", "other,*", "::1", true },
        { "a name covers itself", "dps.example", "dps.example", true },
        { "case does not matter", "DPS.Example", "dps.EXAMPLE", true },
        { "a name covers what is below it", "example", "dps.example", true },
        { "a leading dot changes nothing", ".example", "dps.example", true },
        { "a leading dot covers the name itself", ".dps.example", "dps.example", true },
        { "a leading star is a dot", "*.example", "dps.example", true },
        { "a dot at the end changes nothing", "example.", "dps.example", true },
        { "nor does that of the host", "example", "dps.example.", true },
        { "a part of a label is not enough", "xample", "dps.example", false },
        { "what is above is not covered", "dps.example", "example", false },
        { "another name", "internal", "dps.example", false },
        { "the port of a name is ignored", "dps.example:8443", "dps.example", true },
        { "an address", "10.0.0.1", "10.0.0.1", true },
        { "another address", "10.0.0.1", "10.0.0.10", false },
        { "the port of an address is ignored", "10.0.0.1:443", "10.0.0.1", true },
        { "a name is not resolved", "127.0.0.1", "localhost", false },
        { "an address is no name", ".0.0.1", "10.0.0.1", false },
        { "a network", "10.0.0.0/8", "10.200.3.4", true },
        { "a network that ends within a byte", "10.16.0.0/12", "10.31.255.255", true },
        { "just outside of it", "10.16.0.0/12", "10.32.0.0", false },
        { "bits that do not count", "10.9.9.9/8", "10.1.1.1", true },
        { "/0 covers all of its family", "0.0.0.0/0", "9.9.9.9", true },
        { "and nothing of the other", "0.0.0.0/0", "::1", false },
        { "/32", "10.0.0.1/32", "10.0.0.2", false },
        { "a network covers no names", "0.0.0.0/0", "dps.example", false },
        { "IPv6", "2001:db8::1", "2001:0db8:0::1", true },
        { "IPv6 in brackets", "[::1]", "::1", true },
        { "IPv6 in brackets with a port", "[::1]:443", "::1", true },
        { "a network of IPv6", "fd00::/8", "fd12:3456::1", true },
        { "a network of IPv6 in brackets", "[fd00::]/8", "fd12::1", true },
        { "another network of IPv6", "fd00::/8", "fe80::1", false },
        { "an address and one that is mapped differ", "::ffff:10.0.0.1", "10.0.0.1", false },
        { "what makes no sense covers nothing", "10.0.0.0/33,[::1,/8,:", "10.0.0.1", false },
        { "no words", "", "dps.example", false },
};

static void check_exception(void **state) {
        const struct exception_case *c = *state;
        _cleanup_(strv_freep) char **words = NULL;

        assert_int_equal(strv_split(c->words, ",", &words), 0);
        assert_int_equal(no_proxy_covers(words, c->host), c->is_covered);
}

static void words_that_make_no_sense_are_told(void **state) {
        static const char *const words[] = { "10.0.0.0/33",   "[::1",     "[::1]x", "fd00::/129",
                                             "name/8",        "http://x", ":",      "/8",
                                             "name:99999999", "[name]",   "a..b",   "10.0.0.0/" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                _cleanup_(freep) char *why = NULL;

                assert_int_equal(no_proxy_check(words[i], &why), -EINVAL);
                assert_non_null(strstr(why, words[i]));
        }
}

/* ---- the choice ---- */

static const struct choice_case {
        const char *promise, *url, *no_proxy, *https_proxy, *environment_no_proxy;
        const char *text; /* NULL: direct */
        const char *password;
} choice_cases[] = {
        { "without anything the way is direct", NULL, NULL, NULL, NULL, NULL, NULL },
        { "the configuration", "http://a:1", NULL, NULL, NULL, "http://a:1", NULL },
        { "the configuration before the environment", "http://a:1", NULL, "http://b:2", NULL, "http://a:1",
          NULL },
        { "the environment where the configuration is silent", NULL, NULL, "http://b:2", NULL, "http://b:2",
          NULL },
        { "none is direct, whatever the environment has", "none", NULL, "http://b:2", NULL, NULL, NULL },
        { "an empty variable is direct", NULL, NULL, "", NULL, NULL, NULL },
        { "the environment's password is used", NULL, NULL, "http://joe:p%40w@b:2", NULL, "http://joe@b:2",
          "p@w" },
        { "the environment's URL may have no scheme", NULL, NULL, "b:2", NULL, "http://b:2", NULL },
        { "socks5 of the environment resolves at the proxy", NULL, NULL, "socks5://b", NULL,
          "socks5h://b:1080", NULL },
        { "NoProxy=", "http://a:1", "dps.example", NULL, NULL, NULL, NULL },
        { "NoProxy= for the environment's proxy", NULL, "dps.example", "http://b:2", NULL, NULL, NULL },
        { "no_proxy", NULL, NULL, "http://b:2", "x, dps.example", NULL, NULL },
        { "no_proxy for the proxy of the configuration", "http://a:1", NULL, NULL, ".example", NULL, NULL },
        { "NoProxy= before no_proxy", "http://a:1", "other", NULL, "*", "http://a:1", NULL },
        { "an empty no_proxy", NULL, NULL, "http://b:2", "", "http://b:2", NULL },
};

static void check_choice(void **state) {
        const struct choice_case *c = *state;
        char *no_proxy[] = { (char *) c->no_proxy, NULL };
        const ProxyRules rules = { c->url, c->no_proxy ? no_proxy : NULL };
        const ProxyEnvironment environment = { c->https_proxy, c->environment_no_proxy };
        _cleanup_(proxy_freep) Proxy *p = NULL;
        _cleanup_(freep) char *why = NULL, *url = NULL;

        assert_int_equal(proxy_choose(&rules, &environment, "dps.example", &p, &why), 0);
        if (!c->text) {
                assert_null(p);
                return;
        }
        assert_non_null(p);
        assert_int_equal(proxy_to_url(p, &url), 0);
        assert_string_equal(url, c->text);
        assert_true(streq_ptr(p->password, c->password));
}

static void a_bad_variable_is_told_without_its_value(void **state) {
        const ProxyRules rules = { 0 };
        const ProxyEnvironment environment = { "gopher://joe:" SECRET "@proxy", NULL };
        _cleanup_(proxy_freep) Proxy *p = NULL;
        _cleanup_(freep) char *why = NULL;

        assert_int_equal(proxy_choose(&rules, &environment, "dps.example", &p, &why), -EINVAL);
        assert_non_null(strstr(why, "https_proxy in the environment"));
        assert_null(strstr(why, SECRET));
}

static void lower_case_variables_come_first(void **state) {
        ProxyEnvironment e;

        setenv("HTTPS_PROXY", "http://upper:1", true);
        setenv("NO_PROXY", "upper", true);
        unsetenv("https_proxy");
        unsetenv("no_proxy");
        e = proxy_environment();
        assert_string_equal(e.https_proxy, "http://upper:1");
        assert_string_equal(e.no_proxy, "upper");
        setenv("https_proxy", "", true);
        setenv("no_proxy", "lower", true);
        e = proxy_environment();
        assert_string_equal(e.https_proxy, "");
        assert_string_equal(e.no_proxy, "lower");
}

int main(void) {
        const struct CMUnitTest plain[] = {
                cmocka_unit_test(words_that_make_no_sense_are_told),
                cmocka_unit_test(a_bad_variable_is_told_without_its_value),
                cmocka_unit_test(lower_case_variables_come_first),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(url_cases) + ELEMENTSOF(bad_cases) +
                                ELEMENTSOF(exception_cases) + ELEMENTSOF(choice_cases)];
        size_t n = 0;

        for (; n < ELEMENTSOF(plain); n++)
                tests[n] = plain[n];
        ADD_ROWS(tests, n, url_cases, check_url);
        ADD_ROWS(tests, n, bad_cases, check_bad_url);
        ADD_ROWS(tests, n, exception_cases, check_exception);
        ADD_ROWS(tests, n, choice_cases, check_choice);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
