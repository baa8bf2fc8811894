/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>

#include "basic/json.h"
#include "basic/text.h"

#define SIZE_MAX_HERE 64

static const struct read_case {
        const char *promise, *text;
        size_t size; /* 0: up to the end of the text */
        const char *reason;
} read_cases[] = {
        { "an object is read", "{\"a\":1}", 0, NULL },
        { "white space may surround it", " \r\n{}\t\n", 0, NULL },
        { "letters beyond ASCII are read", "{\"a\":\"\xc3\xa9\"}", 0, NULL },
        { "an empty text is not an object", "", 0, "it is empty" },
        { "a text that is too long is refused",
          "                                                                {}", 0, "it is too long" },
        { "an array is not an object", "[1]", 0, "it is not a JSON object" },
        { "half an object is not JSON", "{\"a\":", 0, "it is not JSON" },
        { "two objects are not JSON", "{} {}", 0, "it is not JSON" },
        { "a NUL byte does not hide what follows it", "{}\0{}", 5, "it is not JSON" },
        { "an overlong slash is not UTF-8", "{\"a\":\"\xc0\xaf\"}", 0, "it is not UTF-8" },
        { "an encoded surrogate is not UTF-8", "{\"a\":\"\xed\xa0\x80\"}", 0, "it is not UTF-8" },
        { "a number that is too large is not valid", "{\"a\":[1e999]}", 0, "a number in it is not valid" },
        { "numbers may have fractions and exponents", "{\"a\":[0.5,-0.0e+01,10.25E-3,-7]}", 0, NULL },
        { "a point without digits after it is not valid", "{\"a\":1.}", 0, "a number in it is not valid" },
        { "a point without digits before it is not valid", "{\"a\":[-.5]}", 0,
          "a number in it is not valid" },
        { "an exponent does not replace the digits after a point", "{\"a\":1.e5}", 0,
          "a number in it is not valid" },
        { "a number does not begin with a needless 0", "{\"a\":-01.5}", 0, "a number in it is not valid" },
        { "NaN is not a number", "{\"a\":NaN}", 0, "a number in it is not valid" },
        { "a control character in a string is not JSON", "{\"a\":\"\t\"}", 0, "it is not JSON" },
        { "an escaped one is", "{\"a\\\"\":\"\\t\\u0001\"\n}", 0, NULL },
        { "a whole number may be of any length", "{\"a\":[98765432109876543210,-98765432109876543210\n]}", 0,
          NULL },
        { "so may a fraction", "{\"a\":[98765432109876543210.5,0.98765432109876543210]}", 0, NULL },
        { "so may an exponent", "{\"a\":[98765432109876543210e1,1e-98765432109876543210]}", 0, NULL },
        { "a long number does not begin with a needless 0", "{\"a\":[09876543210987654321]}", 0,
          "it is not JSON" },
        { "a long number does not go on with letters", "{\"a\":[98765432109876543210x]}", 0,
          "it is not JSON" },
        { "digits in a string are not a number",
          "{\"a\":\"\\u98765432109876543210\\\"98765432109876543210\"}", 0, NULL },
        { "nesting is limited to 16", "{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", 0, "it is not JSON" },
};

static void check_read(void **state) {
        const struct read_case *c = *state;
        _cleanup_(json_freep) json_object *o = NULL;
        const char *reason = NULL;

        assert_int_equal(json_read_object(c->text, c->size ?: strlen(c->text), SIZE_MAX_HERE, &o, &reason),
                         c->reason ? -EBADMSG : 0);
        assert_true(streq_ptr(reason, c->reason));
        assert_int_equal(o == NULL, c->reason != NULL);
}

static json_object *read_object(const char *text) {
        json_object *o = NULL;
        const char *reason;

        assert_int_equal(json_read_object(text, strlen(text), SIZE_MAX_HERE, &o, &reason), 0);
        return o;
}

