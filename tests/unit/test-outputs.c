/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "basic/contract.h"
#include "basic/files.h"
#include "basic/folder-directory.h"
#include "basic/json.h"
#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/outputs.h"
#include "remove-tree.h"

#define NOBODY 65534
#define TOKEN "SharedAccessSignature sr=hub%2Fdevices%2Fgw-1&sig=abc%3D&se=1700000000"

static const Connection sas = {
        .generation = 7,
        .hub = "hub.azure-devices.net",
        .device_id = "gw-1",
        .registration_id = "gw-1",
        .id_scope = "0ne00AABBCC",
        .port = 8883,
        .auth = "sas",
        .token = TOKEN,
        .expires_at_usec = 1700000000000000,
};

static const Connection x509 = {
        .generation = 8,
        .hub = "hub.azure-devices.net",
        .device_id = "gw-1",
        .registration_id = "gw-1",
        .id_scope = "0ne00AABBCC",
        .port = 8883,
        .auth = "x509",
        .certificate_pem = "CERTIFICATE\n",
        .key_pem = "KEY\n",
        .key_file = "/etc/dps/gw.key",
};

static char base[64], path[128];
static Folder *runtime;
static int watch = -1;

static int set_up(void **state) {
        strcpy(base, "/tmp/test-outputs-XXXXXX");
        assert_non_null(mkdtemp(base));
        assert_int_equal(chmod(base, 0755), 0);
        strcat(base, "/run");
        (void) snprintf(path, sizeof(path), "%s/gw", base);
        assert_int_equal(directory_folder_new(base, 0755, &runtime), 0);
        assert_int_equal(outputs_prepare(runtime, "gw", getegid()), 0);
        return 0;
}

static int tear_down(void **state) {
        runtime = folder_free(runtime);
        closep(&watch);
        watch = -1;
        *strrchr(base, '/') = 0;
        return remove_tree(base);
}

static char *file_path(const char *file, char buffer[static 256]) {
        (void) snprintf(buffer, 256, "%s/%s", path, file);
        return buffer;
}

static char *contents(const char *file) {
        char buffer[256], *text = NULL;

        return file_read(file_path(file, buffer), 10000, &text, NULL) < 0 ? NULL : text;
}

static void assert_contents(const char *file, const char *expected) {
        _cleanup_(freep) char *text = contents(file);

        if (!expected) {
                assert_null(text);
                return;
        }
        assert_non_null(text);
        assert_string_equal(text, expected);
}

static struct stat stat_of(const char *file) {
        char buffer[256];
        struct stat st;

        assert_int_equal(stat(file_path(file, buffer), &st), 0);
        return st;
}

static void publish(const Connection *c) {
        assert_true(outputs_publish(runtime, "gw", c) >= 0);
}

/* --- what happens in the directory, in order ------------------------------------------------------------ */

static void start_watching(void) {
        watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        assert_true(inotify_add_watch(watch, path, IN_MOVED_TO | IN_DELETE) >= 0);
}

static void append_event(char *seen, const struct inotify_event *e) {
        strcat(seen, e->mask & IN_DELETE ? "-" : "+");
        strcat(seen, e->name);
        strcat(seen, " ");
}

static void assert_seen(const char *expected) {
        _Alignas(struct inotify_event) char buffer[4096];
        char seen[1024] = "";
        ssize_t n;

        while ((n = read(watch, buffer, sizeof(buffer))) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const void *) p;

                        append_event(seen, e);
                        p += sizeof(*e) + e->len;
                }
        assert_string_equal(seen, expected);
}

/* --- promises ------------------------------------------------------------------------------------------- */

static void each_file_comes_before_those_that_name_it(void **state) {
        start_watching();
        publish(&sas);
        assert_seen("+token +hub.env +connection.json ");
}

static void certificate_and_key_come_in_the_order_of_the_contract(void **state) {
        start_watching();
        publish(&x509);
        assert_seen("+cert.pem +key.pem +hub.env +connection.json ");
}

static void an_unchanged_file_is_not_written(void **state) {
        publish(&sas);
        start_watching();
        publish(&sas);
        assert_seen("");
}

static void a_new_token_leaves_the_environment_alone(void **state) {
        Connection renewed = sas;

        publish(&sas);
        start_watching();
        renewed.token = TOKEN "1";
        publish(&renewed);
        assert_seen("+token +connection.json ");
}

