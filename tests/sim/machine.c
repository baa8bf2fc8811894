/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "checks.h"
#include "chip.h"
#include "config/conf.h"
#include "disk.h"
#include "files.h"
#include "hang.h"
#include "keys.h"
#include "memory.h"
#include "net.h"
#include "users.h"

#define GID_DPS 4711
#define OLDER_KINDS 44
#define CHANGE_DELAY_USEC (500 * USEC_PER_MSEC)

typedef struct SimWatch {
        Machine *machine;
        char *path; /* the first of them */
        void (*handler)(void *userdata);
        void *userdata;
        Event *event;
        struct SimWatch *next;
} SimWatch;

/* Asked for after each event, so these two are without snprintf(). */
void machine_name(unsigned k, char ret[static 16]) {
        memcpy(ret, (const char[]){ 'i', 'd', (char) ('0' + k / 10 % 10), (char) ('0' + k % 10), 0 }, 5);
}

void machine_id(const Machine *m, unsigned k, char ret[static 16]) {
        memcpy(ret, m->confs[k].is_alternative ? "alt-" : "dev-", 4);
        ret += 4;
        if (k >= 10)
                *ret++ = (char) ('0' + k / 10 % 10);
        *ret++ = (char) ('0' + k % 10);
        *ret = 0;
}

Identity *machine_identity(const Machine *m, unsigned k) {
        return m->manager ? m->identities[k] : NULL;
}

/* ---- the clock ---- */

uint64_t machine_realtime_usec(const Machine *m) {
        return (uint64_t) (m->clock.realtime_usec + (int64_t) m->sim->now_usec);
}

static void on_jump(Sim *s, void *userdata) {
        Machine *m = userdata;

        if (!m->manager)
                return;
        checks_happened(s, IDENTITIES_MAX, HAPPENED_ON_MACHINE);
        core_enter();
        clock_jumped(m->manager->core.clock);
        core_leave();
        checks_step(s);
}

void machine_step_clock(Machine *m, int64_t usec) {
        int64_t now = (int64_t) machine_realtime_usec(m);

        m->clock.realtime_usec += MAX(usec, -now);
        if (!m->manager)
                checks_clock_set_unseen(m->sim);
        event_add(m->sim, m->sim->now_usec + 200, on_jump, m);
}

bool machine_mend_clock(Machine *m, bool is_synchronized) {
        uint64_t is = machine_realtime_usec(m), should_be = net_service_usec(m->sim->net);

        m->clock.is_synchronized = is_synchronized;
        if (is == should_be)
                return false;
        machine_step_clock(m, (int64_t) (should_be - is));
        return true;
}

void machine_network_changed(Machine *m) {
        if (!m->manager || !m->network_is_watched)
                return;
        trace(m->sim, "network: something appears");
        checks_happened(m->sim, IDENTITIES_MAX, HAPPENED_ON_MACHINE);
        core_enter();
        manager_on_network(m->manager);
        core_leave();
}

/* ---- what the core asks for ---- */

static void on_files(Sim *s, void *userdata) {
        SimWatch *w = userdata;

        w->event = NULL;
        checks_happened(s, IDENTITIES_MAX, HAPPENED_ON_MACHINE);
        core_enter();
        w->handler(w->userdata);
        core_leave();
        checks_step(s);
}

void machine_key_changed(Machine *m, unsigned k) {
        for (SimWatch *w = m->watches; w; w = w->next)
                if (streq(w->path, keys_path(m->sim->keys, k)) && !w->event)
                        w->event = event_add(m->sim, m->sim->now_usec + CHANGE_DELAY_USEC, on_files, w);
}

static int watch_files(char *const *paths, void (*handler)(void *), void *handler_userdata, void *userdata,
                       FileWatch **ret) {
        Machine *m = userdata;
        SimWatch *w = sim_alloc(sizeof(*w));

        *w = (SimWatch){ .machine = m,
                         .path = sim_copy(paths[0]),
                         .handler = handler,
                         .userdata = handler_userdata,
                         .next = m->watches };
        m->watches = w;
        *ret = (FileWatch *) w;
        return 0;
}

