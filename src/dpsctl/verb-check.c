/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/text.h"
#include "dpsctl/check.h"
#include "dpsctl/output.h"
#include "dpsctl/redact.h"
#include "dpsctl/table.h"
#include "dpsctl/twins.h"

/* Looks for anything that would make a registration fail, without asking the daemon. */

#define DAEMON_NAME "dpsd"
#define DAEMON_CREDENTIALS "/run/credentials/dpsd.service"

/* Root can read everything, so all files are read as the daemon's user, if that user exists. */
static int become_daemon(void) {
        const struct passwd *user = geteuid() == 0 ? getpwnam(DAEMON_NAME) : NULL;

        if (!user)
                return 0;
        if (initgroups(DAEMON_NAME, user->pw_gid) < 0 || setegid(user->pw_gid) < 0 ||
            seteuid(user->pw_uid) < 0)
                return -errno;
        return 0;
}

static void add_faults(Checks *c, const char *name, const ConfReport *report) {
        for (size_t k = 0; k < report->n_messages; k++)
                checks_add(c, name, "configuration",
                           report->messages[k].severity == CONF_ERROR ? CHECK_FAILURE : CHECK_WARNING, "%s",
                           report->messages[k].text);
}

/* Reads NAME.conf and expands its settings. `ret_settings` is NULL if they have errors. */
static void check_identity(Checks *c, char *const *directories, const Conf *defaults, const char *name,
                           Settings **ret_settings) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(settings_unrefp) Settings *settings = NULL, *expanded = NULL;
        _cleanup_(conf_freep) Conf *conf = NULL;
        _cleanup_(freep) char *reason = NULL;
        int r;

        *ret_settings = NULL;
        r = conf_load(directories, name, &report, &conf);
        if (r >= 0)
                r = settings_from_conf(defaults, conf, &report, &settings);
        add_faults(c, name, &report);
        if (r < 0 && !report.has_errors)
                checks_add(c, name, "configuration", CHECK_FAILURE, "%s.conf: %s", name, strerror(-r));
        if (r < 0 || report.has_errors)
                return;
        if (report.n_messages == 0)
                checks_add(c, name, "configuration", CHECK_OK, "%s has no errors", conf->files[0]);

        /* Only dpsd asks the TPM. The rest can be checked with any id. */
        r = settings_expand(settings, &(SpecifierContext){ .tpm = "tpm" }, &expanded, &reason);
        if (r < 0) {
                checks_add(c, name, "identity", CHECK_FAILURE, "%s", reason ?: strerror(-r));
                return;
        }
        checks_add(c, name, "identity", CHECK_OK, "registers as %s in scope %s",
                   specifier_uses_tpm(settings->registration_id) ? "what dpsctl enrollment shows"
                                                                 : expanded->registration_id,
                   expanded->id_scope);
        *ret_settings = TAKE_PTR(expanded);
}

/* CAs, network and TLS. */
static void check_server(Checks *c, const Settings *s, bool offline) {
        _cleanup_(tls_context_unrefp) TlsContext *tls = NULL;
        DpsError error;

        if (tls_context_new(s->endpoint, s->ca_files, NULL, NULL, &tls, &error) < 0) {
                checks_add(c, s->name, "trust", CHECK_FAILURE, "%s", error.message);
                return;
        }
        check_roots(c, s, tls);
        if (offline)
                checks_add(c, s->name, "connection", CHECK_SKIPPED, "--offline");
        else
                check_endpoint(c, s, tls);
}

static void check_twin(Checks *c, const Twins *twins, const Settings *s) {
        const Twin *twin = twins_named(twins, s->name), *first = twin ? twins_first(twins, twin) : NULL;

        if (first)
                checks_add(c, s->name, "identity", CHECK_FAILURE,
                           "%s.conf and %s.conf both have registration id \"%s\" and ID scope \"%s\": change "
                           "one",
                           first->name, s->name, s->registration_id, s->id_scope);
}

static void check_one(Checks *c, char *const *directories, const Conf *defaults, const Twins *twins,
                      const char *name, const Options *o) {
        _cleanup_(settings_unrefp) Settings *settings = NULL;

        check_identity(c, directories, defaults, name, &settings);
        if (!settings)
                return;
        check_twin(c, twins, settings);
        check_keys(c, settings);
        check_server(c, settings, o->offline);
        if (o->redact && (!redact_value(PRIVACY_SCOPE, settings->id_scope) ||
                          !redact_value(PRIVACY_ID, settings->registration_id)))
                c->failed = true;
}

