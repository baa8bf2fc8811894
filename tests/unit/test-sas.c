/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>

#include "basic/text.h"
#include "dps/sas.h"
#include "table.h"

#define DEVICE_KEY "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
#define HUB_KEY "18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA=="
/* An article of Microsoft shows this token together with the script that made it. */
#define ARTICLE_KEY "gPD2SOUYSOMXygVZA+pupNvWckqaS3Qnu+BUBbw7TbIZU7y2UZ5ksp4uMJfdV+nTIBayN+fZIZco4tS7oeVR/A=="
#define ID "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6"
#define PLAIN "0ne00111111/registrations/" ID
#define UPPER "0ne00111111%2Fregistrations%2F" ID
#define LOWER "0ne00111111%2fregistrations%2f" ID
#define SIG "2srIk05%2FHc3kiyY2AcAwJosiRYk6C6jOscAYhKLO2L8%3D"
#define TOKEN "SharedAccessSignature "

/* ---- making: vectors ---- */

static const struct new_case {
        const char *promise, *key, *resource;
        uint64_t expiry_sec;
        const char *policy, *token;
} new_cases[] = {
        { "the golden token", DEVICE_KEY, UPPER, 1700000000, "registration",
          TOKEN "sr=" UPPER "&sig=" SIG "&se=1700000000&skn=registration" },
        { "the resource is signed as it is, lower-case hex", DEVICE_KEY, LOWER, 1700000000, "registration",
          TOKEN "sr=" LOWER "&sig=LwAx%2BRfQDq37RAHvptYP8R3382xvZ%2FBntAGlh8Wmu18%3D&se=1700000000"
                "&skn=registration" },
        { "the resource is signed as it is, raw slashes", DEVICE_KEY, PLAIN, 1700000000, "registration",
          TOKEN "sr=" PLAIN "&sig=%2F%2Beah6KDNGyh0EVauDWy8TsgRl239ASFozi9g%2BrShXg%3D&se=1700000000"
                "&skn=registration" },
        { "a colon is signed encoded", DEVICE_KEY, "0ne00111111%2Fregistrations%2FPlant%3AA_01.gw",
          1700000000, "registration",
          TOKEN "sr=0ne00111111%2Fregistrations%2FPlant%3AA_01.gw"
                "&sig=Mx%2B1D7p%2FsEbkNBMmDhWox1nK6fCHWOflaHm9KpR2Yz4%3D&se=1700000000&skn=registration" },
        { "a colon is signed encoded, lower case", DEVICE_KEY,
          "0ne00111111%2fregistrations%2fplant%3aa_01.gw", 1700000000, "registration",
          TOKEN "sr=0ne00111111%2fregistrations%2fplant%3aa_01.gw"
                "&sig=0wUq1zsJFQ3rOkGNqmNlfMWk74FkAxBmd5RzwesY35s%3D&se=1700000000&skn=registration" },
        { "the published hub token has no policy", HUB_KEY,
          "MyExampleHub.azure-devices.net%2Fdevices%2Fmy-symkey-device", 1663119026, NULL,
          TOKEN "sr=MyExampleHub.azure-devices.net%2Fdevices%2Fmy-symkey-device"
                "&sig=f%2BwW8XOKeJOtiPc9Iwjc4OpExvPM7NlhM9qxN2a1aAM%3D&se=1663119026" },
        { "a derived key signs for the hub", DEVICE_KEY, "hub1.azure-devices.net%2Fdevices%2F" ID, 1700000000,
          NULL,
          TOKEN "sr=hub1.azure-devices.net%2Fdevices%2F" ID
                "&sig=gppRKVig22MKjUSz8hz97LWjMQeuQp6v9%2F4qcj8ODY4%3D&se=1700000000" },
};

static void check_new(void **state) {
        const struct new_case *c = *state;
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        _cleanup_(erase_and_freep) char *token = NULL;
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };

        assert_int_equal(dps_key_from_base64(c->key, &key), 0);
        assert_int_equal(dps_sas_new(&key, c->resource, c->expiry_sec, c->policy, &token), 0);
        assert_string_equal(token, c->token);

        assert_int_equal(dps_sas_parse(token, &sas), 0);
        assert_string_equal(sas.resource, c->resource);
        assert_true(streq_ptr(sas.policy, c->policy));
        assert_int_equal(sas.expiry_sec, c->expiry_sec);
        assert_int_equal(dps_sas_is_signed_by(&sas, &key), 1);
}

