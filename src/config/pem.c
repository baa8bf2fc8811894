/* SPDX-License-Identifier: MIT */
#include "config/pem.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <string.h>

#include "basic/cleanup.h"
#include "config/file-kind.h"
#include "config/secret.h"

static void biop(BIO **b) {
        BIO_free(*b);
}

static void x509p(X509 **x) {
        X509_free(*x);
}

static BIO *open_text(const char *text, size_t size) {
        size_t mark = file_mark(text, size);

        return BIO_new_mem_buf(text + mark, (int) (size - mark));
}

/* Without this callback, OpenSSL would ask on the terminal and wait for ever. */
static int refuse_passphrase(char *buffer, int size, int is_writing, void *userdata) {
        bool *was_asked = userdata;

        *was_asked = true;
        return -1;
}

/* -ENODATA: there are no more certificates. -EBADMSG: the certificate is damaged. */
static int read_certificate(BIO *bio, X509 **ret) {
        bool was_asked = false;
        unsigned long e;
        X509 *x;

        ERR_clear_error();
        x = PEM_read_bio_X509_AUX(bio, NULL, refuse_passphrase, &was_asked);
        if (x) {
                *ret = x;
                return 0;
        }

        e = ERR_peek_last_error();
        return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE ? -ENODATA
                                                                                         : -EBADMSG;
}

static int read_all(BIO *bio, int max, STACK_OF(X509) * chain) {
        int r;

        for (;;) {
                _cleanup_(x509p) X509 *x = NULL;

                r = read_certificate(bio, &x);
                if (r < 0)
                        return r == -ENODATA && sk_X509_num(chain) > 0 ? 0 : r;
                if (sk_X509_num(chain) == max)
                        return -E2BIG;
                if (sk_X509_push(chain, x) <= 0)
                        return -ENOMEM;
                x = NULL;
        }
}

static const char *explain_certificates(const char *text, size_t size, int r) {
        if (r == -E2BIG)
                return "the file holds a chain of more than 16 certificates";
        if (r == -EBADMSG)
                return "a certificate in the file is damaged: copy the file again";
        if (memmem(text, size, "-----BEGIN CERTIFICATE REQUEST", strlen("-----BEGIN CERTIFICATE REQUEST")))
                return "it is a certificate request: name the certificate that the CA made from it";
        return file_kind(text, size)
                       ?: "the file holds no PEM certificate, which begins with -----BEGIN CERTIFICATE-----";
}

int pem_read_certificates(const char *text, size_t size, int max, STACK_OF(X509) * *ret,
                          const char **ret_why) {
        _cleanup_(certificates_freep) STACK_OF(X509) *chain = sk_X509_new_null();
        _cleanup_(biop) BIO *bio = open_text(text, size);
        int r = bio && chain ? read_all(bio, max, chain) : -ENOMEM;

        ERR_clear_error();
        if (r < 0) {
                *ret_why = r == -ENOMEM ? "out of memory" : explain_certificates(text, size, r);
                return r;
        }
        *ret = TAKE_PTR(chain);
        return 0;
}

static const char *explain_key(const char *text, size_t size, bool was_asked) {
        if (was_asked)
                return "the key is encrypted, but nobody can type its passphrase: store it without one "
                       "(openssl pkey -in OLD -out NEW), and: " SECRET_INSTALL " NEW FILE";
        return file_kind(text, size)
                       ?: "the file holds no PEM private key: name the file of the certificate's key";
}

int pem_read_key(const char *text, size_t size, EVP_PKEY **ret, const char **ret_why) {
        _cleanup_(biop) BIO *bio = open_text(text, size);
        bool was_asked = false;
        EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &was_asked) : NULL;

        ERR_clear_error();
        if (!key) {
                *ret_why = bio ? explain_key(text, size, was_asked) : "out of memory";
                return bio ? -EBADMSG : -ENOMEM;
        }
        *ret = key;
        return 0;
}

const char *pem_pair_fault(X509 *leaf, EVP_PKEY *key) {
        bool is_pair = X509_check_private_key(leaf, key) == 1;

        ERR_clear_error();
        return is_pair ? NULL
                       : "not the key of the first certificate in Certificate=: the device's certificate "
                         "comes first, and its key goes here";
}

int certificate_common_name(const X509 *x, char **ret) {
        const X509_NAME *subject = X509_get_subject_name(x);
        int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), n;
        unsigned char *text = NULL;
        bool is_text;
        char *copy;

        if (i < 0)
                return -ENODATA;
        n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
        if (n < 0)
                return -ENODATA;

        is_text = n > 0 && strlen((const char *) text) == (size_t) n;
        copy = is_text ? strdup((const char *) text) : NULL;
        OPENSSL_free(text);
        if (!copy)
                return is_text ? -ENOMEM : -ENODATA;
        *ret = copy;
        return 0;
}
