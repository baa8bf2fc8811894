/* SPDX-License-Identifier: MIT */
#include "dpsd/manager.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/identity-view.h"
#include "dpsd/log.h"

#define CLOCK_PATIENCE_USEC (5 * USEC_PER_MINUTE)

/* ---- state and description ---- */

unsigned manager_n_assigned(const Manager *m) {
        return m->counts[BUCKET_ASSIGNED] + m->counts[BUCKET_ASSIGNED_FAILING];
}

const char *manager_state(const Manager *m) {
        if (m->n_identities == 0)
                return "idle";
        if (manager_n_assigned(m) == m->n_identities)
                return "ok";
        return m->counts[BUCKET_UNASSIGNED_FAILING] > 0 ? "degraded" : "provisioning";
}

static Bucket bucket_of(const Identity *i) {
        if (i->state == IDENTITY_ASSIGNED)
                return identity_is_healthy(i) ? BUCKET_ASSIGNED : BUCKET_ASSIGNED_FAILING;
        return i->state == IDENTITY_FAILED || i->keeper.record->error.id != DPS_ERROR_NONE
                       ? BUCKET_UNASSIGNED_FAILING
                       : BUCKET_UNASSIGNED;
}

/* The identity that an operator should look at first; NULL: none. */
static const Identity *find_failing(const Manager *m) {
        Bucket worst = m->counts[BUCKET_UNASSIGNED_FAILING] > 0 ? BUCKET_UNASSIGNED_FAILING
                       : m->counts[BUCKET_UNASSIGNED] > 0       ? BUCKET_UNASSIGNED
                                                                : BUCKET_ASSIGNED_FAILING;

        for (size_t k = 0; m->counts[worst] > 0 && k < m->n_identities; k++)
                if (m->identities[k]->bucket == worst)
                        return m->identities[k];
        return NULL;
}

void manager_describe(const Manager *m, char *buffer, size_t size) {
        const Identity *i = find_failing(m);
        char next[384];

        if (m->n_identities == 0) {
                snprintf(buffer, size, "no identity is configured");
                return;
        }
        if (!i) {
                snprintf(buffer, size, "%u of %zu identities assigned", manager_n_assigned(m),
                         m->n_identities);
                return;
        }
        identity_describe(i, true, next, sizeof(next));
        snprintf(buffer, size, "%u of %zu identities assigned; %s: %s", manager_n_assigned(m),
                 m->n_identities, i->name, next);
}

bool manager_is_serving(const Manager *m) {
        return m->n_not_serving == 0 && !m->changed;
}

bool manager_is_settled(const Manager *m, bool all, bool *ret_assigned) {
        bool is_assigned = true;

        for (size_t k = 0; k < m->n_identities; k++) {
                const Identity *i = m->identities[k];
                const Settings *s = configuration_settings(&i->configuration);

                if (!all && s && !s->required_for_provisioned)
                        continue;
                is_assigned = is_assigned && i->state == IDENTITY_ASSIGNED;
                if (!i->plan.is_settled)
                        return false;
        }
        *ret_assigned = is_assigned;
        return true;
}

/* ---- the end of a turn ---- */

void manager_touch(Manager *m) {
        timer_set(m->turn, 0, 0);
}

static void on_identity_changed(Identity *i, void *userdata) {
        Manager *m = userdata;

        /* The network watch starts at once, not at the end of the turn. Somebody may see that we wait for the
         * network, and bring it up, before the turn ends. */
        if (i->plan.waits_for_network)
                m->handlers->watch_network(true, m->userdata);
        if (i->is_changed)
                return;
        i->next_changed = NULL;
        *m->changed_end = i;
        m->changed_end = &i->next_changed;
        i->is_changed = true;
        manager_touch(m);
}

static void recount(unsigned *n, bool *was, bool is) {
        *n += (unsigned) is - (unsigned) *was;
        *was = is;
}

static void count(Manager *m, Identity *i, Bucket bucket) {
        bool is_there = bucket != BUCKET_NONE;

        if (i->bucket != BUCKET_NONE)
                m->counts[i->bucket]--;
        if (is_there)
                m->counts[bucket]++;
        i->bucket = bucket;
        recount(&m->n_waiting_for_network, &i->is_counted_for_network, is_there && i->plan.waits_for_network);
        recount(&m->n_waiting_for_clock, &i->is_counted_for_clock, is_there && i->plan.waits_for_clock);
        recount(&m->n_not_serving, &i->is_counted_for_serving, is_there && !i->plan.is_serving);
}

static void remove_changed(Manager *m, Identity **at) {
        Identity *i = *at;

        *at = i->next_changed;
        if (m->changed_end == &i->next_changed)
                m->changed_end = at;
        i->is_changed = false;
}

