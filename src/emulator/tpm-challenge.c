/* SPDX-License-Identifier: MIT */
#include "emulator/tpm-challenge.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/json.h"
#include "emulator/reader.h"

/*
 * The structures are those of "Trusted Platform Module Library", part 1 (credential protection, duplication) and
 * part 2. All integers are big-endian, all AES is CFB with an IV of 0, and all hashes are SHA-256:
 *
 *      1  TPM2B_ID_OBJECT          integrity, and the inner key for 3: encrypted by seed 1
 *      2  TPM2B_ENCRYPTED_SECRET   seed 1: encrypted for the endorsement key
 *      3  TPM2B_PRIVATE            integrity, and the HMAC key: encrypted by seed 2 and by the inner key
 *      4  TPM2B_ENCRYPTED_SECRET   seed 2: encrypted for the storage root key
 *      5  TPM2B_PUBLIC             of the HMAC key
 *      6  empty
 */

#define HASH SHA256_DIGEST_LENGTH
#define AES_SIZE 16
#define RSA_SIZE 256
#define KEY_SIZE 32
#define NAME_SIZE (2 + HASH)

#define ALG_RSA 0x0001
#define ALG_KEYEDHASH 0x0008
#define ALG_SHA256 0x000b
#define ALG_HMAC 0x0005
#define ATTRIBUTES 0x00040440U /* sign, noDA, userWithAuth */

/* ---- bytes ---- */

/* The sizes of all that is built here are fixed, and far below this. */
typedef struct Bytes {
        uint8_t data[1600];
        size_t size;
} Bytes;

static void add(Bytes *b, const void *data, size_t size) {
        if (size > 0)
                memcpy(b->data + b->size, data, size);
        b->size += size;
}

static void add_u16(Bytes *b, unsigned n) {
        add(b, (uint8_t[]){ (uint8_t) (n >> 8), (uint8_t) n }, 2);
}

static void add_u32(Bytes *b, uint32_t n) {
        add_u16(b, n >> 16);
        add_u16(b, n & 0xffff);
}

/* With its size before it. */
static void add_sized(Bytes *b, const void *data, size_t size) {
        add_u16(b, (unsigned) size);
        add(b, data, size);
}

static void bytes_done(Bytes *b) {
        OPENSSL_cleanse(b, sizeof(*b));
}

/* ---- cryptography ---- */

static inline void ctx_freep(EVP_PKEY_CTX **c) {
        EVP_PKEY_CTX_free(*c);
}
static inline void pkey_freep(EVP_PKEY **k) {
        EVP_PKEY_free(*k);
}
static inline void cipher_freep(EVP_CIPHER_CTX **c) {
        EVP_CIPHER_CTX_free(*c);
}
static inline void builder_freep(OSSL_PARAM_BLD **b) {
        OSSL_PARAM_BLD_free(*b);
}
static inline void params_freep(OSSL_PARAM **p) {
        OSSL_PARAM_free(*p);
}
static inline void bn_freep(BIGNUM **n) {
        BN_free(*n);
}

/* KDFa of at most one hash. `ret` gets `size` bytes. */
static int derive(const uint8_t seed[HASH], const char *label, const uint8_t *context, size_t context_size,
                  uint8_t *ret, size_t size) {
        _cleanup_(bytes_done) Bytes b = { 0 };
        uint8_t hmac[HASH];
        unsigned n = HASH;

        add_u32(&b, 1);
        add(&b, label, strlen(label) + 1);
        add(&b, context, context_size);
        add_u32(&b, (uint32_t) size * 8);
        if (!HMAC(EVP_sha256(), seed, HASH, b.data, b.size, hmac, &n))
                return -EIO;
        memcpy(ret, hmac, size);
        OPENSSL_cleanse(hmac, sizeof(hmac));
        return 0;
}