static void it_is_known_whether_the_connection_has_changed(void **state) {
        Connection renewed = sas;

        renewed.token = TOKEN "1";
        assert_int_equal(outputs_publish(runtime, "gw", &sas), 1);
        assert_int_equal(outputs_publish(runtime, "gw", &sas), 0);
        assert_int_equal(outputs_publish(runtime, "gw", &renewed), 1);
}

/* Whoever takes the flag down may be as fast as he likes. */
static void a_flag_is_raised_once_and_again_after_it_was_taken_down(void **state) {
        char flag[256];

        (void) snprintf(flag, sizeof(flag), "%s/../" CONSUMERS_FLAGS "/gw", path);
        for (unsigned k = 0; k < 2; k++) {
                assert_int_equal(outputs_flag(runtime, "gw"), 0);
                assert_int_equal(outputs_flag(runtime, "gw"), 0);
                assert_int_equal(rmdir(flag), 0);
        }
}

static void files_that_no_longer_apply_are_removed_last(void **state) {
        publish(&sas);
        start_watching();
        publish(&x509);
        assert_seen("+cert.pem +key.pem +hub.env +connection.json -token ");
        publish(&sas);
        assert_seen("+token +hub.env +connection.json -key.pem -cert.pem ");
}

static void files_are_removed_in_the_opposite_order(void **state) {
        publish(&x509);
        start_watching();
        assert_int_equal(outputs_clear(runtime, "gw"), 0);
        assert_seen("-connection.json -hub.env -key.pem -cert.pem ");
}

static void a_mode_that_somebody_changed_is_restored(void **state) {
        char buffer[256];

        publish(&sas);
        assert_int_equal(chmod(file_path("token", buffer), 0644), 0);
        publish(&sas);
        assert_int_equal(stat_of("token").st_mode & 07777, 0640);
}

static void a_file_that_somebody_changed_is_restored(void **state) {
        char buffer[256];
        _cleanup_(closep) int fd = -1;

        publish(&sas);
        fd = open(file_path("token", buffer), O_WRONLY | O_CLOEXEC);
        assert_int_equal(write(fd, "x", 1), 1);
        publish(&sas);
        assert_contents("token", TOKEN);
}

static void the_directory_is_never_replaced(void **state) {
        struct stat before = stat_of("");

        publish(&sas);
        publish(&x509);
        assert_int_equal(outputs_clear(runtime, "gw"), 0);
        runtime = folder_free(runtime);
        assert_int_equal(directory_folder_new(base, 0755, &runtime), 0);
        assert_int_equal(outputs_prepare(runtime, "gw", getegid()), 0);
        publish(&sas);
        assert_int_equal(stat_of("").st_ino, before.st_ino);
}

static void other_users_can_read_nothing(void **state) {
        static const char *const files[] = { "cert.pem", "key.pem", "hub.env", "connection.json" };

        publish(&x509);
        assert_int_equal(stat_of("").st_mode & 07777, 0750);
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                assert_int_equal(stat_of(files[i]).st_mode & 07777, 0640);
}

static void directory_and_files_belong_to_the_group(void **state) {
        if (geteuid() != 0)
                skip();
        publish(&sas);
        assert_int_equal(outputs_prepare(runtime, "gw", NOBODY), 0);
        publish(&sas);
        assert_int_equal(stat_of("").st_gid, NOBODY);
        assert_int_equal(stat_of("token").st_gid, NOBODY);
        assert_int_equal(stat_of("connection.json").st_gid, NOBODY);
}

static void a_group_that_we_are_not_a_member_of_is_reported(void **state) {
        int r;

        if (geteuid() != 0)
                skip();
        assert_int_equal(chown(path, NOBODY, 0), 0);
        assert_int_equal(seteuid(NOBODY), 0);
        r = outputs_prepare(runtime, "gw", NOBODY);
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(r, 1);
        assert_int_equal(stat_of("").st_gid, getegid());
}

static void without_a_runtime_folder_there_are_no_outputs(void **state) {
        _cleanup_(folder_freep) Folder *missing = NULL;
        int r;

        if (geteuid() != 0)
                skip();
        assert_int_equal(seteuid(NOBODY), 0);
        r = directory_folder_new("/proc/1/no-such-folder/run", 0755, &missing);
        if (r >= 0)
                r = outputs_prepare(missing, "gw", getegid());
        assert_int_equal(seteuid(0), 0);
        assert_true(r < 0);
}

static void a_link_in_place_of_the_directory_is_refused(void **state) {
        char link[256];

        (void) snprintf(link, sizeof(link), "%s/trap", base);
        assert_int_equal(symlink("/tmp", link), 0);
        assert_true(outputs_prepare(runtime, "trap", getegid()) < 0);
}

