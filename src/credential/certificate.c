/* SPDX-License-Identifier: MIT */
#include "credential/certificate.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <strings.h>

#include "basic/files.h"
#include "basic/module.h"
#include "basic/text.h"
#include "basic/times.h"
#include "config/pem.h"
#include "config/secret.h"
#include "credential/credential-error.h"
#include "credential/hardware-key.h"

#define CERTIFICATE_FILE_MAX (256U * 1024)

/* What is being loaded, and where errors are stored. */
typedef struct Loading {
        const CredentialSource *source;
        const Settings *settings;
        const char *certificate, *private_key; /* references */
        DpsError *error;
} Loading;

static void biop(BIO **b) {
        BIO_free(*b);
}

/* --- certificates --------------------------------------------------------------------------------------- */

static int certificate_error(const Loading *l, int r, const char *what) {
        return credential_error(l->error, r, &l->settings->certificates_place, "Certificate", "%s: %s",
                                l->certificate, what);
}

static int private_key_error(const Loading *l, int r, const char *what) {
        return credential_error(l->error, r, &l->settings->certificates_place, "PrivateKey", "%s: %s",
                                l->private_key, what);
}

/* For a reason that names the file itself. */
static int reason_error(const Loading *l, int r, const char *key, const char *reason) {
        return credential_error(l->error, r, &l->settings->certificates_place, key, "%s",
                                reason ?: strerror(-r));
}

static int read_certificate_file(const Loading *l, char **ret, size_t *ret_size) {
        _cleanup_(freep) char *path = NULL, *reason = NULL;
        int r;

        r = secret_path(l->certificate, &path, &reason);
        if (r < 0)
                return reason_error(l, r, "Certificate", reason);
        r = file_read(path, CERTIFICATE_FILE_MAX, ret, ret_size);
        if (r < 0)
                return certificate_error(l, r, r == -EFBIG ? "larger than 256 kB" : strerror(-r));
        return 0;
}

static int parse_chain(const Loading *l, const char *text, size_t size, ClientCertificate *c) {
        const char *why;
        int r = pem_read_certificates(text, size, PEM_CHAIN_MAX, &c->chain, &why);

        return r < 0 ? certificate_error(l, r, why) : 0;
}

/* --- private keys --------------------------------------------------------------------------------------- */

static int parse_key(const Loading *l, const char *text, size_t size, EVP_PKEY **ret) {
        const char *why;
        int r = pem_read_key(text, size, ret, &why);

        return r < 0 ? private_key_error(l, r, why) : 0;
}

static int read_private_key_file(const Loading *l, char **ret_path, char **ret, size_t *ret_size) {
        _cleanup_(freep) char *path = NULL, *reason = NULL;
        int r;

        r = secret_path(l->private_key, &path, &reason);
        if (r >= 0)
                r = secret_read(l->private_key, ret, ret_size, &reason);
        if (r < 0)
                return reason_error(l, r, "PrivateKey", reason);
        *ret_path = TAKE_PTR(path);
        return 0;
}

/* A file of certificates may hold a key too, so its text is treated as a secret. */
typedef struct SecretText {
        char *text;
        size_t size;
} SecretText;

static void secret_text_done(SecretText *t) {
        if (t->text)
                explicit_bzero(t->text, t->size);
        free(t->text);
}

static int load_chip_key(const Loading *l, HardwareKind kind, ClientCertificate *c) {
        _cleanup_(freep) char *why = NULL;
        const void *class;
        int r;

        if (!l->source->may_wait)
                return -EINPROGRESS;
        r = module_load(module_directory(), "hardware-key", "hardware-key", &class, &why);
        if (r < 0)
                return private_key_error(l, r == -ENOMEM || !why ? -ENOMEM : -EOPNOTSUPP, why);
        c->is_slow = true;
        return ((const HardwareKeyModule *) class)
                ->load(l->source, kind, l->private_key, sk_X509_value(c->chain, 0), &c->key, l->error);
}

static int load_uri_key(const Loading *l, ClientCertificate *c) {
        c->key_reference = strdup(l->private_key);
        if (!c->key_reference)
                return private_key_error(l, -ENOMEM, "");
        return load_chip_key(l, startswith(l->private_key, "handle:") ? HARDWARE_TPM_HANDLE : HARDWARE_PKCS11,
                             c);
}

