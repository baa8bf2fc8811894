/* SPDX-License-Identifier: MIT */
#pragma once

/* Settings from the lines of a configuration. Include it behind cmocka.h. */

#include <string.h>

#include "basic/text.h"
#include "config/settings.h"

#define SETTINGS_LINES_MAX 16

/* "SECTION KEY VALUE" in each line of `text`; a faulty one fails the test. */
static inline Settings *settings_from_lines(const char *name, const char *text) {
        _cleanup_(freep) char *copy = strdup(text);
        ConfLine lines[SETTINGS_LINES_MAX];
        ConfReport report = { 0 };
        Settings *s = NULL;
        char *rest = NULL;
        size_t n = 0;

        assert_non_null(copy);
        for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
                char *section = strsep(&line, " "), *key = strsep(&line, " ");

                assert_true(n < SETTINGS_LINES_MAX);
                lines[n++] = (ConfLine){
                        .section = section, .key = key, .value = line, .file = "test.conf", .line = 1
                };
        }
        assert_int_equal(settings_from_conf(NULL,
                                            &(Conf){ .name = (char *) name, .lines = lines, .n_lines = n },
                                            &report, &s),
                         0);
        if (report.has_errors)
                fail_msg("%s", conf_report_first_error(&report));
        conf_report_done(&report);
        return s;
}
