/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Logs to the journal directly if stderr is connected to it ($JOURNAL_STREAM), else one line per message to
 * stderr. The line begins with "<4>" or similar if stderr is not a terminal. A line that the reader does not
 * accept in time is lost, so that logging never blocks. Only rooms that know identities log; libraries return
 * errors.
 */

#include <stdarg.h>
#include <stdint.h>
#include <syslog.h>

/* Fields in addition to the message; those that are NULL or 0 are left out. */
typedef struct LogFields {
        const char *identity; /* DPS_IDENTITY=, and "NAME: " before the message */
        const char *hub;
        const char *error_id;
        uint32_t error_code;
        const char *tracking_id;
        const char *message_id; /* one of the MESSAGE_ID_… constants of the catalog */
} LogFields;

/* Catalog entries: data/dps.catalog. */
#define MESSAGE_ID_ASSIGNED "0d1a7c1e6f8c4f0d9c3a6d5e2b7f4a10"
#define MESSAGE_ID_HUB_CHANGED "5b0f2d0c8a7e4c43b7b1f6d7a9e05c21"
#define MESSAGE_ID_FAILED "9e4b1a63d2c54f7f8f5d3c0b6a1e7d32"
#define MESSAGE_ID_RENEWED "c7d5e2f8b4a34a1e9b6c1d0f3e8a5b43"

/* Finds out what stderr is; until then it is treated as a pipe. Also ignores SIGPIPE. */
void log_init(void);
void log_set_level(int level); /* LOG_ERR … LOG_DEBUG */
int log_level(void);
/* Takes the words of `systemctl service-log-level`: emerg … debug. -EINVAL. */
int log_level_from_string(const char *word);
const char *log_level_to_string(int level);
const char *log_target(void); /* "journal" or "console" */

void log_message(int level, const LogFields *fields, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
void log_messagev(int level, const LogFields *fields, const char *format, va_list ap)
        __attribute__((format(printf, 3, 0)));

#define log_error(...) log_message(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_message(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG, NULL, __VA_ARGS__)
