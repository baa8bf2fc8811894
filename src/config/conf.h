/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reads configuration as systemd does: search path, masking, drop-ins. A Conf is the merged lines of one NAME.conf,
 * each with the place it came from; what they mean is settings.h. Trouble goes into a ConfReport and stops nothing
 * but the line, or the file, that it is in.
 */

#include <stdbool.h>
#include <stddef.h>

#include "basic/cleanup.h"

typedef enum ConfSeverity {
        CONF_WARNING,
        CONF_ERROR, /* the identity cannot use this configuration */
} ConfSeverity;

typedef struct ConfRemark {
        ConfSeverity severity;
        char *text; /* "/etc/dps/gateway.conf:7: …", one line, no secret in it */
} ConfRemark;

typedef struct ConfReport {
        ConfRemark *remarks;
        size_t n_remarks;
        bool has_errors;
        bool is_incomplete; /* there was no memory for a remark, which then counts as an error */
} ConfReport;

/* `line` 0: the file as a whole; `file` NULL: no file. */
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

typedef struct Conf {
        char *name;   /* NAME; "dpsd" for the daemon's own */
        char **files; /* all that were read, in order */
        ConfLine *lines;
        size_t n_lines;
} Conf;

Conf *conf_free(Conf *c);
DEFINE_FREEP(Conf, conf_free)

/* The directories to search, first wins: $CONFIGURATION_DIRECTORY, or /etc/dps, /run/dps.d, /usr/lib/dps; each below
 * `root` if that is not NULL. */
int conf_directories(const char *root, char ***ret);

/* Names of all identities that have an unmasked file, sorted; files with other names are warned of. A directory that
 * is there and cannot be read is a failure, and an error in the report: nobody is retired because of it. */
int conf_list(char *const *directories, ConfReport *report, char ***ret);

/* Reads NAME.conf and its drop-ins. -ENOENT: there is none, or it is masked. A file that cannot be read, or is no
 * text, is an error in the report, and the rest is read all the same. */
int conf_load(char *const *directories, const char *name, ConfReport *report, Conf **ret);
/* Reads just this one file, as `name` (verify-config of a file that is not installed). A file that cannot be read is
 * an error in the report, and its errno. */
int conf_load_file(const char *path, const char *name, ConfReport *report, Conf **ret);

/* [A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}, not ending in .conf, .d or .json, and not "dpsd". */
bool conf_name_is_valid(const char *name);
