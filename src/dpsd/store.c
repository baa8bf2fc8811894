/* SPDX-License-Identifier: MIT */
#include "dpsd/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/conf.h"
#include "config/why.h"

/*
 *      store_save() ──> waiting ──> writing ──> done ──> the handlers, in the loop
 *                          ^── overtaken here
 *
 * The thread takes all that waits, up to a number of open files, and takes each slow step for all of them before the
 * next: a journal of the filesystem is then committed a few times, not once for every file. It lives as long as there
 * is something to write. It allocates nothing, so that it gets no heap of its own, and touches no waiter.
 */

#define SUFFIX ".json"
#define LOCK_NAME ".lock"
#define BATCH_MAX 64
#define STACK_SIZE (128U * 1024)

/* Who wants to know. */
typedef struct Waiter {
        struct Waiter *next;
        store_handler_t handler;
        void *userdata;
} Waiter;

/* A file to be written. */
typedef struct Job {
        struct Job *next;
        char *name; /* of the identity */
        char *file, *text;
        Waiter *waiters;
        FileDraft draft;
        int r;
} Job;

typedef struct JobList {
        Job *first, *last;
} JobList;

typedef enum WriterState {
        WRITER_NONE,
        WRITER_RUNNING,
        WRITER_ENDED, /* to be joined */
} WriterState;

struct Store {
        char *path;
        int directory_fd, lock_fd, done_fd;
        sd_event_source *source; /* of done_fd */

        pthread_t thread;
        pthread_mutex_t mutex; /* of all below */
        pthread_cond_t progress;
        WriterState writer;
        JobList waiting, writing, done;
};

/* --- jobs --------------------------------------------------------------------------------------------------- */

static void append(JobList *l, Job *j) {
        j->next = NULL;
        if (l->last)
                l->last->next = j;
        else
                l->first = j;
        l->last = j;
}

static Job *pop(JobList *l) {
        Job *j = l->first;

        if (!j)
                return NULL;
        l->first = j->next;
        if (!l->first)
                l->last = NULL;
        return j;
}

static Job *find(const JobList *l, const char *name) {
        for (Job *j = l->first; j; j = j->next)
                if (streq(j->name, name))
                        return j;
        return NULL;
}

static Job *job_free(Job *j) {
        if (!j)
                return NULL;

        while (j->waiters) {
                Waiter *w = j->waiters;

                j->waiters = w->next;
                free(w);
        }
        free(j->name);
        free(j->file);
        free(j->text);
        free(j);
        return NULL;
}
DEFINE_FREEP(Job, job_free)

static int file_name(const char *name, const char *suffix, char **ret) {
        char *file;

        if (!conf_name_is_valid(name))
                return -EINVAL;
        if (asprintf(&file, "%s" SUFFIX "%s", name, suffix) < 0)
                return -ENOMEM;
        *ret = file;
        return 0;
}

static int job_new(const char *name, const State *state, store_handler_t handler, void *userdata, Job **ret) {
        _cleanup_(job_freep) Job *j = calloc(1, sizeof(Job));
        int r;

        if (!j)
                return -ENOMEM;
        r = file_name(name, "", &j->file);
        if (r < 0)
                return r;
        r = state_to_json(state, &j->text);
        if (r < 0)
                return r;
        j->name = strdup(name);
        if (!j->name)
                return -ENOMEM;

        if (handler) {
                j->waiters = malloc(sizeof(Waiter));
                if (!j->waiters)
                        return -ENOMEM;
                *j->waiters = (Waiter){ .handler = handler, .userdata = userdata };
        }

        *ret = TAKE_PTR(j);
        return 0;
}

/* The older job keeps its place and who waits for it, and gets the newer text. */
static void job_overtake(Job *older, Job *newer) {
        Waiter **end = &older->waiters;

        free(older->text);
        older->text = TAKE_PTR(newer->text);
        while (*end)
                end = &(*end)->next;
        *end = TAKE_PTR(newer->waiters);
        job_free(newer);
}

/* --- writing ------------------------------------------------------------------------------------------------ */

static void write_drafts(int dir_fd, Job *batch) {
        for (Job *j = batch; j; j = j->next)
                j->r = file_draft_write(&j->draft, dir_fd, j->file, j->text, strlen(j->text), 0600,
                                        (gid_t) -1);
        for (Job *j = batch; j; j = j->next)
                if (j->r >= 0)
                        j->r = file_draft_sync(&j->draft);
}

