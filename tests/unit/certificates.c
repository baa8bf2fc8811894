/* SPDX-License-Identifier: MIT */
#include "certificates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "basic/cleanup.h"

static void add_name(X509_NAME *name, const char *field, const char *value) {
        assert_int_equal(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *) value,
                                                    -1, -1, 0),
                         1);
}

static void add_extension(X509 *certificate, int nid, const char *value) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

        assert_non_null(e);
        assert_int_equal(X509_add_ext(certificate, e, -1), 1);
        X509_EXTENSION_free(e);
}

static CertifiedKey begin(const char *common_name, long from_sec, long until_sec) {
        static long serial = 1;
        CertifiedKey c = { .certificate = X509_new(), .key = EVP_EC_gen("P-256") };

        assert_non_null(c.certificate);
        assert_non_null(c.key);
        assert_int_equal(X509_set_version(c.certificate, X509_VERSION_3), 1);
        assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(c.certificate), serial++), 1);
        assert_non_null(X509_gmtime_adj(X509_getm_notBefore(c.certificate), from_sec));
        assert_non_null(X509_gmtime_adj(X509_getm_notAfter(c.certificate), until_sec));
        assert_int_equal(X509_set_pubkey(c.certificate, c.key), 1);
        add_name(X509_get_subject_name(c.certificate), "CN", common_name);
        return c;
}

CertifiedKey authority_new(const char *common_name, const char *organization) {
        CertifiedKey c = begin(common_name, -DAY, DAY);

        if (organization)
                add_name(X509_get_subject_name(c.certificate), "O", organization);
        assert_int_equal(X509_set_issuer_name(c.certificate, X509_get_subject_name(c.certificate)), 1);
        add_extension(c.certificate, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(c.certificate, NID_key_usage, "critical,keyCertSign");
        assert_int_not_equal(X509_sign(c.certificate, c.key, EVP_sha256()), 0);
        return c;
}

CertifiedKey certified_key_new(const CertifiedKey *authority, const char *common_name, const char *names,
                               long from_sec, long until_sec) {
        CertifiedKey c = begin(common_name, from_sec, until_sec);

        assert_int_equal(X509_set_issuer_name(c.certificate, X509_get_subject_name(authority->certificate)),
                         1);
        add_extension(c.certificate, NID_ext_key_usage, names ? "serverAuth" : "clientAuth");
        if (names)
                add_extension(c.certificate, NID_subject_alt_name, names);
        assert_int_not_equal(X509_sign(c.certificate, authority->key, EVP_sha256()), 0);
        return c;
}

void certified_key_done(CertifiedKey *c) {
        X509_free(c->certificate);
        EVP_PKEY_free(c->key);
        *c = (CertifiedKey){ 0 };
}

char *certificate_file(const CertifiedKey *c) {
        char *path = strdup("/tmp/certificate-XXXXXX");
        FILE *f;

        assert_non_null(path);
        f = fdopen(mkstemp(path), "w");
        assert_non_null(f);
        assert_int_equal(PEM_write_X509(f, c->certificate), 1);
        assert_int_equal(fclose(f), 0);
        return path;
}

SSL_CTX *server_context(const CertifiedKey *server, const CertifiedKey *client_authority) {
        SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());

        assert_non_null(ssl);
        assert_int_equal(SSL_CTX_use_certificate(ssl, server->certificate), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(ssl, server->key), 1);
        if (!client_authority)
                return ssl;

        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), client_authority->certificate), 1);
        return ssl;
}