/* As in on_write_again(), the pause lets others run. */
static void on_turn(void *userdata) {
        Manager *m = userdata;
        Identity *i;

        for (unsigned n = 0; (i = m->changed); n++) {
                if (n == MANAGER_TURN_MAX) {
                        timer_set(m->turn, world_now_usec(m->core.world, CLOCK_BOOTTIME) + MANAGER_PAUSE_USEC,
                                  0);
                        return;
                }
                remove_changed(m, &m->changed);
                count(m, i, bucket_of(i));
                m->handlers->identity_changed(i, m->userdata);
        }
        m->handlers->watch_network(m->n_waiting_for_network > 0, m->userdata);
        clock_watch_synchronization(m->core.clock, m->n_waiting_for_clock > 0);
        m->handlers->turned(m, m->userdata);
}

static void forget_changed(Manager *m, Identity *i) {
        for (Identity **c = &m->changed; *c; c = &(*c)->next_changed)
                if (*c == i) {
                        remove_changed(m, c);
                        break;
                }
        count(m, i, BUCKET_NONE);
        manager_touch(m);
}

/* ---- reports of identities ---- */

static void on_job_ended(Identity *i, uint64_t job, bool ok, const char *error, void *userdata) {
        Manager *m = userdata;

        m->handlers->job_ended(i, job, ok, error, m->userdata);
        on_identity_changed(i, m); /* this schedules the end of the turn */
}

static bool holds_assignment(const Identity *i) {
        const Settings *s = i->configuration.settings;
        const Assignment *a = identity_assignment(i);

        return a && s && streq(a->id_scope, s->id_scope) &&
               strcasecmp(a->registration_id, s->registration_id) == 0;
}

/* The identity that holds the assignment keeps the device. If several do, or none does, the first by name keeps
 * it. NULL: that is this identity. */
static const char *find_twin(const Manager *m, const Identity *i) {
        const Identity *keeper = NULL;

        for (size_t k = 0; k < m->n_identities; k++) {
                const Identity *other = m->identities[k];

                if (other != i && !configuration_are_twins(&other->configuration, &i->configuration))
                        continue;
                if (!keeper || (holds_assignment(other) && !holds_assignment(keeper)))
                        keeper = other;
        }
        return keeper && keeper != i ? keeper->name : NULL;
}

/* Returns whether another one may be the same device. */
static bool shares_hash(const Manager *m, const Identity *i) {
        for (const Identity *other = m->devices[i->device_hash % MANAGER_CHAINS]; other;
             other = other->next_device)
                if (other != i && other->device_hash == i->device_hash)
                        return true;
        return false;
}

/* Returns whether another one may have been the same device. */
static bool leave_device(Manager *m, Identity *i) {
        for (Identity **p = &m->devices[i->device_hash % MANAGER_CHAINS]; *p; p = &(*p)->next_device)
                if (*p == i) {
                        *p = i->next_device;
                        break;
                }
        return shares_hash(m, i);
}

static void enter_device(Manager *m, Identity *i) {
        Identity **chain;

        i->device_hash = i->configuration.who_hash;
        chain = &m->devices[i->device_hash % MANAGER_CHAINS];
        i->next_device = *chain;
        *chain = i;
}

/* At a start of thousands, most are alone with their hash. */
static void on_device_changed(Identity *i, void *userdata) {
        Manager *m = userdata;
        bool is_alone = !leave_device(m, i);

        enter_device(m, i);
        is_alone = !shares_hash(m, i) && is_alone;
        for (size_t k = 0; !is_alone && k < m->n_identities; k++) {
                Identity *other = m->identities[k];

                if (other == i || (!configuration_are_twins(&other->configuration, &i->configuration) &&
                                   !streq_ptr(other->configuration.twin, i->name)))
                        continue;
                identity_set_twin(other, find_twin(m, other));
        }
        identity_set_twin(i, is_alone ? NULL : find_twin(m, i));
}

static GroupError *find_group(const Manager *m, const char *group) {
        for (size_t k = 0; k < m->n_groups; k++)
                if (streq(m->groups[k].group, group))
                        return &m->groups[k];
        return NULL;
}

static GroupError *add_group(Manager *m, const char *group) {
        GroupError *groups = reallocarray(m->groups, m->n_groups + 1, sizeof(*groups));
        char *copy = strdup(group);

        if (groups)
                m->groups = groups;
        if (!groups || !copy) {
                free(copy);
                return NULL;
        }
        groups[m->n_groups] = (GroupError){ .group = copy };
        return &groups[m->n_groups++];
}

/* Many identities may name the same group, so an error of it is news only once. */
static bool on_group_failed(const char *group, const char *error, void *userdata) {
        Manager *m = userdata;
        GroupError *g = find_group(m, group);
        const char *before;

        if (!g && !error)
                return false;
        g = g ?: add_group(m, group);
        if (!g)
                return true;
        before = g->error;
        g->error = error;
        return error && error != before;
}

