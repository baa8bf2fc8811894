/* SPDX-License-Identifier: MIT */
#include "basic/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "basic/text.h"
#include "basic/times.h"

/*
 *      worker_begin() ──> waiting ──> running ──> done ──> tell() and done(), in the loop
 *
 * A job in `waiting` or `done` belongs to the loop, which may remove it; a running job belongs to its thread.
 * The Pool is everything that threads and loop share. It lives as long as its last user, because a thread
 * that is stuck in the C library outlives the worker. Threads allocate nothing here, so that a thread whose
 * work allocates nothing gets no heap of its own.
 */

/* Results come after timers, but before requests to us and the next steps of registrations, of which there may be
 * hundreds. */
#define TELLING_PRIORITY (SD_EVENT_PRIORITY_IMPORTANT / 2)

/* Threads that hang in a file system are no help to the work behind them: when so long nothing has gone ahead, others are
 * added. Together they are fewer than TasksMax= of our unit. */
#define STALL_USEC (2 * USEC_PER_SEC)

/* A thread waits so long for more work: at a start, a thousand identities each have something to read, one after the
 * other. */
#define LINGER_USEC (50 * USEC_PER_MSEC)

/* The C library's modules for names and groups, and the drivers of chips, are code of others, so they get
 * larger stacks. */
static const struct {
        unsigned threads_max, n_more;
        size_t stack_size;
} limits[_WORK_QUEUE_MAX] = {
        /* clang-format off */
        [WORK_DISK] = { 1, 0, 128U * 1024 },
        [WORK_NAMES] = { 16, 0, 512U * 1024 },
        [WORK_KEYS] = { 4, 12, 512U * 1024 },
        [WORK_FILES] = { 1, 8, 128U * 1024 },
        [WORK_CHIPS] = { 8, 0, 512U * 1024 },
        [WORK_GROUPS] = { 4, 0, 512U * 1024 },
        [WORK_CHECKS] = { 4, 0, 512U * 1024 },
        /* clang-format on */
};

typedef struct Pool Pool;

typedef enum JobState {
        JOB_WAITING,
        JOB_RUNNING,
        JOB_DONE,
        JOB_TELLING,
} JobState;

typedef struct Job {
        Work work; /* must be first: a Work is a Job */
        struct Job *next;
        Pool *pool;
        const WorkClass *class;
        void *task;
        JobState state;
        bool is_forgotten;
} Job;

typedef struct JobList {
        Job *first, *last;
} JobList;

typedef struct Queue {
        Pool *pool;
        size_t stack_size;
        JobList waiting, running;
        pthread_cond_t more; /* there is work for an idle thread */
        unsigned n_threads;
        unsigned n_idle, n_asked;       /* of them wait for work; were told that there is some */
        unsigned n_more;                /* threads that may be there beside the usual ones */
        unsigned n_taken, n_taken_then; /* jobs that have begun, and when we looked last */
} Queue;

struct Pool {
        int fd;                /* an eventfd: readable while a finished job is still to be told */
        pthread_mutex_t mutex; /* protects all below */
        pthread_cond_t progress;
        unsigned n_refs; /* held by the worker and by each thread */
        bool is_closing; /* no thread waits for more work */
        bool is_closed;  /* the worker is gone, so results are dropped */
        Queue queues[_WORK_QUEUE_MAX];
        JobList done;
};

struct Worker {
        World *world;
        Pool *pool;
        sd_event_source *source; /* of the eventfd */
        sd_event_source *stall;  /* a timer that is on while jobs wait for a thread */
        Job *telling;            /* its tell() wants to be called again */
};

/* --- jobs ----------------------------------------------------------------------------------------------- */

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

static void take_out(JobList *l, Job *j) {
        Job *before = NULL;

        for (Job *i = l->first; i != j; i = i->next)
                before = i;
        if (before)
                before->next = j->next;
        else
                l->first = j->next;
        if (l->last == j)
                l->last = before;
}

static void job_drop(Job *j) {
        j->class->free(j->task);
        free(j);
}

static void drop_all(JobList *l) {
        Job *j;

        while ((j = pop(l)))
                job_drop(j);
}

/* --- the pool ------------------------------------------------------------------------------------------- */

