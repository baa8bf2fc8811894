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
#include "basic/module.h"
#include "basic/text.h"
#include "dps/sas.h"
#include "example.h"
#include "remove-tree.h"
#include "table.h"

static char directory[40];
static int fd;

static int set_up(void **state) {
        strcpy(directory, "/tmp/test-module-XXXXXX");
        assert_non_null(mkdtemp(directory));
        assert_int_equal(chmod(directory, 0755), 0);
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 ? 0 : -1;
}

static int tear_down(void **state) {
        close(fd);
        return remove_tree(directory);
}

static void put(const char *name, const void *data, size_t size) {
        assert_int_equal(file_write_atomic(fd, name, data, size, 0644, (gid_t) -1), 0);
}

static void install(const char *from, const char *to) {
        _cleanup_(freep) char *data = NULL, *path = NULL;
        size_t size;

        assert_true(asprintf(&path, EXAMPLE_DIRECTORY "/%s.so", from) > 0);
        assert_int_equal(file_read(path, 64U << 20, &data, &size), 0);
        put(to, data, size);
}

static const ExampleClass *load(const char *name) {
        _cleanup_(freep) char *why = NULL;
        const void *class = NULL;

        if (module_load(directory, name, "example", &class, &why) < 0)
                fail_msg("%s", why);
        return class;
}

/* Returns the message; the caller frees it. */
static char *assert_refused(int error, const char *name, const char *kind) {
        const void *class = "untouched";
        char *why = NULL;

        assert_int_equal(module_load(directory, name, kind, &class, &why), error);
        assert_string_equal(class, "untouched");
        assert_non_null(why);
        return why;
}

static void test_a_module_calls_the_program_and_libdps(void **state) {
        _cleanup_(freep) char *text = NULL, *expected = NULL;

        assert_int_equal(dps_percent_encode("a b?", &expected), 0); /* also loads libdps, as dpsd does */
        install("example", "example.so");
        assert_int_equal(load("example")->encode("a b\n", &text), 0);
        assert_string_equal(text, expected);
}

static void test_a_module_is_loaded_once(void **state) {
        const ExampleClass *class;

        install("example", "example.so");
        class = load("example");
        assert_ptr_equal(load("example"), class);
}

static void test_a_module_of_another_build_is_refused_with_both_builds_named(void **state) {
        _cleanup_(freep) char *why = NULL;

        install("example-of-another-build", "example.so");
        why = assert_refused(-ESTALE, "example", "example");
        assert_string_equal(why, "module example is of dps " DPS_VERSION
                                 " (build another), this is dps " DPS_VERSION " (build " DPS_BUILD_ID
                                 "): install both from one build");
}

static void test_a_module_of_another_version_is_refused_with_both_versions_named(void **state) {
        ModuleStamp stamp = MODULE_STAMP;
        _cleanup_(freep) char *why = NULL;

        strcpy(stamp.version, "9.9.9");
        memset(stamp.build_id, '\n', sizeof(stamp.build_id));
        put("example.so", &stamp, sizeof(stamp));
        why = assert_refused(-ESTALE, "example", "example");
        assert_non_null(strstr(why, "module example is of dps 9.9.9 (build ??"));
        assert_non_null(strstr(why, "this is dps " DPS_VERSION " (build " DPS_BUILD_ID ")"));
}

static void test_the_error_for_a_missing_module_names_its_file_and_package(void **state) {
        _cleanup_(freep) char *why = assert_refused(-ENOENT, "example", "example"), *expected = NULL;

        assert_true(
                asprintf(&expected,
                         "module example is not installed: there is no %s/example.so; install the package "
                         "dps-example, or dpsd again",
                         directory) > 0);
        assert_string_equal(why, expected);
}

static void test_a_missing_directory_is_a_missing_module(void **state) {
        _cleanup_(freep) char *why = NULL;
        const void *class;

        assert_int_equal(module_load("/nonexistent/modules", "example", "example", &class, &why), -ENOENT);
        assert_non_null(strstr(why, "install the package dps-example"));
}

static void assert_no_module(void) {
        _cleanup_(freep) char *why = assert_refused(-ENOEXEC, "example", "example");

        assert_true(endswith(why, "/example.so is not a module of dps"));
}

static void test_other_files_are_not_modules(void **state) {
        ModuleStamp stamp = MODULE_STAMP;

        put("example.so", "", 0);
        assert_no_module();
        put("example.so", "#!/bin/sh\n", 10);
        assert_no_module();
        put("example.so", &stamp, sizeof(stamp) - 1);
        assert_no_module();
        assert_int_equal(unlinkat(fd, "example.so", 0), 0);
        assert_int_equal(mkdirat(fd, "example.so", 0755), 0);
        assert_no_module();
}

static void test_a_fifo_does_not_block(void **state) {
        assert_int_equal(mkfifoat(fd, "example.so", 0644), 0);
        assert_no_module();
}

