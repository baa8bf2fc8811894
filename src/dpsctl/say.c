/* SPDX-License-Identifier: MIT */
#include "dpsctl/say.h"

#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "dpsctl/redact.h"

#define COLUMNS_DEFAULT 80

static struct {
        bool colours, utf8;
        unsigned columns;
} look;

void say_error(const char *text) {
        _cleanup_(freep) char *plain = text_for_people(text, strlen(text), strlen(text));
        _cleanup_(freep) char *redacted = plain ? redact_text(plain) : NULL;

        fprintf(stderr, "%s\n", redacted ?: "?");
}

int fail_with(Exit code, const char *format, ...) {
        _cleanup_(freep) char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        text = text_vformat(format, arguments);
        va_end(arguments);
        fputs("dpsctl: ", stderr);
        say_error(text ?: "out of memory");
        return (int) code;
}

int fail_memory(void) {
        return fail_with(EXIT_FAILED, "out of memory");
}

char *shown_line(const char *line) {
        return look.columns == 0 ? strdup(line) : text_for_people(line, strlen(line), strlen(line));
}

int print_text(const char *text) {
        _cleanup_(freep) char *line = NULL;

        if (look.columns == 0)
                return puts(text) < 0 ? EXIT_FAILED : EXIT_DONE;
        for (size_t n; *text; text += n + (text[n] == '\n')) {
                n = strcspn(text, "\n");
                free(line);
                line = text_for_people(text, n, n);
                if (!line || puts(line) < 0)
                        return EXIT_FAILED;
        }
        return EXIT_DONE;
}

static unsigned terminal_columns(void) {
        const char *given = getenv("COLUMNS");
        struct winsize size;
        uint64_t columns;

        if (!isatty(STDOUT_FILENO))
                return 0;
        if (given && parse_u64(given, &columns) >= 0 && columns > 0 && columns < 10000)
                return (unsigned) columns;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return COLUMNS_DEFAULT;
        return size.ws_col;
}

bool style_is_dumb(void) {
        const char *terminal = getenv("TERM");

        return isempty(terminal) || streq(terminal, "dumb");
}

void style_init(void) {
        (void) setlocale(LC_ALL, "");
        look.utf8 = streq(nl_langinfo(CODESET), "UTF-8");
        look.columns = terminal_columns();
        look.colours = look.columns > 0 && isempty(getenv("NO_COLOR")) && !style_is_dumb();
}

void style_set(bool colours, bool utf8, unsigned columns) {
        look.colours = colours;
        look.utf8 = utf8;
        look.columns = columns;
}

const char *style_begin(Style s) {
        static const char *const sequences[_STYLE_MAX] = {
                [STYLE_PLAIN] = "",        [STYLE_BOLD] = "\033[1m",  [STYLE_DIM] = "\033[2m",
                [STYLE_GOOD] = "\033[32m", [STYLE_BUSY] = "\033[33m", [STYLE_BAD] = "\033[1;31m",
        };

        return look.colours ? sequences[s] : "";
}

const char *style_end(Style s) {
        return look.colours && s != STYLE_PLAIN ? "\033[0m" : "";
}

unsigned style_columns(void) {
        return look.columns;
}

const char *style_bullet(void) {
        return look.utf8 ? "●" : "*";
}

const char *style_arrow(void) {
        return look.utf8 ? "→" : "->";
}

const char *style_ellipsis(void) {
        return look.utf8 ? "…" : "...";
}
