/* SPDX-License-Identifier: MIT */
#include "basic/text.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

bool streq_ptr(const char *a, const char *b) {
        return a && b ? streq(a, b) : a == b;
}

bool startswith(const char *s, const char *prefix) {
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool endswith(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool scan_literal(const char **text, const char *literal) {
        if (!startswith(*text, literal))
                return false;

        *text += strlen(literal);
        return true;
}

int scan_u64(const char **text, uint64_t *ret) {
        const char *p = *text;
        uint64_t value = 0;

        if (!isdigit((unsigned char) *p))
                return -EINVAL;

        for (; isdigit((unsigned char) *p); p++)
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t) (*p - '0'), &value))
                        return -ERANGE;

        *text = p;
        *ret = value;
        return 0;
}

bool scan_param(const char **text, Span *ret_name, Span *ret_value) {
        const char *start = *text;
        size_t size = strcspn(start, "&");
        const char *equals = memchr(start, '=', size);

        if (!*start)
                return false;

        *ret_name = (Span){ start, equals ? (size_t) (equals - start) : size };
        *ret_value = equals ? (Span){ equals + 1, size - ret_name->size - 1 } : (Span){ start + size, 0 };
        *text = start + size + (start[size] == '&');
        return true;
}

bool span_is(Span s, const char *word) {
        return s.size == strlen(word) && strncasecmp(s.start, word, s.size) == 0;
}

bool span_is_exact(Span s, const char *word) {
        return s.size == strlen(word) && memcmp(s.start, word, s.size) == 0;
}

int span_to_u64(Span s, uint64_t *ret) {
        uint64_t value = 0;

        if (s.size == 0)
                return -EINVAL;

        for (size_t i = 0; i < s.size; i++)
                if (!isdigit((unsigned char) s.start[i]))
                        return -EINVAL;

        for (size_t i = 0; i < s.size; i++)
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t) (s.start[i] - '0'), &value))
                        return -ERANGE;

        *ret = value;
        return 0;
}

char *span_dup(Span s) {
        return strndup(s.start ?: "", s.size);
}

Span span_strip(Span s) {
        while (s.size > 0 && isspace((unsigned char) s.start[0]))
                s = (Span){ s.start + 1, s.size - 1 };
        while (s.size > 0 && isspace((unsigned char) s.start[s.size - 1]))
                s.size--;
        return s;
}

int parse_u64(const char *text, uint64_t *ret) {
        return span_to_u64((Span){ text, strlen(text) }, ret);
}

int parse_boolean(const char *text) {
        static const char *const yes[] = { "1", "yes", "y", "true", "t", "on" };
        static const char *const no[] = { "0", "no", "n", "false", "f", "off" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++) {
                if (strcasecmp(text, yes[i]) == 0)
                        return true;
                if (strcasecmp(text, no[i]) == 0)
                        return false;
        }
        return -EINVAL;
}

/* The length of the UTF-8 character at p. 0: there is no valid one. */
static size_t utf8_sequence(const uint8_t *p, size_t size) {
        uint32_t c;
        size_t n;

        if (p[0] < 0x80)
                return 1;
        if ((p[0] & 0xe0) == 0xc0)
                n = 2;
        else if ((p[0] & 0xf0) == 0xe0)
                n = 3;
        else if ((p[0] & 0xf8) == 0xf0)
                n = 4;
        else
                return 0;
        if (n > size)
                return 0;

        c = p[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }

        if (c < (n == 2 ? 0x80U : n == 3 ? 0x800U : 0x10000U)) /* overlong */
                return 0;
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        return n;
}

/* The number of letters to insert, delete or change to turn one word into the other, regardless of case. */
static unsigned distance(const char *a, const char *b) {
        unsigned row[32], n = (unsigned) strlen(b);

        if (strlen(a) >= ELEMENTSOF(row) || n >= ELEMENTSOF(row))
                return UINT_MAX;
        for (unsigned j = 0; j <= n; j++)
                row[j] = j;

        for (unsigned i = 1; a[i - 1]; i++) {
                unsigned diagonal = row[0];

                row[0] = i;
                for (unsigned j = 1; j <= n; j++) {
                        bool same = tolower((unsigned char) a[i - 1]) == tolower((unsigned char) b[j - 1]);
                        unsigned best = MIN(MIN(row[j], row[j - 1]) + 1, diagonal + (same ? 0 : 1));

                        diagonal = row[j];
                        row[j] = best;
                }
        }
        return row[n];
}

bool text_is_near(const char *written, const char *meant) {
        return distance(written, meant) <= (strlen(meant) > 5 ? 2U : 1U);
}

bool utf8_is_valid(const void *data, size_t size) {
        const uint8_t *p = data;

        for (size_t i = 0, n; i < size; i += n) {
                uint64_t bytes = UINT64_MAX;

                if (size - i >= sizeof(bytes)) /* nearly all text is ASCII */
                        memcpy(&bytes, p + i, sizeof(bytes));
                n = !(bytes & UINT64_C(0x8080808080808080)) ? sizeof(bytes)
                    : p[i] < 0x80                           ? 1
                                                            : utf8_sequence(p + i, size - i);
                if (n == 0)
                        return false;
        }
        return true;
}

/* Whether the character neither controls a terminal nor is invisible, which would make a text look like
 * another one. Not plain are controls, marks of bidirectional text, joiners and fillers, separators of
 * lines, and tags. */
