/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <limits.h>

#include "basic/module.h"
#include "credential/hardware-key.h"
#include "credentials.h"

extern const Module dps_module;

static int set_up(void **state) {
        return set_up_files();
}

static int tear_down(void **state) {
        return tear_down_files();
}

static void assert_load_fails(HardwareKind kind, const char *reference, EVP_PKEY *key, DpsErrorId id,
                              const char *words) {
        const HardwareKeyModule *module = dps_module.class;
        const CredentialSource source = { .settings = s, .registration_id = "gw-1", .may_wait = true };
        X509 *leaf = X509_new();
        EVP_PKEY *ignored;

        assert_non_null(leaf);
        assert_int_equal(X509_set_pubkey(leaf, key), 1);
        assert_true(module->load(&source, kind, reference, leaf, &ignored, &error) < 0);
        ERR_clear_error(); /* as the caller does */
        assert_error(id, words);
        X509_free(leaf);
}

static void the_error_says_that_a_pkcs11_module_is_none(void **state) {
        s->pkcs11_module = strdup("libc.so.6");
        assert_load_fails(HARDWARE_PKCS11, "pkcs11:object=dps", ec_key, DPS_ERROR_CONFIG,
                          "Pkcs11Module=: libc.so.6: this is not a PKCS#11 module");
}

static void the_error_says_that_a_pkcs11_module_is_missing(void **state) {
        s->pkcs11_module = path_of("not-there.so");
        assert_load_fails(HARDWARE_PKCS11, "pkcs11:object=dps", ec_key, DPS_ERROR_KEY, "cannot be loaded");
}

static void the_error_says_that_openssl_has_no_provider_for_tpms(void **state) {
        s->tcti = strdup("device:/dev/tpmrm0");
        setenv("OPENSSL_MODULES", directory, 1);
        assert_load_fails(HARDWARE_TPM_HANDLE, "handle:0x81000002", ec_key, DPS_ERROR_KEY,
                          "install the package tpm2-openssl");
        unsetenv("OPENSSL_MODULES");
}

static void an_rsa_key_of_a_tpm_is_refused(void **state) {
        assert_load_fails(HARDWARE_TPM_HANDLE, "handle:0x81000002", rsa_key, DPS_ERROR_CONFIG,
                          "use an EC key");
}

static void a_pin_that_others_can_read_is_refused(void **state) {
        put("pin", "1234\n", 0644);
        s->pin = path_of("pin");
        assert_load_fails(HARDWARE_PKCS11, "pkcs11:object=dps", ec_key, DPS_ERROR_CONFIG, "Pin=: ");
        assert_null(strstr(error.message, "1234"));
}

static void an_empty_pin_is_refused(void **state) {
        put("pin", "\n", 0600);
        s->pin = path_of("pin");
        assert_load_fails(HARDWARE_PKCS11, "pkcs11:object=dps", ec_key, DPS_ERROR_CONFIG,
                          "the file must hold the PIN and nothing else");
}

static void without_a_note_no_key_is_made(void **state) {
        const HardwareKeyModule *module = dps_module.class;
        IssuancePlace place = { .state = path_of("no-such-directory") };
        EVP_PKEY *ignored;
        char *text;

        s->issuance_key = strdup("pkcs11:object=hub");
        s->pkcs11_module = strdup("libc.so.6");
        assert_int_equal(module->make(s, &place, &ignored, &text, &error), -ENOENT);
        assert_error(DPS_ERROR_DISK, "no key is made in the token, because");
        issuance_place_done(&place);
}

/* --- a token that lies (hostile-token.c) ---------------------------------------------------------------- */

static void use_hostile_token(void) {
        put("pin", "1234\n", 0600);
        s->pin = path_of("pin");
        s->name = strdup("gw");
        s->pkcs11_module = strdup(HOSTILE_TOKEN);
        s->issuance_key = strdup("pkcs11:token=gw;object=hub");
}

/* CK_RV is an unsigned long. */
#if ULONG_MAX > UINT32_MAX
#define ALL_BITS "ffffffffffffffff"
#else
#define ALL_BITS "ffffffff"
#endif