static int pool_new(Pool **ret) {
        pthread_condattr_t attributes;
        Pool *p = malloc(sizeof(*p));

        if (!p)
                return -ENOMEM;
        *p = (Pool){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                     .mutex = PTHREAD_MUTEX_INITIALIZER,
                     .progress = PTHREAD_COND_INITIALIZER,
                     .n_refs = 1 };
        if (p->fd < 0) {
                int r = -errno;

                free(p);
                return r;
        }
        (void) pthread_condattr_init(&attributes);
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++) {
                p->queues[q].pool = p;
                p->queues[q].stack_size = limits[q].stack_size;
                (void) pthread_cond_init(&p->queues[q].more, &attributes);
        }
        (void) pthread_condattr_destroy(&attributes);

        *ret = p;
        return 0;
}

/* The mutex must be held; it is released here. */
static void pool_unref_and_unlock(Pool *p) {
        bool is_last = --p->n_refs == 0;

        (void) pthread_cond_broadcast(&p->progress);
        (void) pthread_mutex_unlock(&p->mutex);
        if (!is_last)
                return;

        closep(&p->fd);
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++)
                (void) pthread_cond_destroy(&p->queues[q].more);
        (void) pthread_cond_destroy(&p->progress);
        (void) pthread_mutex_destroy(&p->mutex);
        free(p);
}

/* --- running -------------------------------------------------------------------------------------------- */

/* The mutex must be held. */
static void finish_job(Pool *p, Job *j) {
        static const uint64_t one = 1;

        if (j->is_forgotten || p->is_closed) {
                (void) pthread_mutex_unlock(&p->mutex);
                job_drop(j);
                (void) pthread_mutex_lock(&p->mutex);
                return;
        }
        j->state = JOB_DONE;
        append(&p->done, j);
        (void) !write(p->fd, &one, sizeof(one));
}

/* Whether another job has to end first, which perhaps never does. */
static bool is_blocked(const Queue *q, const Job *j) {
        for (const Job *i = j->class->whose ? q->running.first : NULL; i; i = i->next)
                if (i->class == j->class && streq(i->class->whose(i->task), j->class->whose(j->task)))
                        return true;
        return false;
}

/* The first job from here on that can begin. */
static Job *find_free(const Queue *q, Job *j) {
        while (j && is_blocked(q, j))
                j = j->next;
        return j;
}

/* Runs jobs until none can begin. The mutex must be held, and is held on return. */
static void run_all(Queue *q) {
        Pool *p = q->pool;
        Job *j;

        while ((j = find_free(q, q->waiting.first))) {
                take_out(&q->waiting, j);
                append(&q->running, j);
                j->state = JOB_RUNNING;
                q->n_taken++;
                (void) pthread_mutex_unlock(&p->mutex);
                j->class->run(j->task);
                (void) pthread_mutex_lock(&p->mutex);
                take_out(&q->running, j);
                finish_job(p, j);
                (void) pthread_cond_broadcast(&p->progress);
        }
}

/* Whether the thread is to look for work once more. The mutex must be held. */
static bool linger(Queue *q) {
        const uint64_t end = now_usec(CLOCK_MONOTONIC) + LINGER_USEC;
        bool is_asked;

        if (q->pool->is_closing)
                return false;
        q->n_idle++;
        (void) pthread_cond_timedwait(&q->more, &q->pool->mutex,
                                      &(struct timespec){ .tv_sec = (time_t) (end / USEC_PER_SEC),
                                                          .tv_nsec = (long) (end % USEC_PER_SEC * 1000) });
        is_asked = q->n_asked > 0;
        if (is_asked)
                q->n_asked--;
        else
                q->n_idle--;
        return is_asked;
}

static unsigned n_all_threads; /* atomic */

bool worker_has_threads(void) {
        return __atomic_load_n(&n_all_threads, __ATOMIC_ACQUIRE) > 0;
}

static void *run_thread(void *userdata) {
        Queue *q = userdata;

        (void) pthread_mutex_lock(&q->pool->mutex);
        do
                run_all(q);
        while (linger(q));
        q->n_threads--;
        pool_unref_and_unlock(q->pool);
        __atomic_sub_fetch(&n_all_threads, 1, __ATOMIC_RELEASE);
        return NULL;
}

