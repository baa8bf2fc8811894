/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "check/check.h"
#include "config/twins.h"

/* This device: its clock, and its configuration. */

static void check_clock(Checks *c, const CheckSubject *s) {
        char timestamp[TIMESTAMP_TEXT_MAX], duration[DURATION_TEXT_MAX];

        (void) format_timestamp(now_usec(CLOCK_REALTIME), timestamp);
        if (s->behind_usec > 0)
                checks_add(c, "clock", CHECK_FAILURE,
                           "%s: at least %s behind, so DPS will refuse this device; is time synchronisation "
                           "on? timedatectl",
                           timestamp, format_duration(s->behind_usec, duration));
        else if (!s->is_synchronized)
                checks_add(c, "clock", CHECK_WARNING,
                           "%s: not synchronised; if it is wrong, DPS will refuse this device: timedatectl",
                           timestamp);
        else
                checks_add(c, "clock", CHECK_OK, "%s, synchronised", timestamp);
}

static void add_faults(Checks *c, const ConfReport *report) {
        for (size_t k = 0; k < report->n_messages; k++)
                checks_add(c, "configuration",
                           report->messages[k].severity == CONF_ERROR ? CHECK_FAILURE : CHECK_WARNING, "%s",
                           report->messages[k].text);
        c->failed = c->failed || report->is_incomplete;
}

/* Faults of dpsd.conf concern every identity, and are reported once, for the device. */
static int load_defaults(const CheckSubject *s, ConfReport *report, Conf **ret) {
        int r = conf_load(s->directories, "dpsd", report, ret);

        return r == -ENOENT ? 0 : r;
}

void check_device(Checks *c, CheckSubject *s) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(conf_freep) Conf *defaults = NULL;
        DaemonSettings daemon;
        int r;

        check_clock(c, s);
        r = load_defaults(s, &report, &defaults);
        if (r >= 0) {
                daemon_settings_from_conf(defaults, &report, &daemon);
                r = conf_list(s->directories, &report, &s->names);
        }
        add_faults(c, &report);
        if (r < 0 && !report.has_errors)
                checks_add(c, "configuration", CHECK_FAILURE, "it cannot be read: %s", strerror(-r));
        else if (r >= 0 && !s->names)
                checks_add(c, "configuration", CHECK_WARNING,
                           "no identity is configured: write %s/NAME.conf, see dps.conf(5)",
                           s->directories[0]);
}

static int load(CheckSubject *s, ConfReport *report, char **ret_file, Settings **ret) {
        _cleanup_(conf_report_done) ConfReport of_defaults = { 0 };
        _cleanup_(conf_freep) Conf *defaults = NULL, *conf = NULL;
        int r;

        r = load_defaults(s, &of_defaults, &defaults);
        if (r >= 0)
                r = conf_load(s->directories, s->name, report, &conf);
        if (r < 0)
                return r;
        *ret_file = strdup(conf->files && conf->files[0] ? conf->files[0] : s->name);
        if (!*ret_file)
                return -ENOMEM;
        r = settings_from_conf(defaults, conf, report, ret);
        return r < 0 ? r : report->has_errors ? -EBADMSG : 0;
}

static void tell_identity(Checks *c, const CheckSubject *s, bool is_of_tpm) {
        const Settings *settings = s->settings;

        checks_add(c, "identity", CHECK_OK, "registers as \"%s\" in scope \"%s\"",
                   is_of_tpm ? "what dpsctl enrollment shows" : settings->registration_id,
                   settings->id_scope);
        if (settings_derive_from_capitals(settings))
                checks_add(c, "identity", CHECK_WARNING,
                           "the registration id \"%s\" " SETTINGS_CAPITALS_WARNING,
                           settings->registration_id);
        if (s->twin)
                checks_add(c, "identity", CHECK_FAILURE, TWINS_FORMAT, s->twin, s->name,
                           settings->registration_id, settings->id_scope);
}

/* The daemon does not know what the file says now, so the files are compared, and the records say who is assigned. */
static int find_twin(CheckSubject *s) {
        _cleanup_(twins_done) Twins twins = { 0 };
        const char *keeper;
        int r;

        r = twins_find(s->directories, &twins);
        if (r < 0)
                return r;
        keeper = twins_keeper_of(&twins, s->name);
        free(s->twin);
        s->twin = keeper ? strdup(keeper) : NULL;
        return keeper && !s->twin ? -ENOMEM : 0;
}

static void check_payload(Checks *c, const char *path) {
        _cleanup_(freep) char *text = NULL, *reason = NULL;
        int r = path ? payload_read(path, &text, &reason) : 0;

        if (r < 0)
                checks_add(c, "configuration", CHECK_FAILURE, "PayloadFile=%s %s", path,
                           reason ?: strerror(-r));
}

void check_configuration(Checks *c, CheckSubject *s) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(settings_unrefp) Settings *settings = NULL;
        _cleanup_(freep) char *file = NULL, *reason = NULL;
        bool is_of_tpm, is_news;
        int r;

        r = load(s, &report, &file, &settings);
        add_faults(c, &report);
        if (r == -ENOENT && !report.has_errors) {
                s->r = r;
                return;
        }
        if (r < 0 && !report.has_errors)
                checks_add(c, "configuration", CHECK_FAILURE, "%s.conf: %s", s->name, strerror(-r));
        if (r < 0)
                return;
        /* Only the credential asks the TPM. The rest can be checked with any id. */
        r = settings_expand(settings, &(SpecifierContext){ .tpm = "tpm" }, &s->settings, &reason);
        is_of_tpm = specifier_uses_tpm(settings->registration_id);
        is_news =
                s->is_unread || (r >= 0 && s->known && !is_of_tpm && !settings_equal(s->known, s->settings));
        if (is_news)
                checks_add(c, "configuration", CHECK_WARNING, "dpsd has not read %s yet: dpsctl reload",
                           file);
        else if (report.n_messages == 0)
                checks_add(c, "configuration", CHECK_OK, "%s has no errors", file);
        if (r >= 0 && is_news)
                r = find_twin(s);
        if (r < 0)
                checks_add(c, "identity", CHECK_FAILURE, "%s", reason ?: strerror(-r));
        else {
                tell_identity(c, s, is_of_tpm);
                check_payload(c, s->settings->payload_file);
        }
}