static int encrypt_bytes(const uint8_t key[AES_SIZE], Bytes *b) {
        _cleanup_(cipher_freep) EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
        static const uint8_t iv[AES_SIZE];
        int n;

        if (!c || EVP_EncryptInit_ex(c, EVP_aes_128_cfb128(), NULL, key, iv) != 1 ||
            EVP_EncryptUpdate(c, b->data, &n, b->data, (int) b->size) != 1 || (size_t) n != b->size)
                return -EIO;
        return 0;
}

/* Encrypts `inside` by the seed, and puts the integrity before it. `name`: of the object that it is bound to. */
static int protect(const uint8_t seed[HASH], const uint8_t name[NAME_SIZE], Bytes *inside, Bytes *ret) {
        uint8_t aes[AES_SIZE], key[HASH], hmac[HASH];
        _cleanup_(bytes_done) Bytes covered = { 0 };
        unsigned n = HASH;
        int r;

        if ((r = derive(seed, "STORAGE", name, NAME_SIZE, aes, sizeof(aes))) < 0 ||
            (r = encrypt_bytes(aes, inside)) < 0 ||
            (r = derive(seed, "INTEGRITY", NULL, 0, key, sizeof(key))) < 0)
                return r;
        add(&covered, inside->data, inside->size);
        add(&covered, name, NAME_SIZE);
        if (!HMAC(EVP_sha256(), key, sizeof(key), covered.data, covered.size, hmac, &n))
                return -EIO;

        add_sized(ret, hmac, sizeof(hmac));
        add(ret, inside->data, inside->size);
        OPENSSL_cleanse(aes, sizeof(aes));
        OPENSSL_cleanse(key, sizeof(key));
        return 0;
}

static int hash(const void *data, size_t size, uint8_t ret[HASH]) {
        return SHA256(data, size, ret) ? 0 : -EIO;
}

/* Of a public area without its size. */
static int name_of(const uint8_t *area, size_t size, uint8_t ret[NAME_SIZE]) {
        ret[0] = ALG_SHA256 >> 8;
        ret[1] = ALG_SHA256 & 0xff;
        return hash(area, size, ret + 2);
}

static EVP_PKEY *rsa_key(const TpmPublic *p) {
        _cleanup_(ctx_freep) EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        _cleanup_(bn_freep) BIGNUM *n = BN_bin2bn(p->bytes + p->size - RSA_SIZE, RSA_SIZE, NULL);
        _cleanup_(bn_freep) BIGNUM *e = BN_new();
        _cleanup_(builder_freep) OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
        _cleanup_(params_freep) OSSL_PARAM *params = NULL;
        EVP_PKEY *key = NULL;

        if (!c || !n || !e || !b || !BN_set_word(e, RSA_F4) ||
            !OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) ||
            !OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e))
                return NULL;
        params = OSSL_PARAM_BLD_to_param(b);
        if (!params || EVP_PKEY_fromdata_init(c) <= 0 ||
            EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
                return NULL;
        return key;
}

/* OAEP; the NUL byte belongs to the label. */
static int encrypt_seed(const TpmPublic *p, const char *label, const uint8_t seed[HASH],
                        uint8_t ret[RSA_SIZE]) {
        _cleanup_(pkey_freep) EVP_PKEY *key = rsa_key(p);
        _cleanup_(ctx_freep) EVP_PKEY_CTX *c = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
        size_t label_size = strlen(label) + 1, size = RSA_SIZE;
        void *owned = OPENSSL_memdup(label, label_size);

        if (!c || !owned || EVP_PKEY_encrypt_init(c) <= 0 ||
            EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) <= 0 ||
            EVP_PKEY_CTX_set_rsa_oaep_md(c, EVP_sha256()) <= 0 ||
            EVP_PKEY_CTX_set_rsa_mgf1_md(c, EVP_sha256()) <= 0 ||
            EVP_PKEY_CTX_set0_rsa_oaep_label(c, owned, (int) label_size) <= 0) {
                OPENSSL_free(owned);
                ERR_clear_error();
                return -EIO;
        }
        if (EVP_PKEY_encrypt(c, ret, &size, seed, HASH) <= 0 || size != RSA_SIZE) {
                ERR_clear_error();
                return -EIO;
        }
        return 0;
}

