/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/specifier.h"
#include "remove-tree.h"
#include "table.h"

/* The root directory of a device, made by each test. */
static char root[32];
static char *value, *reason;
static SpecifierContext context;

static int set_up(void **state) {
        strcpy(root, "/tmp/test-specifier-XXXXXX");
        assert_non_null(mkdtemp(root));
        context = (SpecifierContext){ .root = root };
        value = reason = NULL;
        return 0;
}

static int tear_down(void **state) {
        remove_tree(root);
        free(value);
        free(reason);
        return 0;
}

static void put_bytes(const char *path, const void *data, size_t size) {
        _cleanup_(freep) char *whole = NULL, *parent = NULL;
        _cleanup_(closep) int fd = -1;

        assert_true(asprintf(&whole, "%s%s", root, path) > 0);
        parent = strdup(whole);
        *strrchr(parent, '/') = 0;
        assert_int_equal(directory_make_path(parent, 0755), 0);
        fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, size), size);
}

static void put(const char *path, const char *text) {
        put_bytes(path, text, strlen(text));
}

static int expand(const char *text) {
        return specifier_expand(text, &context, &value, &reason);
}

static void assert_expands(const char *text, const char *expected) {
        int r = expand(text);

        if (r < 0)
                fail_msg("%s: %s", text, reason ?: strerror(-r));
        assert_string_equal(value, expected);
}

static void assert_reason(const char *words) {
        assert_non_null(reason);
        if (!strstr(reason, words))
                fail_msg("\"%s\" does not say \"%s\"", reason, words);
        assert_null(value);
}

#define PRODUCT_SERIAL "/sys/class/dmi/id/product_serial"
#define DEVICE_TREE_SERIAL "/proc/device-tree/serial-number"

/* --- syntax --------------------------------------------------------------------------------------------- */

static const struct syntax_case {
        const char *promise, *text;
        int result;
        const char *reason;
} syntax[] = {
        { "plain text is valid", "gw-1", 0, NULL },
        { "an empty text is valid", "", 0, NULL },
        { "two percent signs are valid", "100%%", 0, NULL },
        { "a known specifier is valid", "gw-%{serial}-x", 0, NULL },
        { "several specifiers are valid", "%{serial}%{uuid}%{board-serial}%{machine-id}%{hostname}%{cert-cn}",
          0, NULL },
        { "alternatives are valid", "%{serial|mac:eth0|hostname}", 0, NULL },
        { "a path is valid", "%{file:/etc/a..b/c}", 0, NULL },
        { "the name of a VLAN is valid", "%{mac:eth0.7}", 0, NULL },
        { "a lone percent sign is an error", "100%", -EINVAL, "a percent sign is written %%" },
        { "a percent sign before a letter is an error", "%s", -EINVAL, "a percent sign is written %%" },
        { "an unfinished specifier is an error", "%{serial", -EINVAL, "a %{ has no matching }" },
        { "an empty specifier is an error", "%{}", -EINVAL, "there is no specifier ''" },
        { "an empty alternative is an error", "%{serial|}", -EINVAL, "there is no specifier ''" },
        { "an unknown specifier is an error", "%{seriel}", -EINVAL,
          "there is no specifier 'seriel'; the specifiers are machine-id" },
        { "a specifier with capitals is unknown", "%{Serial}", -EINVAL, "there is no specifier" },
        { "a specifier with spaces is unknown", "%{ serial }", -EINVAL, "there is no specifier" },
        { "an unknown alternative is an error even after a known one", "%{serial|foo}", -EINVAL, "'foo'" },
        { "mac needs an interface", "%{mac}", -EINVAL, "%{mac:…} needs the name of a network interface" },
        { "the name of an interface is not empty", "%{mac:}", -EINVAL,
          "needs the name of a network interface" },
        { "the name of an interface is not a path", "%{mac:../x}", -EINVAL,
          "needs the name of a network interface" },
        { "the name of an interface has at most 15 characters", "%{mac:a234567890123456}", -EINVAL,
          "needs the name" },
        { "serial takes no argument", "%{serial:x}", -EINVAL, "%{serial} takes no argument" },
        { "a file's path is absolute", "%{file:etc/x}", -EINVAL, "an absolute path without .." },
        { "a file's path has no .. in it", "%{file:/etc/../x}", -EINVAL, "an absolute path without .." },
        { "a file's path does not end with ..", "%{file:/etc/..}", -EINVAL, "without .." },
        { "a file's path does not begin with /..", "%{file:/../x}", -EINVAL, "without .." },
        { "a credential's name is not a path", "%{credential:a/b}", -EINVAL, "the name of a credential" },
};

