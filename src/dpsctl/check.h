/* SPDX-License-Identifier: MIT */
#pragma once

/* What `dpsctl check` looks at, and what it found. */

#include <stdbool.h>
#include <stddef.h>

#include "config/conf.h"
#include "config/settings.h"
#include "transport/tls.h"

typedef enum CheckResult {
        CHECK_OK,
        CHECK_SKIPPED,
        CHECK_WARNING,
        CHECK_FAILURE,
        _CHECK_RESULT_MAX,
} CheckResult;

typedef struct CheckRow {
        char *name; /* the identity; "" for the box */
        const char *subject;
        CheckResult result;
        char *text; /* what is, or what is wrong and what to do */
} CheckRow;

typedef struct Checks {
        CheckRow *rows;
        size_t n;
        bool failed;         /* memory did not last */
        const char *missing; /* asked for, and there is no conf of it */
} Checks;

void checks_add(Checks *c, const char *name, const char *subject, CheckResult result, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
void checks_done(Checks *c);
/* Of all rows; CHECK_OK where there are none. */
CheckResult checks_worst(const Checks *c);
const char *check_result_to_string(CheckResult r);

/* Reads NAME.conf, and looks at what it names. `ret_settings`: expanded; NULL where they are not to be used. */
void check_identity(Checks *c, char *const *directories, const Conf *defaults, const char *name,
                    Settings **ret_settings);
/* Key and certificate files of an identity. */
void check_keys(Checks *c, const Settings *s);
void check_clock(Checks *c);
/* Whether what DPS will show can be verified by what the daemon trusts. */
void check_roots(Checks *c, const Settings *s, TlsContext *tls);
/* Name, connection and TLS of an endpoint. Blocks for some seconds where nobody answers. */
void check_endpoint(Checks *c, const Settings *s, TlsContext *tls);
