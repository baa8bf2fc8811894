/* SPDX-License-Identifier: MIT */
#pragma once

/* The parts of `dpsctl check`; each adds rows that say what it found. */

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
        char *name; /* the identity; "" for this device */
        const char *subject;
        CheckResult result;
        char *text; /* the state; or what is wrong and what to do */
} CheckRow;

typedef struct Checks {
        CheckRow *rows;
        size_t n;
        bool failed;         /* out of memory */
        const char *missing; /* an identity that was asked for and has no conf */
} Checks;

void checks_add(Checks *c, const char *name, const char *subject, CheckResult result, const char *format, ...)
        __attribute__((format(printf, 5, 6)));
void checks_done(Checks *c);
/* CHECK_OK if there are no rows. */
CheckResult checks_worst(const Checks *c);
const char *check_result_to_string(CheckResult r);

/* Key and certificate files of an identity. */
void check_keys(Checks *c, const Settings *s);
void check_clock(Checks *c);
/* Whether the CAs that Azure's certificates come from are trusted here. */
void check_roots(Checks *c, const Settings *s, TlsContext *tls);
/* Resolves the endpoint, connects to it and does a TLS handshake. Blocks for some seconds if nobody answers. */
void check_endpoint(Checks *c, const Settings *s, TlsContext *tls);
