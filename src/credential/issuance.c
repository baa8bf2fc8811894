/* SPDX-License-Identifier: MIT */
#include "credential/issuance.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <strings.h>

#include "basic/module.h"
#include "basic/pause.h"
#include "basic/text.h"
#include "config/pem.h"
#include "credential/certificate.h"
#include "dps/key.h"
#include "dps/reply.h"

static void biop(BIO **b) {
        BIO_free(*b);
}

static void requestp(X509_REQ **r) {
        X509_REQ_free(*r);
}

static void opensslp(unsigned char **p) {
        OPENSSL_free(*p);
}

static void certificatesp(STACK_OF(X509) * *stack) {
        sk_X509_pop_free(*stack, X509_free);
}

/* --- the request ---------------------------------------------------------------------------------------- */

static EVP_PKEY *make_key(KeyType type) {
        switch (type) {
        case KEY_TYPE_EC_P256:
                return EVP_EC_gen("P-256");
        case KEY_TYPE_EC_P384:
                return EVP_EC_gen("P-384");
        case KEY_TYPE_RSA_2048:
                return EVP_RSA_gen(2048);
        case _KEY_TYPE_MAX:
                break;
        }
        abort();
}

/* A plain UTF-8 string is taken at any length. A registration id may have twice the 64 characters that X.520 allows. */
static bool set_subject(X509_REQ *request, const char *registration_id) {
        return X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(request), NID_commonName,
                                          V_ASN1_UTF8STRING, (const unsigned char *) registration_id, -1, -1,
                                          0) == 1;
}

static int request_to_text(X509_REQ *request, char **ret) {
        _cleanup_(opensslp) unsigned char *der = NULL;
        int n = i2d_X509_REQ(request, &der);

        return n > 0 ? dps_base64_encode(der, (size_t) n, ret) : -ENOMEM;
}

static int make_csr(EVP_PKEY *key, const char *registration_id, char **ret) {
        _cleanup_(requestp) X509_REQ *request = X509_REQ_new();

        if (!request || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
            !set_subject(request, registration_id) || X509_REQ_set_pubkey(request, key) != 1 ||
            X509_REQ_sign(request, key, EVP_sha256()) == 0)
                return -ENOMEM;
        return request_to_text(request, ret);
}

static int make_request(Settings *s, const IssuancePlace *place, const HardwareKeyModule *hardware,
                        IssuanceRequest *ret, DpsError *error) {
        char why[PAUSE_ERROR_MAX];
        int r;

        if (hardware) {
                r = hardware->make(s, place, &ret->key, &ret->key_text, error);
                if (r < 0)
                        return r;
        } else {
                ret->key = make_key(s->issuance_key_type);
                if (!ret->key)
                        return -ENOMEM;
        }
        r = make_csr(ret->key, s->registration_id, &ret->csr);
        if (r < 0 && pause_take_error(why)) {
                dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "%s", why);
                return -EIO;
        }
        return r;
}

static int request_new(Settings *s, const IssuancePlace *place, const HardwareKeyModule *hardware,
                       IssuanceRequest *ret, DpsError *error) {
        IssuanceRequest request = { 0 };
        int r;

        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "out of memory");
        r = make_request(s, place, hardware, &request, error);
        ERR_clear_error();
        if (r >= 0) {
                *ret = request;
                return 0;
        }
        EVP_PKEY_free(request.key);
        erase_and_free(request.key_text);
        return r;
}

/* --- the chain ------------------------------------------------------------------------------------------ */

static int refuse(DpsError *error, const char *why) {
        dps_error_set(error, DPS_ERROR_ISSUANCE, DPS_STEP_REGISTER,
                      "the issued certificate cannot be used: %s", why);
        return -EBADMSG;
}

static X509 *certificate_from_bytes(const uint8_t *bytes, size_t size) {
        _cleanup_(biop) BIO *bio = NULL;
        const unsigned char *p = bytes;
        X509 *x;

        x = d2i_X509(NULL, &p, (long) size);
        if (x && p == bytes + size)
                return x;
        X509_free(x);
        bio = BIO_new_mem_buf(bytes, (int) size);
        return bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
}

/* Takes the certificate. One that is there already is dropped. */
static int push(STACK_OF(X509) * stack, X509 *x) {
        for (int i = 0; i < sk_X509_num(stack); i++)
                if (X509_cmp(sk_X509_value(stack, i), x) == 0) {
                        X509_free(x);
                        return 0;
                }
        if (sk_X509_push(stack, x) > 0)
                return 0;
        X509_free(x);
        return -ENOMEM;
}

static int read_chain(char *const *chain, STACK_OF(X509) * stack, DpsError *error) {
        if (strv_length(chain) > DPS_ISSUED_CHAIN_MAX)
                return refuse(error, "the chain is too long");

        STRV_FOREACH(text, chain) {
                _cleanup_(freep) uint8_t *bytes = NULL;
                size_t size;
                X509 *x;
                int r;

                r = dps_base64_decode(*text, strlen(*text), &bytes, &size);
                if (r == -ENOMEM)
                        return r;
                x = r >= 0 && size <= ISSUED_SIZE_MAX ? certificate_from_bytes(bytes, size) : NULL;
                if (!x && ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_MALLOC_FAILURE)
                        return -ENOMEM;
                if (!x)
                        return refuse(error, "a part of the chain is not a certificate");
                r = push(stack, x);
                if (r < 0)
                        return r;
        }
        return 0;
}

