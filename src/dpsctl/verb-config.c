/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "config/conf.h"
#include "config/secret.h"
#include "config/settings.h"
#include "config/specifier.h"
#include "config/twins.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"
#include "dpsctl/verify-keys.h"

/* Verbs about the configuration files. They do not ask the daemon. */

#define DAEMON_NAME "dpsd"

/* --- faults ---------------------------------------------------------------------------------------------------- */

static void print_faults(const ConfReport *report, FILE *f) {
        for (size_t k = 0; k < report->n_messages; k++) {
                const ConfMessage *fault = &report->messages[k];
                _cleanup_(freep) char *shown = shown_line(fault->text),
                                      *text = shown ? redact_text(shown) : NULL;
                bool is_error = fault->severity == CONF_ERROR;

                fprintf(f, "%s%s:%s %s\n", style_begin(is_error ? STYLE_BAD : STYLE_BUSY),
                        is_error ? "error" : "warning", style_end(STYLE_BAD), text ?: "?");
        }
}

static int faults_to_json(const ConfReport *report, const Options *o) {
        json_object *rows = json_object_new_array();

        for (size_t k = 0; k < report->n_messages; k++)
                json_append(&rows, json_pack("ss", "Severity",
                                             report->messages[k].severity == CONF_ERROR ? "error" : "warning",
                                             "Text", report->messages[k].text));
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

/* An id that is written without specifiers was looked at before. */
static void warn_of_capitals(Verification *v, const Settings *s) {
        const Twin *twin = twins_named(&v->twins, s->name);

        if (twin && s->group_keys && specifier_present(s->registration_id) &&
            !strchr(twin->registration_id, '%') && registration_id_has_capitals(twin->registration_id))
                conf_report_add(v->report, CONF_WARNING, twin->file, twin->line,
                                "RegistrationId=: \"%s\" " SETTINGS_CAPITALS_WARNING, twin->registration_id);
}

/* One file, or one identity with its drop-ins. */
static int verify_conf(Verification *v, const Conf *conf) {
        _cleanup_(settings_unrefp) Settings *settings = NULL;
        DaemonSettings daemon;
        int r;

        if (streq(conf->name, DAEMON_NAME)) {
                daemon_settings_from_conf(conf, v->report, &daemon);
                return 0;
        }
        r = settings_from_conf(v->defaults, conf, v->report, &settings);
        if (r < 0)
                return r;
        r = verify_keys(settings, &v->context, v->report);
        if (r < 0)
                return r;
        r = twins_add(&v->twins, conf, settings, &v->context);
        if (r >= 0)
                warn_of_capitals(v, settings);
        return r;
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
                conf_report_add(v->report, CONF_WARNING, path, 0, "dpsd reads only files named NAME.conf");
        else if (!streq(name, DAEMON_NAME) && !conf_name_is_valid(name))
                conf_report_add(v->report, CONF_WARNING, path, 0,
                                "dpsd skips this file, because its name is not a valid name of an identity: "
                                "1 to 64 of A-Z a-z 0-9 _ . : -, beginning with a letter, a digit or _");

        r = conf_load_file(path, name, v->report, &conf);
        if (r < 0)
                return r == -ENOMEM ? r : 0; /* the report says why */
        return verify_conf(v, conf);
}

static bool is_verified(const Verification *v, const char *name) {
        return twins_named(&v->twins, name);
}

/* The files, and whether they are the same device as what is installed. */
static int verify_files(Verification *v, char *const *directories, char *const *paths) {
        _cleanup_(conf_report_done) ConfReport ignored = { 0 };
        _cleanup_(strv_freep) char **names = NULL;
        int r = 0;

        for (char *const *path = paths; r >= 0 && *path; path++)
                r = verify_file(v, *path);
        if (r < 0)
                return r;
        r = conf_list(directories, &ignored, &names);
        STRV_FOREACH(name, names)
                if (r >= 0 && !is_verified(v, *name))
                        r = twins_add_installed(&v->twins, directories, v->defaults,
                                                (char *[]){ *name, NULL });
        return r == -ENOMEM ? r : 0;
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
                                "no identity is configured, neither here nor in the directories that are "
                                "searched next");
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

static int learn_twins(const Twins *twins) {
        for (size_t k = 0; k < twins->n; k++)
                if (!redact_value(PRIVACY_SCOPE, twins->all[k].id_scope) ||
                    !redact_value(PRIVACY_ID, twins->all[k].registration_id))
                        return -ENOMEM;
        return 0;
}

/* Among the files that are verified it is an error. Whether they will be installed beside those that are, nobody knows. */
static void report_twins(Verification *v) {
        for (size_t k = 0; k < v->twins.n; k++) {
                const Twin *twin = &v->twins.all[k], *keeper = twins_keeper(&v->twins, twin);

                if (!keeper || (keeper->is_installed && twin->is_installed))
                        continue;
                conf_report_add(v->report,
                                keeper->is_installed || twin->is_installed ? CONF_WARNING : CONF_ERROR,
                                twin->file, twin->line, TWINS_FORMAT "; %s (%s) %s", keeper->name, twin->name,
                                twin->registration_id, twin->id_scope, keeper->name, keeper->file,
                                keeper->holds_assignment ? "holds the assignment" : "is the first by name");
        }
}

static int verify(const Options *o, ConfReport *report) {
        _cleanup_(strv_freep) char **directories = NULL;
        _cleanup_(conf_freep) Conf *defaults = NULL;
        _cleanup_(verification_done)
                Verification v = { .context.root = o->root, .report = report, .twins.root = o->root };
        /* Faults of dpsd.conf do not count if only other files are to be verified. */
        ConfReport ignored = { 0 };
        int r;

        r = conf_directories(o->root, &directories);
        if (r < 0)
                return r;
        r = conf_load(directories, DAEMON_NAME, o->n_arguments > 0 ? &ignored : report, &defaults);
        conf_report_done(&ignored);
        if (r < 0 && r != -ENOENT)
                return r;

        v.defaults = defaults;
        if (o->n_arguments == 0)
                r = verify_installed(&v, directories);
        else
                r = verify_files(&v, directories, o->arguments);
        if (r < 0)
                return r;
        report_twins(&v);
        return o->redact ? learn_twins(&v.twins) : 0;
}

int verb_verify_config(const Options *o) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        int r;

        r = verify(o, &report);
        if (r < 0 && !report.has_errors)
                return fail_with(EXIT_FAILED, "the configuration cannot be read: %s", strerror(-r));
        if (report.is_incomplete)
                return fail_memory();
        if (o->json != JSON_OFF)
                r = faults_to_json(&report, o);
        else {
                r = 0;
                print_faults(&report, stdout);
                if (report.n_messages == 0 && !o->quiet)
                        printf("The configuration has no errors.\n");
        }
        return r != 0 ? r : report.has_errors ? EXIT_FAILED : EXIT_DONE;
}

