/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <sys/inotify.h>

#include "credential/credential-class.h"
#include "credential/credential.h"
#include "credentials.h"
#include "dps/key.h"
#include "dps/sas.h"
#include "small-world.h"

#define KEY_1 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define KEY_2 "AgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICE="
#define RESOURCE "0ne00AABBCC%2Fregistrations%2Fgw-1"
#define EXPIRY_SEC 1700000000

static bool has_no_memory; /* when set, slow keys have no memory */
static SmallWorld world;
static World *w = &world.world;

/* --- asking --------------------------------------------------------------------------------------------- */

static CredentialWish wish;

/* What the handlers received. */
static struct {
        unsigned n_calls;
        Credential *credential;
        char *token;
} answer;

static void forget_answer(void) {
        credential_unref(answer.credential);
        erase_and_free(answer.token);
        memset(&answer, 0, sizeof(answer));
        error = (DpsError){ 0 };
}

static void on_credential(Credential *credential, const DpsError *e, void *userdata) {
        assert_ptr_equal(userdata, &answer);
        assert_true(!credential != !e);
        answer.n_calls++;
        answer.credential = credential;
        if (e)
                error = *e;
}

static void on_token(char *token, const DpsError *e, void *userdata) {
        assert_ptr_equal(userdata, &answer);
        assert_true(!token != !e);
        answer.n_calls++;
        answer.token = token;
        if (e)
                error = *e;
}

static CredentialQuery *begin_load(void) {
        CredentialQuery *q = NULL;

        forget_answer();
        wish.settings = s;
        assert_int_equal(credential_load(w, &wish, on_credential, &answer, &q), 0);
        assert_non_null(q);
        assert_int_equal(answer.n_calls, 0);
        return q;
}

/* Returns the credential, or NULL with `error` set. */
static Credential *load(void) {
        (void) begin_load();
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 1);
        return answer.credential;
}

static Credential *load_index(unsigned index) {
        wish.index = index;
        return load();
}

static void assert_load_fails(DpsErrorId id, const char *words) {
        assert_null(load());
        assert_error(id, words);
}

static const CredentialClass *certificate_class;

static int set_up(void **state) {
        int r;

        certificate_class = certificate_class ?: credential_class(METHOD_X509);
        r = set_up_files();
        small_world_init(&world, false);
        wish = (CredentialWish){ .registration_id = "gw-1", .kept = _METHOD_MAX };
        memset(&answer, 0, sizeof(answer));
        return r;
}

static int set_up_threads(void **state) {
        int r;

        r = set_up(state);
        small_world_done(&world);
        small_world_init(&world, true);
        return r;
}

static int tear_down(void **state) {
        credential_set_class(METHOD_TPM, NULL);
        credential_set_class(METHOD_X509, certificate_class);
        has_no_memory = false;
        small_world_done(&world);
        forget_answer();
        return tear_down_files();
}

static void set_methods(Method first, Method second) {
        s->n_methods = 0;
        s->methods[s->n_methods++] = first;
        if (second != _METHOD_MAX)
                s->methods[s->n_methods++] = second;
}

static void add_key_file(const char *name, const char *key) {
        put(name, key, 0600);
        add_file(&s->keys, name);
}

static void add_key(void) {
        add_key_file("gw.key", KEY_1);
}

static void use_key(void) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add_key();
}

static void use_two_keys(void) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add_key_file("a.key", KEY_1);
        add_key_file("b.key", KEY_2);
}

/* --- symmetric keys ------------------------------------------------------------------------------------- */

static DpsKey key_of(const char *base64) {
        DpsKey key;

        assert_int_equal(dps_key_from_base64(base64, &key), 0);
        return key;
}

static void assert_token_is_signed_by(const char *token, const DpsKey *key) {
        DpsSas sas = { 0 };

        assert_int_equal(dps_sas_parse(token, &sas), 0);
        assert_true(dps_sas_is_signed_by(&sas, key) > 0);
        assert_string_equal(sas.resource, RESOURCE);
        assert_int_equal(sas.expiry_sec, EXPIRY_SEC);
        assert_string_equal(sas.policy, "registration");
        dps_sas_done(&sas);
}

static void assert_signs_as(Credential *c, const DpsKey *key) {
        _cleanup_(erase_and_freep) char *token = NULL;

        assert_non_null(c);
        assert_int_equal(credential_method(c), METHOD_SYMMETRIC_KEY);
        assert_int_equal(credential_expires_at_usec(c), 0);
        assert_null(credential_certificate(c));
        assert_int_equal(credential_sign(c, w, RESOURCE, EXPIRY_SEC, DPS_SAS_POLICY_REGISTRATION, &token,
                                         on_token, &answer, NULL, &error),
                         1);
        assert_token_is_signed_by(token, key);
}

static void a_token_is_signed_with_the_key_in_the_file(void **state) {
        DpsKey key = key_of(KEY_1);

        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add_key_file("gw.key", KEY_1 "\n");
        assert_signs_as(load(), &key);
}