static X509 *take_leaf(STACK_OF(X509) * from, EVP_PKEY *key) {
        for (int i = 0; i < sk_X509_num(from); i++)
                if (X509_check_private_key(sk_X509_value(from, i), key) == 1)
                        return sk_X509_delete(from, i);
        return NULL;
}

/* NULL: none of them has issued the certificate. Its name alone proves nothing, so the signature is checked too. */
static X509 *take_issuer(STACK_OF(X509) * from, X509 *x) {
        for (int i = 0; i < sk_X509_num(from); i++) {
                X509 *issuer = sk_X509_value(from, i);

                if (X509_check_issued(issuer, x) == X509_V_OK &&
                    X509_verify(x, X509_get0_pubkey(issuer)) == 1)
                        return sk_X509_delete(from, i);
        }
        return NULL;
}

/* Moves the certificates to `ordered`, the leaf first and each issuer behind what it issued. */
static int order(STACK_OF(X509) * from, EVP_PKEY *key, STACK_OF(X509) * ordered, DpsError *error) {
        X509 *x = take_leaf(from, key);

        if (!x)
                return refuse(error, "it is not for the key of the request");
        for (;;) {
                if (sk_X509_push(ordered, x) <= 0) {
                        X509_free(x);
                        return -ENOMEM;
                }
                if (sk_X509_num(from) == 0)
                        return 0;
                x = take_issuer(from, x);
                if (!x)
                        return refuse(error, "the other certificates are not its issuers");
        }
}

static int check_dates(STACK_OF(X509) * chain, uint64_t realtime_usec, DpsError *error) {
        for (int i = 0; realtime_usec > 0 && i < sk_X509_num(chain); i++) {
                const X509 *x = sk_X509_value(chain, i);

                if (certificate_time_usec(X509_get0_notAfter(x)) <= realtime_usec)
                        return refuse(error, i == 0 ? "it has expired already" : "its issuer has expired");
                if (certificate_time_usec(X509_get0_notBefore(x)) >
                    realtime_usec + ISSUED_CLOCK_TOLERANCE_USEC)
                        return refuse(error,
                                      i == 0 ? "it is not valid yet: check this machine's clock (timedatectl)"
                                             : "its issuer is not valid yet: check this machine's clock "
                                               "(timedatectl)");
        }
        return 0;
}

static int check_common_name(const X509 *leaf, const char *registration_id, DpsError *error) {
        _cleanup_(freep) char *name = NULL;
        int r = certificate_common_name(leaf, &name);

        if (r == -ENOMEM)
                return r;
        if (r < 0 || strcasecmp(name, registration_id) != 0)
                return refuse(error, "its common name is not the registration id");
        return 0;
}

/* BIO_s_secmem() wipes what it held. */
static int pair_to_text(STACK_OF(X509) * chain, const IssuanceRequest *request, char **ret) {
        _cleanup_(biop) BIO *bio = BIO_new(BIO_s_secmem());
        char *data;
        long n;

        if (!bio)
                return -ENOMEM;
        for (int i = 0; i < sk_X509_num(chain); i++)
                if (PEM_write_bio_X509(bio, sk_X509_value(chain, i)) != 1)
                        return -ENOMEM;
        if (request->key_text ? BIO_puts(bio, request->key_text) <= 0
                              : PEM_write_bio_PrivateKey(bio, request->key, NULL, NULL, 0, NULL, NULL) != 1)
                return -ENOMEM;
        n = BIO_get_mem_data(bio, &data);
        *ret = n > 0 ? strndup(data, (size_t) n) : NULL;
        return *ret ? 0 : -ENOMEM;
}

static int make_pair(char *const *chain, const IssuanceRequest *request, const char *registration_id,
                     uint64_t realtime_usec, IssuedPair *ret, DpsError *error) {
        _cleanup_(certificatesp) STACK_OF(X509) *given = sk_X509_new_null(), *ordered = sk_X509_new_null();
        const X509 *leaf;
        int r;

        if (!given || !ordered)
                return -ENOMEM;
        r = read_chain(chain, given, error);
        if (r >= 0)
                r = order(given, request->key, ordered, error);
        if (r < 0)
                return r;
        leaf = sk_X509_value(ordered, 0);
        r = check_common_name(leaf, registration_id, error);
        if (r >= 0)
                r = check_dates(ordered, realtime_usec, error);
        if (r >= 0)
                r = certificate_fingerprint(leaf, ret->fingerprint);
        if (r < 0)
                return r;
        ret->not_before_usec = certificate_time_usec(X509_get0_notBefore(leaf));
        ret->not_after_usec = certificate_time_usec(X509_get0_notAfter(leaf));
        return pair_to_text(ordered, request, &ret->text);
}

static int pair_new(char *const *chain, const IssuanceRequest *request, const char *registration_id,
                    uint64_t realtime_usec, IssuedPair *ret, DpsError *error) {
        IssuedPair p = { 0 };
        int r;

        dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_REGISTER, "out of memory");
        r = make_pair(chain, request, registration_id, realtime_usec, &p, error);
        ERR_clear_error();
        if (r < 0)
                return r;
        EVP_PKEY_up_ref(request->key);
        p.key = request->key;
        p.is_in_hardware = request->key_text;
        *ret = p;
        return 0;
}

const IssuanceModule issuance_module = { .request_new = request_new, .pair_new = pair_new };

MODULE_DEFINE("issuance", "issuance", &issuance_module);
