/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "credential/certificate.h"
#include "credentials.h"

static ClientCertificate certificate;

static int set_up(void **state) {
        certificate = (ClientCertificate){ 0 };
        return set_up_files();
}

static int tear_down(void **state) {
        client_certificate_done(&certificate);
        return tear_down_files();
}

static int load(void) {
        const CredentialSource source = { .settings = s, .registration_id = "gw-1", .may_wait = true };

        return client_certificate_load(&source, s->certificates[0], s->private_keys[0], &certificate, &error);
}

static void a_certificate_is_loaded_with_its_name_and_its_times(void **state) {
        _cleanup_(freep) char *key_path = path_of("key.pem");

        add_pair();
        assert_int_equal(load(), 0);
        assert_int_equal(sk_X509_num(certificate.chain), 1);
        assert_int_equal(EVP_PKEY_eq(certificate.key, ec_key), 1);
        assert_string_equal(certificate.common_name, "gw-1");
        assert_int_equal(certificate.not_before_usec, UINT64_C(1000000) * NOT_BEFORE_SEC);
        assert_int_equal(certificate.not_after_usec, UINT64_C(1000000) * NOT_AFTER_SEC);
        assert_string_equal(certificate.key_reference, key_path);
        assert_null(certificate.key_pem);
        assert_int_equal(ERR_peek_error(), 0);
}

static void the_case_of_the_common_name_is_ignored(void **state) {
        add_pair();
        put_certificate("cert.pem", ec_key, "GW-1");
        assert_int_equal(load(), 0);
}

static void an_rsa_key_works_too(void **state) {
        add_pair();
        put_certificate("cert.pem", rsa_key, "gw-1");
        put_key("key.pem", rsa_key);
        assert_int_equal(load(), 0);
}

static void parameters_may_come_before_the_key(void **state) {
        _cleanup_(freep) char *pem = pem_of_key(ec_key, NULL), *both = NULL;

        add_pair();
        assert_true(asprintf(&both,
                             "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                             "-----END EC PARAMETERS-----\n%s",
                             pem) > 0);
        put("key.pem", both, 0600);
        assert_int_equal(load(), 0);
}

static void systemd_credentials_work_too(void **state) {
        put_certificate("dps_cert", ec_key, "gw-1");
        put_key("dps_key", ec_key);
        add(&s->certificates, "credential:cert");
        add(&s->private_keys, "credential:key");
        assert_int_equal(load(), 0);
}

static void the_whole_chain_is_published_and_nothing_else(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1);
        _cleanup_(freep) char *authority = pem_of_certificate(other_key, "Factory CA", -1);
        _cleanup_(freep) char *key = pem_of_key(ec_key, NULL), *all = NULL, *chain = NULL;

        add_pair();
        assert_true(asprintf(&all, "# gateway\n%s%s%s", leaf, key, authority) > 0);
        assert_true(asprintf(&chain, "%s%s", leaf, authority) > 0);
        put("cert.pem", all, 0600);
        assert_int_equal(load(), 0);
        assert_int_equal(sk_X509_num(certificate.chain), 2);
        assert_string_equal(certificate.pem, chain);
}

static void the_key_is_given_as_text_only_with_share_key(void **state) {
        _cleanup_(freep) char *key = pem_of_key(ec_key, NULL);

        add_pair();
        s->share_key = true;
        assert_int_equal(load(), 0);
        assert_string_equal(certificate.key_pem, key);
}

static void a_missing_certificate_is_an_error_of_id_key(void **state) {
        add_pair();
        assert_int_equal(unlink(s->certificates[0]), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_KEY, "/etc/dps/gw.conf:9: Certificate=: ");
        assert_error(DPS_ERROR_KEY, "/cert.pem: No such file");
}

static void a_missing_private_key_is_an_error_of_id_key(void **state) {
        add_pair();
        assert_int_equal(unlink(s->private_keys[0]), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_KEY, "/etc/dps/gw.conf:9: PrivateKey=: ");
        assert_error(DPS_ERROR_KEY, "/key.pem: No such file");
}

static void one_file_may_hold_both(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1), *key = pem_of_key(ec_key, NULL);
        _cleanup_(freep) char *both = NULL;

        assert_true(asprintf(&both, "%s%s", key, leaf) > 0);
        put("both.pem", both, 0600);
        add_file(&s->certificates, "both.pem");
        add_file(&s->private_keys, "both.pem");
        assert_int_equal(load(), 0);
        assert_int_equal(EVP_PKEY_eq(certificate.key, ec_key), 1);
        assert_string_equal(certificate.pem, leaf);
}

static void one_file_that_holds_only_the_certificate_is_refused(void **state) {
        put_certificate("both.pem", ec_key, "gw-1");
        add_file(&s->certificates, "both.pem");
        add_file(&s->private_keys, "both.pem");
        assert_int_equal(chmod(s->certificates[0], 0600), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "no PEM private key");
}

static void a_private_key_that_others_can_read_is_refused(void **state) {
        add_pair();
        assert_int_equal(chmod(s->private_keys[0], 0644), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "chmod 06"); /* 0640 where there is a user dpsd */
}

static void the_key_of_another_certificate_is_refused(void **state) {
        add_pair();
        put_key("key.pem", other_key);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "PrivateKey=: ");
        assert_error(DPS_ERROR_CONFIG, "not the key of the first certificate");
}

static void a_key_of_another_kind_is_refused(void **state) {
        add_pair();
        put_key("key.pem", rsa_key);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "not the key of the first certificate");
}