static void write_batch(int dir_fd, Job *batch) {
        int r;

        write_drafts(dir_fd, batch);
        for (Job *j = batch; j; j = j->next) {
                if (j->r >= 0)
                        j->r = file_draft_rename(&j->draft, dir_fd, j->file);
                if (j->r < 0)
                        file_draft_discard(&j->draft, dir_fd);
        }

        r = directory_sync(dir_fd);
        for (Job *j = batch; j; j = j->next)
                if (j->r >= 0)
                        j->r = r;
}

static void take_batch(Store *s) {
        Job *j;

        for (unsigned n = 0; n < BATCH_MAX && (j = pop(&s->waiting)); n++)
                append(&s->writing, j);
}

static void finish_batch(Store *s) {
        static const uint64_t one = 1;
        Job *j;

        while ((j = pop(&s->writing)))
                append(&s->done, j);
        (void) !write(s->done_fd, &one, sizeof(one));
        (void) pthread_cond_broadcast(&s->progress);
}

/* Until nothing waits. Called and left with the mutex held. */
static void write_all(Store *s) {
        while (s->waiting.first) {
                int dir_fd = s->directory_fd;

                take_batch(s);
                (void) pthread_mutex_unlock(&s->mutex);
                write_batch(dir_fd, s->writing.first);
                (void) pthread_mutex_lock(&s->mutex);
                finish_batch(s);
        }
}

static void *run_writer(void *userdata) {
        Store *s = userdata;

        (void) pthread_mutex_lock(&s->mutex);
        write_all(s);
        s->writer = WRITER_ENDED;
        (void) pthread_mutex_unlock(&s->mutex);
        return NULL;
}

/* Signals are the loop's. */
static int create_thread(Store *s) {
        pthread_attr_t attributes;
        sigset_t all, before;
        int r;

        r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void) sigfillset(&all);
        (void) pthread_attr_setstacksize(&attributes, STACK_SIZE);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&s->thread, &attributes, run_writer, s);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return -r;
}

static void join_writer(Store *s) {
        (void) pthread_join(s->thread, NULL);
        s->writer = WRITER_NONE;
}

/* The mutex is held. */
static void wake_writer(Store *s) {
        if (s->writer == WRITER_RUNNING)
                return;
        if (s->writer == WRITER_ENDED)
                join_writer(s);

        /* Where there can be no thread, a slow disk does stop the loop. */
        if (create_thread(s) < 0)
                write_all(s);
        else
                s->writer = WRITER_RUNNING;
}

/* --- the loop's side ---------------------------------------------------------------------------------------- */

/* The next to be told, taken out of what is done. */
static bool next_waiter(Store *s, Waiter *ret, int *ret_r) {
        Job *j;

        while ((j = s->done.first)) {
                Waiter *w = j->waiters;

                if (w) {
                        j->waiters = w->next;
                        *ret = *w;
                        *ret_r = j->r;
                        free(w);
                        return true;
                }
                job_free(pop(&s->done));
        }
        return false;
}

static int store_on_done(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Store *s = userdata;
        Waiter waiter;
        uint64_t n;
        int r;

        (void) !read(fd, &n, sizeof(n));
        for (;;) {
                bool is_any;

                (void) pthread_mutex_lock(&s->mutex);
                is_any = next_waiter(s, &waiter, &r);
                if (!is_any && s->writer == WRITER_ENDED)
                        join_writer(s);
                (void) pthread_mutex_unlock(&s->mutex);
                if (!is_any)
                        return 0;
                if (waiter.handler)
                        waiter.handler(r, waiter.userdata);
        }
}

/* --- the directory ------------------------------------------------------------------------------------------ */

static bool is_refusal(int r) {
        return r == -EROFS || r == -EACCES || r == -EPERM || r == -ENOSPC || r == -EDQUOT || r == -EIO;
}

