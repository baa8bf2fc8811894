/* SPDX-License-Identifier: MIT */

/*
 * What OpenSSL would compute again and again. Of the time of the simulation, more than a third went into curves, and into
 * looking up how a key is to be read. So the emulator's CA has keys that sign a hundred times faster than those of P-384, and
 * a certificate or a key that was read or written before is not parsed again. The rest is as it is: what was not read before is read by
 * OpenSSL, and what nobody can read is refused by it.
 */

#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"

#define KNOWN_MAX 64

#pragma GCC visibility push(default)
EVP_PKEY *__real_EVP_PKEY_Q_keygen(OSSL_LIB_CTX *library, const char *properties, const char *type, ...);
EVP_PKEY *__wrap_EVP_PKEY_Q_keygen(OSSL_LIB_CTX *library, const char *properties, const char *type, ...);
X509 *__real_PEM_read_bio_X509(BIO *bio, X509 **x, pem_password_cb *callback, void *userdata);
X509 *__wrap_PEM_read_bio_X509(BIO *bio, X509 **x, pem_password_cb *callback, void *userdata);
X509 *__real_PEM_read_bio_X509_AUX(BIO *bio, X509 **x, pem_password_cb *callback, void *userdata);
X509 *__wrap_PEM_read_bio_X509_AUX(BIO *bio, X509 **x, pem_password_cb *callback, void *userdata);
EVP_PKEY *__real_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **k, pem_password_cb *callback, void *userdata);
EVP_PKEY *__wrap_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **k, pem_password_cb *callback, void *userdata);
X509_REQ *__real_d2i_X509_REQ(X509_REQ **r, const unsigned char **data, long size);
X509_REQ *__wrap_d2i_X509_REQ(X509_REQ **r, const unsigned char **data, long size);
int __real_X509_REQ_verify(X509_REQ *r, EVP_PKEY *key);
int __wrap_X509_REQ_verify(X509_REQ *r, EVP_PKEY *key);
void __real_X509_REQ_free(X509_REQ *r);
void __wrap_X509_REQ_free(X509_REQ *r);
X509 *__real_d2i_X509(X509 **x, const unsigned char **data, long size);
X509 *__wrap_d2i_X509(X509 **x, const unsigned char **data, long size);
int __real_i2d_X509_bio(BIO *bio, const X509 *x);
int __wrap_i2d_X509_bio(BIO *bio, const X509 *x);
int __real_PEM_write_bio_X509(BIO *bio, const X509 *x);
int __wrap_PEM_write_bio_X509(BIO *bio, const X509 *x);
#pragma GCC visibility pop

EVP_PKEY *__wrap_EVP_PKEY_Q_keygen(OSSL_LIB_CTX *library, const char *properties, const char *type, ...) {
        if (!streq(type, "EC"))
                abort();
        return __real_EVP_PKEY_Q_keygen(library, properties, type, "P-256");
}

/* HMAC() looks its algorithms up each time, which takes longer than all the rest; and half of what is left is of the key alone. */

#define MACS_MAX 16

static struct Mac {
        uint8_t key[64];
        size_t size;
        EVP_MAC_CTX *context;
} macs[MACS_MAX];

static EVP_MAC_CTX *new_context(void) {
        OSSL_PARAM digest = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *) "SHA256", 0);
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        EVP_MAC_CTX *c = EVP_MAC_CTX_new(mac);

        if (!c || EVP_MAC_CTX_set_params(c, (OSSL_PARAM[]){ digest, OSSL_PARAM_construct_end() }) != 1)
                abort();
        EVP_MAC_free(mac);
        return c;
}

