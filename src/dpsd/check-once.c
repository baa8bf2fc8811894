/* SPDX-License-Identifier: MIT */

/* The module "check": the checks, and `dpsd --check`, which runs them in a process of its own. */

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "basic/contract.h"
#include "basic/files.h"
#include "basic/folder-directory.h"
#include "basic/module.h"
#include "basic/text.h"
#include "basic/world-event.h"
#include "build-config.h"
#include "check/inspection.h"
#include "config/twins.h"
#include "dpsd/clock.h"
#include "dpsd/log.h"
#include "transport/transports.h"

#define DAEMON_NAME "dpsd"
#define DAEMON_CREDENTIALS "/run/credentials/dpsd.service"
#define CONNECTION_SIZE_MAX (1024U * 1024)

typedef struct Run {
        sd_event *event;
        World *world;
        Transports *transports;
        Window *window;
        Clock *clock;
        Folder *state;       /* locked; NULL: it cannot be … */
        InspectionWish wish; /* … and then there is no log-in */
        char **directories, **names;
        Twins twins;

        Inspection *inspection;
        int r; /* of it, when it has ended */
} Run;

static void run_done(Run *u) {
        inspection_free(u->inspection);
        twins_done(&u->twins);
        strv_free(u->directories);
        strv_free(u->names);
        clock_free(u->clock);
        window_free(u->window);
        transports_free(u->transports);
        folder_free(u->state);
        world_free(u->world);
        sd_event_unref(u->event);
}

/* Root can read everything, so all files are read as the daemon's user, if that user exists. */
static int become_daemon(void) {
        const struct passwd *user = geteuid() == 0 ? getpwnam(DAEMON_NAME) : NULL;

        if (access(DAEMON_CREDENTIALS, F_OK) == 0)
                (void) setenv("CREDENTIALS_DIRECTORY", DAEMON_CREDENTIALS, false);
        if (!user)
                return 0;
        if (initgroups(DAEMON_NAME, user->pw_gid) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0)
                return -errno;
        return 0;
}

static const char *directory(const char *variable, const char *otherwise) {
        const char *value = secure_getenv(variable);

        return isempty(value) ? otherwise : value;
}

/* A dpsd that cannot be reached over D-Bus may be registering: a log-in beside it would displace it. */
static void lock_state(Run *u) {
        const char *path = directory("STATE_DIRECTORY", DPS_STATE_DIR);
        pid_t pid;
        int r = access(path, F_OK) < 0 ? -errno : directory_folder_new(path, 0700, &u->state);

        if (r >= 0)
                r = directory_folder_lock(u->state, ".lock", &pid);
        if (r == -EBUSY)
                u->wish.no_login = "a dpsd runs that D-Bus does not reach, and may be registering";
        else if (r < 0 && r != -ENOENT)
                u->wish.no_login = "not permitted to look whether dpsd is registering: try it as root";
}

static void on_clock(ClockEvent event, void *userdata) {
}

static int make(Run *u) {
        int r;

        r = sd_event_new(&u->event);
        if (r >= 0)
                r = world_event_new(u->event, &u->world);
        if (r >= 0)
                r = transports_new(u->event, u->world, &u->transports);
        if (r >= 0)
                r = window_new(u->world, &u->window);
        if (r >= 0)
                r = clock_new(u->world, NULL, on_clock, u, &u->clock);
        return r < 0 ? r : conf_directories(NULL, &u->directories);
}

/* The hub as it was told to programs. */
static void find_hub(const char *name, CheckHub *ret) {
        _cleanup_(json_freep) json_object *o = NULL;
        _cleanup_(erase_and_freep) char *text = NULL;
        _cleanup_(freep) char *path =
                text_format("%s/%s/connection.json", directory("RUNTIME_DIRECTORY", "/run/dps"), name);
        const char *hub, *device_id, *why;
        size_t size;

        if (!path || file_read(path, CONNECTION_SIZE_MAX, &text, &size) < 0 ||
            json_read_object(text, size, CONNECTION_SIZE_MAX, &o, &why) < 0)
                return;
        hub = json_string(json_member(o, "hub"));
        device_id = json_string(json_member(o, "deviceId"));
        if (!isempty(hub) && !isempty(device_id)) {
                ret->host = strdup(hub);
                ret->device_id = strdup(device_id);
        }
}

static int make_subject(Run *u, const char *name, CheckSubject **ret) {
        const char *keeper = twins_keeper_of(&u->twins, name);
        CheckSubject *s;
        int r;

        r = check_subject_new(name, &s);
        if (r < 0)
                return r;
        s->is_synchronized = clock_is_synchronized(u->clock);
        s->behind_usec = clock_behind_usec(u->clock);
        if (!isempty(name))
                find_hub(name, &s->hub);
        s->twin = keeper ? strdup(keeper) : NULL;
        r = keeper && !s->twin ? -ENOMEM : strv_extend(&s->directories, u->directories);
        if (r >= 0)
                *ret = s;
        else
                check_subject_unref(s);
        return r;
}

static int print(const Run *u, const Checks *checks, const CheckSubject *s) {
        _cleanup_(freep) char *json = NULL;
        int r = s->r >= 0 ? check_to_json(checks, s, &json) : s->r;

        if (r < 0)
                return r;
        return printf("%s\n", json) < 0 || fflush(stdout) != 0 ? -EIO : 0;
}

static void on_inspected(Inspection *i, const Checks *checks, const CheckSubject *s, void *userdata) {
        Run *u = userdata;

        u->r = print(u, checks, s);
        if (u->r >= 0 && isempty(s->name))
                u->r = strv_extend(&u->names, s->names);
        u->inspection = inspection_free(i);
}

static int inspect(Run *u, const char *name) {
        const InspectionParts parts = { u->world, u->transports, u->window };
        CheckSubject *s;
        int r;

        r = make_subject(u, name, &s);
        if (r < 0)
                return r;
        r = inspection_new(&parts, s, &u->wish, on_inspected, u, &u->inspection);
        while (r >= 0 && u->inspection)
                r = sd_event_run(u->event, UINT64_MAX);
        return r < 0 ? r : u->r;
}

static int inspect_all(Run *u, char *const *names) {
        int r;

        r = inspect(u, "");
        if (r >= 0)
                r = twins_find(u->directories, &u->twins);
        if (r < 0)
                return r;
        STRV_FOREACH(name, names && names[0] ? names : u->names) {
                r = conf_name_is_valid(*name) ? inspect(u, *name) : -ENOENT;
                if (r == -ENOENT)
                        log_error(
                                "there is no %s.conf, or it is masked; dps.conf(5) says where it is searched",
                                *name);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_once(char *const *names, bool offline) {
        _cleanup_(run_done) Run u = { .wish = { .offline = offline } };
        int r;

        r = become_daemon();
        if (r >= 0)
                r = make(&u);
        if (r >= 0) {
                lock_state(&u);
                r = inspect_all(&u, names);
        }
        if (r == -ENOENT)
                return EXIT_NO_IDENTITY;
        if (r < 0)
                log_error("the check cannot be run: %s", strerror(-r));
        return r < 0 ? EXIT_FAILED : EXIT_DONE;
}

static const CheckClass class = {
        .subject_new = check_subject_new,
        .subject_unref = check_subject_unref,
        .to_json = check_to_json,
        .inspection_new = inspection_new,
        .inspection_free = inspection_free,
        .give_way = inspection_give_way,
        .once = check_once,
};

MODULE_DEFINE(CHECK_MODULE, CHECK_MODULE_KIND, &class);
