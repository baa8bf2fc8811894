/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "basic/world-event.h"

/* --- work as slow as a test wants it -------------------------------------------------------------------- */

/* What has happened, shared with the threads. */
static struct {
        pthread_mutex_t mutex;
        pthread_cond_t change;
        bool is_closed; /* while set, no work ends … */
        char free;      /* … but that of this name */
        bool has_signals;
        unsigned n_running, n_running_max, n_run, n_freed;
        int thread_error;
        unsigned n_created;
        char order[64]; /* names of the tasks that have run */
} work = { .mutex = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER };

typedef int (*create_t)(pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);

/* Replaces the C library's function. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *),
                   void *userdata) {
        create_t next = (create_t) dlsym(RTLD_NEXT, "pthread_create");

        work.n_created++;
        return work.thread_error ?: next(thread, attributes, function, userdata);
}

typedef int (*add_time_t)(sd_event *, sd_event_source **, clockid_t, uint64_t, uint64_t,
                          sd_event_time_handler_t, void *);

/* Replaces libsystemd's function: the time of the worker runs twenty times as fast. */
int sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                               uint64_t accuracy, sd_event_time_handler_t handler, void *userdata) {
        add_time_t next = (add_time_t) dlsym(RTLD_NEXT, "sd_event_add_time_relative");

        return next(e, ret, clock, usec / 20, accuracy, handler, userdata);
}

typedef struct Task {
        char name;
        unsigned n_to_tell;
} Task;

static void run(void *task) {
        const Task *t = task;
        sigset_t blocked;

        pthread_mutex_lock(&work.mutex);
        pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        work.has_signals = work.has_signals || !sigismember(&blocked, SIGTERM);
        work.n_running++;
        work.n_running_max = MAX(work.n_running_max, work.n_running);
        pthread_cond_broadcast(&work.change);
        while (work.is_closed && t->name != work.free)
                pthread_cond_wait(&work.change, &work.mutex);
        work.n_running--;
        work.order[work.n_run++ % (sizeof(work.order) - 1)] = t->name;
        pthread_cond_broadcast(&work.change);
        pthread_mutex_unlock(&work.mutex);
}

static char told[64];

static void done(void *task) {
        Task *t = task;

        told[strlen(told)] = t->name;
        free(t);
}

static bool tell(void *task) {
        Task *t = task;

        if (t->n_to_tell == 0)
                return false;
        told[strlen(told)] = '.';
        return --t->n_to_tell > 0;
}

static void drop(void *task) {
        free(task);
        pthread_mutex_lock(&work.mutex);
        work.n_freed++;
        pthread_cond_broadcast(&work.change);
        pthread_mutex_unlock(&work.mutex);
}

static const char *whose(const void *task) {
        return task; /* the name, and then a zero */
}

static const WorkClass named_class = { WORK_KEYS, run, NULL, done, drop, whose };

static const WorkClass classes[_WORK_QUEUE_MAX] = {
        [WORK_DISK] = { WORK_DISK, run, NULL, done, drop, NULL },
        [WORK_NAMES] = { WORK_NAMES, run, NULL, done, drop, NULL },
        [WORK_KEYS] = { WORK_KEYS, run, tell, done, drop, NULL },
        [WORK_FILES] = { WORK_FILES, run, NULL, done, drop, NULL },
        [WORK_CHIPS] = { WORK_CHIPS, run, NULL, done, drop, NULL },
        [WORK_GROUPS] = { WORK_GROUPS, run, NULL, done, drop, NULL },
        [WORK_CHECKS] = { WORK_CHECKS, run, NULL, done, drop, NULL },
};

static void wait_until(const unsigned *n, unsigned value) {
        pthread_mutex_lock(&work.mutex);
        while (*n != value)
                pthread_cond_wait(&work.change, &work.mutex);
        pthread_mutex_unlock(&work.mutex);
}

static void set_gate(bool is_closed) {
        pthread_mutex_lock(&work.mutex);
        work.is_closed = is_closed;
        pthread_cond_broadcast(&work.change);
        pthread_mutex_unlock(&work.mutex);
}

/* --- around each test ----------------------------------------------------------------------------------- */