/* If certificate and key are in one file, it is read once. That file must then be protected as a key is. */
static int load_files(const Loading *l, ClientCertificate *c) {
        bool is_one_file = streq(l->certificate, l->private_key);
        _cleanup_(secret_text_done) SecretText chain = { 0 }, key = { 0 };
        int r;

        if (!is_one_file) {
                r = read_certificate_file(l, &chain.text, &chain.size);
                if (r >= 0)
                        r = parse_chain(l, chain.text, chain.size, c);
                if (r < 0)
                        return r;
        }
        if (private_key_is_uri(l->private_key))
                return load_uri_key(l, c);
        r = read_private_key_file(l, &c->key_reference, &key.text, &key.size);
        if (r >= 0 && is_one_file)
                r = parse_chain(l, key.text, key.size, c);
        if (r < 0)
                return r;
        if (strstr(key.text, PEM_TSS2_BEGIN))
                return load_chip_key(l, HARDWARE_TPM_FILE, c);
        return parse_key(l, key.text, key.size, &c->key);
}

/* --- checks --------------------------------------------------------------------------------------------- */

uint64_t certificate_time_usec(const ASN1_TIME *t) {
        struct tm tm;
        time_t sec;

        if (!ASN1_TIME_to_tm(t, &tm))
                return 0;
        sec = timegm(&tm);
        return sec > 0 ? (uint64_t) sec * USEC_PER_SEC : 0;
}

int certificate_fingerprint(const X509 *x, char ret[static FINGERPRINT_SIZE]) {
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned n;

        if (!X509_digest(x, EVP_sha256(), hash, &n) || n * 2 + 1 != FINGERPRINT_SIZE)
                return -ENOMEM;
        bytes_to_hex(hash, n, ret);
        return 0;
}

static int check_leaf(const Loading *l, const char *registration_id, ClientCertificate *c) {
        X509 *leaf = sk_X509_value(c->chain, 0);
        const char *why = pem_pair_fault(leaf, c->key);
        int r;

        if (why)
                return private_key_error(l, -EINVAL, why);

        r = certificate_common_name(leaf, &c->common_name);
        if (r == -ENODATA)
                return certificate_error(
                        l, r,
                        "its subject has no common name: request a certificate whose common name is "
                        "the registration ID");
        if (r < 0)
                return certificate_error(l, r, "");
        if (strcasecmp(c->common_name, registration_id) != 0) {
                _cleanup_(freep) char *name = text_for_people(c->common_name, strlen(c->common_name), 64);

                return credential_error(
                        l->error, -EINVAL, &l->settings->certificates_place, "Certificate",
                        "%s: its common name is \"%s\", but must be the registration ID, \"%s\"",
                        l->certificate, name ?: "", registration_id);
        }

        c->not_before_usec = certificate_time_usec(X509_get0_notBefore(leaf));
        c->not_after_usec = certificate_time_usec(X509_get0_notAfter(leaf));
        return 0;
}

/* --- as text -------------------------------------------------------------------------------------------- */

static int bio_to_text(BIO *bio, char **ret) {
        char *data;
        long n = BIO_get_mem_data(bio, &data);

        if (n <= 0)
                return -ENOMEM;
        *ret = strndup(data, (size_t) n);
        return *ret ? 0 : -ENOMEM;
}

/* The certificates are encoded again, so that nothing else in the files is published, such as a key that is
 * kept next to the chain. */
static int set_texts(const Loading *l, ClientCertificate *c) {
        _cleanup_(biop) BIO *chain = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());

        if (!chain || !key)
                return -ENOMEM;
        for (int i = 0; i < sk_X509_num(c->chain); i++)
                if (!PEM_write_bio_X509(chain, sk_X509_value(c->chain, i)))
                        return -ENOMEM;
        if (bio_to_text(chain, &c->pem) < 0)
                return -ENOMEM;
        if (!l->settings->share_key || c->is_slow)
                return 0;
        if (!PEM_write_bio_PrivateKey(key, c->key, NULL, NULL, 0, NULL, NULL))
                return -ENOMEM;
        return bio_to_text(key, &c->key_pem);
}

static int load(const Loading *l, const char *registration_id, ClientCertificate *c) {
        int r;

        r = load_files(l, c);
        if (r < 0)
                return r;
        r = check_leaf(l, registration_id, c);
        if (r < 0)
                return r;
        r = set_texts(l, c);
        return r < 0 ? certificate_error(l, r, "") : 0;
}

int client_certificate_load(const CredentialSource *source, const char *certificate, const char *private_key,
                            ClientCertificate *ret, DpsError *error) {
        _cleanup_(client_certificate_done) ClientCertificate c = { 0 };
        const Loading l = { source, source->settings, certificate, private_key, error };
        int r;

        r = load(&l, source->registration_id, &c);
        /* Errors must not stay in OpenSSL's queue for other users of it in this thread. */
        ERR_clear_error();
        if (r < 0)
                return r;

        *ret = c;
        c = (ClientCertificate){ 0 };
        return 0;
}

void client_certificate_done(ClientCertificate *c) {
        sk_X509_pop_free(c->chain, X509_free);
        EVP_PKEY_free(c->key);
        free(c->pem);
        erase_and_free(c->key_pem);
        free(c->key_reference);
        free(c->common_name);
        *c = (ClientCertificate){ 0 };
}
