/* SPDX-License-Identifier: MIT */
#include "transport/https-head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "basic/text.h"

void https_head_done(HttpsHead *h) {
        free(h->retry_after);
        free(h->date);
        *h = (HttpsHead){ 0 };
}

static bool is_one_of(char c, const char *set) {
        return c && strchr(set, c);
}

static bool header_is(const char *line, size_t n, const char *name, const char **ret_value,
                      size_t *ret_size) {
        size_t size = strlen(name);

        if (n <= size || strncasecmp(line, name, size) != 0 || line[size] != ':')
                return false;
        line += size + 1;
        n -= size + 1;
        while (n > 0 && is_one_of(*line, " \t"))
                line++, n--;
        while (n > 0 && is_one_of(line[n - 1], " \t\r\n"))
                n--;
        *ret_value = line;
        *ret_size = n;
        return n > 0;
}

static void begin_head(HttpsHead *h) {
        size_t size = h->size;

        https_head_done(h);
        h->size = size;
}

int https_head_take(HttpsHead *h, const char *line, size_t n) {
        const char *value;
        char **place, *copy;
        size_t size;

        if (n > HTTPS_HEAD_SIZE_MAX - h->size)
                return -E2BIG;
        h->size += n;
        if (n >= strlen("HTTP/") && strncasecmp(line, "HTTP/", strlen("HTTP/")) == 0)
                begin_head(h);
        if (header_is(line, n, "Retry-After", &value, &size))
                place = &h->retry_after;
        else if (header_is(line, n, "Date", &value, &size))
                place = &h->date;
        else
                return 0;

        copy = strndup(value, size);
        if (!copy)
                return -ENOMEM;
        free(*place);
        *place = copy;
        return 0;
}

/* curl_getdate() knows no year after 2037 where the time_t of libcurl has 32 bits. -1: it is no date. */
static time_t parse_date(const char *text) {
        static const char *const formats[] = {
                "%a, %d %b %Y %H:%M:%S GMT",
                "%A, %d-%b-%y %H:%M:%S GMT", /* this and the next were written long ago, and must be read for ever */
                "%a %b %e %H:%M:%S %Y",
        };

        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                struct tm tm = { 0 };
                const char *end = strptime(text, formats[i], &tm);

                if (end && *end == 0)
                        return timegm(&tm);
        }
        return -1;
}

bool https_head_retry_after(const HttpsHead *h, uint64_t now_sec, uint64_t *ret_sec) {
        time_t until, from = -1;

        if (!h->retry_after)
                return false;
        if (h->retry_after[strspn(h->retry_after, "0123456789")] == 0) {
                if (parse_u64(h->retry_after, ret_sec) < 0)
                        *ret_sec = UINT64_MAX; /* not malformed, only a very long time */
                return true;
        }

        until = parse_date(h->retry_after);
        if (h->date)
                from = parse_date(h->date);
        if (from < 0)
                from = (time_t) now_sec;
        if (until < 0)
                return false;
        *ret_sec = until > from ? (uint64_t) (until - from) : 0;
        return true;
}