static void a_systemd_credential_works_too(void **state) {
        DpsKey key = key_of(KEY_1);

        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        put("gw.key", KEY_1, 0600);
        add(&s->keys, "credential:gw.key");
        assert_signs_as(load(), &key);
}

static void each_key_of_the_list_can_sign(void **state) {
        DpsKey first = key_of(KEY_1), second = key_of(KEY_2);

        use_two_keys();
        assert_int_equal(credential_count(s, METHOD_SYMMETRIC_KEY), 2);
        assert_signs_as(load_index(0), &first);
        assert_int_equal(credential_index(answer.credential), 0);
        assert_signs_as(load_index(1), &second);
        assert_int_equal(credential_index(answer.credential), 1);
}

static void a_key_that_is_no_longer_in_the_list_is_replaced_by_the_first(void **state) {
        DpsKey key = key_of(KEY_1);

        use_key();
        wish.only = true;
        assert_signs_as(load_index(1), &key);
        assert_int_equal(credential_index(answer.credential), 0);
}

static void the_key_derived_from_a_group_key_signs(void **state) {
        DpsKey group = key_of(KEY_1), derived;

        assert_int_equal(dps_key_derive(&group, "gw-1", &derived), 0);
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        put("group.key", KEY_1, 0600);
        add_file(&s->group_keys, "group.key");
        assert_int_equal(credential_count(s, METHOD_SYMMETRIC_KEY), 1);
        assert_signs_as(load(), &derived);
}

/* Reading /proc/self/mem from its beginning fails with EIO. */
static void a_key_that_the_system_does_not_give_is_no_fault_of_the_configuration(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add(&s->keys, "/proc/self/mem");
        assert_null(load());
        assert_int_equal(error.id, DPS_ERROR_KEY);
        assert_non_null(strstr(error.message, "/proc/self/mem: Input/output error"));
}

static const struct key_case {
        const char *promise, *text;
        mode_t mode;
        DpsErrorId id;
        const char *words;
} key_cases[] = {
        { "a missing key is an error of id key", NULL, 0, DPS_ERROR_KEY, "No such file" },
        /* 0640 where there is a user dpsd */
        { "a key that others can read is refused", KEY_1, 0644, DPS_ERROR_CONFIG, "chmod 06" },
        { "a key that is not base64 is refused", "not base64!", 0600, DPS_ERROR_CONFIG, "not base64" },
        { "a short key is refused", "c2hvcnQ=", 0600, DPS_ERROR_CONFIG, "16 to 64 bytes" },
        { "an empty file is refused", "", 0600, DPS_ERROR_CONFIG, "gw.key" },
};

static void check_key(void **state) {
        const struct key_case *c = *state;

        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        if (c->text)
                put("gw.key", c->text, c->mode);
        add_file(&s->keys, "gw.key");
        assert_load_fails(c->id, "/etc/dps/gw.conf:7: Key=: ");
        assert_error(c->id, "/gw.key");
        assert_error(c->id, c->words);
        if (c->text && *c->text)
                assert_null(strstr(error.message, c->text));
}

static void the_cause_is_reported_even_after_a_long_path(void **state) {
        char path[600];

        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        memset(path, 'a', sizeof(path));
        for (size_t k = 0; k < sizeof(path); k += 100)
                path[k] = '/';
        strcpy(path + sizeof(path) - 8, "/gw.key");
        add(&s->keys, path);
        assert_load_fails(DPS_ERROR_KEY, "/etc/dps/gw.conf:7: Key=: /aaa");
        assert_error(DPS_ERROR_KEY, "/gw.key: No such file or directory");
}

static void a_missing_systemd_credential_is_an_error_of_id_key(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add(&s->group_keys, "credential:group.key");
        assert_load_fails(DPS_ERROR_KEY, "/etc/dps/gw.conf:7: GroupKey=: credential:group.key: ");
}

static void no_key_in_the_configuration_is_an_error_of_id_config(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        assert_load_fails(DPS_ERROR_CONFIG, "Key=: no key is configured");
}

static void a_key_with_a_zero_byte_is_refused(void **state) {
        _cleanup_(freep) char *path = path_of("gw.key");
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        assert_int_equal(write(fd, KEY_1 "\0x", sizeof(KEY_1) + 1), sizeof(KEY_1) + 1);
        add_file(&s->keys, "gw.key");
        assert_load_fails(DPS_ERROR_CONFIG, "not base64");
}

/* --- certificates --------------------------------------------------------------------------------------- */

static void use_two_pairs(void) {
        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        put_certificate("second.pem", rsa_key, "gw-1");
        put_key("second.key", rsa_key);
        add_file(&s->certificates, "second.pem");
        add_file(&s->private_keys, "second.key");
}

static void each_pair_of_the_lists_can_be_used(void **state) {
        use_two_pairs();
        assert_int_equal(credential_count(s, METHOD_X509), 2);
        assert_non_null(load_index(1));
        assert_int_equal(credential_method(answer.credential), METHOD_X509);
        assert_int_equal(credential_index(answer.credential), 1);
        assert_int_equal(EVP_PKEY_eq(credential_certificate(answer.credential)->key, rsa_key), 1);
}

