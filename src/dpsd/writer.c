/* SPDX-License-Identifier: MIT */
#include "dpsd/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "basic/files.h"
#include "basic/text.h"

/*
 *      writer_put() ──> waiting ──> writing ──> done ──> the handlers, in the loop
 *                          ^── overtaken here
 *
 * The thread lives as long as there is something to write. It allocates nothing, so that it gets no heap of its own,
 * and touches no waiter.
 */

#define BATCH_MAX 64 /* open files */
#define STACK_SIZE (128U * 1024)
/* After those who ask us, and before the next step of those who still ask DPS: there may be hundreds. */
#define TELLING_PRIORITY (SD_EVENT_PRIORITY_IMPORTANT / 2)

/* Who wants to know. */
typedef struct Waiter {
        struct Waiter *next;
        writer_handler_t handler;
        void *userdata;
} Waiter;

/* A file to be written. */
typedef struct Job {
        struct Job *next;
        char *file, *text;
        Waiter *waiters;
        FileDraft draft;
        int r;
} Job;

typedef struct JobList {
        Job *first, *last;
} JobList;

typedef enum ThreadState {
        THREAD_NONE,
        THREAD_RUNNING,
        THREAD_ENDED, /* to be joined */
} ThreadState;

struct Writer {
        int directory_fd, done_fd;
        sd_event_source *source; /* of done_fd */

        pthread_t thread;
        pthread_mutex_t mutex; /* of all below */
        pthread_cond_t progress;
        ThreadState thread_state;
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

static Job *find(const JobList *l, const char *file) {
        for (Job *j = l->first; j; j = j->next)
                if (streq(j->file, file))
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
        free(j->file);
        free(j->text);
        free(j);
        return NULL;
}
DEFINE_FREEP(Job, job_free)

static int job_new(const char *file, const char *text, writer_handler_t handler, void *userdata, Job **ret) {
        _cleanup_(job_freep) Job *j = calloc(1, sizeof(Job));

        if (!j)
                return -ENOMEM;
        j->file = strdup(file);
        j->text = strdup(text);
        j->waiters = handler ? calloc(1, sizeof(Waiter)) : NULL;
        if (!j->file || !j->text || (handler && !j->waiters))
                return -ENOMEM;
        if (handler)
                *j->waiters = (Waiter){ .handler = handler, .userdata = userdata };

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

static void take_batch(Writer *w) {
        Job *j;

        for (unsigned n = 0; n < BATCH_MAX && (j = pop(&w->waiting)); n++)
                append(&w->writing, j);
}

static void finish_batch(Writer *w) {
        static const uint64_t one = 1;
        Job *j;

        while ((j = pop(&w->writing)))
                append(&w->done, j);
        (void) !write(w->done_fd, &one, sizeof(one));
        (void) pthread_cond_broadcast(&w->progress);
}

/* Until nothing waits. Called and left with the mutex held. */
static void write_all(Writer *w) {
        while (w->waiting.first) {
                int dir_fd = w->directory_fd;

                take_batch(w);
                (void) pthread_mutex_unlock(&w->mutex);
                write_batch(dir_fd, w->writing.first);
                (void) pthread_mutex_lock(&w->mutex);
                finish_batch(w);
        }
}

static void *run_thread(void *userdata) {
        Writer *w = userdata;

        (void) pthread_mutex_lock(&w->mutex);
        write_all(w);
        w->thread_state = THREAD_ENDED;
        (void) pthread_mutex_unlock(&w->mutex);
        return NULL;
}

/* Signals are the loop's. */
static int create_thread(Writer *w) {
        pthread_attr_t attributes;
        sigset_t all, before;
        int r;

        r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void) sigfillset(&all);
        (void) pthread_attr_setstacksize(&attributes, STACK_SIZE);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&w->thread, &attributes, run_thread, w);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return -r;
}

static void join_thread(Writer *w) {
        (void) pthread_join(w->thread, NULL);
        w->thread_state = THREAD_NONE;
}

/* The mutex is held. */
static void wake_thread(Writer *w) {
        if (w->thread_state == THREAD_RUNNING)
                return;
        if (w->thread_state == THREAD_ENDED)
                join_thread(w);

        /* Where there can be no thread, a slow disk does stop the loop. */
        if (create_thread(w) < 0)
                write_all(w);
        else
                w->thread_state = THREAD_RUNNING;
}

