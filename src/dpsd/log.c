/* SPDX-License-Identifier: MIT */
#define SD_JOURNAL_SUPPRESS_LOCATION /* the location would always be this file */

#include "dpsd/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "basic/text.h"

/* With its prefix and colours, a line stays below PIPE_BUF, so that a pipe accepts all of it or nothing. */
#define MESSAGE_MAX 3800

/* How long we wait for a slow reader of stderr. If that was not enough, we do not wait again until it has
 * read something. */
#define STDERR_PATIENCE_MSEC 100

static struct {
        int level;
        bool is_journal;  /* stderr is connected to the journal */
        bool is_terminal; /* stderr is a terminal */
        bool has_colors;
        bool is_stuck; /* the last line could not be written */
} log_state = { .level = LOG_INFO };

static const struct {
        const char *word, *color;
} levels[] = {
        [LOG_EMERG] = { "emerg", "\033[1;31m" },
        [LOG_ALERT] = { "alert", "\033[1;31m" },
        [LOG_CRIT] = { "crit", "\033[1;31m" },
        [LOG_ERR] = { "err", "\033[1;31m" },
        [LOG_WARNING] = { "warning", "\033[33m" },
        [LOG_NOTICE] = { "notice", "\033[1m" },
        [LOG_INFO] = { "info", "" },
        [LOG_DEBUG] = { "debug", "\033[2m" },
};

/* As systemd.exec(5) recommends: somebody who has redirected our stderr wants the messages there. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        uint64_t device, inode;
        struct stat st;

        if (!stream || scan_u64(&stream, &device) < 0 || !scan_literal(&stream, ":") ||
            scan_u64(&stream, &inode) < 0 || *stream)
                return false;
        return fstat(STDERR_FILENO, &st) >= 0 && st.st_dev == device && st.st_ino == inode;
}

void log_init(void) {
        const char *terminal = getenv("TERM");

        /* If the reader of stderr, or the peer of a socket, goes away, SIGPIPE must not kill us. */
        (void) signal(SIGPIPE, SIG_IGN);

        log_state.is_journal = stderr_is_journal();
        log_state.is_terminal = isatty(STDERR_FILENO) > 0;
        log_state.has_colors =
                log_state.is_terminal && isempty(getenv("NO_COLOR")) && !streq_ptr(terminal, "dumb");
        log_state.is_stuck = false;
}

void log_set_level(int level) {
        assert(level >= LOG_EMERG && level <= LOG_DEBUG);

        log_state.level = level;
}

int log_level(void) {
        return log_state.level;
}

int log_level_from_string(const char *word) {
        for (size_t i = 0; i < ELEMENTSOF(levels); i++)
                if (streq(word, levels[i].word))
                        return (int) i;
        return -EINVAL;
}

const char *log_level_to_string(int level) {
        assert(level >= LOG_EMERG && level <= LOG_DEBUG);

        return levels[level].word;
}

const char *log_target(void) {
        return log_state.is_journal ? "journal" : "console";
}

/* A reader that stops reading must not stop us, so a line that cannot be written in time is lost. */
static bool stderr_takes_a_line(void) {
        struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
        int r;

        r = poll(&p, 1, log_state.is_stuck ? 0 : STDERR_PATIENCE_MSEC);
        log_state.is_stuck = r == 0;
        return r > 0;
}

static void write_to_stderr(int level, const char *text) {
        bool colored = log_state.has_colors && *levels[level].color;
        char line[PIPE_BUF];
        int n;

        if (log_state.is_terminal)
                n = snprintf(line, sizeof(line), "%s%s%s\n", colored ? levels[level].color : "", text,
                             colored ? "\033[0m" : "");
        else
                n = snprintf(line, sizeof(line), "<%i>%s\n", level, text);
        assert(n > 0 && (size_t) n < sizeof(line));

        /* A single write, so that lines of several processes do not mix. If it fails, there is nobody to
         * tell. */
        if (stderr_takes_a_line() && write(STDERR_FILENO, line, (size_t) n) < 0)
                return;
}

static const char *const journal_fields[] = { "MESSAGE",      "PRIORITY",       "SYSLOG_IDENTIFIER",
                                              "MESSAGE_ID",   "DPS_IDENTITY",   "DPS_HUB",
                                              "DPS_ERROR_ID", "DPS_ERROR_CODE", "DPS_TRACKING_ID" };

static int write_to_journal(int level, const LogFields *fields, const char *text) {
        static const LogFields none;
        const LogFields *f = fields ?: &none;
        char priority[] = { (char) ('0' + level), 0 }, error_code[11];
        const char *const values[ELEMENTSOF(journal_fields)] = {
                text,           priority, "dpsd",      f->message_id,
                f->identity,    f->hub,   f->error_id, f->error_code > 0 ? error_code : NULL,
                f->tracking_id,
        };
        struct iovec entry[ELEMENTSOF(values)];
        int n_fields = 0, r;

        (void) snprintf(error_code, sizeof(error_code), "%" PRIu32, f->error_code);
        for (size_t k = 0; k < ELEMENTSOF(values); k++) {
                char *field = NULL;
                int n = values[k] ? asprintf(&field, "%s=%s", journal_fields[k], values[k]) : -1;

                if (n >= 0) /* if there is no memory for a field, it is left out */
                        entry[n_fields++] = (struct iovec){ field, (size_t) n };
        }
        r = sd_journal_sendv(entry, n_fields);
        while (n_fields > 0)
                free(entry[--n_fields].iov_base);
        return r;
}

void log_messagev(int level, const LogFields *fields, const char *format, va_list ap) {
        char message[MESSAGE_MAX + 1];
        int saved_errno = errno, n = 0;

        assert(level >= LOG_EMERG && level <= LOG_DEBUG);

        if (level > log_state.level)
                return;

        if (fields && fields->identity)
                n = snprintf(message, sizeof(message), "%.64s: ", fields->identity);
        errno = saved_errno; /* for %m */
        if (vsnprintf(message + n, sizeof(message) - (size_t) n, format, ap) < 0)
                return;

        text_hide_keys(message);
        /* Text from the network may hold line breaks; the message must stay one line. */
        text_make_presentable(message, strlen(message), MESSAGE_MAX, message);
        if (!log_state.is_journal || write_to_journal(level, fields, message) < 0)
                write_to_stderr(level, message);
        errno = saved_errno;
}

void log_message(int level, const LogFields *fields, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        log_messagev(level, fields, format, ap);
        va_end(ap);
}
