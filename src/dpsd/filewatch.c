/* SPDX-License-Identifier: MIT */
#include "dpsd/filewatch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/log.h"

/*
 * We watch the directory of each path and of each symbolic link on the way to the file. If such a directory
 * is missing, or we may not read it, we watch its nearest ancestor instead. Half a second after any event
 * there, we look at the files themselves, because a file also changes when a link to its directory is
 * replaced (as Kubernetes does), or the directory is.
 *
 * The worker finds the directories, and looks at the files once they are watched: a change in between is seen twice,
 * rather than never.
 *
 * A directory of ours is watched itself: before it can be removed, it is renamed or emptied. The directory above it, such
 * as /run, belongs to others too, who would wake us whenever they make or remove a file there. So it is only watched for
 * its own end. It is watched for everything only if a link in it leads to ours, or while ours is missing. The kernel does
 * not report the removal of a directory that we have open, so the removal of an empty one may go unnoticed.
 */

#define DEBOUNCE_USEC (500 * USEC_PER_MSEC)
/* The handler is called at least this often during a burst that does not end. */
#define BURST_MAX_USEC (5 * USEC_PER_SEC)

/* If a watch cannot be set, since the system's limit is reached, the files are checked at this interval. */
#define LOOK_AGAIN_USEC USEC_PER_MINUTE

#define LINKS_MAX 8

typedef enum Scope {
        SCOPE_FILES,     /* what is in a directory */
        SCOPE_DIRECTORY, /* a directory of ours */
        SCOPE_ABOVE,     /* the one above it */
        _SCOPE_MAX,
} Scope;

#define MASK_ABOVE (IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR)
static const uint32_t masks[_SCOPE_MAX] = {
        [SCOPE_FILES] =
                MASK_ABOVE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB,
        [SCOPE_DIRECTORY] = MASK_ABOVE | IN_DELETE,
        [SCOPE_ABOVE] = MASK_ABOVE,
};

/* What can be seen of a file without opening it; all zero: it does not exist. All members have one type, so
 * that there is no padding. */
typedef struct Look {
        uint64_t device, inode, size, mode, uid, gid;
        uint64_t modified_sec, modified_nsec, changed_sec, changed_nsec;
} Look;

/* The task of the worker. */
typedef struct Scan {
        FileWatch *watch; /* used only in the loop */
        int r;
        bool is_watched; /* the files are looked at, after their directories were found */
        bool are_directories;
        char **paths, **lists[_SCOPE_MAX];
        Look *looks;
} Scan;

struct FileWatch {
        sd_event *event; /* borrowed */
        World *world;
        file_watch_handler_t handler;
        void *userdata;

        char **paths;
        bool are_directories;
        Look *looks; /* one for each path: what the handler was told last; NULL: never looked at yet */
        sd_event_source **sources; /* one for each directory; NULL: it cannot be watched */
        size_t n_sources;
        Work *scan;
        bool is_to_scan; /* again */

        sd_event_source *timer;    /* NULL: nothing has changed yet */
        uint64_t burst_until_usec; /* CLOCK_BOOTTIME; 0: there is none */
        bool is_certain; /* an event named one of our files, so it counts as changed whatever it looks like */
};

static int file_watch_on_inotify(sd_event_source *source, const struct inotify_event *e, void *userdata);

static void look_at(const char *path, bool is_directory, Look *ret) {
        struct stat st;

        *ret = (Look){ 0 };
        if (stat(path, &st) < 0)
                return;

        *ret = (Look){ .device = st.st_dev, .inode = st.st_ino };
        if (is_directory) /* the rest changes with what is in it */
                return;
        *ret = (Look){
                .device = st.st_dev,
                .inode = st.st_ino,
                .size = (uint64_t) st.st_size,
                .mode = st.st_mode,
                .uid = st.st_uid,
                .gid = st.st_gid,
                .modified_sec = (uint64_t) st.st_mtim.tv_sec,
                .modified_nsec = (uint64_t) st.st_mtim.tv_nsec,
                .changed_sec = (uint64_t) st.st_ctim.tv_sec,
                .changed_nsec = (uint64_t) st.st_ctim.tv_nsec,
        };
}

