/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "basic/cleanup.h"
#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "basic/world-event.h"
#include "calls.h"
#include "dpsd/filewatch.h"
#include "remove-tree.h"

/* Replaces libsystemd's function: the time of a watch runs ten times as fast. */
int sd_event_source_set_time(sd_event_source *s, uint64_t usec) {
        return sd_event_source_set_time_relative(s, usec_sub(usec, now_usec(CLOCK_BOOTTIME)) / 10);
}

typedef struct Fixture {
        Calls calls;
        World *world;
        FileWatch *watch;
        char directory[64];
        char path[128]; /* of the watched file */
        int fd;
        int directory_fd; /* of the directory of ours that is watched */
} Fixture;

static void write_file(Fixture *f, const char *name, const char *text) {
        _cleanup_(closep) int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void replace_link(Fixture *f, const char *target, const char *name) {
        assert_int_equal(symlinkat(target, f->fd, "new-link"), 0);
        assert_int_equal(renameat(f->fd, "new-link", f->fd, name), 0);
}

static void make_directory(Fixture *f, const char *name) {
        assert_int_equal(mkdirat(f->fd, name, 0700), 0);
}

static int setup(void **state) {
        Fixture *f = test_calloc(1, sizeof(*f));

        (void) snprintf(f->directory, sizeof(f->directory), "/tmp/dps-test-filewatch-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->fd >= 0);
        f->directory_fd = -1;
        assert_true(sd_event_new(&f->calls.event) >= 0);
        assert_int_equal(world_event_new(f->calls.event, &f->world), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        file_watch_free(f->watch);
        world_free(f->world);
        sd_event_unref(f->calls.event);
        close(f->fd);
        closep(&f->directory_fd);
        assert_int_equal(remove_tree(f->directory), 0);
        test_free(f);
        return 0;
}

/* The first look finds the directories to be watched, the second what has changed until they were. */
static void let_it_look(Fixture *f) {
        for (unsigned n = 0; n < 2; n++) {
                work_wait(f->world, WORK_FILES);
                assert_true(sd_event_run(f->calls.event, USEC_PER_SEC) > 0);
        }
}

static void start_paths(Fixture *f, char *const *paths, file_watch_handler_t handler, void *userdata) {
        assert_int_equal(file_watch_new(f->calls.event, f->world, paths, handler, userdata, &f->watch), 0);
        let_it_look(f);
}

static void start(Fixture *f, const char *name) {
        char *paths[] = { f->path, NULL };

        (void) snprintf(f->path, sizeof(f->path), "%s/%s", f->directory, name);
        start_paths(f, paths, count_call, &f->calls);
}

static void a_file_that_is_written_is_reported(void **state) {
        Fixture *f = *state;

        write_file(f, "key", "old");
        start(f, "key");
        write_file(f, "key", "new");
        await_call(&f->calls);
}

static void a_file_that_is_written_before_its_directory_is_watched_is_reported(void **state) {
        char *paths[2] = { 0 };
        Fixture *f = *state;

        (void) snprintf(f->path, sizeof(f->path), "%s/key", f->directory);
        paths[0] = f->path;
        write_file(f, "key", "old");
        assert_int_equal(file_watch_new(f->calls.event, f->world, paths, count_call, &f->calls, &f->watch),
                         0);
        work_wait(f->world, WORK_FILES);
        write_file(f, "key", "newer");
        await_call(&f->calls);
}

static void a_file_that_is_replaced_is_reported(void **state) {
        Fixture *f = *state;

        write_file(f, "key", "old");
        start(f, "key");
        assert_int_equal(file_write_atomic(f->fd, "key", "new", 3, 0600, (gid_t) -1), 0);
        await_call(&f->calls);
}

static void a_file_that_appears_is_reported(void **state) {
        Fixture *f = *state;

        start(f, "key");
        write_file(f, "key", "new");
        await_call(&f->calls);
}

static void a_file_that_is_removed_is_reported(void **state) {
        Fixture *f = *state;

        write_file(f, "key", "old");
        start(f, "key");
        assert_int_equal(unlinkat(f->fd, "key", 0), 0);
        await_call(&f->calls);
}

static void a_change_of_the_mode_is_reported(void **state) {
        Fixture *f = *state;

        write_file(f, "key", "old");
        start(f, "key");
        assert_int_equal(fchmodat(f->fd, "key", 0640, 0), 0);
        await_call(&f->calls);
}

static void a_burst_is_reported_once(void **state) {
        Fixture *f = *state;

        start(f, "key");
        for (unsigned i = 0; i < 10; i++) {
                write_file(f, "key", "new");
                assert_true(sd_event_run(f->calls.event, 0) >= 0);
        }
        await_call(&f->calls);
        assert_quiet(&f->calls);
}

static void each_of_two_changes_is_reported(void **state) {
        Fixture *f = *state;

        start(f, "key");
        write_file(f, "key", "one");
        await_call(&f->calls);
        write_file(f, "key", "two");
        await_call(&f->calls);
}

static void other_files_of_the_directory_are_not_reported(void **state) {
        Fixture *f = *state;

        write_file(f, "key", "old");
        start(f, "key");
        write_file(f, "key.bak", "old");
        write_file(f, "ke", "old");
        assert_quiet(&f->calls);
}

static void a_read_is_not_reported(void **state) {
        _cleanup_(freep) char *text = NULL;
        Fixture *f = *state;

        write_file(f, "key", "old");
        start(f, "key");
        assert_int_equal(file_read_at(f->fd, "key", 16, &text, NULL), 0);
        assert_quiet(&f->calls);
}

static void a_link_that_leads_elsewhere_is_reported(void **state) {
        Fixture *f = *state;

        write_file(f, "key.1", "one");
        write_file(f, "key.2", "two");
        replace_link(f, "key.1", "key");
        start(f, "key");
        replace_link(f, "key.2", "key");
        await_call(&f->calls);
}

/* The way in which Kubernetes mounts secrets: key -> ..data/key, ..data -> ..1 */
static void a_directory_swapped_under_its_link_is_reported(void **state) {
        Fixture *f = *state;

        make_directory(f, "..1");
        make_directory(f, "..2");
        write_file(f, "..1/key", "one");
        write_file(f, "..2/key", "two");
        replace_link(f, "..1", "..data");
        replace_link(f, "..data/key", "key");
        start(f, "key");
        replace_link(f, "..2", "..data");
        await_call(&f->calls);
}

/* The way in which certbot keeps certificates: our link leads into live/, whose links lead into archive/. */
static void a_change_of_a_link_behind_a_link_is_reported(void **state) {
        Fixture *f = *state;

        make_directory(f, "live");
        make_directory(f, "archive");
        write_file(f, "archive/cert1", "one");
        write_file(f, "archive/cert2", "two");
        replace_link(f, "../archive/cert1", "live/cert");
        replace_link(f, "live/cert", "cert");
        start(f, "cert");
        replace_link(f, "../archive/cert2", "live/cert");
        await_call(&f->calls);
}

static void the_target_of_a_new_link_is_watched(void **state) {
        Fixture *f = *state;

        make_directory(f, "a");
        make_directory(f, "b");
        write_file(f, "a/key", "one");
        write_file(f, "b/key", "two");
        replace_link(f, "a/key", "key");
        start(f, "key");
        replace_link(f, "b/key", "key");
        await_call(&f->calls);
        write_file(f, "b/key", "three");
        await_call(&f->calls);
}

static void a_circle_of_links_does_not_loop_for_ever(void **state) {
        Fixture *f = *state;

        replace_link(f, "b", "a");
        replace_link(f, "a", "b");
        start(f, "a");
        replace_link(f, "c", "b");
        write_file(f, "c", "at last");
        await_call(&f->calls);
}

static void a_directory_that_appears_later_is_watched(void **state) {
        Fixture *f = *state;

        start(f, "certs/new/key");
        make_directory(f, "certs");
        assert_quiet(&f->calls);
        make_directory(f, "certs/new");
        assert_quiet(&f->calls);
        write_file(f, "certs/new/key", "one");
        await_call(&f->calls);
}

static void a_directory_that_is_replaced_is_watched(void **state) {
        Fixture *f = *state;

        make_directory(f, "certs");
        make_directory(f, "certs.new");
        write_file(f, "certs/key", "one");
        write_file(f, "certs.new/key", "two");
        start(f, "certs/key");
        assert_int_equal(renameat(f->fd, "certs", f->fd, "certs.old"), 0);
        assert_int_equal(renameat(f->fd, "certs.new", f->fd, "certs"), 0);
        await_call(&f->calls);
        write_file(f, "certs/key", "three");
        await_call(&f->calls);
}

static void each_of_several_files_is_watched(void **state) {
        char key[128], cert[128], *paths[] = { key, cert, NULL };
        Fixture *f = *state;

        make_directory(f, "private");
        (void) snprintf(key, sizeof(key), "%s/private/key", f->directory);
        (void) snprintf(cert, sizeof(cert), "%s/cert", f->directory);
        start_paths(f, paths, count_call, &f->calls);
        write_file(f, "cert", "one");
        await_call(&f->calls);
        write_file(f, "private/key", "one");
        await_call(&f->calls);
}

static void who_is_told_may_end_the_watch(void *userdata) {
        Fixture *f = userdata;

        f->calls.n++;
        f->watch = file_watch_free(f->watch);
}

static void the_handler_may_end_the_watch(void **state) {
        char path[128], *paths[] = { path, NULL };
        Fixture *f = *state;

        (void) snprintf(path, sizeof(path), "%s/key", f->directory);
        start_paths(f, paths, who_is_told_may_end_the_watch, f);
        write_file(f, "key", "one");
        await_call(&f->calls);
        assert_null(f->watch);
}

/* ---- directories of ours ---- */

/* Open, as the daemon has it, and with something in it. */
static void start_directory(Fixture *f, const char *name) {
        char *paths[] = { f->path, NULL }, inside[160];

        make_directory(f, name);
        (void) snprintf(inside, sizeof(inside), "%s/.lock", name);
        write_file(f, inside, "");
        (void) snprintf(f->path, sizeof(f->path), "%s/%s", f->directory, name);
        f->directory_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->directory_fd >= 0);
        assert_int_equal(
                file_watch_new_directories(f->calls.event, f->world, paths, count_call, &f->calls, &f->watch),
                0);
        let_it_look(f);
}

static void what_others_do_beside_a_directory_wakes_nobody(void **state) {
        Fixture *f = *state;

        start_directory(f, "dps");
        write_file(f, "other", "one");
        write_file(f, "other", "two");
        make_directory(f, "others");
        assert_int_equal(renameat(f->fd, "other", f->fd, "others/other"), 0);
        assert_int_equal(unlinkat(f->fd, "others/other", 0), 0);
        assert_int_equal(unlinkat(f->fd, "others", AT_REMOVEDIR), 0);
        assert_int_equal(sd_event_run(f->calls.event, 0), 0);
}

static void what_is_written_into_a_directory_is_not_reported(void **state) {
        Fixture *f = *state;

        start_directory(f, "dps");
        assert_int_equal(file_write_atomic(f->directory_fd, "gateway.json", "new", 3, 0600, (gid_t) -1), 0);
        assert_int_equal(sd_event_run(f->calls.event, 0), 0);
}

static void a_directory_that_is_removed_and_made_again_is_reported(void **state) {
        Fixture *f = *state;

        start_directory(f, "dps");
        for (unsigned k = 0; k < 2; k++) {
                assert_int_equal(unlinkat(f->fd, "dps/.lock", 0), 0);
                assert_int_equal(unlinkat(f->fd, "dps", AT_REMOVEDIR), 0);
                await_call(&f->calls);
                make_directory(f, "dps");
                await_call(&f->calls);
                write_file(f, "dps/.lock", "");
        }
}

static void a_directory_in_place_of_another_is_reported(void **state) {
        Fixture *f = *state;

        start_directory(f, "dps");
        for (const char *aside = "one"; aside; aside = streq(aside, "one") ? "two" : NULL) {
                assert_int_equal(renameat(f->fd, "dps", f->fd, aside), 0);
                make_directory(f, "dps");
                await_call(&f->calls);
        }
}

static void a_directory_that_goes_with_the_one_above_it_is_reported(void **state) {
        Fixture *f = *state;

        make_directory(f, "run");
        start_directory(f, "run/dps");
        assert_int_equal(renameat(f->fd, "run", f->fd, "old"), 0);
        await_call(&f->calls);
}

static void a_link_to_another_directory_is_reported(void **state) {
        Fixture *f = *state;
        char *paths[] = { f->path, NULL };

        make_directory(f, "one");
        make_directory(f, "two");
        replace_link(f, "one", "dps");
        (void) snprintf(f->path, sizeof(f->path), "%s/dps", f->directory);
        assert_int_equal(
                file_watch_new_directories(f->calls.event, f->world, paths, count_call, &f->calls, &f->watch),
                0);
        let_it_look(f);
        replace_link(f, "two", "dps");
        await_call(&f->calls);
}

static void no_paths_are_an_error(void **state) {
        FileWatch *unset = (FileWatch *) 0x1, *w = unset;
        char *paths[] = { NULL };
        Fixture *f = *state;

        assert_int_equal(file_watch_new(f->calls.event, f->world, paths, count_call, &f->calls, &w), -ENOENT);
        assert_ptr_equal(w, unset);
}

#define WITH_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_DIRECTORY(a_file_that_is_written_is_reported),
                WITH_DIRECTORY(a_file_that_is_written_before_its_directory_is_watched_is_reported),
                WITH_DIRECTORY(a_file_that_is_replaced_is_reported),
                WITH_DIRECTORY(a_file_that_appears_is_reported),
                WITH_DIRECTORY(a_file_that_is_removed_is_reported),
                WITH_DIRECTORY(a_change_of_the_mode_is_reported),
                WITH_DIRECTORY(a_burst_is_reported_once),
                WITH_DIRECTORY(each_of_two_changes_is_reported),
                WITH_DIRECTORY(other_files_of_the_directory_are_not_reported),
                WITH_DIRECTORY(a_read_is_not_reported),
                WITH_DIRECTORY(a_link_that_leads_elsewhere_is_reported),
                WITH_DIRECTORY(a_directory_swapped_under_its_link_is_reported),
                WITH_DIRECTORY(a_change_of_a_link_behind_a_link_is_reported),
                WITH_DIRECTORY(the_target_of_a_new_link_is_watched),
                WITH_DIRECTORY(a_circle_of_links_does_not_loop_for_ever),
                WITH_DIRECTORY(a_directory_that_appears_later_is_watched),
                WITH_DIRECTORY(a_directory_that_is_replaced_is_watched),
                WITH_DIRECTORY(each_of_several_files_is_watched),
                WITH_DIRECTORY(the_handler_may_end_the_watch),
                WITH_DIRECTORY(what_others_do_beside_a_directory_wakes_nobody),
                WITH_DIRECTORY(what_is_written_into_a_directory_is_not_reported),
                WITH_DIRECTORY(a_directory_that_is_removed_and_made_again_is_reported),
                WITH_DIRECTORY(a_directory_in_place_of_another_is_reported),
                WITH_DIRECTORY(a_directory_that_goes_with_the_one_above_it_is_reported),
                WITH_DIRECTORY(a_link_to_another_directory_is_reported),
                WITH_DIRECTORY(no_paths_are_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
