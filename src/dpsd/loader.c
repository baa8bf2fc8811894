/* SPDX-License-Identifier: MIT */
#include "dpsd/loader.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "basic/patience.h"
#include "basic/text.h"
#include "dpsd/identity-view.h"
#include "dpsd/kept-error.h"
#include "dpsd/log.h"

/*
 * A load is a chain of steps. The worker does the first half of each, in which files are read, and the loop the second, in
 * which a few identities are told. So neither a slow disk nor a thousand files hold up the loop.
 *
 *      list ──> read, again and again ──> retire ──> look again, again and again ──> wait for records
 *
 * At start there is nothing to hold up, and all of it is done at once.
 */

#define STEP_MAX 64U /* identities */

typedef enum Phase {
        PHASE_REACH,  /* is what was out of reach back? */
        PHASE_RECALL, /* which identities have a record: only at start, when none is known */
        PHASE_LIST,   /* dpsd.conf, and which identities there are */
        PHASE_READ,   /* the files of some of them */
        PHASE_RETIRE, /* those that are gone */
        PHASE_LOOK,   /* everybody acts on what has changed … */
        PHASE_WAIT,   /* … and the records of those who were added are read */
        PHASE_END,
} Phase;

/* What was read of one identity. */
typedef struct Reading {
        Conf *conf;         /* NULL: there is no such file, or it is masked */
        Settings *settings; /* NULL: it was not read … */
        ConfReport report;
        char *path; /* … since what is there is of no use (conf_find_unusable()) */
        const char *what;
} Reading;

struct LoadTask {
        Loader *loader; /* used only in the loop */
        Phase phase;
        int r;

        /* For the worker. */
        char **directories;
        char *const *only; /* of argv */
        Store *store;

        Conf *defaults;
        DaemonSettings daemon;
        ConfReport faults;
        char *fault_of_all; /* what is wrong with dpsd.conf, so that nobody's settings are known; NULL: nothing */
        char **names;       /* listed ones, sorted, and then others that are known, or were */
        size_t n_names, n_listed;
        char **remembered; /* those with a record */
        size_t at;         /* the next name, or identity */
        Reading readings[STEP_MAX];
        bool is_reachable;

        const char **kept; /* of the names: not to be retired */
        size_t n_kept;
};

/* --- the task ------------------------------------------------------------------------------------------- */

static void reading_done(Reading *r) {
        conf_free(r->conf);
        settings_unref(r->settings);
        conf_report_done(&r->report);
        free(r->path);
        *r = (Reading){ 0 };
}

static void task_free(void *task) {
        LoadTask *t = task;

        if (!t)
                return;
        for (size_t k = 0; k < STEP_MAX; k++)
                reading_done(&t->readings[k]);
        strv_free(t->directories);
        conf_free(t->defaults);
        conf_report_done(&t->faults);
        free(t->fault_of_all);
        strv_free(t->names);
        strv_free(t->remembered);
        free(t->kept);
        free(t);
}

static int task_new(Loader *l, Phase phase, LoadTask **ret) {
        LoadTask *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        t->loader = l;
        t->phase = phase;
        t->only = l->only;
        t->store = l->manager->core.store;
        if (strv_extend(&t->directories, l->directories) < 0) {
                task_free(t);
                return -ENOMEM;
        }
        *ret = t;
        return 0;
}

/* --- the worker's half ---------------------------------------------------------------------------------- */

/* A disk that does not give the list may give the records. Then nothing of those who seem to be gone is removed. */
static int recall_names(LoadTask *t) {
        int r = t->only ? 0 : store_list(t->store, &t->remembered);

        t->faults.is_partial = r < 0;
        return r == -ENOMEM ? r : 0;
}

/* Before anything below them is touched: if one does not answer, nothing below it does. But if one could not be asked, what is
 * below might hang. */
static int look_at_directories(const LoadTask *t) {
        STRV_FOREACH(directory, t->directories) {
                int r = path_look(*directory);

                if (r < 0 && r != -ETIMEDOUT)
                        return -ENOMEM;
        }
        return 0;
}

static int read_daemon_settings(LoadTask *t) {
        int r;

        r = conf_load(t->directories, "dpsd", &t->faults, &t->defaults);
        if (r < 0 && r != -ENOENT)
                return r;
        /* With only a part of the defaults, an identity would become another one. */
        if (t->faults.has_errors) {
                t->fault_of_all = strdup(conf_report_first_error(&t->faults));
                if (!t->fault_of_all)
                        return -ENOMEM;
        }
        daemon_settings_from_conf(t->defaults, &t->faults, &t->daemon);
        return t->faults.is_incomplete ? -ENOMEM : 0;
}

