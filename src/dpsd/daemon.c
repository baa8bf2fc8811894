/* SPDX-License-Identifier: MIT */
#include "dpsd/daemon.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "basic/contract.h"
#include "basic/files.h"
#include "basic/folder-directory.h"
#include "basic/text.h"
#include "basic/times.h"
#include "basic/world-event.h"
#include "build-config.h"
#include "dpsd/api.h"
#include "dpsd/bus.h"
#include "dpsd/clock-jump.h"
#include "dpsd/filewatch.h"
#include "dpsd/loader.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"
#include "dpsd/network.h"
#include "dpsd/notify.h"
#include "dpsd/places.h"
#include "transport/transports.h"

#define READY_PATIENCE_USEC (3 * USEC_PER_SEC)
#define RUNTIME_DIRECTORY_DEFAULT "/run/dps"
#define LOCK_NAME ".lock"
#define NOTES_NAME ".waits"

/* The steps to READY=1. */
typedef enum Readiness {
        READINESS_WAITS, /* for the bus, and until cached assignments are served; not for long */
        READINESS_BUS,   /* the bus has given us our name, or is not needed */
        READINESS_TOLD,
        _READINESS_MAX,
} Readiness;

struct Daemon {
        sd_event *event;
        World *world;
        Folder *state, *notes, *runtime;
        Transports *transports;
        Manager *manager;
        Loader loader;

        Notify *notify;
        Network *network;
        Places *places;
        ClockJump *clock_jump;
        ApiDoor api;
        Bus *bus; /* NULL: with --once, or when we are stopping */

        Readiness readiness;
        sd_event_source *patience; /* limits how long READY=1 is delayed */
        bool once;
};

/* Ends the loop with this exit code. All records are on disk when this returns. */
static void leave(Daemon *d, int code) {
        notify_stopping(d->notify);
        d->bus = bus_stop(d->bus);
        api_door_close(&d->api);
        manager_checks_end(d->manager);
        manager_stop(d->manager);
        (void) sd_event_exit(d->event, code);
}

/* ---- READY=1 ---- */

static void tell_ready(Daemon *d) {
        d->readiness = READINESS_TOLD;
        d->patience = sd_event_source_disable_unref(d->patience);
        notify_ready(d->notify);
        log_info("dpsd " DPS_VERSION " is ready: %u of %zu identities assigned",
                 manager_n_assigned(d->manager), d->manager->n_identities);
}

static void look_if_ready(Daemon *d) {
        if (d->readiness == READINESS_BUS && manager_is_serving(d->manager))
                tell_ready(d);
}

static int on_patience(sd_event_source *s, uint64_t due_usec, void *userdata) {
        Daemon *d = userdata;

        if (d->readiness != READINESS_TOLD)
                tell_ready(d);
        return 0;
}

static void on_bus_owned(void *userdata) {
        Daemon *d = userdata;

        if (d->readiness == READINESS_WAITS)
                d->readiness = READINESS_BUS;
        manager_touch(d->manager);
}

/* ---- reports of the manager ---- */

static void on_identity_added(Identity *i, void *userdata) {
        bus_identity_added(((Daemon *) userdata)->bus, i);
}

static void on_identity_removed(Identity *i, void *userdata) {
        Daemon *d = userdata;

        api_door_removed(&d->api, i);
        bus_identity_removed(d->bus, i);
}

static void on_identity_changed(Identity *i, void *userdata) {
        Daemon *d = userdata;

        manager_checks_on_changed(d->manager, i);
        api_door_changed(&d->api, i);
        bus_identity_changed(d->bus, i);
}

static void on_job_ended(Identity *i, uint64_t job, bool ok, const char *error, void *userdata) {
        bus_job_ended(((Daemon *) userdata)->bus, i, job, ok, error);
}

static void watch_network(bool on, void *userdata) {
        network_watch(((Daemon *) userdata)->network, on);
}

static void on_turned(Manager *m, void *userdata) {
        Daemon *d = userdata;
        char status[512];
        bool is_assigned;

        bus_manager_changed(d->bus);
        manager_describe(m, status, sizeof(status));
        notify_status(d->notify, status);
        look_if_ready(d);
        loader_on_turned(&d->loader);
        if (d->once && manager_is_settled(m, d->loader.only, &is_assigned))
                leave(d, is_assigned ? EXIT_DONE : EXIT_NOT_ASSIGNED);
}

static const ManagerHandlers manager_handlers = {
        .identity_added = on_identity_added,
        .identity_removed = on_identity_removed,
        .identity_changed = on_identity_changed,
        .job_ended = on_job_ended,
        .watch_network = watch_network,
        .turned = on_turned,
};

/* ---- operations for the manager ---- */

