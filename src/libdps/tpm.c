/* SPDX-License-Identifier: MIT */
#include "dps/tpm.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "basic/cleanup.h"
#include "dps/key.h"

int dps_tpm_registration_id(const void *endorsement_key, size_t size,
                            char ret[DPS_TPM_REGISTRATION_ID_SIZE]) {
        static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
        uint8_t hash[SHA256_DIGEST_LENGTH];
        uint32_t bits = 0;
        unsigned n_bits = 0;
        size_t n = 0;

        if (!SHA256(endorsement_key, size, hash))
                return -EIO;

        for (size_t k = 0; k < sizeof(hash); k++) {
                bits = bits << 8 | hash[k];
                for (n_bits += 8; n_bits >= 5; n_bits -= 5)
                        ret[n++] = digits[bits >> (n_bits - 5) & 31];
        }
        ret[n++] = digits[bits << (5 - n_bits) & 31]; /* 256 is no multiple of 5: one bit is left */
        ret[n] = 0;
        return 0;
}

/* Takes the next part off the rest of the data. */
static int take_part(DpsTpmPart *rest, DpsTpmPart *ret) {
        size_t size;

        if (rest->size < 2)
                return -EBADMSG;
        size = (size_t) rest->data[0] << 8 | rest->data[1];
        if (size == 0 || size > rest->size - 2)
                return -EBADMSG;

        *ret = (DpsTpmPart){ rest->data + 2, size };
        *rest = (DpsTpmPart){ rest->data + 2 + size, rest->size - 2 - size };
        return 0;
}

int dps_tpm_key_split(const char *base64, DpsTpmKey *ret) {
        _cleanup_(dps_tpm_key_done) DpsTpmKey key = { 0 };
        DpsTpmPart *parts[] = { &key.credential, &key.credential_secret, &key.duplicate, &key.duplicate_seed,
                                &key.public_area };
        DpsTpmPart rest = { 0 };
        int r;

        r = dps_base64_decode(base64, strlen(base64), &key.data, &rest.size);
        if (r < 0)
                return r;
        rest.data = key.data;
        for (size_t k = 0; k < ELEMENTSOF(parts); k++) {
                r = take_part(&rest, parts[k]);
                if (r < 0)
                        return r;
        }

        *ret = key;
        key = (DpsTpmKey){ 0 };
        return 0;
}

void dps_tpm_key_done(DpsTpmKey *key) {
        free(key->data);
        *key = (DpsTpmKey){ 0 };
}
