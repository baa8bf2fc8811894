/* SPDX-License-Identifier: MIT */
#include "basic/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/text.h"

#define TEXT_MAX (1024U * 1024)

typedef struct Look {
        char *path;        /* NULL: there is none */
        char *target;      /* where the link leads, or the path itself */
        size_t mount_size; /* so much of it is where the last file system on the way is mounted; 0: not known */
        struct timespec until; /* then nobody waits for it any longer, CLOCK_MONOTONIC */
} Look;

/* So many may hang. Together with the threads of the worker they are fewer than TasksMax= of our unit. */
static Look looks[5];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects them */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;

static bool is_at_or_below(const char *path, const char *above, size_t size) {
        return size > 0 && strncmp(path, above, size) == 0 && strchr("/", path[size]);
}

/* The look at this path, at a directory above it, or at anything in the file system to which its link leads: if that hangs, it
 * hangs as a whole. */
static Look *find_look(const char *path, const char *target) {
        for (Look *l = looks; l < looks + ELEMENTSOF(looks); l++)
                if (l->path && (is_at_or_below(path, l->path, strlen(l->path)) ||
                                is_at_or_below(target, l->target, l->mount_size)))
                        return l;
        return NULL;
}

/* Of what is mounted there, this is only what the kernel knows already. */
static bool look_outside(const char *path, struct statx *ret) {
        return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE,
                     ret) >= 0;
}

static bool is_mount(const struct statx *st) {
        return st->stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

static void set_mount(Look *l, size_t size) {
        (void) pthread_mutex_lock(&mutex);
        l->mount_size = size;
        (void) pthread_mutex_unlock(&mutex);
}

/* Goes there in steps, each of which may hang. What is behind a second link is not known. */
static void find_mount(Look *l) {
        char *step = strdup(l->target);
        struct statx st;

        for (size_t n = step ? 1 : 0; n > 0 && l->target[n - 1]; n++) {
                if (!strchr("/", l->target[n]))
                        continue;
                step[n] = 0;
                if (!look_outside(step, &st))
                        break;
                step[n] = l->target[n];
                if (is_mount(&st))
                        set_mount(l, n);
                if (S_ISLNK(st.stx_mode)) {
                        set_mount(l, 0);
                        break;
                }
        }
        free(step);
}

static void look_done(Look *l) {
        free(TAKE_PTR(l->target));
        free(TAKE_PTR(l->path));
        l->mount_size = 0;
}

static void *run_look(void *userdata) {
        _cleanup_(freep) char *text = NULL; /* dpsd wipes what it frees */
        Look *l = userdata;

        find_mount(l);
        (void) file_read(l->path, TEXT_MAX, &text, NULL);
        (void) pthread_mutex_lock(&mutex);
        look_done(l);
        (void) pthread_cond_broadcast(&ended);
        (void) pthread_mutex_unlock(&mutex);
        return NULL;
}

/* The first look that hangs is waited for for 2.2 s, the second for 1.2 s, and further ones for 0.2 s. */
static void set_end(struct timespec *ret, unsigned number) {
        (void) clock_gettime(CLOCK_MONOTONIC, ret);
        ret->tv_sec += 2U >> number;
        ret->tv_nsec += 200000000;
        if (ret->tv_nsec >= 1000000000) {
                ret->tv_nsec -= 1000000000;
                ret->tv_sec++;
        }
}

static int begin_look(const char *path, const char *target) {
        pthread_t thread;
        unsigned k = 0;
        Look *l;
        int r;

        while (looks[k].path)
                if (++k == ELEMENTSOF(looks))
                        return -ETIMEDOUT;
        l = &looks[k];
        set_end(&l->until, k);
        l->path = strdup(path);
        l->target = strdup(target);
        r = l->path && l->target ? -pthread_create(&thread, NULL, run_look, l) : -ENOMEM;
        if (r < 0)
                look_done(l);
        else
                (void) pthread_detach(thread);
        return r;
}

int path_look(const char *path) {
        _cleanup_(freep) char *target = NULL;
        struct statx st;
        const Look *l;
        int r = 0;

        (void) pthread_mutex_lock(&mutex);
        if (!find_look(path, path) && look_outside(path, &st) && (S_ISLNK(st.stx_mode) || is_mount(&st))) {
                if (!S_ISLNK(st.stx_mode) || path_follow_link(path, &target) < 0)
                        target = strdup(path);
                r = !target ? -ENOMEM : find_look(path, target) ? 0 : begin_look(path, target);
        }
        while ((l = find_look(path, target ?: path)) &&
               pthread_cond_clockwait(&ended, &mutex, CLOCK_MONOTONIC, &l->until) == 0)
                ;
        (void) pthread_mutex_unlock(&mutex);
        return l ? -ETIMEDOUT : r;
}