static void a_directory_that_somebody_removed_is_reported(void **state) {
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(outputs_publish(runtime, "gw", &sas), -ENOENT);
        assert_int_equal(outputs_clear(runtime, "gw"), 0);
        assert_int_equal(outputs_remove(runtime, "gw"), 0);
}

static void a_retired_identity_leaves_nothing(void **state) {
        publish(&x509);
        assert_int_equal(outputs_remove(runtime, "gw"), 0);
        assert_int_equal(access(path, F_OK), -1);
}

static void make_file(const char *name) {
        char buffer[256];
        _cleanup_(closep) int fd = open(file_path(name, buffer), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
}

static void a_retired_identity_leaves_no_unfinished_files(void **state) {
        publish(&sas);
        make_file(".#token0123456789abcdef");
        assert_int_equal(outputs_remove(runtime, "gw"), 0);
        assert_int_equal(access(path, F_OK), -1);
}

static void a_directory_that_we_made_is_ours(void **state) {
        assert_true(outputs_is_ours(runtime, "gw"));
        publish(&x509);
        make_file(".#token0123456789abcdef");
        assert_true(outputs_is_ours(runtime, "gw"));
}

static void a_directory_with_a_foreign_file_is_not_ours(void **state) {
        make_file("mine");
        assert_false(outputs_is_ours(runtime, "gw"));
}

static void a_directory_with_another_mode_is_not_ours(void **state) {
        assert_int_equal(chmod(path, 0755), 0);
        assert_false(outputs_is_ours(runtime, "gw"));
}

static void a_directory_of_another_owner_is_not_ours(void **state) {
        if (geteuid() != 0)
                skip();
        assert_int_equal(chown(path, NOBODY, (gid_t) -1), 0);
        assert_false(outputs_is_ours(runtime, "gw"));
}

static void a_link_is_not_ours(void **state) {
        char link[160];

        (void) snprintf(link, sizeof(link), "%s/link", base);
        assert_int_equal(symlink(path, link), 0);
        assert_false(outputs_is_ours(runtime, "link"));
        assert_false(outputs_is_ours(runtime, "none"));
}

static void unfinished_files_are_removed(void **state) {
        char buffer[256];

        make_file(".#token0123456789abcdef");
        assert_int_equal(outputs_prepare(runtime, "gw", getegid()), 0);
        assert_int_equal(access(file_path(".#token0123456789abcdef", buffer), F_OK), -1);
}

/* --- contents ------------------------------------------------------------------------------------------- */

static void the_token_file_holds_the_token(void **state) {
        publish(&sas);
        assert_contents("token", TOKEN);
        assert_contents("cert.pem", NULL);
        assert_contents("key.pem", NULL);
}

static void the_environment_of_a_token(void **state) {
        char expected[2048];

        publish(&sas);
        (void) snprintf(expected, sizeof(expected),
                        "IOTHUB_HOSTNAME=hub.azure-devices.net\n"
                        "IOTHUB_DEVICE_ID=gw-1\n"
                        "IOTHUB_REGISTRATION_ID=gw-1\n"
                        "IOTHUB_ID_SCOPE=0ne00AABBCC\n"
                        "IOTHUB_CLIENT_ID=gw-1\n"
                        "IOTHUB_USERNAME=\"hub.azure-devices.net/gw-1/?api-version=2021-04-12\"\n"
                        "IOTHUB_AUTH=sas\n"
                        "IOTHUB_TOKEN_FILE=\"%s/token\"\n"
                        "IOTHUB_PORT=8883\n"
                        "IOTHUB_GENERATION=7\n",
                        path);
        assert_contents("hub.env", expected);
}

static void the_environment_of_a_certificate(void **state) {
        _cleanup_(freep) char *text = NULL;
        char expected[512];

        publish(&x509);
        text = contents("hub.env");
        (void) snprintf(expected, sizeof(expected),
                        "IOTHUB_AUTH=x509\nIOTHUB_CERT_FILE=\"%s/cert.pem\"\n"
                        "IOTHUB_KEY_FILE=\"%s/key.pem\"\nIOTHUB_PORT=8883\nIOTHUB_GENERATION=8\n",
                        path, path);
        assert_true(endswith(text, expected));
}

static void the_environment_names_the_ca_file(void **state) {
        Connection c = sas;
        _cleanup_(freep) char *text = NULL;

        c.ca_file = "/etc/dps/ca.pem";
        publish(&c);
        text = contents("hub.env");
        assert_non_null(strstr(text, "\nIOTHUB_CA_FILE=\"/etc/dps/ca.pem\"\n"));
}

static void a_key_that_is_not_shared_is_named_where_it_is(void **state) {
        Connection c = x509;
        _cleanup_(freep) char *text = NULL;

        c.key_pem = NULL;
        publish(&c);
        text = contents("hub.env");
        assert_non_null(strstr(text, "\nIOTHUB_KEY_FILE=\"/etc/dps/gw.key\"\n"));
        assert_contents("key.pem", NULL);
}

static void a_key_in_hardware_is_named_by_its_uri(void **state) {
        Connection c = x509;
        _cleanup_(freep) char *text = NULL;

        c.key_pem = c.key_file = NULL;
        c.key_uri = "pkcs11:token=gw;object=dps";
        publish(&c);
        text = contents("hub.env");
        assert_non_null(strstr(text, "\nIOTHUB_KEY_URI=\"pkcs11:token=gw;object=dps\"\n"));
        assert_null(strstr(text, "IOTHUB_KEY_FILE"));
}

#define NASTY "a\"b\\c$HOME`id`d'e;f #g=h!i*j\\$"

static void the_shell_reads_any_value_back_unchanged(void **state) {
        Connection c = x509;
        char command[512], line[256] = "";
        FILE *shell;

        c.key_pem = NULL;
        c.key_file = NASTY;
        c.device_id = "gw!*'()$1+#;&<>|~";
        publish(&c);
        (void) snprintf(command, sizeof(command),
                        ". %s/hub.env && printf '%%s|%%s' \"$IOTHUB_KEY_FILE\" \"$IOTHUB_DEVICE_ID\"", path);
        shell = popen(command, "r");
        assert_non_null(shell);
        assert_non_null(fgets(line, sizeof(line), shell));
        assert_int_equal(pclose(shell), 0);
        assert_string_equal(line, NASTY "|gw!*'()$1+#;&<>|~");
}

/* As systemd.exec(5) describes EnvironmentFile=: exactly the characters that the shell escapes. */
static void only_four_characters_are_escaped(void **state) {
        Connection c = x509;
        _cleanup_(freep) char *text = NULL;

        c.key_pem = NULL;
        c.key_file = NASTY;
        publish(&c);
        text = contents("hub.env");
        assert_non_null(
                strstr(text, "IOTHUB_KEY_FILE=\"a\\\"b\\\\c\\$HOME\\`id\\`d'e;f #g=h!i*j\\\\\\$\"\n"));
}

static void a_line_break_cannot_inject_a_variable(void **state) {
        Connection c = sas;

        c.key_uri = "x\nLD_PRELOAD=/tmp/evil.so";
        assert_int_equal(outputs_publish(runtime, "gw", &c), -EINVAL);
        assert_contents("hub.env", NULL);
        assert_contents("token", NULL);
}

static json_object *connection_of(const char *text) {
        json_object *o = NULL;
        const char *reason;

        assert_int_equal(json_read_object(text, strlen(text), 10000, &o, &reason), 0);
        return o;
}

static void assert_member(json_object *o, const char *name, const char *expected) {
        const char *text = json_string(json_member(o, name));

        if (!expected) {
                assert_null(json_member(o, name));
                return;
        }
        assert_non_null(text);
        assert_string_equal(text, expected);
}

static void assert_number(json_object *o, const char *name, uint64_t expected) {
        uint64_t n = 0;

        assert_int_equal(json_u64(json_member(o, name), INT64_MAX, &n), 0);
        assert_int_equal(n, expected);
}

static void connection_json_holds_everything_about_a_token(void **state) {
        _cleanup_(json_freep) json_object *o = NULL;
        _cleanup_(freep) char *text = NULL;
        Connection c = sas;

        c.ca_file = "/etc/dps/ca.pem";
        c.proxy = "http://proxy:3128";
        c.payload = "{\"site\":\"north\"}";
        c.registration_state = "{\"etag\":\"abc\",\"payload\":{\"site\":\"north\"}}";
        publish(&c);
        text = contents("connection.json");
        o = connection_of(text);
        assert_number(o, "generation", 7);
        assert_number(o, "port", 8883);
        assert_number(o, "expiresAt", 1700000000000000);
        assert_member(o, "hub", "hub.azure-devices.net");
        assert_member(o, "deviceId", "gw-1");
        assert_member(o, "registrationId", "gw-1");
        assert_member(o, "idScope", "0ne00AABBCC");
        assert_member(o, "clientId", "gw-1");
        assert_member(o, "username", "hub.azure-devices.net/gw-1/?api-version=2021-04-12");
        assert_member(o, "auth", "sas");
        assert_member(o, "password", TOKEN);
        assert_member(o, "caFile", "/etc/dps/ca.pem");
        assert_member(o, "proxy", "http://proxy:3128");
        assert_member(json_member(o, "payload"), "site", "north");
        assert_member(json_member(o, "registrationState"), "etag", "abc");
        assert_member(o, "certificateFile", NULL);
        assert_member(o, "keyFile", NULL);
        assert_member(o, "keyUri", NULL);
}

static void a_certificate_has_no_password_and_no_expiry(void **state) {
        _cleanup_(json_freep) json_object *o = NULL;
        _cleanup_(freep) char *text = NULL;
        char buffer[256];

        publish(&x509);
        text = contents("connection.json");
        o = connection_of(text);
        assert_member(o, "certificateFile", file_path("cert.pem", buffer));
        assert_member(o, "keyFile", file_path("key.pem", buffer));
        assert_member(o, "password", NULL);
        assert_member(o, "expiresAt", NULL);
        assert_member(o, "payload", NULL);
}

static void the_published_connection_can_be_read(void **state) {
        Connection without_credential = x509;
        uint64_t generation, expires_at;

        without_credential.certificate_pem = NULL;
        assert_int_equal(outputs_published(runtime, "gw", &generation, &expires_at), -ENOENT);
        publish(&sas);
        assert_int_equal(outputs_published(runtime, "gw", &generation, &expires_at), 0);
        assert_int_equal(generation, 7);
        assert_int_equal(expires_at, 1700000000000000);
        publish(&x509);
        assert_int_equal(outputs_published(runtime, "gw", &generation, &expires_at), 0);
        assert_int_equal(generation, 8);
        assert_int_equal(expires_at, USEC_INFINITY);
        publish(&without_credential);
        assert_int_equal(outputs_published(runtime, "gw", &generation, &expires_at), 0);
        assert_int_equal(expires_at, 0);
}

static void the_bus_returns_the_text_of_the_file(void **state) {
        _cleanup_(freep) char *text = NULL, *asked = NULL;

        publish(&sas);
        text = contents("connection.json");
        assert_int_equal(connection_to_json(runtime, "gw", &sas, &asked), 0);
        assert_string_equal(asked, text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(each_file_comes_before_those_that_name_it),
                TEST(certificate_and_key_come_in_the_order_of_the_contract),
                TEST(an_unchanged_file_is_not_written),
                TEST(a_new_token_leaves_the_environment_alone),
                TEST(it_is_known_whether_the_connection_has_changed),
                TEST(a_flag_is_raised_once_and_again_after_it_was_taken_down),
                TEST(files_that_no_longer_apply_are_removed_last),
                TEST(files_are_removed_in_the_opposite_order),
                TEST(a_mode_that_somebody_changed_is_restored),
                TEST(a_file_that_somebody_changed_is_restored),
                TEST(the_directory_is_never_replaced),
                TEST(other_users_can_read_nothing),
                TEST(directory_and_files_belong_to_the_group),
                TEST(a_group_that_we_are_not_a_member_of_is_reported),
                TEST(without_a_runtime_folder_there_are_no_outputs),
                TEST(a_link_in_place_of_the_directory_is_refused),
                TEST(a_directory_that_somebody_removed_is_reported),
                TEST(a_retired_identity_leaves_nothing),
                TEST(a_retired_identity_leaves_no_unfinished_files),
                TEST(a_directory_that_we_made_is_ours),
                TEST(a_directory_with_a_foreign_file_is_not_ours),
                TEST(a_directory_with_another_mode_is_not_ours),
                TEST(a_directory_of_another_owner_is_not_ours),
                TEST(a_link_is_not_ours),
                TEST(unfinished_files_are_removed),
                TEST(the_token_file_holds_the_token),
                TEST(the_environment_of_a_token),
                TEST(the_environment_of_a_certificate),
                TEST(the_environment_names_the_ca_file),
                TEST(a_key_that_is_not_shared_is_named_where_it_is),
                TEST(a_key_in_hardware_is_named_by_its_uri),
                TEST(the_shell_reads_any_value_back_unchanged),
                TEST(only_four_characters_are_escaped),
                TEST(a_line_break_cannot_inject_a_variable),
                TEST(connection_json_holds_everything_about_a_token),
                TEST(a_certificate_has_no_password_and_no_expiry),
                TEST(the_published_connection_can_be_read),
                TEST(the_bus_returns_the_text_of_the_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