static int list_names(LoadTask *t) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = read_daemon_settings(t);
        if (r >= 0)
                r = conf_list(t->directories, &t->faults, &names);
        if (r < 0)
                return r;
        if (!t->only)
                t->names = TAKE_PTR(names);
        STRV_FOREACH(name, t->only) {
                if (!strv_contains(names, *name)) {
                        log_error("%s: there is no %s.conf", *name, *name);
                        return -ENOENT;
                }
                if (strv_append(&t->names, *name) < 0)
                        return -ENOMEM;
        }
        t->n_names = t->n_listed = strv_length(t->names);
        return t->faults.is_incomplete ? -ENOMEM : 0;
}

static int read_one(const LoadTask *t, const char *name, bool is_listed, Reading *ret) {
        int r;

        if (!is_listed) {
                r = conf_find_unusable(t->directories, name, &ret->path, &ret->what);
                if (r != 0 || !t->faults.is_partial)
                        return r;
        }
        r = conf_load(t->directories, name, &ret->report, &ret->conf);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = settings_from_conf(t->defaults, ret->conf, &ret->report, &ret->settings);
        return r >= 0 && ret->report.is_incomplete ? -ENOMEM : r;
}

static int read_some(LoadTask *t) {
        int r = 0;

        for (size_t k = 0; r >= 0 && k < STEP_MAX && t->at + k < t->n_names; k++)
                r = read_one(t, t->names[t->at + k], t->at + k < t->n_listed, &t->readings[k]);
        return r < 0 ? r : 0;
}

static bool find_reachable(const LoadTask *t) {
        STRV_FOREACH(path, t->faults.out_of_reach)
                if (path_look(*path) >= 0 && access(*path, R_OK) >= 0)
                        return true;
        return false;
}

static void task_run(void *task) {
        LoadTask *t = task;

        if (t->phase == PHASE_RECALL)
                t->r = recall_names(t);
        else if (t->phase == PHASE_REACH)
                t->is_reachable = look_at_directories(t) >= 0 && find_reachable(t);
        else if (t->phase == PHASE_LIST)
                t->r = look_at_directories(t) ?: list_names(t);
        else if (t->phase == PHASE_READ)
                t->r = look_at_directories(t) ?: read_some(t);
}

/* --- the report ----------------------------------------------------------------------------------------- */

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

/* --- the loop's half ------------------------------------------------------------------------------------ */

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
        const char *fault = report->has_errors ? conf_report_first_error(report) : l->task->fault_of_all;
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

/* Those who are not known have a record, and this is the start (PHASE_RECALL). */
static bool is_assigned(const Loader *l, const char *name) {
        _cleanup_(store_reading_freep) StoreReading *t = NULL;
        const Identity *i = manager_find(l->manager, name);

        if (i)
                return identity_assignment(i) || i->keeper.is_unread;
        t = store_load(l->manager->core.store, name);
        return t && t->record && t->record->assignment;
}

/* The file of an assigned identity is empty, most probably because a disk was full, or something else has its name. The
 * identity goes on with what it has. After a start that is what was saved, and the file counts as one with an error. */
static int keep_unusable(Loader *l, const char *name, Reading *reading) {
        static const char advice[] = "%s, although %s is assigned: what it had stays in use; to retire it, "
                                     "delete it or make it a link to /dev/null";
        bool is_known = manager_find(l->manager, name);
        int r;

        conf_report_add(&reading->report, is_known ? CONF_WARNING : CONF_ERROR, reading->path, 0, advice,
                        reading->what, name);
        if (is_known) {
                log_report(&reading->report, name);
                gather_report(&l->report.faults, &reading->report);
                l->report.n_unchanged++;
                return 1;
        }
        r = conf_new(name, reading->path, &reading->conf);
        if (r >= 0)
                r = settings_from_conf(l->task->defaults, reading->conf, &reading->report,
                                       &reading->settings);
        return r < 0 ? r : configure_with(l, name, TAKE_PTR(reading->settings), &reading->report);
}

/* 1: the identity is kept. Those that were not listed are, if they are assigned, or known while a directory cannot be listed
 * that may hold their files. */
static int take_reading(Loader *l, const char *name, bool is_listed, Reading *reading) {
        if (!reading->settings && !reading->path)
                return is_listed;
        if (!is_listed && !is_assigned(l, name) &&
            !(l->report.faults.is_partial && manager_find(l->manager, name)))
                return 0;
        if (reading->path)
                return keep_unusable(l, name, reading);
        return configure_with(l, name, TAKE_PTR(reading->settings), &reading->report);
}

