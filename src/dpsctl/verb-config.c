/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "config/conf.h"
#include "config/secret.h"
#include "config/settings.h"
#include "config/specifier.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"
#include "dpsctl/twins.h"

/* The configuration as it lies on the disk; the daemon is not asked. */

#define DAEMON_NAME "dpsd"

/* --- remarks ---------------------------------------------------------------------------------------------------- */

static void print_remarks(const ConfReport *report, FILE *f) {
        for (size_t k = 0; k < report->n_remarks; k++) {
                const ConfRemark *remark = &report->remarks[k];
                _cleanup_(freep) char *text = redact_text(remark->text);
                bool is_error = remark->severity == CONF_ERROR;

                fprintf(f, "%s%s:%s %s\n", style_begin(is_error ? STYLE_BAD : STYLE_BUSY),
                        is_error ? "error" : "warning", style_end(STYLE_BAD), text ?: "?");
        }
}

static int remarks_to_json(const ConfReport *report, const Options *o) {
        json_object *rows = json_object_new_array();

        for (size_t k = 0; k < report->n_remarks; k++)
                json_append(&rows, json_pack("ss", "Severity",
                                             report->remarks[k].severity == CONF_ERROR ? "error" : "warning",
                                             "Text", report->remarks[k].text));
        return output_json(o, json_document("remarks", rows));
}

/* --- verify-config ------------------------------------------------------------------------------------------------ */

typedef struct Verification {
        const Conf *defaults;
        SpecifierContext context;
        ConfReport *report;
        Twins twins;
} Verification;

static void verification_done(Verification *v) {
        twins_done(&v->twins);
}

/* What one file, or one identity, means. */
static int verify_conf(Verification *v, const Conf *conf) {
        _cleanup_(settings_unrefp) Settings *settings = NULL;
        DaemonSettings daemon;
        int r;

        if (streq(conf->name, DAEMON_NAME)) {
                daemon_settings_from_conf(conf, v->report, &daemon);
                return 0;
        }
        r = settings_from_conf(v->defaults, conf, v->report, &settings);
        return r < 0 ? r : twins_add(&v->twins, conf, settings, &v->context);
}

static char *name_of_file(const char *path) {
        const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;

        return strndup(base, strlen(base) - (endswith(base, ".conf") ? strlen(".conf") : 0));
}

static int verify_file(Verification *v, const char *path) {
        _cleanup_(freep) char *name = name_of_file(path);
        _cleanup_(conf_freep) Conf *conf = NULL;
        int r;

        if (!name)
                return -ENOMEM;
        if (!endswith(path, ".conf"))
                conf_report_add(v->report, CONF_WARNING, path, 0, "only files named NAME.conf are read");
        else if (!streq(name, DAEMON_NAME) && !conf_name_is_valid(name))
                conf_report_add(v->report, CONF_WARNING, path, 0,
                                "this is no name for an identity, the file would be skipped: 1 to 64 of A-Z "
                                "a-z 0-9 _ . : - are one, the first of them no . : or -");

        r = conf_load_file(path, name, v->report, &conf);
        if (r < 0)
                return r == -ENOMEM ? r : 0; /* the report has it */
        return verify_conf(v, conf);
}

