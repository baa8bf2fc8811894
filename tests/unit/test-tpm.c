/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "basic/cleanup.h"
#include "dps/key.h"
#include "dps/tpm.h"

/* An endorsement key that was published with the id that Microsoft's tools made of it. */
#define ENDORSEMENT_KEY                                                                                      \
        "AToAAQALAAMAsgAgg3GXZ0SEs/"                                                                         \
        "gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAopqgkUBwtpr1sCgVJcEZ"                         \
        "xsJtpmtOAt9K7SjGFe4hsp6DJ/"                                                                         \
        "dd2E5UFzBC+Jp8Fzqf5ukRBkqrAgIuAvHRsruIedk1uarJSLhbDpFLHxFd7iDNcYfrvdgVNT2T"                         \
        "9zrvkh2y04WuRQg2D5qf0tZF82jeTjR/YJK7uWhaRwWOwZ3b1XD9l6wFOrwK/"                                      \
        "Ic0PEsjneFXQzL0n9uKyuHmHNz+wHppmOiMAabv"                                                            \
        "nXXEin9ou7/iowY/+YhFm3j7atsVvxMI5HEM3Mq+W4imUuzPxVX7fZH+oWPKP5ofpWBTf+MdttGby1AjGnv8JE69JriOYoZG2/" \
        "4q"                                                                                                 \
        "bsfv9M7a7NFrBlaW7Rt36w=="

static void test_the_default_registration_id_is_of_the_endorsement_key(void **state) {
        _cleanup_(freep) uint8_t *key = NULL;
        char id[DPS_TPM_REGISTRATION_ID_SIZE];
        size_t size;

        assert_int_equal(dps_base64_decode(ENDORSEMENT_KEY, strlen(ENDORSEMENT_KEY), &key, &size), 0);
        assert_int_equal(size, 316);
        assert_int_equal(dps_tpm_registration_id(key, size, id), 0);
        assert_string_equal(id, "6rek5qncnygnkzflohxz4u6zlfly6ktm4klsc7xrbgvesqyllnfa");
}

/* ---- authentication keys ---- */

#define PARTS 6
#define UNCHANGED (-1)

static const struct key_case {
        const char *promise;
        int sizes[PARTS]; /* of the parts */
        int part;         /* the size of this part is … */
        int told;         /* … told like this */
        int cut, added;   /* bytes at the end */
        int r;
} key_cases[] = {
        { "a key of DPS is split", { 52, 256, 142, 256, 48, 180 }, 0, UNCHANGED, 0, 0, 0 },
        { "the sixth part may be empty", { 52, 256, 142, 256, 48, 0 }, 0, UNCHANGED, 0, 0, 0 },
        { "the sixth part may be missing", { 52, 256, 142, 256, 48, 0 }, 0, UNCHANGED, 2, 0, 0 },
        { "the sixth part may lie about its size", { 52, 256, 142, 256, 48, 10 }, 5, 65535, 0, 0, 0 },
        { "bytes at the end are ignored", { 52, 256, 142, 256, 48, 0 }, 0, UNCHANGED, 0, 100, 0 },
        { "small parts are parts", { 1, 1, 1, 1, 1, 1 }, 0, UNCHANGED, 0, 0, 0 },
        { "the largest parts are parts", { 1, 2, 65535, 4, 5, 0 }, 0, UNCHANGED, 0, 0, 0 },
        { "the first part is empty", { 0, 256, 142, 256, 48, 0 }, 0, UNCHANGED, 0, 0, -EBADMSG },
        { "the last part is empty", { 52, 256, 142, 256, 0, 0 }, 0, UNCHANGED, 0, 0, -EBADMSG },
        { "the first part is longer than all", { 52, 256, 142, 256, 48, 0 }, 0, 65535, 0, 0, -EBADMSG },
        { "the second part is longer than the rest", { 52, 256, 142, 256, 48, 0 }, 1, 453, 0, 0, -EBADMSG },
        { "the fifth part is a byte too long", { 52, 256, 142, 256, 48, 0 }, 4, 51, 0, 0, -EBADMSG },
        { "the fifth part is a byte short", { 52, 256, 142, 256, 48, 0 }, 0, UNCHANGED, 3, 0, -EBADMSG },
        { "half a size is left for the fifth part",
          { 52, 256, 142, 256, 48, 0 },
          0,
          UNCHANGED,
          51,
          0,
          -EBADMSG },
        { "nothing is left for the fifth part", { 52, 256, 142, 256, 48, 0 }, 0, UNCHANGED, 52, 0, -EBADMSG },
        { "one byte is no key", { 1, 0, 0, 0, 0, 0 }, 0, UNCHANGED, 12, 0, -EBADMSG },
};

static size_t build(const struct key_case *c, uint8_t *ret) {
        size_t n = 0;

        for (int k = 0; k < PARTS; k++) {
                int told = k == c->part && c->told != UNCHANGED ? c->told : c->sizes[k];

                ret[n++] = (uint8_t) (told >> 8);
                ret[n++] = (uint8_t) told;
                memset(ret + n, 'a' + k, (size_t) c->sizes[k]);
                n += (size_t) c->sizes[k];
        }
        n -= (size_t) c->cut;
        memset(ret + n, 0xff, (size_t) c->added);
        return n + (size_t) c->added;
}

static void check_key(void **state) {
        static uint8_t bytes[70000];
        const struct key_case *c = *state;
        _cleanup_(dps_tpm_key_done) DpsTpmKey key = { 0 };
        const DpsTpmPart *parts[] = { &key.credential, &key.credential_secret, &key.duplicate,
                                      &key.duplicate_seed, &key.public_area };
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(dps_base64_encode(bytes, build(c, bytes), &text), 0);
        assert_int_equal(dps_tpm_key_split(text, &key), c->r);
        if (c->r < 0) {
                assert_null(key.data);
                return;
        }
        for (size_t k = 0; k < ELEMENTSOF(parts); k++) {
                assert_int_equal(parts[k]->size, c->sizes[k]);
                assert_int_equal(parts[k]->data[0], 'a' + k);
                assert_int_equal(parts[k]->data[parts[k]->size - 1], 'a' + k);
        }
}

static void test_what_is_not_base64_is_no_key(void **state) {
        DpsTpmKey key = { 0 };

        assert_int_equal(dps_tpm_key_split("", &key), -EBADMSG);
        assert_int_equal(dps_tpm_key_split("A", &key), -EBADMSG);
        assert_int_equal(dps_tpm_key_split("AA A", &key), -EBADMSG);
        assert_int_equal(dps_tpm_key_split("=AAA", &key), -EBADMSG);
        assert_null(key.data);
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(key_cases) + 2] = {
                cmocka_unit_test(test_the_default_registration_id_is_of_the_endorsement_key),
                cmocka_unit_test(test_what_is_not_base64_is_no_key),
        };

        for (size_t k = 0; k < ELEMENTSOF(key_cases); k++)
                tests[k + 2] = (struct CMUnitTest){ .name = key_cases[k].promise,
                                                    .test_func = check_key,
                                                    .initial_state = (void *) &key_cases[k] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
