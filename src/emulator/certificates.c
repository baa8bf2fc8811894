/* SPDX-License-Identifier: MIT */
#include "emulator/certificates.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"
#include "dps/reply.h"
#include "emulator/statedir.h"

#define DAY_SEC (24L * 3600)
#define CA_DAYS 3650
#define LEAF_DAYS 365
#define PEM_SIZE_MAX (64U * 1024)

static inline void BIO_freep(BIO **b) {
        BIO_free(*b);
}
static inline void X509_freep(X509 **x) {
        X509_free(*x);
}
static inline void EVP_PKEY_freep(EVP_PKEY **k) {
        EVP_PKEY_free(*k);
}

typedef struct Pair {
        X509 *certificate;
        EVP_PKEY *key;
} Pair;

static void pair_done(Pair *p) {
        X509_free(p->certificate);
        EVP_PKEY_free(p->key);
        *p = (Pair){ 0 };
}

static int openssl_failed(ErrorText *error, const char *what) {
        char reason[160];

        ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
        ERR_clear_error();
        return error_set(error, "%s: %s", what, reason);
}

static BIO *open_pem(const char *directory, const char *name, const char *suffix) {
        _cleanup_(freep) char *path = NULL;

        if (asprintf(&path, "%s/%s%s", directory, name, suffix) < 0) {
                path = NULL;
                return NULL;
        }
        return BIO_new_file(path, "r");
}

/* False: a file is missing or damaged, or the two do not belong together. */
static bool pair_read(const char *directory, const char *name, Pair *ret) {
        _cleanup_(BIO_freep) BIO *pem = open_pem(directory, name, ".pem"),
                                 *key = open_pem(directory, name, ".key");
        Pair p = {
                .certificate = pem ? PEM_read_bio_X509(pem, NULL, NULL, NULL) : NULL,
                .key = key ? PEM_read_bio_PrivateKey(key, NULL, NULL, NULL) : NULL,
        };

        ERR_clear_error();
        if (!p.certificate || !p.key || X509_check_private_key(p.certificate, p.key) != 1) {
                ERR_clear_error();
                pair_done(&p);
                return false;
        }

        *ret = p;
        return true;
}

static int write_pem(const char *directory, const char *name, const char *suffix, BIO *pem,
                     ErrorText *error) {
        _cleanup_(closep) int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(freep) char *file = NULL;
        char *data = NULL;
        long size = BIO_get_mem_data(pem, &data);
        int r;

        if (fd < 0)
                return error_set(error, "%s: %s", directory, strerror(errno));
        if (asprintf(&file, "%s%s", name, suffix) < 0)
                return -ENOMEM;

        r = file_write_atomic(fd, file, data, (size_t) size, streq(suffix, ".key") ? 0600 : 0644, (gid_t) -1);
        return r < 0 ? error_set(error, "%s/%s: %s", directory, file, strerror(-r)) : 0;
}

static int pair_write(const char *directory, const char *name, const Pair *p, ErrorText *error) {
        _cleanup_(BIO_freep) BIO *pem = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_secmem());
        int r;

        if (!pem || !key || PEM_write_bio_X509(pem, p->certificate) != 1 ||
            PEM_write_bio_PrivateKey(key, p->key, NULL, NULL, 0, NULL, NULL) != 1)
                return openssl_failed(error, name);

        r = write_pem(directory, name, ".key", key, error);
        return r < 0 ? r : write_pem(directory, name, ".pem", pem, error);
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
        X509_EXTENSION *extension;
        X509V3_CTX ctx;
        bool added;

        X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
        X509V3_set_ctx_nodb(&ctx);
        extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
        added = extension && X509_add_ext(certificate, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        return added;
}

typedef struct Wanted {
        const char *common_name;
        long days;
        const char *basic_constraints, *key_usage;
        const char *extended_key_usage, *alternative_names; /* NULL: none */
} Wanted;

/* Valid from an hour ago, because the clocks of devices are never quite right. */
static bool fill_fields(X509 *certificate, X509 *issuer, const Wanted *wanted) {
        X509_NAME *name = X509_get_subject_name(certificate);
        uint64_t serial;

        return RAND_bytes((unsigned char *) &serial, sizeof(serial)) == 1 &&
               ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) == 1 &&
               X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) &&
               X509_gmtime_adj(X509_getm_notAfter(certificate), wanted->days * DAY_SEC) &&
               X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                          (const unsigned char *) wanted->common_name, -1, -1, 0) == 1 &&
               X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1;
}

static bool fill_extensions(X509 *certificate, X509 *issuer, const Wanted *wanted) {
        const struct {
                int nid;
                const char *value;
        } extensions[] = {
                { NID_basic_constraints, wanted->basic_constraints },
                { NID_key_usage, wanted->key_usage },
                { NID_ext_key_usage, wanted->extended_key_usage },
                { NID_subject_alt_name, wanted->alternative_names },
                { NID_subject_key_identifier, "hash" },
                { NID_authority_key_identifier, "keyid" },
        };

        for (size_t i = 0; i < ELEMENTSOF(extensions); i++)
                if (extensions[i].value &&
                    !add_extension(certificate, issuer, extensions[i].nid, extensions[i].value))
                        return false;
        return true;
}

