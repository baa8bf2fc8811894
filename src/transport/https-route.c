/* SPDX-License-Identifier: MIT */
#include "transport/https-route.h"

#include <errno.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <string.h>

#include "basic/text.h"

/* Kerberos asks its servers while libcurl waits, and would stop the loop: Negotiate is not for us. */
#define PROXY_LOGINS (CURLAUTH_BASIC | CURLAUTH_DIGEST | CURLAUTH_NTLM)

static const char *open_bracket(const char *host) {
        return strchr(host, ':') ? "[" : "";
}

static const char *close_bracket(const char *host) {
        return strchr(host, ':') ? "]" : "";
}

/* ---- setting ---- */

static int append(struct curl_slist **list, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int append(struct curl_slist **list, const char *format, ...) {
        _cleanup_(freep) char *text = NULL;
        struct curl_slist *longer;
        va_list ap;

        va_start(ap, format);
        text = text_vformat(format, ap);
        va_end(ap);
        longer = text ? curl_slist_append(*list, text) : NULL;
        if (!longer)
                return -ENOMEM;
        *list = longer;
        return 0;
}

/* "proxy:3128:10.0.0.1,[2001:db8::1]" */
static int add_numbers(const HttpsRoute *r, struct curl_slist **list) {
        const char *host = r->proxy ? r->proxy->host : r->host;
        _cleanup_(freep) char *text = NULL;
        size_t n = 0;

        for (char *const *a = r->numbers; *a; a++)
                n += strlen(*a) + strlen(",[]");
        text = calloc(1, n + 1);
        if (!text)
                return -ENOMEM;
        for (char *const *a = r->numbers; *a; a++) {
                char *end = text + strlen(text);

                (void) sprintf(end, "%s%s%s%s", end > text ? "," : "", open_bracket(*a), *a,
                               close_bracket(*a));
        }
        return append(list, "%s%s%s:%u:%s", open_bracket(host), host, close_bracket(host),
                      r->proxy ? r->proxy->port : r->port, text);
}

/* Those of PROXY_LOGINS that this libcurl has. */
static long logins(void) {
        bool has_ntlm = curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_NTLM;

        return has_ntlm ? PROXY_LOGINS : PROXY_LOGINS & ~CURLAUTH_NTLM;
}

static CURLcode set_proxy(CURL *easy, const Proxy *p) {
        static const long types[_PROXY_KIND_MAX] = {
                [PROXY_HTTP] = CURLPROXY_HTTP,
                [PROXY_HTTPS] = CURLPROXY_HTTPS,
                [PROXY_SOCKS5H] = CURLPROXY_SOCKS5_HOSTNAME,
        };
        char host[300];
        CURLcode c;

        (void) snprintf(host, sizeof(host), "%s%s%s", open_bracket(p->host), p->host, close_bracket(p->host));
        c = curl_easy_setopt(easy, CURLOPT_PROXY, host);
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_PROXYTYPE, types[p->kind]);
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_PROXYPORT, (long) p->port);
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
        if (c != CURLE_OK || !p->user)
                return c;

        c = curl_easy_setopt(easy, CURLOPT_PROXYUSERNAME, p->user);
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_PROXYPASSWORD, p->password ?: "");
        if (c != CURLE_OK)
                return c;
        /* With PROXYAUTH, libcurl would not use a connection through SOCKS5 twice: it takes it for one of NTLM. */
        if (p->kind == PROXY_SOCKS5H)
                return curl_easy_setopt(easy, CURLOPT_SOCKS5_AUTH, CURLAUTH_BASIC);
        return curl_easy_setopt(easy, CURLOPT_PROXYAUTH, logins());
}

static CURLcode set_all(CURL *easy, const HttpsRoute *r, const HttpsRouteLists *lists) {
        CURLcode c;

        /* Nothing from the environment. */
        c = curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_PROXY, "");
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_RESOLVE, lists->resolve);
        if (c == CURLE_OK)
                c = curl_easy_setopt(easy, CURLOPT_CONNECT_TO, lists->connect_to);
        return c == CURLE_OK && r->proxy ? set_proxy(easy, r->proxy) : c;
}

void https_route_done(HttpsRouteLists *lists) {
        curl_slist_free_all(lists->resolve);
        curl_slist_free_all(lists->connect_to);
        *lists = (HttpsRouteLists){ 0 };
}