static int check_all(Checks *c, const Options *o) {
        _cleanup_(strv_freep) char **directories = NULL, **listed = NULL;
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(conf_freep) Conf *defaults = NULL;
        _cleanup_(twins_done) Twins twins = { 0 };
        DaemonSettings daemon;
        int r;

        check_clock(c);
        r = conf_directories(NULL, &directories);
        if (r < 0)
                return r;
        r = conf_load(directories, DAEMON_NAME, &report, &defaults);
        if (r < 0 && r != -ENOENT)
                return r;
        daemon_settings_from_conf(defaults, &report, &daemon);
        r = conf_list(directories, &report, &listed);
        add_faults(c, "", &report);
        if (r < 0)
                return report.has_errors ? 0 : r;
        for (unsigned k = 0; k < o->n_arguments; k++)
                if (!strv_contains(listed, o->arguments[k])) {
                        c->missing = o->arguments[k];
                        return 0;
                }
        if (!listed && o->n_arguments == 0)
                checks_add(c, "", "configuration", CHECK_WARNING,
                           "no identity is configured: write /etc/dps/NAME.conf, see dps.conf(5)");

        r = twins_add_installed(&twins, directories, defaults, listed);
        if (r < 0)
                return r;
        STRV_FOREACH(name, o->n_arguments > 0 ? o->arguments : listed)
                check_one(c, directories, defaults, &twins, *name, o);
        return 0;
}

static Style style_of(CheckResult r) {
        static const Style styles[_CHECK_RESULT_MAX] = {
                [CHECK_OK] = STYLE_GOOD,
                [CHECK_SKIPPED] = STYLE_DIM,
                [CHECK_WARNING] = STYLE_BUSY,
                [CHECK_FAILURE] = STYLE_BAD,
        };

        return styles[r];
}

static int print_rows(const Checks *c) {
        static const char *const header[] = { "RESULT", "IDENTITY", "ABOUT", "" };
        Table t;
        int r;

        table_init(&t, header, ELEMENTSOF(header));
        for (size_t k = 0; k < c->n; k++) {
                const CheckRow *row = &c->rows[k];
                _cleanup_(freep) char *name = redact_text(row->name), *text = redact_text(row->text);

                table_add(&t, style_of(row->result), check_result_to_string(row->result));
                table_add(&t, STYLE_PLAIN, isempty(name) ? NULL : name);
                table_add(&t, STYLE_PLAIN, row->subject);
                table_add(&t, row->result >= CHECK_WARNING ? style_of(row->result) : STYLE_PLAIN,
                          text ?: "?");
        }
        t.is_whole = true; /* the end of the text says what to do */
        r = table_print(&t, false, stdout);
        table_done(&t);
        return r < 0 ? fail_memory() : 0;
}

static int rows_to_json(const Checks *c, const Options *o) {
        json_object *rows = json_object_new_array();

        for (size_t k = 0; k < c->n; k++)
                json_append(&rows,
                            json_pack("ssss", "Name", c->rows[k].name, "Check", c->rows[k].subject, "Result",
                                      check_result_to_string(c->rows[k].result), "Text", c->rows[k].text));
        return output_json(o, json_document("checks", rows));
}

int verb_check(const Options *o) {
        _cleanup_(checks_done) Checks checks = { 0 };
        int r;

        if (access(DAEMON_CREDENTIALS, F_OK) == 0)
                (void) setenv("CREDENTIALS_DIRECTORY", DAEMON_CREDENTIALS, false);
        r = become_daemon();
        if (r >= 0)
                r = check_all(&checks, o);
        if (r < 0 || checks.failed)
                return fail_with(EXIT_FAILED, "the check cannot be run: %s",
                                 strerror(checks.failed ? ENOMEM : -r));

        if (checks.missing)
                return fail_with(
                        EXIT_NO_IDENTITY,
                        "there is no %s.conf, or it is masked; dps.conf(5) says where it is searched",
                        checks.missing);

        if (o->json != JSON_OFF)
                r = rows_to_json(&checks, o);
        else
                r = o->quiet ? 0 : print_rows(&checks);
        return r != 0 ? r : checks_worst(&checks) == CHECK_FAILURE ? EXIT_FAILED : EXIT_DONE;
}