static void check_syntax(void **state) {
        const struct syntax_case *c = *state;
        _cleanup_(freep) char *why = NULL;

        assert_int_equal(specifier_check(c->text, &why), c->result);
        assert_int_equal(why != NULL, c->result < 0);
        if (c->reason && !strstr(why, c->reason))
                fail_msg("\"%s\" does not say \"%s\"", why, c->reason);
}

static void bad_syntax_is_an_error_when_expanding_too(void **state) {
        assert_int_equal(expand("%{mac:eth7}%{foo}"), -EINVAL);
        assert_reason("there is no specifier 'foo'");
}

static void a_specifier_is_recognised(void **state) {
        assert_true(specifier_present("a%{serial}"));
        assert_true(specifier_present("100%%%{serial}"));
        assert_false(specifier_present("100%%"));
        assert_false(specifier_present("plain"));
        assert_false(specifier_present(""));
}

static void two_percent_signs_become_one(void **state) {
        assert_expands("100%% %%{serial}", "100% %{serial}");
}

static void an_expanded_value_is_not_expanded_again(void **state) {
        put("/etc/x", "%{hostname} %%\n");
        put("/etc/hostname", "box\n");
        assert_expands("%{file:/etc/x}", "%{hostname} %%");
}

static void the_first_alternative_with_a_value_is_used(void **state) {
        put("/etc/hostname", "box\n");
        put("/sys/class/dmi/id/board_serial", "B1\n");
        assert_expands("gw-%{serial|board-serial|hostname}!", "gw-b1!");
}

static void if_no_alternative_has_a_value_all_reasons_are_given(void **state) {
        assert_int_equal(expand("%{serial|hostname}"), -ENOENT);
        assert_reason("%{serial}: this hardware reports no serial number; %{hostname}: there is no static "
                      "host name");
}

static void an_alternative_may_still_appear(void **state) {
        assert_int_equal(expand("%{serial|mac:eth7}"), -EAGAIN);
        assert_reason("; %{mac:eth7}: there is no network interface eth7");
}

/* --- hardware ------------------------------------------------------------------------------------------- */

static const struct hardware_case {
        const char *promise, *content, *expected; /* NULL: a placeholder */
} hardware[] = {
        { "a serial number is trimmed", "  AB-12 \n", "ab-12" },
        { "a serial number is in lower case", "VMware-56AB\n", "vmware-56ab" },
        { "characters that an id cannot have become dashes", "A/B C#D\n", "a-b-c-d" },
        { "characters that an id can have are kept", "a.b_c:d-e\n", "a.b_c:d-e" },
        { "an umlaut becomes dashes",
          "\xc3\xbc"
          "1\n",
          "--1" },
        { "zeros within a number are kept", "0000012\n", "0000012" },
        { "F within a number is kept", "FF01\n", "ff01" },
        { "an empty file is a placeholder", "", NULL },
        { "white space is a placeholder", " \n", NULL },
        { "zeros are a placeholder", "00000000\n", NULL },
        { "one zero is a placeholder", "0\n", NULL },
        { "zeros with dashes are a placeholder", "0000-0000\n", NULL },
        { "F is a placeholder", "FFFFFFFF\n", NULL },
        { "f is a placeholder", "ffff-ffff\n", NULL },
        { "dots are a placeholder", ".....\n", NULL },
        { "To be filled by O.E.M. is a placeholder", "To be filled by O.E.M.\n", NULL },
        { "To Be Filled By O.E.M. is a placeholder", "To Be Filled By O.E.M.\n", NULL },
        { "Default string is a placeholder", "Default string\n", NULL },
        { "System Serial Number is a placeholder", "System Serial Number\n", NULL },
        { "Not Specified is a placeholder", "Not Specified\n", NULL },
        { "None is a placeholder", "None\n", NULL },
        { "0123456789 is a placeholder", "0123456789\n", NULL },
        { "a number may begin as a placeholder does", "none-1\n", "none-1" },
};

