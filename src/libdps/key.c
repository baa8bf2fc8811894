/* SPDX-License-Identifier: MIT */
#include "dps/key.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <string.h>

#include "basic/cleanup.h"

/* ---- base64 ---- */

int dps_base64_encode(const void *data, size_t size, char **ret) {
        char *text;

        if (size > INT_MAX / 2)
                return -EFBIG;

        text = malloc((size + 2) / 3 * 4 + 1);
        if (!text)
                return -ENOMEM;
        EVP_EncodeBlock((unsigned char *) text, data, (int) size);

        *ret = text;
        return 0;
}

static bool is_base64_digit(char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
               c == '/';
}

/* EVP_DecodeBlock() is too tolerant: it skips white space, and accepts '=' anywhere. */
static bool is_base64(const char *text, size_t size, size_t *ret_n_padding) {
        size_t n_padding = 0;

        if (size % 4 != 0)
                return false;
        while (n_padding < 2 && n_padding < size && text[size - 1 - n_padding] == '=')
                n_padding++;
        for (size_t k = 0; k < size - n_padding; k++)
                if (!is_base64_digit(text[k]))
                        return false;

        *ret_n_padding = n_padding;
        return true;
}

int dps_base64_decode(const char *text, size_t size, uint8_t **ret, size_t *ret_size) {
        size_t n_padding = 0;
        uint8_t *data;

        if (size > INT_MAX / 2 || !is_base64(text, size, &n_padding))
                return -EBADMSG;

        data = malloc(size / 4 * 3 + 1);
        if (!data)
                return -ENOMEM;
        if (size > 0 && EVP_DecodeBlock(data, (const unsigned char *) text, (int) size) < 0) {
                free(data);
                return -EBADMSG;
        }

        *ret = data;
        *ret_size = size / 4 * 3 - n_padding;
        return 0;
}

/* ---- keys ---- */

typedef struct Secret {
        uint8_t *data;
        size_t size;
} Secret;

static void secret_done(Secret *s) {
        if (s->data)
                OPENSSL_cleanse(s->data, s->size);
        free(s->data);
}

int dps_key_from_base64(const char *text, DpsKey *ret) {
        _cleanup_(secret_done) Secret secret = { 0 };
        size_t size;
        int r;

        while (isspace((unsigned char) *text))
                text++;
        for (size = strlen(text); size > 0 && isspace((unsigned char) text[size - 1]);)
                size--;

        r = dps_base64_decode(text, size, &secret.data, &secret.size);
        if (r < 0)
                return r;
        if (secret.size < DPS_KEY_SIZE_MIN || secret.size > DPS_KEY_SIZE_MAX)
                return -ERANGE;

        *ret = (DpsKey){ .size = secret.size };
        memcpy(ret->bytes, secret.data, secret.size);
        return 0;
}

int dps_key_to_base64(const DpsKey *key, char **ret) {
        return dps_base64_encode(key->bytes, key->size, ret);
}

int dps_key_sign(const DpsKey *key, const void *data, size_t size, uint8_t ret[DPS_HMAC_SIZE]) {
        unsigned n = DPS_HMAC_SIZE;

        if (!HMAC(EVP_sha256(), key->bytes, (int) key->size, data, size, ret, &n) || n != DPS_HMAC_SIZE)
                return -EIO;
        return 0;
}

int dps_key_derive(const DpsKey *group_key, const char *registration_id, DpsKey *ret) {
        DpsKey key = { .size = DPS_HMAC_SIZE };
        int r;

        r = dps_key_sign(group_key, registration_id, strlen(registration_id), key.bytes);
        if (r >= 0)
                *ret = key;
        dps_key_done(&key);
        return r;
}

void dps_key_done(DpsKey *key) {
        if (key)
                OPENSSL_cleanse(key, sizeof(*key));
}
