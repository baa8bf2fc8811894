/* SPDX-License-Identifier: MIT */
#include "dpsd/attestation.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <strings.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "config/secret.h"
#include "dps/key.h"
#include "dps/sas.h"

#define CERTIFICATE_FILE_MAX (256U * 1024)
#define CHAIN_MAX 16
#define SHA256_SIZE 32

static void biop(BIO **b) {
        BIO_free(*b);
}

static void x509p(X509 **x) {
        X509_free(*x);
}

/* --- blame ---------------------------------------------------------------------------------------------------- */

static int blame(DpsError *error, int r, const Place *place, const char *key, const char *format, ...)
        __attribute__((format(printf, 5, 6)));

/* "/etc/dps/gateway.conf:7: Key=: …". -EAGAIN and what is not there yet may come by themselves: id `key`. */
static int blame(DpsError *error, int r, const Place *place, const char *key, const char *format, ...) {
        bool is_early = r == -EAGAIN || r == -ENOENT || r == -ENOTDIR;
        char what[DPS_MESSAGE_MAX];
        va_list ap;

        /* Whoever else uses OpenSSL in this thread must not find our failures. */
        ERR_clear_error();
        if (r == -ENOMEM) {
                dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "out of memory");
                return r;
        }

        va_start(ap, format);
        (void) vsnprintf(what, sizeof(what), format, ap);
        va_end(ap);
        if (place->file)
                dps_error_set(error, is_early ? DPS_ERROR_KEY : DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                              "%s:%u: %s=: %s", place->file, place->line, key, what);
        else
                dps_error_set(error, is_early ? DPS_ERROR_KEY : DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "%s=: %s",
                              key, what);
        return r;
}

/* A setting that shrank while something remembered an index of it: its first is as good as any. */
static const char *nth(char *const *list, unsigned index) {
        return list[index < strv_length(list) ? index : 0];
}

/* --- symmetric keys ------------------------------------------------------------------------------------------- */

static bool uses_group_key(const Settings *s) {
        return strv_length(s->keys) == 0;
}

static const char *key_to_blame(const Settings *s) {
        return uses_group_key(s) ? "GroupKey" : "Key";
}

static int key_from_text(const char *text, size_t size, const char *registration_id, bool is_group_key,
                         DpsKey *ret) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        int r;

        if (strlen(text) != size)
                return -EBADMSG;
        r = dps_key_from_base64(text, &key);
        if (r < 0)
                return r;
        if (is_group_key)
                return dps_key_derive(&key, registration_id, ret);
        *ret = key;
        return 0;
}

static int load_key(const Settings *s, unsigned index, const char *registration_id, DpsKey *ret,
                    DpsError *error) {
        char *const *references = uses_group_key(s) ? s->group_keys : s->keys;
        _cleanup_(freep) char *text = NULL, *reason = NULL;
        const char *reference;
        size_t size;
        int r;

        if (strv_length(references) == 0)
                return blame(error, -EINVAL, &s->keys_place, "Key", "there is none");
        reference = nth(references, index);
        r = secret_read(reference, &text, &size, &reason);
        if (r < 0)
                return blame(error, r, &s->keys_place, key_to_blame(s), "%s", reason ?: strerror(-r));

        r = key_from_text(text, size, registration_id, uses_group_key(s), ret);
        explicit_bzero(text, size);
        if (r == -ERANGE)
                return blame(error, r, &s->keys_place, key_to_blame(s),
                             "%s: a key is 16 to 64 bytes, as base64, and what is there is not", reference);
        if (r < 0)
                return blame(error, r, &s->keys_place, key_to_blame(s),
                             "%s: not base64; the enrollment's primary or secondary key is wanted as the "
                             "portal shows it",
                             reference);
        return 0;
}

/* --- certificates --------------------------------------------------------------------------------------------- */

/* One attempt to load a client certificate, and where to look for the blame. */
typedef struct Loading {
        const Settings *settings;
        const char *certificate, *private_key; /* references */
        DpsError *error;
} Loading;

static int blame_certificate(const Loading *l, int r, const char *what) {
        return blame(l->error, r, &l->settings->certificates_place, "Certificate", "%s: %s", l->certificate,
                     what);
}

static int blame_private_key(const Loading *l, int r, const char *what) {
        return blame(l->error, r, &l->settings->certificates_place, "PrivateKey", "%s: %s", l->private_key,
                     what);
}

static int blame_reason(const Loading *l, int r, const char *key, const char *reason) {
        return blame(l->error, r, &l->settings->certificates_place, key, "%s", reason ?: strerror(-r));
}