/* --- the loop's side ---------------------------------------------------------------------------------------- */

/* The next to be told, taken out of what is done. */
static bool next_waiter(Writer *w, Waiter *ret, int *ret_r) {
        Job *j;

        while ((j = w->done.first)) {
                Waiter *waiter = j->waiters;

                if (waiter) {
                        j->waiters = waiter->next;
                        *ret = *waiter;
                        *ret_r = j->r;
                        free(waiter);
                        return true;
                }
                job_free(pop(&w->done));
        }
        return false;
}

/* One is told in each turn, since it may have much to do then, and somebody may ask meanwhile: only when nobody is
 * left is the descriptor read. */
static int writer_on_done(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Writer *w = userdata;
        Waiter waiter = { 0 };
        uint64_t n;
        int r;

        (void) pthread_mutex_lock(&w->mutex);
        if (!next_waiter(w, &waiter, &r)) {
                (void) !read(fd, &n, sizeof(n));
                if (w->thread_state == THREAD_ENDED)
                        join_thread(w);
        }
        (void) pthread_mutex_unlock(&w->mutex);
        if (waiter.handler)
                waiter.handler(r, waiter.userdata);
        return 0;
}

static int writer_init(Writer *w, sd_event *event) {
        int r;

        w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (w->done_fd < 0)
                return -errno;
        r = sd_event_add_io(event, &w->source, w->done_fd, EPOLLIN, writer_on_done, w);
        if (r ==
            -ESTALE) /* the loop has ended; what is put at exit is written all the same, and nobody told */
                return 0;
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(w->source, TELLING_PRIORITY);
        if (r < 0)
                return r;
        return sd_event_source_set_description(w->source, "writer");
}

int writer_new(sd_event *event, int directory_fd, Writer **ret) {
        _cleanup_(writer_freep) Writer *w = malloc(sizeof(Writer));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (Writer){ .directory_fd = directory_fd,
                       .done_fd = -1,
                       .mutex = PTHREAD_MUTEX_INITIALIZER,
                       .progress = PTHREAD_COND_INITIALIZER };
        r = writer_init(w, event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(w);
        return 0;
}

Writer *writer_free(Writer *w) {
        Job *j;

        if (!w)
                return NULL;

        writer_wait(w, NULL);
        if (w->thread_state != THREAD_NONE)
                join_thread(w);
        while ((j = pop(&w->done)))
                job_free(j);
        sd_event_source_disable_unref(w->source);
        closep(&w->done_fd);
        (void) pthread_cond_destroy(&w->progress);
        (void) pthread_mutex_destroy(&w->mutex);
        free(w);
        return NULL;
}

int writer_put(Writer *w, const char *file, const char *text, writer_handler_t handler, void *userdata) {
        Job *j, *older;
        int r;

        r = job_new(file, text, handler, userdata, &j);
        if (r < 0)
                return r;

        (void) pthread_mutex_lock(&w->mutex);
        older = find(&w->waiting, file);
        if (older)
                job_overtake(older, j);
        else
                append(&w->waiting, j);
        wake_thread(w);
        (void) pthread_mutex_unlock(&w->mutex);
        return 0;
}

static void silence(Job *j, const void *userdata) {
        for (Waiter *i = j->waiters; i; i = i->next)
                if (i->userdata == userdata)
                        i->handler = NULL;
}

void writer_cancel(Writer *w, void *userdata) {
        JobList *lists[] = { &w->waiting, &w->writing, &w->done };

        (void) pthread_mutex_lock(&w->mutex);
        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                for (Job *j = lists[i]->first; j; j = j->next)
                        silence(j, userdata);
        (void) pthread_mutex_unlock(&w->mutex);
}

void writer_wait(Writer *w, const char *file) {
        (void) pthread_mutex_lock(&w->mutex);
        while (file ? find(&w->waiting, file) || find(&w->writing, file)
                    : w->waiting.first || w->writing.first)
                (void) pthread_cond_wait(&w->progress, &w->mutex);
        (void) pthread_mutex_unlock(&w->mutex);
}
