/* SPDX-License-Identifier: MIT */
#include "dpsd/manager.h"

#include <errno.h>
#include <strings.h>

#include "basic/text.h"
#include "dpsd/bus.h"
#include "dpsd/log.h"

/* From the files to the identities: who appears, who changes, who goes. What is wrong harms none but its own. */

static int compare_names(const void *name, const void *identity) {
        return strcmp(name, (*(Identity *const *) identity)->name);
}

Identity *manager_find(const Manager *m, const char *name) {
        Identity **found = m->n_identities > 0 ? bsearch(name, m->identities, m->n_identities,
                                                         sizeof(*m->identities), compare_names)
                                               : NULL;

        return found ? *found : NULL;
}

static bool are_twins(const Identity *a, const Identity *b) {
        return a->settings && b->settings && a->who_hash == b->who_hash &&
               streq(a->settings->id_scope, b->settings->id_scope) &&
               strcasecmp(a->settings->registration_id, b->settings->registration_id) == 0;
}

Identity *manager_find_twin(const Manager *m, const Identity *i) {
        for (size_t k = 0; k < m->n_identities && m->identities[k] != i; k++)
                if (are_twins(m->identities[k], i))
                        return m->identities[k];
        return NULL;
}

void manager_reconsider_twins(Manager *m, const Identity *i) {
        for (size_t k = m->n_identities; k > 0 && m->identities[k - 1] != i; k--)
                if (are_twins(m->identities[k - 1], i))
                        identity_reconsider(m->identities[k - 1]);
}

static GroupLack *find_group(const Manager *m, const char *group) {
        for (size_t k = 0; k < m->n_groups; k++)
                if (streq(m->groups[k].group, group))
                        return &m->groups[k];
        return NULL;
}

static int add_group(Manager *m, const char *group, GroupLack **ret) {
        GroupLack *groups = reallocarray(m->groups, m->n_groups + 1, sizeof(*groups));
        char *copy = strdup(group);

        if (groups)
                m->groups = groups;
        if (!groups || !copy) {
                free(copy);
                return -ENOMEM;
        }
        groups[m->n_groups] = (GroupLack){ .group = copy };
        *ret = &groups[m->n_groups++];
        return 0;
}

bool manager_group_lacks(Manager *m, const char *group, const char *lack) {
        GroupLack *g = find_group(m, group);
        const char *before;

        if (!g && (!lack || add_group(m, group, &g) < 0))
                return lack;

        before = g->lack;
        g->lack = lack;
        return lack && lack != before;
}

/* ---- appearing and going ---- */

static int add_identity(Manager *m, const char *name, Identity **ret) {
        Identity **identities, *i;
        size_t k;
        int r;

        identities = reallocarray(m->identities, m->n_identities + 1, sizeof(*identities));
        if (!identities)
                return -ENOMEM;
        m->identities = identities;
        r = identity_new(m, name, &i);
        if (r < 0)
                return r;
        r = identity_load(i);
        if (r < 0) {
                identity_free(i);
                return r;
        }

        for (k = m->n_identities; k > 0 && strcmp(m->identities[k - 1]->name, name) > 0; k--)
                m->identities[k] = m->identities[k - 1];
        m->identities[k] = i;
        m->n_identities++;
        bus_identity_added(m, i);

        *ret = i;
        return 0;
}

static void remove_identity(Manager *m, size_t k) {
        Identity *i = m->identities[k];

        identity_retire(i);
        memmove(m->identities + k, m->identities + k + 1, (m->n_identities - k - 1) * sizeof(*m->identities));
        m->n_identities--;
        bus_identity_removed(m, i);
        manager_identity_gone(m, i);
        identity_free(i);
}

static void remove_vanished(Manager *m, char *const *names) {
        for (size_t k = m->n_identities; k > 0; k--)
                if (!strv_contains(names, m->identities[k - 1]->name))
                        remove_identity(m, k - 1);
}

/* An identity that went while we were down has left its files behind; what is remembered tells its name. Where nothing
 * was, its directory does: one of whose maker we cannot be sure stays. */
static void remove_leftovers(Manager *m) {
        _cleanup_(strv_freep) char **remembered = NULL, **there = NULL;

        if (m->only)
                return;
        (void) store_list(m->store, &remembered);
        (void) outputs_list(m->outputs, &there);
        STRV_FOREACH(name, there)
                if (!manager_find(m, *name) &&
                    (strv_contains(remembered, *name) || outputs_is_ours(m->outputs, *name)))
                        (void) outputs_remove(m->outputs, *name);
}