static int read_certificate_file(const Loading *l, char **ret, size_t *ret_size) {
        _cleanup_(freep) char *path = NULL, *reason = NULL;
        int r;

        r = secret_path(l->certificate, &path, &reason);
        if (r < 0)
                return blame_reason(l, r, "Certificate", reason);
        r = file_read(path, CERTIFICATE_FILE_MAX, ret, ret_size);
        if (r < 0)
                return blame_certificate(l, r, r == -EFBIG ? "larger than 256 kB" : strerror(-r));
        return 0;
}

/* -ENODATA: there is no more. -EBADMSG: damaged. */
static int read_next_certificate(BIO *bio, X509 **ret) {
        unsigned long e;
        X509 *x;

        ERR_clear_error();
        x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (x) {
                *ret = x;
                return 0;
        }

        e = ERR_peek_last_error();
        return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE ? -ENODATA
                                                                                         : -EBADMSG;
}

static int read_chain(BIO *bio, STACK_OF(X509) * chain) {
        int r;

        for (;;) {
                _cleanup_(x509p) X509 *x = NULL;

                r = read_next_certificate(bio, &x);
                if (r < 0)
                        break;
                if (sk_X509_num(chain) == CHAIN_MAX)
                        return -E2BIG;
                if (sk_X509_push(chain, x) <= 0)
                        return -ENOMEM;
                x = NULL;
        }
        if (r == -ENODATA && sk_X509_num(chain) > 0)
                return 0;
        return r;
}

static int load_chain(const Loading *l, ClientCertificate *c) {
        _cleanup_(freep) char *text = NULL;
        _cleanup_(biop) BIO *bio = NULL;
        size_t size;
        int r;

        r = read_certificate_file(l, &text, &size);
        if (r < 0)
                return r;
        bio = BIO_new_mem_buf(text, (int) size);
        c->chain = sk_X509_new_null();
        r = bio && c->chain ? read_chain(bio, c->chain) : -ENOMEM;
        /* There may be a key in the file. */
        explicit_bzero(text, size);

        if (r == -ENODATA)
                return blame_certificate(l, r, "there is no PEM certificate in it");
        if (r == -E2BIG)
                return blame_certificate(l, r, "a chain of more than 16 certificates");
        return r < 0 ? blame_certificate(l, r, "a certificate in it is damaged") : 0;
}

/* --- private keys --------------------------------------------------------------------------------------------- */

/* Asking a person for a passphrase would stop a daemon for ever. */
static int refuse_passphrase(char *buffer, int size, int is_writing, void *userdata) {
        bool *was_asked = userdata;

        *was_asked = true;
        return -1;
}

static bool is_in_hardware(const char *reference) {
        return startswith(reference, "pkcs11:") || startswith(reference, "handle:");
}

static const char *explain_key(const char *text, bool was_asked) {
        if (was_asked)
                return "the key is encrypted, and nobody is there to type its passphrase: store it without "
                       "(openssl pkey -in OLD -out NEW), with mode 0600";
        if (strstr(text, "-----BEGIN TSS2 PRIVATE KEY-----"))
                return "a key of a TPM; this version of dpsd takes key files only";
        return "there is no PEM private key in it";
}

static int parse_key(const Loading *l, const char *text, size_t size, EVP_PKEY **ret) {
        _cleanup_(biop) BIO *bio = BIO_new_mem_buf(text, (int) size);
        bool was_asked = false;
        EVP_PKEY *key;

        if (!bio)
                return blame_private_key(l, -ENOMEM, "");
        key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &was_asked);
        if (!key)
                return blame_private_key(l, -EBADMSG, explain_key(text, was_asked));

        ERR_clear_error();
        *ret = key;
        return 0;
}

static int load_private_key(const Loading *l, ClientCertificate *c) {
        _cleanup_(freep) char *text = NULL, *reason = NULL;
        size_t size;
        int r;

        if (is_in_hardware(l->private_key))
                return blame(l->error, -EOPNOTSUPP, &l->settings->certificates_place, "PrivateKey",
                             "a key in hardware; this version of dpsd takes key files only");
        r = secret_path(l->private_key, &c->key_reference, &reason);
        if (r >= 0)
                r = secret_read(l->private_key, &text, &size, &reason);
        if (r < 0)
                return blame_reason(l, r, "PrivateKey", reason);

        r = parse_key(l, text, size, &c->key);
        explicit_bzero(text, size);
        return r;
}

/* --- what it must be ------------------------------------------------------------------------------------------ */

static int copy_text(const char *text, char **ret) {
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

/* -ENODATA: none that is text. */
static int common_name(const X509 *x, char **ret) {
        const X509_NAME *subject = X509_get_subject_name(x);
        int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), n, r;
        unsigned char *text = NULL;

        if (i < 0)
                return -ENODATA;
        n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
        if (n < 0)
                return -ENODATA;

        r = n > 0 && strlen((const char *) text) == (size_t) n ? copy_text((const char *) text, ret)
                                                               : -ENODATA;
        OPENSSL_free(text);
        return r;
}

