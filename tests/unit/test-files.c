/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "remove-tree.h"

static char path[40];
static int fd;

static int set_up(void **state) {
        strcpy(path, "/tmp/test-files-XXXXXX");
        assert_non_null(mkdtemp(path));
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 ? 0 : -1;
}

static int tear_down(void **state) {
        close(fd);
        return remove_tree(path);
}

static int put(const char *name, const char *text, mode_t mode) {
        return file_write_atomic(fd, name, text, strlen(text), mode, (gid_t) -1);
}

static void assert_text(const char *name, const char *expected) {
        _cleanup_(freep) char *text = NULL;
        size_t size;

        assert_int_equal(file_read_at(fd, name, 100, &text, &size), 0);
        assert_int_equal(size, strlen(expected));
        assert_string_equal(text, expected);
}

static struct stat stat_of(const char *name) {
        struct stat st;

        assert_int_equal(fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st;
}

static bool is_anything(const char *name) {
        return !streq(name, ".") && !streq(name, "..");
}

static size_t count_entries(void) {
        _cleanup_(strv_freep) char **names = NULL;

        assert_int_equal(directory_list(fd, is_anything, &names), 0);
        return strv_length(names);
}

static void written_text_is_read_back(void **state) {
        assert_int_equal(put("x", "text", 0600), 0);
        assert_text("x", "text");
        assert_int_equal(count_entries(), 1);
}

static void a_reader_of_the_old_file_keeps_it(void **state) {
        _cleanup_(closep) int old = -1;
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(put("x", "old", 0600), 0);
        old = openat(fd, "x", O_RDONLY | O_CLOEXEC);
        assert_int_equal(put("x", "new", 0600), 0);
        assert_int_equal(file_read_fd(old, 100, &text, NULL), 0);
        assert_string_equal(text, "old");
        assert_text("x", "new");
}

static void the_mode_does_not_depend_on_the_umask(void **state) {
        mode_t before = umask(0077);
        _cleanup_(closep) int made = -1;

        assert_int_equal(put("x", "text", 0640), 0);
        assert_int_equal(directory_make_at(fd, "d", 0750, (gid_t) -1, &made), 0);
        umask(before);
        assert_int_equal(stat_of("x").st_mode & 07777, 0640);
        assert_int_equal(stat_of("d").st_mode & 07777, 0750);
}

static void a_write_that_fails_leaves_nothing_behind(void **state) {
        assert_int_equal(mkdirat(fd, "x", 0700), 0);
        assert_int_equal(put("x", "text", 0600), -EISDIR);
        assert_int_equal(count_entries(), 1);
}

static void a_name_too_long_for_a_temporary_file_is_refused(void **state) {
        char name[NAME_MAX + 1];

        memset(name, 'x', NAME_MAX);
        name[NAME_MAX] = 0;
        assert_int_equal(put(name, "text", 0600), -ENAMETOOLONG);
        assert_int_equal(count_entries(), 0);
}

static void a_file_of_the_largest_size_is_read_and_a_larger_one_is_refused(void **state) {
        _cleanup_(freep) char *text = NULL, *more = NULL;

        assert_int_equal(put("x", "12345", 0600), 0);
        assert_int_equal(file_read_at(fd, "x", 5, &text, NULL), 0);
        assert_int_equal(file_read_at(fd, "x", 4, &more, NULL), -EFBIG);
        assert_null(more);
}

static void a_file_of_unknown_size_is_limited_too(void **state) {
        _cleanup_(freep) char *text = NULL, *more = NULL;

        assert_int_equal(file_read("/proc/self/status", 100000, &text, NULL), 0);
        assert_non_null(strstr(text, "\nPid:"));
        assert_int_equal(file_read("/proc/self/status", 10, &more, NULL), -EFBIG);
}

static void a_file_that_is_not_regular_is_refused(void **state) {
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(mkfifoat(fd, "fifo", 0600), 0);
        assert_int_equal(mkdirat(fd, "d", 0700), 0);
        assert_int_equal(file_read_at(fd, "fifo", 10, &text, NULL), -ENOTSUP);
        assert_int_equal(file_read_at(fd, "d", 10, &text, NULL), -EISDIR);
        assert_int_equal(file_read_at(fd, "none", 10, &text, NULL), -ENOENT);
        assert_null(text);
}

static void a_directory_that_exists_is_kept(void **state) {
        _cleanup_(closep) int first = -1, second = -1;
        struct stat before;

        assert_int_equal(directory_make_at(fd, "d", 0700, (gid_t) -1, &first), 0);
        before = stat_of("d");
        assert_int_equal(directory_make_at(fd, "d", 0750, (gid_t) -1, &second), 0);
        assert_int_equal(stat_of("d").st_ino, before.st_ino);
        assert_int_equal(stat_of("d").st_mode & 07777, 0750);
}

static void a_link_to_a_directory_is_refused(void **state) {
        int made = -1;

        assert_int_equal(symlinkat("/tmp", fd, "d"), 0);
        assert_int_equal(directory_make_at(fd, "d", 0700, (gid_t) -1, &made), -ENOTDIR);
        assert_int_equal(made, -1);
}

static void a_path_is_made_with_all_its_directories(void **state) {
        char deep[64];

        (void) snprintf(deep, sizeof(deep), "%s/a/b/c", path);
        assert_int_equal(directory_make_path(deep, 0700), 0);
        assert_int_equal(directory_make_path(deep, 0700), 0);
        assert_int_equal(stat_of("a/b/c").st_mode & 07777, 0700);
}

static void only_temporary_files_are_removed(void **state) {
        FileDraft draft;

        assert_int_equal(put("x", "text", 0600), 0);
        assert_int_equal(put(".lock", "text", 0600), 0);
        assert_int_equal(file_draft_write(&draft, fd, "x", "half", 4, 0600, (gid_t) -1), 0);
        assert_int_equal(count_entries(), 3);
        assert_int_equal(directory_remove_temporaries(fd), 0);
        assert_int_equal(count_entries(), 2);
        assert_text("x", "text");
        file_draft_discard(&draft, fd);
}

static void a_new_file_is_not_visible_until_it_is_renamed(void **state) {
        FileDraft draft;

        assert_int_equal(file_draft_write(&draft, fd, "x", "text", 4, 0600, (gid_t) -1), 0);
        assert_int_equal(faccessat(fd, "x", F_OK, 0), -1);
        assert_int_equal(file_draft_sync(&draft), 0);
        assert_int_equal(file_draft_rename(&draft, fd, "x"), 0);
        assert_text("x", "text");
        file_draft_discard(&draft, fd);
        assert_text("x", "text");
        assert_int_equal(count_entries(), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(written_text_is_read_back),
                TEST(a_reader_of_the_old_file_keeps_it),
                TEST(the_mode_does_not_depend_on_the_umask),
                TEST(a_write_that_fails_leaves_nothing_behind),
                TEST(a_name_too_long_for_a_temporary_file_is_refused),
                TEST(a_file_of_the_largest_size_is_read_and_a_larger_one_is_refused),
                TEST(a_file_of_unknown_size_is_limited_too),
                TEST(a_file_that_is_not_regular_is_refused),
                TEST(a_directory_that_exists_is_kept),
                TEST(a_link_to_a_directory_is_refused),
                TEST(a_path_is_made_with_all_its_directories),
                TEST(only_temporary_files_are_removed),
                TEST(a_new_file_is_not_visible_until_it_is_renamed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
