/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "basic/text.h"
#include "config/secret.h"
#include "remove-tree.h"
#include "table.h"

#define SECRET "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define FOREIGN_ID 54321

/* Instead of the system's. Only the daemon's group is asked for by its name. */
static gid_t daemon_gid; /* 0: there is no such group */

int getgrnam_r(const char *name, struct group *entry, char *texts, size_t texts_size, struct group **ret) {
        assert_string_equal(name, "dpsd");
        entry->gr_gid = daemon_gid;
        *ret = daemon_gid > 0 ? entry : NULL;
        return 0;
}

/* The files and credentials of a test are in one directory. */
static char directory[32];
static char *data, *reason;
static size_t size;

static int set_up(void **state) {
        strcpy(directory, "/tmp/test-secret-XXXXXX");
        assert_non_null(mkdtemp(directory));
        assert_int_equal(chmod(directory, 0755), 0);
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        data = reason = NULL;
        daemon_gid = 0;
        return 0;
}

static int tear_down(void **state) {
        remove_tree(directory);
        unsetenv("CREDENTIALS_DIRECTORY");
        free(data);
        free(reason);
        return 0;
}

static char *put(const char *name, mode_t mode) {
        _cleanup_(closep) int fd = -1;
        char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, SECRET "\n", strlen(SECRET "\n")), strlen(SECRET "\n"));
        assert_int_equal(fchmod(fd, mode), 0);
        return path;
}

static void add(const char *name, mode_t mode) {
        free(put(name, mode));
}

static int read_it(const char *reference) {
        return secret_read(reference, &data, &size, &reason);
}

static void assert_reason(const char *words) {
        assert_non_null(reason);
        if (!strstr(reason, words))
                fail_msg("\"%s\" does not say \"%s\"", reason, words);
        assert_null(strstr(reason, "AAEC"));
}

static void only_for_root(void) {
        if (geteuid() != 0)
                skip();
}

static void all_of_our_file_is_read(void **state) {
        _cleanup_(freep) char *path = put("key", 0600);

        assert_int_equal(read_it(path), 0);
        assert_string_equal(data, SECRET "\n");
        assert_int_equal(size, strlen(SECRET "\n"));
}

static void a_file_of_mode_0400_is_read(void **state) {
        _cleanup_(freep) char *path = put("key", 0400);

        assert_int_equal(read_it(path), 0);
}

static void a_file_that_our_group_can_read_is_read(void **state) {
        _cleanup_(freep) char *path = put("key", 0640);

        assert_int_equal(chown(path, (uid_t) -1, getegid()), 0);
        assert_int_equal(read_it(path), 0);
}

static void a_link_to_a_private_file_is_read(void **state) {
        _cleanup_(freep) char *link = NULL;

        add("key", 0600);
        assert_true(asprintf(&link, "%s/link", directory) > 0);
        assert_int_equal(symlink("key", link), 0);
        assert_int_equal(read_it(link), 0);
}

static void a_link_to_an_open_file_is_refused(void **state) {
        _cleanup_(freep) char *link = NULL;

        add("key", 0644);
        assert_true(asprintf(&link, "%s/link", directory) > 0);
        assert_int_equal(symlink("key", link), 0);
        assert_int_equal(read_it(link), -EPERM);
}

static const struct mode_case {
        const char *promise;
        mode_t mode;
        const char *reason;
} modes[] = {
        { "a file that others can read is refused", 0604, "everybody can read it" },
        { "a file that others can write is refused", 0602, "everybody can change it" },
        { "a file that its group can write is refused", 0620, "its group can change it" },
        { "the usual mode of files is refused", 0644, "everybody can read it" },
};

static void check_mode(void **state) {
        const struct mode_case *c = *state;
        _cleanup_(freep) char *path = NULL, *command = NULL, *mode = NULL;

        set_up(NULL);
        path = put("key", c->mode);
        assert_int_equal(read_it(path), -EPERM);
        assert_null(data);
        assert_reason(c->reason);
        assert_reason(path);
        assert_true(asprintf(&mode, "mode %04o)", (unsigned) c->mode) > 0);
        assert_reason(mode);
        assert_true(asprintf(&command, "run chmod 0600 %s", path) > 0);
        assert_reason(command);
        tear_down(NULL);
}

static void a_file_that_a_foreign_group_can_read_is_refused(void **state) {
        _cleanup_(freep) char *path = NULL;

        only_for_root();
        path = put("key", 0640);
        assert_int_equal(chown(path, 0, FOREIGN_ID), 0);
        assert_int_equal(read_it(path), -EPERM);
        assert_reason("a group other than ours can read it (owner root:54321, mode 0640)");
}