/* --- cat-config --------------------------------------------------------------------------------------------------- */

/* Whether the value is a reference to a secret, which may be shown. A key that was pasted into the file is not. */
static bool is_reference(const ConfLine *line) {
        static const char *const keys[] = { "Key", "GroupKey", "PrivateKey", "ProxyPassword" };
        _cleanup_(freep) char *reason = NULL;

        for (size_t k = 0; k < ELEMENTSOF(keys); k++)
                if (streq(line->key, keys[k]))
                        return secret_check(line->value, &reason) >= 0;
        return false;
}

/* A payload often tells which device this is. */
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

/* The output is a valid configuration file: the file that a line comes from is named in a comment above it. */
static void print_lines(const Conf *c, bool redact, FILE *f) {
        const char *section = NULL, *file = NULL;

        for (size_t k = 0; k < c->n_lines; k++) {
                const ConfLine *line = &c->lines[k];
                _cleanup_(freep) char *value = shown_line(value_shown(line, redact) ?: ""),
                                      *path = shown_line(line->file);

                if (!section || !streq(section, line->section))
                        fprintf(f, "\n%s[%s]%s\n", style_begin(STYLE_BOLD), line->section,
                                style_end(STYLE_BOLD));
                if (!section || !streq(section, line->section) || file != line->file)
                        fprintf(f, "%s# %s%s\n", style_begin(STYLE_DIM), path ?: "?", style_end(STYLE_DIM));
                fprintf(f, "%s=%s\n", line->key, value ?: "?");
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

/* Prints the configuration of one identity, or appends it to `rows` for JSON. */
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
                return fail_with(EXIT_FAILED, "the configuration cannot be read: %s", strerror(-r));

        if (!strv_contains(names, DAEMON_NAME)) {
                r = show_conf(directories, DAEMON_NAME, o, rows, report);
                if (r == -ENOMEM)
                        return fail_memory();
        }
        STRV_FOREACH(name, names) {
                r = show_conf(directories, *name, o, rows, report);
                if (r == -ENOENT)
                        return fail_with(
                                EXIT_NO_IDENTITY,
                                "there is no %s.conf, or it is masked; dps.conf(5) says where it is searched",
                                *name);
                if (r < 0)
                        return fail_with(EXIT_FAILED, "%s.conf cannot be read: %s", *name, strerror(-r));
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
                print_faults(&report, stderr);
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
                return fail_with(EXIT_USAGE, "expand does not take --redact: its output is an id");
        r = specifier_expand(o->arguments[0], &context, &text, &reason);
        if (r < 0)
                return fail_with(EXIT_FAILED, "%s", reason ?: strerror(-r));
        if (o->json == JSON_OFF)
                return print_text(text);

        return output_json(o, json_document("expanded", json_object_new_string(text)));
}
