/* SPDX-License-Identifier: MIT */
#include "emulator/issuer.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/key.h"

#define LIFETIME_SEC_DEFAULT (30 * 24 * UINT64_C(3600))
#define LIFETIME_SEC_MAX (10 * 365 * 24 * UINT64_C(3600))
#define CA_LIFE_SEC (10 * 365 * 24 * INT64_C(3600))
#define HOUR_SEC INT64_C(3600)
#define RSA_BITS_MIN 2048

struct Issuer {
        X509 *root, *intermediate;
        EVP_PKEY *root_key, *key;
};

static inline void X509_freep(X509 **x) {
        X509_free(*x);
}
static inline void X509_REQ_freep(X509_REQ **r) {
        X509_REQ_free(*r);
}
static inline void EVP_PKEY_freep(EVP_PKEY **k) {
        EVP_PKEY_free(*k);
}
static inline void BIO_freep(BIO **b) {
        BIO_free(*b);
}

/* --- the policy ----------------------------------------------------------------------------------------- */

static const char *const policy_members[] = { "lifetime", "chain", "hub", "failure", NULL };
static const char *const variant_words[] = {
        [ISSUED_WHOLE] = "whole",
        [ISSUED_WITHOUT_ROOT] = "without-root",
        [ISSUED_LEAF] = "leaf",
        [ISSUED_ROOT_FIRST] = "root-first",
        [ISSUED_PEM] = "pem",
        [ISSUED_FOREIGN_KEY] = "foreign-key",
        [ISSUED_OTHER_NAME] = "other-name",
        [ISSUED_EXPIRED] = "expired",
        [ISSUED_BROKEN] = "broken",
        NULL,
};
static const char *const hub_words[] = { "both", "issued", "onboarding", NULL };

int issuance_policy_read(const Reader *enrollment, IssuancePolicy *ret) {
        IssuancePolicy p = { .is_set = true, .lifetime_sec = LIFETIME_SEC_DEFAULT };
        unsigned variant = ISSUED_WHOLE, hub = HUB_ACCEPTS_BOTH;
        uint64_t failure_code = 0;
        Reader r;
        int k;

        k = reader_object(enrollment, "issuance", &r);
        if (k <= 0)
                return k;
        if ((k = reader_allow(&r, policy_members)) < 0 ||
            (k = reader_number(&r, "lifetime", LIFETIME_SEC_MAX, &p.lifetime_sec)) < 0 ||
            (k = reader_number(&r, "failure", INT32_MAX, &failure_code)) < 0 ||
            (k = reader_word(&r, "chain", variant_words, &variant)) < 0 ||
            (k = reader_word(&r, "hub", hub_words, &hub)) < 0)
                return k;

        p.variant = variant;
        p.hub = hub;
        p.failure_code = (uint32_t) failure_code;
        *ret = p;
        return 0;
}

/* --- making certificates -------------------------------------------------------------------------------- */

typedef struct Wanted {
        const char *common_name;
        EVP_PKEY *key;
        bool is_ca;
        int64_t from_sec, until_sec;
} Wanted;

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value) {
        X509_EXTENSION *extension;
        X509V3_CTX ctx;
        bool added;

        X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
        X509V3_set_ctx_nodb(&ctx);
        extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
        added = extension && X509_add_ext(x, extension, -1) == 1;
        X509_EXTENSION_free(extension);
        return added;
}

