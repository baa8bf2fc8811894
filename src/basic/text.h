/* SPDX-License-Identifier: MIT */
#pragma once

/* Text from outside: scans it without copies, checks for UTF-8, makes it printable. Lists of strings. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "basic/cleanup.h"

/* A part of another text: it is not zero-terminated, and valid as long as that text is. */
typedef struct Span {
        const char *start;
        size_t size;
} Span;

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* As streq(), but either may be NULL. Two NULLs are equal. */
bool streq_ptr(const char *a, const char *b);
static inline bool isempty(const char *s) {
        return !s || !*s;
}
bool startswith(const char *s, const char *prefix);
bool endswith(const char *s, const char *suffix);

/* If *text begins with `literal`, moves *text past it. */
bool scan_literal(const char **text, const char *literal);
/* Reads a decimal number and moves *text past it. -EINVAL: there is no digit; -ERANGE: the number is too
 * large. */
int scan_u64(const char **text, uint64_t *ret);
/* Reads the next "name=value" and moves *text past it and the '&' after it. False: the text has ended. */
bool scan_param(const char **text, Span *ret_name, Span *ret_value);

bool span_is(Span s, const char *word);       /* without regard to case (ASCII) */
bool span_is_exact(Span s, const char *word); /* with regard to case */
/* The whole span is a decimal number. -EINVAL: it has other characters or none; -ERANGE: the number is too
 * large. */
int span_to_u64(Span s, uint64_t *ret);
char *span_dup(Span s);  /* NULL: out of memory */
Span span_strip(Span s); /* without white space at either end */

/* The whole text is a decimal number. Fails as span_to_u64() does. */
int parse_u64(const char *text, uint64_t *ret);
/* yes/no, true/false, on/off, 1/0, as in systemd. Returns 1, 0, or -EINVAL. */
int parse_boolean(const char *text);

/* Whether `written` is probably a misspelt `meant`: one letter differs, or two in a long word. Case does not
 * matter. */
bool text_is_near(const char *written, const char *meant);

/* Strict (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. NUL bytes count as valid. */
bool utf8_is_valid(const void *data, size_t size);
/* A copy for a log line or a terminal. Control characters, also those of bidirectional text, and invalid bytes
 * become '?'. The copy is cut after `max` bytes. */
char *text_for_people(const void *data, size_t size, size_t max);
/* Writes the same to `ret`, which has room for MIN(size, max) + 1 bytes and may be `data`. */
void text_make_presentable(const void *data, size_t size, size_t max, char *ret);
/* Replaces whatever looks like a key (long base64) by a remark. People paste keys into any setting. */
void text_hide_keys(char *text);
/* A new text, as printf() would print it. NULL: out of memory. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *text_vformat(const char *format, va_list ap) __attribute__((format(printf, 1, 0)));
/* Writes two hexadecimal digits in lower case for each byte, and a zero byte. */
void bytes_to_hex(const void *data, size_t size, char *ret);

/* Lists of strings, which end with NULL. NULL is an empty list. */
size_t strv_length(char *const *l);
bool strv_contains(char *const *l, const char *s);
bool strv_equal(char *const *a, char *const *b);
int strv_push(char ***l, char *s); /* owns `s`, also on failure */
int strv_append(char ***l, const char *s);
int strv_extend(char ***l, char *const *more); /* copies them */
int strv_split(const char *text, const char *separators, char ***ret);
char **strv_free(char **l);
DEFINE_FREEP(char *, strv_free)
#define STRV_FOREACH(s, l) for (char *const *s = (l); s && *s; s++)