static FileWatch *unwatch_files(FileWatch *watch) {
        SimWatch *w = (SimWatch *) watch, **p = &w->machine->watches;

        while (*p != w)
                p = &(*p)->next;
        *p = w->next;
        event_cancel(w->machine->sim, w->event);
        sim_free(w->path);
        sim_free(w);
        return NULL;
}

static int find_gateway(void *userdata, char **ret) {
        static const char *const gateways[NETWORKS_MAX] = { "10.0.0.1", "fe80::1", "" };

        *ret = strdup(gateways[((Machine *) userdata)->network]);
        return *ret ? 0 : -ENOMEM;
}

static const CoreOperations core_operations = { .watch_files = watch_files,
                                                .unwatch_files = unwatch_files,
                                                .find_gateway = find_gateway };

static bool group_is_there;

static int lookup_group(const char *name, gid_t *ret) {
        if (!streq(name, "dps") && !group_is_there)
                return -ENOENT;
        *ret = GID_DPS;
        return 0;
}

/* Errors about key files name their owners. The simulated machine has no names for them: to ask for those of this machine takes
 * longer than all the rest of reading a key, and its traces would be other ones. */

#define NOBODY(name, type, argument)                                                                         \
        int __wrap_##name(argument wanted, type *entry, char *texts, size_t size, type **ret);               \
        int __wrap_##name(argument wanted, type *entry, char *texts, size_t size, type **ret) {              \
                *ret = NULL;                                                                                 \
                return 0;                                                                                    \
        }

#pragma GCC visibility push(default)
NOBODY(getgrnam_r, struct group, const char *)
NOBODY(getgrgid_r, struct group, gid_t)
NOBODY(getpwnam_r, struct passwd, const char *)
NOBODY(getpwuid_r, struct passwd, uid_t)
#pragma GCC visibility pop

/* ---- what the core tells ---- */

static Identity **place_of(Machine *m, const Identity *i) {
        return &m->identities[(unsigned) atoi(i->name + 2) % IDENTITIES_MAX];
}

static void on_added(Identity *i, void *userdata) {
        *place_of(userdata, i) = i;
}

static void on_removed(Identity *i, void *userdata) {
        Machine *m = userdata;

        *place_of(m, i) = NULL;
        if (!m->is_dying)
                checks_removed(m->sim, i);
}

static void on_changed(Identity *i, void *userdata) {
        Machine *m = userdata;
        unsigned depth = core_pause();

        if (!m->is_dying)
                checks_shown(m->sim, i);
        core_resume(depth);
}

static void on_job_ended(Identity *i, uint64_t job, bool ok, const char *error, void *userdata) {
        Machine *m = userdata;
        unsigned depth = core_pause();

        if (!m->is_dying)
                checks_job_ended(m->sim, i, job, ok, error);
        core_resume(depth);
}

static void watch_network(bool on, void *userdata) {
        ((Machine *) userdata)->network_is_watched = on;
}

/* The service manager is told once a second at most. */
static void on_turned(Manager *manager, void *userdata) {
        Machine *m = userdata;
        char status[512];

        if (m->is_dying)
                return;
        loader_on_turned(&m->loader);
        if (m->sim->now_usec < m->described_usec + USEC_PER_SEC)
                return;
        m->described_usec = m->sim->now_usec;
        manager_describe(manager, status, sizeof(status));
}

static const ManagerHandlers handlers = { .identity_added = on_added,
                                          .identity_removed = on_removed,
                                          .identity_changed = on_changed,
                                          .job_ended = on_job_ended,
                                          .watch_network = watch_network,
                                          .turned = on_turned };

/* ---- the configuration ---- */

static const char *const lifetimes[] = { "30d", "1d", "2h", "7d" };