static void test_resources_are_encoded(void **state) {
        _cleanup_(freep) char *registration = NULL, *hub = NULL;

        assert_int_equal(dps_sas_resource_registration("0ne00111111", "Plant:A_01.gw", &registration), 0);
        assert_string_equal(registration, "0ne00111111%2Fregistrations%2FPlant%3AA_01.gw");
        assert_int_equal(dps_sas_resource_hub("MyExampleHub.azure-devices.net", "my-symkey-device", &hub), 0);
        assert_string_equal(hub, "MyExampleHub.azure-devices.net%2Fdevices%2Fmy-symkey-device");
}

static void test_a_newline_separates_resource_and_expiry(void **state) {
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(
                dps_sas_string_to_sign("0neFEEDC0DE%2fregistrations%2fmyRegistrationId", 1578941692, &text),
                0);
        assert_string_equal(text, "0neFEEDC0DE%2fregistrations%2fmyRegistrationId\n1578941692");
}

/* ---- verifying: what the official SDKs, and people's scripts, write ---- */

static const struct verify_case {
        const char *promise, *key, *token, *resource;
} verify_cases[] = {
        { "sr, sig, se, skn", DEVICE_KEY, TOKEN "sr=" UPPER "&sig=" SIG "&se=1700000000&skn=registration",
          PLAIN },
        { "sig, se, skn, sr", DEVICE_KEY, TOKEN "sig=" SIG "&se=1700000000&skn=registration&sr=" UPPER,
          PLAIN },
        { "sr, sig, skn, se", DEVICE_KEY, TOKEN "sr=" UPPER "&sig=" SIG "&skn=registration&se=1700000000",
          PLAIN },
        { "sr, skn, sig, se", DEVICE_KEY, TOKEN "sr=" UPPER "&skn=registration&sig=" SIG "&se=1700000000",
          PLAIN },
        { "an unknown parameter is ignored", DEVICE_KEY, TOKEN "sr=" UPPER "&sig=" SIG "&se=1700000000&x=y",
          PLAIN },
        { "lower-case hex", DEVICE_KEY,
          TOKEN "sr=" LOWER "&sig=LwAx%2bRfQDq37RAHvptYP8R3382xvZ%2fBntAGlh8Wmu18%3d&se=1700000000", PLAIN },
        { "raw slashes, and a raw signature", DEVICE_KEY,
          TOKEN "sr=" PLAIN "&sig=/+eah6KDNGyh0EVauDWy8TsgRl239ASFozi9g+rShXg=&se=1700000000", PLAIN },
        { "a signature without its padding", DEVICE_KEY,
          TOKEN "sr=" UPPER "&sig=2srIk05%2FHc3kiyY2AcAwJosiRYk6C6jOscAYhKLO2L8&se=1700000000", PLAIN },
        { "a lower-case resource for a device of mixed case", DEVICE_KEY,
          TOKEN "sr=0ne00111111%2fregistrations%2fplant%3aa_01.gw"
                "&sig=0wUq1zsJFQ3rOkGNqmNlfMWk74FkAxBmd5RzwesY35s%3D&se=1700000000",
          "0ne00111111/registrations/Plant:A_01.gw" },
        { "the script of the article on MQTT", ARTICLE_KEY,
          TOKEN "sr=0ne00055505%2Fregistrations%2Fmy-mqtt-dev01&skn=registration"
                "&sig=yL0PmEVGo1xb7HZ2YMCYI9sGQ0jSnUGqOr%2BWYop0KqI%3D&se=1579698526",
          "0ne00055505/registrations/my-mqtt-dev01" },
        { "the script of the article on HTTPS", ARTICLE_KEY,
          TOKEN "sr=0ne00057505%2Fregistrations%2Fdps-sym-key-test01&skn=registration"
                "&sig=yIDnZMFwLvx4rLZXY7Ljtxu2ylGsgkX%2FCYaLcivzim0%3D&se=1568718116",
          "0ne00057505/registrations/dps-sym-key-test01" },
};

