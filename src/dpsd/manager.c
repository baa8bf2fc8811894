/* SPDX-License-Identifier: MIT */
#include "dpsd/manager.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "build-config.h"
#include "dpsd/bus.h"
#include "dpsd/log.h"

/*
 * What all identities share, and the end of each turn of the loop: there what changed is counted and told, once,
 * however often it changed in the turn.
 */

#define CLOCK_PATIENCE_USEC (5 * USEC_PER_MINUTE)
#define BUS_PATIENCE_USEC (3 * USEC_PER_SEC)
#define RUNTIME_DIRECTORY_DEFAULT "/run/dps"

/* ---- what it shows ---- */

unsigned manager_n_assigned(const Manager *m) {
        return m->counts[BUCKET_ASSIGNED] + m->counts[BUCKET_ASSIGNED_TROUBLED];
}

const char *manager_state(const Manager *m) {
        if (m->n_identities == 0)
                return "idle";
        if (manager_n_assigned(m) == m->n_identities)
                return "ok";
        return m->counts[BUCKET_UNASSIGNED_TROUBLED] > 0 ? "degraded" : "provisioning";
}

static Bucket bucket_of(const Identity *i) {
        if (i->state == IDENTITY_ASSIGNED)
                return identity_is_healthy(i) ? BUCKET_ASSIGNED : BUCKET_ASSIGNED_TROUBLED;
        return i->state == IDENTITY_FAILED || i->memory->error.id != DPS_ERROR_NONE
                       ? BUCKET_UNASSIGNED_TROUBLED
                       : BUCKET_UNASSIGNED;
}

/* The one that an operator should look at first; NULL: none. */
static const Identity *find_troubled(const Manager *m) {
        Bucket worst = m->counts[BUCKET_UNASSIGNED_TROUBLED] > 0 ? BUCKET_UNASSIGNED_TROUBLED
                       : m->counts[BUCKET_UNASSIGNED] > 0        ? BUCKET_UNASSIGNED
                                                                 : BUCKET_ASSIGNED_TROUBLED;

        for (size_t k = 0; m->counts[worst] > 0 && k < m->n_identities; k++)
                if (m->identities[k]->bucket == worst)
                        return m->identities[k];
        return NULL;
}

/* "2 of 3 identities assigned; north: throttled, next try at 2026-11-24 13:09:00 UTC" */
static void tell_status(Manager *m) {
        const Identity *i = find_troubled(m);
        char text[512], next[384];
        int n;

        if (m->n_identities == 0) {
                notify_status(m->notify, "no identity is configured");
                return;
        }

        n = snprintf(text, sizeof(text), "%u of %zu identities assigned", manager_n_assigned(m),
                     m->n_identities);
        if (i) {
                identity_describe(i, true, next, sizeof(next));
                snprintf(text + n, sizeof(text) - (size_t) n, "; %s: %s", i->name, next);
        }
        notify_status(m->notify, text);
}

/* ---- the end of a turn ---- */

void manager_changed(Manager *m) {
        (void) sd_event_source_set_enabled(m->turn, SD_EVENT_ONESHOT);
}

void manager_identity_changed(Manager *m, Identity *i) {
        if (i->is_changed)
                return;

        i->next_changed = m->changed;
        m->changed = i;
        i->is_changed = true;
        manager_changed(m);
}

static void count(Manager *m, Identity *i, Bucket bucket, bool for_network, bool for_clock) {
        if (i->bucket != BUCKET_NONE)
                m->counts[i->bucket]--;
        if (bucket != BUCKET_NONE)
                m->counts[bucket]++;
        i->bucket = bucket;
        m->n_waiting_for_network += (unsigned) for_network - (unsigned) i->is_counted_for_network;
        m->n_waiting_for_clock += (unsigned) for_clock - (unsigned) i->is_counted_for_clock;
        i->is_counted_for_network = for_network;
        i->is_counted_for_clock = for_clock;
}

