/* SPDX-License-Identifier: MIT */
#include "config/proxy.h"
#include "fuzz.h"
#include "transport/tunnel.h"

/* What is read is either refused, or written so that it is read as the same again. */
static void check_url(const char *url) {
        _cleanup_(freep) char *why = NULL, *no_why = NULL, *written = NULL, *again = NULL;
        _cleanup_(proxy_freep) Proxy *p = NULL, *other = NULL;

        if (proxy_from_url(url, &p, &why) < 0) {
                PROMISE(why && is_one_line(why));
                return;
        }
        if (!p)
                return;
        PROMISE(!p->password && *p->host && p->port > 0);
        PROMISE(proxy_to_url(p, &written) >= 0);
        PROMISE(proxy_from_url(written, &other, &no_why) >= 0);
        PROMISE(proxy_to_url(other, &again) >= 0);
        PROMISE(streq(written, again) && streq_ptr(p->user, other->user));
}

/* HOST WORD… : what is covered is covered by a word that makes sense. */
static void check_exceptions(const char *text) {
        _cleanup_(strv_freep) char **words = NULL;
        bool makes_sense = false;

        PROMISE(strv_split(text, " ", &words) >= 0);
        if (!words)
                return;
        STRV_FOREACH(w, words + 1) {
                _cleanup_(freep) char *why = NULL;

                makes_sense = makes_sense || no_proxy_check(*w, &why) >= 0;
        }
        PROMISE(makes_sense || !no_proxy_covers(words + 1, words[0]));
}

/* The bytes of a proxy end in an open tunnel, an error, or too early. */
static void check_tunnel(ProxyKind kind, size_t step, const uint8_t *data, size_t size) {
        const Proxy proxy = { kind, (char *) "proxy", 3128, (char *) "joe", (char *) "secret" };
        _cleanup_(tunnel_freep) Tunnel *t = NULL;

        PROMISE(tunnel_new(&proxy, "dps.example", 8883, &t) >= 0);
        while (tunnel_state(t) == TUNNEL_SENDS || tunnel_state(t) == TUNNEL_READS) {
                size_t n;

                if (tunnel_state(t) == TUNNEL_SENDS) {
                        (void) tunnel_output(t, &n);
                        PROMISE(n > 0);
                        tunnel_sent(t, n);
                        continue;
                }
                n = MIN(MIN(tunnel_wanted(t), size), step);
                PROMISE(tunnel_wanted(t) > 0);
                if (n == 0)
                        return;
                tunnel_received(t, data, n);
                data += n;
                size -= n;
        }
        PROMISE(tunnel_state(t) == TUNNEL_OPEN || is_one_line(tunnel_error(t)->message));
}

/* Input: a letter that tells what follows: u, a URL; n, a host and words of NoProxy=; s or h, what a proxy answers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(freep) char *text = fuzz_text(data, size);

        if (size == 0)
                return 0;
        switch (*text) {
        case 'u':
                check_url(text + 1);
                break;
        case 'n':
                check_exceptions(text + 1);
                break;
        case 's':
        case 'h':
                check_tunnel(*text == 's' ? PROXY_SOCKS5H : PROXY_HTTP, 1 + size % 7, data + 1, size - 1);
                break;
        }
        return 0;
}