static const char *name_of(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* The directory of `path`, or its nearest ancestor that exists and may be watched. */
static int nearest_directory(const char *path, char **ret) {
        _cleanup_(freep) char *directory = path_directory(path);
        struct stat st;

        while (directory) {
                char *above;

                if (stat(directory, &st) >= 0 && S_ISDIR(st.st_mode) && access(directory, R_OK) >= 0) {
                        *ret = TAKE_PTR(directory);
                        return 0;
                }
                if (streq(directory, "/") || streq(directory, "."))
                        return -ENOENT;

                above = path_directory(directory);
                free(directory);
                directory = above;
        }
        return -ENOMEM;
}

/* Takes `directory`, unless it is listed already. */
static int add_directory(char ***list, char *directory) {
        if (!strv_contains(*list, directory))
                return strv_push(list, directory);
        free(directory);
        return 0;
}

/* 0: it is a link, or it is not there. */
static int collect_our_directory(const char *path, char **lists[static _SCOPE_MAX]) {
        struct stat st;
        char *copy;
        int r;

        if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                return 0;
        copy = strdup(path);
        r = copy ? add_directory(&lists[SCOPE_DIRECTORY], copy) : -ENOMEM;
        if (r < 0)
                return r;
        copy = path_directory(path);
        r = copy ? add_directory(&lists[SCOPE_ABOVE], copy) : -ENOMEM;
        return r < 0 ? r : 1;
}

static int collect_directories(const char *path, bool is_directory, char **lists[static _SCOPE_MAX]) {
        _cleanup_(freep) char *step = strdup(path);
        int r;

        for (unsigned n_links = 0; step && n_links <= LINKS_MAX; n_links++) {
                _cleanup_(freep) char *next = NULL;
                char *directory;

                r = is_directory ? collect_our_directory(step, lists) : 0;
                if (r != 0)
                        return MIN(r, 0);
                r = nearest_directory(step, &directory);
                if (r >= 0)
                        r = add_directory(&lists[SCOPE_FILES], directory);
                if (r == -ENOMEM)
                        return r;

                r = path_follow_link(step, &next);
                if (r < 0)
                        return r == -ENOMEM ? r : 0;
                free(step);
                step = TAKE_PTR(next);
        }
        return step ? 0 : -ENOMEM;
}

static void scan_free(void *task) {
        Scan *s = task;

        strv_free(s->paths);
        for (Scope k = 0; k < _SCOPE_MAX; k++)
                strv_free(s->lists[k]);
        free(s->looks);
        free(s);
}

static void scan_run(void *task) {
        Scan *s = task;

        for (size_t i = 0; s->r >= 0 && s->paths[i]; i++) {
                if (!s->is_watched)
                        s->r = collect_directories(s->paths[i], s->are_directories, s->lists);
                look_at(s->paths[i], s->are_directories, &s->looks[i]);
        }
}

static void file_watch_drop_sources(FileWatch *w) {
        for (size_t i = 0; i < w->n_sources; i++)
                sd_event_source_disable_unref(w->sources[i]);
        free(w->sources);
        w->sources = NULL;
        w->n_sources = 0;
}

/* Fails if any directory cannot be watched. The worker has just looked at them all, and none hung. */
static int file_watch_set_sources(FileWatch *w, const Scan *s) {
        int r, error = 0;
        size_t n = 0;

        file_watch_drop_sources(w);
        if (s->r < 0)
                return s->r;
        for (Scope k = 0; k < _SCOPE_MAX; k++)
                n += strv_length(s->lists[k]);
        w->sources = calloc(n + 1, sizeof(*w->sources));
        if (!w->sources)
                return -ENOMEM;
        for (Scope k = 0; k < _SCOPE_MAX; k++)
                STRV_FOREACH(directory, s->lists[k]) {
                        r = sd_event_add_inotify(w->event, &w->sources[w->n_sources++], *directory, masks[k],
                                                 file_watch_on_inotify, w);
                        if (r < 0)
                                error = r;
                }
        return w->n_sources > 0 ? error : -ENOENT;
}

static int file_watch_on_timer(sd_event_source *source, uint64_t usec, void *userdata);

/* Most files never change, so the timer is created on the first change. */
static void file_watch_arm(FileWatch *w, uint64_t usec) {
        if (!w->timer) {
                (void) sd_event_add_time(w->event, &w->timer, CLOCK_BOOTTIME, usec, 0, file_watch_on_timer,
                                         w);
                return;
        }

        (void) sd_event_source_set_time(w->timer, usec);
        (void) sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

/* If a watch cannot be set, time takes its place. */
static void file_watch_set(FileWatch *w, const Scan *s) {
        static bool is_told;
        int r;

        r = file_watch_set_sources(w, s);
        if (r >= 0)
                return;
        if (!is_told)
                log_warning("not all files and directories can be watched (%s): a key, a certificate or a "
                            "directory that is replaced is noticed a minute later; the limits are "
                            "fs.inotify.max_user_instances and max_user_watches, see sysctl(8)",
                            strerror(-r));
        is_told = true;
        file_watch_arm(w, now_usec(CLOCK_BOOTTIME) + LOOK_AGAIN_USEC);
}

static void file_watch_scan(FileWatch *w, bool is_watched);

/* Returns whether the files have changed since the last look, if there was one. */
static bool file_watch_take_looks(FileWatch *w, Scan *s) {
        size_t size = strv_length(w->paths) * sizeof(*w->looks);
        bool changed = w->looks && (w->is_certain || memcmp(w->looks, s->looks, size) != 0);

        free(w->looks);
        w->looks = TAKE_PTR(s->looks);
        w->is_certain = false;
        return changed;
}

static void scan_done(void *task) {
        Scan *s = task;
        FileWatch *w = s->watch;
        bool is_watched = s->is_watched, changed = false;

        w->scan = NULL;
        if (!is_watched)
                file_watch_set(w, s);
        if (is_watched || (!w->looks && s->r >= 0))
                changed = file_watch_take_looks(w, s);
        scan_free(s);
        if (!is_watched || w->is_to_scan)
                file_watch_scan(w, !is_watched);
        if (changed)
                w->handler(w->userdata); /* may free the watch */
}

static const char *scan_whose(const void *task) {
        const Scan *s = task;

        return s->paths[0];
}

/* After a scan that hangs there is no other, which would hang, too. */
static void file_watch_scan(FileWatch *w, bool is_watched) {
        static const WorkClass class = { .queue = WORK_FILES,
                                         .run = scan_run,
                                         .done = scan_done,
                                         .free = scan_free,
                                         .whose = scan_whose };
        Scan *s = w->scan ? NULL : calloc(1, sizeof(*s));

        w->is_to_scan = w->scan || (is_watched && w->is_to_scan);
        if (w->scan)
                return;
        if (s) {
                s->watch = w;
                s->is_watched = is_watched;
                s->are_directories = w->are_directories;
                s->looks = calloc(strv_length(w->paths), sizeof(*s->looks));
                if (s->looks && strv_extend(&s->paths, w->paths) >= 0 &&
                    work_begin(w->world, &class, s, &w->scan) >= 0)
                        return;
                scan_free(s);
        }
        file_watch_arm(w, now_usec(CLOCK_BOOTTIME) + LOOK_AGAIN_USEC);
}

static int file_watch_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        FileWatch *w = userdata;

        w->burst_until_usec = 0;
        file_watch_scan(w, false);
        return 0;
}

static int file_watch_on_inotify(sd_event_source *source, const struct inotify_event *e, void *userdata) {
        uint64_t now = now_usec(CLOCK_BOOTTIME);
        FileWatch *w = userdata;
        bool is_ours = false;

        STRV_FOREACH(path, w->paths)
                is_ours = is_ours || (e->len > 0 && streq(name_of(*path), e->name));

        /* Events of other files in the directory, however frequent, do not delay the check. */
        if (w->burst_until_usec > 0 && !is_ours)
                return 0;

        w->is_certain = w->is_certain || is_ours;
        if (w->burst_until_usec == 0)
                w->burst_until_usec = now + BURST_MAX_USEC;
        file_watch_arm(w, MIN(now + DEBOUNCE_USEC, w->burst_until_usec));
        return 0;
}

static int watch_new(sd_event *event, World *world, char *const *paths, bool are_directories,
                     file_watch_handler_t handler, void *userdata, FileWatch **ret) {
        _cleanup_(file_watch_freep) FileWatch *w = NULL;
        int r;

        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->event = event;
        w->world = world;
        w->handler = handler;
        w->userdata = userdata;
        w->are_directories = are_directories;
        r = strv_extend(&w->paths, paths);
        if (r < 0)
                return r;
        if (!w->paths)
                return -ENOENT;
        file_watch_scan(w, false);

        *ret = TAKE_PTR(w);
        return 0;
}

int file_watch_new(sd_event *event, World *world, char *const *paths, file_watch_handler_t handler,
                   void *userdata, FileWatch **ret) {
        return watch_new(event, world, paths, false, handler, userdata, ret);
}

int file_watch_new_directories(sd_event *event, World *world, char *const *paths,
                               file_watch_handler_t handler, void *userdata, FileWatch **ret) {
        return watch_new(event, world, paths, true, handler, userdata, ret);
}

FileWatch *file_watch_free(FileWatch *w) {
        if (!w)
                return NULL;

        work_forget(w->scan);
        file_watch_drop_sources(w);
        sd_event_source_disable_unref(w->timer);
        strv_free(w->paths);
        free(w->looks);
        free(w);
        return NULL;
}