/* json-c cannot hold such numbers, and writes other white space and escapes. */
static void a_member_can_be_kept_as_it_is_written(void **state) {
        static const struct {
                const char *text, *kept;
        } cases[] = {
                { "{\"a\":98765432109876543210}", "98765432109876543210" },
                { " {\n\"b\":{\"a\":1},\"a\" : -0\t,\"c\":2}", "-0" },
                { "{\"a\":[ {\"a\":\"},\\\"\"} ]}", "[ {\"a\":\"},\\\"\"} ]" },
                { "{\"a\":1, \"a\":\"\\u0041\xc3\xa9\"}", "\"\\u0041\xc3\xa9\"" },
                { "{\"a\":true}", "true" },
                { "{ \"\\u0061\":\"\\\\\" , \"b\":\"a\" }", "\"\\\\\"" },
                { "{\"b,:}\":[{},[\":\"]], \"aa\":{\"a\":[2]},\"a\":{} }", "{}" },
                { "{}", NULL },
                { "{\"b\":1}", NULL },
                { "{\"a\":null}", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(json_freep) json_object *o = read_object(cases[i].text);
                _cleanup_(freep) char *kept = NULL;
                Span text = { cases[i].text, strlen(cases[i].text) }, found;

                assert_int_equal(json_find_text(text, "a", &found), 0);
                assert_true(found.size == strlen(cases[i].kept ?: "") || !cases[i].kept);
                assert_int_equal(json_keep_text(o, text, "a"), 0);
                if (!cases[i].kept)
                        continue;
                assert_int_equal(json_to_text(json_member(o, "a"), &kept), 0);
                assert_string_equal(kept, cases[i].kept);
        }
}

/* These replace json-c's functions, and can fail as if there were no memory. */
static bool no_tokener, no_objects;

struct json_tokener *json_tokener_new_ex(int depth) {
        typedef struct json_tokener *(*new_t)(int depth);
        new_t next = (new_t) dlsym(RTLD_NEXT, "json_tokener_new_ex");

        return no_tokener ? NULL : next(depth);
}

/* Like json-c, this does not set the tokener's own error. */
struct json_object *json_tokener_parse_ex(struct json_tokener *tokener, const char *text, int size) {
        typedef struct json_object *(*parse_t)(struct json_tokener * tokener, const char *text, int size);
        parse_t next = (parse_t) dlsym(RTLD_NEXT, "json_tokener_parse_ex");

        if (!no_objects)
                return next(tokener, text, size);
        errno = ENOMEM;
        return NULL;
}

static void running_out_of_memory_is_not_an_error_in_the_text(void **state) {
        json_object *o = NULL;
        const char *reason = NULL;

        no_tokener = true;
        assert_int_equal(json_read_object("{}", 2, SIZE_MAX_HERE, &o, &reason), -ENOMEM);
        no_tokener = false;
        no_objects = true;
        assert_int_equal(json_read_object("{}", 2, SIZE_MAX_HERE, &o, &reason), -ENOMEM);
        no_objects = false;
        assert_null(reason);
}

static const struct number_case {
        const char *promise, *text;
        int result;
        uint64_t number;
} number_cases[] = {
        { "a whole number is read", "{\"a\":7}", 0, 7 },
        { "the largest number is read", "{\"a\":100}", 0, 100 },
        { "a larger number is refused", "{\"a\":101}", -ERANGE, 0 },
        { "a negative number is refused", "{\"a\":-1}", -ERANGE, 0 },
        { "text is not a number", "{\"a\":\"7\"}", -EINVAL, 0 },
        { "a fraction is not a whole number", "{\"a\":7.0}", -EINVAL, 0 },
        { "null is not a number", "{\"a\":null}", -EINVAL, 0 },
        { "a missing member is not a number", "{}", -EINVAL, 0 },
};

static void check_number(void **state) {
        const struct number_case *c = *state;
        _cleanup_(json_freep) json_object *o = read_object(c->text);
        uint64_t number = 0;

        assert_int_equal(json_u64(json_member(o, "a"), 100, &number), c->result);
        assert_int_equal(number, c->number);
}

static void a_string_with_a_zero_byte_is_refused(void **state) {
        _cleanup_(json_freep) json_object *o =
                read_object("{\"good\":\"a\",\"bad\":\"a\\u0000b\",\"number\":1}");

        assert_string_equal(json_string(json_member(o, "good")), "a");
        assert_null(json_string(json_member(o, "bad")));
        assert_null(json_string(json_member(o, "number")));
        assert_null(json_string(json_member(NULL, "good")));
}

/* ASCII is looked at eight bytes at a time. */
static void a_byte_that_is_not_utf8_is_found_wherever_it_is(void **state) {
        char text[40];

        memset(text, 'a', sizeof(text));
        for (size_t k = 0; k < sizeof(text); k++) {
                text[k] = '\x80';
                for (size_t size = 0; size <= sizeof(text); size++)
                        assert_int_equal(utf8_is_valid(text, size), size <= k);
                text[k] = 'a';
        }
        for (size_t k = 0; k + 2 <= sizeof(text); k++) {
                memcpy(text + k, "\xc3\xa9", 2);
                assert_true(utf8_is_valid(text, sizeof(text)));
                assert_false(utf8_is_valid(text, k + 1));
                memset(text + k, 'a', 2);
        }
}

static void an_object_that_is_built_can_be_read_again(void **state) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(json_add_string(o, "text", "a/\"b\""), 0);
        assert_int_equal(json_add_string(o, "none", NULL), 0);
        assert_int_equal(json_add_u64(o, "number", UINT64_C(9007199254740993)), 0);
        assert_int_equal(json_add_text(o, "json", "{\"x\":1.50}"), 0);
        assert_int_equal(json_add_text(o, "no-json", NULL), 0);
        assert_int_equal(json_to_text(o, &text), 0);
        assert_string_equal(text,
                            "{\"text\":\"a/\\\"b\\\"\",\"number\":9007199254740993,\"json\":{\"x\":1.50}}");
}

int main(void) {
        struct CMUnitTest tests[ELEMENTSOF(read_cases) + ELEMENTSOF(number_cases) + 5] = {
                cmocka_unit_test(a_string_with_a_zero_byte_is_refused),
                cmocka_unit_test(a_member_can_be_kept_as_it_is_written),
                cmocka_unit_test(an_object_that_is_built_can_be_read_again),
                cmocka_unit_test(running_out_of_memory_is_not_an_error_in_the_text),
                cmocka_unit_test(a_byte_that_is_not_utf8_is_found_wherever_it_is),
        };
        size_t n = 5;

        for (size_t i = 0; i < ELEMENTSOF(read_cases); i++)
                tests[n++] = (struct CMUnitTest){ .name = read_cases[i].promise,
                                                  .test_func = check_read,
                                                  .initial_state = (void *) &read_cases[i] };
        for (size_t i = 0; i < ELEMENTSOF(number_cases); i++)
                tests[n++] = (struct CMUnitTest){ .name = number_cases[i].promise,
                                                  .test_func = check_number,
                                                  .initial_state = (void *) &number_cases[i] };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