/* `issuer` NULL: the certificate is self-signed. */
static int pair_make(const Wanted *wanted, const Pair *issuer, Pair *ret, ErrorText *error) {
        _cleanup_(X509_freep) X509 *certificate = X509_new();
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *signer = issuer ? issuer->certificate : certificate;

        if (!certificate || !key || X509_set_version(certificate, X509_VERSION_3) != 1 ||
            X509_set_pubkey(certificate, key) != 1 || !fill_fields(certificate, signer, wanted) ||
            !fill_extensions(certificate, signer, wanted) ||
            X509_sign(certificate, issuer ? issuer->key : key, EVP_sha256()) == 0)
                return openssl_failed(error, wanted->common_name);

        *ret = (Pair){ TAKE_PTR(certificate), TAKE_PTR(key) };
        return 0;
}

static int ca_prepare(const char *directory, const char *name, const char *common_name, Pair *ret,
                      ErrorText *error) {
        const Wanted wanted = {
                .common_name = common_name,
                .days = CA_DAYS,
                .basic_constraints = "critical,CA:TRUE",
                .key_usage = "critical,keyCertSign,cRLSign",
        };
        Pair p = { 0 };
        int r;

        if (pair_read(directory, name, ret))
                return 0;

        r = pair_make(&wanted, NULL, &p, error);
        if (r < 0)
                return r;
        r = pair_write(directory, name, &p, error);
        if (r < 0) {
                pair_done(&p);
                return r;
        }

        *ret = p;
        return 0;
}

static bool is_address(const char *host) {
        struct in6_addr address;

        return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static bool server_is_good(const Pair *server, const Pair *ca, char *const *hosts) {
        if (X509_verify(server->certificate, ca->key) != 1 ||
            X509_cmp_current_time(X509_get0_notAfter(server->certificate)) < 0)
                return false;

        STRV_FOREACH(host, hosts)
                if (is_address(*host) ? X509_check_ip_asc(server->certificate, *host, 0) != 1
                                      : X509_check_host(server->certificate, *host, 0, 0, NULL) != 1)
                        return false;
        return true;
}

/* "DNS:localhost,IP:127.0.0.1" */
static int alternative_names(char *const *hosts, char **ret, ErrorText *error) {
        _cleanup_(freep) char *names = strdup("");

        STRV_FOREACH(host, hosts) {
                char *longer;

                if (!is_address(*host) && !dps_host_name_is_valid(*host))
                        return error_set(error, "%s: is neither a host name nor an address", *host);
                if (!names || asprintf(&longer, "%s%s%s:%s", names, *names ? "," : "",
                                       is_address(*host) ? "IP" : "DNS", *host) < 0)
                        return -ENOMEM;
                free(names);
                names = longer;
        }

        *ret = TAKE_PTR(names);
        return 0;
}

static int server_prepare(const char *directory, const Pair *ca, char *const *hosts, ErrorText *error) {
        _cleanup_(pair_done) Pair server = { 0 };
        _cleanup_(freep) char *names = NULL;
        Wanted wanted = {
                .common_name = "dps-emulator",
                .days = LEAF_DAYS,
                .basic_constraints = "critical,CA:FALSE",
                .key_usage = "critical,digitalSignature",
                .extended_key_usage = "serverAuth",
        };
        int r;

        r = alternative_names(hosts, &names, error);
        if (r < 0)
                return r;
        if (pair_read(directory, SERVER_NAME, &server) && server_is_good(&server, ca, hosts))
                return 0;

        ERR_clear_error();
        pair_done(&server);
        wanted.alternative_names = names;
        r = pair_make(&wanted, ca, &server, error);
        return r < 0 ? r : pair_write(directory, SERVER_NAME, &server, error);
}

int certificates_prepare(const char *directory, char *const *hosts, ErrorText *error) {
        _cleanup_(pair_done) Pair ca = { 0 }, device_ca = { 0 };
        int r;

        r = ca_prepare(directory, SERVER_CA_NAME, "dps-emulator server CA", &ca, error);
        if (r < 0)
                return r;
        r = ca_prepare(directory, DEVICE_CA_NAME, "dps-emulator device CA", &device_ca, error);
        if (r < 0)
                return r;
        return server_prepare(directory, &ca, hosts, error);
}

int certificate_issue(const char *directory, const char *id, const char *out, ErrorText *error) {
        _cleanup_(pair_done) Pair ca = { 0 }, device = { 0 };
        const Wanted wanted = {
                .common_name = id,
                .days = LEAF_DAYS,
                .basic_constraints = "critical,CA:FALSE",
                .key_usage = "critical,digitalSignature",
                .extended_key_usage = "clientAuth",
        };
        int r;

        if (strlen(id) > ub_common_name)
                return error_set(error, "%s: a certificate's common name has at most %d characters", id,
                                 ub_common_name);

        r = ca_prepare(directory, DEVICE_CA_NAME, "dps-emulator device CA", &ca, error);
        if (r < 0)
                return r;
        r = pair_make(&wanted, &ca, &device, error);
        return r < 0 ? r : pair_write(out, id, &device, error);
}