static void to_root_the_group_of_the_daemon_is_ours(void **state) {
        _cleanup_(freep) char *path = NULL;

        only_for_root();
        daemon_gid = FOREIGN_ID;
        path = put("key", 0640);
        assert_int_equal(chown(path, 0, FOREIGN_ID), 0);
        assert_int_equal(read_it(path), 0);
}

static void root_is_not_told_to_lock_the_daemon_out(void **state) {
        _cleanup_(freep) char *path = NULL, *command = NULL;

        only_for_root();
        daemon_gid = FOREIGN_ID;
        path = put("key", 0644);
        assert_int_equal(read_it(path), -EPERM);
        assert_true(asprintf(&command, "run chown root:54321 %s && chmod 0640 %s", path, path) > 0);
        assert_reason(command);
}

/* An ACL as the kernel takes it: owner rw, one more user or group r, group r, mask, others nothing. */
static void give_acl(const char *path, uint8_t tag, uint32_t id, uint8_t mask) {
        const uint8_t entries[][8] = {
                { 1, 0, 6, 0, 255, 255, 255, 255 },
                { tag, 0, 4, 0, id & 255, id >> 8 & 255, id >> 16 & 255, id >> 24 },
                { 4, 0, 4, 0, 255, 255, 255, 255 },
                { 16, 0, mask, 0, 255, 255, 255, 255 },
                { 32, 0, 0, 0, 255, 255, 255, 255 },
        };
        uint8_t acl[4 + sizeof(entries)] = { 2 };
        size_t at = 4;

        for (uint8_t t = 1; t <= 32; t *= 2) /* in the order of their tags */
                for (size_t k = 0; k < ELEMENTSOF(entries); k++)
                        if (entries[k][0] == t) {
                                memcpy(acl + at, entries[k], 8);
                                at += 8;
                        }
        if (setxattr(path, "system.posix_acl_access", acl, at, 0) < 0 && errno == ENOTSUP)
                skip();
}

static void a_file_that_an_acl_shows_to_others_is_refused(void **state) {
        _cleanup_(freep) char *path = put("key", 0640);

        only_for_root();
        give_acl(path, 2, FOREIGN_ID, 4);
        assert_int_equal(read_it(path), -EPERM);
        assert_reason("an ACL gives others access to it: run setfacl -b ");
        reason = erase_and_free(reason);
        give_acl(path, 8, FOREIGN_ID, 4);
        assert_int_equal(read_it(path), -EPERM);
}

static void an_acl_for_us_or_without_effect_is_no_harm(void **state) {
        _cleanup_(freep) char *path = put("key", 0640);

        only_for_root();
        give_acl(path, 2, FOREIGN_ID, 0); /* the mask takes all away */
        assert_int_equal(read_it(path), 0);
        data = erase_and_free(data);
        give_acl(path, 2, FOREIGN_ID, 4);
        assert_int_equal(chmod(directory, 0755) | chown(path, 0, 0), 0);
        assert_int_equal(setegid(FOREIGN_ID) | seteuid(FOREIGN_ID), 0);
        assert_int_equal(read_it(path), 0);
        assert_int_equal(seteuid(0) | setegid(0), 0);
}

static void a_file_that_everybody_can_replace_is_refused(void **state) {
        _cleanup_(freep) char *path = put("key", 0600);

        assert_int_equal(chmod(directory, 0777), 0);
        assert_int_equal(read_it(path), -EPERM);
        assert_reason("everybody can write in its directory: run chmod o-w ");
        assert_int_equal(chmod(directory, 01777), 0);
        assert_int_equal(read_it(path), 0);
}

static void a_file_that_a_foreign_user_owns_is_refused(void **state) {
        _cleanup_(freep) char *path = NULL, *command = NULL;

        only_for_root();
        path = put("key", 0600);
        assert_int_equal(chown(path, FOREIGN_ID, (gid_t) -1), 0);
        assert_int_equal(read_it(path), -EPERM);
        assert_null(data);
        assert_reason("a user other than ours owns it (owner 54321:root, mode 0600)");
        assert_true(asprintf(&command, "run chown root:root %s && chmod 0640 %s", path, path) > 0);
        assert_reason(command);
}

static void the_command_for_an_open_file_of_a_foreign_user_corrects_both(void **state) {
        _cleanup_(freep) char *path = NULL, *command = NULL;

        only_for_root();
        daemon_gid = FOREIGN_ID;
        path = put("key", 0644);
        assert_int_equal(chown(path, FOREIGN_ID, FOREIGN_ID), 0);
        assert_int_equal(read_it(path), -EPERM);
        assert_true(asprintf(&command, "run chown root:54321 %s && chmod 0640 %s", path, path) > 0);
        assert_reason(command);
        assert_int_equal(chown(path, 0, FOREIGN_ID) | chmod(path, 0640), 0); /* as the command does */
        assert_int_equal(read_it(path), 0);
}