/* Begins to sign with this key. */
static EVP_MAC_CTX *begin_mac(const void *key, size_t size) {
        static unsigned n;
        struct Mac *m;

        for (m = macs; m < macs + MACS_MAX; m++)
                if (m->context && m->size == size && memcmp(m->key, key, size) == 0)
                        return EVP_MAC_init(m->context, NULL, 0, NULL) == 1 ? m->context : NULL;
        if (size > sizeof(m->key))
                abort();
        m = &macs[n++ % MACS_MAX];
        m->context = m->context ?: new_context();
        m->size = size;
        memcpy(m->key, key, size);
        return EVP_MAC_init(m->context, key, size, NULL) == 1 ? m->context : NULL;
}

#pragma GCC visibility push(default)
unsigned char *HMAC(const EVP_MD *md, const void *key, int key_size, const unsigned char *data, size_t size,
                    unsigned char *ret, unsigned *ret_size) {
        EVP_MAC_CTX *c = EVP_MD_get_type(md) == NID_sha256 ? begin_mac(key, (size_t) key_size) : NULL;
        size_t n = 0;

        if (!c || EVP_MAC_update(c, data, size) != 1 || EVP_MAC_final(c, ret, &n, EVP_MAX_MD_SIZE) != 1)
                abort();
        *ret_size = (unsigned) n;
        return ret;
}
#pragma GCC visibility pop

/* ---- what was read or written before ---- */

typedef struct Known {
        char *data;
        size_t size;
        X509 *certificate;
        EVP_PKEY *key;
        X509_REQ *request;
        bool is_verified; /* the request */
} Known;

/* Certificates come and go, and keys come again. */
typedef struct Memory {
        Known known[KNOWN_MAX];
        unsigned n;
} Memory;

static Memory certificates, keys, requests;

static Known *find(Memory *m, const char *data, size_t size) {
        for (unsigned k = 0; k < MIN(m->n, KNOWN_MAX); k++)
                if (m->known[k].size == size && memcmp(m->known[k].data, data, size) == 0)
                        return &m->known[k];
        return NULL;
}

/* In place of the oldest one. */
static Known *remember(Memory *m, const char *data, size_t size) {
        Known *k = &m->known[m->n++ % KNOWN_MAX];

        OPENSSL_free(k->data);
        X509_free(k->certificate);
        EVP_PKEY_free(k->key);
        __real_X509_REQ_free(k->request);
        *k = (Known){ .data = OPENSSL_memdup(data, size), .size = size };
        return k;
}

static void remember_certificate(const char *data, size_t size, X509 *x) {
        X509_up_ref(x);
        remember(&certificates, data, size)->certificate = x;
}

/* The next of these blocks that a BIO in memory would give. NULL: there is none. */
static const char *find_block(BIO *bio, const char *begin, const char *end, size_t *ret_skipped,
                              size_t *ret_size) {
        char *data;
        long n = BIO_get_mem_data(bio, &data);
        const char *first = n > 0 ? memmem(data, (size_t) n, begin, strlen(begin)) : NULL,
                   *last = first ? memmem(first, (size_t) (data + n - first), end, strlen(end)) : NULL;

        if (!last)
                return NULL;
        *ret_skipped = (size_t) (first - data);
        *ret_size = (size_t) (last - first) + strlen(end);
        return first;
}

static bool skip(BIO *bio, size_t size) {
        char bytes[4096];

        return size <= sizeof(bytes) && BIO_read(bio, bytes, (int) size) == (int) size;
}

typedef X509 *(*read_certificate_t)(BIO *bio, X509 **ret, pem_password_cb *callback, void *userdata);

static X509 *read_certificate(BIO *bio, read_certificate_t read_it, pem_password_cb *callback,
                              void *userdata) {
        size_t skipped, size;
        const char *block = find_block(bio, "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n",
                                       &skipped, &size);
        const Known *k = block ? find(&certificates, block, size) : NULL;
        X509 *x;

        if (k && skip(bio, skipped + size)) {
                X509_up_ref(k->certificate);
                return k->certificate;
        }
        x = read_it(bio, NULL, callback, userdata);
        if (x && block)
                remember_certificate(block, size, x);
        return x;
}

