/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "credentials.h"
#include "dps/key.h"
#include "dps/sas.h"
#include "dpsd/attestation.h"

#define KEY_1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2 "AgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICE="
#define RESOURCE "0ne00AABBCC%2Fregistrations%2Fgw-1"
#define EXPIRY_SEC 1700000000

static int set_up(void **state) {
        return set_up_files();
}

static int tear_down(void **state) {
        return tear_down_files();
}

static void set_methods(Method first, Method second) {
        s->methods[s->n_methods++] = first;
        if (second != _METHOD_MAX)
                s->methods[s->n_methods++] = second;
}

/* --- symmetric keys ------------------------------------------------------------------------------------------- */

static void assert_minted_by(unsigned index, const DpsKey *key) {
        _cleanup_(erase_and_freep) char *token = NULL;
        DpsSas sas = { 0 };

        assert_int_equal(attestation_mint(s, METHOD_SYMMETRIC_KEY, index, "gw-1", RESOURCE, EXPIRY_SEC,
                                          DPS_SAS_POLICY_REGISTRATION, &token, &error),
                         0);
        assert_int_equal(dps_sas_parse(token, &sas), 0);
        assert_true(dps_sas_is_signed_by(&sas, key) > 0);
        assert_string_equal(sas.resource, RESOURCE);
        assert_int_equal(sas.expiry_sec, EXPIRY_SEC);
        assert_string_equal(sas.policy, "registration");
        dps_sas_done(&sas);
}

static DpsKey key_of(const char *base64) {
        DpsKey key;

        assert_int_equal(dps_key_from_base64(base64, &key), 0);
        return key;
}

static void a_token_is_signed_with_the_key_in_the_file(void **state) {
        DpsKey key = key_of(KEY_1);

        put("gw.key", KEY_1 "\n", 0600);
        add_file(&s->keys, "gw.key");
        assert_minted_by(0, &key);
}

static void a_credential_is_a_key_too(void **state) {
        DpsKey key = key_of(KEY_1);

        put("gw.key", KEY_1, 0600);
        add(&s->keys, "credential:gw.key");
        assert_minted_by(0, &key);
}

static void each_key_of_the_list_can_sign(void **state) {
        DpsKey first = key_of(KEY_1), second = key_of(KEY_2);

        put("a.key", KEY_1, 0600);
        put("b.key", KEY_2, 0600);
        add_file(&s->keys, "a.key");
        add_file(&s->keys, "b.key");
        assert_int_equal(attestation_count(s, METHOD_SYMMETRIC_KEY), 2);
        assert_minted_by(0, &first);
        assert_minted_by(1, &second);
}

static void a_key_that_left_the_list_is_replaced_by_the_first(void **state) {
        DpsKey key = key_of(KEY_1);

        put("a.key", KEY_1, 0600);
        add_file(&s->keys, "a.key");
        assert_minted_by(1, &key);
}

static void of_a_group_key_the_derived_one_signs(void **state) {
        DpsKey group = key_of(KEY_1), derived;

        assert_int_equal(dps_key_derive(&group, "gw-1", &derived), 0);
        put("group.key", KEY_1, 0600);
        add_file(&s->group_keys, "group.key");
        assert_int_equal(attestation_count(s, METHOD_SYMMETRIC_KEY), 1);
        assert_minted_by(0, &derived);
}

static const struct key_case {
        const char *promise, *text;
        mode_t mode;
        DpsErrorId id;
        const char *words;
} key_cases[] = {
        { "a key that is not there yet is waited for", NULL, 0, DPS_ERROR_KEY, "No such file" },
        { "a key that others can read is refused", KEY_1, 0644, DPS_ERROR_CONFIG, "run chmod 0600" },
        { "a key that is not base64 is refused", "not base64!", 0600, DPS_ERROR_CONFIG, "not base64" },
        { "a short key is refused", "c2hvcnQ=", 0600, DPS_ERROR_CONFIG, "16 to 64 bytes" },
        { "an empty file is refused", "", 0600, DPS_ERROR_CONFIG, "gw.key" },
};