/* ---- public keys ---- */

static unsigned u16_at(const uint8_t *p) {
        return (unsigned) p[0] << 8 | p[1];
}

/* The modulus ends the structure, and its size stands before it. */
static bool is_rsa_2048(const TpmPublic *p) {
        return p->size > RSA_SIZE + 14 && u16_at(p->bytes) == p->size - 2 &&
               u16_at(p->bytes + 2) == ALG_RSA && u16_at(p->bytes + 4) == ALG_SHA256 &&
               u16_at(p->bytes + p->size - RSA_SIZE - 2) == RSA_SIZE;
}

int tpm_public_from_base64(const char *text, TpmPublic *ret) {
        TpmPublic p = { 0 };
        int r;

        r = dps_base64_decode(text, strlen(text), &p.bytes, &p.size);
        if (r < 0)
                return r;
        if (!is_rsa_2048(&p) || p.size > 1024) {
                tpm_public_done(&p);
                return -EBADMSG;
        }
        *ret = p;
        return 0;
}

void tpm_public_done(TpmPublic *p) {
        free(p->bytes);
        *p = (TpmPublic){ 0 };
}

/* ---- the parts ---- */

typedef struct Secrets {
        uint8_t inner_key[AES_SIZE];
        uint8_t credential_seed[HASH], duplicate_seed[HASH], seed_value[HASH];
        uint8_t key[KEY_SIZE];
} Secrets;

static void secrets_done(Secrets *s) {
        OPENSSL_cleanse(s, sizeof(*s));
}

static int add_credential(const TpmPublic *ek, const TpmPublic *srk, const Secrets *s, Bytes *ret) {
        _cleanup_(bytes_done) Bytes inside = { 0 }, whole = { 0 };
        uint8_t srk_name[NAME_SIZE], encrypted[RSA_SIZE];
        int r;

        add_sized(&inside, s->inner_key, sizeof(s->inner_key));
        if ((r = name_of(srk->bytes + 2, srk->size - 2, srk_name)) < 0 ||
            (r = protect(s->credential_seed, srk_name, &inside, &whole)) < 0 ||
            (r = encrypt_seed(ek, "IDENTITY", s->credential_seed, encrypted)) < 0)
                return r;
        add_sized(ret, whole.data, whole.size);
        add_sized(ret, encrypted, sizeof(encrypted));
        return 0;
}

static int make_public_area(const Secrets *s, Bytes *ret) {
        _cleanup_(bytes_done) Bytes secret = { 0 };
        uint8_t unique[HASH];
        int r;

        add(&secret, s->seed_value, sizeof(s->seed_value));
        add(&secret, s->key, sizeof(s->key));
        r = hash(secret.data, secret.size, unique);
        if (r < 0)
                return r;
        add_u16(ret, ALG_KEYEDHASH);
        add_u16(ret, ALG_SHA256);
        add_u32(ret, ATTRIBUTES);
        add_u16(ret, 0); /* no policy */
        add_u16(ret, ALG_HMAC);
        add_u16(ret, ALG_SHA256);
        add_sized(ret, unique, sizeof(unique));
        return 0;
}

/* The sensitive area, and its hash with the name: encrypted by the inner key. */
static int make_inner(const Secrets *s, const uint8_t name[NAME_SIZE], Bytes *ret) {
        _cleanup_(bytes_done) Bytes area = { 0 }, sized = { 0 }, covered = { 0 };
        uint8_t integrity[HASH];
        int r;

        add_u16(&area, ALG_KEYEDHASH);
        add_u16(&area, 0); /* no auth */
        add_sized(&area, s->seed_value, sizeof(s->seed_value));
        add_sized(&area, s->key, sizeof(s->key));
        add_sized(&sized, area.data, area.size);
        add(&covered, sized.data, sized.size);
        add(&covered, name, NAME_SIZE);
        r = hash(covered.data, covered.size, integrity);
        if (r < 0)
                return r;
        add_sized(ret, integrity, sizeof(integrity));
        add(ret, sized.data, sized.size);
        return encrypt_bytes(s->inner_key, ret);
}

