/* SPDX-License-Identifier: MIT */
#pragma once

/* Keys and certificates as files, in a directory of the test's own that is its $CREDENTIALS_DIRECTORY too. */

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include "basic/text.h"
#include "config/settings.h"
#include "dps/error.h"
#include "remove-tree.h"

#define NOT_BEFORE_SEC 1600000000
#define NOT_AFTER_SEC 1900000000

static char directory[40];
static Settings *s;
static DpsError error;

/* The same for all tests, as making them takes a while. */
static EVP_PKEY *ec_key, *other_key, *rsa_key;

static inline char *path_of(const char *name) {
        char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        return path;
}

static inline void put(const char *name, const char *text, mode_t mode) {
        _cleanup_(freep) char *path = path_of(name);
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        assert_int_equal(fchmod(fd, mode), 0);
}

static inline char *take_text(BIO *bio) {
        char *data, *text;
        long n = BIO_get_mem_data(bio, &data);

        text = strndup(data, (size_t) n);
        BIO_free(bio);
        assert_non_null(text);
        return text;
}

static inline char *pem_of_key(EVP_PKEY *key, const EVP_CIPHER *cipher) {
        BIO *bio = BIO_new(BIO_s_mem());

        assert_true(PEM_write_bio_PrivateKey(bio, key, cipher, NULL, 0, NULL,
                                             (char *) (cipher ? "secret" : NULL)));
        return take_text(bio);
}

/* -1: up to the end of the name. */
static inline X509 *make_certificate(EVP_PKEY *key, const char *common_name, int size) {
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

static inline char *pem_of_certificate(EVP_PKEY *key, const char *common_name, int size) {
        BIO *bio = BIO_new(BIO_s_mem());
        X509 *x = make_certificate(key, common_name, size);

        assert_true(PEM_write_bio_X509(bio, x));
        X509_free(x);
        return take_text(bio);
}

static inline void put_key(const char *name, EVP_PKEY *key) {
        _cleanup_(freep) char *pem = pem_of_key(key, NULL);

        put(name, pem, 0600);
}

static inline void put_certificate(const char *name, EVP_PKEY *key, const char *common_name) {
        _cleanup_(freep) char *pem = pem_of_certificate(key, common_name, -1);

        put(name, pem, 0644);
}

static inline int set_up_keys(void **state) {
        ec_key = EVP_EC_gen("P-256");
        other_key = EVP_EC_gen("P-256");
        rsa_key = EVP_RSA_gen(2048);
        return ec_key && other_key && rsa_key ? 0 : -1;
}

static inline int tear_down_keys(void **state) {
        EVP_PKEY_free(ec_key);
        EVP_PKEY_free(other_key);
        EVP_PKEY_free(rsa_key);
        return 0;
}

static inline int set_up_files(void) {
        strcpy(directory, "/tmp/test-credential-XXXXXX");
        assert_non_null(mkdtemp(directory));
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        setenv("DPS_MODULE_DIRECTORY", directory, 1);
        s = calloc(1, sizeof(*s));
        assert_non_null(s);
        s->keys_place = (Place){ strdup("/etc/dps/gw.conf"), 7 };
        s->certificates_place = (Place){ strdup("/etc/dps/gw.conf"), 9 };
        error = (DpsError){ 0 };
        return 0;
}

static inline int tear_down_files(void) {
        s = settings_unref(s);
        unsetenv("CREDENTIALS_DIRECTORY");
        return remove_tree(directory);
}

static inline void add_file(char ***list, const char *name) {
        assert_int_equal(strv_push(list, path_of(name)), 0);
}

static inline void add(char ***list, const char *reference) {
        assert_int_equal(strv_append(list, reference), 0);
}

/* A good pair, for a test to spoil. */
static inline void add_pair(void) {
        put_certificate("cert.pem", ec_key, "gw-1");
        put_key("key.pem", ec_key);
        add_file(&s->certificates, "cert.pem");
        add_file(&s->private_keys, "key.pem");
}

static inline void assert_error(DpsErrorId id, const char *words) {
        assert_string_equal(dps_error_id_to_string(error.id), dps_error_id_to_string(id));
        assert_int_equal(error.step, DPS_STEP_CONFIG);
        if (!strstr(error.message, words))
                fail_msg("\"%s\" does not say \"%s\"", error.message, words);
        assert_int_equal(ERR_peek_error(), 0);
}