X509 *__wrap_PEM_read_bio_X509(BIO *bio, X509 **ret, pem_password_cb *callback, void *userdata) {
        return read_certificate(bio, __real_PEM_read_bio_X509, callback, userdata);
}

X509 *__wrap_PEM_read_bio_X509_AUX(BIO *bio, X509 **ret, pem_password_cb *callback, void *userdata) {
        return read_certificate(bio, __real_PEM_read_bio_X509_AUX, callback, userdata);
}

/* Nobody reads on behind a key. */
EVP_PKEY *__wrap_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **ret, pem_password_cb *callback,
                                         void *userdata) {
        size_t skipped, size;
        const char *block = find_block(bio, "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n",
                                       &skipped, &size);
        const Known *k = block ? find(&keys, block, size) : NULL;
        EVP_PKEY *key;

        if (k) {
                EVP_PKEY_up_ref(k->key);
                return k->key;
        }
        key = __real_PEM_read_bio_PrivateKey(bio, ret, callback, userdata);
        if (key && block) {
                EVP_PKEY_up_ref(key);
                remember(&keys, block, size)->key = key;
        }
        return key;
}

X509 *__wrap_d2i_X509(X509 **ret, const unsigned char **data, long size) {
        const char *begin = (const char *) *data;
        const Known *k = size > 0 ? find(&certificates, begin, (size_t) size) : NULL;
        X509 *x;

        if (k) {
                *data += size;
                X509_up_ref(k->certificate);
                return k->certificate;
        }
        x = __real_d2i_X509(ret, data, size);
        if (x && (const char *) *data == begin + size)
                remember_certificate(begin, (size_t) size, x);
        return x;
}

/* Requests have no references that can be counted: those that are known are never freed by others, and who reads one is done with it
 * before the next. */
X509_REQ *__wrap_d2i_X509_REQ(X509_REQ **ret, const unsigned char **data, long size) {
        const char *begin = (const char *) *data;
        const Known *k = size > 0 ? find(&requests, begin, (size_t) size) : NULL;
        X509_REQ *r;

        if (k) {
                *data += size;
                return k->request;
        }
        r = __real_d2i_X509_REQ(ret, data, size);
        if (r && (const char *) *data == begin + size)
                remember(&requests, begin, (size_t) size)->request = r;
        return r;
}

static Known *find_request(const X509_REQ *r) {
        for (unsigned k = 0; r && k < MIN(requests.n, KNOWN_MAX); k++)
                if (requests.known[k].request == r)
                        return &requests.known[k];
        return NULL;
}

void __wrap_X509_REQ_free(X509_REQ *r) {
        if (!find_request(r))
                __real_X509_REQ_free(r);
}

int __wrap_X509_REQ_verify(X509_REQ *r, EVP_PKEY *key) {
        Known *k = find_request(r);
        bool is_its_own = k && key == X509_REQ_get0_pubkey(r);
        int good;

        if (is_its_own && k->is_verified)
                return 1;
        good = __real_X509_REQ_verify(r, key);
        if (is_its_own)
                k->is_verified = good == 1;
        return good;
}

/* What is written is read soon. */
static int remember_written(BIO *bio, const X509 *x, int (*write_it)(BIO *bio, const X509 *x)) {
        char *data;
        long before = BIO_get_mem_data(bio, &data);
        int r = write_it(bio, x);
        long after = BIO_get_mem_data(bio, &data);

        if (r == 1 && !find(&certificates, data + before, (size_t) (after - before)))
                remember_certificate(data + before, (size_t) (after - before), (X509 *) x);
        return r;
}

int __wrap_i2d_X509_bio(BIO *bio, const X509 *x) {
        return remember_written(bio, x, __real_i2d_X509_bio);
}

int __wrap_PEM_write_bio_X509(BIO *bio, const X509 *x) {
        return remember_written(bio, x, __real_PEM_write_bio_X509);
}