static int watch_files(char *const *paths, void (*handler)(void *), void *handler_userdata, void *userdata,
                       FileWatch **ret) {
        Daemon *d = userdata;

        return file_watch_new(d->event, d->world, paths, handler, handler_userdata, ret);
}

static int find_gateway(void *userdata, char **ret) {
        return network_find_gateway(ret);
}

static const CoreOperations core_operations = { .watch_files = watch_files,
                                                .unwatch_files = file_watch_free,
                                                .find_gateway = find_gateway };

/* ---- events ---- */

static uint64_t reload(Daemon *d) {
        notify_reloading(d->notify);
        places_look(d->places);
        return loader_begin(&d->loader);
}

static int tell_loaded(Daemon *d, int r) {
        if (r < 0) {
                log_error(
                        "not all of the configuration can be read (%s), the last good one stays in force for "
                        "the rest",
                        strerror(-r));
                return d->loader.report.faults.has_errors ? -EBADMSG : r;
        }

        log_info("the configuration was read again: %zu %s", d->manager->n_identities,
                 d->manager->n_identities == 1 ? "identity" : "identities");
        return d->loader.report.faults.has_errors ? -EBADMSG : 0;
}

static void on_loaded(int r, void *userdata) {
        Daemon *d = userdata;

        api_door_look(&d->api);
        r = tell_loaded(d, r);
        if (d->readiness == READINESS_TOLD && d->loader.n_loads == d->loader.n_wanted)
                notify_ready(d->notify);
        bus_reloaded(d->bus, d->loader.n_loads, r, &d->loader.report);
}

static uint64_t on_reload_request(void *userdata) {
        return reload(userdata);
}

static void on_network(void *userdata) {
        manager_on_network(((Daemon *) userdata)->manager);
}

static void on_conf_within_reach(void *userdata) {
        (void) reload(userdata);
}

static const LoaderHandlers loader_handlers = {
        .on_within_reach = on_conf_within_reach,
        .on_loaded = on_loaded,
};

static void on_mount(void *userdata) {
        loader_look(&((Daemon *) userdata)->loader);
}

static void on_other_state(void *userdata) {
        manager_save_all(((Daemon *) userdata)->manager);
}

static void on_other_runtime(void *userdata) {
        manager_publish_all(((Daemon *) userdata)->manager);
}

static const PlacesHandlers places_handlers = {
        .on_state = on_other_state,
        .on_runtime = on_other_runtime,
        .on_mount = on_mount,
};

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        (void) reload(userdata);
        return 0;
}

static int on_terminate(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        leave(userdata, EXIT_DONE);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t due_usec, void *userdata) {
        log_error("not provisioned within the time given");
        leave(userdata, EXIT_TIMED_OUT);
        return 0;
}

/* ---- begin and end ---- */

static const char *directory(const char *variable, const char *otherwise) {
        const char *value = secure_getenv(variable);

        return isempty(value) ? otherwise : value;
}

/* Signals are blocked before the first thread is created. */
static int add_signals(Daemon *d) {
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
                sd_event_source *source;
                int r;

                r = sd_event_add_signal(d->event, &source, signals[k].signal, signals[k].handler, d);
                if (r >= 0)
                        r = sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IMPORTANT);
                if (r >= 0)
                        r = sd_event_source_set_floating(source, true);
                if (r < 0)
                        return r;
                sd_event_source_unref(source);
        }
        return 0;
}

static int open_state(Daemon *d) {
        const char *path = directory("STATE_DIRECTORY", DPS_STATE_DIR);
        pid_t pid = 0;
        int r;

        r = directory_folder_new(path, 0700, &d->state);
        if (r >= 0)
                r = directory_folder_lock(d->state, LOCK_NAME, &pid);
        if (r == -EBUSY)
                log_error("%s is in use by another dpsd, process %d: stop that one, or set STATE_DIRECTORY",
                          path, (int) pid);
        else if (r < 0)
                log_error("%s cannot be used for the state: %s", path, strerror(-r));
        return r;
}

/* Without this folder, a daemon that was killed merely asks DPS a little too soon. */
static int open_notes(Daemon *d, const char *runtime) {
        _cleanup_(folder_freep) Folder *made = NULL;
        _cleanup_(freep) char *path = text_format("%s/" NOTES_NAME, runtime);

        if (!path)
                return -ENOMEM;
        if (folder_make_folder(d->runtime, NOTES_NAME, 0700, (gid_t) -1, &made) >= 0)
                (void) directory_folder_new(path, 0700, &d->notes);
        return 0;
}

static int open_runtime(Daemon *d) {
        const char *path = directory("RUNTIME_DIRECTORY", RUNTIME_DIRECTORY_DEFAULT);
        int r;

        r = directory_make_path(path, 0755);
        if (r >= 0)
                r = directory_folder_new(path, 0755, &d->runtime);
        if (r < 0) {
                log_error("%s cannot be used for the files of programs: %s", path, strerror(-r));
                return r;
        }
        return open_notes(d, path);
}