static void a_certificate_expires_with_its_leaf(void **state) {
        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        assert_non_null(load());
        assert_int_equal(credential_expires_at_usec(answer.credential), UINT64_C(1000000) * NOT_AFTER_SEC);
}

static void a_certificate_without_a_private_key_line_is_refused(void **state) {
        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        add_file(&s->certificates, "cert.pem");
        assert_load_fails(DPS_ERROR_CONFIG, "as many PrivateKey= lines");
}

/* --- the method ----------------------------------------------------------------------------------------- */

static void assert_chosen(Method kept, Method expected) {
        wish.kept = kept;
        assert_non_null(load());
        assert_int_equal(credential_method(answer.credential), expected);
        assert_int_equal(ERR_peek_error(), 0);
}

static void the_first_method_is_used(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key();
        assert_chosen(_METHOD_MAX, METHOD_X509);
}

static void if_the_first_method_is_not_possible_the_next_is_used(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key();
        put_key("key.pem", other_key);
        assert_chosen(_METHOD_MAX, METHOD_SYMMETRIC_KEY);
}

static void a_method_that_this_build_does_not_support_is_passed_over(void **state) {
        set_methods(METHOD_TPM, METHOD_SYMMETRIC_KEY);
        add_key();
        assert_chosen(_METHOD_MAX, METHOD_SYMMETRIC_KEY);
}

static void the_kept_method_stays(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key();
        assert_chosen(METHOD_SYMMETRIC_KEY, METHOD_SYMMETRIC_KEY);
}

static void a_kept_method_that_is_not_in_method_is_given_up(void **state) {
        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        add_key();
        assert_chosen(METHOD_SYMMETRIC_KEY, METHOD_X509);
}

static void a_kept_method_whose_files_are_missing_stays(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, METHOD_X509);
        add_key();
        add_pair();
        assert_int_equal(unlink(s->certificates[0]), 0);
        wish.kept = METHOD_X509;
        assert_load_fails(DPS_ERROR_KEY, "/cert.pem: No such file");
}

static void a_kept_method_whose_key_is_damaged_stays(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        add_key_file("gw.key", "half of i!");
        wish.kept = METHOD_SYMMETRIC_KEY;
        assert_load_fails(DPS_ERROR_CONFIG, "not base64");
}

static void a_kept_method_without_keys_in_the_configuration_is_given_up(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, METHOD_X509);
        add_key();
        assert_chosen(METHOD_X509, METHOD_SYMMETRIC_KEY);
}

static unsigned count_one(const Settings *settings) {
        return 1;
}

static int load_unsupported(Credential *c, const CredentialSource *source, DpsError *e) {
        dps_error_set(e, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "not in this build");
        return -EOPNOTSUPP;
}

static void done_nothing(Credential *c) {
}

/* A build without the support for these certificates. */
static void use_unsupported_certificate(void) {
        static const CredentialClass class = { .method = METHOD_X509,
                                               .size = sizeof(Credential),
                                               .count = count_one,
                                               .load = load_unsupported,
                                               .done = done_nothing };

        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        credential_set_class(METHOD_X509, &class);
}

static void a_kept_method_that_this_build_does_not_support_is_given_up(void **state) {
        use_unsupported_certificate();
        add_key();
        assert_chosen(METHOD_X509, METHOD_SYMMETRIC_KEY);
}

static void one_good_key_of_several_is_enough(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        add_file(&s->keys, "not-there.key");
        add_key();
        assert_chosen(_METHOD_MAX, METHOD_SYMMETRIC_KEY);
        assert_int_equal(credential_index(answer.credential), 1);
}

static void if_the_wished_index_fails_the_first_good_one_is_used(void **state) {
        use_two_keys();
        assert_int_equal(unlink(s->keys[1]), 0);
        assert_non_null(load_index(1));
        assert_int_equal(credential_index(answer.credential), 0);
}

static void if_all_indexes_fail_the_error_is_that_of_the_wished_one(void **state) {
        use_two_keys();
        assert_int_equal(unlink(s->keys[0]), 0);
        put("b.key", "damaged!", 0600);
        wish.index = 1;
        assert_load_fails(DPS_ERROR_CONFIG, "/b.key: not base64");
}

static void only_the_wished_index_is_tried_on_request(void **state) {
        use_two_keys();
        assert_int_equal(unlink(s->keys[1]), 0);
        wish.index = 1;
        wish.only = true;
        assert_load_fails(DPS_ERROR_KEY, "/b.key: No such file");
}

static void an_index_of_the_kept_method_says_nothing_about_another(void **state) {
        use_unsupported_certificate();
        add_key_file("a.key", KEY_1);
        add_key_file("b.key", KEY_2);
        wish.index = 1;
        wish.only = true;
        assert_chosen(METHOD_X509, METHOD_SYMMETRIC_KEY);
        assert_int_equal(credential_index(answer.credential), 0);
        assert_int_equal(unlink(s->keys[0]), 0);
        assert_chosen(METHOD_X509, METHOD_SYMMETRIC_KEY);
        assert_int_equal(credential_index(answer.credential), 1);
}