static sd_event *event;
static World *world;

static int set_up(void **state) {
        work.is_closed = work.has_signals = false;
        work.free = '\0';
        work.n_running_max = work.n_run = work.n_freed = work.n_created = 0;
        work.thread_error = 0;
        memset(work.order, 0, sizeof(work.order));
        memset(told, 0, sizeof(told));
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(world_event_new(event, &world), 0);
        return 0;
}

static int tear_down(void **state) {
        world = world_free(world);
        event = sd_event_unref(event);
        return 0;
}

static Work *begin_telling(WorkQueue queue, char name, unsigned n_to_tell) {
        Task *t = malloc(sizeof(*t));
        Work *w = NULL;

        assert_non_null(t);
        *t = (Task){ name, n_to_tell };
        assert_int_equal(work_begin(world, &classes[queue], t, &w), 0);
        assert_non_null(w);
        return w;
}

static Work *begin(WorkQueue queue, char name) {
        return begin_telling(queue, name, 0);
}

/* Waits until all present work has run. */
static void hear(void) {
        while (sd_event_run(event, 0) > 0)
                ;
}

/* A sanitizer has its own thread, which it starts together with our first one. */
static unsigned n_threads_before;

static void *do_nothing(void *userdata) {
        return NULL;
}

static unsigned count_threads(void) {
        DIR *d = opendir("/proc/self/task");
        unsigned n = 0;

        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d));)
                n += e->d_name[0] != '.';
        closedir(d);
        return n;
}

/* --- promises ------------------------------------------------------------------------------------------- */

static void results_are_told_in_the_loop(void **state) {
        begin(WORK_NAMES, 'a');
        work_wait(world, WORK_NAMES);
        assert_string_equal(told, "");
        hear();
        assert_string_equal(told, "a");
}

static void disk_work_runs_one_at_a_time_in_order(void **state) {
        set_gate(true);
        for (char name = 'a'; name <= 'z'; name++)
                begin(WORK_DISK, name);
        wait_until(&work.n_running, 1);
        set_gate(false);
        work_wait(world, WORK_DISK);
        hear();
        assert_int_equal(work.n_running_max, 1);
        assert_string_equal(work.order, "abcdefghijklmnopqrstuvwxyz");
        assert_string_equal(told, "abcdefghijklmnopqrstuvwxyz");
}

static void check_limit(WorkQueue queue, unsigned limit) {
        set_gate(true);
        for (unsigned k = 0; k < limit + 8; k++)
                begin(queue, 'x');
        wait_until(&work.n_running, limit);
        set_gate(false);
        work_wait(world, queue);
        assert_int_equal(work.n_running_max, limit);
        assert_int_equal(work.n_run, limit + 8);
}

static void sixteen_names_are_looked_up_at_a_time(void **state) {
        check_limit(WORK_NAMES, 16);
}

static void four_keys_are_loaded_at_a_time(void **state) {
        check_limit(WORK_KEYS, 4);
}

static void eight_chips_are_used_at_a_time(void **state) {
        check_limit(WORK_CHIPS, 8);
}

static void four_groups_are_looked_up_at_a_time(void **state) {
        check_limit(WORK_GROUPS, 4);
}

static void four_steps_of_checks_run_at_a_time(void **state) {
        check_limit(WORK_CHECKS, 4);
}

/* Lets the loop run until so much work has run, while the rest hangs. */
static void run_until(unsigned n_run) {
        for (;;) {
                bool is_done;

                pthread_mutex_lock(&work.mutex);
                is_done = work.n_run == n_run;
                pthread_mutex_unlock(&work.mutex);
                if (is_done)
                        return;
                assert_true(sd_event_run(event, 100 * 1000) >= 0);
        }
}

static unsigned count_running(void) {
        unsigned n;

        pthread_mutex_lock(&work.mutex);
        n = work.n_running;
        pthread_mutex_unlock(&work.mutex);
        return n;
}

