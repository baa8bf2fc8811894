/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "basic/folder-directory.h"
#include "basic/text.h"
#include "basic/times.h"
#include "certificates.h"
#include "credential/credential-internal.h"
#include "credential/issuance.h"
#include "dps/key.h"
#include "dps/reply.h"
#include "remove-tree.h"

/*
 * root ─> middle ─> leaf, which is for `request`; and a stranger. Certificates are named by letters: "lmr" is the chain as
 * DPS sends it.
 */
static CertifiedKey root, middle, stranger;
static X509 *leaf;
static IssuanceRequest request;
static IssuedPair pair;
static DpsError error;

static int ask(KeyType type, const char *registration_id, IssuanceRequest *ret) {
        Settings s = { .registration_id = (char *) registration_id, .issuance_key_type = type };

        return issuance_request_new(&s, NULL, ret, &error);
}

static X509 *sign(const CertifiedKey *issuer, const char *name, EVP_PKEY *key, long from, long until,
                  bool is_ca) {
        X509 *x = X509_new();
        X509_EXTENSION *e;

        assert_non_null(x);
        assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
        assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), from + until + is_ca + 1), 1);
        assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), from));
        assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), until));
        assert_int_equal(X509_set_pubkey(x, key), 1);
        assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                                                    (const unsigned char *) name, -1, -1, 0),
                         1);
        assert_int_equal(X509_set_issuer_name(x, X509_get_subject_name(issuer->certificate)), 1);
        e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                                is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
        assert_int_equal(X509_add_ext(x, e, -1), 1);
        X509_EXTENSION_free(e);
        assert_int_not_equal(X509_sign(x, issuer->key, EVP_sha256()), 0);
        return x;
}

static int set_up(void **state) {
        root = authority_new("root", NULL);
        stranger = authority_new("stranger", NULL);
        middle.key = EVP_EC_gen("P-384");
        middle.certificate = sign(&root, "middle", middle.key, -DAY, DAY, true);
        assert_int_equal(ask(KEY_TYPE_EC_P256, "gw-1", &request), 0);
        leaf = sign(&middle, "gw-1", request.key, -DAY, DAY, false);
        return 0;
}

static int tear_down(void **state) {
        certified_key_done(&root);
        certified_key_done(&middle);
        certified_key_done(&stranger);
        X509_free(leaf);
        issuance_request_done(&request);
        return 0;
}

static int forget(void **state) {
        issued_pair_done(&pair);
        return 0;
}

static char *to_base64(X509 *x, bool is_pem) {
        BIO *bio = BIO_new(BIO_s_mem());
        char *data, *text;
        long n;

        assert_int_equal(is_pem ? PEM_write_bio_X509(bio, x) : i2d_X509_bio(bio, x), 1);
        n = BIO_get_mem_data(bio, &data);
        assert_int_equal(dps_base64_encode(data, (size_t) n, &text), 0);
        BIO_free(bio);
        return text;
}

static X509 *by_letter(char letter) {
        return letter == 'l'   ? leaf
               : letter == 'm' ? middle.certificate
               : letter == 'r' ? root.certificate
                               : stranger.certificate;
}

static int check_chain(char *const *chain) {
        return issuance_module.pair_new(chain, &request, "gw-1", now_usec(CLOCK_REALTIME), &pair, &error);
}

static int check_letters(const char *letters, bool is_pem) {
        _cleanup_(strv_freep) char **chain = NULL;

        for (const char *p = letters; *p; p++)
                assert_int_equal(strv_push(&chain, to_base64(by_letter(*p), is_pem)), 0);
        return check_chain(chain);
}

/* Checks a chain of this one leaf. */
static int check_leaf(X509 *x) {
        char *chain[] = { to_base64(x, false), NULL };
        int r = check_chain(chain);

        free(chain[0]);
        return r;
}

/* The letters of the certificates in the pair's file. */
static const char *order_of(const IssuedPair *p) {
        static char letters[8];
        BIO *bio = BIO_new_mem_buf(p->text, -1);
        size_t n = 0;
        X509 *x;

        while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
                for (const char *l = "lmrs"; *l; l++)
                        if (X509_cmp(by_letter(*l), x) == 0)
                                letters[n++] = *l;
                X509_free(x);
        }
        letters[n] = 0;
        BIO_free(bio);
        return letters;
}