static int verify_files(Verification *v, char *const *paths) {
        STRV_FOREACH(path, paths) {
                int r = verify_file(v, *path);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int verify_installed(Verification *v, char *const *directories) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        if (v->defaults) {
                r = verify_conf(v, v->defaults);
                if (r < 0)
                        return r;
        }
        r = conf_list(directories, v->report, &names);
        if (r < 0)
                return r == -ENOMEM || !v->report->has_errors ? r : 0;
        if (!names)
                conf_report_add(v->report, CONF_WARNING, directories[0], 0,
                                "no identity is configured, here and in the directories behind it");
        STRV_FOREACH(name, names) {
                _cleanup_(conf_freep) Conf *conf = NULL;

                r = conf_load(directories, *name, v->report, &conf);
                if (r >= 0)
                        r = verify_conf(v, conf);
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

static void report_twins(Verification *v) {
        for (size_t k = 0; k < v->twins.n; k++) {
                const Twin *twin = &v->twins.all[k], *first = twins_first(&v->twins, twin);

                if (first)
                        conf_report_add(v->report, CONF_ERROR, twin->file, twin->line,
                                        "registration ID and ID scope are also those of %s (%s): DPS would "
                                        "take both for one device; change one",
                                        first->name, first->file);
        }
}

static int verify(const Options *o, ConfReport *report) {
        _cleanup_(strv_freep) char **directories = NULL;
        _cleanup_(conf_freep) Conf *defaults = NULL;
        _cleanup_(verification_done) Verification v = { .context.root = o->root, .report = report };
        /* Of files that were not asked for only what is read is wanted. */
        ConfReport aside = { 0 };
        int r;

        r = conf_directories(o->root, &directories);
        if (r < 0)
                return r;
        r = conf_load(directories, DAEMON_NAME, o->n_arguments > 0 ? &aside : report, &defaults);
        conf_report_done(&aside);
        if (r < 0 && r != -ENOENT)
                return r;

        v.defaults = defaults;
        if (o->n_arguments == 0)
                r = verify_installed(&v, directories);
        else
                r = verify_files(&v, o->arguments);
        if (r >= 0)
                report_twins(&v);
        return r;
}

int verb_verify_config(const Options *o) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        int r;

        r = verify(o, &report);
        if (r < 0 && !report.has_errors)
                return complain(EXIT_FAILED, "the configuration cannot be read: %s", strerror(-r));
        if (report.is_incomplete)
                return fail_memory();
        if (o->json != JSON_OFF)
                r = remarks_to_json(&report, o);
        else {
                r = 0;
                print_remarks(&report, stdout);
                if (report.n_remarks == 0 && !o->quiet)
                        printf("Nothing is wrong with the configuration.\n");
        }
        return r != 0 ? r : report.has_errors ? EXIT_FAILED : EXIT_DONE;
}

/* --- cat-config --------------------------------------------------------------------------------------------------- */

/* These hold references, which are no secret; a key that was pasted here instead is none. */
static bool is_reference(const ConfLine *line) {
        static const char *const keys[] = { "Key", "GroupKey", "PrivateKey", "ProxyPassword" };
        _cleanup_(freep) char *reason = NULL;

        for (size_t k = 0; k < ELEMENTSOF(keys); k++)
                if (streq(line->key, keys[k]))
                        return secret_check(line->value, &reason) >= 0;
        return false;
}

/* For custom allocation a payload says who this is. */
static const char *value_shown(const ConfLine *line, bool redact) {
        bool is_hidden = (settings_key_is_secret(line->section, line->key) && !is_reference(line)) ||
                         (redact && streq(line->key, "Payload"));

        return is_hidden && !isempty(line->value) ? "(not shown)" : line->value;
}

static int learn_ids(const Conf *c) {
        const ConfLine *line;

        for (size_t k = 0; k < c->n_lines; k++) {
                line = &c->lines[k];
                if ((streq(line->key, "IdScope") && !redact_value(PRIVACY_SCOPE, line->value)) ||
                    (streq(line->key, "RegistrationId") && !redact_value(PRIVACY_ID, line->value)))
                        return -ENOMEM;
        }
        return 0;
}

/* It can be read again: where a line is from stands in a comment above it. */
static void print_lines(const Conf *c, bool redact, FILE *f) {
        const char *section = NULL, *file = NULL;

        for (size_t k = 0; k < c->n_lines; k++) {
                const ConfLine *line = &c->lines[k];

                if (!section || !streq(section, line->section))
                        fprintf(f, "\n%s[%s]%s\n", style_begin(STYLE_BOLD), line->section,
                                style_end(STYLE_BOLD));
                if (!section || !streq(section, line->section) || file != line->file)
                        fprintf(f, "%s# %s%s\n", style_begin(STYLE_DIM), line->file, style_end(STYLE_DIM));
                fprintf(f, "%s=%s\n", line->key, value_shown(line, redact) ?: "");
                section = line->section;
                file = line->file;
        }
}

static int print_conf(const Conf *c, bool redact) {
        _cleanup_(freep) char *text = NULL, *redacted = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return -ENOMEM;
        fprintf(f, "%s# %s%s%s\n", style_begin(STYLE_DIM),
                streq(c->name, DAEMON_NAME) ? "defaults for all identities: " : "", c->name,
                style_end(STYLE_DIM));
        print_lines(c, redact, f);
        fputc('\n', f);
        if (fclose(f) != 0 || !text)
                return -ENOMEM;
        redacted = redact_text(text);
        if (!redacted)
                return -ENOMEM;
        fputs(redacted, stdout);
        return 0;
}

static json_object *conf_to_json(const Conf *c, bool redact) {
        json_object *rows = json_object_new_array();

        for (size_t k = 0; k < c->n_lines; k++) {
                const ConfLine *line = &c->lines[k];

                json_append(&rows, json_pack("sssst", "Section", line->section, "Key", line->key, "Value",
                                             value_shown(line, redact) ?: "", "File", line->file, "Line",
                                             (uint64_t) line->line));
        }
        return rows;
}

/* Printed at once, or collected in `rows`. */
static int show_conf(char *const *directories, const char *name, const Options *o, json_object **rows,
                     ConfReport *report) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        int r;

        r = conf_load(directories, name, report, &conf);
        if (r < 0)
                return r;
        if (o->redact && learn_ids(conf) < 0)
                return -ENOMEM;
        if (o->json == JSON_OFF)
                return print_conf(conf, o->redact);
        json_append(rows, json_pack("so", "Name", name, "Lines", conf_to_json(conf, o->redact)));
        return 0;
}

static int show_confs(const Options *o, json_object **rows, ConfReport *report) {
        _cleanup_(strv_freep) char **directories = NULL, **listed = NULL;
        char *const *names = o->arguments;
        int r;

        r = conf_directories(o->root, &directories);
        if (r >= 0 && o->n_arguments == 0) {
                r = conf_list(directories, report, &listed);
                names = listed;
        }
        if (r < 0)
                return complain(EXIT_FAILED, "the configuration cannot be read: %s", strerror(-r));

        if (!strv_contains(names, DAEMON_NAME)) {
                r = show_conf(directories, DAEMON_NAME, o, rows, report);
                if (r == -ENOMEM)
                        return fail_memory();
        }
        STRV_FOREACH(name, names) {
                r = show_conf(directories, *name, o, rows, report);
                if (r == -ENOENT)
                        return complain(
                                EXIT_NO_IDENTITY,
                                "there is no %s.conf, or it is masked; where it is searched: dps.conf(5)",
                                *name);
                if (r < 0)
                        return complain(EXIT_FAILED, "%s.conf cannot be read: %s", *name, strerror(-r));
        }
        return 0;
}

int verb_cat_config(const Options *o) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        json_object *rows = NULL;
        int r;

        if (o->json != JSON_OFF)
                rows = json_object_new_array();
        else
                output_begin(o);
        r = show_confs(o, &rows, &report);
        output_end();
        if (!o->quiet)
                print_remarks(&report, stderr);
        if (r == 0 && o->json != JSON_OFF)
                return output_json(o, json_document("configuration", rows));
        json_object_put(rows);
        return r;
}

/* --- expand ------------------------------------------------------------------------------------------------------- */

int verb_expand(const Options *o) {
        const SpecifierContext context = { .root = o->root };
        _cleanup_(freep) char *text = NULL, *reason = NULL;
        int r;

        if (o->redact)
                return complain(EXIT_USAGE, "--redact would leave nothing of an id");
        r = specifier_expand(o->arguments[0], &context, &text, &reason);
        if (r < 0)
                return complain(EXIT_FAILED, "%s", reason ?: strerror(-r));
        if (o->json == JSON_OFF)
                return puts(text) < 0 ? EXIT_FAILED : 0;

        return output_json(o, json_document("expanded", json_object_new_string(text)));
}