static void work_goes_on_behind_threads_that_hang(void **state) {
        set_gate(true);
        work.free = 'y';
        for (unsigned k = 0; k < 7; k++)
                begin(WORK_KEYS, 'x');
        begin(WORK_KEYS, 'y');
        begin(WORK_KEYS, 'y');
        run_until(2);
        assert_string_equal(work.order, "yy");
        set_gate(false);
        work_wait(world, WORK_KEYS);
        assert_int_equal(work.n_run, 9);
}

static void threads_that_hang_are_not_without_number(void **state) {
        set_gate(true);
        for (unsigned k = 0; k < 40; k++)
                begin(WORK_KEYS, 'x');
        while (count_threads() < n_threads_before + 16)
                assert_true(sd_event_run(event, 100 * 1000) >= 0);
        for (unsigned k = 0; k < 3; k++)
                assert_true(sd_event_run(event, 5 * 1000 * 1000) >= 0); /* the worker has looked again */
        assert_int_equal(count_threads(), n_threads_before + 16);
        set_gate(false);
        work_wait(world, WORK_KEYS);
        assert_int_equal(work.n_running_max, 16);
}

/* As it is with files that hang: each is given up, and asked for again, for hours. */
static void what_hangs_keeps_one_thread_however_often_it_is_asked_for(void **state) {
        set_gate(true);
        work.free = 'y';
        for (unsigned n = 0; n < 20; n++)
                for (char name = 'a'; name < 'g'; name++) {
                        Task *t = calloc(1, sizeof(*t));
                        Work *w;

                        assert_non_null(t);
                        t->name = name;
                        assert_int_equal(work_begin(world, &named_class, t, &w), 0);
                        if (n == 0)
                                while (count_running() <= (unsigned) (name - 'a'))
                                        assert_true(sd_event_run(event, 100 * 1000) >= 0);
                        work_forget(w);
                }
        for (unsigned k = 0; k < 3; k++)
                assert_true(sd_event_run(event, 500 * 1000) >= 0); /* longer than the worker waits */
        assert_int_equal(count_threads(), n_threads_before + 6);
        begin(WORK_KEYS, 'y'); /* others go on */
        run_until(1);
        set_gate(false);
        work_wait(world, WORK_KEYS);
        assert_int_equal(work.n_run, 7);
}

/* It is read when the other one has ended. */
static void what_waits_for_its_own_is_done_after_it(void **state) {
        set_gate(true);
        for (unsigned n = 0; n < 3; n++) {
                Task *t = calloc(1, sizeof(*t));

                assert_non_null(t);
                t->name = 'a';
                assert_int_equal(work_begin(world, &named_class, t, NULL), 0);
        }
        wait_until(&work.n_running, 1);
        set_gate(false);
        work_wait(world, WORK_KEYS);
        hear();
        assert_string_equal(told, "aaa");
        assert_int_equal(work.n_running_max, 1);
}

static void when_no_work_waits_nothing_wakes(void **state) {
        for (unsigned k = 0; k < 20; k++)
                begin(WORK_FILES, 'x');
        work_wait(world, WORK_FILES);
        hear();
        assert_int_equal(sd_event_run(event, 3 * 1000 * 1000), 0);
}

static void a_name_lookup_that_hangs_does_not_delay_the_disk(void **state) {
        set_gate(true);
        begin(WORK_NAMES, 'n');
        wait_until(&work.n_running, 1);
        begin(WORK_DISK, 'd');
        wait_until(&work.n_running, 2);
        set_gate(false);
        work_wait(world, WORK_NAMES);
}

static void work_forgotten_before_it_runs_does_not_run(void **state) {
        Work *w;

        set_gate(true);
        for (unsigned k = 0; k < 4; k++)
                begin(WORK_GROUPS, 'a');
        wait_until(&work.n_running, 4);
        w = begin(WORK_GROUPS, 'b');
        begin(WORK_GROUPS, 'c');
        assert_null(work_forget(w));
        assert_int_equal(work.n_freed, 1);
        set_gate(false);
        work_wait(world, WORK_GROUPS);
        hear();
        assert_int_equal(work.n_run, 5);
        assert_null(strchr(work.order, 'b'));
        assert_int_equal(strlen(told), 5);
        assert_null(strchr(told, 'b'));
}

