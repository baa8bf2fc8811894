/* SPDX-License-Identifier: MIT */
#include "dpsd/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/conf.h"
#include "config/why.h"
#include "dpsd/writer.h"

#define SUFFIX ".json"
#define LOCK_NAME ".lock"
#define NOTES_NAME ".waits"

struct Store {
        sd_event *event;
        char *path;
        int directory_fd, lock_fd; /* -1: there can be none, for now */
        int notes_fd;              /* -1: there can be none */
        Writer *writer;            /* from the first save on */
};

static int file_name(const char *name, const char *suffix, char **ret) {
        char *file;

        if (!conf_name_is_valid(name))
                return -EINVAL;
        if (asprintf(&file, "%s" SUFFIX "%s", name, suffix) < 0)
                return -ENOMEM;
        *ret = file;
        return 0;
}

/* --- the directory ------------------------------------------------------------------------------------------ */

static bool is_refusal(int r) {
        return r == -EROFS || r == -EACCES || r == -EPERM || r == -ENOSPC || r == -EDQUOT || r == -EIO;
}

static int open_lock(const Store *s, int access) {
        int fd;

        fd = openat(s->directory_fd, LOCK_NAME, access | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        /* Where it cannot be made, the directory itself serves. */
        if (fd < 0 && is_refusal(-errno))
                fd = openat(s->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static pid_t read_pid(int fd) {
        char text[32] = "";
        const char *p = text;
        uint64_t pid;

        if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || scan_u64(&p, &pid) < 0 || pid > INT32_MAX)
                return 0;
        return (pid_t) pid;
}

/* For people; the lock itself does not need it. */
static void write_pid(const Store *s) {
        _cleanup_(closep) int fd =
                openat(s->directory_fd, LOCK_NAME, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);

        if (fd >= 0)
                (void) dprintf(fd, "%d\n", (int) getpid());
}

static int lock(Store *s, int access, pid_t *ret_pid) {
        _cleanup_(closep) int fd = open_lock(s, access);

        if (fd < 0)
                return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                int r = errno == EWOULDBLOCK ? -EBUSY : -errno;

                if (r == -EBUSY)
                        *ret_pid = read_pid(fd);
                return r;
        }
        write_pid(s);
        s->lock_fd = TAKE_FD(fd);
        return 0;
}

/* What is held open for writing keeps a file system from being made read-only. */
static int lock_read_only(Store *s, pid_t *ret_pid) {
        int r = lock(s, O_RDONLY, ret_pid);

        return r == -EBADF ? lock(s, O_RDWR, ret_pid) : r; /* NFS locks only what can be written */
}

static int open_directory(Store *s, pid_t *ret_pid) {
        _cleanup_(closep) int fd = -1;
        int r;

        r = directory_make_path(s->path, 0700);
        if (r < 0)
                return r;
        fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        s->directory_fd = fd;
        r = lock_read_only(s, ret_pid);
        if (r < 0) {
                s->directory_fd = -1;
                return r;
        }
        (void) TAKE_FD(fd);
        (void) directory_remove_temporaries(s->directory_fd);
        return 0;
}

int store_directory_fd(const Store *s) {
        return s->directory_fd;
}

static int open_notes(const char *runtime) {
        _cleanup_(closep) int fd = -1;
        int notes_fd;

        if (!runtime || directory_make_path(runtime, 0755) < 0)
                return -1;
        fd = open(runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || directory_make_at(fd, NOTES_NAME, 0700, (gid_t) -1, &notes_fd) < 0)
                return -1;
        (void) directory_remove_temporaries(notes_fd);
        return notes_fd;
}

int store_new(sd_event *event, const char *path, const char *runtime, Store **ret, pid_t *ret_pid) {
        _cleanup_(store_freep) Store *s = malloc(sizeof(Store));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Store){ .event = sd_event_ref(event),
                      .path = strdup(path),
                      .directory_fd = -1,
                      .lock_fd = -1,
                      .notes_fd = -1 };
        if (!s->path)
                return -ENOMEM;
        r = open_directory(s, ret_pid);
        if (r < 0 && !is_refusal(r))
                return r;
        s->notes_fd = open_notes(runtime);

        *ret = TAKE_PTR(s);
        return 0;
}

Store *store_free(Store *s) {
        if (!s)
                return NULL;

        writer_free(s->writer);
        closep(&s->notes_fd);
        closep(&s->lock_fd);
        closep(&s->directory_fd);
        sd_event_unref(s->event);
        free(s->path);
        free(s);
        return NULL;
}

/* --- notes -------------------------------------------------------------------------------------------------- */

