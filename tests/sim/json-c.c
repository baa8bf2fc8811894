/* SPDX-License-Identifier: MIT */

/* What json-c asks of the C library for each text and for each number. */

#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

/* ---- locales ---- */

/* It makes a copy of the locale for each text that it parses, which takes as long as the parsing of a short one. Nobody here sets a
 * locale, so there is only this one. */

#pragma GCC visibility push(default)
locale_t __newlocale(int mask, const char *name, locale_t base);

locale_t newlocale(int mask, const char *name, locale_t base) {
        static locale_t c;

        return c = c ?: __newlocale(LC_ALL_MASK, "C", NULL);
}

locale_t duplocale(locale_t l) {
        return l;
}

void freelocale(locale_t l) {
}
#pragma GCC visibility pop

/* ---- numbers ---- */

/* It prints them by snprintf(), which takes longer for one than all the rest of writing it. */

#define DIGITS_MAX 20

static int print_number(uint64_t n, bool is_negative, char *ret, size_t size) {
        char text[DIGITS_MAX + 2], *p = text + sizeof(text);
        size_t length;

        *--p = 0;
        do
                *--p = (char) ('0' + n % 10);
        while (n /= 10);
        if (is_negative)
                *--p = '-';
        length = (size_t) (text + sizeof(text) - 1 - p);
        if (length < size)
                memcpy(ret, p, length + 1);
        return length < size ? (int) length : -1;
}

static int print_signed(int64_t n, char *ret, size_t size) {
        return print_number(n < 0 ? -(uint64_t) n : (uint64_t) n, n < 0, ret, size);
}

#pragma GCC visibility push(default)
int __snprintf_chk(char *ret, size_t size, int flag, size_t room, const char *format, ...)
        __attribute__((format(printf, 5, 6)));

int __snprintf_chk(char *ret, size_t size, int flag, size_t room, const char *format, ...) {
        va_list ap;
        int n = -1;

        if (size > room)
                abort();
        va_start(ap, format);
        if (streq(format, "%" PRIu64))
                n = print_number(va_arg(ap, uint64_t), false, ret, size);
        else if (streq(format, "%" PRId64))
                n = print_signed(va_arg(ap, int64_t), ret, size);
        va_end(ap);
        if (n >= 0)
                return n;
        va_start(ap, format);
        n = vsnprintf(ret, size, format, ap);
        va_end(ap);
        return n;
}
#pragma GCC visibility pop
