/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The whole core of the daemon for a test that plays its surroundings: time, transport, keys, groups, files that change, and
 * the owner of the manager. The disk is a real one. Include it behind cmocka.h.
 */

#include <errno.h>
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

#include "basic/text.h"
#include "credential/credential-class.h"
#include "dpsd/identity-request.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"
#include "settings-text.h"
#include "small-disk.h"
#include "timed-world.h"

#define CORE_EVENTS_MAX 64

/* ---- the transport ---- */

typedef struct CoreConnection {
        Transport transport;
        TransportHandlers handlers;
        void *userdata;
        uint64_t request_id;
        bool is_ready;
        char registration_id[32];
} CoreConnection;

static struct {
        TransportClass class;
        unsigned n_connects, n_registers, n_open;
        CoreConnection *last; /* NULL: it is closed */
} core_transport;

static inline int core_connect(TransportClass *class, const TransportTarget *target,
                               const TransportHandlers *handlers, void *userdata, Transport **ret,
                               DpsError *e) {
        CoreConnection *c = calloc(1, sizeof(*c));

        assert_non_null(c);
        *c = (CoreConnection){ .transport.class = class, .handlers = *handlers, .userdata = userdata };
        (void) snprintf(c->registration_id, sizeof(c->registration_id), "%s", target->registration_id);
        core_transport.n_connects++;
        core_transport.n_open++;
        core_transport.last = c;
        *ret = &c->transport;
        return 0;
}

static inline int core_send(Transport *t, const DpsRequest *request, const char *body) {
        ((CoreConnection *) t)->request_id = request->request_id;
        core_transport.n_registers += request->kind == DPS_REQUEST_REGISTER;
        return 0;
}

static inline Transport *core_transport_free(Transport *t) {
        if (core_transport.last == (CoreConnection *) t)
                core_transport.last = NULL;
        core_transport.n_open--;
        free(t);
        return NULL;
}

static inline void core_rest(TransportClass *class) {
}

static inline int core_get_transport(Transports *t, TransportChoice way, TransportClass **ret, DpsError *e) {
        *ret = &core_transport.class;
        return 0;
}

static inline void core_rest_all(Transports *t) {
}

static Transports core_transports = { core_get_transport, core_rest_all };

/* ---- the key ---- */

static struct {
        DpsErrorId error; /* of the next look */
        char fingerprint[FINGERPRINT_SIZE];
        unsigned n_loads;
} core_key;

static inline unsigned core_key_count(const Settings *s) {
        return 1;
}

static inline int core_key_load(Credential *c, const CredentialSource *source, DpsError *e) {
        core_key.n_loads++;
        if (core_key.error != DPS_ERROR_NONE) {
                dps_error_set(e, core_key.error, DPS_STEP_CONFIG, "the key cannot be had");
                return -ENOKEY;
        }
        memcpy(c->fingerprint, core_key.fingerprint, sizeof(c->fingerprint));
        return 0;
}

static inline int core_key_sign(const Credential *c, const char *resource, uint64_t expiry_sec,
                                const char *policy, char **ret, DpsError *e) {
        return asprintf(ret, "%s by %.8s until %llu", resource, c->fingerprint,
                        (unsigned long long) expiry_sec) < 0
                       ? -ENOMEM
                       : 0;
}

static inline void core_key_done(Credential *c) {
}

static CredentialClass core_key_class = { .method = METHOD_SYMMETRIC_KEY,
                                          .size = sizeof(Credential),
                                          .count = core_key_count,
                                          .load = core_key_load,
                                          .sign = core_key_sign,
                                          .done = core_key_done };

static inline void core_change_key(char digit) {
        memset(core_key.fingerprint, digit, sizeof(core_key.fingerprint) - 1);
}

/* ---- the owner ---- */

static struct {
        void (*on_files)(void *userdata); /* of the last files that are watched */
        void *files_userdata;
        unsigned n_added, n_removed, n_changed, n_turns;
        bool watches_network;
        uint64_t jobs[CORE_EVENTS_MAX]; /* that have ended, and how */
        bool job_ok[CORE_EVENTS_MAX];
        unsigned n_jobs;
} core_told;

static inline int core_watch_files(char *const *paths, void (*handler)(void *), void *handler_userdata,
                                   void *userdata, FileWatch **ret) {
        if (endswith(paths[0], "/.")) /* a directory for programs */
                return 0;
        core_told.on_files = handler;
        core_told.files_userdata = handler_userdata;
        return 0;
}

static inline FileWatch *core_unwatch_files(FileWatch *w) {
        return NULL;
}

static inline int core_find_gateway(void *userdata, char **ret) {
        *ret = strdup("10.0.0.1");
        return 0;
}

static const CoreOperations core_operations = { .watch_files = core_watch_files,
                                                .unwatch_files = core_unwatch_files,
                                                .find_gateway = core_find_gateway };

static inline void core_on_added(Identity *i, void *userdata) {
        core_told.n_added++;
}

static inline void core_on_removed(Identity *i, void *userdata) {
        core_told.n_removed++;
}

static inline void core_on_changed(Identity *i, void *userdata) {
        core_told.n_changed++;
}