/* --- the request ---------------------------------------------------------------------------------------- */

static X509_REQ *parse(const char *csr) {
        _cleanup_(freep) uint8_t *der = NULL;
        const unsigned char *p;
        X509_REQ *r;
        size_t size;

        assert_null(strpbrk(csr, "\r\n-"));
        assert_int_equal(dps_base64_decode(csr, strlen(csr), &der, &size), 0);
        p = der;
        r = d2i_X509_REQ(NULL, &p, (long) size);
        assert_non_null(r);
        assert_true(p == der + size);
        return r;
}

static void a_request_is_signed_by_its_key_and_names_the_device(void **state) {
        X509_REQ *r = parse(request.csr);
        char name[64];

        assert_int_equal(X509_REQ_verify(r, request.key), 1);
        X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(r), NID_commonName, name, sizeof(name));
        assert_string_equal(name, "gw-1");
        X509_REQ_free(r);
}

static void each_request_has_a_new_key(void **state) {
        IssuanceRequest other;

        assert_int_equal(ask(KEY_TYPE_EC_P256, "gw-1", &other), 0);
        assert_int_not_equal(EVP_PKEY_eq(other.key, request.key), 1);
        issuance_request_done(&other);
}

static void the_longest_registration_id_fits_into_a_request(void **state) {
        char id[129], name[256];
        IssuanceRequest r;
        X509_REQ *parsed;

        memset(id, 'a', 128);
        id[128] = 0;
        assert_int_equal(ask(KEY_TYPE_EC_P384, id, &r), 0);
        parsed = parse(r.csr);
        X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(parsed), NID_commonName, name, sizeof(name));
        assert_string_equal(name, id);
        X509_REQ_free(parsed);
        issuance_request_done(&r);
}

/* --- chains --------------------------------------------------------------------------------------------- */

static void chains_in_any_order_are_put_in_order(void **state) {
        static const char *const given[] = { "lmr", "lrm", "mlr", "mrl", "rlm", "rml" };

        for (size_t i = 0; i < ELEMENTSOF(given); i++) {
                assert_int_equal(check_letters(given[i], i % 2), 0);
                assert_string_equal(order_of(&pair), "lmr");
                issued_pair_done(&pair);
        }
}

static void parts_of_the_chain_may_be_left_out_from_the_top(void **state) {
        assert_int_equal(check_letters("ml", false), 0);
        assert_string_equal(order_of(&pair), "lm");
        issued_pair_done(&pair);
        assert_int_equal(check_letters("l", false), 0);
        assert_string_equal(order_of(&pair), "l");
}

static void a_certificate_that_is_there_twice_counts_once(void **state) {
        assert_int_equal(check_letters("lmlmr", false), 0);
        assert_string_equal(order_of(&pair), "lmr");
}

static void assert_refused(int r, const char *why) {
        assert_int_equal(r, -EBADMSG);
        assert_int_equal(error.id, DPS_ERROR_ISSUANCE);
        if (!strstr(error.message, why))
                fail_msg("\"%s\" does not say \"%s\"", error.message, why);
        assert_null(pair.text);
}

static void a_gap_or_a_stranger_in_the_chain_is_refused(void **state) {
        assert_refused(check_letters("lr", false), "not its issuers");
        assert_refused(check_letters("lms", false), "not its issuers");
        assert_refused(check_letters("ls", false), "not its issuers");
}

static void a_certificate_of_another_key_is_refused(void **state) {
        assert_refused(check_letters("mr", false), "not for the key");
        assert_refused(check_letters("s", false), "not for the key");
}

/* It has the right name, but another key signed. */
static void an_impostor_among_the_issuers_is_refused(void **state) {
        CertifiedKey impostor = authority_new("middle", NULL);
        char *chain[] = { to_base64(leaf, false), to_base64(impostor.certificate, false), NULL };

        assert_refused(check_chain(chain), "not its issuers");
        free(chain[0]);
        free(chain[1]);
        certified_key_done(&impostor);
}

static void no_chain_is_not_a_chain(void **state) {
        char *nothing[] = { NULL };

        assert_refused(check_chain(nothing), "not for the key");
}

