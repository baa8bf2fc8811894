/* SPDX-License-Identifier: MIT */
#pragma once

/* How dpsctl talks to people: errors, colours and symbols. */

#include <stdbool.h>

#include "basic/contract.h"

/* A line on standard error: redacted, and without control characters, which a terminal would obey. */
void say_error(const char *text);
/* The same with "dpsctl: " before it. Returns `code`: `return fail_with(EXIT_FAILED, "…")`. */
int fail_with(Exit code, const char *format, ...) __attribute__((format(printf, 2, 3)));
int fail_memory(void);
/* Prints lines of text that came from elsewhere on standard output: unchanged, unless that is a terminal. Gives
 * the exit code. */
int print_text(const char *text);
/* A copy of a line from elsewhere, for standard output. If that is a terminal, '?' replaces whatever could
 * control it or is invisible. NULL: out of memory. */
char *shown_line(const char *line);

typedef enum Style {
        STYLE_PLAIN,
        STYLE_BOLD,
        STYLE_DIM,
        STYLE_GOOD,
        STYLE_BUSY,
        STYLE_BAD,
        _STYLE_MAX,
} Style;

/* Looks at the terminal and the environment ($NO_COLOR, $TERM, the locale), before a pager takes standard output. */
void style_init(void);
/* For tests, instead of style_init(). `columns` 0: standard output is not a terminal. */
void style_set(bool colours, bool utf8, unsigned columns);
/* The escape sequence that begins, or ends, a style; "" where there are no colours. */
const char *style_begin(Style s);
const char *style_end(Style s);
/* The width of the terminal; 0: standard output is not a terminal. */
unsigned style_columns(void);
/* Whether the terminal can show nothing but lines of text. */
bool style_is_dumb(void);
/* A bullet, an arrow, an ellipsis; in ASCII where the locale has no other. */
const char *style_bullet(void);
const char *style_arrow(void);
const char *style_ellipsis(void);
