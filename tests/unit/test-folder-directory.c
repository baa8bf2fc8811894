/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "basic/folder-directory.h"
#include "basic/text.h"
#include "remove-tree.h"

#define NOBODY 65534

/* What was synced, in order: f for a file, d for a directory. Written by functions that replace the C
 * library's. */
static char synced[256];
static int directory_error;

int fsync(int fd) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -1;
        synced[strlen(synced)] = S_ISDIR(st.st_mode) ? 'd' : 'f';
        errno = S_ISDIR(st.st_mode) ? directory_error : 0;
        return errno ? -1 : 0;
}

static char base[32], path[64];
static Folder *folder;
static pid_t pid;

static void open_folder(void) {
        assert_int_equal(directory_folder_new(path, 0700, &folder), 0);
}

static int set_up(void **state) {
        strcpy(base, "/tmp/test-folder-XXXXXX");
        assert_non_null(mkdtemp(base));
        assert_int_equal(chmod(base, 0755), 0);
        (void) snprintf(path, sizeof(path), "%s/state", base);
        memset(synced, 0, sizeof(synced));
        directory_error = 0;
        open_folder();
        return 0;
}

static int tear_down(void **state) {
        folder = folder_free(folder);
        return remove_tree(base);
}

static void put(const char *name, const char *text) {
        assert_int_equal(folder_write(folder, name, text, strlen(text), 0640, (gid_t) -1), 0);
}

static void assert_file(const char *name, const char *text) {
        _cleanup_(freep) char *found = NULL;
        size_t size;

        assert_int_equal(folder_read(folder, name, 100, &found, &size), 0);
        assert_string_equal(found, text);
}

static bool is_anything(const char *name) {
        return !streq(name, ".") && !streq(name, "..");
}

static size_t count(void) {
        _cleanup_(strv_freep) char **names = NULL;

        assert_int_equal(folder_list(folder, is_anything, &names), 0);
        return strv_length(names);
}

/* Root can write even where the mode forbids it, so the test changes its uid. */
static void become(uid_t uid) {
        if (getuid() == 0)
                assert_int_equal(seteuid(uid), 0);
}

static void what_is_written_is_read(void **state) {
        FileFacts facts;

        put("x", "text");
        assert_file("x", "text");
        assert_int_equal(folder_look(folder, "x", &facts), 0);
        assert_true(facts.is_regular);
        assert_int_equal(facts.mode, 0640);
        assert_int_equal(facts.size, 4);
        assert_string_equal(synced, "");
}

static void all_files_of_a_commit_are_synced_before_the_folder(void **state) {
        FileCommit files[] = { { .name = "a", .text = "1" },
                               { .name = "b", .text = "2" },
                               { .name = "c", .text = "3" } };
        FileFacts facts;

        folder_commit(folder, files, 3);
        for (size_t k = 0; k < 3; k++)
                assert_int_equal(files[k].r, 0);
        assert_string_equal(synced, "fffd");
        assert_file("b", "2");
        assert_int_equal(folder_look(folder, "b", &facts), 0);
        assert_int_equal(facts.mode, 0600);
        assert_int_equal(count(), 3);
}

static void a_commit_of_many_opens_few_at_a_time(void **state) {
        FileCommit files[150];
        char names[150][8];

        for (size_t k = 0; k < 150; k++) {
                (void) snprintf(names[k], sizeof(names[k]), "%zu", k);
                files[k] = (FileCommit){ .name = names[k], .text = names[k] };
        }
        folder_commit(folder, files, 150);
        assert_int_equal(count(), 150);
        assert_int_equal(strcspn(synced, "d"), 64);
        assert_file("149", "149");
}

static void a_file_that_fails_does_not_affect_the_others(void **state) {
        FileCommit files[] = { { .name = "a", .text = "1" }, { .name = "b", .text = "2" } };
        Folder *inside = NULL;

        assert_int_equal(folder_make_folder(folder, "a", 0700, (gid_t) -1, &inside), 0);
        inside = folder_free(inside);
        folder_commit(folder, files, 2);
        assert_int_equal(files[0].r, -EISDIR);
        assert_int_equal(files[1].r, 0);
        assert_file("b", "2");
        assert_int_equal(count(), 2);
}

static void a_folder_that_cannot_be_synced_is_reported(void **state) {
        FileCommit files[] = { { .name = "a", .text = "1" } };

        directory_error = EIO;
        folder_commit(folder, files, 1);
        assert_int_equal(files[0].r, -EIO);
}

static void a_folder_inside_knows_its_path(void **state) {
        _cleanup_(folder_freep) Folder *inside = NULL, *again = NULL;
        char expected[96];

        assert_int_equal(folder_open_folder(folder, "in", &again), -ENOENT);
        assert_int_equal(folder_make_folder(folder, "in", 0750, (gid_t) -1, &inside), 0);
        (void) snprintf(expected, sizeof(expected), "%s/in", path);
        assert_string_equal(inside->path, expected);
        assert_int_equal(folder_write(inside, "x", "1", 1, 0600, (gid_t) -1), 0);
        assert_int_equal(folder_open_folder(folder, "in", &again), 0);
        assert_int_equal(folder_remove_folder(folder, "in"), -ENOTEMPTY);
        assert_int_equal(folder_remove(again, "x"), 0);
        assert_int_equal(folder_remove_folder(folder, "in"), 0);
}

static void a_second_process_is_locked_out_and_learns_by_whom(void **state) {
        _cleanup_(folder_freep) Folder *second = NULL;

        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
        assert_int_equal(directory_folder_new(path, 0700, &second), 0);
        assert_int_equal(directory_folder_lock(second, ".lock", &pid), -EBUSY);
        assert_int_equal(pid, getpid());
}