static int make_manager(Daemon *d) {
        ManagerParts parts = {
                .world = d->world,
                .state = d->state,
                .notes = d->notes,
                .runtime = d->runtime,
                .transports = d->transports,
                .operations = &core_operations,
                .operations_userdata = d,
        };
        int r;

        r = manager_new(&parts, &manager_handlers, d, &d->manager);
        if (r < 0)
                return r;
        return loader_init(&d->loader, d->manager, &loader_handlers, d);
}

int daemon_new(Daemon **ret) {
        _cleanup_(daemon_freep) Daemon *d = calloc(1, sizeof(*d));
        int r;

        if (!d)
                return -ENOMEM;
        r = sd_event_new(&d->event);
        if (r < 0)
                return r;
        r = add_signals(d);
        if (r < 0)
                return r;
        r = world_event_new(d->event, &d->world);
        if (r < 0)
                return r;
        r = open_state(d);
        if (r < 0)
                return r;
        r = open_runtime(d);
        if (r < 0)
                return r;
        r = transports_new(d->event, d->world, &d->transports);
        if (r < 0)
                return r;
        r = notify_new(d->event, &d->notify);
        if (r < 0)
                return r;
        r = network_new(d->event, on_network, d, &d->network);
        if (r < 0)
                return r;
        r = make_manager(d);
        if (r < 0)
                return r;
        d->api = (ApiDoor){ .event = d->event, .manager = d->manager, .is_refused = true };
        r = clock_jump_new(d->event, d->manager->core.clock, &d->clock_jump);
        if (r < 0)
                return r;
        r = places_new(d->event, d->world, d->state, d->runtime, d->notes, &places_handlers, d, &d->places);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(d);
        return 0;
}

Daemon *daemon_free(Daemon *d) {
        if (!d)
                return NULL;

        bus_stop(d->bus);
        api_door_close(&d->api);
        loader_done(&d->loader);
        if (d->manager)
                manager_checks_end(d->manager);
        manager_free(d->manager);
        sd_event_source_disable_unref(d->patience);
        clock_jump_free(d->clock_jump);
        places_free(d->places);
        network_free(d->network);
        notify_free(d->notify);
        transports_free(d->transports);
        folder_free(d->notes);
        folder_free(d->runtime);
        folder_free(d->state);
        world_free(d->world);
        sd_event_unref(d->event);
        free(d);
        return NULL;
}

static int load(Daemon *d) {
        int r;

        r = loader_load(&d->loader);
        if (r == -ENOENT && d->loader.only)
                return EXIT_NO_IDENTITY;
        if (r < 0) {
                log_error("cannot start: %s", strerror(-r));
                return EXIT_FAILED;
        }
        if (!d->loader.only && !d->loader.report.faults.is_partial)
                manager_remove_leftovers(d->manager);
        manager_touch(d->manager);
        return EXIT_DONE;
}

int daemon_start(Daemon *d) {
        static const BusHandlers bus_handlers = { .on_owned = on_bus_owned, .reload = on_reload_request };
        int r;

        r = load(d);
        if (r != EXIT_DONE)
                return r;
        api_door_look(&d->api);
        r = sd_event_add_time_relative(d->event, &d->patience, CLOCK_BOOTTIME, READY_PATIENCE_USEC, 0,
                                       on_patience, d);
        if (r >= 0)
                r = bus_start(d->event, d->manager, &bus_handlers, d, &d->bus);
        if (r >= 0)
                return EXIT_DONE;
        log_error("cannot start: %s", strerror(-r));
        return EXIT_FAILED;
}

int daemon_start_once(Daemon *d, char *const *names, uint64_t timeout_usec) {
        int r;

        d->once = true;
        d->readiness = READINESS_BUS;
        d->loader.only = names && names[0] ? names : NULL;
        r = load(d);
        if (r != EXIT_DONE || timeout_usec == USEC_INFINITY)
                return r;
        r = sd_event_add_time_relative(d->event, NULL, CLOCK_BOOTTIME, timeout_usec, 0, on_timeout, d);
        if (r >= 0)
                return EXIT_DONE;
        log_error("cannot start: %s", strerror(-r));
        return EXIT_FAILED;
}

int daemon_run(Daemon *d) {
        int r;

        r = sd_event_loop(d->event);
        if (r >= 0)
                return r;
        log_error("the event loop has failed: %s", strerror(-r));
        return EXIT_FAILED;
}

sd_event *daemon_event(const Daemon *d) {
        return d->event;
}

Manager *daemon_manager(const Daemon *d) {
        return d->manager;
}
