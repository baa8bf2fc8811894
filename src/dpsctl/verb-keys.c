/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "basic/files.h"
#include "basic/text.h"
#include "basic/times.h"
#include "config/key-text.h"
#include "config/settings.h"
#include "dps/key.h"
#include "dps/reply.h"
#include "dps/request.h"
#include "dps/sas.h"
#include "dpsctl/output.h"

/* Derives keys and makes SAS tokens without the daemon. The key comes from a file or from standard input: an argument could
 * be seen by everybody on this device, and would stay in the history of the shell. */

#define LIFETIME_DEFAULT_USEC USEC_PER_HOUR

static int read_text(int fd, char text[static KEY_TEXT_MAX], size_t *ret_size) {
        size_t size = 0;

        while (size < KEY_TEXT_MAX) {
                ssize_t n = read(fd, text + size, KEY_TEXT_MAX - size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                size += (size_t) n;
                if (n == 0)
                        break;
        }
        *ret_size = size;
        return 0;
}

/* OpenSSL reads it without an echo, and resets the terminal even after ^C. */
static int read_terminal(char text[static KEY_TEXT_MAX], size_t *ret_size) {
        if (EVP_read_pw_string(text, KEY_TEXT_MAX, "Key (base64, not shown): ", 0) != 0)
                return -ECANCELED;
        *ret_size = strlen(text);
        return 0;
}

static const char *source_shown(const char *source) {
        return streq(source, "-") ? "standard input" : source;
}

int key_refused(const char *source, const char *why) {
        return fail_with(EXIT_FAILED, "the key from %s is not valid: %s", source_shown(source), why);
}

/* Only standard input may be a pipe that is waited for. */
static int read_source(const char *source, char text[static KEY_TEXT_MAX], size_t *ret_size) {
        _cleanup_(freep) char *found = NULL;
        int r;

        if (streq(source, "-"))
                return isatty(STDIN_FILENO) ? read_terminal(text, ret_size)
                                            : read_text(STDIN_FILENO, text, ret_size);
        r = file_read(source, KEY_TEXT_MAX, &found, ret_size);
        if (r < 0)
                return r;
        memcpy(text, found, *ret_size);
        explicit_bzero(found, *ret_size);
        return 0;
}

int read_key_text(const char *source, char text[static KEY_TEXT_MAX + 1], size_t *ret_size) {
        int r;

        r = read_source(source, text, ret_size);
        if (r < 0)
                return fail_with(EXIT_FAILED, "the key cannot be read from %s: %s", source_shown(source),
                                 file_error(r));
        text[*ret_size] = '\0';
        return 0;
}

static int read_key(const Options *o, DpsKey *ret) {
        const char *source = o->key ?: "-", *why = NULL;
        char text[KEY_TEXT_MAX + 1];
        size_t size;
        int r;

        r = read_key_text(source, text, &size);
        if (r != 0)
                return r;
        r = key_from_text(text, size, ret, &why);
        explicit_bzero(text, sizeof(text));
        if (r < 0)
                return key_refused(source, why ?: strerror(-r));
        return 0;
}

static int output_secret(const Options *o, const char *member, const char *text, uint64_t expiry_sec) {
        if (o->json == JSON_OFF)
                return print_text(text);
        return output_json(o, json_pack("tsT", "version", (uint64_t) 1, member, text, "ExpiresAt",
                                        expiry_sec * USEC_PER_SEC));
}

/* Refuses what DPS or the hub would refuse anyway. */
static int check_word(const char *what, const char *word, bool (*is_valid)(const char *)) {
        return is_valid(word) ? 0 : fail_with(EXIT_USAGE, "'%s' is not a valid %s", word, what);
}

int verb_derive_key(const Options *o) {
        _cleanup_(dps_key_done) DpsKey group = { 0 }, device = { 0 };
        _cleanup_(erase_and_freep) char *text = NULL;
        int r;

        if (o->redact)
                return fail_with(EXIT_USAGE, "derive-key does not take --redact: its output is a secret");
        r = check_word("registration id", o->arguments[0], dps_registration_id_is_valid);
        if (r == 0)
                r = read_key(o, &group);
        if (r != 0)
                return r;

        r = dps_key_derive(&group, o->arguments[0], &device);
        if (r >= 0)
                r = dps_key_to_base64(&device, &text);
        if (r < 0)
                return fail_with(EXIT_FAILED, "the key cannot be derived: %s", strerror(-r));
        if (registration_id_has_capitals(o->arguments[0]) && !o->quiet)
                say_error("dpsctl: the registration id " SETTINGS_CAPITALS_WARNING);
        return output_secret(o, "Key", text, 0);
}

/* The token is for a device at DPS, or for a device at its hub. */
static int make_resource(const Options *o, char **ret, const char **ret_policy) {
        bool is_dps = o->id_scope || o->registration_id, is_hub = o->hub || o->device_id;
        int r;

        if (is_dps == is_hub || (is_dps && !(o->id_scope && o->registration_id)) ||
            (is_hub && !(o->hub && o->device_id)))
                return fail_with(EXIT_USAGE,
                                 "sas needs either --id-scope= and --registration-id=, for DPS, or "
                                 "--hub= and --device-id=, for a hub");
        if (is_dps)
                r = check_word("ID scope", o->id_scope, dps_id_scope_is_valid)
                            ?: check_word("registration id", o->registration_id,
                                          dps_registration_id_is_valid);
        else
                r = check_word("host name", o->hub, dps_host_name_is_valid)
                            ?: check_word("device id", o->device_id, dps_device_id_is_valid);
        if (r != 0)
                return r;

        *ret_policy = is_dps ? DPS_SAS_POLICY_REGISTRATION : NULL;
        r = is_dps ? dps_sas_resource_registration(o->id_scope, o->registration_id, ret)
                   : dps_sas_resource_hub(o->hub, o->device_id, ret);
        return r < 0 ? fail_with(EXIT_FAILED, "the token cannot be made: %s", strerror(-r)) : 0;
}

static int choose_expiry(const Options *o, uint64_t *ret_sec) {
        uint64_t lifetime_usec = o->lifetime_usec ?: LIFETIME_DEFAULT_USEC;

        if (o->expiry_sec > 0 && o->lifetime_usec > 0)
                return fail_with(EXIT_USAGE, "--expiry= and --lifetime= exclude each other");
        if (lifetime_usec < USEC_PER_SEC || lifetime_usec > 100 * USEC_PER_YEAR)
                return fail_with(EXIT_USAGE, "--lifetime= must be from 1 second to 100 years");
        *ret_sec = o->expiry_sec ?: (now_usec(CLOCK_REALTIME) + lifetime_usec) / USEC_PER_SEC;
        return 0;
}

int verb_sas(const Options *o) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        _cleanup_(erase_and_freep) char *token = NULL;
        _cleanup_(freep) char *resource = NULL;
        const char *policy = NULL;
        uint64_t expiry_sec = 0;
        int r;

        if (o->redact)
                return fail_with(EXIT_USAGE, "sas does not take --redact: its output is a secret");
        r = make_resource(o, &resource, &policy);
        if (r == 0)
                r = choose_expiry(o, &expiry_sec);
        if (r == 0)
                r = read_key(o, &key);
        if (r != 0)
                return r;

        r = dps_sas_new(&key, resource, expiry_sec, policy, &token);
        if (r < 0)
                return fail_with(EXIT_FAILED, "the token cannot be made: %s", strerror(-r));
        return output_secret(o, "Token", token, expiry_sec);
}
