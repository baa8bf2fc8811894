/* SPDX-License-Identifier: MIT */
#include "dpsctl/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void checks_add(Checks *c, const char *name, const char *subject, CheckResult result, const char *format,
                ...) {
        CheckRow *grown = reallocarray(c->rows, c->n + 1, sizeof(CheckRow));
        CheckRow row = { .name = strdup(name), .subject = subject, .result = result };
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(&row.text, format, arguments);
        va_end(arguments);
        if (grown)
                c->rows = grown;
        if (!grown || !row.name || n < 0) {
                free(row.name);
                free(n < 0 ? NULL : row.text);
                c->failed = true;
                return;
        }
        c->rows[c->n++] = row;
}

void checks_done(Checks *c) {
        for (size_t k = 0; k < c->n; k++) {
                free(c->rows[k].name);
                free(c->rows[k].text);
        }
        free(c->rows);
        *c = (Checks){ 0 };
}

CheckResult checks_worst(const Checks *c) {
        CheckResult worst = CHECK_OK;

        for (size_t k = 0; k < c->n; k++)
                worst = MAX(worst, c->rows[k].result);
        return worst;
}

const char *check_result_to_string(CheckResult r) {
        static const char *const words[_CHECK_RESULT_MAX] = {
                [CHECK_OK] = "ok",
                [CHECK_SKIPPED] = "skipped",
                [CHECK_WARNING] = "warning",
                [CHECK_FAILURE] = "failed",
        };

        return words[r];
}
