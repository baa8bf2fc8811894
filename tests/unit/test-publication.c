/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dpsd/publication.h"
#include "small-disk.h"
#include "table.h"

#define NOW (UINT64_C(1800000000) * USEC_PER_SEC)
#define LATER (NOW + USEC_PER_DAY)

static const Assignment sas = {
        .id_scope = (char *) "0ne00000001",
        .registration_id = (char *) "gw-1",
        .endpoint = (char *) "dps.example",
        .method = METHOD_SYMMETRIC_KEY,
        .hub_auth = HUB_AUTH_SAS,
        .hub = (char *) "hub-1.example",
        .device_id = (char *) "device-1",
        .substatus = (char *) "",
        .payload = (char *) "{\"a\":1}",
        .registration_state = (char *) "{\"status\":\"assigned\"}",
        .generation = 3,
        .token_expires_at_usec = LATER,
};

/* ---- what is published ---- */

static Connection connection_of(const Assignment *a, const char *token,
                                const ClientCertificate *certificate) {
        Connection c;

        publication_to_connection(
                &(Publication){ .assignment = a, .token = token, .certificate = certificate }, &c);
        return c;
}

static void a_token_comes_with_its_expiry(void **state) {
        Connection c = connection_of(&sas, "SharedAccessSignature x", NULL);

        assert_string_equal(c.auth, "sas");
        assert_string_equal(c.token, "SharedAccessSignature x");
        assert_int_equal(c.expires_at_usec, LATER);
        assert_int_equal(c.generation, 3);
        assert_string_equal(c.hub, "hub-1.example");
        assert_string_equal(c.device_id, "device-1");
        assert_string_equal(c.registration_id, "gw-1");
        assert_string_equal(c.id_scope, "0ne00000001");
        assert_int_equal(c.port, 8883);
        assert_string_equal(c.payload, "{\"a\":1}");
        assert_string_equal(c.registration_state, "{\"status\":\"assigned\"}");
        assert_null(c.certificate_pem);
        assert_null(c.ca_file);
}

static void without_a_token_nothing_expires(void **state) {
        Connection c = connection_of(&sas, NULL, NULL);

        assert_null(c.token);
        assert_int_equal(c.expires_at_usec, 0);
        assert_string_equal(c.hub, "hub-1.example");
}

static void the_hub_authentication_is_that_of_the_assignment(void **state) {
        Assignment a = sas;

        a.hub_auth = HUB_AUTH_X509; /* although DPS was asked with a key */
        assert_string_equal(connection_of(&a, NULL, NULL).auth, "x509");
}

static void what_is_handed_out_fits_the_kind_of_the_hub(void **state) {
        static const struct {
                const char *profile, *issued, *auth;
                unsigned mqtt_version;
                bool lacks_username;
        } cases[] = {
                { NULL, NULL, "sas", 4, false },         { "classic", NULL, "sas", 4, false },
                { "Classic", "00ff", "x509", 4, false }, { "mqttV5", NULL, NULL, 5, true },
                { "MqttV5", "00ff", "x509", 5, true },   { "amqpV7", NULL, "sas", 0, true },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Assignment a = sas;
                Connection c;

                a.connection_profile = (char *) cases[i].profile;
                a.issued = (char *) cases[i].issued;
                c = connection_of(&a, NULL, NULL);
                assert_true(streq_ptr(c.auth, cases[i].auth));
                assert_int_equal(c.mqtt_version, cases[i].mqtt_version);
                assert_int_equal(c.lacks_username, cases[i].lacks_username);
                assert_string_equal(c.connection_profile, cases[i].profile ?: "classic");
        }
}

static void a_certificate_comes_with_its_kind_and_its_end(void **state) {
        ClientCertificate certificate = { .pem = (char *) "CHAIN",
                                          .key_pem = (char *) "KEY",
                                          .not_after_usec = LATER };
        Assignment a = sas;
        Connection c;

        a.issued = (char *) "00ff";
        c = connection_of(&a, NULL, &certificate);
        assert_string_equal(c.certificate_kind, "issued");
        assert_int_equal(c.certificate_expires_at_usec, LATER);
        assert_string_equal(c.key_pem, "KEY");
        a.issued = NULL;
        assert_string_equal(connection_of(&a, NULL, &certificate).certificate_kind, "onboarding");
}

static void a_key_in_a_file_is_named_by_its_path(void **state) {
        ClientCertificate file = { .pem = (char *) "CHAIN", .key_reference = (char *) "/etc/key.pem" };
        Connection c = connection_of(&sas, NULL, &file);

        assert_string_equal(c.certificate_pem, "CHAIN");
        assert_string_equal(c.key_file, "/etc/key.pem");
        assert_null(c.key_uri);
        assert_null(c.key_pem);
}

