/* SPDX-License-Identifier: MIT */
#include "emulator/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "basic/cleanup.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"

#define COLOUR_GOOD "\x1b[32m"
#define COLOUR_WAIT "\x1b[33m"
#define COLOUR_BAD "\x1b[31m"
#define COLOUR_DIM "\x1b[2m"
#define COLOUR_OFF "\x1b[0m"

int journal_init(const char *path, Journal *ret) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

        if (fd < 0)
                return -errno;

        *ret = (Journal){ .fd = fd, .colours = isatty(STDERR_FILENO) == 1 && !getenv("NO_COLOR") };
        return 0;
}

void journal_done(Journal *j) {
        if (j->fd >= 0)
                (void) close(j->fd);
        j->fd = -1;
}

static int entry_to_json(const JournalEntry *e, uint64_t now_usec, json_object *o) {
        int r;

        if ((r = json_add_u64(o, "time", now_usec)) < 0 || (r = json_add_string(o, "event", e->event)) < 0 ||
            (r = json_add_string(o, "registrationId", e->registration_id)) < 0 ||
            (r = json_add_string(o, "deviceId", e->device_id)) < 0 ||
            (r = json_add_string(o, "hub", e->hub)) < 0 ||
            (r = json_add_string(o, "rid", e->request_id)) < 0 ||
            (r = json_add_string(o, "front", e->front)) < 0 ||
            (r = json_add_string(o, "trackingId", e->tracking_id)) < 0)
                return r;
        if (e->has_status && (r = json_add_u64(o, "status", e->status)) < 0)
                return r;
        if (e->error_code > 0 && (r = json_add_u64(o, "errorCode", e->error_code)) < 0)
                return r;
        if (e->has_retry_after && (r = json_add_u64(o, "retryAfter", e->retry_after_sec)) < 0)
                return r;
        if ((r = json_add_string(o, "operationId", e->operation_id)) < 0 ||
            (r = json_add_string(o, "result", e->word)) < 0 ||
            (r = json_add_string(o, "substatus", e->substatus)) < 0 ||
            (r = json_add_text(o, "payload", e->payload)) < 0 ||
            (r = json_add_string(o, "script", e->script)) < 0)
                return r;
        return json_add_string(o, "reason", e->reason);
}

static int write_json(Journal *j, const JournalEntry *e, uint64_t now_usec) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        _cleanup_(freep) char *text = NULL, *line = NULL;
        int n, r;

        r = entry_to_json(e, now_usec, o);
        if (r >= 0)
                r = json_to_text(o, &text);
        if (r < 0)
                return r;

        /* One write for the whole line, so that a reader never sees a part of it. */
        n = asprintf(&line, "%s\n", text);
        if (n < 0)
                return -ENOMEM;
        return write(j->fd, line, (size_t) n) == n ? 0 : -errno;
}

static const char *colour_of(const Journal *j, const JournalEntry *e) {
        bool is_login = e->status < 200;

        if (!j->colours)
                return "";
        if (!e->has_status)
                return COLOUR_DIM;
        if (e->status == 202)
                return COLOUR_WAIT;
        if (is_login)
                return e->status == 0 || e->status == 1 ? COLOUR_DIM : COLOUR_BAD;
        return e->status == 200 && e->error_code == 0 && !streq_ptr(e->word, "disabled") ? COLOUR_GOOD
                                                                                         : COLOUR_BAD;
}

static void append(char *line, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *line, size_t size, const char *format, ...) {
        size_t used = strlen(line);
        va_list args;

        va_start(args, format);
        (void) vsnprintf(line + used, size - used, format, args);
        va_end(args);
}

static void describe_answer(const JournalEntry *e, char *line, size_t size) {
        if (e->has_status)
                append(line, size, " -> %u", e->status);
        if (e->word)
                append(line, size, " %s", e->word);
        if (e->error_code > 0)
                append(line, size, " (%" PRIu32 ")", e->error_code);
        if (e->hub)
                append(line, size, " %s", e->hub);
        if (e->substatus)
                append(line, size, ", %s", e->substatus);
        if (e->has_retry_after)
                append(line, size, ", retry after %" PRIu64 " s", e->retry_after_sec);
        if (e->script)
                append(line, size, " [script: %s]", e->script);
        if (e->reason)
                append(line, size, ": %s", e->reason);
}

/* "14:02:11 gw-1 register 1 -> 202 assigning, retry after 3 s" */
static void print_line(const Journal *j, const JournalEntry *e, uint64_t now_usec) {
        time_t sec = (time_t) (now_usec / USEC_PER_SEC);
        const char *colour = colour_of(j, e);
        _cleanup_(freep) char *safe = NULL;
        char clock[16], line[512] = "";
        struct tm tm;

        (void) strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&sec, &tm));
        append(line, sizeof(line), "%s %s", e->registration_id ?: e->device_id ?: "-", e->event);
        if (e->request_id)
                append(line, sizeof(line), " %s", e->request_id);
        if (e->front)
                append(line, sizeof(line), " %s", e->front);
        describe_answer(e, line, sizeof(line));

        safe = text_for_people(line, strlen(line), sizeof(line));
        (void) dprintf(STDERR_FILENO, "%s %s%s%s\n", clock, colour, safe ?: "", *colour ? COLOUR_OFF : "");
}

void journal_write(Journal *j, const JournalEntry *entry, uint64_t now_usec) {
        int r;

        print_line(j, entry, now_usec);
        r = write_json(j, entry, now_usec);
        if (r < 0)
                (void) dprintf(STDERR_FILENO, "requests.jsonl: %s\n", strerror(-r));
}