static void check_key(void **state) {
        const struct key_case *c = *state;
        char *token = NULL;

        if (c->text)
                put("gw.key", c->text, c->mode);
        add_file(&s->keys, "gw.key");
        assert_true(attestation_mint(s, METHOD_SYMMETRIC_KEY, 0, "gw-1", RESOURCE, EXPIRY_SEC, NULL, &token,
                                     &error) < 0);
        assert_null(token);
        assert_error(c->id, "/etc/dps/gw.conf:7: Key=: ");
        assert_error(c->id, "/gw.key");
        assert_error(c->id, c->words);
        if (c->text && *c->text)
                assert_null(strstr(error.message, c->text));
}

static void the_cause_is_told_also_behind_a_long_path(void **state) {
        char path[600], *token = NULL;

        memset(path, 'a', sizeof(path));
        for (size_t k = 0; k < sizeof(path); k += 100)
                path[k] = '/';
        strcpy(path + sizeof(path) - 8, "/gw.key");
        add(&s->keys, path);
        assert_true(attestation_mint(s, METHOD_SYMMETRIC_KEY, 0, "gw-1", RESOURCE, EXPIRY_SEC, NULL, &token,
                                     &error) < 0);
        assert_error(DPS_ERROR_KEY, "/etc/dps/gw.conf:7: Key=: /aaa");
        assert_error(DPS_ERROR_KEY, "/gw.key: No such file or directory");
}

static void a_credential_that_is_not_there_is_waited_for(void **state) {
        char *token = NULL;

        add(&s->group_keys, "credential:group.key");
        assert_true(attestation_mint(s, METHOD_SYMMETRIC_KEY, 0, "gw-1", RESOURCE, EXPIRY_SEC, NULL, &token,
                                     &error) < 0);
        assert_error(DPS_ERROR_KEY, "/etc/dps/gw.conf:7: GroupKey=: credential:group.key: there is no");
}

static void a_key_with_a_zero_byte_is_refused(void **state) {
        _cleanup_(freep) char *path = path_of("gw.key");
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char *token = NULL;

        assert_int_equal(write(fd, KEY_1 "\0x", sizeof(KEY_1) + 1), sizeof(KEY_1) + 1);
        add_file(&s->keys, "gw.key");
        assert_true(attestation_mint(s, METHOD_SYMMETRIC_KEY, 0, "gw-1", RESOURCE, EXPIRY_SEC, NULL, &token,
                                     &error) < 0);
        assert_error(DPS_ERROR_CONFIG, "not base64");
}

/* --- certificates ---------------------------------------------------------------------------------------------- */

static void each_pair_of_the_lists_can_be_used(void **state) {
        ClientCertificate certificate;

        add_pair();
        put_certificate("second.pem", rsa_key, "gw-1");
        put_key("second.key", rsa_key);
        add_file(&s->certificates, "second.pem");
        add_file(&s->private_keys, "second.key");
        assert_int_equal(attestation_count(s, METHOD_X509), 2);
        assert_int_equal(attestation_certificate(s, 1, "gw-1", &certificate, &error), 0);
        assert_int_equal(EVP_PKEY_eq(certificate.key, rsa_key), 1);
        client_certificate_done(&certificate);
}

static void a_certificate_without_its_line_of_a_key_is_refused(void **state) {
        ClientCertificate certificate;

        add_pair();
        add_file(&s->certificates, "cert.pem");
        assert_true(attestation_certificate(s, 0, "gw-1", &certificate, &error) < 0);
        assert_error(DPS_ERROR_CONFIG, "as many lines PrivateKey=");
}

/* --- the method ----------------------------------------------------------------------------------------------- */

static void add_key(void) {
        put("gw.key", KEY_1, 0600);
        add_file(&s->keys, "gw.key");
}