void store_note(Store *s, const char *name, const State *state) {
        _cleanup_(freep) char *file = NULL, *text = NULL;
        State waits = *state;

        if (!state->is_refused) {
                waits.assignment = NULL;
                waits.n_transitions = 0;
        }
        if (s->notes_fd < 0 || file_name(name, "", &file) < 0)
                return;
        /* One that is not true any more is worse than none. */
        if (state_to_json(&waits, &text) < 0 ||
            file_write_atomic(s->notes_fd, file, text, strlen(text), 0600, (gid_t) -1) < 0)
                (void) unlinkat(s->notes_fd, file, 0);
}

int store_recall(Store *s, const char *name, State **ret) {
        _cleanup_(freep) char *file = NULL, *text = NULL;
        const char *defect;
        size_t size;
        int r;

        if (s->notes_fd < 0)
                return -ENOENT;
        r = file_name(name, "", &file);
        if (r >= 0)
                r = file_read_at(s->notes_fd, file, STATE_SIZE_MAX, &text, &size);
        return r < 0 ? r : state_from_json(text, size, ret, &defect);
}

/* --- saving ------------------------------------------------------------------------------------------------- */

/* It may have become possible meanwhile. */
static int prepare_to_save(Store *s) {
        pid_t other;
        int r = 0;

        if (s->directory_fd < 0)
                r = open_directory(s, &other);
        if (r >= 0 && !s->writer)
                r = writer_new(s->event, s->directory_fd, &s->writer);
        return r;
}

int store_save(Store *s, const char *name, const State *state, store_handler_t handler, void *userdata) {
        _cleanup_(freep) char *file = NULL, *text = NULL;
        int r;

        r = file_name(name, "", &file);
        if (r < 0)
                return r;
        store_note(s, name, state);
        r = prepare_to_save(s);
        if (r < 0)
                return r;
        r = state_to_json(state, &text);
        if (r < 0)
                return r;
        return writer_put(s->writer, file, text, handler, userdata);
}

void store_cancel(Store *s, void *userdata) {
        if (s->writer)
                writer_cancel(s->writer, userdata);
}

static void wait_for(Store *s, const char *file) {
        if (s->writer)
                writer_wait(s->writer, file);
}

void store_flush(Store *s) {
        wait_for(s, NULL);
}

/* --- reading ------------------------------------------------------------------------------------------------ */

static int set_aside(Store *s, const char *name, const char *defect, char **ret_why) {
        _cleanup_(freep) char *file = NULL, *corrupt = NULL;
        int r;

        r = file_name(name, "", &file);
        if (r >= 0)
                r = file_name(name, ".corrupt", &corrupt);
        if (r < 0)
                return r;

        if (renameat(s->directory_fd, file, s->directory_fd, corrupt) < 0)
                return why(ret_why, -EBADMSG, "%s/%s cannot be used, and not be set aside (%s): %s", s->path,
                           file, strerror(errno), defect);
        return why(ret_why, -EBADMSG, "%s/%s cannot be used, and is now %s: %s", s->path, file, corrupt,
                   defect);
}

bool store_is_our_trouble(int r) {
        return r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

int store_load(Store *s, const char *name, State **ret, char **ret_why) {
        _cleanup_(freep) char *file = NULL, *text = NULL;
        const char *defect;
        size_t size;
        int r;

        r = file_name(name, "", &file);
        if (r < 0)
                return r;
        if (s->directory_fd < 0)
                return -ENOENT;

        wait_for(s, file);
        r = file_read_at(s->directory_fd, file, STATE_SIZE_MAX, &text, &size);
        if (r == -ENOENT || store_is_our_trouble(r))
                return r;
        if (r < 0)
                return set_aside(s, name, r == -EFBIG ? "it is too long" : strerror(-r), ret_why);

        r = state_from_json(text, size, ret, &defect);
        return r == -EBADMSG ? set_aside(s, name, defect, ret_why) : r;
}

static bool is_state_file(const char *name) {
        char identity[NAME_MAX + 1];

        if (!endswith(name, SUFFIX))
                return false;
        (void) snprintf(identity, sizeof(identity), "%.*s", (int) (strlen(name) - strlen(SUFFIX)), name);
        return conf_name_is_valid(identity);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

int store_list(Store *s, char ***ret) {
        char **names = NULL;
        int r;

        r = s->directory_fd < 0 ? 0 : directory_list(s->directory_fd, is_state_file, &names);
        if (r < 0)
                return r;

        STRV_FOREACH(name, names)
                (*name)[strlen(*name) - strlen(SUFFIX)] = 0;
        if (names)
                qsort(names, strv_length(names), sizeof(*names), compare_names);
        *ret = names;
        return 0;
}

int store_forget(Store *s, const char *name) {
        _cleanup_(freep) char *file = NULL;
        int r;

        r = file_name(name, "", &file);
        if (r < 0)
                return r;
        if (s->notes_fd >= 0)
                (void) unlinkat(s->notes_fd, file, 0);
        if (s->directory_fd < 0)
                return -ENOENT;

        wait_for(s, file);
        if (unlinkat(s->directory_fd, file, 0) < 0)
                return -errno;
        return directory_sync(s->directory_fd);
}
