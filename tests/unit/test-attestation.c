/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include "basic/text.h"
#include "dps/key.h"
#include "dps/sas.h"
#include "dpsd/attestation.h"

#define KEY_1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2 "AgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICE="
#define RESOURCE "0ne00AABBCC%2Fregistrations%2Fgw-1"
#define EXPIRY_SEC 1700000000
#define NOT_BEFORE_SEC 1600000000
#define NOT_AFTER_SEC 1900000000

static char directory[40];
static Settings *s;
static DpsError error;
static ClientCertificate certificate;

/* The same for all tests, as making them takes a while. */
static EVP_PKEY *ec_key, *other_key, *rsa_key;

/* --- files ---------------------------------------------------------------------------------------------------- */

static char *path_of(const char *name) {
        char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        return path;
}

static void put(const char *name, const char *text, mode_t mode) {
        _cleanup_(freep) char *path = path_of(name);
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        assert_int_equal(fchmod(fd, mode), 0);
}

static char *take_text(BIO *bio) {
        char *data, *text;
        long n = BIO_get_mem_data(bio, &data);

        text = strndup(data, (size_t) n);
        BIO_free(bio);
        assert_non_null(text);
        return text;
}

static char *pem_of_key(EVP_PKEY *key, const EVP_CIPHER *cipher) {
        BIO *bio = BIO_new(BIO_s_mem());

        assert_true(PEM_write_bio_PrivateKey(bio, key, cipher, NULL, 0, NULL,
                                             (char *) (cipher ? "secret" : NULL)));
        return take_text(bio);
}

/* -1: up to the end of the name. */
static X509 *make_certificate(EVP_PKEY *key, const char *common_name, int size) {
        X509 *x = X509_new();
        X509_NAME *subject = X509_get_subject_name(x);

        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
        ASN1_TIME_set(X509_getm_notBefore(x), NOT_BEFORE_SEC);
        ASN1_TIME_set(X509_getm_notAfter(x), NOT_AFTER_SEC);
        assert_true(
                X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const void *) "Factory", -1, -1, 0));
        if (common_name)
                assert_true(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                                       (const void *) common_name, size, -1, 0));
        X509_set_issuer_name(x, subject);
        X509_set_pubkey(x, key);
        assert_true(X509_sign(x, key, EVP_sha256()));
        return x;
}

static char *pem_of_certificate(EVP_PKEY *key, const char *common_name, int size) {
        BIO *bio = BIO_new(BIO_s_mem());
        X509 *x = make_certificate(key, common_name, size);

        assert_true(PEM_write_bio_X509(bio, x));
        X509_free(x);
        return take_text(bio);
}

static void put_key(const char *name, EVP_PKEY *key) {
        _cleanup_(freep) char *pem = pem_of_key(key, NULL);

        put(name, pem, 0600);
}

static void put_certificate(const char *name, EVP_PKEY *key, const char *common_name) {
        _cleanup_(freep) char *pem = pem_of_certificate(key, common_name, -1);

        put(name, pem, 0644);
}

/* --- around each test ----------------------------------------------------------------------------------------- */

static int set_up_keys(void **state) {
        ec_key = EVP_EC_gen("P-256");
        other_key = EVP_EC_gen("P-256");
        rsa_key = EVP_RSA_gen(2048);
        return ec_key && other_key && rsa_key ? 0 : -1;
}

static int tear_down_keys(void **state) {
        EVP_PKEY_free(ec_key);
        EVP_PKEY_free(other_key);
        EVP_PKEY_free(rsa_key);
        return 0;
}

static int set_up(void **state) {
        strcpy(directory, "/tmp/test-attestation-XXXXXX");
        assert_non_null(mkdtemp(directory));
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        s = calloc(1, sizeof(*s));
        assert_non_null(s);
        s->keys_place = (Place){ strdup("/etc/dps/gw.conf"), 7 };
        s->certificates_place = (Place){ strdup("/etc/dps/gw.conf"), 9 };
        error = (DpsError){ 0 };
        certificate = (ClientCertificate){ 0 };
        return 0;
}

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw) {
        return remove(name);
}

