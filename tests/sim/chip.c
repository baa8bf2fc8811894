/* SPDX-License-Identifier: MIT */
#include "chip.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "basic/text.h"
#include "credential/credential-class.h"
#include "dps/sas.h"
#include "dps/tpm.h"
#include "hang.h"
#include "memory.h"

/*
 * One RSA key is the endorsement key and the storage root key of all of them. What a TPM does with the parts of an
 * authentication key is done here in the other direction than in emulator/tpm-challenge.c, and without the checks
 * of integrity: the real ones are tried in tests/integration/test_tpm.py. Nobody has the private half of the RSA key.
 * Decrypting with it was a seventh of the whole simulation, so what the emulator would encrypt is remembered instead.
 */

#define RSA_SIZE 256
#define SEED_SIZE 32
#define SEEDS_MAX 256 /* each challenge has two, and is answered before many others are sent, or not at all */

static char *public_key;
static bool is_absent;

static struct {
        DpsKey hub; /* its size is 0: there is none */
        unsigned generation;
} chips[IDENTITIES_MAX];

typedef struct ChipKey {
        Credential credential;
        unsigned k, generation;
        DpsKey one_time; /* of a challenge; its size is 0: the key for the hub is used */
} ChipKey;

bool chip_is_of(unsigned k) {
        return k % 4 == 3;
}

/* A modulus has its highest bit, and is odd. */
static void make_public_key(void) {
        static const uint8_t head[] = { 0x01, 0x1a, 0x00, 0x01, 0x00, 0x0b, 0x00, 0x03, 0x04, 0x72,
                                        0x00, 0x00, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10,
                                        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00 };
        uint8_t area[sizeof(head) + RSA_SIZE];

        memcpy(area, head, sizeof(head));
        for (size_t k = 0; k < RSA_SIZE; k++)
                area[sizeof(head) + k] = (uint8_t) (0xb5 + 38 * k * k);
        area[sizeof(area) - 1] |= 1;
        if (dps_base64_encode(area, sizeof(area), &public_key) < 0)
                abort();
}

const char *chip_endorsement_key(void) {
        if (!public_key)
                make_public_key();
        return public_key;
}

/* ---- opening what the service sent ---- */

static struct { uint8_t encrypted[RSA_SIZE], plain[SEED_SIZE]; } seeds[SEEDS_MAX];

#pragma GCC visibility push(default)
int __wrap_EVP_PKEY_encrypt(EVP_PKEY_CTX *c, uint8_t *ret, size_t *size, const uint8_t *plain, size_t n);
#pragma GCC visibility pop

int __wrap_EVP_PKEY_encrypt(EVP_PKEY_CTX *c, uint8_t *ret, size_t *size, const uint8_t *plain, size_t n) {
        static uint64_t n_seeds;

        if (*size != RSA_SIZE || n != SEED_SIZE)
                abort();
        memset(ret, 0xa5, RSA_SIZE);
        memcpy(ret, &n_seeds, sizeof(n_seeds));
        memcpy(seeds[n_seeds % SEEDS_MAX].encrypted, ret, RSA_SIZE);
        memcpy(seeds[n_seeds++ % SEEDS_MAX].plain, plain, SEED_SIZE);
        return 1;
}

static bool decrypt_seed(const DpsTpmPart *part, uint8_t ret[SEED_SIZE]) {
        for (unsigned k = 0; k < SEEDS_MAX; k++)
                if (part->size == RSA_SIZE && memcmp(seeds[k].encrypted, part->data, RSA_SIZE) == 0) {
                        memcpy(ret, seeds[k].plain, SEED_SIZE);
                        return true;
                }
        return false;
}

static void decrypt(const uint8_t key[16], const uint8_t *data, size_t size, uint8_t *ret) {
        static const uint8_t iv[16];
        EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
        int n;

        if (!c || EVP_DecryptInit_ex(c, EVP_aes_128_cfb128(), NULL, key, iv) != 1 ||
            EVP_DecryptUpdate(c, ret, &n, data, (int) size) != 1)
                abort();
        EVP_CIPHER_CTX_free(c);
}

/* KDFa for AES: "STORAGE" and the name of the object. */
static void storage_key(const uint8_t seed[SEED_SIZE], const uint8_t *area, size_t size, uint8_t ret[16]) {
        uint8_t text[4 + 8 + 34 + 4] = { 0, 0, 0, 1, 'S', 'T', 'O', 'R', 'A', 'G', 'E', 0, 0x00, 0x0b },
                                  hash[32];
        unsigned n = sizeof(hash);

        (void) EVP_Digest(area, size, text + 14, NULL, EVP_sha256(), NULL);
        text[sizeof(text) - 1] = 128;
        if (!HMAC(EVP_sha256(), seed, SEED_SIZE, text, sizeof(text), hash, &n))
                abort();
        memcpy(ret, hash, 16);
}