static inline void core_on_job_ended(Identity *i, uint64_t job, bool ok, const char *message,
                                     void *userdata) {
        assert_true(core_told.n_jobs < CORE_EVENTS_MAX);
        core_told.jobs[core_told.n_jobs] = job;
        core_told.job_ok[core_told.n_jobs++] = ok;
}

static inline void core_on_watch_network(bool on, void *userdata) {
        core_told.watches_network = on;
}

static inline void core_on_turned(Manager *m, void *userdata) {
        core_told.n_turns++;
}

static const ManagerHandlers core_handlers = {
        .identity_added = core_on_added,
        .identity_removed = core_on_removed,
        .identity_changed = core_on_changed,
        .job_ended = core_on_job_ended,
        .watch_network = core_on_watch_network,
        .turned = core_on_turned,
};

/* ---- the core ---- */

static TimedWorld world;
static Manager *manager;

static inline int core_look_up_group(const char *name, gid_t *ret) {
        *ret = getegid();
        return 0;
}

static inline void core_start(void) {
        ManagerParts parts = { .world = &world.world,
                               .state = disk.state,
                               .notes = disk.notes,
                               .runtime = disk.runtime,
                               .transports = &core_transports,
                               .lookup_group = core_look_up_group,
                               .operations = &core_operations };

        memset(&core_told, 0, sizeof(core_told));
        assert_int_equal(manager_new(&parts, &core_handlers, NULL, &manager), 0);
}

static inline void core_stop(void) {
        manager_stop(manager);
        manager = manager_free(manager);
        assert_int_equal(core_transport.n_open, 0);
}

static inline int core_set_up(void **state) {
        log_set_level(LOG_EMERG); /* what is logged is another test's */
        timed_world_init(&world);
        small_disk_init();
        memset(&core_transport, 0, sizeof(core_transport));
        core_transport.class = (TransportClass){ .name = "fake",
                                                 .connect = core_connect,
                                                 .send = core_send,
                                                 .free = core_transport_free,
                                                 .rest = core_rest };
        memset(&core_key, 0, sizeof(core_key));
        core_change_key('a');
        core_key_class.is_slow = false;
        credential_set_class(METHOD_SYMMETRIC_KEY, &core_key_class);
        core_start();
        return 0;
}

static inline int core_tear_down(void **state) {
        memset(world.holds, 0, sizeof(world.holds));
        core_stop();
        timed_world_done(&world);
        small_disk_done();
        return 0;
}

/* All that can be done without time passing. */
static inline void settle(void) {
        timed_world_pass(&world, 1);
}

static inline void configure_at(const char *name, const char *registration_id, const char *endpoint) {
        char text[256];

        (void) snprintf(text, sizeof(text),
                        "Provisioning IdScope 0ne00000001\nProvisioning RegistrationId %s\n"
                        "Provisioning Endpoint %s\nAttestation Key /nowhere/key\n",
                        registration_id, endpoint);
        assert_int_equal(manager_configure(manager, name, settings_from_lines(name, text), NULL), 0);
        manager_look_again(manager);
        settle();
}

static inline void configure(const char *name, const char *registration_id) {
        configure_at(name, registration_id, "dps.example");
}

static inline void log_in(void) {
        assert_non_null(core_transport.last);
        if (core_transport.last->is_ready)
                return;
        core_transport.last->is_ready = true;
        core_transport.last->handlers.on_ready(core_transport.last->userdata);
}

static inline void answer(const DpsReply *reply) {
        DpsReply r = *reply;

        log_in();
        assert_non_null(core_transport.last);
        r.request_id = core_transport.last->request_id;
        core_transport.last->handlers.on_reply(&r, core_transport.last->userdata);
        settle();
}

static inline void answer_assigned(const char *hub) {
        char id[32]; /* a copy, since the connection may be gone before the reply */

        assert_non_null(core_transport.last);
        (void) snprintf(id, sizeof(id), "%s", core_transport.last->registration_id);
        answer(&(DpsReply){ .status = 200,
                            .word = DPS_STATUS_ASSIGNED,
                            .assigned_hub = (char *) hub,
                            .device_id = id,
                            .registration_id = id });
}

static inline void answer_refused(void) {
        answer(&(DpsReply){ .status = 401, .error_code = 401002 });
}

static inline Identity *find(const char *name) {
        Identity *i = manager_find(manager, name);

        assert_non_null(i);
        return i;
}

static inline void assert_state(const char *name, IdentityState state) {
        assert_string_equal(identity_state_to_string(find(name)->state), identity_state_to_string(state));
}

static inline uint64_t request(const char *name) {
        uint64_t job = 0, retry;

        assert_int_equal(identity_reprovision(find(name), false, &job, &retry), 0);
        settle();
        return job;
}

/* A published file; NULL: there is none. The caller frees it. */
static inline char *published_text(const char *name, const char *file) {
        Folder *directory;
        char *text;

        if (folder_open_folder(disk.runtime, name, &directory) < 0)
                return NULL;
        text = small_disk_text(directory, file);
        folder_free(directory);
        return text;
}

static inline bool is_published(const char *name, const char *file, const char *word) {
        _cleanup_(freep) char *text = published_text(name, file);

        return text && strstr(text, word);
}