/* Signals belong to the loop, so the thread blocks them all. */
static int create_thread(Queue *q) {
        pthread_attr_t attributes;
        sigset_t all, before;
        pthread_t thread;
        int r;

        r = pthread_attr_init(&attributes);
        if (r != 0)
                return -r;
        (void) sigfillset(&all);
        (void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        (void) pthread_attr_setstacksize(&attributes, q->stack_size);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&thread, &attributes, run_thread, q);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void) pthread_attr_destroy(&attributes);
        return -r;
}

/* 1: the job has to wait for one of the threads. The mutex must be held. */
static int ensure_thread(Queue *q, WorkQueue queue) {
        if (!q->running.first)
                q->n_more = 0;
        if (q->n_idle > 0) {
                q->n_idle--;
                q->n_asked++;
                (void) pthread_cond_signal(&q->more);
                return 0;
        }
        if (q->n_threads >= limits[queue].threads_max + q->n_more)
                return limits[queue].n_more > 0;
        if (create_thread(q) >= 0) {
                __atomic_add_fetch(&n_all_threads, 1, __ATOMIC_RELAXED);
                q->n_threads++;
                q->pool->n_refs++;
        } else if (q->n_threads == 0) {
                if (queue == WORK_CHECKS)
                        return -EAGAIN; /* it takes seconds, and can be done without */
                run_all(q); /* if no thread can be created, the work runs here and blocks the loop */
        }
        return 0;
}

/* Returns whether jobs wait for a thread. The mutex must be held. */
static bool help_stalled(Queue *q, WorkQueue queue) {
        Job *j = limits[queue].n_more > 0 ? find_free(q, q->waiting.first) : NULL;
        bool is_waiting = j, is_stalled = q->n_taken == q->n_taken_then;

        q->n_taken_then = q->n_taken;
        if (j && is_stalled)
                q->n_more = MIN(q->n_more + 4, limits[queue].n_more);
        for (; is_stalled && j; j = find_free(q, j->next))
                (void) ensure_thread(q, queue);
        return is_waiting;
}

static int worker_on_stall(sd_event_source *source, uint64_t usec, void *userdata) {
        Worker *w = userdata;
        bool is_waiting = false;

        (void) pthread_mutex_lock(&w->pool->mutex);
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++)
                is_waiting = help_stalled(&w->pool->queues[q], q) || is_waiting;
        (void) pthread_mutex_unlock(&w->pool->mutex);
        if (is_waiting) {
                (void) sd_event_source_set_time_relative(source, STALL_USEC);
                (void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }
        return 0;
}

/* If the timer cannot be had, the work waits. */
static void look_for_stalls(Worker *w) {
        if (w->stall && sd_event_source_get_enabled(w->stall, NULL) > 0)
                return;
        w->stall = sd_event_source_unref(w->stall);
        (void) sd_event_add_time_relative(sd_event_source_get_event(w->source), &w->stall, CLOCK_MONOTONIC,
                                          STALL_USEC, 0, worker_on_stall, w);
}

int worker_begin(Worker *w, const WorkClass *class, void *task, Work **ret) {
        Pool *p = w->pool;
        Job *j = malloc(sizeof(*j));
        int r;

        if (!j)
                return -ENOMEM;
        *j = (Job){ .work = { .world = w->world }, .pool = p, .class = class, .task = task };

        (void) pthread_mutex_lock(&p->mutex);
        append(&p->queues[class->queue].waiting, j);
        r = is_blocked(&p->queues[class->queue], j) ? 0
                                                    : ensure_thread(&p->queues[class->queue], class->queue);
        if (r < 0)
                take_out(&p->queues[class->queue].waiting, j);
        (void) pthread_mutex_unlock(&p->mutex);
        if (r < 0) {
                free(j);
                return r;
        }
        if (r > 0)
                look_for_stalls(w);

        if (ret)
                *ret = &j->work;
        return 0;
}

/* Returns true if the job was removed from its list, and must be dropped. The mutex must be held. */
static bool forget_job(Pool *p, Job *j) {
        j->is_forgotten = true;
        switch (j->state) {
        case JOB_WAITING:
                if (j->class->queue == WORK_DISK)
                        return false;
                take_out(&p->queues[j->class->queue].waiting, j);
                return true;
        case JOB_DONE:
                take_out(&p->done, j);
                return true;
        case JOB_RUNNING:
        case JOB_TELLING:
                return false;
        }
        abort();
}