static void write_lines(const Machine *m, unsigned k, ConfLine lines[static 16], size_t *ret_n) {
        const SimConf *c = &m->confs[k];
        char id[16];

        machine_id(m, k, id);
        const struct {
                const char *section, *key, *value;
        } rows[] = {
                { "Provisioning", "IdScope", c->is_lost ? "0ne00000002" : "0ne00000001" },
                { "Provisioning", "RegistrationId", files_registration_id(m->sim->files, k, id) },
                { "Provisioning", "Endpoint", c->is_elsewhere ? "dps-b.example" : "dps-a.example" },
                { "Provisioning", "Splay", c->splay ? "2min" : "0" },
                { "Provisioning", "Transport", transport_choice_to_string(c->transport) },
                { "Attestation", "Method",
                  c->is_broken    ? "crystal-ball"
                  : chip_is_of(k) ? "tpm"
                                  : "symmetric-key" },
                { "Attestation", "Key", keys_path(m->sim->keys, k) },
                { "Hub", "TokenLifetime", lifetimes[c->lifetime % ELEMENTSOF(lifetimes)] },
                { "Hub", "Renew", c->renew ? "token" : "provision" },
                { "Issuance", "Request", k == ISSUED_IDENTITY ? "yes" : "no" },
                { "Issuance", "Key", key_place_to_string(c->key_place) },
                { "Access", "Group", c->has_other_group ? "plant" : "dps" },
        };

        for (size_t n = 0; n < ELEMENTSOF(rows); n++)
                lines[n] = (ConfLine){ .section = (char *) rows[n].section,
                                       .key = (char *) rows[n].key,
                                       .value = (char *) rows[n].value,
                                       .file = "/etc/dps/id.conf",
                                       .line = (unsigned) n + 2 };
        *ret_n = ELEMENTSOF(rows);
}

static int configure(Machine *m, unsigned k) {
        _cleanup_(conf_report_done) ConfReport report = { 0 };
        Settings *settings = NULL;
        ConfLine lines[16];
        char name[16];
        size_t n;
        int r;

        machine_name(k, name);
        write_lines(m, k, lines, &n);
        r = settings_from_conf(NULL, &(Conf){ .name = name, .lines = lines, .n_lines = n }, &report,
                               &settings);
        if (r >= 0 && report.is_incomplete)
                r = -ENOMEM;
        if (r < 0) {
                settings_unref(settings);
                return r;
        }
        return manager_configure(m->manager, name, settings,
                                 report.has_errors ? conf_report_first_error(&report) : NULL);
}

/* So memory runs out where it did when the findings were found that are older than files.c. */
bool machine_is_older(const Machine *m) {
        return m->sim->options.n_kinds > 0 && m->sim->options.n_kinds <= OLDER_KINDS;
}

/* As loader.c does it. */
static int load_directly(Machine *m) {
        _cleanup_(strv_freep) char **names = NULL;
        char name[16];
        int r;

        manager_set_max_attempts(m->manager, m->max_attempts);
        for (unsigned k = 0; k < m->sim->options.n_identities; k++) {
                if (!m->confs[k].is_there)
                        continue;
                machine_name(k, name);
                r = strv_append(&names, name);
                if (r >= 0)
                        r = configure(m, k);
                if (r < 0)
                        return r;
        }
        manager_retain(m->manager, names);
        manager_look_again(m->manager);
        return 0;
}

/* What stands in NAME.conf, and what may be in a drop-in of it. */
static void write_conf(const Machine *m, unsigned k) {
        char texts[2][2048] = { "", "" };
        ConfLine lines[16];
        size_t n;

        write_lines(m, k, lines, &n);
        for (size_t l = 0; l < n; l++) {
                char *text = texts[streq(lines[l].section, "Hub")];
                bool is_first = l == 0 || !streq(lines[l].section, lines[l - 1].section);

                text += strlen(text);
                (void) sprintf(text, is_first ? "[%s]\n%s=%s\n" : "%.0s%s=%s\n", lines[l].section,
                               lines[l].key, lines[l].value);
        }
        files_put(m->sim->files, k, m->confs[k].is_there ? texts[0] : NULL, texts[1]);
}

