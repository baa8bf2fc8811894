/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reads configuration as systemd does: search path, masking, drop-ins. A Conf has the merged lines of one
 * NAME.conf, each with the file and line that it came from; settings.h gives them a meaning. Faults go into a
 * ConfReport. A faulty line or file is skipped, and all others are read.
 */

#include <stdbool.h>
#include <stddef.h>

#include "basic/cleanup.h"

typedef enum ConfSeverity {
        CONF_WARNING,
        CONF_ERROR, /* a fault: the identity cannot use this configuration */
} ConfSeverity;

/* One fault or warning. */
typedef struct ConfMessage {
        ConfSeverity severity;
        char *text; /* "/etc/dps/gateway.conf:7: …": one line, valid UTF-8, without secrets */
} ConfMessage;

typedef struct ConfReport {
        ConfMessage *messages;
        size_t n_messages;
        bool has_errors;
        bool is_incomplete;  /* something is missing because memory ran out; counts as an error */
        bool is_partial;     /* a directory of the search path could not be listed */
        char **out_of_reach; /* what the system did not let us read, for now: to be looked at again */
} ConfReport;

/* `line` 0: it is about the file as a whole; `file` NULL: it is about no file. */
void conf_report_add(ConfReport *report, ConfSeverity severity, const char *file, unsigned line,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));
void conf_report_done(ConfReport *report);
/* The first error's text, or "". */
const char *conf_report_first_error(const ConfReport *report);

typedef struct ConfLine {
        char *section, *key, *value;
        const char *file; /* owned by the Conf */
        unsigned line;
} ConfLine;

/* It is about this line. */
void conf_report_line(ConfReport *report, ConfSeverity severity, const ConfLine *line, const char *format,
                      ...) __attribute__((format(printf, 4, 5)));

typedef struct Conf {
        char *name;   /* NAME; "dpsd" for the daemon's own */
        char **files; /* all files that were read, in order */
        ConfLine *lines;
        size_t n_lines;
} Conf;

/* Whoever must not wait for a file system that hangs sets this to path_look() (basic/patience.h): what does not answer is out of
 * reach then. NULL: it is waited for. */
extern int (*conf_look)(const char *path);

Conf *conf_free(Conf *c);
DEFINE_FREEP(Conf, conf_free)
/* Makes a Conf without lines. An error about the configuration as a whole names `file`; NULL: no file. */
int conf_new(const char *name, const char *file, Conf **ret);

/* The directories to search, of which the first takes precedence: $CONFIGURATION_DIRECTORY, or else /etc/dps,
 * /run/dps.d and /usr/lib/dps. If `root` is not NULL, they are below it. */
int conf_directories(const char *root, char ***ret);

/* The first of them, where an administrator writes files: to be shown. NULL: out of memory. */
char *conf_directory_shown(void);
/* The sorted names of all identities that have a file and are not masked. The report warns of files whose
 * name is not valid. If a directory exists and cannot be listed, the report says so, and is partial: the identities in it
 * must not be taken for removed. */
int conf_list(char *const *directories, ConfReport *report, char ***ret);

/* Finds a NAME.conf that exists but cannot be used, if no other NAME.conf counts, and says what is wrong with
 * it: it is not a regular file, or it is empty and masks no file of a later directory. (A full disk leaves an
 * empty file behind more often than somebody means a mask.) 0: there is no such file, or it is a link to
 * /dev/null. */
int conf_find_unusable(char *const *directories, const char *name, char **ret, const char **ret_what);

/* Reads NAME.conf and its drop-ins. -ENOENT: there is no NAME.conf, or it is masked. A file that cannot be
 * read (a link may lead to a volume that is not mounted yet) or is not text is an error in the report, and the other files
 * are read. */
int conf_load(char *const *directories, const char *name, ConfReport *report, Conf **ret);
/* Reads this one file only, as the identity `name`: verify-config checks files that are not installed yet. A
 * file that cannot be read is an error in the report, and the call fails with its errno. */
int conf_load_file(const char *path, const char *name, ConfReport *report, Conf **ret);

/* [A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}, not ending in .conf, .d or .json, and not "dpsd". */
#define CONF_NAME_MAX 64U
bool conf_name_is_valid(const char *name);
