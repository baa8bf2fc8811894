/* SPDX-License-Identifier: MIT */
#include "config/twins.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "basic/files.h"
#include "basic/json.h"
#include "basic/text.h"
#include "build-config.h"

#define RECORD_SIZE_MAX (512U * 1024)

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

/* The daemon's record, which only root and the daemon can read. */
static int read_record(const char *root, const char *name, json_object **ret) {
        const char *directory = root ? NULL : getenv("STATE_DIRECTORY"), *why;
        _cleanup_(freep) char *path = NULL, *text = NULL;
        size_t size;
        int r;

        directory = directory ?: DPS_STATE_DIR;
        path = text_format("%s%.*s/%s.json", root ?: "", (int) strcspn(directory, ":"), directory, name);
        if (!path)
                return -ENOMEM;
        r = file_read(path, RECORD_SIZE_MAX, &text, &size);
        return r < 0 ? r : json_read_object(text, size, RECORD_SIZE_MAX, ret, &why);
}

static bool holds_assignment(const char *root, const Twin *twin) {
        _cleanup_(json_freep) json_object *record = NULL;
        const char *scope, *id;

        if (read_record(root, twin->name, &record) < 0)
                return false;
        scope = json_string(json_member(record, "idScope"));
        id = json_string(json_member(record, "registrationId"));
        return !isempty(json_string(json_member(record, "assignedHub"))) &&
               streq_ptr(scope, twin->id_scope) && id && strcasecmp(id, twin->registration_id) == 0;
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
        grown[t->n].holds_assignment = holds_assignment(t->root, &grown[t->n]);
        t->n++;
        return 0;
}

int twins_add_installed(Twins *t, char *const *directories, const Conf *defaults, char *const *names) {
        STRV_FOREACH(name, names) {
                _cleanup_(conf_report_done) ConfReport report = { 0 };
                _cleanup_(settings_unrefp) Settings *settings = NULL;
                _cleanup_(conf_freep) Conf *conf = NULL;
                size_t n = t->n;
                int r;

                r = conf_load(directories, *name, &report, &conf);
                if (r >= 0)
                        r = settings_from_conf(defaults, conf, &report, &settings);
                if (r >= 0 && !report.has_errors)
                        r = twins_add(t, conf, settings, &(SpecifierContext){ .root = t->root });
                if (t->n > n)
                        t->all[n].is_installed = true;
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

int twins_find(char *const *directories, Twins *ret) {
        _cleanup_(conf_report_done) ConfReport ignored = { 0 };
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_(conf_freep) Conf *defaults = NULL;
        int r;

        r = conf_load(directories, "dpsd", &ignored, &defaults);
        if (r >= 0 || r == -ENOENT)
                r = conf_list(directories, &ignored, &names);
        return r < 0 ? r : twins_add_installed(ret, directories, defaults, names);
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

static bool precedes(const Twin *a, const Twin *b) {
        return a->holds_assignment != b->holds_assignment ? a->holds_assignment
                                                          : strcmp(a->name, b->name) < 0;
}

const Twin *twins_keeper(const Twins *t, const Twin *twin) {
        const Twin *keeper = twin;

        for (size_t k = 0; k < t->n; k++)
                if (are_twins(twin, &t->all[k]) && !streq(t->all[k].name, twin->name) &&
                    precedes(&t->all[k], keeper))
                        keeper = &t->all[k];
        return keeper == twin ? NULL : keeper;
}

const char *twins_keeper_of(const Twins *t, const char *name) {
        const Twin *twin = twins_named(t, name), *keeper = twin ? twins_keeper(t, twin) : NULL;

        return keeper ? keeper->name : NULL;
}