static void test_an_error_of_the_dynamic_loader_is_reported(void **state) {
        ModuleStamp stamp = MODULE_STAMP;
        _cleanup_(freep) char *why = NULL;

        put("example.so", &stamp, sizeof(stamp));
        why = assert_refused(-ELIBACC, "example", "example");
        assert_non_null(strstr(why, "module example cannot be loaded: /tmp/test-module-"));
}

static void test_a_renamed_module_is_refused(void **state) {
        _cleanup_(freep) char *why = NULL;

        install("example", "other.so");
        why = assert_refused(-ENOEXEC, "other", "example");
        assert_non_null(strstr(why, "/other.so is the example module example, not the example module other"));
}

static void test_a_module_of_another_kind_is_refused(void **state) {
        _cleanup_(freep) char *why = NULL;

        install("example", "example.so");
        why = assert_refused(-ENOEXEC, "example", "transport");
        assert_non_null(
                strstr(why, "/example.so is the example module example, not the transport module example"));
}

static const struct mode_case {
        const char *promise, *path;
        mode_t mode;
        int result;
} mode_cases[] = {
        { "a directory that its group can write to is refused", ".", 0775, -EPERM },
        { "a directory that everybody can write to is refused, sticky or not", ".", 01777, -EPERM },
        { "a module that its group can write to is refused", "example.so", 0664, -EPERM },
        { "a module that everybody can write to is refused", "example.so", 0646, -EPERM },
        { "a module need not be executable", "example.so", 0444, 0 },
};

static void check_mode(void **state) {
        const struct mode_case *c = *state;
        _cleanup_(freep) char *why = NULL;
        const void *class;

        assert_int_equal(set_up(NULL), 0);
        install("example", "example.so");
        assert_int_equal(fchmodat(fd, c->path, c->mode, 0), 0);
        assert_int_equal(module_load(directory, "example", "example", &class, &why), c->result);
        if (c->result < 0)
                assert_non_null(strstr(why, "nobody but root may be able to change it"));
        assert_int_equal(tear_down(NULL), 0);
}

static void assert_foreign_owner_is_refused(const char *path) {
        _cleanup_(freep) char *why = NULL;

        assert_int_equal(fchownat(fd, path, 65534, (gid_t) -1, 0), 0);
        why = assert_refused(-EPERM, "example", "example");
        assert_non_null(strstr(why, "belongs to uid 65534"));
        assert_int_equal(fchownat(fd, path, 0, (gid_t) -1, 0), 0);
}

static void test_a_file_of_another_user_is_refused(void **state) {
        if (geteuid() != 0)
                skip();

        install("example", "example.so");
        assert_foreign_owner_is_refused(".");
        assert_foreign_owner_is_refused("example.so");
}

static void test_a_link_is_not_followed(void **state) {
        free(assert_refused(-ENOENT, "example", "example"));
        assert_int_equal(symlinkat(EXAMPLE_DIRECTORY "/example.so", fd, "example.so"), 0);
        free(assert_refused(-ELOOP, "example", "example"));
}

static void test_a_name_cannot_lead_out_of_the_directory(void **state) {
        static const char *const names[] = { "", "../example", "/tmp/example", "Example", "example.so", "." };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                free(assert_refused(-EINVAL, names[i], "example"));
}

static void test_the_directory_is_the_installed_one_unless_the_environment_says_otherwise(void **state) {
        assert_int_equal(unsetenv("DPS_MODULE_DIRECTORY"), 0);
        assert_string_equal(module_directory(), DPS_MODULE_DIR);
        assert_int_equal(setenv("DPS_MODULE_DIRECTORY", "/tmp/modules", 1), 0);
        assert_string_equal(module_directory(), "/tmp/modules");
        assert_int_equal(unsetenv("DPS_MODULE_DIRECTORY"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(mode_cases) + 15] = {
                TEST(test_a_module_calls_the_program_and_libdps),
                TEST(test_a_module_is_loaded_once),
                TEST(test_a_module_of_another_build_is_refused_with_both_builds_named),
                TEST(test_a_module_of_another_version_is_refused_with_both_versions_named),
                TEST(test_the_error_for_a_missing_module_names_its_file_and_package),
                TEST(test_a_missing_directory_is_a_missing_module),
                TEST(test_other_files_are_not_modules),
                TEST(test_a_fifo_does_not_block),
                TEST(test_an_error_of_the_dynamic_loader_is_reported),
                TEST(test_a_renamed_module_is_refused),
                TEST(test_a_module_of_another_kind_is_refused),
                TEST(test_a_file_of_another_user_is_refused),
                TEST(test_a_link_is_not_followed),
                TEST(test_a_name_cannot_lead_out_of_the_directory),
                TEST(test_the_directory_is_the_installed_one_unless_the_environment_says_otherwise),
        };
        size_t n = 15;

        ADD_ROWS(tests, n, mode_cases, check_mode);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