static void write_confs(Machine *m) {
        char *text = sim_format("[Daemon]\nMaxAttempts=%u\n", m->max_attempts);

        files_put(m->sim->files, IDENTITIES_MAX, text, NULL);
        sim_free(text);
        for (unsigned k = 0; k < m->sim->options.n_identities; k++)
                write_conf(m, k);
        group_is_there = m->is_group_there;
}

static void loaded(Machine *m, int r) {
        if (r < 0)
                trace(m->sim, "dpsd: reload failed: %s", strerror(-r));
        checks_reloaded(m->sim, r >= 0);
}

static void on_loaded(int r, void *userdata) {
        Machine *m = userdata;
        unsigned depth = core_pause();

        trace(m->sim, "dpsd: has read its configuration");
        m->is_to_reload = false;
        loaded(m, r);
        m->load_usec = m->sim->now_usec; /* perhaps the next one begins */
        core_resume(depth);
}

static void on_within_reach(void *userdata) {
        Machine *m = userdata;

        trace(m->sim, "dpsd: something is within reach again");
        m->load_usec = m->sim->now_usec;
        (void) loader_begin(&m->loader);
}

static const LoaderHandlers loader_handlers = { .on_within_reach = on_within_reach, .on_loaded = on_loaded };

/* Where nothing hangs it takes no time, as it did when older findings were found. */
void machine_reload(Machine *m) {
        write_confs(m);
        if (!m->manager)
                return;
        if (!m->loader.task)
                m->load_usec = m->sim->now_usec;
        core_enter();
        if (m->loader.task || files_any_hangs(m->sim->files))
                (void) loader_begin(&m->loader);
        else {
                int r = machine_is_older(m) ? load_directly(m) : loader_load(&m->loader);
                unsigned depth = core_pause();

                m->is_to_reload = r < 0; /* the operator is told, and does it later */
                loaded(m, r);
                core_resume(depth);
        }
        core_leave();
        checks_step(m->sim);
}

static void on_forgotten(int r, void *userdata) {
}

void machine_begin_anew(Machine *m, unsigned k) {
        char name[16];
        int r;

        if (!machine_identity(m, k) || m->loader.task || files_any_hangs(m->sim->files))
                return;
        machine_name(k, name);
        m->confs[k].is_there = false;
        machine_reload(m);
        core_enter();
        r = manager_forget(m->manager, name, on_forgotten, NULL);
        store_flush(m->manager->core.store); /* the operator goes on when the disk has done it */
        core_leave();
        trace(m->sim, "operator: %u: is forgotten: %d", k, r);
        checks_forgotten(m->sim, k);
        m->confs[k].is_there = true;
        machine_reload(m);
}

/* ---- runs ---- */

static void on_start(Sim *s, void *userdata) {
        Machine *m = userdata;

        m->start = NULL;
        machine_start(m);
}

void machine_start_later(Machine *m, uint64_t delay_usec) {
        m->start = event_cancel(m->sim, m->start);
        m->start = event_add(m->sim, m->sim->now_usec + delay_usec, on_start, m);
}

static void close_all(Machine *m) {
        m->is_dying = true;
        users_disconnect(m->sim);
        loader_done(&m->loader);
        m->loader = (Loader){ 0 };
        looks_forget();
        m->manager = manager_free(m->manager);
        memset(m->identities, 0, sizeof(m->identities));
        m->mqtt = transport_class_close(m->mqtt);
        m->https = transport_class_close(m->https);
        m->notes = folder_free(m->notes);
        m->runtime = folder_free(m->runtime);
        m->state = folder_free(m->state);
        m->world = world_free(m->world);
        hang_forget_calls();
        m->is_dying = false;
}

/* Both ways lead over the same network. */
static int get_transport(Transports *transports, TransportChoice way, TransportClass **ret, DpsError *error) {
        Machine *m = (Machine *) ((char *) transports - offsetof(Machine, transports));

        *ret = way == TRANSPORT_HTTPS ? m->https : m->mqtt;
        return 0;
}

static void rest(Transports *transports) {
}

