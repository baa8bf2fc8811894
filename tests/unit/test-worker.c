/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "dpsd/writer.h"

/* --- a disk as slow and as broken as a test wants it ---------------------------------------------------------- */

static struct {
        pthread_mutex_t mutex;
        pthread_cond_t change;
        bool is_closed;  /* no sync of a file comes to an end */
        bool is_reached; /* one has begun */
        bool has_signals;
        int file_error, directory_error, thread_error;
        unsigned n_files, n_directories;
} disk = { .mutex = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER };

static int sync_file(void) {
        sigset_t blocked;

        disk.n_files++;
        disk.is_reached = true;
        pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        disk.has_signals = disk.has_signals || !sigismember(&blocked, SIGTERM);
        pthread_cond_broadcast(&disk.change);
        while (disk.is_closed)
                pthread_cond_wait(&disk.change, &disk.mutex);
        return disk.file_error;
}

/* In place of the C library's. */
int fsync(int fd) {
        struct stat st;
        int e;

        if (fstat(fd, &st) < 0)
                return -1;
        pthread_mutex_lock(&disk.mutex);
        if (S_ISDIR(st.st_mode)) {
                disk.n_directories++;
                e = disk.directory_error;
        } else
                e = sync_file();
        pthread_mutex_unlock(&disk.mutex);
        errno = e;
        return e ? -1 : 0;
}

typedef int (*create_t)(pthread_t *, const pthread_attr_t *, void *(*) (void *), void *);

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *),
                   void *userdata) {
        create_t next = (create_t) dlsym(RTLD_NEXT, "pthread_create");

        return disk.thread_error ?: next(thread, attributes, function, userdata);
}

static void close_gate(void) {
        pthread_mutex_lock(&disk.mutex);
        disk.is_closed = true;
        disk.is_reached = false;
        pthread_mutex_unlock(&disk.mutex);
}

static void wait_for_sync(void) {
        pthread_mutex_lock(&disk.mutex);
        while (!disk.is_reached)
                pthread_cond_wait(&disk.change, &disk.mutex);
        pthread_mutex_unlock(&disk.mutex);
}

static void open_gate(void) {
        pthread_mutex_lock(&disk.mutex);
        disk.is_closed = false;
        pthread_cond_broadcast(&disk.change);
        pthread_mutex_unlock(&disk.mutex);
}

/* --- around each test ----------------------------------------------------------------------------------------- */

static char path[32];
static int directory_fd;
static sd_event *event;
static Writer *writer;

static struct told {
        unsigned n;
        int r;
} a, b;

static void on_written(int r, void *userdata) {
        struct told *t = userdata;

        t->n++;
        t->r = r;
}

static int set_up(void **state) {
        strcpy(path, "/tmp/test-writer-XXXXXX");
        assert_non_null(mkdtemp(path));
        directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(directory_fd >= 0);
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(writer_new(event, directory_fd, &writer), 0);
        disk.file_error = disk.directory_error = disk.thread_error = 0;
        disk.n_files = disk.n_directories = 0;
        disk.has_signals = false;
        a = b = (struct told){ 0 };
        return 0;
}

static bool is_anything(const char *name) {
        return !streq(name, ".") && !streq(name, "..");
}

static int tear_down(void **state) {
        _cleanup_(strv_freep) char **names = NULL;

        writer = writer_free(writer);
        event = sd_event_unref(event);
        assert_int_equal(directory_list(directory_fd, is_anything, &names), 0);
        STRV_FOREACH(name, names)
                assert_int_equal(unlinkat(directory_fd, *name, 0), 0);
        close(directory_fd);
        return rmdir(path);
}

static void put(const char *file, const char *text, struct told *told) {
        assert_int_equal(writer_put(writer, file, text, told ? on_written : NULL, told), 0);
}

/* All handlers of what is written by now. */
static void hear(void) {
        writer_wait(writer, NULL);
        while (sd_event_run(event, 0) > 0)
                ;
}

static void assert_file(const char *file, const char *text) {
        _cleanup_(freep) char *found = NULL;

        assert_int_equal(file_read_at(directory_fd, file, 1000, &found, NULL), 0);
        assert_string_equal(found, text);
}

static void assert_n_files(size_t n) {
        _cleanup_(strv_freep) char **names = NULL;

        assert_int_equal(directory_list(directory_fd, is_anything, &names), 0);
        assert_int_equal(strv_length(names), n);
}