static void if_no_method_is_possible_the_error_is_that_of_the_preferred_one(void **state) {
        set_methods(METHOD_X509, METHOD_SYMMETRIC_KEY);
        add_pair();
        put_key("key.pem", other_key);
        add_file(&s->keys, "not-there.key");
        assert_load_fails(DPS_ERROR_CONFIG, "not the key of the first certificate");
}

static void an_unsupported_method_does_not_hide_the_error_of_another_method(void **state) {
        set_methods(METHOD_TPM, METHOD_SYMMETRIC_KEY);
        add_file(&s->keys, "not-there.key");
        assert_load_fails(DPS_ERROR_KEY, "not-there.key");
}

static void an_unsupported_kept_method_does_not_hide_the_error_of_another_method(void **state) {
        use_unsupported_certificate();
        add_file(&s->keys, "not-there.key");
        wish.kept = METHOD_X509;
        assert_load_fails(DPS_ERROR_KEY, "not-there.key");
}

static void an_unsupported_method_is_the_error_if_there_is_no_other(void **state) {
        set_methods(METHOD_TPM, _METHOD_MAX);
        wish.kept = METHOD_TPM;
        assert_load_fails(DPS_ERROR_CONFIG, "Method=: tpm: module tpm");
        assert_int_equal(credential_count(s, METHOD_TPM), 0);
}

/* --- fingerprints --------------------------------------------------------------------------------------- */

static void assert_fingerprint(const char *expected) {
        assert_non_null(load());
        assert_string_equal(credential_fingerprint(answer.credential), expected);
}

/* Known from `printf 'dps credential fingerprint 1\ngw-1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:…`,
 * so that every version must give the same. */
static void the_fingerprint_of_a_key_never_changes(void **state) {
        use_key();
        assert_fingerprint("3f0eafb9d3714bbed43ac38c66472d35c5438623da9be977e6d6c43f44815eae");
}

static void the_fingerprint_of_a_group_key_is_that_of_the_derived_key(void **state) {
        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        put("group.key", KEY_1, 0600);
        add_file(&s->group_keys, "group.key");
        assert_fingerprint("d9153580dac896d35d6574fd82a99b04fcb3c66d122c2fea8f9fd6704b950f11");
}

static void assert_fingerprint_is_not(const char *other) {
        assert_non_null(load());
        assert_int_equal(strlen(credential_fingerprint(answer.credential)), 64);
        assert_string_not_equal(credential_fingerprint(answer.credential), other);
}

static void other_keys_and_other_devices_have_other_fingerprints(void **state) {
        char first[FINGERPRINT_SIZE];

        use_two_keys();
        assert_non_null(load());
        strcpy(first, credential_fingerprint(answer.credential));
        wish.registration_id = "gw-2";
        assert_fingerprint_is_not(first);
        wish.registration_id = "gw-1";
        wish.index = 1;
        assert_fingerprint_is_not(first);
}

static void the_case_of_a_registration_id_does_not_change_the_fingerprint(void **state) {
        char first[FINGERPRINT_SIZE];

        use_key();
        assert_non_null(load());
        strcpy(first, credential_fingerprint(answer.credential));
        wish.registration_id = "GW-1";
        assert_fingerprint(first);
}

static void the_fingerprint_of_a_certificate_is_the_hash_of_its_leaf(void **state) {
        unsigned char hash[32];
        char hex[65] = "";

        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        assert_non_null(load());
        assert_true(X509_digest(sk_X509_value(credential_certificate(answer.credential)->chain, 0),
                                EVP_sha256(), hash, NULL));
        for (unsigned i = 0; i < sizeof(hash); i++)
                (void) snprintf(hex + 2 * i, 3, "%02x", hash[i]);
        assert_string_equal(credential_fingerprint(answer.credential), hex);
}

/* --- files ---------------------------------------------------------------------------------------------- */

/* Counts how often each file is opened. The reads in between keep the kernel from merging events. */
static int watch_opens(void) {
        int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

        assert_true(fd >= 0);
        assert_true(inotify_add_watch(fd, directory, IN_OPEN | IN_ACCESS | IN_CLOSE) >= 0);
        return fd;
}

static unsigned count_opens(int fd, const char *name) {
        _Alignas(struct inotify_event) char buffer[8192];
        unsigned n_opens = 0;
        ssize_t n = read(fd, buffer, sizeof(buffer));

        assert_true(n > 0 || (n < 0 && errno == EAGAIN));
        for (char *p = buffer; n > 0 && p < buffer + n;) {
                const struct inotify_event *e = (const struct inotify_event *) p;

                assert_false(e->mask & IN_Q_OVERFLOW);
                if ((e->mask & IN_OPEN) && !(e->mask & IN_ISDIR) && (!name || streq(e->name, name)))
                        n_opens++;
                p += sizeof(*e) + e->len;
        }
        return n_opens;
}