static void too_many_certificates_are_refused(void **state) {
        char *chain[DPS_ISSUED_CHAIN_MAX + 2] = { 0 };

        for (size_t i = 0; i <= DPS_ISSUED_CHAIN_MAX; i++)
                chain[i] = (char *) "AAAA";
        assert_refused(check_chain(chain), "too long");
}

static void bytes_that_are_no_certificate_are_refused(void **state) {
        static const char *const texts[] = { "", "AAAA", "not base64!",
                                             "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                char *chain[] = { (char *) texts[i], NULL };

                assert_refused(check_chain(chain), "not a certificate");
        }
}

static void a_certificate_that_is_cut_off_or_has_more_behind_it_is_refused(void **state) {
        _cleanup_(freep) char *text = to_base64(leaf, false);
        _cleanup_(freep) uint8_t *der = NULL;
        char *chain[2] = { 0 };
        uint8_t *longer;
        size_t size;

        assert_int_equal(dps_base64_decode(text, strlen(text), &der, &size), 0);
        assert_int_equal(dps_base64_encode(der, size - 1, &chain[0]), 0);
        assert_refused(check_chain(chain), "not a certificate");
        free(chain[0]);

        longer = malloc(size + 1);
        memcpy(longer, der, size);
        longer[size] = 0;
        assert_int_equal(dps_base64_encode(longer, size + 1, &chain[0]), 0);
        assert_refused(check_chain(chain), "not a certificate");
        free(chain[0]);
        free(longer);
}