static int compare_pointed(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The names are sorted. */
static bool is_among(const char *name, const void *names, size_t n) {
        return n > 0 && bsearch(&name, names, n, sizeof(name), compare_pointed);
}

/* Adds the names of identities that were not listed, but may have a file. */
static int add_known(Loader *l, LoadTask *t) {
        const Manager *m = l->manager;
        size_t n_max = t->n_listed + m->n_identities + strv_length(t->remembered);
        char **names = reallocarray(t->names, n_max + 1, sizeof(*names));

        if (!names)
                return -ENOMEM;
        t->names = names;
        names[t->n_names] = NULL;
        t->kept = calloc(n_max + 1, sizeof(*t->kept));
        if (!t->kept)
                return -ENOMEM;
        for (size_t k = 0; k < m->n_identities && !t->only; k++)
                if (!is_among(m->identities[k]->name, names, t->n_listed) &&
                    !(names[t->n_names++] = strdup(m->identities[k]->name)))
                        return -ENOMEM;
        STRV_FOREACH(name, t->remembered)
                if (!is_among(*name, names, t->n_listed) && !manager_find(m, *name) &&
                    !(names[t->n_names++] = strdup(*name)))
                        return -ENOMEM;
        names[t->n_names] = NULL;
        return 0;
}

static int end_list(Loader *l, LoadTask *t) {
        gather_report(&l->report.faults, &t->faults);
        l->report.faults.is_partial = t->faults.is_partial;
        log_report(&l->report.faults, NULL);
        if (t->r < 0)
                return t->r;
        manager_set_max_attempts(l->manager, t->daemon.max_attempts);
        t->phase = PHASE_READ;
        return add_known(l, t);
}

static int end_read(Loader *l, LoadTask *t) {
        int r = t->r;

        for (size_t k = 0; r >= 0 && k < STEP_MAX && t->at < t->n_names; k++, t->at++) {
                const char *name = t->names[t->at];

                r = take_reading(l, name, t->at < t->n_listed, &t->readings[k]);
                if (r > 0)
                        t->kept[t->n_kept++] = name;
        }
        for (size_t k = 0; k < STEP_MAX; k++)
                reading_done(&t->readings[k]);
        if (r < 0 || t->at < t->n_names)
                return r;

        if (t->n_kept > 0)
                qsort(t->kept, t->n_kept, sizeof(*t->kept), compare_pointed);
        t->phase = PHASE_RETIRE;
        return 0;
}

/* From the end, as identities go. */
static int retire_some(Loader *l, LoadTask *t) {
        Manager *m = l->manager;
        int r = 0;

        for (size_t k = m->n_identities, n = 0; r >= 0 && k > 0; k--) {
                if (is_among(m->identities[k - 1]->name, t->kept, t->n_kept))
                        continue;
                if (n++ == STEP_MAX)
                        return 0;
                r = strv_append(&l->report.retired, m->identities[k - 1]->name);
                if (r >= 0)
                        manager_retire(m, m->identities[k - 1]);
        }
        t->phase = PHASE_LOOK;
        t->at = 0;
        return r;
}

/* Twins are known only once the settings are in force. The identity itself has logged it. */
static void report_twins(Loader *l) {
        for (size_t k = 0; k < l->manager->n_identities; k++) {
                const Configuration *c = &l->manager->identities[k]->configuration;

                if (c->twin)
                        conf_report_add(&l->report.faults, CONF_ERROR, NULL, 0, "%s",
                                        kept_error(c->fault)->message);
        }
}

static void look_again_later(Loader *l) {
        if (!l->report.faults.out_of_reach && !l->lacked_memory) {
                retry_done(&l->looking);
                return;
        }
        retry_failed(&l->looking, world_now_usec(l->manager->core.world, CLOCK_BOOTTIME));
        timer_set(l->again, l->looking.at_usec, USEC_PER_SEC);
}

static void look_some(Loader *l, LoadTask *t) {
        if (!manager_look_again_at(l->manager, &t->at, STEP_MAX))
                t->phase = PHASE_WAIT;
}

static void end_wait(Loader *l, LoadTask *t) {
        report_twins(l);
        look_again_later(l);
        t->phase = PHASE_END;
}

/* After a failure no identity is retired, but all act on what they were told. */
static void end_step(Loader *l, LoadTask *t) {
        Phase phase = t->phase;
        int r = 0;

        if (phase == PHASE_RECALL) {
                r = t->r;
                t->phase = PHASE_LIST;
        } else if (phase == PHASE_LIST)
                r = end_list(l, t);
        else if (phase == PHASE_READ)
                r = end_read(l, t);
        else if (phase == PHASE_RETIRE)
                r = retire_some(l, t);
        else if (phase == PHASE_LOOK)
                look_some(l, t);
        else
                end_wait(l, t);
        if (r >= 0)
                return;
        t->r = r;
        if (phase <= PHASE_LIST)
                t->phase = PHASE_END;
        else {
                t->phase = PHASE_LOOK;
                t->at = 0;
        }
}

/* --- the chain ------------------------------------------------------------------------------------------ */

static void task_done(void *task);

static const WorkClass task_class = {
        .queue = WORK_KEYS, .run = task_run, .done = task_done, .free = task_free
};

/* The last one is made at the end of a turn, when the records are read. */
static int next_step(Loader *l) {
        return l->task->phase == PHASE_WAIT
                       ? 0
                       : work_begin(l->manager->core.world, &task_class, l->task, &l->work);
}

/* What there was no memory for is read later, though nobody may ask for it. */
static void end_load(Loader *l, int r) {
        task_free(l->task);
        l->task = NULL;
        l->n_loads++;
        l->lacked_memory = r == -ENOMEM;
        l->handlers.on_loaded(r, l->userdata);
        if (l->n_loads < l->n_wanted)
                loader_begin(l);
        else if (l->lacked_memory)
                look_again_later(l);
}

static void task_done(void *task) {
        LoadTask *t = task;
        Loader *l = t->loader;
        int r;

        l->work = NULL;
        if (t->phase == PHASE_REACH) {
                bool is_reachable = t->is_reachable;

                l->task = NULL;
                task_free(t);
                if (is_reachable)
                        l->handlers.on_within_reach(l->userdata);
                else
                        look_again_later(l);
                if (!l->task && l->n_loads < l->n_wanted)
                        loader_begin(l);
                return;
        }
        end_step(l, t);
        if (t->phase == PHASE_END) {
                end_load(l, t->r);
                return;
        }
        r = next_step(l);
        if (r < 0)
                end_load(l, r);
}

static int begin_task(Loader *l, Phase phase) {
        int r;

        r = task_new(l, phase, &l->task);
        if (r < 0 || phase == PHASE_REACH)
                return r;
        report_done(&l->report);
        timer_set(l->again, USEC_INFINITY, 0);
        return 0;
}

uint64_t loader_begin(Loader *l) {
        int r;

        l->n_wanted = MAX(l->n_wanted, l->n_loads + (l->task && l->task->phase != PHASE_REACH ? 2 : 1));
        if (l->task)
                return l->n_wanted;
        r = begin_task(l, PHASE_LIST);
        if (r >= 0)
                r = next_step(l);
        if (r < 0)
                end_load(l, r);
        return l->n_wanted;
}

int loader_load(Loader *l) {
        LoadTask *t;
        int r;

        r = begin_task(l, PHASE_RECALL);
        if (r < 0)
                return r;
        for (t = l->task; t->phase != PHASE_END;) {
                task_run(t);
                end_step(l, t);
        }
        r = t->r;
        task_free(t);
        l->task = NULL;
        return r;
}

void loader_look(Loader *l) {
        if (l->task || !l->report.faults.out_of_reach)
                return;
        if (begin_task(l, PHASE_REACH) >= 0 &&
            strv_extend(&l->task->faults.out_of_reach, l->report.faults.out_of_reach) >= 0 &&
            next_step(l) >= 0)
                return;
        task_free(l->task);
        l->task = NULL;
        look_again_later(l);
}

void loader_on_turned(Loader *l) {
        const Manager *m = l->manager;

        if (!l->task || l->task->phase != PHASE_WAIT)
                return;
        for (size_t k = 0; k < m->n_identities; k++)
                if (m->identities[k]->keeper.loading)
                        return;
        task_done(l->task);
}

static void on_again(void *userdata) {
        Loader *l = userdata;

        if (l->lacked_memory)
                l->handlers.on_within_reach(l->userdata);
        else
                loader_look(l);
}

int loader_init(Loader *l, Manager *m, const LoaderHandlers *handlers, void *userdata) {
        int r;

        *l = (Loader){ .manager = m, .handlers = *handlers, .userdata = userdata };
        conf_look = path_look;
        r = timer_new(m->core.world, on_again, l, &l->again);
        return r < 0 ? r : conf_directories(NULL, &l->directories);
}

void loader_done(Loader *l) {
        if (l->work)
                work_forget(l->work); /* and its task */
        else
                task_free(l->task);
        timer_free(l->again);
        strv_free(l->directories);
        report_done(&l->report);
}