static void assert_opens_once_each(unsigned n_files) {
        _cleanup_(closep) int fd = watch_opens();

        (void) load();
        assert_int_equal(count_opens(fd, NULL), n_files);
}

static void a_key_file_is_opened_once_for_all_tokens(void **state) {
        _cleanup_(closep) int fd = -1;
        DpsKey key = key_of(KEY_1);

        use_key();
        fd = watch_opens();
        assert_signs_as(load(), &key);
        assert_signs_as(answer.credential, &key);
        assert_non_null(credential_fingerprint(answer.credential));
        assert_int_equal(count_opens(fd, "gw.key"), 1);
}

static void opens_are_counted_even_when_they_follow_each_other(void **state) {
        _cleanup_(closep) int fd = -1;

        use_key();
        fd = watch_opens();
        (void) load();
        (void) load();
        assert_int_equal(count_opens(fd, "gw.key"), 2);
}

static void a_certificate_and_its_key_are_opened_once_each(void **state) {
        set_methods(METHOD_X509, _METHOD_MAX);
        add_pair();
        s->share_key = true;
        assert_opens_once_each(2);
        assert_non_null(answer.credential);
}

static void a_file_with_certificate_and_key_is_opened_once(void **state) {
        _cleanup_(freep) char *leaf = pem_of_certificate(ec_key, "gw-1", -1), *key = pem_of_key(ec_key, NULL);
        _cleanup_(freep) char *both = NULL;

        set_methods(METHOD_X509, _METHOD_MAX);
        assert_true(asprintf(&both, "%s%s", leaf, key) > 0);
        put("both.pem", both, 0600);
        add_file(&s->certificates, "both.pem");
        add_file(&s->private_keys, "both.pem");
        assert_opens_once_each(1);
        assert_non_null(answer.credential);
}

static void each_file_that_fails_is_opened_once(void **state) {
        use_two_keys();
        put("a.key", "damaged", 0600);
        put("b.key", "damaged!", 0600);
        wish.index = 1;
        assert_opens_once_each(2);
        assert_null(answer.credential);
}

static void the_files_of_a_kept_method_are_not_opened_again_after_it_is_given_up(void **state) {
        use_unsupported_certificate();
        add_key();
        wish.kept = METHOD_X509;
        assert_opens_once_each(1);
        assert_int_equal(credential_method(answer.credential), METHOD_SYMMETRIC_KEY);
}

static void all_files_are_to_be_watched(void **state) {
        _cleanup_(strv_freep) char **paths = NULL;

        add_pair();
        add_key();
        assert_int_equal(credential_paths(s, &paths), 0);
        assert_int_equal(strv_length(paths), 3);
        assert_true(strv_contains(paths, s->keys[0]));
        assert_true(strv_contains(paths, s->certificates[0]));
        assert_true(strv_contains(paths, s->private_keys[0]));
}

static void a_missing_systemd_credential_is_watched_under_both_names(void **state) {
        _cleanup_(strv_freep) char **paths = NULL;
        _cleanup_(freep) char *plain = path_of("gw.key"), *prefixed = path_of("dps_gw.key");

        add(&s->group_keys, "credential:gw.key");
        assert_int_equal(credential_paths(s, &paths), 0);
        assert_int_equal(strv_length(paths), 2);
        assert_true(strv_contains(paths, plain));
        assert_true(strv_contains(paths, prefixed));
}

static void a_key_in_hardware_is_not_watched_but_its_pin_is(void **state) {
        _cleanup_(strv_freep) char **paths = NULL;

        add(&s->private_keys, "pkcs11:token=gw");
        add(&s->private_keys, "handle:0x81000002");
        s->pin = path_of("pin");
        assert_int_equal(credential_paths(s, &paths), 0);
        assert_int_equal(strv_length(paths), 1);
        assert_true(strv_contains(paths, s->pin));
}

/* --- queries -------------------------------------------------------------------------------------------- */

static void a_query_that_is_freed_calls_no_handler(void **state) {
        use_key();
        credential_query_free(begin_load());
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 0);
        assert_int_equal(world.n_run, 0);
}

static CredentialQuery *own_query;

static void free_own_query(Credential *credential, const DpsError *e, void *userdata) {
        own_query = credential_query_free(own_query);
        on_credential(credential, e, userdata);
}

static void a_query_may_be_freed_by_its_handler(void **state) {
        use_key();
        wish.settings = s;
        assert_int_equal(credential_load(w, &wish, free_own_query, &answer, &own_query), 0);
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 1);
        assert_non_null(answer.credential);
}

static void a_query_need_not_be_held(void **state) {
        use_key();
        wish.settings = s;
        assert_int_equal(credential_load(w, &wish, on_credential, &answer, NULL), 0);
        small_world_pump(&world);
        assert_non_null(answer.credential);
}

static void no_query_is_made_if_the_world_refuses_the_work(void **state) {
        CredentialQuery *q = NULL;

        use_key();
        wish.settings = s;
        world.refuses_work = true;
        assert_int_equal(credential_load(w, &wish, on_credential, &answer, &q), -ENOMEM);
        assert_null(q);
        assert_int_equal(s->n_more_references, 0);
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 0);
}

