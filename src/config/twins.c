/* SPDX-License-Identifier: MIT */
#include "config/twins.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "basic/text.h"

static void twin_done(Twin *twin) {
        free(twin->name);
        free(twin->file);
        free(twin->id_scope);
        free(twin->registration_id);
}

void twins_done(Twins *t) {
        for (size_t k = 0; k < t->n; k++)
                twin_done(&t->all[k]);
        free(t->all);
        *t = (Twins){ 0 };
}

static const ConfLine *find_line(const Conf *conf, const char *key) {
        const ConfLine *found = NULL;

        for (size_t k = 0; k < conf->n_lines; k++)
                if (streq(conf->lines[k].key, key))
                        found = &conf->lines[k];
        return found;
}

/* 1: it did not resolve, and *ret is a copy of `text`. */
static int resolve(const char *text, const SpecifierContext *context, char **ret) {
        _cleanup_(freep) char *reason = NULL;
        int r;

        r = specifier_expand(text, context, ret, &reason);
        if (r >= 0 || r == -ENOMEM)
                return r;
        *ret = strdup(text);
        return *ret ? 1 : -ENOMEM;
}

static int twin_init(Twin *twin, const Conf *conf, const Settings *s, const SpecifierContext *context) {
        const ConfLine *line = find_line(conf, "RegistrationId");
        SpecifierContext c = *context;
        int r;

        if (s->certificates)
                c.certificate = s->certificates[0];
        *twin = (Twin){ .name = strdup(conf->name),
                        .file = strdup(line          ? line->file
                                       : conf->files ? conf->files[0]
                                                     : conf->name),
                        .line = line ? line->line : 0 };
        if (!twin->name || !twin->file)
                return -ENOMEM;
        r = resolve(s->id_scope, &c, &twin->id_scope);
        if (r < 0)
                return r;
        r = resolve(s->registration_id, &c, &twin->registration_id);
        /* Certificates differ although %{cert-cn} is written the same. */
        return r > 0 && strstr(s->registration_id, "cert-cn") ? -ENOENT : r;
}

int twins_add(Twins *t, const Conf *conf, const Settings *settings, const SpecifierContext *context) {
        Twin *grown;
        int r;

        if (!settings->id_scope || !settings->registration_id)
                return 0;
        grown = reallocarray(t->all, t->n + 1, sizeof(Twin));
        if (!grown)
                return -ENOMEM;
        t->all = grown;

        r = twin_init(&grown[t->n], conf, settings, context);
        if (r < 0) {
                twin_done(&grown[t->n]);
                return r == -ENOENT ? 0 : r;
        }
        t->n++;
        return 0;
}

int twins_add_installed(Twins *t, char *const *directories, const Conf *defaults, char *const *names) {
        STRV_FOREACH(name, names) {
                _cleanup_(conf_report_done) ConfReport report = { 0 };
                _cleanup_(settings_unrefp) Settings *settings = NULL;
                _cleanup_(conf_freep) Conf *conf = NULL;
                int r;

                r = conf_load(directories, *name, &report, &conf);
                if (r >= 0)
                        r = settings_from_conf(defaults, conf, &report, &settings);
                if (r >= 0 && !report.has_errors)
                        r = twins_add(t, conf, settings, &(SpecifierContext){ 0 });
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

static bool are_twins(const Twin *a, const Twin *b) {
        return streq(a->id_scope, b->id_scope) && strcasecmp(a->registration_id, b->registration_id) == 0;
}

const Twin *twins_named(const Twins *t, const char *name) {
        for (size_t k = 0; k < t->n; k++)
                if (streq(t->all[k].name, name))
                        return &t->all[k];
        return NULL;
}

const Twin *twins_first(const Twins *t, const Twin *twin) {
        const Twin *first = twin;

        for (size_t k = 0; k < t->n; k++)
                if (are_twins(twin, &t->all[k]) && strcmp(t->all[k].name, first->name) < 0)
                        first = &t->all[k];
        return first == twin ? NULL : first;
}