static void forgotten_disk_work_still_runs(void **state) {
        Work *w;

        set_gate(true);
        begin(WORK_DISK, 'a');
        wait_until(&work.n_running, 1);
        w = begin(WORK_DISK, 'b');
        work_forget(w);
        set_gate(false);
        work_wait(world, WORK_DISK);
        hear();
        assert_string_equal(work.order, "ab");
        assert_string_equal(told, "a");
        assert_int_equal(work.n_freed, 1);
}

static void work_forgotten_while_it_runs_is_not_told(void **state) {
        Work *w;

        set_gate(true);
        w = begin(WORK_NAMES, 'a');
        wait_until(&work.n_running, 1);
        work_forget(w);
        assert_int_equal(work.n_freed, 0);
        set_gate(false);
        wait_until(&work.n_freed, 1);
        hear();
        assert_string_equal(told, "");
}

static void work_forgotten_after_it_ran_is_not_told(void **state) {
        Work *w = begin(WORK_NAMES, 'a');

        begin(WORK_DISK, 'b');
        work_wait(world, WORK_NAMES);
        work_wait(world, WORK_DISK);
        work_forget(w);
        assert_int_equal(work.n_freed, 1);
        hear();
        assert_string_equal(told, "b");
}

/* A new request comes whenever a result is told. */
static unsigned n_asked;

static int on_asked(sd_event_source *source, void *userdata) {
        assert_int_equal(strlen(told), n_asked++);
        return 0;
}

static void one_result_is_told_in_each_turn(void **state) {
        sd_event_source *question;

        for (char name = 'a'; name <= 'h'; name++)
                begin(WORK_DISK, name);
        work_wait(world, WORK_DISK);
        n_asked = 0;
        assert_true(sd_event_add_defer(event, &question, on_asked, NULL) >= 0);
        assert_true(sd_event_source_set_priority(question, SD_EVENT_PRIORITY_IMPORTANT) >= 0);
        for (unsigned k = 0; k < 8; k++) {
                assert_true(sd_event_source_set_enabled(question, SD_EVENT_ONESHOT) >= 0);
                assert_true(sd_event_run(event, 0) > 0);
                assert_true(sd_event_run(event, 0) > 0);
        }
        assert_string_equal(told, "abcdefgh");
        assert_int_equal(n_asked, 8);
        sd_event_source_unref(question);
}

static void a_result_for_many_is_told_to_one_in_each_turn(void **state) {
        begin_telling(WORK_KEYS, 'a', 3);
        work_wait(world, WORK_KEYS);
        assert_true(sd_event_run(event, 0) > 0);
        assert_string_equal(told, ".");
        assert_true(sd_event_run(event, 0) > 0);
        assert_string_equal(told, "..");
        assert_true(sd_event_run(event, 0) > 0);
        assert_string_equal(told, "...a");
        assert_int_equal(sd_event_run(event, 0), 0);
}

static void work_can_be_forgotten_while_it_is_being_told(void **state) {
        Work *w = begin_telling(WORK_KEYS, 'a', 3);

        work_wait(world, WORK_KEYS);
        assert_true(sd_event_run(event, 0) > 0);
        work_forget(w);
        hear();
        assert_string_equal(told, ".");
        assert_int_equal(work.n_freed, 1);
}

static int on_other_work(sd_event_source *source, void *userdata) {
        assert_string_equal(told, "abcd");
        return 0;
}

static void all_results_are_told_before_new_work_is_begun(void **state) {
        sd_event_source *other;

        for (char name = 'a'; name <= 'd'; name++)
                begin(WORK_DISK, name);
        work_wait(world, WORK_DISK);
        assert_true(sd_event_add_defer(event, &other, on_other_work, NULL) >= 0);
        hear();
        assert_string_equal(told, "abcd");
        sd_event_source_unref(other);
}

/* On a busy machine the thread may have gone before the next work comes, but not each time. */
static void a_thread_waits_for_the_work_that_comes_next(void **state) {
        enum { N = 60 }; /* told[] has room for more */

        for (unsigned k = 0; k < N; k++) {
                begin(WORK_FILES, 'x');
                while (strlen(told) == k)
                        assert_true(sd_event_run(event, UINT64_MAX) >= 0);
        }
        assert_true(work.n_created >= 1 && work.n_created <= N / 2);
}