static void the_wish_may_be_freed_while_a_query_runs(void **state) {
        DpsKey key = key_of(KEY_1);
        char id[] = "gw-1";

        use_key();
        wish.registration_id = id;
        (void) begin_load();
        memset(id, 'x', sizeof(id) - 1);
        s = settings_unref(s);
        small_world_pump(&world);
        assert_signs_as(answer.credential, &key);
        assert_non_null(credential_fingerprint(answer.credential));
}

static void several_queries_run_at_the_same_time(void **state) {
        CredentialQuery *queries[8] = { 0 };
        struct CredentialWish wishes[2];

        set_methods(METHOD_SYMMETRIC_KEY, METHOD_X509);
        add_key();
        add_pair();
        wishes[0] = wishes[1] =
                (CredentialWish){ .settings = s, .registration_id = "gw-1", .kept = METHOD_X509 };
        wishes[1].kept = METHOD_SYMMETRIC_KEY;
        for (unsigned i = 0; i < ELEMENTSOF(queries); i++) {
                forget_answer();
                assert_int_equal(credential_load(w, &wishes[i % 2], on_credential, &answer, &queries[i]), 0);
        }
        /* Free all but the last one: some have run, some have not. */
        for (unsigned i = 0; i + 1 < ELEMENTSOF(queries); i++)
                credential_query_free(queries[i]);
        s = settings_unref(s);
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 1);
        assert_int_equal(credential_method(answer.credential), METHOD_SYMMETRIC_KEY);
}

static void a_credential_lives_until_its_last_reference_goes(void **state) {
        DpsKey key = key_of(KEY_1);
        Credential *c;

        use_key();
        c = credential_ref(load());
        forget_answer();
        s = settings_unref(s);
        assert_signs_as(c, &key);
        credential_unref(c);
}

/* --- slow keys ------------------------------------------------------------------------------------------ */

/* Like a class that a module adds. */
typedef struct SlowKey {
        Credential credential;
        DpsKey key;
} SlowKey;

static bool slow_key_is_broken;
static unsigned n_slow_keys_done;

static unsigned count_slow_keys(const Settings *settings) {
        return 1;
}

static int load_slow_key(Credential *c, const CredentialSource *source, DpsError *e) {
        if (has_no_memory) {
                dps_error_set(e, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "out of memory");
                return -ENOMEM;
        }
        assert_string_equal(source->registration_id, "gw-1");
        ((SlowKey *) c)->key = key_of(KEY_2);
        strcpy(c->fingerprint, "f00d");
        return 0;
}

static int sign_slowly(const Credential *c, const char *resource, uint64_t expiry_sec, const char *policy,
                       char **ret, DpsError *e) {
        if (slow_key_is_broken) {
                dps_error_set(e, DPS_ERROR_KEY, DPS_STEP_CONFIG, "the chip does not answer");
                return -EIO;
        }
        return dps_sas_new(&((const SlowKey *) c)->key, resource, expiry_sec, policy, ret);
}

static void done_slow_key(Credential *c) {
        dps_key_done(&((SlowKey *) c)->key);
        __atomic_add_fetch(&n_slow_keys_done, 1, __ATOMIC_RELAXED);
}

static const CredentialClass slow_class = {
        .method = METHOD_TPM,
        .size = sizeof(SlowKey),
        .is_slow = true,
        .count = count_slow_keys,
        .load = load_slow_key,
        .sign = sign_slowly,
        .done = done_slow_key,
};

static Credential *load_slow(void) {
        slow_key_is_broken = false;
        n_slow_keys_done = 0;
        credential_set_class(METHOD_TPM, &slow_class);
        set_methods(METHOD_TPM, METHOD_SYMMETRIC_KEY);
        assert_non_null(load());
        assert_int_equal(credential_method(answer.credential), METHOD_TPM);
        assert_string_equal(credential_fingerprint(answer.credential), "f00d");
        assert_int_equal(credential_count(s, METHOD_TPM), 1);
        return credential_ref(answer.credential);
}

static void without_memory_no_other_method_is_used(void **state) {
        credential_set_class(METHOD_TPM, &slow_class);
        set_methods(METHOD_SYMMETRIC_KEY, METHOD_TPM);
        add_file(&s->keys, "not-there.key");
        has_no_memory = true;
        assert_load_fails(DPS_ERROR_MEMORY, "out of memory");
        set_methods(METHOD_TPM, METHOD_SYMMETRIC_KEY);
        add_key();
        assert_load_fails(DPS_ERROR_MEMORY, "out of memory");
        has_no_memory = false;
        assert_chosen(_METHOD_MAX, METHOD_TPM);
}

static CredentialQuery *begin_signing(Credential *c) {
        char resource[] = RESOURCE, policy[] = DPS_SAS_POLICY_REGISTRATION, *token = NULL;
        CredentialQuery *q = NULL;

        forget_answer();
        assert_int_equal(
                credential_sign(c, w, resource, EXPIRY_SEC, policy, &token, on_token, &answer, &q, &error),
                0);
        memset(resource, 'x', sizeof(resource) - 1);
        memset(policy, 'x', sizeof(policy) - 1);
        assert_non_null(q);
        assert_null(token);
        assert_int_equal(answer.n_calls, 0);
        return q;
}