static bool fill(X509 *x, X509 *issuer, const Wanted *w) {
        uint64_t serial;

        return RAND_bytes((unsigned char *) &serial, sizeof(serial)) == 1 &&
               X509_set_version(x, X509_VERSION_3) == 1 &&
               ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) == 1 &&
               ASN1_TIME_set(X509_getm_notBefore(x), (time_t) w->from_sec) &&
               ASN1_TIME_set(X509_getm_notAfter(x), (time_t) w->until_sec) &&
               X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, V_ASN1_UTF8STRING,
                                          (const unsigned char *) w->common_name, -1, -1, 0) == 1 &&
               X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1 &&
               X509_set_pubkey(x, w->key) == 1 &&
               add_extension(x, issuer, NID_basic_constraints,
                             w->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
               add_extension(x, issuer, NID_key_usage,
                             w->is_ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
               (w->is_ca || add_extension(x, issuer, NID_ext_key_usage, "clientAuth")) &&
               add_extension(x, issuer, NID_subject_key_identifier, "hash") &&
               add_extension(x, issuer, NID_authority_key_identifier, "keyid");
}

/* `issuer` NULL: it signs itself. */
static X509 *make_certificate(const Wanted *w, X509 *issuer, EVP_PKEY *issuer_key) {
        _cleanup_(X509_freep) X509 *x = X509_new();

        if (x && fill(x, issuer ?: x, w) && X509_sign(x, issuer ? issuer_key : w->key, EVP_sha384()) > 0)
                return TAKE_PTR(x);
        ERR_clear_error();
        return NULL;
}

static X509 *make_ca(const char *name, EVP_PKEY *key, uint64_t now_usec, X509 *issuer, EVP_PKEY *issuer_key) {
        int64_t now = (int64_t) (now_usec / USEC_PER_SEC);

        return make_certificate(&(Wanted){ .common_name = name,
                                           .key = key,
                                           .is_ca = true,
                                           .from_sec = now - CA_LIFE_SEC,
                                           .until_sec = now + CA_LIFE_SEC },
                                issuer, issuer_key);
}

int issuer_new(uint64_t now_usec, Issuer **ret) {
        Issuer *i = calloc(1, sizeof(*i));

        if (!i)
                return -ENOMEM;
        i->root_key = EVP_EC_gen("P-384");
        i->key = EVP_EC_gen("P-384");
        if (i->root_key && i->key)
                i->root = make_ca("dps-emulator credential root", i->root_key, now_usec, NULL, NULL);
        if (i->root)
                i->intermediate =
                        make_ca("dps-emulator credential CA", i->key, now_usec, i->root, i->root_key);
        if (!i->intermediate) {
                issuer_free(i);
                return -ENOMEM;
        }

        *ret = i;
        return 0;
}

Issuer *issuer_free(Issuer *i) {
        if (!i)
                return NULL;

        X509_free(i->root);
        X509_free(i->intermediate);
        EVP_PKEY_free(i->root_key);
        EVP_PKEY_free(i->key);
        free(i);
        return NULL;
}

/* --- the request ---------------------------------------------------------------------------------------- */

static int refuse(uint32_t code, const char *why, uint32_t *ret_code, const char **ret_why) {
        *ret_code = code;
        *ret_why = why;
        return -EBADMSG;
}

static bool key_is_taken(EVP_PKEY *key) {
        char group[32] = "";

        if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
                return EVP_PKEY_get_bits(key) >= RSA_BITS_MIN;
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
               EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
               (streq(group, "prime256v1") || streq(group, "P-256") || streq(group, "secp384r1") ||
                streq(group, "P-384"));
}

static bool name_is(const X509_REQ *request, const char *registration_id) {
        const X509_NAME *name = X509_REQ_get_subject_name(request);
        int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
        const ASN1_STRING *text = at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));

        return text && (size_t) ASN1_STRING_length(text) == strlen(registration_id) &&
               strncasecmp((const char *) ASN1_STRING_get0_data(text), registration_id,
                           strlen(registration_id)) == 0;
}

static int read_request(const char *csr, const char *registration_id, X509_REQ **ret, uint32_t *ret_code,
                        const char **ret_why) {
        _cleanup_(X509_REQ_freep) X509_REQ *request = NULL;
        _cleanup_(freep) uint8_t *der = NULL;
        const unsigned char *p;
        size_t size;
        int r;

        if (strstr(csr, "-----BEGIN"))
                return refuse(400012, "Deserialization error: csr must be base64 of DER.", ret_code, ret_why);
        r = dps_base64_decode(csr, strlen(csr), &der, &size);
        if (r == -ENOMEM)
                return r;
        p = der;
        request = r < 0 ? NULL : d2i_X509_REQ(NULL, &p, (long) size);
        ERR_clear_error();
        if (r < 0)
                return refuse(400012, "Deserialization error: csr is not base64.", ret_code, ret_why);
        if (!request || p != der + size || X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) != 1)
                return refuse(400040, "The CSR is not PKCS#10 with a good signature.", ret_code, ret_why);
        if (!name_is(request, registration_id))
                return refuse(400040, "The common name of the CSR is not the registration id.", ret_code,
                              ret_why);
        if (!key_is_taken(X509_REQ_get0_pubkey(request)))
                return refuse(400040, "The key of the CSR must be RSA 2048, P-256 or P-384.", ret_code,
                              ret_why);

        *ret = TAKE_PTR(request);
        return 0;
}