static const IdentityObserver observer = {
        .changed = on_identity_changed,
        .job_ended = on_job_ended,
        .device_changed = on_device_changed,
        .group_failed = on_group_failed,
};

/* ---- events of the world ---- */

static void on_clock(ClockEvent event, void *userdata) {
        Manager *m = userdata;

        for (size_t k = 0; k < m->n_identities; k++)
                identity_on_clock(m->identities[k]);
}

void manager_on_network(Manager *m) {
        for (size_t k = 0; k < m->n_identities; k++)
                identity_on_network(m->identities[k]);
}

static void on_group_found(const char *name, void *userdata) {
        Manager *m = userdata;

        for (size_t k = 0; k < m->n_identities; k++)
                identity_on_group(m->identities[k], name);
}

static void on_window_idle(void *userdata) {
        Manager *m = userdata;

        m->core.transports->rest(m->core.transports);
}

/* ---- adding and removing identities ---- */

static int compare_names(const void *name, const void *identity) {
        return strcmp(name, (*(Identity *const *) identity)->name);
}

Identity *manager_find(const Manager *m, const char *name) {
        Identity **found = m->n_identities > 0 ? bsearch(name, m->identities, m->n_identities,
                                                         sizeof(*m->identities), compare_names)
                                               : NULL;

        return found ? *found : NULL;
}

static int add_identity(Manager *m, const char *name, Identity **ret) {
        Identity **identities, *i;
        size_t k;
        int r;

        identities = reallocarray(m->identities, m->n_identities + 1, sizeof(*identities));
        if (!identities)
                return -ENOMEM;
        m->identities = identities;
        r = identity_new(&m->core, name, &i);
        if (r < 0)
                return r;
        if (m->is_up)
                keeper_read_again(&i->keeper);
        else
                identity_load(i);

        for (k = m->n_identities; k > 0 && strcmp(m->identities[k - 1]->name, name) > 0; k--)
                m->identities[k] = m->identities[k - 1];
        *ret = m->identities[k] = i;
        m->n_identities++;
        m->handlers->identity_added(*ret, m->userdata);
        return 0;
}

int manager_configure(Manager *m, const char *name, Settings *settings, const char *fault) {
        Identity *i = manager_find(m, name);
        int r;

        if (!i) {
                r = add_identity(m, name, &i);
                if (r < 0) {
                        settings_unref(settings);
                        return r;
                }
        }
        identity_configure(i, settings, fault);
        return 0;
}

static void remove_identity(Manager *m, size_t k) {
        Identity *i = m->identities[k];
        bool is_alone = !leave_device(m, i);

        identity_retire(i);
        memmove(m->identities + k, m->identities + k + 1, (m->n_identities - k - 1) * sizeof(*m->identities));
        m->n_identities--;
        for (size_t j = 0; !is_alone && j < m->n_identities; j++)
                if (streq_ptr(m->identities[j]->configuration.twin, i->name))
                        identity_set_twin(m->identities[j], find_twin(m, m->identities[j]));
        m->handlers->identity_removed(i, m->userdata);
        forget_changed(m, i);
        identity_free(i);
}

void manager_retain(Manager *m, char *const *names) {
        for (size_t k = m->n_identities; k > 0; k--)
                if (!strv_contains(names, m->identities[k - 1]->name))
                        remove_identity(m, k - 1);
}

void manager_retire(Manager *m, Identity *i) {
        for (size_t k = m->n_identities; k > 0; k--)
                if (m->identities[k - 1] == i) {
                        remove_identity(m, k - 1);
                        return;
                }
}

bool manager_look_again_at(Manager *m, size_t *at, size_t n) {
        if (*at == 0)
                groups_forget(m->core.groups);
        for (; n > 0 && *at < m->n_identities; n--)
                identity_look_again(m->identities[(*at)++]);
        if (*at < m->n_identities)
                return true;
        m->is_up = true;
        manager_touch(m);
        return false;
}

void manager_look_again(Manager *m) {
        size_t at = 0;

        (void) manager_look_again_at(m, &at, SIZE_MAX);
}

/* The pause lets others run: a timer that is set to the next turn outranks them. */
static void on_write_again(void *userdata) {
        Manager *m = userdata;
        unsigned n = 0;

        for (size_t k = 0; k < m->n_identities && n < MANAGER_WRITES_MAX; k++)
                n += identity_write_again(m->identities[k]);
        if (n > 0)
                timer_set(m->writing, world_now_usec(m->core.world, CLOCK_BOOTTIME) + MANAGER_PAUSE_USEC, 0);
}

static void write_again(Manager *m, void (*note)(Identity *i)) {
        for (size_t k = 0; k < m->n_identities; k++)
                note(m->identities[k]);
        timer_set(m->writing, 0, 0);
}