static void a_slow_key_signs_on_the_worker(void **state) {
        _cleanup_(credential_unrefp) Credential *c = load_slow();
        DpsKey key = key_of(KEY_2);

        (void) begin_signing(c);
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 1);
        assert_token_is_signed_by(answer.token, &key);
}

static void an_error_of_a_slow_key_reaches_the_handler(void **state) {
        _cleanup_(credential_unrefp) Credential *c = load_slow();

        slow_key_is_broken = true;
        (void) begin_signing(c);
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 1);
        assert_null(answer.token);
        assert_error(DPS_ERROR_KEY, "the chip does not answer");
}

static void a_credential_may_be_freed_while_it_signs(void **state) {
        DpsKey key = key_of(KEY_2);
        Credential *c = load_slow();

        (void) begin_signing(c);
        credential_unref(c);
        small_world_pump(&world);
        assert_token_is_signed_by(answer.token, &key);
        assert_int_equal(n_slow_keys_done, 1);
}

static void a_signature_that_is_freed_calls_no_handler(void **state) {
        Credential *c = load_slow();

        credential_query_free(begin_signing(c));
        credential_unref(c);
        small_world_pump(&world);
        assert_int_equal(answer.n_calls, 0);
        assert_int_equal(n_slow_keys_done, 1);
}

/* For a program that asked for a token, as well as for what is to be published. */
static void a_chip_that_never_signs_is_given_up(void **state) {
        Credential *c = load_slow();

        free(s->tcti);
        s->tcti = strdup("device:/dev/tpmrm0");
        (void) begin_signing(c);
        small_world_expire(&world);
        assert_int_equal(answer.n_calls, 1);
        assert_null(answer.token);
        assert_error(DPS_ERROR_KEY, "device:/dev/tpmrm0: it has not answered within 60 s");
        assert_null(world.timer);
        credential_unref(c);

        small_world_pump(&world); /* it returns after all */
        assert_int_equal(answer.n_calls, 1);
        assert_int_equal(n_slow_keys_done, 1);
}

static void a_slow_key_fails_at_once_if_the_world_refuses_the_work(void **state) {
        _cleanup_(credential_unrefp) Credential *c = load_slow();
        CredentialQuery *q = NULL;
        char *token = NULL;

        forget_answer();
        world.refuses_work = true;
        assert_true(credential_sign(c, w, RESOURCE, EXPIRY_SEC, NULL, &token, on_token, &answer, &q, &error) <
                    0);
        assert_error(DPS_ERROR_MEMORY, "cannot be signed now");
        assert_null(token);
        assert_null(q);
        assert_int_equal(answer.n_calls, 0);
}

/* --- secrets -------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_PLAIN_HEAP false
#else
#define HAS_PLAIN_HEAP true
#endif

/* The bytes that are searched for are never on the heap themselves. */
static unsigned count_in_heap(const void *bytes, size_t size) {
        _cleanup_(fclosep) FILE *maps = fopen("/proc/self/maps", "re");
        unsigned long start, end;
        unsigned n = 0;
        char line[512];

        assert_non_null(maps);
        while (fgets(line, sizeof(line), maps)) {
                if (!strstr(line, "[heap]") || sscanf(line, "%lx-%lx", &start, &end) != 2)
                        continue;
                for (const char *p = (const char *) start; p + size <= (const char *) end; p++)
                        n += memcmp(p, bytes, size) == 0;
        }
        return n;
}

/* Not KEY_1, because its bytes are also a constant of OpenSSL's random generator. */
#define RARE_KEY "YW4gZXhhbXBsZSBvZiBhIGtleSwgMzIgYnl0ZXM6LSk="

