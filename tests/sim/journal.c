/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* How long dpsd may wait for its readers in a second; a second of ours may be a part of two of its own. */
#define PATIENCE_USEC (2 * 100 * USEC_PER_MSEC)

static struct {
        Sim *sim;
        bool journal_is_full, stderr_is_full;
        Event *end;
        uint64_t base_usec, waited_usec; /* what the waiting adds to the time of the simulation */
        uint64_t second, waited_in_second_usec;
        unsigned n_lost, n_taken;
} journal;

/* ---- log.c, and the system that it calls ---- */

void sim_log_init(void);
void sim_log_messagev(int level, const LogFields *fields, const char *format, va_list ap)
        __attribute__((format(printf, 3, 0)));
uint64_t sim_log_now_usec(clockid_t clock);
int sim_log_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int sim_log_socket(int domain, int type, int protocol);
int sim_log_connect(int fd, const struct sockaddr *address, socklen_t size);
ssize_t sim_log_send(int fd, const void *data, size_t size, int flags);
ssize_t sim_log_write(int fd, const void *data, size_t size);

uint64_t sim_log_now_usec(clockid_t clock) {
        return journal.base_usec + journal.sim->now_usec + journal.waited_usec;
}

/* Promise: whoever does not read costs dpsd no more than a tenth of its time. */
int sim_log_poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
        uint64_t second = sim_log_now_usec(CLOCK_MONOTONIC) / USEC_PER_SEC,
                 usec = timeout_ms < 0 ? USEC_INFINITY : (uint64_t) timeout_ms * USEC_PER_MSEC;

        if (!(fds->fd == STDERR_FILENO ? journal.stderr_is_full : journal.journal_is_full))
                return 1;
        if (second != journal.second)
                journal.waited_in_second_usec = 0;
        journal.second = second;
        journal.waited_in_second_usec = usec_add(journal.waited_in_second_usec, usec);
        if (journal.waited_in_second_usec > PATIENCE_USEC)
                found(journal.sim, "the journal is waited for a tenth of the time at most",
                      "%" PRIu64 " us in a second", journal.waited_in_second_usec);
        journal.waited_usec += usec == USEC_INFINITY ? 0 : usec;
        return 0;
}

int sim_log_socket(int domain, int type, int protocol) {
        return 1000;
}

int sim_log_connect(int fd, const struct sockaddr *address, socklen_t size) {
        return 0;
}

/* Promise: what nobody took is counted, and the count is told as soon as somebody reads. */
static void take(const char *text) {
        unsigned n = 0;

        if (sscanf(text, "%u messages before this one were lost", &n) == 1) {
                if (n != journal.n_lost)
                        found(journal.sim, "what the journal does not take is counted", "%u, and %u are told",
                              journal.n_lost, n);
                trace(journal.sim, "journal: %u messages were lost", n);
                journal.n_lost = 0;
                return;
        }
        if (journal.n_lost > 0)
                found(journal.sim, "what the journal does not take is counted", "%u, and that is not told",
                      journal.n_lost);
        journal.n_taken++;
}

ssize_t sim_log_send(int fd, const void *data, size_t size, int flags) {
        take((const char *) data + strlen("MESSAGE="));
        return (ssize_t) size;
}

ssize_t sim_log_write(int fd, const void *data, size_t size) {
        take((const char *) data + strlen("<6>"));
        return (ssize_t) size;
}

void journal_log(Sim *s, int level, const LogFields *fields, const char *format, va_list ap) {
        unsigned n = journal.n_taken;

        if (level > LOG_INFO || (!journal.journal_is_full && journal.n_lost == 0))
                return;
        sim_log_messagev(level, fields, format, ap);
        if (journal.n_taken == n)
                journal.n_lost++;
}

/* ---- when ---- */

static void on_end(Sim *s, void *userdata) {
        journal.end = NULL;
        journal.journal_is_full = journal.stderr_is_full = false;
        trace(s, "journal: reads again");
}

void journal_fill(Sim *s, Random *r) {
        journal.journal_is_full = true;
        journal.stderr_is_full = random_chance(r, 70);
        trace(s, "journal: does not read%s", journal.stderr_is_full ? ", nor does anybody read stderr" : "");
        event_cancel(s, journal.end);
        journal.end = event_add(s, s->now_usec + random_wait_usec(r, 12 * USEC_PER_HOUR), on_end, s);
}

void journal_mend(Sim *s) {
        journal.end = event_cancel(s, journal.end);
        journal.journal_is_full = journal.stderr_is_full = false;
}

void journal_reset(Sim *s) {
        char stream[64];
        struct stat st = { 0 };

        (void) fstat(STDERR_FILENO, &st);
        (void) snprintf(stream, sizeof(stream), "%" PRIu64 ":%" PRIu64, (uint64_t) st.st_dev,
                        (uint64_t) st.st_ino);
        (void) setenv("JOURNAL_STREAM", stream, 1);
        /* What log.c remembers of the simulation before is long ago. */
        journal.base_usec += 1000 * USEC_PER_DAY;
        journal.waited_usec = journal.waited_in_second_usec = journal.n_lost = 0;
        journal.sim = s;
        journal.end = NULL;
        journal.journal_is_full = journal.stderr_is_full = false;
        sim_log_init();
}