static void a_key_in_a_hardware_token_is_named_by_its_uri(void **state) {
        ClientCertificate chip = { .pem = (char *) "CHAIN", .key_reference = (char *) "pkcs11:object=dps" };
        Connection c = connection_of(&sas, NULL, &chip);

        assert_string_equal(c.key_uri, "pkcs11:object=dps");
        assert_null(c.key_file);
}

static void a_shared_key_is_published(void **state) {
        ClientCertificate shared = { .pem = (char *) "CHAIN",
                                     .key_pem = (char *) "KEY",
                                     .key_reference = (char *) "/etc/key.pem" };

        assert_string_equal(connection_of(&sas, NULL, &shared).key_pem, "KEY");
}

static void the_token_is_for_the_device_at_the_hub(void **state) {
        _cleanup_(freep) char *resource = NULL;

        assert_int_equal(publication_resource(&sas, &resource), 0);
        assert_string_equal(resource, "hub-1.example%2Fdevices%2Fdevice-1");
}

/* ---- what stands already ---- */

static int set_up(void **state) {
        small_disk_init();
        return 0;
}

static int tear_down(void **state) {
        small_disk_done();
        return 0;
}

static void publish(const Assignment *a, const char *token) {
        Connection c = connection_of(a, token, NULL);

        assert_true(outputs_prepare(disk.runtime, "gw", getegid()) >= 0);
        assert_int_equal(outputs_publish(disk.runtime, "gw", &c), 1);
}

static Standing standing(uint64_t now_usec) {
        Published p;

        publication_look(disk.runtime, "gw", &p);
        return publication_standing(&p, &sas, now_usec);
}

static const struct standing_case {
        const char *promise;
        uint64_t generation, expires_at_usec; /* of what was published … */
        const char *token;                    /* … and its token */
        uint64_t now_usec;
        Standing standing;
} standing_cases[] = {
        { "files of the same generation with its token are complete", 3, LATER, "token", NOW,
          STANDING_COMPLETE },
        { "files of another generation do not count", 2, LATER, "token", NOW, STANDING_NOTHING },
        { "without a token it is bare", 3, LATER, NULL, NOW, STANDING_BARE },
        { "with an expired token it is bare", 3, LATER, "token", LATER, STANDING_BARE },
        { "with the token of another expiry it is bare", 3, LATER + 1000000, "token", NOW, STANDING_BARE },
};

static void check_standing(void **state) {
        const struct standing_case *c = *state;
        Assignment published = sas;

        set_up(NULL);
        published.generation = c->generation;
        published.token_expires_at_usec = c->expires_at_usec;
        publish(&published, c->token);
        assert_int_equal(standing(c->now_usec), c->standing);
        tear_down(NULL);
}

static void files_that_nobody_has_looked_at_may_be_worth_anything(void **state) {
        assert_int_equal(publication_standing(&(Published){ 0 }, &sas, NOW), STANDING_UNKNOWN);
}

static void without_published_files_nothing_stands(void **state) {
        assert_int_equal(standing(NOW), STANDING_NOTHING);
}

static void a_file_that_is_not_ours_does_not_count(void **state) {
        Folder *directory;

        publish(&sas, "token");
        assert_int_equal(folder_open_folder(disk.runtime, "gw", &directory), 0);
        small_disk_put(directory, "connection.json", "[]");
        folder_free(directory);
        assert_int_equal(standing(NOW), STANDING_NOTHING);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest plain[] = {
                cmocka_unit_test(a_token_comes_with_its_expiry),
                cmocka_unit_test(without_a_token_nothing_expires),
                cmocka_unit_test(the_hub_authentication_is_that_of_the_assignment),
                cmocka_unit_test(what_is_handed_out_fits_the_kind_of_the_hub),
                cmocka_unit_test(a_certificate_comes_with_its_kind_and_its_end),
                cmocka_unit_test(a_key_in_a_file_is_named_by_its_path),
                cmocka_unit_test(a_key_in_a_hardware_token_is_named_by_its_uri),
                cmocka_unit_test(a_shared_key_is_published),
                cmocka_unit_test(the_token_is_for_the_device_at_the_hub),
                cmocka_unit_test(files_that_nobody_has_looked_at_may_be_worth_anything),
                TEST(without_published_files_nothing_stands),
                TEST(a_file_that_is_not_ours_does_not_count),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(standing_cases)];
        size_t n = ELEMENTSOF(plain);

        memcpy(tests, plain, sizeof(plain));
        ADD_ROWS(tests, n, standing_cases, check_standing);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