static void assert_chosen(Method kept, Method expected) {
        Method chosen = _METHOD_MAX;

        assert_int_equal(attestation_choose(s, "gw-1", kept, &chosen, &error), 0);
        assert_int_equal(chosen, expected);
}

static void the_first_method_is_taken(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key();
        assert_chosen(_METHOD_MAX, METHOD_X509);
}

static void where_it_is_not_possible_the_next_one_is(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key();
        put_key("key.pem", other_key);
        assert_chosen(_METHOD_MAX, METHOD_SYMMETRIC_KEY);
}

static void a_method_that_this_build_cannot_is_passed_over(void **state) {
        set_methods(METHOD_TPM, METHOD_SYMMETRIC_KEY);
        add_key();
        assert_chosen(_METHOD_MAX, METHOD_SYMMETRIC_KEY);
}

static void what_was_taken_is_kept(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key();
        assert_chosen(METHOD_SYMMETRIC_KEY, METHOD_SYMMETRIC_KEY);
}

static void what_was_taken_and_is_wanted_no_more_is_not_kept(void **state) {
        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        add_key();
        assert_chosen(METHOD_SYMMETRIC_KEY, METHOD_X509);
}

static void assert_waits_for(Method kept, DpsErrorId id, const char *words) {
        Method chosen = _METHOD_MAX;

        assert_true(attestation_choose(s, "gw-1", kept, &chosen, &error) < 0);
        assert_error(id, words);
        assert_int_equal(chosen, _METHOD_MAX);
}

static void what_was_taken_is_waited_for(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, METHOD_X509);
        add_key();
        add_pair();
        assert_int_equal(unlink(s->certificates[0]), 0);
        assert_waits_for(METHOD_X509, DPS_ERROR_KEY, "/cert.pem: No such file");
}

static void what_was_taken_and_is_spoilt_is_told(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        put("gw.key", "half of i", 0600);
        add_file(&s->keys, "gw.key");
        assert_waits_for(METHOD_SYMMETRIC_KEY, DPS_ERROR_CONFIG, "not base64");
}

static void what_was_taken_and_has_no_key_in_the_conf_is_not_kept(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, METHOD_X509);
        add_key();
        assert_chosen(METHOD_X509, METHOD_SYMMETRIC_KEY);
}

static void what_was_taken_and_this_build_cannot_is_not_kept(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        put_certificate("cert.pem", ec_key, "gw-1");
        add_file(&s->certificates, "cert.pem");
        add(&s->private_keys, "pkcs11:token=gw");
        add_key();
        assert_chosen(METHOD_X509, METHOD_SYMMETRIC_KEY);
}

static void one_good_key_of_several_is_enough(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add_file(&s->keys, "not-there.key");
        add_key();
        assert_chosen(_METHOD_MAX, METHOD_SYMMETRIC_KEY);
}

static void where_nothing_is_possible_the_preferred_method_tells_why(void **state) {
        Method chosen;

        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        put_key("key.pem", other_key);
        add_file(&s->keys, "not-there.key");
        assert_true(attestation_choose(s, "gw-1", _METHOD_MAX, &chosen, &error) < 0);
        assert_error(DPS_ERROR_CONFIG, "not the key of the first certificate");
}

static void what_this_build_cannot_hides_no_trouble_that_can_be_mended(void **state) {
        Method chosen;

        set_methods(METHOD_TPM, METHOD_SYMMETRIC_KEY);
        add_file(&s->keys, "not-there.key");
        assert_true(attestation_choose(s, "gw-1", _METHOD_MAX, &chosen, &error) < 0);
        assert_error(DPS_ERROR_KEY, "not-there.key");
}