Work *worker_forget(Work *work) {
        Job *j = (Job *) work;
        Pool *p = j->pool;
        bool is_ours;

        (void) pthread_mutex_lock(&p->mutex);
        is_ours = forget_job(p, j);
        (void) pthread_mutex_unlock(&p->mutex);
        if (is_ours)
                job_drop(j);
        return NULL;
}

void worker_wait(Worker *w, WorkQueue queue) {
        Pool *p = w->pool;
        const Queue *q = &p->queues[queue];

        (void) pthread_mutex_lock(&p->mutex);
        while (q->waiting.first || q->running.first)
                (void) pthread_cond_wait(&p->progress, &p->mutex);
        (void) pthread_mutex_unlock(&p->mutex);
}

/* --- telling -------------------------------------------------------------------------------------------- */

static Job *next_done(Pool *p) {
        Job *j;

        (void) pthread_mutex_lock(&p->mutex);
        j = pop(&p->done);
        if (j)
                j->state = JOB_TELLING;
        (void) pthread_mutex_unlock(&p->mutex);
        return j;
}

/* Makes the descriptor unreadable if no result is left. Where no job waits, the timer would wake us for nothing. */
static void clear_signals(Worker *w) {
        Pool *p = w->pool;
        bool is_waiting = false;
        uint64_t n;

        (void) pthread_mutex_lock(&p->mutex);
        if (!p->done.first)
                (void) !read(p->fd, &n, sizeof(n));
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++)
                is_waiting = is_waiting ||
                             (limits[q].n_more > 0 && find_free(&p->queues[q], p->queues[q].waiting.first));
        (void) pthread_mutex_unlock(&p->mutex);
        if (w->stall && !is_waiting)
                (void) sd_event_source_set_enabled(w->stall, SD_EVENT_OFF);
}

static int worker_on_done(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Worker *w = userdata;
        Job *j = w->telling ?: next_done(w->pool);
        const WorkClass *class;
        bool is_forgotten;
        void *task;

        w->telling = j;
        if (j && !j->is_forgotten && j->class->tell && j->class->tell(j->task) && !j->is_forgotten)
                return 0;
        w->telling = NULL;
        clear_signals(w);
        if (!j)
                return 0;

        class = j->class;
        task = j->task;
        is_forgotten = j->is_forgotten;
        free(j);
        if (is_forgotten)
                class->free(task);
        else
                class->done(task);
        return 0;
}

int worker_new(sd_event *event, World *world, Worker **ret) {
        _cleanup_(worker_freep) Worker *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return -ENOMEM;
        w->world = world;
        r = pool_new(&w->pool);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &w->source, w->pool->fd, EPOLLIN, worker_on_done, w);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(w->source, TELLING_PRIORITY);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(w->source, "worker");

        *ret = TAKE_PTR(w);
        return 0;
}

/* Completes the work of the disk. Then drops all other work; running work is dropped by its thread. */
static void close_pool(Pool *p) {
        JobList left[_WORK_QUEUE_MAX + 1];
        const Queue *disk = &p->queues[WORK_DISK];

        (void) pthread_mutex_lock(&p->mutex);
        p->is_closing = true;
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++)
                (void) pthread_cond_broadcast(&p->queues[q].more);
        while (disk->n_threads > 0)
                (void) pthread_cond_wait(&p->progress, &p->mutex);
        p->is_closed = true;
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++) {
                left[q] = p->queues[q].waiting;
                p->queues[q].waiting = (JobList){ 0 };
        }
        left[_WORK_QUEUE_MAX] = p->done;
        p->done = (JobList){ 0 };
        pool_unref_and_unlock(p);

        for (size_t k = 0; k < ELEMENTSOF(left); k++)
                drop_all(&left[k]);
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;

        sd_event_source_disable_unref(w->source);
        sd_event_source_disable_unref(w->stall);
        if (w->telling)
                job_drop(w->telling);
        if (w->pool)
                close_pool(w->pool);
        free(w);
        return NULL;
}