int manager_forget(Manager *m, const char *name) {
        int r;

        if (manager_find(m, name))
                return -EBUSY;

        r = store_forget(m->store, name);
        if (r < 0)
                return r;
        (void) outputs_remove(m->outputs, name);
        log_message(LOG_NOTICE, &(LogFields){ .identity = name }, "is forgotten");
        return 0;
}

/* ---- reading ---- */

static void log_report(const ConfReport *report, const char *identity) {
        for (size_t k = 0; k < report->n_remarks; k++)
                log_message(report->remarks[k].severity == CONF_ERROR ? LOG_ERR : LOG_WARNING,
                            &(LogFields){ .identity = identity }, "%s", report->remarks[k].text);
}

/* Moves the remarks of one identity to those of all; without memory the verdict is kept, and the words are lost. */
static void gather_report(ConfReport *all, ConfReport *one) {
        ConfRemark *remarks;

        all->has_errors = all->has_errors || one->has_errors;
        if (one->n_remarks == 0) /* to resize to nothing would be to free */
                return;
        remarks = reallocarray(all->remarks, all->n_remarks + one->n_remarks, sizeof(*remarks));
        if (!remarks)
                return;

        memcpy(remarks + all->n_remarks, one->remarks, one->n_remarks * sizeof(*remarks));
        all->remarks = remarks;
        all->n_remarks += one->n_remarks;
        free(one->remarks);
        *one = (ConfReport){ 0 };
}

static int configure(Manager *m, const Conf *defaults, const char *name) {
        _cleanup_(conf_freep) Conf *conf = NULL;
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        Settings *settings = NULL;
        Identity *i;
        int r;

        r = conf_load(m->directories, name, &report, &conf);
        if (r == -ENOENT)
                return 0; /* masked, or gone in this moment */
        if (r >= 0)
                r = settings_from_conf(defaults, conf, &report, &settings);
        if (r >= 0 && report.is_incomplete)
                r = -ENOMEM;
        if (r < 0) {
                settings_unref(settings);
                return r;
        }

        i = manager_find(m, name);
        if (!i) {
                r = add_identity(m, name, &i);
                if (r < 0) {
                        settings_unref(settings);
                        return r;
                }
        }
        log_report(&report, name);
        identity_configure(i, settings, report.has_errors ? conf_report_first_error(&report) : NULL);
        gather_report(&m->report, &report);
        return 0;
}

static int read_daemon_settings(Manager *m, Conf **ret) {
        int r;

        r = conf_load(m->directories, "dpsd", &m->report, ret);
        if (r < 0 && r != -ENOENT)
                return r;

        daemon_settings_from_conf(*ret, &m->report, &m->settings);
        return 0;
}

static int list_names(Manager *m, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = conf_list(m->directories, &m->report, &names);
        if (r < 0 || !m->only) {
                if (r >= 0)
                        *ret = TAKE_PTR(names);
                return r;
        }

        STRV_FOREACH(name, m->only)
                if (!strv_contains(names, *name)) {
                        log_error("%s: there is no %s.conf", *name, *name);
                        return -ENOENT;
                }
        return strv_extend(ret, m->only);
}

static int load_all(Manager *m) {
        _cleanup_(conf_freep) Conf *defaults = NULL;
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        conf_report_done(&m->report);
        r = read_daemon_settings(m, &defaults);
        if (r < 0)
                return r;
        r = list_names(m, &names);
        log_report(&m->report, NULL);
        if (r < 0)
                return r;

        STRV_FOREACH(name, names) {
                r = configure(m, defaults, *name);
                if (r < 0)
                        return r;
        }
        remove_vanished(m, names);
        for (size_t k = 0; k < m->n_identities; k++)
                identity_reconsider(m->identities[k]);
        return 0;
}

int manager_load(Manager *m) {
        int r;

        r = conf_directories(NULL, &m->directories);
        if (r < 0)
                return r;
        r = load_all(m);
        if (r < 0)
                return r;

        remove_leftovers(m);
        return 0;
}

int manager_reload(Manager *m) {
        int r;

        notify_reloading(m->notify);
        r = load_all(m);
        notify_ready(m->notify);
        manager_changed(m);
        if (r < 0) {
                log_error("the configuration cannot be read, going on with what was good before: %s",
                          strerror(-r));
                return m->report.has_errors ? -EBADMSG : r;
        }

        log_info("configuration is read again: %zu %s", m->n_identities,
                 m->n_identities == 1 ? "identity" : "identities");
        return m->report.has_errors ? -EBADMSG : 0;
}