static void check_verify(void **state) {
        const struct verify_case *c = *state;
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };

        assert_int_equal(dps_key_from_base64(c->key, &key), 0);
        assert_int_equal(dps_sas_parse(c->token, &sas), 0);
        assert_int_equal(dps_sas_is_signed_by(&sas, &key), 1);
        assert_true(dps_sas_is_for(&sas, c->resource));
        assert_false(dps_sas_is_for(&sas, "0ne00111111/registrations/another"));
}

/* From Microsoft's articles and the tests of its SDK for embedded C. The keys are not published. */
static const struct form_case {
        const char *promise, *token, *resource, *policy;
        uint64_t expiry_sec;
} form_cases[] = {
        { "the token of the article on MQTT reads",
          TOKEN "sr=0ne00055505%2Fregistrations%2Fmy-mqtt-dev01&skn=registration"
                "&sig=gMpllKo7qS1VR31vyfsT6JAcc4%2BHIu2gQSyai0Uz0KM%3D&se=1579698526",
          "0ne00055505/registrations/my-mqtt-dev01", "registration", 1579698526 },
        { "the token of the article on HTTPS reads",
          TOKEN "sr=0ne00052505%2Fregistrations%2Fdps-test-sym-device01&skn=registration"
                "&sig=FKOnylJndmpPYgJ5CXkw1pw3kiywt%2FcJIi9eu4xJAEY%3D&se=1568718116",
          "0ne00052505/registrations/dps-test-sym-device01", "registration", 1568718116 },
        { "the token of embedded C reads",
          TOKEN "sr=0neFEEDC0DE%2fregistrations%2fmyRegistrationId"
                "&sig=cS1eHM%2FlDjsRsrZV9508wOFrgmZk4g8FNg8NwHVSiSQ&se=1578941692",
          "0neFEEDC0DE/registrations/myRegistrationId", NULL, 1578941692 },
};

static void check_form(void **state) {
        const struct form_case *c = *state;
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };

        assert_int_equal(dps_sas_parse(c->token, &sas), 0);
        assert_true(dps_sas_is_for(&sas, c->resource));
        assert_true(streq_ptr(sas.policy, c->policy));
        assert_int_equal(sas.expiry_sec, c->expiry_sec);
        assert_int_equal(sas.signature_size, DPS_HMAC_SIZE);
}

static const struct refused_case {
        const char *promise, *token;
} forged_cases[] = {
        { "another expiry is not signed", TOKEN "sr=" UPPER "&sig=" SIG "&se=1700000001" },
        { "the same resource in other letters is not signed",
          TOKEN "sr=" LOWER "&sig=" SIG "&se=1700000000" },
        { "half a signature does not match", TOKEN "sr=" UPPER "&sig=2srIk05%2FHc3kiyY2&se=1700000000" },
        { "a signature with one more byte does not match",
          TOKEN "sr=" UPPER "&sig=2srIk05%2FHc3kiyY2AcAwJosiRYk6C6jOscAYhKLO2L94&se=1700000000" },
        { "an empty signature does not match", TOKEN "sr=" UPPER "&sig=&se=1700000000" },
};

static void check_forged(void **state) {
        const struct refused_case *c = *state;
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        _cleanup_(dps_sas_done) DpsSas sas = { 0 };

        assert_int_equal(dps_key_from_base64(DEVICE_KEY, &key), 0);
        assert_int_equal(dps_sas_parse(c->token, &sas), 0);
        assert_int_equal(dps_sas_is_signed_by(&sas, &key), 0);
}