static void a_file_that_the_daemon_itself_owns_is_read(void **state) {
        _cleanup_(freep) char *path = NULL;
        int r;

        only_for_root();
        path = put("key", 0400);
        assert_int_equal(chmod(directory, 0755) | chown(path, FOREIGN_ID, FOREIGN_ID), 0);
        assert_int_equal(setegid(FOREIGN_ID) | seteuid(FOREIGN_ID), 0);
        r = read_it(path);
        assert_int_equal(seteuid(0) | setegid(0), 0);
        assert_int_equal(r, 0);
}

static void a_file_of_a_foreign_group_without_rights_is_read(void **state) {
        _cleanup_(freep) char *path = NULL;

        only_for_root();
        path = put("key", 0600);
        assert_int_equal(chown(path, 0, FOREIGN_ID), 0);
        assert_int_equal(read_it(path), 0);
}

static void a_file_that_the_group_of_root_can_read_is_read(void **state) {
        _cleanup_(freep) char *path = NULL;
        int r;

        only_for_root();
        path = put("key", 0640);
        assert_int_equal(chown(path, 0, 0), 0);
        assert_int_equal(setegid(FOREIGN_ID), 0);
        r = read_it(path);
        assert_int_equal(setegid(0), 0);
        assert_int_equal(r, 0);
}

static void an_unreadable_file_is_an_error_with_the_command_to_run(void **state) {
        _cleanup_(freep) char *path = NULL, *command = NULL;
        int r;

        only_for_root();
        path = put("key", 0600);
        assert_int_equal(setegid(FOREIGN_ID) | seteuid(FOREIGN_ID), 0);
        r = read_it(path);
        assert_int_equal(seteuid(0) | setegid(0), 0);
        assert_int_equal(r, -EACCES);
        assert_reason("we cannot read it (owner root:root, mode 0600)");
        assert_true(asprintf(&command, "run chown root:54321 %s && chmod 0640 %s", path, path) > 0);
        assert_reason(command);
}

static void a_path_with_special_characters_is_quoted_in_the_command(void **state) {
        _cleanup_(freep) char *path = put("a b'c", 0644);

        assert_int_equal(read_it(path), -EPERM);
        assert_reason("/a b'\\''c'");
}

static void a_missing_file_is_an_error(void **state) {
        _cleanup_(freep) char *path = NULL;

        assert_true(asprintf(&path, "%s/none", directory) > 0);
        assert_int_equal(read_it(path), -ENOENT);
        assert_reason("/none: No such file or directory");
}

static void a_directory_is_refused(void **state) {
        assert_int_equal(read_it(directory), -ENOTSUP);
        assert_reason("not a regular file");
}