static void without_work_there_is_no_thread(void **state) {
        begin(WORK_DISK, 'a');
        begin(WORK_NAMES, 'b');
        begin(WORK_KEYS, 'c');
        begin(WORK_GROUPS, 'd');
        for (WorkQueue q = 0; q < _WORK_QUEUE_MAX; q++)
                work_wait(world, q);
        hear();
        while (count_threads() >
               n_threads_before) /* the kernel needs a moment; the test hangs if the promise is broken */
                sched_yield();
}

static void threads_block_all_signals(void **state) {
        begin(WORK_DISK, 'a');
        work_wait(world, WORK_DISK);
        assert_int_equal(work.n_run, 1);
        assert_false(work.has_signals);
}

static void without_threads_work_runs_at_once(void **state) {
        work.thread_error = EAGAIN;
        for (WorkQueue q = 0; q < WORK_CHECKS; q++)
                begin(q, (char) ('a' + q));
        assert_string_equal(work.order, "abcdef");
        assert_string_equal(told, "");
        hear();
        assert_string_equal(told, "abcdef");
}

static void without_threads_checks_are_refused(void **state) {
        char task;

        work.thread_error = EAGAIN;
        assert_int_equal(work_begin(world, &classes[WORK_CHECKS], &task, NULL), -EAGAIN);
        work_wait(world, WORK_CHECKS);
        assert_int_equal(work.n_run, 0);
}

static void freeing_the_worker_waits_for_the_disk(void **state) {
        for (char name = 'a'; name <= 'h'; name++)
                begin(WORK_DISK, name);
        world = world_free(world);
        assert_string_equal(work.order, "abcdefgh");
        assert_int_equal(work.n_freed, 8);
        assert_string_equal(told, "");
}

static void freeing_the_worker_does_not_wait_for_a_name_lookup(void **state) {
        set_gate(true);
        begin(WORK_NAMES, 'a');
        wait_until(&work.n_running, 1);
        world = world_free(world);
        assert_int_equal(work.n_freed, 0);
        set_gate(false);
        wait_until(&work.n_freed, 1);
        assert_string_equal(told, "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(results_are_told_in_the_loop),
                TEST(disk_work_runs_one_at_a_time_in_order),
                TEST(sixteen_names_are_looked_up_at_a_time),
                TEST(four_keys_are_loaded_at_a_time),
                TEST(eight_chips_are_used_at_a_time),
                TEST(four_groups_are_looked_up_at_a_time),
                TEST(four_steps_of_checks_run_at_a_time),
                TEST(a_name_lookup_that_hangs_does_not_delay_the_disk),
                TEST(work_goes_on_behind_threads_that_hang),
                TEST(threads_that_hang_are_not_without_number),
                TEST(what_hangs_keeps_one_thread_however_often_it_is_asked_for),
                TEST(what_waits_for_its_own_is_done_after_it),
                TEST(when_no_work_waits_nothing_wakes),
                TEST(work_forgotten_before_it_runs_does_not_run),
                TEST(forgotten_disk_work_still_runs),
                TEST(work_forgotten_while_it_runs_is_not_told),
                TEST(work_forgotten_after_it_ran_is_not_told),
                TEST(one_result_is_told_in_each_turn),
                TEST(a_result_for_many_is_told_to_one_in_each_turn),
                TEST(work_can_be_forgotten_while_it_is_being_told),
                TEST(all_results_are_told_before_new_work_is_begun),
                TEST(a_thread_waits_for_the_work_that_comes_next),
                TEST(without_work_there_is_no_thread),
                TEST(threads_block_all_signals),
                TEST(without_threads_work_runs_at_once),
                TEST(without_threads_checks_are_refused),
                TEST(freeing_the_worker_waits_for_the_disk),
                TEST(freeing_the_worker_does_not_wait_for_a_name_lookup),
        };

        pthread_t first;

        assert_int_equal(pthread_create(&first, NULL, do_nothing, NULL), 0);
        assert_int_equal(pthread_join(first, NULL), 0);
        n_threads_before = count_threads();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