static int open_lock(const Store *s) {
        int fd;

        fd = openat(s->directory_fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 && is_refusal(-errno))
                fd = openat(s->directory_fd, LOCK_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        /* Where it cannot be made, the directory itself serves. */
        if (fd < 0 && (is_refusal(-errno) || errno == ENOENT))
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
static void write_pid(int fd) {
        (void) !ftruncate(fd, 0);
        (void) dprintf(fd, "%d\n", (int) getpid());
}

static int lock(Store *s, pid_t *ret_pid) {
        _cleanup_(closep) int fd = open_lock(s);

        if (fd < 0)
                return fd;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                int r = errno == EWOULDBLOCK ? -EBUSY : -errno;

                if (r == -EBUSY)
                        *ret_pid = read_pid(fd);
                return r;
        }
        write_pid(fd);
        s->lock_fd = TAKE_FD(fd);
        return 0;
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
        r = lock(s, ret_pid);
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

static int store_init(Store *s, sd_event *event, const char *path) {
        int r;

        s->path = strdup(path);
        if (!s->path)
                return -ENOMEM;
        s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->done_fd < 0)
                return -errno;
        r = sd_event_add_io(event, &s->source, s->done_fd, EPOLLIN, store_on_done, s);
        if (r < 0)
                return r;
        return sd_event_source_set_description(s->source, "store");
}

int store_new(sd_event *event, const char *path, Store **ret, pid_t *ret_pid) {
        _cleanup_(store_freep) Store *s = malloc(sizeof(Store));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Store){ .directory_fd = -1,
                      .lock_fd = -1,
                      .done_fd = -1,
                      .mutex = PTHREAD_MUTEX_INITIALIZER,
                      .progress = PTHREAD_COND_INITIALIZER };

        r = store_init(s, event, path);
        if (r < 0)
                return r;
        r = open_directory(s, ret_pid);
        if (r < 0 && !is_refusal(r))
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

Store *store_free(Store *s) {
        Job *j;

        if (!s)
                return NULL;

        store_flush(s);
        if (s->writer != WRITER_NONE)
                join_writer(s);
        while ((j = pop(&s->done)))
                job_free(j);
        sd_event_source_disable_unref(s->source);
        closep(&s->done_fd);
        closep(&s->lock_fd);
        closep(&s->directory_fd);
        (void) pthread_cond_destroy(&s->progress);
        (void) pthread_mutex_destroy(&s->mutex);
        free(s->path);
        free(s);
        return NULL;
}

/* --- saving ------------------------------------------------------------------------------------------------- */

static void enqueue(Store *s, Job *j) {
        Job *older;

        (void) pthread_mutex_lock(&s->mutex);
        older = find(&s->waiting, j->name);
        if (older)
                job_overtake(older, j);
        else
                append(&s->waiting, j);
        wake_writer(s);
        (void) pthread_mutex_unlock(&s->mutex);
}

int store_save(Store *s, const char *name, const State *state, store_handler_t handler, void *userdata) {
        Job *j;
        int r;

        /* It may have become possible meanwhile. */
        if (s->directory_fd < 0) {
                pid_t other;

                r = open_directory(s, &other);
                if (r < 0)
                        return r;
        }

        r = job_new(name, state, handler, userdata, &j);
        if (r < 0)
                return r;
        enqueue(s, j);
        return 0;
}

void store_cancel(Store *s, void *userdata) {
        JobList *lists[] = { &s->waiting, &s->writing, &s->done };

        (void) pthread_mutex_lock(&s->mutex);
        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                for (Job *j = lists[i]->first; j; j = j->next)
                        for (Waiter *w = j->waiters; w; w = w->next)
                                if (w->userdata == userdata)
                                        w->handler = NULL;
        (void) pthread_mutex_unlock(&s->mutex);
}

/* Of all names, or one. */
static void wait_for(Store *s, const char *name) {
        (void) pthread_mutex_lock(&s->mutex);
        while (name ? find(&s->waiting, name) || find(&s->writing, name)
                    : s->waiting.first || s->writing.first)
                (void) pthread_cond_wait(&s->progress, &s->mutex);
        (void) pthread_mutex_unlock(&s->mutex);
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

/* Trouble of ours, which says nothing about the file. */
static bool is_our_trouble(int r) {
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

        wait_for(s, name);
        r = file_read_at(s->directory_fd, file, STATE_SIZE_MAX, &text, &size);
        if (r == -ENOENT || is_our_trouble(r))
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
        if (s->directory_fd < 0)
                return -ENOENT;

        wait_for(s, name);
        if (unlinkat(s->directory_fd, file, 0) < 0)
                return -errno;
        return directory_sync(s->directory_fd);
}
