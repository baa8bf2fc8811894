/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "basic/cleanup.h"
#include "config/key-text.h"

#define A48 "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB" /* 48 times A */
#define A16 "QUFBQUFBQUFBQUFBQUFBQQ"                                           /* 16 times A, no padding */
#define TEXT(text) text, sizeof(text) - 1

static const struct text_case {
        const char *promise;
        const char *text;
        size_t size;
        int r;
        size_t key_size;
        const char *why; /* part of it */
} text_cases[] = {
        { "a key is taken", TEXT(A48 A16 "=="), 0, 64, NULL },
        { "line breaks at the end are ignored", TEXT(A48 A16 "==\r\n\n"), 0, 64, NULL },
        { "a key wrapped over two lines is taken", TEXT(A48 "\n" A16 "==\n"), 0, 64, NULL },
        { "a key wrapped into equal lines is taken", TEXT(A16 "\r\n" A16 "\r\n" A16 "\r\n"), 0, 49, NULL },
        { "a byte order mark is ignored", TEXT("\xef\xbb\xbf" A48 "\n"), 0, 48, NULL },
        { "a key whose first letters could begin a short certificate in DER is taken",
          TEXT("0+0AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"), 0, 32, NULL },
        { "missing padding is added", TEXT(A16), 0, 16, NULL },
        { "a key of 15 bytes is too short", TEXT("QUFBQUFBQUFBQUFBQUFB"), -ERANGE, 0, "16 to 64 bytes" },
        { "a key of 65 bytes is too long", TEXT(A48 "QUFBQUFBQUFBQUFBQUFBQUE="), -ERANGE, 0,
          "16 to 64 bytes" },
        { "a key that is cut off is reported", TEXT(A48 "Q"), -EBADMSG, 0, "not all of it" },
        { "an empty file is reported", TEXT(""), -EBADMSG, 0, "empty" },
        { "a file of line breaks is reported", TEXT("\xef\xbb\xbf\r\n\r\n"), -EBADMSG, 0, "empty" },
        { "UTF-16 with its mark is reported", TEXT("\xff\xfeQ\0U\0F\0"), -EBADMSG, 0, "UTF-16" },
        { "UTF-16 without its mark is reported", TEXT("\0Q\0U\0F"), -EBADMSG, 0, "UTF-16" },
        { "a binary file is reported", TEXT("QUFB\0QUFB"), -EBADMSG, 0, "binary" },
        { "quotes are reported", TEXT("\"" A48 "\""), -EBADMSG, 0, "remove the quotes" },
        { "the url-safe alphabet is reported", TEXT("QUFB-_" A48), -EBADMSG, 0, "url-safe" },
        { "a connection string is reported", TEXT("HostName=h;DeviceId=d;SharedAccessKey=" A48), -EBADMSG, 0,
          "connection string" },
        { "a token is reported", TEXT("SharedAccessSignature sr=a&sig=b&se=1"), -EBADMSG, 0, "SAS token" },
        { "a PEM file is reported", TEXT("-----BEGIN PRIVATE KEY-----\nQUFB\n"), -EBADMSG, 0, "PEM" },
        { "two keys with padding are reported", TEXT(A16 "==\n" A16 "==\n"), -EBADMSG, 0,
          "more than one key" },
        { "two lines that may be two keys are reported",
          TEXT("QUFBQUFBQUFBQUFBQUFBQUFB\nQUFBQUFBQUFBQUFBQUFBQUFB\n"), -EBADMSG, 0, "more than one key" },
        { "other characters are reported", TEXT("my key!"), -EBADMSG, 0, "not base64" },
};

static void check_text(void **state) {
        const struct text_case *c = *state;
        const char *why = NULL;
        DpsKey key = { 0 };

        assert_int_equal(key_from_text(c->text, c->size, &key, &why), c->r);
        assert_int_equal(key.size, c->key_size);
        if (!c->why)
                assert_null(why);
        else if (!why || !strstr(why, c->why))
                fail_msg("\"%s\" does not tell \"%s\"", why ? why : "", c->why);
}

static void a_long_text_is_not_a_key(void **state) {
        char text[60000];
        const char *why = NULL;
        DpsKey key;

        memset(text, 'A', sizeof(text));
        assert_int_equal(key_from_text(text, sizeof(text), &key, &why), -EBADMSG);
        assert_non_null(strstr(why, "too long"));
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(text_cases) + 1] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(text_cases); i++)
                tests[i] = (struct CMUnitTest){ .name = text_cases[i].promise,
                                                .test_func = check_text,
                                                .initial_state = (void *) &text_cases[i] };
        tests[ELEMENTSOF(text_cases)] = (struct CMUnitTest) cmocka_unit_test(a_long_text_is_not_a_key);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
