/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "basic/cleanup.h"
#include "dps/key.h"
#include "fuzz.h"

static void check_base64(const char *text, size_t size) {
        _cleanup_(freep) uint8_t *bytes = NULL, *again = NULL;
        _cleanup_(freep) char *encoded = NULL;
        size_t n, n_again;
        int r;

        r = dps_base64_decode(text, size, &bytes, &n);
        if (r < 0) {
                PROMISE(r == -EBADMSG);
                return;
        }

        PROMISE(n <= size / 4 * 3);
        PROMISE(dps_base64_encode(bytes, n, &encoded) == 0);
        PROMISE(strlen(encoded) == size);
        PROMISE(dps_base64_decode(encoded, size, &again, &n_again) == 0);
        PROMISE(n_again == n && memcmp(again, bytes, n) == 0);
}

/* Input: the text of a key, as a file or a credential holds it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(dps_key_done) DpsKey key = { .size = 1 }, again = { 0 }, device = { 0 };
        _cleanup_(freep) char *text = fuzz_text(data, size), *encoded = NULL;
        int r;

        check_base64((const char *) data, size);
        r = dps_key_from_base64(text, &key);
        if (r < 0) {
                PROMISE(r == -EBADMSG || r == -ERANGE);
                PROMISE(key.size == 1);
                return 0;
        }

        PROMISE(key.size >= DPS_KEY_SIZE_MIN && key.size <= DPS_KEY_SIZE_MAX);
        PROMISE(dps_key_to_base64(&key, &encoded) == 0);
        PROMISE(dps_key_from_base64(encoded, &again) == 0);
        PROMISE(again.size == key.size && memcmp(again.bytes, key.bytes, key.size) == 0);
        PROMISE(dps_key_derive(&key, "gw-1", &device) == 0 && device.size == DPS_HMAC_SIZE);
        return 0;
}
