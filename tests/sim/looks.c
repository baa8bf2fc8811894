/* SPDX-License-Identifier: MIT */

/* basic/patience.c with threads and a clock of the simulation. It is included after all headers, so that nothing of them is
 * renamed. */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/patience.h"
#include "basic/text.h"
#include "checks.h"
#include "files.h"
#include "memory.h"
#include "world.h"

/* What HACKING.md says. */
#define PATIENCE_USEC (4 * USEC_PER_SEC)
#define THREADS_MAX 16

static struct {
        Sim *sim;
        bool is_starting;
        uint64_t waited_usec;       /* by the work that runs, or by the start */
        void *threads[THREADS_MAX]; /* those that hang: their looks */
} state;

static uint64_t now_here(void) {
        return state.sim->now_usec + (state.is_starting ? 0 : state.waited_usec);
}

static int begin_thread(void *(*run)(void *), void *look);

static void tell_time(struct timespec *ret) {
        uint64_t now = now_here();

        *ret = (struct timespec){ (time_t) (now / USEC_PER_SEC), (long) (now % USEC_PER_SEC * 1000) };
}

/* Promises: only a start waits in the loop, and nothing waits for longer than told. */
static int wait_until(const struct timespec *until) {
        uint64_t at = (uint64_t) until->tv_sec * USEC_PER_SEC + (uint64_t) until->tv_nsec / 1000,
                 usec = usec_sub(at, now_here());

        state.waited_usec += usec;
        if (state.is_starting)
                state.sim->now_usec += usec;
        else if (!sim_world_is_running())
                found(state.sim, "the loop waits for no file", "%" PRIu64 " us", usec);
        if (state.waited_usec > PATIENCE_USEC)
                found(state.sim, "files that hang are waited for for 4 s at most", "%" PRIu64 " us",
                      state.waited_usec);
        return ETIMEDOUT;
}

#define path_look path_look_here
#define pthread_create(thread, attributes, run, look) begin_thread(run, look)
#define pthread_detach(thread) ((void) (thread), 0)
#define pthread_mutex_lock(m) ((void) (m), 0)
#define pthread_mutex_unlock(m) ((void) (m), 0)
#define pthread_cond_broadcast(c) ((void) (c), 0)
#define pthread_cond_clockwait(c, m, clock, until) ((void) (c), (void) (m), wait_until(until))
#define clock_gettime(clock, ret) (tell_time(ret), 0)
#define statx(directory, path, flags, mask, ret) files_statx(path, ret)
static int path_look_here(const char *path);
#include "../../src/basic/patience.c"
#undef path_look

static int begin_thread(void *(*run)(void *), void *look) {
        unsigned k = 0;

        if (!files_hang_at(((Look *) look)->path, true)) {
                run(look);
                return 0;
        }
        while (state.threads[k])
                if (++k == THREADS_MAX)
                        abort();
        state.threads[k] = look;
        find_mount(look); /* until it hangs */
        return 0;
}

/* Promise: a file that answers is not called silent, however many others hang. */
int path_look(const char *path) {
        int r = path_look_here(path);

        if (r == -ETIMEDOUT && !files_hang_at(path, true))
                found(state.sim, "a file that answers is read, however many others hang", "%s", path);
        return r;
}

void looks_starting(Sim *s, bool is_starting) {
        state.sim = s;
        state.is_starting = is_starting;
        state.waited_usec = 0;
}

uint64_t looks_take_waited(void) {
        uint64_t waited = state.waited_usec;

        state.waited_usec = 0;
        return waited;
}

void looks_go_on(void) {
        for (unsigned k = 0; k < THREADS_MAX; k++)
                if (state.threads[k] && !files_hang_at(((Look *) state.threads[k])->path, true))
                        run_look(TAKE_PTR(state.threads[k]));
}

void looks_forget(void) {
        for (Look *l = looks; l < looks + ELEMENTSOF(looks); l++)
                look_done(l);
        memset(state.threads, 0, sizeof(state.threads));
}