static int tear_down(void **state) {
        client_certificate_done(&certificate);
        s = settings_free(s);
        unsetenv("CREDENTIALS_DIRECTORY");
        return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void set_methods(Method first, Method second) {
        s->methods[s->n_methods++] = first;
        if (second != _METHOD_MAX)
                s->methods[s->n_methods++] = second;
}

static void add_file(char ***list, const char *name) {
        assert_int_equal(strv_push(list, path_of(name)), 0);
}

static void add(char ***list, const char *reference) {
        assert_int_equal(strv_append(list, reference), 0);
}

/* A good pair, for a test to spoil. */
static void add_pair(void) {
        put_certificate("cert.pem", ec_key, "gw-1");
        put_key("key.pem", ec_key);
        add_file(&s->certificates, "cert.pem");
        add_file(&s->private_keys, "key.pem");
}

static int load(void) {
        return attestation_certificate(s, 0, "gw-1", &certificate, &error);
}

static void assert_error(DpsErrorId id, const char *words) {
        assert_string_equal(dps_error_id_to_string(error.id), dps_error_id_to_string(id));
        assert_int_equal(error.step, DPS_STEP_CONFIG);
        if (!strstr(error.message, words))
                fail_msg("\"%s\" does not say \"%s\"", error.message, words);
        assert_int_equal(ERR_peek_error(), 0);
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

/* --- certificates --------------------------------------------------------------------------------------------- */

static void a_certificate_is_loaded_with_all_that_is_told_of_it(void **state) {
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

static void its_id_is_the_hash_of_the_leaf(void **state) {
        unsigned char hash[32];
        char hex[65] = "";

        add_pair();
        assert_int_equal(load(), 0);
        assert_true(X509_digest(sk_X509_value(certificate.chain, 0), EVP_sha256(), hash, NULL));
        for (unsigned i = 0; i < sizeof(hash); i++)
                (void) snprintf(hex + 2 * i, 3, "%02x", hash[i]);
        assert_string_equal(certificate.id, hex);
}

static void the_case_of_its_name_does_not_count(void **state) {
        add_pair();
        put_certificate("cert.pem", ec_key, "GW-1");
        assert_int_equal(load(), 0);
}

static void an_rsa_key_is_as_good(void **state) {
        add_pair();
        put_certificate("cert.pem", rsa_key, "gw-1");
        put_key("key.pem", rsa_key);
        assert_int_equal(load(), 0);
}

static void parameters_may_precede_the_key(void **state) {
        _cleanup_(freep) char *pem = pem_of_key(ec_key, NULL), *both = NULL;

        add_pair();
        assert_true(asprintf(&both,
                             "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                             "-----END EC PARAMETERS-----\n%s",
                             pem) > 0);
        put("key.pem", both, 0600);
        assert_int_equal(load(), 0);
}

static void credentials_serve_as_well(void **state) {
        put_certificate("dps_cert", ec_key, "gw-1");
        put_key("dps_key", ec_key);
        add(&s->certificates, "credential:cert");
        add(&s->private_keys, "credential:key");
        assert_int_equal(load(), 0);
}

static void each_pair_of_the_lists_can_be_used(void **state) {
        add_pair();
        put_certificate("second.pem", rsa_key, "gw-1");
        put_key("second.key", rsa_key);
        add_file(&s->certificates, "second.pem");
        add_file(&s->private_keys, "second.key");
        assert_int_equal(attestation_count(s, METHOD_X509), 2);
        assert_int_equal(attestation_certificate(s, 1, "gw-1", &certificate, &error), 0);
        assert_int_equal(EVP_PKEY_eq(certificate.key, rsa_key), 1);
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

static void a_key_is_shared_only_where_that_is_wanted(void **state) {
        _cleanup_(freep) char *key = pem_of_key(ec_key, NULL);

        add_pair();
        s->share_key = true;
        assert_int_equal(load(), 0);
        assert_string_equal(certificate.key_pem, key);
}

static void a_certificate_that_is_not_there_yet_is_waited_for(void **state) {
        add_pair();
        assert_int_equal(unlink(s->certificates[0]), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_KEY, "/etc/dps/gw.conf:9: Certificate=: ");
        assert_error(DPS_ERROR_KEY, "/cert.pem: No such file");
}

static void a_private_key_that_is_not_there_yet_is_waited_for(void **state) {
        add_pair();
        assert_int_equal(unlink(s->private_keys[0]), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_KEY, "/etc/dps/gw.conf:9: PrivateKey=: ");
        assert_error(DPS_ERROR_KEY, "/key.pem: No such file");
}

static void a_private_key_that_others_can_read_is_refused(void **state) {
        add_pair();
        assert_int_equal(chmod(s->private_keys[0], 0644), 0);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "run chmod 0600");
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

static void a_chain_with_the_leaf_behind_is_refused(void **state) {
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
                     "its common name is \"gw-2\", and must be the registration ID, \"gw-1\"");
}

static void a_certificate_without_a_common_name_is_refused(void **state) {
        add_pair();
        put_certificate("cert.pem", ec_key, NULL);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "no common name");
}

static void a_name_with_a_zero_byte_is_not_what_it_seems(void **state) {
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

static void an_endless_chain_is_refused(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1);
        _cleanup_(freep) char *chain = calloc(20, strlen(leaf) + 1);

        add_pair();
        for (int i = 0; i < 17; i++)
                strcat(chain, leaf);
        put("cert.pem", chain, 0644);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "more than 16");
}

static void an_encrypted_key_is_refused_and_nobody_asked(void **state) {
        _cleanup_(freep) char *pem = pem_of_key(ec_key, EVP_aes_256_cbc());

        add_pair();
        put("key.pem", pem, 0600);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "the key is encrypted");
}