static int add_duplicate(const TpmPublic *srk, const Secrets *s, Bytes *ret) {
        _cleanup_(bytes_done) Bytes inner = { 0 }, whole = { 0 }, area = { 0 };
        uint8_t name[NAME_SIZE], encrypted[RSA_SIZE];
        int r;

        if ((r = make_public_area(s, &area)) < 0 || (r = name_of(area.data, area.size, name)) < 0 ||
            (r = make_inner(s, name, &inner)) < 0 ||
            (r = protect(s->duplicate_seed, name, &inner, &whole)) < 0 ||
            (r = encrypt_seed(srk, "DUPLICATE", s->duplicate_seed, encrypted)) < 0)
                return r;
        add_sized(ret, whole.data, whole.size);
        add_sized(ret, encrypted, sizeof(encrypted));
        add_sized(ret, area.data, area.size);
        return 0;
}

int tpm_challenge_make(const RandomSource *random, const TpmPublic *endorsement_key,
                       const TpmPublic *storage_root_key, DpsKey *ret_key, char **ret) {
        _cleanup_(secrets_done) Secrets s;
        Bytes whole = { 0 };
        int r;

        if ((r = random->fill(&s, sizeof(s), random->userdata)) < 0 ||
            (r = add_credential(endorsement_key, storage_root_key, &s, &whole)) < 0 ||
            (r = add_duplicate(storage_root_key, &s, &whole)) < 0)
                return r;
        add_u16(&whole, 0);
        r = dps_base64_encode(whole.data, whole.size, ret);
        if (r < 0)
                return r;

        *ret_key = (DpsKey){ .size = sizeof(s.key) };
        memcpy(ret_key->bytes, s.key, sizeof(s.key));
        return 0;
}

/* ---- the challenge ---- */

TpmState *tpm_state_free(TpmState *t) {
        if (!t)
                return NULL;
        tpm_public_done(&t->storage_root_key);
        dps_key_done(&t->registration);
        dps_key_done(&t->hub);
        free(t);
        return NULL;
}

static int read_storage_root_key(const void *body, size_t size, TpmPublic *ret) {
        _cleanup_(json_freep) json_object *o = NULL;
        ErrorText ignored;
        const char *text;
        int r;

        r = json_read(body, size, &o, &ignored);
        if (r < 0)
                return r;
        text = json_string(json_member(json_member(o, "tpm"), "storageRootKey"));
        return text ? tpm_public_from_base64(text, ret) : -EBADMSG;
}

int tpm_challenge_answer(const RandomSource *random, const TpmPublic *endorsement_key, const void *body,
                         size_t size, TpmState *state, Answer *ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        _cleanup_(freep) char *key = NULL;
        TpmPublic storage_root_key;
        Answer a = { .status = 401, .word = "challenge" };
        int r;

        r = size > 0 ? read_storage_root_key(body, size, &storage_root_key) : -EBADMSG;
        if (r < 0)
                return r;
        tpm_public_done(&state->storage_root_key);
        state->storage_root_key = storage_root_key;

        if ((r = tpm_challenge_make(random, endorsement_key, &storage_root_key, &state->registration, &key)) <
                    0 ||
            (r = json_add_string(o, "message", "Authorization required, resend request using supplied key")) <
                    0 ||
            (r = json_add_string(o, "authenticationKey", key)) < 0 ||
            (r = json_add_string(o, "keyName", "registration")) < 0 || (r = json_to_text(o, &a.body)) < 0)
                return r;
        *ret = a;
        return 0;
}