void manager_save_all(Manager *m) {
        write_again(m, identity_on_other_state);
        clock_write_again(m->core.clock);
}

void manager_publish_all(Manager *m) {
        write_again(m, identity_on_other_runtime);
}

/* Identities with a record are known by it. The others are known only by their directory, which is kept if it
 * may belong to somebody else. */
void manager_remove_leftovers(Manager *m) {
        _cleanup_(strv_freep) char **remembered = NULL, **there = NULL;

        (void) store_list(m->core.store, &remembered);
        (void) outputs_list(m->core.runtime, &there);
        STRV_FOREACH(name, there)
                if (!manager_find(m, *name) &&
                    (strv_contains(remembered, *name) || outputs_is_ours(m->core.runtime, *name)))
                        (void) outputs_remove(m->core.runtime, *name);
}

typedef struct Forget {
        Manager *manager;
        store_handler_t handler;
        void *userdata;
        char name[];
} Forget;

/* It may be configured again meanwhile. */
static void on_forgotten(int r, void *userdata) {
        _cleanup_(freep) Forget *f = userdata;

        f->manager->n_forgets--;
        if (r >= 0) {
                if (!manager_find(f->manager, f->name))
                        (void) outputs_remove(f->manager->core.runtime, f->name);
                log_message(LOG_NOTICE, &(LogFields){ .identity = f->name }, "its record was removed");
        }
        f->handler(r, f->userdata);
}

int manager_forget(Manager *m, const char *name, store_handler_t handler, void *userdata) {
        size_t size = strlen(name) + 1;
        Forget *f;
        int r;

        if (manager_find(m, name))
                return -EBUSY;
        if (m->n_forgets >= MANAGER_FORGETS_MAX)
                return -EAGAIN;
        f = malloc(sizeof(*f) + size);
        if (!f)
                return -ENOMEM;
        *f = (Forget){ .manager = m, .handler = handler, .userdata = userdata };
        memcpy(f->name, name, size);
        r = store_forget(m->core.store, name, on_forgotten, f);
        if (r < 0)
                free(f);
        else
                m->n_forgets++;
        return r;
}

void manager_set_max_attempts(Manager *m, unsigned max) {
        window_set_max(m->core.window, max);
}

/* ---- begin and end ---- */

static int make_core(Manager *m, const ManagerParts *p) {
        Core *c = &m->core;
        FileFacts facts;
        int r;

        *c = (Core){
                .world = p->world,
                .runtime = p->runtime,
                .transports = p->transports,
                .operations = p->operations,
                .operations_userdata = p->operations_userdata,
                .observer = &observer,
                .observer_userdata = m,
                .clock_deadline_usec =
                        usec_add(world_now_usec(p->world, CLOCK_BOOTTIME), CLOCK_PATIENCE_USEC),
                .own_gid = getegid(),
        };
        r = store_new(p->world, p->state, p->notes, &c->store);
        if (r < 0)
                return r;
        r = folder_look(p->runtime, ".", &facts);
        if (r < 0)
                return r;
        r = groups_new(p->world, p->lookup_group, on_group_found, m, &c->groups);
        if (r < 0)
                return r;
        r = window_new(p->world, &c->window);
        if (r < 0)
                return r;
        window_on_idle(c->window, on_window_idle, m);
        return clock_new(p->world, p->state, on_clock, m, &c->clock);
}

int manager_new(const ManagerParts *parts, const ManagerHandlers *handlers, void *userdata, Manager **ret) {
        _cleanup_(manager_freep) Manager *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->changed_end = &m->changed;
        m->handlers = handlers;
        m->userdata = userdata;
        r = make_core(m, parts);
        if (r < 0)
                return r;
        r = timer_new(parts->world, on_turn, m, &m->turn);
        if (r >= 0)
                r = timer_new(parts->world, on_write_again, m, &m->writing);
        if (r < 0)
                return r;
        if (clock_is_synchronized(m->core.clock))
                clock_confirm(m->core.clock);

        *ret = TAKE_PTR(m);
        return 0;
}

void manager_stop(Manager *m) {
        for (size_t k = 0; k < m->n_identities; k++)
                identity_stop(m->identities[k]);
        store_flush(m->core.store);
}

Manager *manager_free(Manager *m) {
        if (!m)
                return NULL;

        for (size_t k = 0; k < m->n_identities; k++)
                identity_free(m->identities[k]);
        free(m->identities);
        for (size_t k = 0; k < m->n_groups; k++)
                free(m->groups[k].group);
        free(m->groups);
        timer_free(m->turn);
        timer_free(m->writing);
        window_free(m->core.window);
        groups_free(m->core.groups);
        clock_free(m->core.clock);
        store_free(m->core.store);
        free(m);
        return NULL;
}
