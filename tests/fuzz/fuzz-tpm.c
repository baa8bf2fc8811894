/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "dps/key.h"
#include "dps/tpm.h"
#include "fuzz.h"

static void check_part(const DpsTpmPart *part, const uint8_t **at, const uint8_t *end) {
        PROMISE(part->data == *at + 2 && part->size > 0 && part->size <= (size_t) (end - part->data));
        *at = part->data + part->size;
}

/* Input: the decoded bytes of an authentication key. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(dps_tpm_key_done) DpsTpmKey key = { 0 };
        _cleanup_(freep) char *text = NULL;
        char id[DPS_TPM_REGISTRATION_ID_SIZE];
        const uint8_t *at;
        int r;

        PROMISE(dps_tpm_registration_id(data, size, id) == 0);
        PROMISE(strlen(id) == sizeof(id) - 1);

        PROMISE(dps_base64_encode(data, size, &text) == 0);
        r = dps_tpm_key_split(text, &key);
        if (r < 0) {
                PROMISE(r == -EBADMSG && !key.data);
                return 0;
        }

        at = key.data;
        check_part(&key.credential, &at, key.data + size);
        check_part(&key.credential_secret, &at, key.data + size);
        check_part(&key.duplicate, &at, key.data + size);
        check_part(&key.duplicate_seed, &at, key.data + size);
        check_part(&key.public_area, &at, key.data + size);
        return 0;
}
