/* SPDX-License-Identifier: MIT */

/* What happened, a line for each thing; and the log of dpsd, which takes the place of src/dpsd/log.c. */

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "basic/text.h"
#include "checks.h"
#include "dpsd/log.h"
#include "journal.h"
#include "keys.h"
#include "memory.h"
#include "sim.h"

#define LINE_MAX_ 1024

static Sim *logged_sim;

void trace_set_sim(Sim *s) {
        logged_sim = s;
}

static void add_to_hash(Sim *s, const char *text) {
        for (const char *p = text; *p; p++)
                s->trace_hash = (s->trace_hash ^ (unsigned char) *p) * UINT64_C(0x100000001b3);
}

/* So that the trace does not depend on where the simulation runs. */
static void hide(char *text, const char *directory, const char *word) {
        size_t size = strlen(directory);
        char *p;

        while ((p = strstr(text, directory))) {
                memcpy(p, word, strlen(word));
                memmove(p + strlen(word), p + size, strlen(p + size) + 1);
        }
}

static void tracev(Sim *s, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));

static void tracev(Sim *s, const char *format, va_list ap) {
        char text[LINE_MAX_];
        int n;

        n = snprintf(text, sizeof(text), "%" PRIu64 ".%06" PRIu64 " ", s->now_usec / USEC_PER_SEC,
                     s->now_usec % USEC_PER_SEC);
        (void) vsnprintf(text + n, sizeof(text) - (size_t) n, format, ap);
        hide(text, KEYS_DIRECTORY, "KEYS");
        hide(text, s->options.directory, "CONF");
        add_to_hash(s, text);
        if (s->options.trace)
                (void) fprintf(s->options.trace, "%s\n", text);
}

void trace(Sim *s, const char *format, ...) {
        va_list ap;

        if (!s->options.is_traced)
                return;
        va_start(ap, format);
        tracev(s, format, ap);
        va_end(ap);
}

void found(Sim *s, const char *promise, const char *format, ...) {
        const char *const *known;
        va_list ap;

        if (s->finding.promise)
                return;
        for (known = promises; *known && !streq(*known, promise); known++)
                ;
        if (!*known)
                abort(); /* it is not listed, so nobody would count it */
        s->finding.promise = *known;
        s->finding.at_usec = s->now_usec;
        va_start(ap, format);
        (void) vsnprintf(s->finding.text, sizeof(s->finding.text), format, ap);
        va_end(ap);
        trace(s, "FOUND: %s: %s", promise, s->finding.text);
}

/* ---- dpsd's log ---- */

void log_init(void) {
}

void log_set_level(int level) {
}

int log_level(void) {
        return LOG_DEBUG;
}

int log_level_from_string(const char *word) {
        return LOG_INFO;
}

const char *log_level_to_string(int level) {
        return "info";
}

const char *log_target(void) {
        return "console";
}

/* OpenSSL draws the keys of issued certificates, so the names of their files differ from run to run. */
static void mask_fingerprint(char *text) {
        char *end = strstr(text, ".issued");

        while (end && end > text && strchr("0123456789abcdef", end[-1]))
                *--end = 'x';
}

void log_messagev(int level, const LogFields *fields, const char *format, va_list ap) {
        unsigned depth = core_pause();
        char text[LINE_MAX_];
        va_list again;

        va_copy(again, ap);
        journal_log(logged_sim, level, fields, format, again);
        va_end(again);
        (void) vsnprintf(text, sizeof(text), format, ap);
        checks_logged(logged_sim, level, text);
        mask_fingerprint(text);
        trace(logged_sim, "log: <%d>%s%s%s", level, fields && fields->identity ? fields->identity : "",
              fields && fields->identity ? ": " : "", text);
        core_resume(depth);
}

void log_message(int level, const LogFields *fields, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        log_messagev(level, fields, format, ap);
        va_end(ap);
}