/* --- promises ------------------------------------------------------------------------------------------------- */

static void a_file_is_written_for_us_alone_and_told(void **state) {
        struct stat st;

        put("x", "text", &a);
        hear();
        assert_int_equal(a.n, 1);
        assert_int_equal(a.r, 0);
        assert_file("x", "text");
        assert_int_equal(fstatat(directory_fd, "x", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
}

static void nobody_is_told_before_it_is_durable(void **state) {
        close_gate();
        put("x", "text", &a);
        wait_for_sync();
        while (sd_event_run(event, 0) > 0)
                ;
        assert_int_equal(a.n, 0);
        assert_int_equal(faccessat(directory_fd, "x", F_OK, 0), -1);
        open_gate();
        hear();
        assert_int_equal(a.n, 1);
}

static void a_newer_text_overtakes_one_that_waits(void **state) {
        close_gate();
        put("first", "text", NULL);
        wait_for_sync();
        put("x", "old", &a);
        put("x", "new", &b);
        open_gate();
        hear();
        assert_file("x", "new");
        assert_int_equal(disk.n_files, 2);
        assert_int_equal(a.n, 1);
        assert_int_equal(b.n, 1);
        assert_int_equal(a.r, 0);
}

static void a_newer_text_follows_one_that_is_being_written(void **state) {
        close_gate();
        put("x", "old", &a);
        wait_for_sync();
        put("x", "new", &b);
        open_gate();
        hear();
        assert_file("x", "new");
        assert_int_equal(disk.n_files, 2);
        assert_int_equal(a.n, 1);
        assert_int_equal(b.n, 1);
}

static void what_has_gathered_is_made_durable_together(void **state) {
        close_gate();
        put("first", "text", NULL);
        wait_for_sync();
        for (char name[] = "a"; *name <= 'z'; ++*name)
                put(name, "text", &a);
        open_gate();
        hear();
        assert_int_equal(a.n, 26);
        assert_int_equal(disk.n_files, 27);
        assert_int_equal(disk.n_directories, 2);
}

static void more_than_can_be_open_at_once_is_written_all_the_same(void **state) {
        close_gate();
        put("first", "text", NULL);
        wait_for_sync();
        for (unsigned i = 0; i < 200; i++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "file-%u", i);
                put(name, name, &a);
        }
        open_gate();
        hear();
        assert_int_equal(a.n, 200);
        assert_file("file-199", "file-199");
}

/* Somebody asks whenever one is told. */
static void on_written_and_asked(int r, void *userdata) {
        on_written(r, &a);
        assert_true(sd_event_source_set_enabled(userdata, SD_EVENT_ONESHOT) >= 0);
}

/* Nobody else was told meanwhile. */
static int on_asked(sd_event_source *source, void *userdata) {
        b.n++;
        assert_int_equal(a.n, b.n);
        return 0;
}

static void who_asks_is_answered_before_the_next_is_told(void **state) {
        sd_event_source *question;

        assert_true(sd_event_add_defer(event, &question, on_asked, NULL) >= 0);
        assert_true(sd_event_source_set_enabled(question, SD_EVENT_OFF) >= 0);
        assert_true(sd_event_source_set_priority(question, SD_EVENT_PRIORITY_IMPORTANT) >= 0);
        close_gate();
        put("first", "text", NULL);
        wait_for_sync();
        for (char name[] = "a"; *name <= 'z'; ++*name)
                assert_int_equal(writer_put(writer, name, "text", on_written_and_asked, question), 0);
        open_gate();
        hear();
        assert_int_equal(a.n, 26);
        assert_int_equal(b.n, 26);
        sd_event_source_unref(question);
}

static int on_other_work(sd_event_source *source, void *userdata) {
        assert_int_equal(a.n, 26);
        b.n++;
        return 0;
}

static void all_are_told_before_other_work_goes_on(void **state) {
        sd_event_source *work;

        close_gate();
        put("first", "text", NULL);
        wait_for_sync();
        for (char name[] = "a"; *name <= 'z'; ++*name)
                put(name, "text", &a);
        open_gate();
        writer_wait(writer, NULL);
        assert_true(sd_event_add_defer(event, &work, on_other_work, NULL) >= 0);
        hear();
        assert_int_equal(b.n, 1);
        sd_event_source_unref(work);
}

static void a_full_disk_leaves_the_old_file_and_nothing_else(void **state) {
        put("x", "old", NULL);
        writer_wait(writer, NULL);
        disk.file_error = ENOSPC;
        put("x", "new", &a);
        hear();
        assert_int_equal(a.r, -ENOSPC);
        assert_file("x", "old");
        assert_n_files(1);
}

static void a_full_disk_is_tried_again(void **state) {
        disk.file_error = ENOSPC;
        put("x", "old", &a);
        hear();
        disk.file_error = 0;
        put("x", "new", &b);
        hear();
        assert_int_equal(b.r, 0);
        assert_file("x", "new");
}

static void a_name_that_cannot_be_made_durable_is_told(void **state) {
        disk.directory_error = EIO;
        put("x", "text", &a);
        hear();
        assert_int_equal(a.r, -EIO);
}

static void one_file_that_fails_harms_no_other(void **state) {
        assert_int_equal(mkdirat(directory_fd, "x", 0700), 0);
        assert_int_equal(mkdirat(directory_fd, "x/y", 0700), 0);
        close_gate();
        put("first", "text", NULL);
        wait_for_sync();
        put("x", "text", &a);
        put("z", "text", &b);
        open_gate();
        hear();
        assert_int_equal(a.r, -EISDIR);
        assert_int_equal(b.r, 0);
        assert_file("z", "text");
        assert_n_files(3);
        assert_int_equal(unlinkat(directory_fd, "x/y", AT_REMOVEDIR), 0);
        assert_int_equal(unlinkat(directory_fd, "x", AT_REMOVEDIR), 0);
}

static void who_has_cancelled_is_not_called(void **state) {
        close_gate();
        put("x", "text", &a);
        wait_for_sync();
        put("y", "text", &a);
        put("y", "text", &b);
        writer_cancel(writer, &a);
        open_gate();
        hear();
        assert_int_equal(a.n, 0);
        assert_int_equal(b.n, 1);
        assert_file("y", "text");
}

static void what_is_written_can_still_be_cancelled(void **state) {
        put("x", "text", &a);
        writer_wait(writer, NULL);
        writer_cancel(writer, &a);
        hear();
        assert_int_equal(a.n, 0);
}

static void the_end_waits_for_what_is_on_its_way(void **state) {
        put("x", "text", NULL);
        put("y", "text", NULL);
        writer = writer_free(writer);
        assert_file("x", "text");
        assert_file("y", "text");
}

static void when_the_loop_has_ended_it_is_written_all_the_same(void **state) {
        Writer *late = NULL;

        assert_true(sd_event_exit(event, 0) >= 0);
        assert_true(sd_event_loop(event) >= 0);
        assert_int_equal(writer_new(event, directory_fd, &late), 0);
        assert_int_equal(writer_put(late, "x", "text", on_written, &a), 0);
        assert_null(writer_free(late));
        assert_file("x", "text");
}

static void signals_are_not_for_the_thread(void **state) {
        put("x", "text", NULL);
        writer_wait(writer, NULL);
        assert_int_equal(disk.n_files, 1);
        assert_false(disk.has_signals);
}

static void where_there_can_be_no_thread_it_is_written_at_once(void **state) {
        disk.thread_error = EAGAIN;
        put("x", "text", &a);
        assert_file("x", "text");
        hear();
        assert_int_equal(a.n, 1);
        assert_int_equal(a.r, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(a_file_is_written_for_us_alone_and_told),
                TEST(nobody_is_told_before_it_is_durable),
                TEST(a_newer_text_overtakes_one_that_waits),
                TEST(a_newer_text_follows_one_that_is_being_written),
                TEST(what_has_gathered_is_made_durable_together),
                TEST(more_than_can_be_open_at_once_is_written_all_the_same),
                TEST(who_asks_is_answered_before_the_next_is_told),
                TEST(all_are_told_before_other_work_goes_on),
                TEST(a_full_disk_leaves_the_old_file_and_nothing_else),
                TEST(a_full_disk_is_tried_again),
                TEST(a_name_that_cannot_be_made_durable_is_told),
                TEST(one_file_that_fails_harms_no_other),
                TEST(who_has_cancelled_is_not_called),
                TEST(what_is_written_can_still_be_cancelled),
                TEST(the_end_waits_for_what_is_on_its_way),
                TEST(when_the_loop_has_ended_it_is_written_all_the_same),
                TEST(signals_are_not_for_the_thread),
                TEST(where_there_can_be_no_thread_it_is_written_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