void manager_identity_gone(Manager *m, Identity *i) {
        count(m, i, BUCKET_NONE, false, false);
        for (Identity **c = &m->changed; *c; c = &(*c)->next_changed)
                if (*c == i) {
                        *c = i->next_changed;
                        break;
                }
        manager_changed(m);
}

static bool serves_all_it_can(const Manager *m) {
        for (size_t k = 0; k < m->n_identities; k++) {
                const Identity *i = m->identities[k];

                if (i->memory->assignment && i->pending && !i->is_published)
                        return false;
        }
        return true;
}

static void look_if_ready(Manager *m) {
        if (m->is_ready || !m->bus_settled || !serves_all_it_can(m))
                return;

        m->is_ready = true;
        m->settle = sd_event_source_disable_unref(m->settle);
        notify_ready(m->notify);
        log_info("dpsd " DPS_VERSION " is ready: %u of %zu identities assigned", manager_n_assigned(m),
                 m->n_identities);
}

bool manager_is_done(const Manager *m, bool *ret_assigned) {
        bool is_assigned = true;

        for (size_t k = 0; k < m->n_identities; k++) {
                const Identity *i = m->identities[k];
                const Settings *s = identity_settings(i);

                if (!m->only && s && !s->required_for_provisioned)
                        continue;
                is_assigned = is_assigned && i->state == IDENTITY_ASSIGNED;
                if (!identity_is_settled(i))
                        return false;
        }
        *ret_assigned = is_assigned;
        return true;
}

static int on_turn(sd_event_source *s, void *userdata) {
        Manager *m = userdata;
        Identity *i;
        bool is_assigned;

        while ((i = m->changed)) {
                m->changed = i->next_changed;
                i->is_changed = false;
                count(m, i, bucket_of(i), identity_waits_for_network(i), identity_waits_for_clock(i));
                /* Who is told that it waits may bring what it waits for. */
                if (m->n_waiting_for_network > 0)
                        network_watch(m->network, true);
                bus_identity_changed(m, i);
        }
        bus_manager_changed(m);
        tell_status(m);
        look_if_ready(m);

        network_watch(m->network, m->n_waiting_for_network > 0);
        clock_watch_synchronization(m->clock, m->n_waiting_for_clock > 0);
        manager_tend_window(m);
        if (m->once && manager_is_done(m, &is_assigned))
                manager_leave(m, 0);
        return 0;
}

void manager_job_finished(Manager *m, Identity *i, uint64_t job, bool ok, const char *error) {
        bus_job_finished(m, i, job, ok, error);
}

void manager_bus_settled(Manager *m) {
        m->bus_settled = true;
        manager_changed(m);
}

static int on_settle(sd_event_source *s, uint64_t due_usec, void *userdata) {
        manager_bus_settled(userdata);
        return 0;
}

/* ---- the world ---- */

bool manager_waits_for_clock(const Manager *m, uint64_t *ret_until_usec) {
        if (clock_is_plausible(m->clock) || now_usec(CLOCK_BOOTTIME) >= m->clock_deadline_usec)
                return false;

        if (ret_until_usec)
                *ret_until_usec = m->clock_deadline_usec;
        return true;
}

static void on_clock(ClockEvent event, void *userdata) {
        Manager *m = userdata;

        if (event == CLOCK_SYNCHRONIZED)
                clock_confirm(m->clock);
        for (size_t k = 0; k < m->n_identities; k++)
                identity_on_clock(m->identities[k]);
}

static void on_network(void *userdata) {
        Manager *m = userdata;

        for (size_t k = 0; k < m->n_identities; k++)
                identity_on_network(m->identities[k]);
}

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        (void) manager_reload(userdata);
        return 0;
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        manager_leave(userdata, 0);
        return 0;
}

/* ---- beginning and end ---- */

static const char *directory(const char *variable, const char *otherwise) {
        const char *value = secure_getenv(variable);

        return isempty(value) ? otherwise : value;
}