static void a_method_that_this_build_cannot_is_told_where_it_is_all(void **state) {
        Method chosen;

        set_methods(METHOD_TPM, _METHOD_MAX);
        assert_true(attestation_choose(s, "gw-1", METHOD_TPM, &chosen, &error) < 0);
        assert_error(DPS_ERROR_CONFIG, "Method=: tpm: this version of dpsd");
        assert_int_equal(attestation_count(s, METHOD_TPM), 0);
}

/* --- paths ---------------------------------------------------------------------------------------------------- */

static void all_files_are_to_be_watched(void **state) {
        _cleanup_(strv_freep) char **paths = NULL;

        add_pair();
        add_key();
        assert_int_equal(attestation_paths(s, &paths), 0);
        assert_int_equal(strv_length(paths), 3);
        assert_true(strv_contains(paths, s->keys[0]));
        assert_true(strv_contains(paths, s->certificates[0]));
        assert_true(strv_contains(paths, s->private_keys[0]));
}

static void a_credential_is_watched_for_where_it_may_appear(void **state) {
        _cleanup_(strv_freep) char **paths = NULL;
        _cleanup_(freep) char *plain = path_of("gw.key"), *prefixed = path_of("dps_gw.key");

        add(&s->group_keys, "credential:gw.key");
        assert_int_equal(attestation_paths(s, &paths), 0);
        assert_int_equal(strv_length(paths), 2);
        assert_true(strv_contains(paths, plain));
        assert_true(strv_contains(paths, prefixed));
}

static void hardware_is_no_file_to_watch(void **state) {
        _cleanup_(strv_freep) char **paths = NULL;

        add(&s->private_keys, "pkcs11:token=gw");
        add(&s->private_keys, "handle:0x81000002");
        assert_int_equal(attestation_paths(s, &paths), 0);
        assert_int_equal(strv_length(paths), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest plain[] = {
                TEST(a_token_is_signed_with_the_key_in_the_file),
                TEST(a_credential_is_a_key_too),
                TEST(each_key_of_the_list_can_sign),
                TEST(a_key_that_left_the_list_is_replaced_by_the_first),
                TEST(of_a_group_key_the_derived_one_signs),
                TEST(the_cause_is_told_also_behind_a_long_path),
                TEST(a_credential_that_is_not_there_is_waited_for),
                TEST(a_key_with_a_zero_byte_is_refused),
                TEST(each_pair_of_the_lists_can_be_used),
                TEST(a_certificate_without_its_line_of_a_key_is_refused),
                TEST(the_first_method_is_taken),
                TEST(where_it_is_not_possible_the_next_one_is),
                TEST(a_method_that_this_build_cannot_is_passed_over),
                TEST(what_was_taken_is_kept),
                TEST(what_was_taken_and_is_wanted_no_more_is_not_kept),
                TEST(what_was_taken_is_waited_for),
                TEST(what_was_taken_and_is_spoilt_is_told),
                TEST(what_was_taken_and_has_no_key_in_the_conf_is_not_kept),
                TEST(what_was_taken_and_this_build_cannot_is_not_kept),
                TEST(one_good_key_of_several_is_enough),
                TEST(where_nothing_is_possible_the_preferred_method_tells_why),
                TEST(what_this_build_cannot_hides_no_trouble_that_can_be_mended),
                TEST(a_method_that_this_build_cannot_is_told_where_it_is_all),
                TEST(all_files_are_to_be_watched),
                TEST(a_credential_is_watched_for_where_it_may_appear),
                TEST(hardware_is_no_file_to_watch),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(key_cases)];
        size_t n = ELEMENTSOF(plain);

        memcpy(tests, plain, sizeof(plain));
        for (size_t i = 0; i < ELEMENTSOF(key_cases); i++)
                tests[n++] = (struct CMUnitTest){ .name = key_cases[i].promise,
                                                  .test_func = check_key,
                                                  .setup_func = set_up,
                                                  .teardown_func = tear_down,
                                                  .initial_state = (void *) &key_cases[i] };
        return cmocka_run_group_tests(tests, set_up_keys, tear_down_keys);
}