int https_route_set(CURL *easy, HttpsRoute *route, HttpsRouteLists *ret_lists) {
        HttpsRouteLists lists = { 0 };
        int r;

        route->is_through = false;
        r = add_numbers(route, &lists.resolve);
        if (r >= 0 && route->proxy && strcmp(route->asked, route->host) != 0)
                r = append(&lists.connect_to, "::%s%s%s:%u", open_bracket(route->asked), route->asked,
                           close_bracket(route->asked), route->port);
        if (r < 0 || set_all(easy, route, &lists) != CURLE_OK) {
                https_route_done(&lists);
                return -ENOMEM;
        }
        *ret_lists = lists;
        return 0;
}

/* ---- what happened ---- */

static long info(CURL *easy, CURLINFO what) {
        long value = 0;

        (void) curl_easy_getinfo(easy, what, &value);
        return value;
}

bool https_route_greets_proxy(CURL *easy, HttpsRoute *route) {
        bool is_proxy = route->proxy && route->proxy->kind == PROXY_HTTPS &&
                        info(easy, CURLINFO_HTTP_CONNECTCODE) / 100 != 2;

        route->is_through = !is_proxy;
        return is_proxy;
}

static void tell(const HttpsRoute *r, DpsErrorId id, DpsError *ret, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

static void tell(const HttpsRoute *r, DpsErrorId id, DpsError *ret, const char *format, ...) {
        _cleanup_(freep) char *name = NULL;
        char text[DPS_MESSAGE_MAX];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (proxy_to_text(r->proxy, &name) < 0)
                name = NULL;
        dps_error_set(ret, id, DPS_STEP_CONNECT, "proxy %s %s", name ?: "", text);
}

static void tell_login(CURL *easy, const HttpsRoute *r, DpsError *ret) {
        static const struct {
                long bit;
                const char *name;
        } schemes[] = {
                { CURLAUTH_BASIC, "Basic" },
                { CURLAUTH_DIGEST, "Digest" },
                { CURLAUTH_NTLM, "NTLM" },
                { CURLAUTH_NEGOTIATE, "Negotiate" },
        };
        long offered = info(easy, CURLINFO_PROXYAUTH_AVAIL), answer = info(easy, CURLINFO_HTTP_CONNECTCODE);
        char text[64] = "";

        for (size_t i = 0; i < ELEMENTSOF(schemes); i++)
                if (offered & schemes[i].bit) {
                        strcat(text, *text ? ", " : "");
                        strcat(text, schemes[i].name);
                }
        if (!r->proxy->user)
                tell(r, DPS_ERROR_PROXY, ret,
                     "demands a log-in (407, offers %s): set a user in Proxy=, and ProxyPassword=",
                     *text ? text : "none that is known");
        else if (offered & logins() || answer == 401) /* as Tinyproxy answers to a wrong password */
                tell(r, DPS_ERROR_PROXY, ret,
                     "refused the user or the password (%ld, offers %s); check Proxy= and ProxyPassword=",
                     answer, *text ? text : "nothing else");
        else
                tell(r, DPS_ERROR_PROXY, ret,
                     "offers no log-in that dpsd can use (407, offers %s; dpsd has Basic, Digest and "
                     "NTLM%s): let it offer one of these, or let this device through without a log-in",
                     *text ? text : "none that is known",
                     logins() & CURLAUTH_NTLM ? "" : ", but its libcurl is built without NTLM");
}

/* libcurl reports replies of SOCKS5 as numbers of its own. */
static void tell_socks(CURL *easy, const HttpsRoute *r, DpsError *ret) {
        static const struct {
                long error;
                DpsErrorId id;
                const char *what;
        } rows[] = {
                { CURLPX_REPLY_NOT_ALLOWED, DPS_ERROR_PROXY, "its rules forbid it" },
                { CURLPX_REPLY_NETWORK_UNREACHABLE, DPS_ERROR_UNREACHABLE, "its network has no route" },
                { CURLPX_REPLY_HOST_UNREACHABLE, DPS_ERROR_UNREACHABLE,
                  "the host is unreachable or has no address" },
                { CURLPX_REPLY_CONNECTION_REFUSED, DPS_ERROR_REFUSED, "the connection was refused there" },
                { CURLPX_REPLY_TTL_EXPIRED, DPS_ERROR_TIMEOUT, "the time to live has expired" },
                { CURLPX_REPLY_GENERAL_SERVER_FAILURE, DPS_ERROR_PROXY, "it does not say why" },
        };
        long error = info(easy, CURLINFO_PROXY_ERROR);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (rows[i].error == error)
                        return tell(r, rows[i].id, ret, "did not connect to %s:%u: %s (SOCKS5)", r->asked,
                                    r->port, rows[i].what);
        switch (error) {
        case CURLPX_NO_AUTH:
        case CURLPX_UNKNOWN_MODE:
                if (r->proxy->user)
                        return tell(r, DPS_ERROR_PROXY, ret, "accepts no log-in by user and password");
                return tell(r, DPS_ERROR_PROXY, ret,
                            "demands a log-in: set a user in Proxy=, and ProxyPassword=");
        case CURLPX_USER_REJECTED:
                return tell(r, DPS_ERROR_PROXY, ret,
                            "refused the user or the password; check Proxy= and ProxyPassword=");
        case CURLPX_LONG_USER:
        case CURLPX_LONG_PASSWD:
                return tell(r, DPS_ERROR_PROXY, ret,
                            "cannot be given a user or a password of more than 255 bytes by SOCKS5");
        case CURLPX_CLOSED:
        case CURLPX_RECV_CONNECT: /* libcurl 8.22 */
                return tell(r, DPS_ERROR_PROXY, ret, "closed the connection instead of connecting us");
        default:
                return tell(r, DPS_ERROR_PROXY, ret, "answers something that is not SOCKS5");
        }
}

static void tell_tls(CURL *easy, CURLcode code, const HttpsRoute *r, DpsError *ret) {
        long verified = info(easy, CURLINFO_PROXY_SSL_VERIFYRESULT);

        if (code == CURLE_PEER_FAILED_VERIFICATION && verified > X509_V_ERR_UNSPECIFIED)
                return tell(r, DPS_ERROR_PROXY, ret,
                            "shows a certificate that cannot be trusted: %s; name its CA in CaFile=",
                            X509_verify_cert_error_string(verified));
        if (code == CURLE_PEER_FAILED_VERIFICATION)
                return tell(r, DPS_ERROR_PROXY, ret, "shows a certificate for another name");
        tell(r, DPS_ERROR_PROXY, ret,
             "does not speak TLS; if it is a plain HTTP proxy, write http:// in Proxy=");
}

static void tell_errno(CURL *easy, const HttpsRoute *r, DpsError *ret) {
        int error = (int) info(easy, CURLINFO_OS_ERRNO);
        bool is_route = error == ENETUNREACH || error == EHOSTUNREACH || error == ENETDOWN;

        if (error == ECONNREFUSED || error == 0)
                return tell(r, DPS_ERROR_PROXY, ret, "refused the connection");
        tell(r, is_route ? DPS_ERROR_UNREACHABLE : DPS_ERROR_PROXY, ret, "cannot be reached: %s",
             strerror(error));
}

bool https_route_failed(CURL *easy, CURLcode code, const HttpsRoute *r, DpsError *ret) {
        static const char *const silences[_PROXY_KIND_MAX] = {
                [PROXY_HTTP] = "does not answer, or not by HTTP",
                [PROXY_HTTPS] = "does not answer, or not by TLS: does Proxy= have to begin with http://?",
                [PROXY_SOCKS5H] = "does not answer, or not by SOCKS5",
        };
        long answer = info(easy, CURLINFO_HTTP_CONNECTCODE), error = info(easy, CURLINFO_PROXY_ERROR);

        if (!r->proxy || r->is_through || code == CURLE_OK || code == CURLE_OUT_OF_MEMORY)
                return false;
        if (code == CURLE_ABORTED_BY_CALLBACK)
                tell(r, DPS_ERROR_PROXY, ret, "sends more data than any answer has");
        /* libcurl 8.22 calls a refusal by the proxy so, too. */
        else if (code == CURLE_COULDNT_CONNECT && answer == 0 && error == CURLPX_OK)
                tell_errno(easy, r, ret);
        else if (code == CURLE_OPERATION_TIMEDOUT)
                tell(r, DPS_ERROR_PROXY, ret, "%s", silences[r->proxy->kind]);
        else if (error != CURLPX_OK)
                tell_socks(easy, r, ret);
        else if (answer == 407 || answer == 401)
                tell_login(easy, r, ret);
        else if (answer > 0 && answer / 100 != 2)
                tell(r, DPS_ERROR_PROXY, ret, "refused to connect to %s:%u: %ld", r->asked, r->port, answer);
        else if (answer > 0)
                tell(r, DPS_ERROR_PROXY, ret, "answers with a head that is not HTTP or does not end");
        else if (code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION)
                tell_tls(easy, code, r, ret);
        else
                tell(r, DPS_ERROR_PROXY, ret, "closed the connection instead of connecting us");
        return true;
}
