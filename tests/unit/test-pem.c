/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "basic/text.h"
#include "certificates.h"
#include "config/file-kind.h"
#include "config/pem.h"

#define MARK "\xef\xbb\xbf"

static CertifiedKey authority, device;

static int set_up(void **state) {
        authority = authority_new("factory", NULL);
        device = certified_key_new(&authority, "gateway", NULL, -DAY, DAY);
        return 0;
}

static int tear_down(void **state) {
        certified_key_done(&device);
        certified_key_done(&authority);
        return 0;
}

/* Takes the BIO. */
static char *text_of(BIO *bio, size_t *ret_size) {
        char *data, *copy;
        long n = BIO_get_mem_data(bio, &data);

        copy = malloc((size_t) n + 1);
        assert_non_null(copy);
        memcpy(copy, data, (size_t) n);
        copy[n] = '\0';
        *ret_size = (size_t) n;
        BIO_free(bio);
        return copy;
}

static void write_chain(BIO *bio) {
        assert_true(PEM_write_bio_X509(bio, device.certificate) &&
                    PEM_write_bio_X509(bio, authority.certificate));
}

static void write_marked_chain(BIO *bio) {
        assert_int_equal(BIO_puts(bio, MARK), 3);
        write_chain(bio);
}

static void write_trusted(BIO *bio) {
        assert_int_equal(PEM_write_bio_X509_AUX(bio, device.certificate), 1);
        assert_int_equal(PEM_write_bio_X509(bio, authority.certificate), 1);
}

static void write_certificate_der(BIO *bio) {
        assert_int_equal(i2d_X509_bio(bio, device.certificate), 1);
}

static void write_key_der(BIO *bio) {
        assert_int_equal(i2d_PKCS8PrivateKeyInfo_bio(bio, device.key), 1);
}

static void write_older_key_der(BIO *bio) {
        assert_int_equal(i2d_PrivateKey_bio(bio, device.key), 1);
}

static void write_archive(BIO *bio) {
        PKCS12 *archive = PKCS12_create("x", "gateway", device.key, device.certificate, NULL, 0, 0, 0, 0, 0);

        assert_int_equal(i2d_PKCS12_bio(bio, archive), 1);
        PKCS12_free(archive);
}

static void write_request(BIO *bio) {
        X509_REQ *request = X509_to_X509_REQ(device.certificate, device.key, EVP_sha256());

        assert_int_equal(PEM_write_bio_X509_REQ(bio, request), 1);
        X509_REQ_free(request);
}

static void write_utf16(BIO *bio) {
        assert_int_equal(BIO_write(bio, "\xff\xfe-\0-\0-\0", 8), 8);
}

static void write_nothing(BIO *bio) {
}

static void write_mark(BIO *bio) {
        assert_int_equal(BIO_puts(bio, MARK), 3);
}

static void write_key(BIO *bio) {
        assert_int_equal(PEM_write_bio_PrivateKey(bio, device.key, NULL, NULL, 0, NULL, NULL), 1);
}

static void write_marked_key(BIO *bio) {
        write_mark(bio);
        write_key(bio);
}

static void write_encrypted_key(BIO *bio) {
        assert_int_equal(
                PEM_write_bio_PKCS8PrivateKey(bio, device.key, EVP_aes_128_cbc(), "x", 1, NULL, NULL), 1);
}

