/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "dps/key.h"
#include "table.h"

#define GROUP_KEY "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
#define OTHER_GROUP_KEY                                                                                      \
        "G3vn0IZH9oK3d4wsxFpWBtd2KUrtjI+39dZVRf26To8w9OX0LaFV9yZ93ELXY7voqHEUsNhnb9bt717UP87KxA=="
#define DEVICE_KEY "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="

/* ---- derivation: vectors ---- */

static const struct derive_case {
        const char *promise, *group_key, *registration_id, *device_key;
} derive_cases[] = {
        { "the published vector derives", GROUP_KEY, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6", DEVICE_KEY },
        { "an upper-case id derives another key", GROUP_KEY, "SN-007-888-ABC-MAC-A1-B2-C3-D4-E5-F6",
          "9GWVnYuoOLXlHc346XjhLRb9pKgIOrKSwxDRSOgnvXo=" },
        { "a stray newline derives another key", GROUP_KEY, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6\n",
          "9xk+A3Y29nEzASjuakJUhcmNyb4ZjibgUKRXPMBArUU=" },
        { "a short id derives", GROUP_KEY, "dev1", "33DrLpZmRrFiPDveUGYR1tQmBYURxVVaKQJBb2V+25c=" },
        { "one capital derives another key", GROUP_KEY, "Dev1",
          "HwpdAcFRaSrTdDk/G1zNMhplet2PQBxyeSgyQ+FT0uE=" },
        { "punctuation is derived as it is", GROUP_KEY, "Plant:A_01.gw",
          "X/dCIwlVLFtO14TPtv1JkaqEdC1mIoJpooGsuw7HdNs=" },
        { "another group derives", OTHER_GROUP_KEY, "contoso-simdevice",
          "prIvMivIPDAqwBH6aCT4P8raQxEulx32+eNjQpp5/bM=" },
};

static void check_derive(void **state) {
        const struct derive_case *c = *state;
        _cleanup_(dps_key_done) DpsKey group = { 0 }, device = { 0 };
        _cleanup_(erase_and_freep) char *text = NULL;

        assert_int_equal(dps_key_from_base64(c->group_key, &group), 0);
        assert_int_equal(dps_key_derive(&group, c->registration_id, &device), 0);
        assert_int_equal(dps_key_to_base64(&device, &text), 0);
        assert_string_equal(text, c->device_key);
}

/* ---- keys ---- */

static const struct key_case {
        const char *promise, *text;
        int result;
        size_t size;
} key_cases[] = {
        { "16 bytes are a key", "AAAAAAAAAAAAAAAAAAAAAA==", 0, 16 },
        { "32 bytes are a key", DEVICE_KEY, 0, 32 },
        { "64 bytes are a key", GROUP_KEY, 0, 64 },
        { "15 bytes are too few", "AAAAAAAAAAAAAAAAAAAA", -ERANGE, 0 },
        { "65 bytes are too many",
          "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", -ERANGE,
          0 },
        { "no bytes are too few", "", -ERANGE, 0 },
        { "white space around a key is ignored", " \t" DEVICE_KEY "\r\n", 0, 32 },
        { "white space within a key is refused", "Jsm0lyGpjaVYVP2g3FnmnmG9 dI/9qU24wNoykUmermc=", -EBADMSG,
          0 },
        { "a line break within a key is refused", "Jsm0lyGpjaVYVP2g3Fnm\nnmG9dI/9qU24wNoykUmermc=", -EBADMSG,
          0 },
        { "padding must be there", "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc", -EBADMSG, 0 },
        { "padding must be at the end", "Jsm0=yGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=", -EBADMSG, 0 },
        { "three signs of padding are too many", "AAAAAAAAAAAAAAAAAAAAA===", -EBADMSG, 0 },
        { "the URL alphabet is not base64", "Jsm0lyGpjaVYVP2g3FnmnmG9dI_9qU24wNoykUmermc=", -EBADMSG, 0 },
        { "text behind a key is refused", DEVICE_KEY "#", -EBADMSG, 0 },
};

static void check_key(void **state) {
        const struct key_case *c = *state;
        DpsKey key = { .size = 0 };

        assert_int_equal(dps_key_from_base64(c->text, &key), c->result);
        assert_int_equal(key.size, c->size);
        dps_key_done(&key);
}

static void test_a_refused_text_does_not_change_the_key(void **state) {
        DpsKey key = { .bytes = "as it was", .size = 9 };

        assert_int_equal(dps_key_from_base64("not base64", &key), -EBADMSG);
        assert_int_equal(dps_key_from_base64("AAAA", &key), -ERANGE);
        assert_int_equal(key.size, 9);
        assert_memory_equal(key.bytes, "as it was", 9);
}

static void test_a_freed_key_is_wiped(void **state) {
        static const DpsKey wiped;
        DpsKey key;

        assert_int_equal(dps_key_from_base64(GROUP_KEY, &key), 0);
        dps_key_done(&key);
        assert_memory_equal(&key, &wiped, sizeof(key));
        dps_key_done(NULL);
}

/* From the unit tests of Microsoft's SDK for Node.js. Its key is too short for dps_key_from_base64(). */
static void test_the_primitive_signs(void **state) {
        const DpsKey key = { .bytes = "password", .size = 8 };
        _cleanup_(freep) char *text = NULL;
        uint8_t signature[DPS_HMAC_SIZE];

        assert_int_equal(dps_key_sign(&key, "uri\n12345", 9, signature), 0);
        assert_int_equal(dps_base64_encode(signature, sizeof(signature), &text), 0);
        assert_string_equal(text, "kcWxXAK2OAaAoq2oCkaGzX2NMqDB8nCyNuq2fPYCDhk=");
}

/* ---- base64 ---- */

static const struct base64_case {
        const char *promise, *plain, *text;
} base64_cases[] = {
        /* RFC 4648 §10 */
        { "no bytes are no text", "", "" },
        { "one byte has two pads", "f", "Zg==" },
        { "two bytes have one pad", "fo", "Zm8=" },
        { "three bytes have no pads", "foo", "Zm9v" },
        { "four bytes have two pads", "foob", "Zm9vYg==" },
        { "six bytes have no pads", "foobar", "Zm9vYmFy" },
};

static void check_base64(void **state) {
        const struct base64_case *c = *state;
        _cleanup_(freep) char *text = NULL;
        _cleanup_(freep) uint8_t *plain = NULL;
        size_t size = SIZE_MAX;

        assert_int_equal(dps_base64_encode(c->plain, strlen(c->plain), &text), 0);
        assert_string_equal(text, c->text);
        assert_int_equal(dps_base64_decode(text, strlen(text), &plain, &size), 0);
        assert_int_equal(size, strlen(c->plain));
        assert_memory_equal(plain, c->plain, size);
}

static void test_all_bytes_come_back_from_base64(void **state) {
        uint64_t seed = 1;

        for (size_t size = 0; size < 300; size++) {
                _cleanup_(freep) char *text = NULL;
                _cleanup_(freep) uint8_t *back = NULL;
                uint8_t bytes[300];
                size_t back_size;

                for (size_t k = 0; k < size; k++)
                        bytes[k] = (uint8_t) next_random(&seed);
                assert_int_equal(dps_base64_encode(bytes, size, &text), 0);
                assert_int_equal(strlen(text), (size + 2) / 3 * 4);
                assert_int_equal(dps_base64_decode(text, strlen(text), &back, &back_size), 0);
                assert_int_equal(back_size, size);
                assert_memory_equal(back, bytes, size);
        }
}

static void test_bytes_outside_the_alphabet_are_refused(void **state) {
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

        for (int c = 0; c < 256; c++) {
                char text[] = { 'A', (char) c, 'A', 'A' };
                _cleanup_(freep) uint8_t *data = NULL;
                size_t size;

                assert_int_equal(dps_base64_decode(text, sizeof(text), &data, &size),
                                 memchr(alphabet, c, sizeof(alphabet) - 1) ? 0 : -EBADMSG);
        }
}

int main(void) {
        struct CMUnitTest
                tests[ELEMENTSOF(derive_cases) + ELEMENTSOF(key_cases) + ELEMENTSOF(base64_cases) + 5] = {
                        cmocka_unit_test(test_a_refused_text_does_not_change_the_key),
                        cmocka_unit_test(test_a_freed_key_is_wiped),
                        cmocka_unit_test(test_the_primitive_signs),
                        cmocka_unit_test(test_all_bytes_come_back_from_base64),
                        cmocka_unit_test(test_bytes_outside_the_alphabet_are_refused),
                };
        size_t n = 5;

        ADD_ROWS(tests, n, derive_cases, check_derive);
        ADD_ROWS(tests, n, key_cases, check_key);
        ADD_ROWS(tests, n, base64_cases, check_base64);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
