/* SPDX-License-Identifier: MIT */
#pragma once

/* Text that came from elsewhere: scanning it without copying, lists of it, and whether it is UTF-8. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "basic/cleanup.h"

/* A piece of somebody else's text: not zero-terminated, valid as long as that text is. */
typedef struct Span {
        const char *start;
        size_t size;
} Span;

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

/* As streq(), where either may be missing; two missing ones are equal. */
bool streq_ptr(const char *a, const char *b);
static inline bool isempty(const char *s) {
        return !s || !*s;
}
bool startswith(const char *s, const char *prefix);
bool endswith(const char *s, const char *suffix);

/* Moves *text past `literal` if it begins with it. */
bool scan_literal(const char **text, const char *literal);
/* Moves *text past a run of decimal digits. -EINVAL: no digit there; -ERANGE: does not fit. */
int scan_u64(const char **text, uint64_t *ret);
/* Moves *text past the next "name=value" and the '&' behind it; false at the end of the text. */
bool scan_param(const char **text, Span *ret_name, Span *ret_value);

bool span_is(Span s, const char *word);       /* case counts not (ASCII) */
bool span_is_exact(Span s, const char *word); /* case counts */
/* The whole span as a decimal number; -EINVAL: anything but digits; -ERANGE: does not fit. */
int span_to_u64(Span s, uint64_t *ret);
char *span_dup(Span s);  /* NULL: out of memory */
Span span_strip(Span s); /* without white space at either end */

/* Whole-text numbers, with the same errors as span_to_u64(). */
int parse_u64(const char *text, uint64_t *ret);
/* yes/no, true/false, on/off, 1/0, as systemd reads them; else -EINVAL. */
int parse_boolean(const char *text);

/* Strict (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. NUL bytes count as valid. */
bool utf8_is_valid(const void *data, size_t size);
/* A copy fit for a log line or a terminal: control characters and invalid bytes become '?', cut at `max`. */
char *text_for_people(const void *data, size_t size, size_t max);
/* The same into `ret`, which may be where `data` is. */
void text_make_presentable(const void *data, size_t size, size_t max, char *ret);
/* Two digits, in lower case, for each byte, and a zero byte. */
void bytes_to_hex(const void *data, size_t size, char *ret);

/* Lists of strings that end with NULL; a NULL list is an empty one. */
size_t strv_length(char *const *l);
bool strv_contains(char *const *l, const char *s);
bool strv_equal(char *const *a, char *const *b);
int strv_push(char ***l, char *s); /* takes s, also on failure */
int strv_append(char ***l, const char *s);
int strv_extend(char ***l, char *const *more); /* by copies */
int strv_split(const char *text, const char *separators, char ***ret);
char **strv_free(char **l);
DEFINE_FREEP(char *, strv_free)
#define STRV_FOREACH(s, l) for (char *const *s = (l); s && *s; s++)
