/* SPDX-License-Identifier: MIT */
#include "dpsd/loader.h"

#include <errno.h>
#include <unistd.h>

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
        (void) strv_extend(&all->out_of_reach, one->out_of_reach);
        if (one->n_messages == 0) /* resizing to 0 would free the array */
                return;
        messages = reallocarray(all->messages, all->n_messages + one->n_messages, sizeof(*messages));
        if (!messages)
                return;

        memcpy(messages + all->n_messages, one->messages, one->n_messages * sizeof(*messages));
        all->messages = messages;
        all->n_messages += one->n_messages;
        free(one->messages);
        one->messages = NULL;
        one->n_messages = 0;
}

static void report_done(LoadReport *r) {
        conf_report_done(&r->faults);
        strv_free(r->added);
        strv_free(r->changed);
        strv_free(r->retired);
        *r = (LoadReport){ 0 };
}

/* Notes what the settings will change, before the manager has them. */
static int note_change(Loader *l, const char *name, const Settings *settings, bool has_errors) {
        const Identity *i = manager_find(l->manager, name);

        if (!i)
                return strv_append(&l->report.added, name);
        if (has_errors)
                return 0;
        if (!i->configuration.written || !settings_equal(i->configuration.written, settings))
                return strv_append(&l->report.changed, name);
        l->report.n_unchanged++;
        return 0;
}

/* Takes the settings and the report of one identity. */
static int configure_with(Loader *l, const char *name, Settings *settings, ConfReport *report) {
        const char *fault = report->has_errors ? conf_report_first_error(report) : l->fault_of_all;
        int r;

        r = note_change(l, name, settings, fault);
        if (r < 0) {
                settings_unref(settings);
                return r;
        }
        log_report(report, name);
        r = manager_configure(l->manager, name, settings, fault);
        gather_report(&l->report.faults, report);
        return r < 0 ? r : 1;
}

/* 0: there is no such file, or it is masked. */
static int configure(Loader *l, const Conf *defaults, const char *name) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        Settings *settings = NULL;
        int r;

        r = conf_load(l->directories, name, &report, &conf);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = settings_from_conf(defaults, conf, &report, &settings);
        if (r >= 0 && report.is_incomplete)
                r = -ENOMEM;
        if (r < 0) {
                settings_unref(settings);
                return r;
        }
        return configure_with(l, name, settings, &report);
}

static int read_daemon_settings(Loader *l, Conf **ret) {
        DaemonSettings settings;
        int r;

        r = conf_load(l->directories, "dpsd", &l->report.faults, ret);
        if (r < 0 && r != -ENOENT)
                return r;
        /* With only a part of the defaults, an identity would become another one. */
        if (l->report.faults.has_errors)
                l->fault_of_all = strdup(conf_report_first_error(&l->report.faults));
        if (l->report.faults.has_errors && !l->fault_of_all)
                return -ENOMEM;

        daemon_settings_from_conf(*ret, &l->report.faults, &settings);
        manager_set_max_attempts(l->manager, settings.max_attempts);
        return 0;
}