static const struct refused_case bad_cases[] = {
        { "an empty text is not a token", "" },
        { "the scheme alone is not a token", TOKEN },
        { "another scheme is not a token", "Bearer sr=" UPPER "&sig=" SIG "&se=1700000000" },
        { "a token needs a resource", TOKEN "sig=" SIG "&se=1700000000" },
        { "a token needs a signature", TOKEN "sr=" UPPER "&se=1700000000" },
        { "a token needs an expiry", TOKEN "sr=" UPPER "&sig=" SIG },
        { "an expiry must be a number", TOKEN "sr=" UPPER "&sig=" SIG "&se=soon" },
        { "a negative expiry is refused", TOKEN "sr=" UPPER "&sig=" SIG "&se=-1" },
        { "an expiry of more than 64 bits is refused",
          TOKEN "sr=" UPPER "&sig=" SIG "&se=18446744073709551616" },
        { "a signature must be base64", TOKEN "sr=" UPPER "&sig=***&se=1700000000" },
        { "half an escape in a signature is refused", TOKEN "sr=" UPPER "&sig=AAA%3&se=1700000000" },
        { "two resources are refused", TOKEN "sr=" UPPER "&sr=" UPPER "&sig=" SIG "&se=1700000000" },
        { "two expiries are refused", TOKEN "sr=" UPPER "&sig=" SIG "&se=1700000000&se=1700000000" },
        { "two signatures are refused", TOKEN "sr=" UPPER "&sig=" SIG "&sig=" SIG "&se=1700000000" },
};

static void check_bad(void **state) {
        const struct refused_case *c = *state;
        DpsSas sas = { .expiry_sec = 7 };

        assert_int_equal(dps_sas_parse(c->token, &sas), -EBADMSG);
        assert_null(sas.resource);
        assert_int_equal(sas.expiry_sec, 7);
}

/* ---- percent-encoding ---- */

static void test_all_bytes_come_back_from_percent_encoding(void **state) {
        static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

        for (int c = 1; c < 256; c++) {
                const char text[] = { (char) c, 0 };
                _cleanup_(freep) char *encoded = NULL, *back = NULL;

                assert_int_equal(dps_percent_encode(text, &encoded), 0);
                assert_int_equal(strlen(encoded), strchr(plain, c) ? 1 : 3);
                assert_int_equal(dps_percent_decode(encoded, strlen(encoded), &back), 0);
                assert_string_equal(back, text);
        }
}

static const struct decode_case {
        const char *promise, *text, *plain; /* NULL: refused */
} decode_cases[] = {
        { "a plus stays a plus", "a+b", "a+b" },
        { "hex may be of either case", "%2f%2F%3a%3A", "//::" },
        { "what is decoded is not decoded again", "%2541", "%41" },
        { "a NUL is refused", "a%00b", NULL },
        { "a lone percent sign is refused", "a%", NULL },
        { "half an escape is refused", "a%2", NULL },
        { "letters that are not hex are refused", "%2g", NULL },
        { "a sign is not hex", "%+1", NULL },
};

static void check_decode(void **state) {
        const struct decode_case *c = *state;
        _cleanup_(freep) char *plain = NULL;

        assert_int_equal(dps_percent_decode(c->text, strlen(c->text), &plain), c->plain ? 0 : -EBADMSG);
        assert_true(streq_ptr(plain, c->plain));
}

static void test_decoding_stops_at_the_size_given(void **state) {
        _cleanup_(freep) char *plain = NULL;

        assert_int_equal(dps_percent_decode("%41%42", 3, &plain), 0);
        assert_string_equal(plain, "A");
        assert_int_equal(dps_percent_decode("%41", 2, &plain), -EBADMSG);
}

#define N_ROWS                                                                                               \
        (ELEMENTSOF(new_cases) + ELEMENTSOF(verify_cases) + ELEMENTSOF(form_cases) +                         \
         ELEMENTSOF(forged_cases) + ELEMENTSOF(bad_cases) + ELEMENTSOF(decode_cases))

int main(void) {
        struct CMUnitTest tests[N_ROWS + 4] = {
                cmocka_unit_test(test_resources_are_encoded),
                cmocka_unit_test(test_a_newline_separates_resource_and_expiry),
                cmocka_unit_test(test_all_bytes_come_back_from_percent_encoding),
                cmocka_unit_test(test_decoding_stops_at_the_size_given),
        };
        size_t n = 4;

        ADD_ROWS(tests, n, new_cases, check_new);
        ADD_ROWS(tests, n, verify_cases, check_verify);
        ADD_ROWS(tests, n, form_cases, check_form);
        ADD_ROWS(tests, n, forged_cases, check_forged);
        ADD_ROWS(tests, n, bad_cases, check_bad);
        ADD_ROWS(tests, n, decode_cases, check_decode);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
