/* SPDX-License-Identifier: MIT */
#include "dpsd/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "basic/text.h"
#include "basic/times.h"

/* With its prefix and colours, a line stays below PIPE_BUF, so that a pipe accepts all of it or nothing. */
#define MESSAGE_MAX 3800

/* How long we wait for a slow reader in a second, for all messages together. */
#define PATIENCE_USEC (100 * USEC_PER_MSEC)

static struct {
        int level;
        bool is_journal;  /* stderr is connected to the journal */
        bool is_terminal; /* stderr is a terminal */
        bool has_colors;
        int journal;                         /* its socket, -1: not connected */
        uint64_t second_usec, patience_usec; /* when a second began, and how long we still wait in it */
        unsigned n_lost; /* messages that nobody took, since the last one that somebody took */
} log_state = { .level = LOG_INFO, .journal = -1 };

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
        log_state.n_lost = 0;
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

/* A reader that stops reading must not stop us, so a message that cannot be written in time is lost. */
static bool is_writable(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        uint64_t begin = now_usec(CLOCK_MONOTONIC), waited;
        int r;

        if (begin - log_state.second_usec >= USEC_PER_SEC) {
                log_state.second_usec = begin;
                log_state.patience_usec = PATIENCE_USEC;
        }
        r = poll(&p, 1, (int) (log_state.patience_usec / USEC_PER_MSEC));
        waited = now_usec(CLOCK_MONOTONIC) - begin;
        log_state.patience_usec -= MIN(log_state.patience_usec, waited);
        return r > 0;
}

static int write_to_stderr(int level, const char *text) {
        bool colored = log_state.has_colors && *levels[level].color;
        char line[PIPE_BUF];
        int n;

        if (log_state.is_terminal)
                n = snprintf(line, sizeof(line), "%s%s%s\n", colored ? levels[level].color : "", text,
                             colored ? "\033[0m" : "");
        else
                n = snprintf(line, sizeof(line), "<%i>%s\n", level, text);
        assert(n > 0 && (size_t) n < sizeof(line));

        /* A single write, so that lines of several processes do not mix. */
        if (!is_writable(STDERR_FILENO))
                return -EAGAIN;
        return write(STDERR_FILENO, line, (size_t) n) < 0 ? -errno : 0;
}

static int connect_to_journal(void) {
        static const struct sockaddr_un address = { AF_UNIX, "/run/systemd/journal/socket" };

        if (log_state.journal < 0)
                log_state.journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        return connect(log_state.journal, (const struct sockaddr *) &address, sizeof(address)) < 0 ? -errno
                                                                                                   : 0;
}

/* A datagram of lines (systemd.io/JOURNAL_NATIVE_PROTOCOL). sd_journal_sendv() makes the same, but blocks until the journal
 * reads. */
static int write_to_journal(int level, const LogFields *fields, const char *text) {
        static const LogFields none;
        const LogFields *f = fields ?: &none;
        char priority[] = { (char) ('0' + level), 0 }, error_code[11], entry[MESSAGE_MAX + 2048];
        const struct {
                const char *name, *value;
        } lines[] = {
                { "MESSAGE", text },
                { "PRIORITY", priority },
                { "SYSLOG_IDENTIFIER", "dpsd" },
                { "MESSAGE_ID", f->message_id },
                { "DPS_IDENTITY", f->identity },
                { "DPS_HUB", f->hub },
                { "DPS_ERROR_ID", f->error_id },
                { "DPS_ERROR_CODE", f->error_code > 0 ? error_code : NULL },
                { "DPS_TRACKING_ID", f->tracking_id },
        };
        size_t size = 0;

        (void) snprintf(error_code, sizeof(error_code), "%" PRIu32, f->error_code);
        for (size_t k = 0; k < ELEMENTSOF(lines); k++) {
                const char *value = lines[k].value;
                int n = !value ? 0
                               : snprintf(entry + size, sizeof(entry) - size, "%s=%.*s\n", lines[k].name,
                                          (int) strcspn(value, "\n"), value);

                if (n > 0 &&
                    (size_t) n < sizeof(entry) - size) /* a field for which there is no room is left out */
                        size += (size_t) n;
        }

        for (int tries = 0; tries < 2; tries++) {
                if (log_state.journal >= 0 && is_writable(log_state.journal) &&
                    send(log_state.journal, entry, size, MSG_NOSIGNAL) >= 0)
                        return 0;
                /* It is not connected yet, or the journal is another one. */
                if (connect_to_journal() < 0)
                        break;
        }
        return -EAGAIN;
}

static int deliver(int level, const LogFields *fields, const char *text) {
        return log_state.is_journal && write_to_journal(level, fields, text) >= 0
                       ? 0
                       : write_to_stderr(level, text);
}

static void tell_losses(void) {
        char text[128];

        (void) snprintf(text, sizeof(text), "%u messages before this one were lost: %s did not read",
                        log_state.n_lost, log_state.is_journal ? "the journal" : "the reader of stderr");
        if (deliver(LOG_WARNING, NULL, text) >= 0)
                log_state.n_lost = 0;
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
        if (log_state.n_lost > 0)
                tell_losses();
        if (deliver(level, fields, message) < 0)
                log_state.n_lost++;
        errno = saved_errno;
}

void log_message(int level, const LogFields *fields, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        log_messagev(level, fields, format, ap);
        va_end(ap);
}