static int open_store(Manager *m) {
        const char *path = directory("STATE_DIRECTORY", DPS_STATE_DIR);
        pid_t pid = 0;
        int r;

        r = store_new(m->event, path, directory("RUNTIME_DIRECTORY", RUNTIME_DIRECTORY_DEFAULT), &m->store,
                      &pid);
        if (r == -EBUSY)
                log_error("%s is in use by another dpsd, process %d: stop that one, or set STATE_DIRECTORY",
                          path, (int) pid);
        else if (r < 0)
                log_error("%s cannot be used for the state: %s", path, strerror(-r));
        return r;
}

static int open_outputs(Manager *m) {
        const char *path = directory("RUNTIME_DIRECTORY", RUNTIME_DIRECTORY_DEFAULT);
        int r;

        r = directory_make_path(path, 0755);
        if (r >= 0)
                r = outputs_new(path, &m->outputs);
        if (r < 0)
                log_error("%s cannot be used for what programs get: %s", path, strerror(-r));
        return r;
}

/* Signals are blocked before any thread begins. */
static int add_signals(Manager *m) {
        static const struct {
                int signal;
                sd_event_signal_handler_t handler;
        } signals[] = { { SIGTERM, on_terminate }, { SIGINT, on_terminate }, { SIGHUP, on_hangup } };
        sigset_t set;

        sigemptyset(&set);
        for (size_t k = 0; k < ELEMENTSOF(signals); k++)
                sigaddset(&set, signals[k].signal);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;

        for (size_t k = 0; k < ELEMENTSOF(signals); k++) {
                int r = sd_event_add_signal(m->event, NULL, signals[k].signal, signals[k].handler, m);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_sources(Manager *m) {
        int r;

        r = sd_event_add_defer(m->event, &m->turn, on_turn, m);
        if (r < 0)
                return r;
        r = clock_new(m->event, store_directory_fd(m->store), on_clock, m, &m->clock);
        if (r < 0)
                return r;
        r = network_new(m->event, on_network, m, &m->network);
        if (r < 0)
                return r;
        return notify_new(m->event, &m->notify);
}

int manager_new(Manager **ret) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r;

        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;

        r = sd_event_new(&m->event);
        if (r < 0)
                return r;
        r = add_signals(m);
        if (r < 0)
                return r;
        r = open_store(m);
        if (r < 0)
                return r;
        r = open_outputs(m);
        if (r < 0)
                return r;
        r = add_sources(m);
        if (r < 0)
                return r;

        m->clock_deadline_usec = usec_add(now_usec(CLOCK_BOOTTIME), CLOCK_PATIENCE_USEC);
        *ret = TAKE_PTR(m);
        return 0;
}

int manager_start(Manager *m) {
        int r;

        if (clock_is_synchronized(m->clock))
                clock_confirm(m->clock);
        r = manager_load(m);
        if (r < 0)
                return r;
        if (m->once) {
                m->bus_settled = true;
                return 0;
        }

        r = sd_event_add_time_relative(m->event, &m->settle, CLOCK_BOOTTIME, BUS_PATIENCE_USEC, 0, on_settle,
                                       m);
        if (r < 0)
                return r;
        return bus_start(m);
}

void manager_leave(Manager *m, int code) {
        notify_stopping(m->notify);
        bus_stop(m);
        for (size_t k = 0; k < m->n_identities; k++)
                identity_stop(m->identities[k]);
        store_flush(m->store);
        (void) sd_event_exit(m->event, code);
}

Manager *manager_free(Manager *m) {
        if (!m)
                return NULL;

        bus_stop(m);
        for (size_t k = 0; k < m->n_identities; k++)
                identity_free(m->identities[k]);
        free(m->identities);
        for (size_t k = 0; k < m->n_groups; k++)
                free(m->groups[k].group);
        free(m->groups);
        manager_window_done(m);
        conf_report_done(&m->report);
        strv_free(m->directories);
        strv_free(m->only);
        sd_event_source_disable_unref(m->settle);
        sd_event_source_disable_unref(m->turn);
        notify_free(m->notify);
        network_free(m->network);
        clock_free(m->clock);
        outputs_free(m->outputs);
        store_free(m->store);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}
