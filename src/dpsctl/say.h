/* SPDX-License-Identifier: MIT */
#pragma once

/* How dpsctl talks: exit codes, complaints, and the looks of its output. */

#include <stdbool.h>
#include <stddef.h>

/* Relied on by scripts: dpsctl(1). */
typedef enum Exit {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_USAGE = 2,
        EXIT_NOT_ASSIGNED = 3,
        EXIT_NO_IDENTITY = 4,
        EXIT_NOT_PERMITTED = 5,
        EXIT_NO_DAEMON = 6,
        EXIT_TIMED_OUT = 7,
        EXIT_RATE_LIMITED = 8,
} Exit;

/* A line on standard error, redacted, and without what a terminal would obey. */
void quote(const char *text);
/* "dpsctl: …", quoted, to standard error. Gives `code` back: `return complain(EXIT_FAILED, "…")`. */
int complain(Exit code, const char *format, ...) __attribute__((format(printf, 2, 3)));
int fail_memory(void);

typedef enum Style {
        STYLE_PLAIN,
        STYLE_BOLD,
        STYLE_DIM,
        STYLE_GOOD,
        STYLE_BUSY,
        STYLE_BAD,
        _STYLE_MAX,
} Style;

/* Looks at the terminal and the environment ($NO_COLOR, $TERM, the locale). Before a pager takes standard output. */
void style_init(void);
/* Decides instead of style_init(): for tests. `columns` 0: no terminal. */
void style_set(bool colours, bool utf8, unsigned columns);
/* The escape sequence that begins, or ends, a style; "" where there are no colours. */
const char *style_begin(Style s);
const char *style_end(Style s);
/* Whether standard output is a terminal, and its width; 0: it is none. */
unsigned style_columns(void);
/* A terminal that can do nothing but lines. */
bool style_is_dumb(void);
/* A bullet, a dash, an arrow, an ellipsis where the locale has them, and what stands for them where not. */
const char *style_bullet(void);
const char *style_arrow(void);
const char *style_ellipsis(void);
/* Columns that a text takes on a terminal. */
size_t text_width(const char *text);
/* Bytes of the longest beginning that takes at most `columns`. */
size_t text_fit(const char *text, size_t columns);
