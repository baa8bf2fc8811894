/* SPDX-License-Identifier: MIT */
#include "basic/times.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"

uint64_t now_usec(clockid_t clock) {
        struct timespec ts = { 0 };

        (void) clock_gettime(clock, &ts);
        if (ts.tv_sec < 0)
                return 0;
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

uint64_t usec_add(uint64_t a, uint64_t b) {
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? USEC_INFINITY : sum;
}

uint64_t usec_sub(uint64_t a, uint64_t b) {
        return a > b ? a - b : 0;
}

static const struct unit {
        char name[8];
        uint64_t usec;
} units[] = {
        { "seconds", USEC_PER_SEC },
        { "second", USEC_PER_SEC },
        { "sec", USEC_PER_SEC },
        { "s", USEC_PER_SEC },
        { "minutes", USEC_PER_MINUTE },
        { "minute", USEC_PER_MINUTE },
        { "min", USEC_PER_MINUTE },
        { "m", USEC_PER_MINUTE },
        { "months", USEC_PER_MONTH },
        { "month", USEC_PER_MONTH },
        { "M", USEC_PER_MONTH },
        { "msec", USEC_PER_MSEC },
        { "ms", USEC_PER_MSEC },
        { "hours", USEC_PER_HOUR },
        { "hour", USEC_PER_HOUR },
        { "hr", USEC_PER_HOUR },
        { "h", USEC_PER_HOUR },
        { "days", USEC_PER_DAY },
        { "day", USEC_PER_DAY },
        { "d", USEC_PER_DAY },
        { "weeks", USEC_PER_WEEK },
        { "week", USEC_PER_WEEK },
        { "w", USEC_PER_WEEK },
        { "years", USEC_PER_YEAR },
        { "year", USEC_PER_YEAR },
        { "y", USEC_PER_YEAR },
        { "usec", 1 },
        { "us", 1 },
        { "µs", 1 },
};

static uint64_t unit_from_span(Span s) {
        if (s.size == 0)
                return USEC_PER_SEC;
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (span_is_exact(s, units[i].name))
                        return units[i].usec;
        return 0;
}

/* The value of the digits after a point, in a time of `unit` µs. Digits below a microsecond are ignored. */
static uint64_t scan_fraction(const char **text, uint64_t unit) {
        uint64_t value = 0;

        for (uint64_t weight = unit / 10; isdigit((unsigned char) **text); (*text)++, weight /= 10)
                value += weight * (uint64_t) (**text - '0');
        return value;
}

static int scan_term(const char **text, uint64_t *ret) {
        uint64_t whole, unit;
        const char *fraction;
        Span name;
        int r;

        r = scan_u64(text, &whole);
        if (r < 0)
                return r;

        fraction = *text;
        if (*fraction == '.') {
                *text = fraction + 1;
                if (!isdigit((unsigned char) **text))
                        return -EINVAL;
                (void) scan_fraction(text, 0);
        }

        *text += strspn(*text, " \t");
        name = (Span){ *text, strcspn(*text, " \t0123456789.") };
        unit = unit_from_span(name);
        if (unit == 0)
                return -EINVAL;
        *text += name.size;

        if (__builtin_mul_overflow(whole, unit, &whole))
                return -ERANGE;
        if (*fraction == '.') {
                fraction++;
                whole = usec_add(whole, scan_fraction(&fraction, unit));
        }

        *ret = whole;
        return 0;
}

int parse_duration(const char *text, uint64_t *ret_usec) {
        uint64_t sum = 0, term;
        int r;

        text += strspn(text, " \t");
        if (streq(text, "infinity")) {
                *ret_usec = USEC_INFINITY;
                return 0;
        }

        do {
                r = scan_term(&text, &term);
                if (r < 0)
                        return r;
                if (__builtin_add_overflow(sum, term, &sum))
                        return -ERANGE;
                text += strspn(text, " \t");
        } while (*text);

        *ret_usec = sum;
        return 0;
}

const char *format_duration(uint64_t usec, char buffer[static DURATION_TEXT_MAX]) {
        static const struct {
                uint64_t usec;
                const char *name, *names;
        } steps[] = {
                { USEC_PER_YEAR, "year", "years" }, { USEC_PER_DAY, "day", "days" },
                { USEC_PER_HOUR, "h", "h" },        { USEC_PER_MINUTE, "min", "min" },
                { USEC_PER_SEC, "s", "s" },
        };
        uint64_t first, second = 0;
        size_t i = 0;

        if (usec == USEC_INFINITY) {
                (void) snprintf(buffer, DURATION_TEXT_MAX, "for ever");
                return buffer;
        }
        if (usec < USEC_PER_SEC) {
                (void) snprintf(buffer, DURATION_TEXT_MAX, "%u ms", (unsigned) (usec / USEC_PER_MSEC));
                return buffer;
        }

        while (usec < steps[i].usec)
                i++;
        first = usec / steps[i].usec;
        /* From ten of the first unit on, the second unit is not shown. */
        if (first < 10 && i + 1 < ELEMENTSOF(steps))
                second = usec % steps[i].usec / steps[i + 1].usec;

        if (second > 0)
                (void) snprintf(buffer, DURATION_TEXT_MAX, "%lu %s %lu %s", (unsigned long) first,
                                first == 1 ? steps[i].name : steps[i].names, (unsigned long) second,
                                second == 1 ? steps[i + 1].name : steps[i + 1].names);
        else
                (void) snprintf(buffer, DURATION_TEXT_MAX, "%lu %s", (unsigned long) first,
                                first == 1 ? steps[i].name : steps[i].names);
        return buffer;
}

const char *format_timestamp(uint64_t realtime_usec, char buffer[static TIMESTAMP_TEXT_MAX]) {
        time_t t = (time_t) (realtime_usec / USEC_PER_SEC);
        struct tm tm;

        if (realtime_usec == 0 || !gmtime_r(&t, &tm) ||
            strftime(buffer, TIMESTAMP_TEXT_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
                (void) snprintf(buffer, TIMESTAMP_TEXT_MAX, "-");
        return buffer;
}