static void check_hardware(void **state) {
        const struct hardware_case *c = *state;

        set_up(NULL);
        put(PRODUCT_SERIAL, c->content);
        if (c->expected) {
                assert_expands("%{serial}", c->expected);
        } else {
                assert_int_equal(expand("%{serial}"), -ENOENT);
                assert_reason("is a placeholder");
        }
        tear_down(NULL);
}

static void the_device_tree_comes_before_dmi(void **state) {
        put_bytes(DEVICE_TREE_SERIAL, "10000000ABCD\0", 13);
        put(PRODUCT_SERIAL, "other\n");
        assert_expands("%{serial}", "10000000abcd");
}

static void the_device_tree_is_found_in_sys_as_well(void **state) {
        put_bytes("/sys/firmware/devicetree/base/serial-number", "S1\0", 3);
        assert_expands("%{serial}", "s1");
}

static void after_a_placeholder_in_the_device_tree_dmi_is_read(void **state) {
        put_bytes(DEVICE_TREE_SERIAL, "0000000000000000\0", 17);
        put(PRODUCT_SERIAL, "Real\n");
        assert_expands("%{serial}", "real");
}

static void the_reason_shows_the_placeholder(void **state) {
        put(PRODUCT_SERIAL, "Default string\n");
        assert_int_equal(expand("%{serial}"), -ENOENT);
        assert_reason(PRODUCT_SERIAL " is a placeholder ('Default string')");
}

static void the_uuid_is_that_of_the_product(void **state) {
        put("/sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8052-B4C04F385931\n");
        assert_expands("%{uuid}", "4c4c4544-0042-3510-8052-b4c04f385931");
}

