/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "config/conf.h"
#include "config/settings.h"
#include "dps/request.h"
#include "tree.h"

#define PART_END 0x1e /* the ASCII record separator */

/* Where the parts of an input go, in turn; what has no part is not there, and an empty part masks. */
static const char *const files[] = {
        "etc/gw.conf",
        "etc/dpsd.conf",
        "lib/gw.conf.d/10-vendor.conf",
        "etc/gw.conf.d/20-local.conf",
        "lib/gw.conf.d/20-local.conf",
};

static char *directories[4];

static void make_directories(void) {
        static const char *const names[] = { "etc", "run", "lib", "etc/gw.conf.d", "lib/gw.conf.d" };

        tree_make(names, ELEMENTSOF(names));
        for (size_t i = 0; i < ELEMENTSOF(directories) - 1; i++)
                directories[i] = tree_path(names[i]);
}

static void write_files(const uint8_t *data, size_t size) {
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(freep) char *path = tree_path(files[i]);
                const uint8_t *end;
                size_t n;

                if (!data) {
                        (void) unlink(path);
                        continue;
                }
                end = size > 0 ? memchr(data, PART_END, size) : NULL;
                n = end ? (size_t) (end - data) : size;
                tree_write(files[i], data, n);
                data = end ? end + 1 : NULL;
                size -= n + (end ? 1 : 0);
        }
}

static void check_report(const ConfReport *report) {
        bool has_errors = false;

        for (size_t i = 0; i < report->n_messages; i++) {
                PROMISE(*report->messages[i].text && is_one_line(report->messages[i].text));
                has_errors = has_errors || report->messages[i].severity == CONF_ERROR;
        }
        PROMISE(has_errors == report->has_errors);
}

static void check_conf(const Conf *c) {
        for (size_t i = 0; i < c->n_lines; i++) {
                PROMISE(*c->lines[i].section && *c->lines[i].key && c->lines[i].line > 0);
                PROMISE(utf8_is_valid(c->lines[i].value, strlen(c->lines[i].value)));
                PROMISE(strv_contains(c->files, c->lines[i].file));
        }
}

static void check_expanded(const Settings *s) {
        const SpecifierContext context = { .root = fuzz_tree, .credentials = fuzz_tree };
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        _cleanup_(freep) char *reason = NULL;
        int r;

        r = settings_expand(s, &context, &expanded, &reason);
        if (r < 0) {
                PROMISE(r == -EINVAL || r == -EAGAIN || r == -ENOENT);
                PROMISE(reason && !expanded);
                return;
        }
        PROMISE(dps_id_scope_is_valid(expanded->id_scope));
        PROMISE(dps_registration_id_is_valid(expanded->registration_id));
}

/* Input: the contents of the files above, with PART_END between them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const uint8_t nothing[1];
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(conf_freep) Conf *own = NULL, *defaults = NULL;
        _cleanup_(settings_unrefp) Settings *s = NULL, *again = NULL;
        DaemonSettings daemon = { 0 };
        int r;

        if (!directories[0])
                make_directories();
        write_files(data ?: nothing, size);

        r = conf_load(directories, "dpsd", &report, &defaults);
        PROMISE(r >= 0 || r == -ENOENT);
        daemon_settings_from_conf(defaults, &report, &daemon);
        PROMISE(daemon.max_attempts > 0);
        r = conf_load(directories, "gw", &report, &own);
        PROMISE(r >= 0 || r == -ENOENT);
        check_report(&report);
        if (!own)
                return 0;

        check_conf(own);
        PROMISE(settings_from_conf(defaults, own, &report, &s) >= 0);
        PROMISE(settings_from_conf(defaults, own, &report, &again) >= 0);
        PROMISE(settings_equal(s, again));
        check_report(&report);
        if (!report.has_errors)
                check_expanded(s);
        return 0;
}