/* All sizes are those of the emulator: an integrity of 32 bytes behind its size stands before what is encrypted. */
static bool unwrap(const DpsTpmKey *k, DpsKey *ret) {
        uint8_t seed[SEED_SIZE], aes[16], inner_key[18], inner[256], sensitive[256], *srk;
        size_t srk_size, size = k->duplicate.size - 34;

        if (k->credential.size != 52 || k->duplicate.size != 142 || size > sizeof(inner) ||
            dps_base64_decode(public_key, strlen(public_key), &srk, &srk_size) < 0)
                return false;
        if (!decrypt_seed(&k->credential_secret, seed)) {
                free(srk);
                return false;
        }
        storage_key(seed, srk + 2, srk_size - 2, aes);
        free(srk);
        decrypt(aes, k->credential.data + 34, sizeof(inner_key), inner_key);
        if (!decrypt_seed(&k->duplicate_seed, seed))
                return false;
        storage_key(seed, k->public_area.data, k->public_area.size, aes);
        decrypt(aes, k->duplicate.data + 34, size, inner);
        decrypt(inner_key + 2, inner, size, sensitive);
        *ret = (DpsKey){ .size = 32 };
        memcpy(ret->bytes, sensitive + size - 32, 32);
        return true;
}

/* ---- the class ---- */

static int absent(DpsError *error) {
        dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the chip is not there");
        return -ENODEV;
}

static unsigned chip_count(const Settings *s) {
        return 1;
}

static void set_fingerprint(ChipKey *c) {
        static TpmKeys keys;

        keys = (TpmKeys){ public_key, public_key, (char *) "id" };
        c->generation = chips[c->k].generation;
        c->credential.lacks_hub_key = chips[c->k].hub.size == 0;
        c->credential.tpm_keys = &keys;
        (void) snprintf(c->credential.fingerprint, sizeof(c->credential.fingerprint), "%032x%032x", c->k + 1,
                        c->generation);
}

static int chip_load(Credential *credential, const CredentialSource *source, DpsError *error) {
        ChipKey *c = (ChipKey *) credential;
        const char *number = source->settings->name + strcspn(source->settings->name, "0123456789");
        int r;

        c->k = (unsigned) strtoul(number, NULL, 10) % IDENTITIES_MAX;
        r = hang_enter(c->k, false, error);
        if (r < 0)
                return r;
        if (is_absent)
                return absent(error);
        set_fingerprint(c);
        return 0;
}

static int chip_answer(const Credential *credential, const char *authentication_key, bool keep,
                       Credential *answered, DpsError *error) {
        ChipKey *c = (ChipKey *) answered;
        DpsTpmKey key;
        int r;

        c->k = ((const ChipKey *) credential)->k;
        r = hang_enter(c->k, true, error);
        if (r < 0)
                return r;
        if (is_absent)
                return absent(error);
        r = dps_tpm_key_split(authentication_key, &key);
        if (r >= 0 && !unwrap(&key, &c->one_time))
                r = -EBADMSG;
        if (r >= 0)
                dps_tpm_key_done(&key);
        if (r < 0) {
                dps_error_set(error, r == -ENOMEM ? DPS_ERROR_MEMORY : DPS_ERROR_PROTOCOL, DPS_STEP_ATTEST,
                              "the key cannot be taken");
                return r;
        }
        if (keep) {
                chips[c->k].hub = c->one_time;
                chips[c->k].generation++;
                c->one_time.size = 0;
        }
        set_fingerprint(c);
        return 0;
}

static int chip_sign(const Credential *credential, const char *resource, uint64_t expiry_sec,
                     const char *policy, char **ret, DpsError *error) {
        const ChipKey *c = (const ChipKey *) credential;
        const DpsKey *key = c->one_time.size > 0 ? &c->one_time : &chips[c->k].hub;
        int r = hang_enter(c->k, true, error);

        if (r < 0)
                return r;
        if (is_absent)
                return absent(error);
        if (key->size == 0 || (c->one_time.size == 0 && c->generation != chips[c->k].generation)) {
                dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the key is not in the chip");
                return -EAGAIN;
        }
        r = dps_sas_new(key, resource, expiry_sec, policy, ret);
        if (r < 0)
                dps_error_set(error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "out of memory");
        return r;
}

static void chip_done(Credential *c) {
}

void chips_init(void) {
        static const CredentialClass class = { .method = METHOD_TPM,
                                               .size = sizeof(ChipKey),
                                               .is_slow = true,
                                               .count = chip_count,
                                               .load = chip_load,
                                               .sign = chip_sign,
                                               .answer = chip_answer,
                                               .done = chip_done };

        (void) chip_endorsement_key();
        memset(chips, 0, sizeof(chips));
        is_absent = false;
        credential_set_class(METHOD_TPM, &class);
}

void chips_set_absent(bool absent_now) {
        is_absent = absent_now;
}

void chip_clear(unsigned k) {
        chips[k].hub.size = 0;
        chips[k].generation++;
}