static uint64_t usec_from_asn1(const ASN1_TIME *t) {
        struct tm tm;
        time_t sec;

        if (!ASN1_TIME_to_tm(t, &tm))
                return 0;
        sec = timegm(&tm);
        return sec > 0 ? (uint64_t) sec * USEC_PER_SEC : 0;
}

static int set_id(const X509 *x, char ret[static 65]) {
        static const char digits[] = "0123456789abcdef";
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned n;

        if (!X509_digest(x, EVP_sha256(), hash, &n) || n != SHA256_SIZE)
                return -ENOMEM;
        for (unsigned i = 0; i < n; i++) {
                ret[2 * i] = digits[hash[i] >> 4];
                ret[2 * i + 1] = digits[hash[i] & 15];
        }
        ret[64] = 0;
        return 0;
}

static int check_leaf(const Loading *l, const char *registration_id, ClientCertificate *c) {
        X509 *leaf = sk_X509_value(c->chain, 0);
        int r;

        if (X509_check_private_key(leaf, c->key) != 1)
                return blame_private_key(l, -EINVAL,
                                         "not the key of the first certificate in the file of Certificate=");

        r = common_name(leaf, &c->common_name);
        if (r == -ENODATA)
                return blame_certificate(l, r,
                                         "its subject has no common name, which must be the "
                                         "registration ID");
        if (r < 0)
                return blame_certificate(l, r, "");
        if (strcasecmp(c->common_name, registration_id) != 0) {
                _cleanup_(freep) char *name = text_for_people(c->common_name, strlen(c->common_name), 64);

                return blame(l->error, -EINVAL, &l->settings->certificates_place, "Certificate",
                             "%s: its common name is \"%s\", and must be the registration ID, \"%s\"",
                             l->certificate, name ?: "", registration_id);
        }

        c->not_before_usec = usec_from_asn1(X509_get0_notBefore(leaf));
        c->not_after_usec = usec_from_asn1(X509_get0_notAfter(leaf));
        r = set_id(leaf, c->id);
        return r < 0 ? blame_certificate(l, r, "") : 0;
}

/* --- as text -------------------------------------------------------------------------------------------------- */

static int bio_to_text(BIO *bio, char **ret) {
        char *data;
        long n = BIO_get_mem_data(bio, &data);

        if (n <= 0)
                return -ENOMEM;
        *ret = strndup(data, (size_t) n);
        return *ret ? 0 : -ENOMEM;
}

/* Written anew, so that nothing else of the files gets out: not the key that somebody keeps beside the chain. */
static int set_texts(const Loading *l, ClientCertificate *c) {
        _cleanup_(biop) BIO *chain = BIO_new(BIO_s_mem()), *key = BIO_new(BIO_s_mem());

        if (!chain || !key)
                return -ENOMEM;
        for (int i = 0; i < sk_X509_num(c->chain); i++)
                if (!PEM_write_bio_X509(chain, sk_X509_value(c->chain, i)))
                        return -ENOMEM;
        if (bio_to_text(chain, &c->pem) < 0)
                return -ENOMEM;
        if (!l->settings->share_key)
                return 0;
        if (!PEM_write_bio_PrivateKey(key, c->key, NULL, NULL, 0, NULL, NULL))
                return -ENOMEM;
        return bio_to_text(key, &c->key_pem);
}

static int load_client_certificate(const Loading *l, const char *registration_id, ClientCertificate *c) {
        int r;

        r = load_chain(l, c);
        if (r < 0)
                return r;
        r = load_private_key(l, c);
        if (r < 0)
                return r;
        r = check_leaf(l, registration_id, c);
        if (r < 0)
                return r;
        r = set_texts(l, c);
        return r < 0 ? blame_certificate(l, r, "") : 0;
}

