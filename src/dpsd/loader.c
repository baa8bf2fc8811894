/* SPDX-License-Identifier: MIT */
#include "dpsd/loader.h"

#include <errno.h>

#include "basic/text.h"
#include "dpsd/identity-view.h"
#include "dpsd/log.h"

static void log_report(const ConfReport *report, const char *identity) {
        for (size_t k = 0; k < report->n_messages; k++)
                log_message(report->messages[k].severity == CONF_ERROR ? LOG_ERR : LOG_WARNING,
                            &(LogFields){ .identity = identity }, "%s", report->messages[k].text);
}

/* Moves the messages of one identity to the common report. If there is no memory, the verdict is kept but the
 * messages are lost. */
static void gather_report(ConfReport *all, ConfReport *one) {
        ConfMessage *messages;

        all->has_errors = all->has_errors || one->has_errors;
        if (one->n_messages == 0) /* resizing to 0 would free the array */
                return;
        messages = reallocarray(all->messages, all->n_messages + one->n_messages, sizeof(*messages));
        if (!messages)
                return;

        memcpy(messages + all->n_messages, one->messages, one->n_messages * sizeof(*messages));
        all->messages = messages;
        all->n_messages += one->n_messages;
        free(one->messages);
        *one = (ConfReport){ 0 };
}

static int configure(Loader *l, const Conf *defaults, const char *name) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        Settings *settings = NULL;
        int r;

        r = conf_load(l->directories, name, &report, &conf);
        if (r == -ENOENT)
                return 0; /* masked, or removed just now */
        if (r >= 0)
                r = settings_from_conf(defaults, conf, &report, &settings);
        if (r >= 0 && report.is_incomplete)
                r = -ENOMEM;
        if (r < 0) {
                settings_unref(settings);
                return r;
        }

        log_report(&report, name);
        r = manager_configure(l->manager, name, settings,
                              report.has_errors ? conf_report_first_error(&report) : NULL);
        gather_report(&l->report, &report);
        return r;
}

static int read_daemon_settings(Loader *l, Conf **ret) {
        DaemonSettings settings;
        int r;

        r = conf_load(l->directories, "dpsd", &l->report, ret);
        if (r < 0 && r != -ENOENT)
                return r;

        daemon_settings_from_conf(*ret, &l->report, &settings);
        manager_set_max_attempts(l->manager, settings.max_attempts);
        return 0;
}

static int list_names(Loader *l, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = conf_list(l->directories, &l->report, &names);
        if (r < 0 || !l->only) {
                if (r >= 0)
                        *ret = TAKE_PTR(names);
                return r;
        }

        STRV_FOREACH(name, l->only)
                if (!strv_contains(names, *name)) {
                        log_error("%s: there is no %s.conf", *name, *name);
                        return -ENOENT;
                }
        return strv_extend(ret, l->only);
}

/* Identities that are assigned and whose file has become empty stay as they are: most probably a disk was full. */
static int keep_emptied(Loader *l, char ***names) {
        for (size_t k = 0; k < l->manager->n_identities; k++) {
                const Identity *i = l->manager->identities[k];
                _cleanup_(freep) char *path = NULL;
                int r;

                if (strv_contains(*names, i->name) || !identity_assignment(i))
                        continue;
                r = conf_find_emptied(l->directories, i->name, &path);
                if (r == 0)
                        continue;
                if (r >= 0)
                        r = strv_extend(names, (char *[]){ i->name, NULL });
                if (r < 0)
                        return r;
                conf_report_add(&l->report, CONF_WARNING, path, 0,
                                "the file is empty, although %s is assigned: it stays in use as it was; to "
                                "retire it, "
                                "delete the file or make it a link to /dev/null",
                                i->name);
        }
        return 0;
}

int loader_load(Loader *l) {
        _cleanup_(conf_freep) Conf *defaults = NULL;
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        conf_report_done(&l->report);
        r = read_daemon_settings(l, &defaults);
        if (r < 0)
                return r;
        r = list_names(l, &names);
        if (r >= 0 && !l->only)
                r = keep_emptied(l, &names);
        log_report(&l->report, NULL);
        if (r < 0)
                return r;

        STRV_FOREACH(name, names) {
                r = configure(l, defaults, *name);
                if (r < 0)
                        break;
        }
        if (r >= 0)
                manager_retain(l->manager, names);
        manager_look_again(l->manager);
        return r;
}

int loader_init(Loader *l, Manager *m) {
        *l = (Loader){ .manager = m };
        return conf_directories(NULL, &l->directories);
}

void loader_done(Loader *l) {
        strv_free(l->directories);
        conf_report_done(&l->report);
}