static int open_all(Machine *m) {
        ManagerParts parts;
        int r;

        m->world = sim_world_new(m->sim, &m->clock, &m->slowness, m->n_runs);
        m->state = disk_open(m->sim->disk, WHERE_STATE, "/var/lib/dps");
        m->runtime = disk_open(m->sim->disk, WHERE_RUNTIME, "/run/dps");
        m->notes = disk_open_notes(m->sim->disk);
        m->mqtt = net_open(m->sim->net, TRANSPORT_MQTT);
        m->https = net_open(m->sim->net, TRANSPORT_HTTPS);
        m->transports = (Transports){ get_transport, rest };
        parts = (ManagerParts){ .world = m->world,
                                .state = m->state,
                                .notes = m->notes,
                                .runtime = m->runtime,
                                .transports = &m->transports,
                                .lookup_group = lookup_group,
                                .operations = &core_operations,
                                .operations_userdata = m };
        r = manager_new(&parts, &handlers, m, &m->manager);
        if (r < 0 || machine_is_older(m))
                return r < 0 ? r : load_directly(m);
        r = loader_init(&m->loader, m->manager, &loader_handlers, m);
        return r < 0 ? r : loader_load(&m->loader);
}

void machine_start(Machine *m) {
        int r;

        if (m->manager)
                return;
        m->n_runs++;
        m->is_to_reload = false;
        write_confs(m);
        trace(m->sim, "dpsd: starts");
        checks_starting(m->sim);
        m->load_usec = m->sim->now_usec;
        looks_starting(m->sim, true);
        core_enter();
        r = open_all(m);
        if (r >= 0) {
                if (!m->loader.report.faults.is_partial)
                        manager_remove_leftovers(m->manager);
                manager_touch(m->manager);
        }
        core_leave();
        looks_starting(m->sim, false);
        if (r < 0) {
                trace(m->sim, "dpsd: cannot start: %s", strerror(-r));
                checks_killed(m->sim);
                close_all(m);
                machine_start_later(m, 10 * USEC_PER_SEC);
                return;
        }
        files_started(m->sim);
        checks_step(m->sim);
}

void machine_stop(Machine *m) {
        if (!m->manager)
                return;
        trace(m->sim, "dpsd: stops");
        core_enter();
        manager_stop(m->manager);
        core_leave();
        checks_stopped(m->sim);
        close_all(m);
}

static void die(Machine *m, unsigned steps) {
        if (!m->manager)
                return;
        disk_die(m->sim->disk, steps);
        if (steps > 0)
                (void) sim_world_run_disk(m->world);
        disk_die(m->sim->disk, 0);
        close_all(m);
}

void machine_kill(Machine *m, unsigned steps) {
        trace(m->sim, "dpsd: is killed");
        checks_killed(m->sim);
        die(m, steps);
}

void machine_cut_power(Machine *m, unsigned steps) {
        trace(m->sim, "machine: the power fails");
        checks_killed(m->sim);
        die(m, steps);
        disk_cut_power(m->sim->disk);
        m->clock.booted_usec = m->sim->now_usec;
        checks_power_failed(m->sim);
}

void machine_mend(Machine *m) {
        m->slowness = (Slowness){ 0 };
        m->is_group_there = true;
        m->network = 0;
        for (unsigned k = 0; k < m->sim->options.n_identities; k++) {
                SimConf *c = &m->confs[k];

                if (c->is_lost)
                        checks_device_changed(m->sim, k);
                c->is_there = true;
                c->is_broken = c->is_lost = false;
                c->transport = TRANSPORT_AUTO;
                keys_put(m->sim->keys, k, KEY_FILE_GOOD);
                machine_key_changed(m, k);
        }
}

Machine *machine_new(Sim *s) {
        Machine *m = sim_alloc(sizeof(*m));

        *m = (Machine){ .sim = s, .is_group_there = true, .max_attempts = 50 };
        m->clock = (MachineClock){ .is_synchronized = true };
        for (unsigned k = 0; k < s->options.n_identities; k++)
                m->confs[k] = (SimConf){ .is_there = true };
        return m;
}

Machine *machine_free(Machine *m) {
        if (m->manager)
                close_all(m);
        event_cancel(m->sim, m->start);
        sim_free(m);
        return NULL;
}