static void dates_and_the_name_are_checked(void **state) {
        static const struct {
                const char *name;
                long from, until;
                const char *why;
        } cases[] = {
                { "gw-1", -2 * DAY, -60, "expired already" },
                { "gw-1", DAY / 2, DAY, "not valid yet" },
                { "gw-2", -DAY, DAY, "common name" },
                { "gw-1x", -DAY, DAY, "common name" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                X509 *x = sign(&middle, cases[i].name, request.key, cases[i].from, cases[i].until, false);

                assert_refused(check_leaf(x), cases[i].why);
                X509_free(x);
        }
}

static void the_name_has_no_case_and_a_clock_may_be_a_little_behind(void **state) {
        X509 *x = sign(&middle, "GW-1", request.key, 300, DAY, false);

        assert_int_equal(check_leaf(x), 0);
        X509_free(x);
}

static void without_a_clock_dates_are_not_checked(void **state) {
        X509 *x = sign(&middle, "gw-1", request.key, DAY / 2, DAY, false);
        char *chain[] = { to_base64(x, false), NULL };

        assert_int_equal(issuance_module.pair_new(chain, &request, "gw-1", 0, &pair, &error), 0);
        free(chain[0]);
        X509_free(x);
}

static void an_issuer_that_has_expired_is_refused(void **state) {
        X509 *old = sign(&root, "middle", middle.key, -2 * DAY, -60, true);
        char *chain[] = { to_base64(leaf, false), to_base64(old, false), NULL };

        assert_refused(check_chain(chain), "issuer has expired");
        free(chain[0]);
        free(chain[1]);
        X509_free(old);
}

static void a_pair_knows_its_dates_and_its_fingerprint(void **state) {
        uint64_t now = now_usec(CLOCK_REALTIME), day = (uint64_t) DAY * USEC_PER_SEC;

        assert_int_equal(check_letters("lmr", false), 0);
        assert_true(pair.not_before_usec <= now && pair.not_before_usec > now - day - 60 * USEC_PER_SEC);
        assert_true(pair.not_after_usec > now && pair.not_after_usec <= now + day);
        assert_int_equal(strlen(pair.fingerprint), 64);
}

/* --- files ---------------------------------------------------------------------------------------------- */

static void a_file_belongs_to_one_identity(void **state) {
        _cleanup_(freep) char *file = NULL;

        assert_int_equal(issued_file_name("gw", "0123456789abcdef0123456789abcdef", &file), 0);
        assert_string_equal(file, "gw.0123456789abcdef.issued");
        assert_true(issued_file_is_of(file, "gw"));
        assert_false(issued_file_is_of(file, "g"));
        assert_false(issued_file_is_of("gw.0123456789abcdef.0123456789abcdef.issued", "gw"));
        assert_true(issued_file_is_of("gw.0123456789abcdef.0123456789abcdef.issued", "gw.0123456789abcdef"));
        assert_false(issued_file_is_of("gw.json", "gw"));
}

static Settings *settings;

static int load(Folder *folder, Folder *fallback, const char *file, Credential **ret) {
        char *text = NULL; /* read only of keys in hardware */

        return credential_choose(&(CredentialWish){ .settings = settings,
                                                    .issued_text = &text,
                                                    .registration_id = "gw-1",
                                                    .issued_folder = folder,
                                                    .issued_fallback = fallback,
                                                    .issued_file = file },
                                 NULL, false, ret, &error);
}

static void a_pair_is_read_back_from_its_file_or_the_other_place(void **state) {
        char path[] = "/tmp/test-issued-XXXXXX", other[] = "/tmp/test-issued-XXXXXX";
        Folder *folder, *fallback;
        Credential *c;

        settings = calloc(1, sizeof(*settings));
        assert_non_null(mkdtemp(path));
        assert_non_null(mkdtemp(other));
        assert_int_equal(directory_folder_new(path, 0700, &folder), 0);
        assert_int_equal(directory_folder_new(other, 0700, &fallback), 0);
        assert_int_equal(check_letters("rml", false), 0);
        assert_int_equal(
                folder_write(fallback, "gw.1.issued", pair.text, strlen(pair.text), 0600, (gid_t) -1), 0);

        assert_int_equal(load(folder, fallback, "gw.1.issued", &c), 0);
        assert_string_equal(credential_fingerprint(c), pair.fingerprint);
        assert_int_equal(credential_expires_at_usec(c), pair.not_after_usec);
        assert_int_equal(sk_X509_num(credential_certificate(c)->chain), 3);
        assert_non_null(strstr(credential_certificate(c)->key_pem, "-----BEGIN PRIVATE KEY-----"));
        assert_null(strstr(credential_certificate(c)->pem, "PRIVATE"));
        credential_unref(c);

        assert_true(load(folder, NULL, "gw.1.issued", &c) < 0);
        assert_int_equal(error.id, DPS_ERROR_ISSUANCE);
        assert_int_equal(
                folder_write(folder, "gw.1.issued", pair.text, strlen(pair.text) / 2, 0600, (gid_t) -1), 0);
        assert_true(load(folder, fallback, "gw.1.issued", &c) < 0);
        assert_int_equal(error.id, DPS_ERROR_ISSUANCE);

        folder_free(folder);
        folder_free(fallback);
        free(settings);
        remove_tree(path);
        remove_tree(other);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_request_is_signed_by_its_key_and_names_the_device),
                cmocka_unit_test(each_request_has_a_new_key),
                cmocka_unit_test(the_longest_registration_id_fits_into_a_request),
                cmocka_unit_test_teardown(chains_in_any_order_are_put_in_order, forget),
                cmocka_unit_test_teardown(parts_of_the_chain_may_be_left_out_from_the_top, forget),
                cmocka_unit_test_teardown(a_certificate_that_is_there_twice_counts_once, forget),
                cmocka_unit_test(a_gap_or_a_stranger_in_the_chain_is_refused),
                cmocka_unit_test(a_certificate_of_another_key_is_refused),
                cmocka_unit_test(an_impostor_among_the_issuers_is_refused),
                cmocka_unit_test(no_chain_is_not_a_chain),
                cmocka_unit_test(too_many_certificates_are_refused),
                cmocka_unit_test(bytes_that_are_no_certificate_are_refused),
                cmocka_unit_test(a_certificate_that_is_cut_off_or_has_more_behind_it_is_refused),
                cmocka_unit_test(dates_and_the_name_are_checked),
                cmocka_unit_test_teardown(the_name_has_no_case_and_a_clock_may_be_a_little_behind, forget),
                cmocka_unit_test_teardown(without_a_clock_dates_are_not_checked, forget),
                cmocka_unit_test(an_issuer_that_has_expired_is_refused),
                cmocka_unit_test_teardown(a_pair_knows_its_dates_and_its_fingerprint, forget),
                cmocka_unit_test(a_file_belongs_to_one_identity),
                cmocka_unit_test_teardown(a_pair_is_read_back_from_its_file_or_the_other_place, forget),
        };

        issuance_set_module(&issuance_module);
        return cmocka_run_group_tests_name("issued", tests, set_up, tear_down);
}