static bool is_plain(const uint8_t *p, size_t n) {
        static const struct {
                uint32_t first, last;
        } hidden[] = {
                { 0, 0x1f },          { 0x7f, 0x9f },       { 0xad, 0xad },     { 0x34f, 0x34f },
                { 0x61c, 0x61c },     { 0x115f, 0x1160 },   { 0x17b4, 0x17b5 }, { 0x180b, 0x180f },
                { 0x200b, 0x200f },   { 0x2028, 0x202e },   { 0x2060, 0x206f }, { 0x3164, 0x3164 },
                { 0xfe00, 0xfe0f },   { 0xfeff, 0xfeff },   { 0xffa0, 0xffa0 }, { 0xfff0, 0xfffb },
                { 0x1d173, 0x1d17a }, { 0xe0000, 0xe0fff },
        };
        uint32_t c = n <= 1 ? *p : *p & (0x7fU >> n);

        for (size_t k = 1; k < n; k++)
                c = c << 6 | (p[k] & 0x3f);
        for (size_t k = 0; k < ELEMENTSOF(hidden); k++)
                if (c >= hidden[k].first && c <= hidden[k].last)
                        return false;
        return n > 0;
}

void text_make_presentable(const void *data, size_t size, size_t max, char *ret) {
        const uint8_t *p = data;
        size_t used = 0;

        for (size_t i = 0, n; i < size; i += n) {
                bool plain;

                n = 1;
                if (p[i] >= ' ' && p[i] < 0x7f && used < max) { /* nearly all text is only this */
                        ret[used++] = (char) p[i];
                        continue;
                }
                n = utf8_sequence(p + i, size - i);
                plain = is_plain(p + i, n);
                if (!plain)
                        n = 1;
                if (used + n > max)
                        break;
                if (plain)
                        memmove(ret + used, p + i, n);
                else
                        ret[used] = '?';
                used += n;
        }

        ret[used] = 0;
}

#define KEY_SIZE_MIN 40
#define BARE_KEY_SIZE_MIN 43 /* of 32 bytes */
#define KEY_REMARK "(a key?)"

/* A key without padding is known by its characters: at such a length, few paths and no fingerprint have
 * capitals, small letters and digits, and nothing else. */
static bool is_bare_key(const char *p, size_t n) {
        bool has_capital = false, has_small = false, has_digit = false;

        for (size_t i = 0; i < n; i++) {
                has_capital = has_capital || (p[i] >= 'A' && p[i] <= 'Z');
                has_small = has_small || (p[i] >= 'a' && p[i] <= 'z');
                has_digit = has_digit || (p[i] >= '0' && p[i] <= '9');
        }
        return n >= BARE_KEY_SIZE_MIN && has_capital && has_small && has_digit;
}

/* Of all messages: strspn() would make a table of these letters for each of their words. */
static size_t size_of_letters(const char *p) {
        size_t n = 0;

        while (isalnum((unsigned char) p[n]) || p[n] == '+' || p[n] == '/')
                n++;
        return n;
}

void text_hide_keys(char *text) {
        for (char *p = text; *p;) {
                size_t n = size_of_letters(p);

                if ((n >= KEY_SIZE_MIN && p[n] == '=') || is_bare_key(p, n)) {
                        n += strspn(p + n, "=");
                        memcpy(p, KEY_REMARK, strlen(KEY_REMARK));
                        memmove(p + strlen(KEY_REMARK), p + n, strlen(p + n) + 1);
                        n = strlen(KEY_REMARK);
                }
                p += MAX(n, 1U);
        }
}

char *text_for_people(const void *data, size_t size, size_t max) {
        char *copy = malloc(MIN(size, max) + 1);

        if (copy)
                text_make_presentable(data, size, max, copy);
        return copy;
}

char *text_vformat(const char *format, va_list ap) {
        char *text;

        return vasprintf(&text, format, ap) < 0 ? NULL : text;
}

char *text_format(const char *format, ...) {
        char *text;
        va_list ap;

        va_start(ap, format);
        text = text_vformat(format, ap);
        va_end(ap);
        return text;
}

void bytes_to_hex(const void *data, size_t size, char *ret) {
        static const char digits[] = "0123456789abcdef";

        for (const uint8_t *p = data; p < (const uint8_t *) data + size; p++) {
                *ret++ = digits[*p >> 4];
                *ret++ = digits[*p & 15];
        }
        *ret = 0;
}

size_t strv_length(char *const *l) {
        size_t n = 0;

        STRV_FOREACH(s, l)
                n++;
        return n;
}

bool strv_contains(char *const *l, const char *s) {
        STRV_FOREACH(i, l)
                if (streq(*i, s))
                        return true;
        return false;
}

int strv_push(char ***l, char *s) {
        size_t n = strv_length(*l);
        char **grown;

        if (!s)
                return -ENOMEM;

        grown = reallocarray(*l, n + 2, sizeof(char *));
        if (!grown) {
                free(s);
                return -ENOMEM;
        }

        grown[n] = s;
        grown[n + 1] = NULL;
        *l = grown;
        return 0;
}

bool strv_equal(char *const *a, char *const *b) {
        while (a && *a && b && *b && streq(*a, *b)) {
                a++;
                b++;
        }
        return (!a || !*a) && (!b || !*b);
}

int strv_append(char ***l, const char *s) {
        return strv_push(l, strdup(s));
}

int strv_extend(char ***l, char *const *more) {
        int r = 0;

        for (; r >= 0 && more && *more; more++)
                r = strv_append(l, *more);
        return r;
}

int strv_split(const char *text, const char *separators, char ***ret) {
        _cleanup_(strv_freep) char **l = NULL;

        while (*(text += strspn(text, separators))) {
                size_t n = strcspn(text, separators);
                int r = strv_push(&l, strndup(text, n));

                if (r < 0)
                        return r;
                text += n;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

char **strv_free(char **l) {
        STRV_FOREACH(s, l)
                free(*s);
        free(l);
        return NULL;
}