static void whatever_a_token_says_the_error_is_clear(void **state) {
        static const struct {
                const char *lie, *words;
                DpsErrorId id;
        } rows[] = {
                { "no initialize", "failed with error 0x" ALL_BITS, DPS_ERROR_KEY },
                { "no slots", "this token is not present", DPS_ERROR_KEY },
                { "many slots", "there are several such tokens", DPS_ERROR_CONFIG },
                { "labels without an end", "this token is not present", DPS_ERROR_KEY },
                { "an unknown code", "C_Login", DPS_ERROR_KEY },
                { "many objects", "several such private keys", DPS_ERROR_CONFIG },
                { "an empty signature", "an invalid signature", DPS_ERROR_CONFIG },
                { "half a signature", "an invalid signature", DPS_ERROR_CONFIG },
                { "a huge signature", "an invalid signature", DPS_ERROR_CONFIG },
                { "a signature that fills", "an invalid signature", DPS_ERROR_CONFIG },
                { "a signature of ones", "not the key of the first certificate", DPS_ERROR_CONFIG },
                { "", "not the key of the first certificate", DPS_ERROR_CONFIG },
        };

        use_hostile_token();
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                setenv("TOKEN_LIE", rows[i].lie, 1);
                assert_load_fails(HARDWARE_PKCS11, "pkcs11:token=gw;object=dps", ec_key, rows[i].id,
                                  rows[i].words);
        }
        assert_load_fails(HARDWARE_PKCS11, "pkcs11:token=gw;object=dps", rsa_key, DPS_ERROR_CONFIG,
                          "not the key of the first certificate");
}

static int make_key(KeyType type, const char *lie) {
        const HardwareKeyModule *module = dps_module.class;
        IssuancePlace place = { .state = directory };
        EVP_PKEY *ignored;
        char *text;
        int r;

        setenv("TOKEN_LIE", lie, 1);
        s->issuance_key_type = type;
        r = module->make(s, &place, &ignored, &text, &error);
        ERR_clear_error(); /* as the caller does */
        return r;
}

static void whatever_a_token_says_of_a_new_key_is_checked(void **state) {
        static const char *const of_points[] = { "",
                                                 "an empty point",
                                                 "a point without a size",
                                                 "a point of a gigabyte",
                                                 "a short point",
                                                 "a point of another curve",
                                                 "attributes that it does not write" };
        static const char *const of_rsa[] = { "", "a short modulus", "a huge modulus",
                                              "an exponent without a size",
                                              "attributes that it does not write" };

        use_hostile_token();
        for (size_t i = 0; i < ELEMENTSOF(of_points); i++) {
                assert_true(make_key(KEY_TYPE_EC_P256, of_points[i]) < 0);
                assert_error(DPS_ERROR_KEY, "[Issuance] Key=: pkcs11:token=gw;object=hub-");
                assert_error(DPS_ERROR_KEY, "describes it wrongly");
                assert_true(make_key(KEY_TYPE_EC_P384, of_points[i]) < 0);
                assert_error(DPS_ERROR_KEY, "describes it wrongly");
        }
        for (size_t i = 0; i < ELEMENTSOF(of_rsa); i++) {
                assert_true(make_key(KEY_TYPE_RSA_2048, of_rsa[i]) < 0);
                assert_error(DPS_ERROR_KEY, "describes it wrongly");
        }
}

static void a_token_that_keeps_all_keys_is_not_filled(void **state) {
        use_hostile_token();
        for (int i = 0; i < 3; i++) {
                assert_true(make_key(KEY_TYPE_EC_P256, "keys that stay") < 0);
                assert_error(DPS_ERROR_KEY, "describes it wrongly");
        }
        assert_true(make_key(KEY_TYPE_EC_P256, "keys that stay") < 0);
        assert_error(DPS_ERROR_KEY, "C_DestroyObject");
        assert_true(make_key(KEY_TYPE_EC_P256, "") < 0);
        assert_error(DPS_ERROR_KEY, "describes it wrongly");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(the_error_says_that_a_pkcs11_module_is_none),
                TEST(the_error_says_that_a_pkcs11_module_is_missing),
                TEST(the_error_says_that_openssl_has_no_provider_for_tpms),
                TEST(an_rsa_key_of_a_tpm_is_refused),
                TEST(a_pin_that_others_can_read_is_refused),
                TEST(an_empty_pin_is_refused),
                TEST(without_a_note_no_key_is_made),
                TEST(whatever_a_token_says_the_error_is_clear),
                TEST(whatever_a_token_says_of_a_new_key_is_checked),
                TEST(a_token_that_keeps_all_keys_is_not_filled),
        };

        return cmocka_run_group_tests(tests, set_up_keys, tear_down_keys);
}