static void a_uuid_of_zeros_is_a_placeholder(void **state) {
        put("/sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
        assert_int_equal(expand("%{uuid}"), -ENOENT);
}

static void a_mac_is_12_digits(void **state) {
        put("/sys/class/net/eth0/address", "02:AB:cd:00:12:34\n");
        assert_expands("%{mac:eth0}", "02abcd001234");
}

static void a_mac_of_zeros_is_not_a_value(void **state) {
        put("/sys/class/net/lo/address", "00:00:00:00:00:00\n");
        assert_int_equal(expand("%{mac:lo}"), -ENOENT);
        assert_reason("the MAC address of lo is all 0");
}

static void an_interface_of_another_kind_has_no_mac(void **state) {
        put("/sys/class/net/ib0/address", "80:00:02:08:fe:80:00:00:00:00:00:00\n");
        assert_int_equal(expand("%{mac:ib0}"), -ENOENT);
        assert_reason("ib0 has no MAC address");
}

static void a_missing_interface_may_appear(void **state) {
        assert_int_equal(expand("%{mac:eth7}"), -EAGAIN);
        assert_reason("%{mac:eth7}: there is no network interface eth7");
}

static void the_running_system_has_no_such_interface(void **state) {
        context.root = NULL;
        assert_int_equal(expand("%{mac:nosuchif0}"), -EAGAIN);
        assert_reason("there is no network interface nosuchif0");
}

static void the_running_systems_loopback_has_no_mac(void **state) {
        context.root = NULL;
        assert_int_equal(expand("%{mac:lo}"), -ENOENT);
        assert_reason("the MAC address of lo is all 0");
}

/* --- software ------------------------------------------------------------------------------------------- */

/* The HMAC-SHA256 of our application id with the machine id as key; its first 16 bytes are made a UUID of
 * version 4. `systemd-id128 machine-id --app-specific=6b1f0e5d8a274c93b45ed1702c963fa8` prints the same on
 * such a machine. */
static void the_machine_id_is_application_specific(void **state) {
        put("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        assert_expands("%{machine-id}", "c2cdd39e2c244bc298d4381cf0955e43");
}

static void without_a_machine_id_there_is_no_value(void **state) {
        put("/etc/machine-id", "uninitialized\n");
        assert_int_equal(expand("%{machine-id}"), -ENOENT);
        assert_reason("/etc/machine-id does not hold a machine id");
}

static void the_hostname_is_the_static_one(void **state) {
        put("/etc/hostname", "# of this box\n\nBox-7.example\n");
        assert_expands("%{hostname}", "Box-7.example");
}

static void localhost_is_not_a_hostname(void **state) {
        put("/etc/hostname", "localhost\n");
        assert_int_equal(expand("%{hostname}"), -ENOENT);
        assert_reason("the host name is localhost, which is not unique");
}

static void localhost_with_a_domain_is_not_a_hostname(void **state) {
        put("/etc/hostname", "LocalHost.localdomain\n");
        assert_int_equal(expand("%{hostname}"), -ENOENT);
}

static void an_empty_hostname_has_no_value(void **state) {
        put("/etc/hostname", "\n# nothing\n");
        assert_int_equal(expand("%{hostname}"), -ENOENT);
}

static void a_file_gives_its_first_line(void **state) {
        put("/etc/factory", "\n  Line 7 \nmore\n");
        assert_expands("%{file:/etc/factory}", "Line 7");
}

static void an_empty_file_has_no_value(void **state) {
        put("/etc/factory", " \n");
        assert_int_equal(expand("%{file:/etc/factory}"), -ENOENT);
        assert_reason("{file:/etc/factory}: it is empty");
}

static void a_missing_file_has_no_value(void **state) {
        assert_int_equal(expand("%{file:/etc/factory}"), -ENOENT);
        assert_reason("{file:/etc/factory}: No such file");
}

static void the_reason_names_the_path_once(void **state) {
        assert_int_equal(expand("gw-%{file:/etc/factory}"), -ENOENT);
        assert_string_equal(reason, "%{file:/etc/factory}: No such file or directory");
}

static void a_large_file_has_no_value(void **state) {
        char text[4097];

        memset(text, 'a', sizeof(text));
        put_bytes("/etc/factory", text, sizeof(text));
        assert_int_equal(expand("%{file:/etc/factory}"), -ENOENT);
        assert_reason("larger than 4 kB");
}

static void a_binary_file_has_no_value(void **state) {
        put_bytes("/etc/factory", "a\0b", 3);
        assert_int_equal(expand("%{file:/etc/factory}"), -ENOENT);
        assert_reason("not plain text");
}

static void an_escape_sequence_has_no_value(void **state) {
        put("/etc/factory", "a\x1b[31m\n");
        assert_int_equal(expand("%{file:/etc/factory}"), -ENOENT);
}

static void a_credential_gives_its_first_line(void **state) {
        _cleanup_(freep) char *directory = NULL;

        assert_true(asprintf(&directory, "%s/credentials", root) > 0);
        context.credentials = directory;
        put("/credentials/dps_site", "North-1\n");
        assert_expands("%{credential:site}", "North-1");
}

static void a_missing_credential_has_no_value(void **state) {
        context.credentials = root;
        assert_int_equal(expand("%{credential:site}"), -ENOENT);
        assert_reason("{credential:site}: there is no such credential");
}

static void put_certificate(const char *name) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *certificate = X509_new();
        X509_NAME *subject = X509_get_subject_name(certificate);
        BIO *bio = BIO_new(BIO_s_mem());
        char *pem;
        long size;

        X509_set_version(certificate, 2);
        X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
        X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const unsigned char *) "Acme", -1, -1, 0);
        if (name)
                X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *) name, -1, -1,
                                           0);
        X509_set_pubkey(certificate, key);
        assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
        assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
        size = BIO_get_mem_data(bio, &pem);
        put_bytes("/etc/cert.pem", pem, (size_t) size);
        context.certificate = "/etc/cert.pem";
        BIO_free(bio);
        X509_free(certificate);
        EVP_PKEY_free(key);
}

static void the_common_name_of_a_certificate_is_not_changed(void **state) {
        put_certificate("GW-0001");
        assert_expands("%{cert-cn}", "GW-0001");
}

static void a_certificate_without_common_name_has_no_value(void **state) {
        put_certificate(NULL);
        assert_int_equal(expand("%{cert-cn}"), -ENOENT);
        assert_reason("/etc/cert.pem: the certificate's subject has no common name");
}

static void a_file_without_a_certificate_has_no_value(void **state) {
        put("/etc/cert.pem", "nonsense\n");
        context.certificate = "/etc/cert.pem";
        assert_int_equal(expand("%{cert-cn}"), -ENOENT);
        assert_reason("/etc/cert.pem: the file holds no PEM certificate");
}