static void write_damaged(BIO *bio) {
        assert_true(BIO_puts(bio, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n") > 0);
}

static void write_other_text(BIO *bio) {
        assert_true(BIO_puts(bio, "0123") > 0);
}

static const struct pem_case {
        const char *promise;
        void (*write)(BIO *bio);
        const char *of_certificate, *of_key; /* parts of the reasons; NULL: it is taken */
} pem_cases[] = {
        { "a chain is taken", write_chain, NULL, "holds no PEM private key" },
        { "a byte order mark before a chain is skipped", write_marked_chain, NULL,
          "holds no PEM private key" },
        { "a trusted certificate is taken", write_trusted, NULL, "holds no PEM private key" },
        { "a key is taken", write_key, "holds no PEM certificate", NULL },
        { "a byte order mark before a key is skipped", write_marked_key, "holds no PEM certificate", NULL },
        { "a certificate in DER is reported", write_certificate_der, "a certificate in DER",
          "a certificate in DER" },
        { "a key in DER is reported", write_key_der, "a private key in DER", "a private key in DER" },
        { "an older key in DER is reported", write_older_key_der, "a private key in DER",
          "a private key in DER" },
        { "a PKCS#12 archive is reported", write_archive, "PKCS#12", "PKCS#12" },
        { "a request is reported", write_request, "a certificate request", "holds no PEM private key" },
        { "UTF-16 is reported", write_utf16, "UTF-16", "UTF-16" },
        { "an empty file is reported", write_nothing, "it is empty", "it is empty" },
        { "a file with a mark only is reported", write_mark, "it is empty", "it is empty" },
        { "an encrypted key is reported", write_encrypted_key, "holds no PEM certificate",
          "the key is encrypted" },
        { "a damaged certificate is reported", write_damaged, "is damaged", "holds no PEM private key" },
        { "other text is reported", write_other_text, "holds no PEM certificate",
          "holds no PEM private key" },
};

static void check_reason(int r, const char *why, const char *expected) {
        if (!expected) {
                assert_int_equal(r, 0);
                return;
        }
        assert_true(r < 0);
        assert_non_null(strstr(why, expected));
}

static void check_pem(void **state) {
        const struct pem_case *c = *state;
        _cleanup_(certificates_freep) STACK_OF(X509) *chain = NULL;
        _cleanup_(freep) char *text = NULL;
        BIO *bio = BIO_new(BIO_s_mem());
        const char *why = "";
        EVP_PKEY *key = NULL;
        size_t size;
        int r;

        c->write(bio);
        text = text_of(bio, &size);
        r = pem_read_certificates(text, size, PEM_CHAIN_MAX, &chain, &why);
        check_reason(r, why, c->of_certificate);
        if (chain) {
                assert_int_equal(sk_X509_num(chain), 2);
                assert_int_equal(X509_cmp(sk_X509_value(chain, 0), device.certificate), 0);
        }
        r = pem_read_key(text, size, &key, &why);
        check_reason(r, why, c->of_key);
        if (key)
                assert_null(pem_pair_fault(device.certificate, key));
        EVP_PKEY_free(key);
}

static void a_chain_that_is_too_long_is_told(void **state) {
        STACK_OF(X509) *chain = NULL;
        BIO *bio = BIO_new(BIO_s_mem());
        _cleanup_(freep) char *text = NULL;
        const char *why = "";
        size_t size;

        write_chain(bio);
        text = text_of(bio, &size);
        assert_int_equal(pem_read_certificates(text, size, 1, &chain, &why), -E2BIG);
        assert_null(chain);
}

static void the_key_of_another_certificate_is_told(void **state) {
        assert_non_null(
                strstr(pem_pair_fault(device.certificate, authority.key), "not the key of the first"));
}

/* Text that begins as DER does must not be taken for it. */
static void der_is_known_by_its_length(void **state) {
        assert_null(file_kind("0\x09\x02\x01\x00"
                              "123456",
                              11 - 1));
        assert_non_null(file_kind("0\x09\x02\x01\x00"
                                  "123456",
                                  11));
        assert_null(file_kind("0\x82\xff\xff\x02\x01\x00x", 8));
        assert_null(file_kind("0\x84\x00\x00\x00\x02\x30\x00", 8));
        assert_null(file_kind("0", 1));
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(pem_cases) + 3] = {
                cmocka_unit_test(a_chain_that_is_too_long_is_told),
                cmocka_unit_test(the_key_of_another_certificate_is_told),
                cmocka_unit_test(der_is_known_by_its_length),
        };

        for (size_t k = 0; k < ELEMENTSOF(pem_cases); k++)
                tests[3 + k] = (struct CMUnitTest){ .name = pem_cases[k].promise,
                                                    .test_func = check_pem,
                                                    .initial_state = (void *) &pem_cases[k] };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