static void a_chain_that_does_not_begin_with_the_leaf_is_refused(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1), *chain = NULL;
        _cleanup_(freep) char *authority = pem_of_certificate(other_key, "Factory CA", -1);

        add_pair();
        assert_true(asprintf(&chain, "%s%s", authority, leaf) > 0);
        put("cert.pem", chain, 0644);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "the first certificate");
}

static void the_certificate_of_another_device_is_refused(void **state) {
        add_pair();
        put_certificate("cert.pem", ec_key, "gw-2");
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG,
                     "its common name is \"gw-2\", but must be the registration ID, \"gw-1\"");
}

static void a_certificate_without_a_common_name_is_refused(void **state) {
        add_pair();
        put_certificate("cert.pem", ec_key, NULL);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "no common name");
}

static void a_common_name_with_a_zero_byte_is_refused(void **state) {
        _cleanup_(freep) char *pem = pem_of_certificate(ec_key, "gw-1\0x", 6);

        add_pair();
        put("cert.pem", pem, 0644);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "no common name");
}

static void a_file_without_certificate_is_refused(void **state) {
        add_pair();
        put("cert.pem", "rubbish\n", 0644);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "no PEM certificate");
}

static void a_damaged_chain_is_refused(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1), *chain = NULL;

        add_pair();
        assert_true(asprintf(&chain, "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                             leaf) > 0);
        put("cert.pem", chain, 0644);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "damaged");
}

static void a_chain_of_17_certificates_is_refused(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1);
        _cleanup_(freep) char *chain = calloc(20, strlen(leaf) + 1);

        add_pair();
        for (int i = 0; i < 17; i++)
                strcat(chain, leaf);
        put("cert.pem", chain, 0644);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "more than 16");
}

static void an_encrypted_key_is_refused_without_asking_for_its_passphrase(void **state) {
        _cleanup_(freep) char *pem = pem_of_key(ec_key, EVP_aes_256_cbc());

        add_pair();
        put("key.pem", pem, 0600);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "the key is encrypted");
}

static void a_key_in_the_old_encrypted_format_is_refused_too(void **state) {
        BIO *bio = BIO_new(BIO_s_mem());
        _cleanup_(freep) char *pem = NULL;

        assert_true(PEM_write_bio_PrivateKey_traditional(bio, rsa_key, EVP_aes_128_cbc(), NULL, 0, NULL,
                                                         (char *) "secret"));
        pem = take_text(bio);
        add_pair();
        put_certificate("cert.pem", rsa_key, "gw-1");
        put("key.pem", pem, 0600);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "the key is encrypted");
}

static void a_file_without_key_is_refused(void **state) {
        add_pair();
        put("key.pem", "rubbish\n", 0600);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "no PEM private key");
}

static void a_chip_is_not_waited_for_where_nobody_may_wait(void **state) {
        const CredentialSource source = { .settings = s, .registration_id = "gw-1" };

        put_certificate("cert.pem", ec_key, "gw-1");
        add_file(&s->certificates, "cert.pem");
        add(&s->private_keys, "handle:0x81000002");
        assert_int_equal(client_certificate_load(&source, s->certificates[0], s->private_keys[0],
                                                 &certificate, &error),
                         -EINPROGRESS);
}

static void the_error_says_that_the_module_for_such_keys_is_missing(void **state) {
        setenv("DPS_MODULE_DIRECTORY", directory, 1);
        put_certificate("cert.pem", ec_key, "gw-1");
        add_file(&s->certificates, "cert.pem");
        add(&s->private_keys, "handle:0x81000002");
        assert_int_equal(load(), -EOPNOTSUPP);
        assert_error(DPS_ERROR_CONFIG,
                     "PrivateKey=: handle:0x81000002: module hardware-key is not installed");
        assert_non_null(strstr(error.message, "install the package dps-hardware-key"));
        unsetenv("DPS_MODULE_DIRECTORY");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(a_certificate_is_loaded_with_its_name_and_its_times),
                TEST(the_case_of_the_common_name_is_ignored),
                TEST(an_rsa_key_works_too),
                TEST(parameters_may_come_before_the_key),
                TEST(systemd_credentials_work_too),
                TEST(the_whole_chain_is_published_and_nothing_else),
                TEST(the_key_is_given_as_text_only_with_share_key),
                TEST(a_missing_certificate_is_an_error_of_id_key),
                TEST(a_missing_private_key_is_an_error_of_id_key),
                TEST(one_file_may_hold_both),
                TEST(one_file_that_holds_only_the_certificate_is_refused),
                TEST(a_private_key_that_others_can_read_is_refused),
                TEST(the_key_of_another_certificate_is_refused),
                TEST(a_key_of_another_kind_is_refused),
                TEST(a_chain_that_does_not_begin_with_the_leaf_is_refused),
                TEST(the_certificate_of_another_device_is_refused),
                TEST(a_certificate_without_a_common_name_is_refused),
                TEST(a_common_name_with_a_zero_byte_is_refused),
                TEST(a_file_without_certificate_is_refused),
                TEST(a_damaged_chain_is_refused),
                TEST(a_chain_of_17_certificates_is_refused),
                TEST(an_encrypted_key_is_refused_without_asking_for_its_passphrase),
                TEST(a_key_in_the_old_encrypted_format_is_refused_too),
                TEST(a_file_without_key_is_refused),
                TEST(a_chip_is_not_waited_for_where_nobody_may_wait),
                TEST(the_error_says_that_the_module_for_such_keys_is_missing),
        };

        return cmocka_run_group_tests(tests, set_up_keys, tear_down_keys);
}