int attestation_certificate(const Settings *s, unsigned index, const char *registration_id,
                            ClientCertificate *ret, DpsError *error) {
        _cleanup_(client_certificate_done) ClientCertificate c = { 0 };
        Loading loading = { .settings = s, .error = error };
        size_t n = strv_length(s->certificates);
        int r;

        if (n == 0 || strv_length(s->private_keys) != n)
                return blame(
                        error, -EINVAL, &s->certificates_place, "Certificate",
                        "as many lines PrivateKey= as Certificate= are needed, and at least one of each");
        loading.certificate = nth(s->certificates, index);
        loading.private_key = nth(s->private_keys, index);
        r = load_client_certificate(&loading, registration_id, &c);
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

/* --- methods -------------------------------------------------------------------------------------------------- */

static const Place nowhere;

unsigned attestation_count(const Settings *s, Method method) {
        switch (method) {
        case METHOD_SYMMETRIC_KEY:
                return (unsigned) strv_length(uses_group_key(s) ? s->group_keys : s->keys);
        case METHOD_X509:
                return (unsigned) strv_length(s->certificates);
        case METHOD_TPM:
        case _METHOD_MAX:
                return 0;
        }
        abort();
}

static int refuse_method(Method method, DpsError *error) {
        return blame(error, -EOPNOTSUPP, &nowhere, "Method",
                     "%s: this version of dpsd has no such attestation", method_to_string(method));
}

static int try_credential(const Settings *s, Method method, unsigned index, const char *registration_id,
                          DpsError *error) {
        _cleanup_(client_certificate_done) ClientCertificate c = { 0 };
        _cleanup_(dps_key_done) DpsKey key = { 0 };

        switch (method) {
        case METHOD_SYMMETRIC_KEY:
                return load_key(s, index, registration_id, &key, error);
        case METHOD_X509:
                return attestation_certificate(s, index, registration_id, &c, error);
        case METHOD_TPM:
        case _METHOD_MAX:
                return refuse_method(method, error);
        }
        abort();
}

/* The first failure tells. */
static int try_method(const Settings *s, Method method, const char *registration_id, DpsError *error) {
        unsigned n = MAX(attestation_count(s, method), 1U);
        int r = 0;

        for (unsigned i = 0; i < n; i++) {
                DpsError e = { 0 };
                int k = try_credential(s, method, i, registration_id, &e);

                if (k >= 0)
                        return 0;
                if (i == 0) {
                        *error = e;
                        r = k;
                }
        }
        return r;
}

static bool is_wanted(const Settings *s, Method method) {
        for (unsigned i = 0; i < s->n_methods; i++)
                if (s->methods[i] == method)
                        return true;
        return false;
}

int attestation_choose(const Settings *s, const char *registration_id, Method kept, Method *ret,
                       DpsError *error) {
        DpsError first = { 0 };
        int r = -EINVAL;

        if (is_wanted(s, kept) && try_method(s, kept, registration_id, &first) >= 0) {
                *ret = kept;
                return 0;
        }

        first = (DpsError){ 0 };
        for (unsigned i = 0; i < s->n_methods; i++) {
                DpsError e = { 0 };
                int k = try_method(s, s->methods[i], registration_id, &e);

                if (k >= 0) {
                        *ret = s->methods[i];
                        return 0;
                }
                /* What this build cannot do at all is worth telling only where there is nothing else. */
                if (i == 0 || r == -EOPNOTSUPP) {
                        first = e;
                        r = k;
                }
        }

        *error = first;
        return r;
}

int attestation_mint(const Settings *s, Method method, unsigned index, const char *registration_id,
                     const char *resource, uint64_t expiry_sec, const char *policy, char **ret,
                     DpsError *error) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        int r;

        assert(method != METHOD_X509);
        if (method != METHOD_SYMMETRIC_KEY)
                return refuse_method(method, error);
        r = load_key(s, index, registration_id, &key, error);
        if (r < 0)
                return r;
        r = dps_sas_new(&key, resource, expiry_sec, policy, ret);
        if (r < 0)
                return blame(error, r, &s->keys_place, key_to_blame(s), "no token can be made with it: %s",
                             strerror(-r));
        return 0;
}

/* --- paths ---------------------------------------------------------------------------------------------------- */

/* A credential that is not there yet has two places where it may appear. */
static int add_credential_paths(char ***paths, const char *reference) {
        static const char *const prefixes[] = { "", "dps_" };
        const char *directory = getenv("CREDENTIALS_DIRECTORY"), *name = reference;

        if (isempty(directory) || !scan_literal(&name, "credential:"))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
                char *path = NULL;
                int r;

                if (asprintf(&path, "%s/%s%s", directory, prefixes[i], name) < 0)
                        return -ENOMEM;
                r = strv_push(paths, path);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_paths(char ***paths, char *const *references) {
        STRV_FOREACH(reference, references) {
                _cleanup_(freep) char *reason = NULL;
                char *path = NULL;
                int r;

                if (is_in_hardware(*reference))
                        continue;
                r = secret_path(*reference, &path, &reason);
                if (r == -EAGAIN)
                        r = add_credential_paths(paths, *reference);
                else if (r >= 0)
                        r = strv_push(paths, path);
                if (r == -ENOMEM)
                        return r;
        }
        return 0;
}

int attestation_paths(const Settings *s, char ***ret) {
        char *const *lists[] = { s->keys, s->group_keys, s->certificates, s->private_keys };
        _cleanup_(strv_freep) char **paths = NULL;

        for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
                int r = add_paths(&paths, lists[i]);

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}