static void so_is_one_encrypted_as_it_was_long_ago(void **state) {
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

static void a_key_of_a_tpm_is_called_what_it_is(void **state) {
        add_pair();
        put("key.pem", "-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n", 0600);
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "a key of a TPM");
}

static void a_key_in_hardware_is_called_what_it_is(void **state) {
        put_certificate("cert.pem", ec_key, "gw-1");
        add_file(&s->certificates, "cert.pem");
        add(&s->private_keys, "pkcs11:token=gw;pin-value=1234");
        assert_true(load() < 0);
        assert_error(DPS_ERROR_CONFIG, "a key in hardware");
        assert_null(strstr(error.message, "1234"));
}

static void a_certificate_without_its_line_of_a_key_is_refused(void **state) {
        add_pair();
        add_file(&s->certificates, "cert.pem");
        assert_true(load() < 0);
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

static void what_was_taken_and_is_not_possible_now_is_not_kept(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, METHOD_X509);
        add_key();
        add_pair();
        assert_int_equal(unlink(s->certificates[0]), 0);
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
                TEST(a_credential_that_is_not_there_is_waited_for),
                TEST(a_key_with_a_zero_byte_is_refused),
                TEST(a_certificate_is_loaded_with_all_that_is_told_of_it),
                TEST(its_id_is_the_hash_of_the_leaf),
                TEST(the_case_of_its_name_does_not_count),
                TEST(an_rsa_key_is_as_good),
                TEST(parameters_may_precede_the_key),
                TEST(credentials_serve_as_well),
                TEST(each_pair_of_the_lists_can_be_used),
                TEST(the_whole_chain_is_published_and_nothing_else),
                TEST(a_key_is_shared_only_where_that_is_wanted),
                TEST(a_certificate_that_is_not_there_yet_is_waited_for),
                TEST(a_private_key_that_is_not_there_yet_is_waited_for),
                TEST(a_private_key_that_others_can_read_is_refused),
                TEST(the_key_of_another_certificate_is_refused),
                TEST(a_key_of_another_kind_is_refused),
                TEST(a_chain_with_the_leaf_behind_is_refused),
                TEST(the_certificate_of_another_device_is_refused),
                TEST(a_certificate_without_a_common_name_is_refused),
                TEST(a_name_with_a_zero_byte_is_not_what_it_seems),
                TEST(a_file_without_certificate_is_refused),
                TEST(a_damaged_chain_is_refused),
                TEST(an_endless_chain_is_refused),
                TEST(an_encrypted_key_is_refused_and_nobody_asked),
                TEST(so_is_one_encrypted_as_it_was_long_ago),
                TEST(a_file_without_key_is_refused),
                TEST(a_key_of_a_tpm_is_called_what_it_is),
                TEST(a_key_in_hardware_is_called_what_it_is),
                TEST(a_certificate_without_its_line_of_a_key_is_refused),
                TEST(the_first_method_is_taken),
                TEST(where_it_is_not_possible_the_next_one_is),
                TEST(a_method_that_this_build_cannot_is_passed_over),
                TEST(what_was_taken_is_kept),
                TEST(what_was_taken_and_is_wanted_no_more_is_not_kept),
                TEST(what_was_taken_and_is_not_possible_now_is_not_kept),
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