static void without_a_certificate_there_is_no_common_name(void **state) {
        assert_int_equal(expand("%{cert-cn}"), -ENOENT);
        assert_reason("there is no Certificate=");
}

static void the_id_of_the_tpm_is_known_once_it_was_asked(void **state) {
        assert_true(specifier_uses_tpm("gw-%{serial|tpm}"));
        assert_true(specifier_uses_tpm("%{tpm|serial}"));
        assert_true(specifier_uses_tpm("%{tpm}"));
        assert_false(specifier_uses_tpm("%{credential:tpm.id}"));
        assert_false(specifier_uses_tpm("tpm"));
        assert_int_equal(expand("%{tpm}"), -EAGAIN);
        assert_reason("only dpsd asks the TPM");
        context.tpm = "6rek5qn";
        assert_expands("gw-%{tpm}", "gw-6rek5qn");
}

#define WITH_ROOT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest plain[] = {
                WITH_ROOT(bad_syntax_is_an_error_when_expanding_too),
                WITH_ROOT(a_specifier_is_recognised),
                WITH_ROOT(two_percent_signs_become_one),
                WITH_ROOT(an_expanded_value_is_not_expanded_again),
                WITH_ROOT(the_first_alternative_with_a_value_is_used),
                WITH_ROOT(if_no_alternative_has_a_value_all_reasons_are_given),
                WITH_ROOT(an_alternative_may_still_appear),
                WITH_ROOT(the_device_tree_comes_before_dmi),
                WITH_ROOT(the_device_tree_is_found_in_sys_as_well),
                WITH_ROOT(after_a_placeholder_in_the_device_tree_dmi_is_read),
                WITH_ROOT(the_reason_shows_the_placeholder),
                WITH_ROOT(the_uuid_is_that_of_the_product),
                WITH_ROOT(a_uuid_of_zeros_is_a_placeholder),
                WITH_ROOT(a_mac_is_12_digits),
                WITH_ROOT(a_mac_of_zeros_is_not_a_value),
                WITH_ROOT(an_interface_of_another_kind_has_no_mac),
                WITH_ROOT(a_missing_interface_may_appear),
                WITH_ROOT(the_running_system_has_no_such_interface),
                WITH_ROOT(the_running_systems_loopback_has_no_mac),
                WITH_ROOT(the_machine_id_is_application_specific),
                WITH_ROOT(without_a_machine_id_there_is_no_value),
                WITH_ROOT(the_hostname_is_the_static_one),
                WITH_ROOT(localhost_is_not_a_hostname),
                WITH_ROOT(localhost_with_a_domain_is_not_a_hostname),
                WITH_ROOT(an_empty_hostname_has_no_value),
                WITH_ROOT(a_file_gives_its_first_line),
                WITH_ROOT(an_empty_file_has_no_value),
                WITH_ROOT(a_missing_file_has_no_value),
                WITH_ROOT(the_reason_names_the_path_once),
                WITH_ROOT(a_large_file_has_no_value),
                WITH_ROOT(a_binary_file_has_no_value),
                WITH_ROOT(an_escape_sequence_has_no_value),
                WITH_ROOT(a_credential_gives_its_first_line),
                WITH_ROOT(a_missing_credential_has_no_value),
                WITH_ROOT(the_common_name_of_a_certificate_is_not_changed),
                WITH_ROOT(a_certificate_without_common_name_has_no_value),
                WITH_ROOT(a_file_without_a_certificate_has_no_value),
                WITH_ROOT(without_a_certificate_there_is_no_common_name),
                WITH_ROOT(the_id_of_the_tpm_is_known_once_it_was_asked),
        };
        struct CMUnitTest tests[ELEMENTSOF(syntax) + ELEMENTSOF(hardware) + ELEMENTSOF(plain)] = { 0 };
        size_t n = 0;

        ADD_ROWS(tests, n, syntax, check_syntax);
        ADD_ROWS(tests, n, hardware, check_hardware);
        memcpy(tests + n, plain, sizeof(plain));

        return cmocka_run_group_tests(tests, NULL, NULL);
}