static void the_pid_of_a_former_holder_leaves_nothing_behind(void **state) {
        put(".lock", "4194303999\n");
        a_second_process_is_locked_out_and_learns_by_whom(state);
}

static void the_lock_removes_unfinished_files_of_a_power_cut(void **state) {
        put(".#x0123456789abcdef", "half");
        put("x", "whole");
        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
        assert_int_equal(count(), 2); /* x and the lock */
}

static uid_t owner_of(const char *name) {
        _cleanup_(freep) char *file = NULL;
        struct stat st;

        assert_true(asprintf(&file, "%s/%s", path, name) > 0);
        assert_int_equal(lstat(file, &st), 0);
        return st.st_uid;
}

static void what_root_makes_belongs_to_the_owner_of_the_directory(void **state) {
        FileCommit commit = { .name = "record", .text = "x" };
        _cleanup_(folder_freep) Folder *inside = NULL;

        if (geteuid() != 0)
                skip();
        assert_int_equal(chown(path, NOBODY, NOBODY), 0);
        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
        put("file", "x");
        folder_commit(folder, &commit, 1);
        assert_int_equal(commit.r, 0);
        assert_int_equal(folder_make_folder(folder, "inside", 0750, (gid_t) -1, &inside), 0);
        assert_int_equal(folder_write(inside, "file", "x", 1, 0640, (gid_t) -1), 0);
        assert_int_equal(owner_of(".lock"), NOBODY);
        assert_int_equal(owner_of("file"), NOBODY);
        assert_int_equal(owner_of("record"), NOBODY);
        assert_int_equal(owner_of("inside"), NOBODY);
        assert_int_equal(owner_of("inside/file"), NOBODY);
}

static void a_directory_that_is_replaced_is_followed(void **state) {
        _cleanup_(folder_freep) Folder *second = NULL;
        _cleanup_(freep) char *text = NULL;
        char aside[96];
        pid_t by;

        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
        assert_int_equal(folder_write(folder, "x", "old", 3, 0600, (gid_t) -1), 0);
        assert_int_equal(directory_folder_renew(folder, &pid), 0);

        (void) snprintf(aside, sizeof(aside), "%s.aside", path);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(directory_folder_new(path, 0700, &second), 0);
        assert_int_equal(directory_folder_lock(second, ".lock", &pid), 0);
        assert_int_equal(directory_folder_renew(folder, &by), -EBUSY);
        assert_int_equal(by, getpid());
        assert_int_equal(folder_read(folder, "x", 9, &text, NULL), 0); /* still the old one */

        second = folder_free(second);
        assert_int_equal(directory_folder_renew(folder, &pid), 1);
        text = erase_and_free(text);
        assert_int_equal(folder_read(folder, "x", 9, &text, NULL), -ENOENT);
        assert_int_equal(folder_write(folder, "x", "new", 3, 0600, (gid_t) -1), 0);
        assert_int_equal(count(), 2);
        assert_int_equal(directory_folder_new(path, 0700, &second), 0);
        assert_int_equal(directory_folder_lock(second, ".lock", &pid), -EBUSY); /* it is locked now */
        remove_tree(aside);
}

static void a_fifo_in_the_place_of_the_lock_holds_up_nothing(void **state) {
        _cleanup_(freep) char *lock = NULL;

        assert_true(asprintf(&lock, "%s/.lock", path) > 0);
        assert_int_equal(mkfifo(lock, 0600), 0);
        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
}

static void a_folder_that_cannot_be_made_is_tried_again(void **state) {
        _cleanup_(freep) char *text = NULL;
        FileCommit files[] = { { .name = "a", .text = "1" } };
        struct stat st;
        char lock[96];

        folder = folder_free(folder);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(chmod(base, 0555), 0);
        become(NOBODY);
        open_folder();
        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
        assert_false(directory_folder_is_open(folder));
        assert_int_equal(folder_read(folder, "a", 10, &text, NULL), -ENOENT);
        assert_int_equal(folder_remove(folder, "a"), -ENOENT);
        folder_commit(folder, files, 1);
        assert_int_equal(files[0].r, -EACCES);
        become(0);

        assert_int_equal(chmod(base, 0755), 0);
        folder_commit(folder, files, 1);
        assert_int_equal(files[0].r, 0);
        assert_true(directory_folder_is_open(folder));
        (void) snprintf(lock, sizeof(lock), "%s/.lock", path);
        assert_int_equal(stat(lock, &st), 0);
}

static void a_path_through_a_file_fails(void **state) {
        Folder *other = NULL;
        char wrong[96];

        put("file", "");
        (void) snprintf(wrong, sizeof(wrong), "%s/file/state", path);
        assert_int_equal(directory_folder_new(wrong, 0700, &other), -ENOTDIR);
        assert_null(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(what_is_written_is_read),
                TEST(all_files_of_a_commit_are_synced_before_the_folder),
                TEST(a_commit_of_many_opens_few_at_a_time),
                TEST(a_file_that_fails_does_not_affect_the_others),
                TEST(a_folder_that_cannot_be_synced_is_reported),
                TEST(a_folder_inside_knows_its_path),
                TEST(a_second_process_is_locked_out_and_learns_by_whom),
                TEST(the_pid_of_a_former_holder_leaves_nothing_behind),
                TEST(the_lock_removes_unfinished_files_of_a_power_cut),
                TEST(what_root_makes_belongs_to_the_owner_of_the_directory),
                TEST(a_directory_that_is_replaced_is_followed),
                TEST(a_fifo_in_the_place_of_the_lock_holds_up_nothing),
                TEST(a_folder_that_cannot_be_made_is_tried_again),
                TEST(a_path_through_a_file_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