/* --- the chain ------------------------------------------------------------------------------------------ */

static int add_certificate(char ***chain, X509 *x, bool is_pem) {
        _cleanup_(BIO_freep) BIO *bio = BIO_new(BIO_s_mem());
        char *data, *text;
        long n;

        if (!bio || (is_pem ? PEM_write_bio_X509(bio, x) : i2d_X509_bio(bio, x)) != 1)
                return -ENOMEM;
        n = BIO_get_mem_data(bio, &data);
        if (n <= 0 || dps_base64_encode(data, (size_t) n, &text) < 0)
                return -ENOMEM;
        return strv_push(chain, text);
}

/* The order of what is sent, and how much of it. */
static int add_chain(const Issuer *i, const IssuancePolicy *policy, X509 *leaf, char ***chain) {
        X509 *const whole[] = { leaf, i->intermediate, i->root };
        size_t n = policy->variant == ISSUED_LEAF ? 1 : policy->variant == ISSUED_WITHOUT_ROOT ? 2 : 3;
        int r = 0;

        for (size_t k = 0; r >= 0 && k < n; k++)
                r = add_certificate(chain, whole[policy->variant == ISSUED_ROOT_FIRST ? n - 1 - k : k],
                                    policy->variant == ISSUED_PEM);
        return r;
}

static int add_stranger(uint64_t now_usec, char ***chain) {
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
        _cleanup_(X509_freep) X509 *stranger = key ? make_ca("a stranger", key, now_usec, NULL, NULL) : NULL;

        return stranger ? add_certificate(chain, stranger, false) : -ENOMEM;
}

int issuer_issue(const Issuer *i, const IssuancePolicy *policy, const char *csr, const char *registration_id,
                 uint64_t now_usec, char ***ret, uint32_t *ret_code, const char **ret_why) {
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *foreign = NULL;
        _cleanup_(X509_REQ_freep) X509_REQ *request = NULL;
        _cleanup_(X509_freep) X509 *leaf = NULL;
        _cleanup_(strv_freep) char **chain = NULL;
        int64_t now = (int64_t) (now_usec / USEC_PER_SEC);
        Wanted wanted = { .common_name =
                                  policy->variant == ISSUED_OTHER_NAME ? "somebody-else" : registration_id,
                          .from_sec = now - HOUR_SEC,
                          .until_sec = policy->variant == ISSUED_EXPIRED
                                               ? now - 1
                                               : now + (int64_t) policy->lifetime_sec };
        int r;

        r = read_request(csr, registration_id, &request, ret_code, ret_why);
        if (r < 0)
                return r;
        wanted.key = X509_REQ_get0_pubkey(request);
        if (policy->variant == ISSUED_FOREIGN_KEY)
                wanted.key = foreign = EVP_EC_gen("P-256");
        leaf = wanted.key ? make_certificate(&wanted, i->intermediate, i->key) : NULL;
        if (!leaf)
                return -ENOMEM;
        r = add_chain(i, policy, leaf, &chain);
        if (r >= 0 && policy->variant == ISSUED_BROKEN)
                r = add_stranger(now_usec, &chain);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(chain);
        return 0;
}

bool issuer_knows(const Issuer *i, X509 *certificate, uint64_t now_usec) {
        time_t now = (time_t) (now_usec / USEC_PER_SEC);

        return i && X509_check_issued(i->intermediate, certificate) == X509_V_OK &&
               X509_verify(certificate, i->key) == 1 &&
               X509_cmp_time(X509_get0_notAfter(certificate), &now) > 0;
}