static void a_fifo_does_not_block(void **state) {
        _cleanup_(freep) char *path = NULL;

        assert_true(asprintf(&path, "%s/fifo", directory) > 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(read_it(path), -ENOTSUP);
}

static void a_large_file_is_refused(void **state) {
        _cleanup_(freep) char *path = put("key", 0600);

        assert_int_equal(truncate(path, SECRET_SIZE_MAX + 1), 0);
        assert_int_equal(read_it(path), -EFBIG);
        assert_reason("larger than 64 kB");
}

static void a_credential_is_read_by_its_name(void **state) {
        add("gw.key", 0400);
        assert_int_equal(read_it("credential:gw.key"), 0);
        assert_string_equal(data, SECRET "\n");
}

static void a_credential_in_the_directory_is_found(void **state) {
        add("dps_gw.key", 0400);
        assert_int_equal(read_it("credential:gw.key"), 0);
}

static void the_name_without_prefix_comes_first(void **state) {
        _cleanup_(freep) char *plain = put("gw.key", 0400), *path = NULL;

        add("dps_gw.key", 0400);
        assert_int_equal(secret_path("credential:gw.key", &path, &reason), 0);
        assert_string_equal(path, plain);
}

static void credentials_must_be_private_too(void **state) {
        add("gw.key", 0444);
        assert_int_equal(read_it("credential:gw.key"), -EPERM);
}

static void a_missing_credential_may_still_come(void **state) {
        assert_int_equal(read_it("credential:gw.key"), -EAGAIN);
        assert_reason("there is no credential gw.key or dps_gw.key");
}

static void without_a_credentials_directory_there_is_no_credential(void **state) {
        unsetenv("CREDENTIALS_DIRECTORY");
        assert_int_equal(read_it("credential:gw.key"), -EAGAIN);
}

static void the_path_of_a_file_need_not_exist(void **state) {
        _cleanup_(freep) char *path = NULL;

        assert_int_equal(secret_path("/nowhere/key", &path, &reason), 0);
        assert_string_equal(path, "/nowhere/key");
}

static void the_path_of_a_missing_credential_is_unknown(void **state) {
        _cleanup_(freep) char *path = NULL;

        assert_int_equal(secret_path("credential:gw.key", &path, &reason), -EAGAIN);
        assert_null(path);
}

static const struct reference_case {
        const char *promise, *reference;
        int result;
} references[] = {
        { "an absolute path is a reference", "/etc/dps/gw.key", 0 },
        { "a credential's name is a reference", "credential:gw.key", 0 },
        { "a path of base64 letters is a reference", "/etc/dps/gateways/key001", 0 },
        { "a relative path is not a reference", "gw.key", -EINVAL },
        { "an empty text is not a reference", "", -EINVAL },
        { "a pasted key is not a reference", SECRET, -EINVAL },
        { "a pasted key that begins with a slash is not a reference", "/" SECRET, -EINVAL },
        { "a credential without a name is not a reference", "credential:", -EINVAL },
        { "a credential's name has no slash", "credential:../key", -EINVAL },
        { "a credential's name is not ..", "credential:..", -EINVAL },
        { "a credential's name has no space", "credential:a b", -EINVAL },
        { "a credential's name has no colon", "credential:a:b", -EINVAL },
        { "a URL is not a reference", "file:///etc/key", -EINVAL },
};

static void check_reference(void **state) {
        const struct reference_case *c = *state;
        _cleanup_(freep) char *why = NULL;

        assert_int_equal(secret_check(c->reference, &why), c->result);
        if (c->result == 0) {
                assert_null(why);
                return;
        }
        assert_non_null(why);
        assert_null(strstr(why, "AAEC"));
}

static void the_error_for_an_inline_key_says_what_to_do(void **state) {
        _cleanup_(freep) char *why = NULL;

        assert_int_equal(secret_check(SECRET, &why), -EINVAL);
        assert_non_null(strstr(why, "must be credential:NAME or the absolute path of a file"));
        assert_non_null(strstr(why, "install -m 0640 -o root -g dpsd /dev/stdin /etc/dps/NAME.key"));
}

#define WITH_FILES(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest plain[] = {
                WITH_FILES(all_of_our_file_is_read),
                WITH_FILES(a_file_of_mode_0400_is_read),
                WITH_FILES(a_file_that_our_group_can_read_is_read),
                WITH_FILES(a_link_to_a_private_file_is_read),
                WITH_FILES(a_link_to_an_open_file_is_refused),
                WITH_FILES(a_file_that_a_foreign_group_can_read_is_refused),
                WITH_FILES(to_root_the_group_of_the_daemon_is_ours),
                WITH_FILES(root_is_not_told_to_lock_the_daemon_out),
                WITH_FILES(a_file_that_an_acl_shows_to_others_is_refused),
                WITH_FILES(an_acl_for_us_or_without_effect_is_no_harm),
                WITH_FILES(a_file_that_everybody_can_replace_is_refused),
                WITH_FILES(a_file_that_a_foreign_user_owns_is_refused),
                WITH_FILES(the_command_for_an_open_file_of_a_foreign_user_corrects_both),
                WITH_FILES(a_file_that_the_daemon_itself_owns_is_read),
                WITH_FILES(a_file_of_a_foreign_group_without_rights_is_read),
                WITH_FILES(a_file_that_the_group_of_root_can_read_is_read),
                WITH_FILES(an_unreadable_file_is_an_error_with_the_command_to_run),
                WITH_FILES(a_path_with_special_characters_is_quoted_in_the_command),
                WITH_FILES(a_missing_file_is_an_error),
                WITH_FILES(a_directory_is_refused),
                WITH_FILES(a_fifo_does_not_block),
                WITH_FILES(a_large_file_is_refused),
                WITH_FILES(a_credential_is_read_by_its_name),
                WITH_FILES(a_credential_in_the_directory_is_found),
                WITH_FILES(the_name_without_prefix_comes_first),
                WITH_FILES(credentials_must_be_private_too),
                WITH_FILES(a_missing_credential_may_still_come),
                WITH_FILES(without_a_credentials_directory_there_is_no_credential),
                WITH_FILES(the_path_of_a_file_need_not_exist),
                WITH_FILES(the_path_of_a_missing_credential_is_unknown),
                cmocka_unit_test(the_error_for_an_inline_key_says_what_to_do),
        };
        struct CMUnitTest tests[ELEMENTSOF(modes) + ELEMENTSOF(references) + ELEMENTSOF(plain)] = { 0 };
        size_t n = 0;

        ADD_ROWS(tests, n, modes, check_mode);
        ADD_ROWS(tests, n, references, check_reference);
        memcpy(tests + n, plain, sizeof(plain));

        return cmocka_run_group_tests(tests, NULL, NULL);
}