static void a_key_is_once_in_memory_and_then_wiped(void **state) {
        char file[600];
        DpsKey key = key_of(RARE_KEY);

        set_methods(METHOD_SYMMETRIC_KEY, _METHOD_MAX);
        /* The key is in the middle of a large file, where no later allocation overwrites it. */
        (void) snprintf(file, sizeof(file), "%300s%250s", RARE_KEY, "\n");
        add_key_file("gw.key", file);
        assert_non_null(load());
        if (!HAS_PLAIN_HEAP || count_in_heap(key.bytes, key.size) == 0) {
                print_message("the heap is somewhere else here\n");
                skip();
        }
        assert_int_equal(count_in_heap(key.bytes, key.size), 1);
        assert_int_equal(count_in_heap(RARE_KEY, 16), 0);
        forget_answer();
        assert_int_equal(count_in_heap(key.bytes, 16), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define THREADED(f)                                                                                          \
        {                                                                                                    \
                .name = #f " (in threads)", .test_func = f, .setup_func = set_up_threads,                    \
                .teardown_func = tear_down                                                                   \
        }

int main(void) {
        static const struct CMUnitTest plain[] = {
                TEST(a_token_is_signed_with_the_key_in_the_file),
                TEST(a_systemd_credential_works_too),
                TEST(each_key_of_the_list_can_sign),
                TEST(a_key_that_is_no_longer_in_the_list_is_replaced_by_the_first),
                TEST(the_key_derived_from_a_group_key_signs),
                TEST(the_cause_is_reported_even_after_a_long_path),
                TEST(a_missing_systemd_credential_is_an_error_of_id_key),
                TEST(no_key_in_the_configuration_is_an_error_of_id_config),
                TEST(a_key_with_a_zero_byte_is_refused),
                TEST(each_pair_of_the_lists_can_be_used),
                TEST(a_certificate_expires_with_its_leaf),
                TEST(a_certificate_without_a_private_key_line_is_refused),
                TEST(the_first_method_is_used),
                TEST(if_the_first_method_is_not_possible_the_next_is_used),
                TEST(a_method_that_this_build_does_not_support_is_passed_over),
                TEST(the_kept_method_stays),
                TEST(a_kept_method_that_is_not_in_method_is_given_up),
                TEST(a_kept_method_whose_files_are_missing_stays),
                TEST(a_kept_method_whose_key_is_damaged_stays),
                TEST(a_kept_method_without_keys_in_the_configuration_is_given_up),
                TEST(a_kept_method_that_this_build_does_not_support_is_given_up),
                TEST(one_good_key_of_several_is_enough),
                TEST(if_the_wished_index_fails_the_first_good_one_is_used),
                TEST(if_all_indexes_fail_the_error_is_that_of_the_wished_one),
                TEST(only_the_wished_index_is_tried_on_request),
                TEST(an_index_of_the_kept_method_says_nothing_about_another),
                TEST(if_no_method_is_possible_the_error_is_that_of_the_preferred_one),
                TEST(an_unsupported_method_does_not_hide_the_error_of_another_method),
                TEST(an_unsupported_kept_method_does_not_hide_the_error_of_another_method),
                TEST(an_unsupported_method_is_the_error_if_there_is_no_other),
                TEST(the_fingerprint_of_a_key_never_changes),
                TEST(the_fingerprint_of_a_group_key_is_that_of_the_derived_key),
                TEST(other_keys_and_other_devices_have_other_fingerprints),
                TEST(the_case_of_a_registration_id_does_not_change_the_fingerprint),
                TEST(the_fingerprint_of_a_certificate_is_the_hash_of_its_leaf),
                TEST(a_key_that_the_system_does_not_give_is_no_fault_of_the_configuration),
                TEST(a_key_file_is_opened_once_for_all_tokens),
                TEST(opens_are_counted_even_when_they_follow_each_other),
                TEST(a_certificate_and_its_key_are_opened_once_each),
                TEST(a_file_with_certificate_and_key_is_opened_once),
                TEST(each_file_that_fails_is_opened_once),
                TEST(the_files_of_a_kept_method_are_not_opened_again_after_it_is_given_up),
                TEST(all_files_are_to_be_watched),
                TEST(a_missing_systemd_credential_is_watched_under_both_names),
                TEST(a_key_in_hardware_is_not_watched_but_its_pin_is),
                TEST(a_query_that_is_freed_calls_no_handler),
                TEST(a_query_may_be_freed_by_its_handler),
                TEST(a_query_need_not_be_held),
                TEST(no_query_is_made_if_the_world_refuses_the_work),
                TEST(the_wish_may_be_freed_while_a_query_runs),
                TEST(a_credential_lives_until_its_last_reference_goes),
                TEST(without_memory_no_other_method_is_used),
                TEST(a_slow_key_signs_on_the_worker),
                TEST(an_error_of_a_slow_key_reaches_the_handler),
                TEST(a_credential_may_be_freed_while_it_signs),
                TEST(a_chip_that_never_signs_is_given_up),
                TEST(a_signature_that_is_freed_calls_no_handler),
                TEST(a_slow_key_fails_at_once_if_the_world_refuses_the_work),
                TEST(a_key_is_once_in_memory_and_then_wiped),
                THREADED(several_queries_run_at_the_same_time),
                THREADED(the_wish_may_be_freed_while_a_query_runs),
                THREADED(a_slow_key_signs_on_the_worker),
                THREADED(a_credential_may_be_freed_while_it_signs),
                THREADED(a_chip_that_never_signs_is_given_up),
                THREADED(a_signature_that_is_freed_calls_no_handler),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(key_cases)];
        size_t n = ELEMENTSOF(plain);

        memcpy(tests, plain, sizeof(plain));
        for (size_t i = 0; i < ELEMENTSOF(key_cases); i++)
                tests[n++] = (struct CMUnitTest){ .name = key_cases[i].promise,
                                                  .test_func = check_key,
                                                  .setup_func = set_up,
                                                  .teardown_func = tear_down,
                                                  .initial_state = (void *) &key_cases[i] };
        return cmocka_run_group_tests(tests, set_up_keys, tear_down_keys);
}
