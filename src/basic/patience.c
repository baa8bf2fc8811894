/* SPDX-License-Identifier: MIT */
#include "basic/patience.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/text.h"

#define TEXT_MAX (1024U * 1024)

typedef struct Look {
        char *path;            /* NULL: there is none */
        struct timespec until; /* then nobody waits for it any longer, CLOCK_MONOTONIC */
} Look;

/* So many may hang. Together with the threads of the worker they are fewer than TasksMax= of our unit. */
static Look looks[5];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* protects them */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;

/* The look at this path, or at a directory above it. */
static Look *find_look(const char *path) {
        for (Look *l = looks; l < looks + ELEMENTSOF(looks); l++)
                if (l->path && startswith(path, l->path) && strchr("/", path[strlen(l->path)]))
                        return l;
        return NULL;
}

static void *run_look(void *userdata) {
        _cleanup_(freep) char *text = NULL; /* dpsd wipes what it frees */
        Look *l = userdata;

        (void) file_read(l->path, TEXT_MAX, &text, NULL);
        (void) pthread_mutex_lock(&mutex);
        free(TAKE_PTR(l->path));
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

static bool begin_look(const char *path) {
        pthread_t thread;
        unsigned k = 0;

        while (looks[k].path)
                if (++k == ELEMENTSOF(looks))
                        return false;
        set_end(&looks[k].until, k);
        looks[k].path = strdup(path);
        if (!looks[k].path)
                return false;
        if (pthread_create(&thread, NULL, run_look, &looks[k]) != 0) {
                free(TAKE_PTR(looks[k].path));
                return false;
        }
        (void) pthread_detach(thread);
        return true;
}

/* Of what is mounted there, this is only what the kernel knows already. */
static bool leads_elsewhere(const char *path) {
        struct statx st;

        return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_TYPE,
                     &st) >= 0 &&
               (S_ISLNK(st.stx_mode) || st.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

bool path_answers(const char *path) {
        const Look *l;
        bool is_known;

        (void) pthread_mutex_lock(&mutex);
        is_known = find_look(path) || !leads_elsewhere(path) || begin_look(path);
        while ((l = find_look(path)) &&
               pthread_cond_clockwait(&ended, &mutex, CLOCK_MONOTONIC, &l->until) == 0)
                ;
        (void) pthread_mutex_unlock(&mutex);
        return is_known && !l;
}