static int list_names(Loader *l, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = conf_list(l->directories, &l->report.faults, &names);
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

static bool is_assigned(const Loader *l, const char *name) {
        _cleanup_(record_freep) Record *record = NULL;
        const Identity *i = manager_find(l->manager, name);
        _cleanup_(freep) char *reason = NULL;

        if (i)
                return identity_assignment(i);
        return store_load(l->manager->core.store, name, &record, &reason) >= 0 && record->assignment;
}

/* The file of an assigned identity is empty, most probably because a disk was full, or something else has its name. The
 * identity goes on with what it has. After a start that is what was saved, and the file counts as one with an error. */
static int keep_unusable(Loader *l, const Conf *defaults, const char *name, const char *path,
                         const char *what) {
        static const char advice[] = "%s, although %s is assigned: what it had stays in use; to retire it, "
                                     "delete it or make it a link to /dev/null";
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        _cleanup_(conf_freep) Conf *conf = NULL;
        Settings *settings = NULL;
        int r;

        if (manager_find(l->manager, name)) {
                conf_report_add(&report, CONF_WARNING, path, 0, advice, what, name);
                log_report(&report, name);
                gather_report(&l->report.faults, &report);
                l->report.n_unchanged++;
                return 1;
        }
        conf_report_add(&report, CONF_ERROR, path, 0, advice, what, name);
        r = conf_new(name, path, &conf);
        if (r >= 0)
                r = settings_from_conf(defaults, conf, &report, &settings);
        return r < 0 ? r : configure_with(l, name, settings, &report);
}

/* Where a directory cannot be listed, the file may be there all the same. */
static int keep_one(Loader *l, const Conf *defaults, const char *name, char ***names) {
        bool is_partial = l->report.faults.is_partial;
        _cleanup_(freep) char *path = NULL;
        const char *what;
        int r;

        if (strv_contains(*names, name) ||
            (!is_assigned(l, name) && !(is_partial && manager_find(l->manager, name))))
                return 0;
        r = conf_find_unusable(l->directories, name, &path, &what);
        if (r > 0)
                r = keep_unusable(l, defaults, name, path, what);
        else if (r == 0 && is_partial)
                r = configure(l, defaults, name);
        return r > 0 ? strv_append(names, name) : r;
}

/* Appends to `names` what is kept of identities that are known, or were, and were not listed. */
static int keep_all(Loader *l, const Conf *defaults, char ***names) {
        _cleanup_(strv_freep) char **known = NULL;
        int r = 0;

        for (size_t k = 0; r >= 0 && k < l->manager->n_identities; k++)
                r = keep_one(l, defaults, l->manager->identities[k]->name, names);
        if (r >= 0)
                r = store_list(l->manager->core.store, &known);
        for (char *const *name = known; r >= 0 && name && *name; name++)
                if (!manager_find(l->manager, *name))
                        r = keep_one(l, defaults, *name, names);
        return r;
}

static int note_retired(Loader *l, char *const *names) {
        for (size_t k = 0; k < l->manager->n_identities; k++) {
                const char *name = l->manager->identities[k]->name;

                if (!strv_contains(names, name) && strv_append(&l->report.retired, name) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Who is the device of another identity is known once the settings are in force. The identity itself has logged it. */
static void report_twins(Loader *l) {
        for (size_t k = 0; k < l->manager->n_identities; k++) {
                const Configuration *c = &l->manager->identities[k]->configuration;

                if (c->twin)
                        conf_report_add(&l->report.faults, CONF_ERROR, NULL, 0, "%s",
                                        configuration_fault(c)->message);
        }
}

/* A mount makes no event that we could watch for. */
static void look_again_later(Loader *l) {
        if (!l->report.faults.out_of_reach) {
                retry_done(&l->looking);
                return;
        }
        retry_failed(&l->looking, world_now_usec(l->manager->core.world, CLOCK_BOOTTIME));
        timer_set(l->again, l->looking.at_usec, USEC_PER_SEC);
}

void loader_look(Loader *l) {
        STRV_FOREACH(path, l->report.faults.out_of_reach)
                if (access(*path, R_OK) >= 0) {
                        l->on_within_reach(l->userdata);
                        return;
                }
        look_again_later(l);
}

static void on_again(void *userdata) {
        loader_look(userdata);
}

int loader_load(Loader *l) {
        _cleanup_(conf_freep) Conf *defaults = NULL;
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        report_done(&l->report);
        free(l->fault_of_all);
        l->fault_of_all = NULL;
        timer_set(l->again, USEC_INFINITY, 0);
        r = read_daemon_settings(l, &defaults);
        if (r < 0)
                return r;
        r = list_names(l, &names);
        log_report(&l->report.faults, NULL);
        if (r < 0)
                return r;

        for (char *const *name = names; r >= 0 && name && *name; name++)
                r = configure(l, defaults, *name);
        if (r >= 0 && !l->only)
                r = keep_all(l, defaults, &names);
        if (r >= 0)
                r = note_retired(l, names);
        if (r >= 0)
                manager_retain(l->manager, names);
        manager_look_again(l->manager);
        report_twins(l);
        look_again_later(l);
        return r;
}

int loader_init(Loader *l, Manager *m, void (*on_within_reach)(void *userdata), void *userdata) {
        int r;

        *l = (Loader){ .manager = m, .on_within_reach = on_within_reach, .userdata = userdata };
        r = timer_new(m->core.world, on_again, l, &l->again);
        return r < 0 ? r : conf_directories(NULL, &l->directories);
}

void loader_done(Loader *l) {
        timer_free(l->again);
        free(l->fault_of_all);
        strv_free(l->directories);
        report_done(&l->report);
}
