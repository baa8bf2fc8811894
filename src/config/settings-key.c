/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"
#include "basic/why.h"
#include "config/proxy.h"
#include "config/settings-internal.h"
#include "dps/request.h"

#define WORDS_MAX 256 /* for one key */
#define SHOWN_SIZE_MAX 128

#define TOKEN_LIFETIME_MIN (30 * USEC_PER_SEC)
#define TOKEN_LIFETIME_MAX (10 * USEC_PER_YEAR)
#define SPLAY_MAX (30 * USEC_PER_DAY)

static const char *const method_names[_METHOD_MAX] = {
        [METHOD_SYMMETRIC_KEY] = "symmetric-key",
        [METHOD_X509] = "x509",
        [METHOD_TPM] = "tpm",
};

static const char *const transport_names[_TRANSPORT_MAX] = {
        [TRANSPORT_AUTO] = "auto",
        [TRANSPORT_MQTT] = "mqtt",
        [TRANSPORT_HTTPS] = "https",
};

static const char *const renew_names[_RENEW_MAX] = {
        [RENEW_PROVISION] = "provision",
        [RENEW_TOKEN] = "token",
};

static const char *const key_type_names[_KEY_TYPE_MAX] = {
        [KEY_TYPE_EC_P256] = "ec-p256",
        [KEY_TYPE_EC_P384] = "ec-p384",
        [KEY_TYPE_RSA_2048] = "rsa-2048",
};

static int word_from_list(const char *word, const char *const *names, int n) {
        for (int i = 0; i < n; i++)
                if (streq(word, names[i]))
                        return i;
        return -EINVAL;
}

const char *method_to_string(Method m) {
        return m < _METHOD_MAX ? method_names[m] : "";
}

int method_from_string(const char *word, Method *ret) {
        int r = word_from_list(word, method_names, _METHOD_MAX);

        if (r < 0)
                return r;
        *ret = (Method) r;
        return 0;
}

const char *transport_choice_to_string(TransportChoice t) {
        return t < _TRANSPORT_MAX ? transport_names[t] : "";
}

#define AT(member) offsetof(Settings, member), sizeof(((Settings *) NULL)->member)
#define KEY_REFERENCES (KEY_LIST | KEY_SECRET | KEY_EXPANDED | KEY_CHECKED)

/* clang-format off */
static const Key keys[] = {
        { "Provisioning", "IdScope",                AT(id_scope),                 FIELD_TEXT,         id_scope_check,        KEY_EXPANDED | KEY_PRIVATE },
        { "Provisioning", "RegistrationId",         AT(registration_id),          FIELD_TEXT,         registration_id_check, KEY_EXPANDED | KEY_PRIVATE },
        { "Provisioning", "Endpoint",               AT(endpoint),                 FIELD_TEXT,         endpoint_check,        KEY_EXPANDED },
        { "Provisioning", "Address",                AT(addresses),                FIELD_WORDS,        address_check,         KEY_LIST },
        { "Provisioning", "MqttPort",               AT(mqtt_port),                FIELD_PORT,         NULL,                  0 },
        { "Provisioning", "HttpsPort",              AT(https_port),               FIELD_PORT,         NULL,                  0 },
        { "Provisioning", "Transport",              AT(transport),                FIELD_TRANSPORT,    NULL,                  0 },
        { "Provisioning", "ApiVersion",             AT(api_version),              FIELD_TEXT,         api_version_check,     0 },
        { "Provisioning", "Payload",                AT(payload),                  FIELD_TEXT,         payload_check,         KEY_EXPANDED },
        { "Provisioning", "PayloadFile",            AT(payload_file),             FIELD_TEXT,         path_check,            KEY_EXPANDED },
        { "Provisioning", "Splay",                  AT(splay_usec),               FIELD_SPLAY,        NULL,                  0 },
        { "Provisioning", "RequiredForProvisioned", AT(required_for_provisioned), FIELD_BOOL,         NULL,                  0 },
        { "Provisioning", "Proxy",                  AT(proxy),                    FIELD_TEXT,         proxy_check,           KEY_SECRET },
        { "Provisioning", "ProxyPassword",          AT(proxy_password),           FIELD_TEXT,         reference_check,       KEY_REFERENCES & ~KEY_LIST },
        { "Provisioning", "NoProxy",                AT(no_proxy),                 FIELD_WORDS,        no_proxy_check,        KEY_LIST },
        { "Provisioning", "CaFile",                 AT(ca_files),                 FIELD_TEXTS,        path_check,            KEY_LIST | KEY_EXPANDED | KEY_SYSTEM },
        { "Attestation",  "Method",                 AT(methods),                  FIELD_METHODS,      NULL,                  KEY_LIST },
        { "Attestation",  "Key",                    AT(keys),                     FIELD_TEXTS,        reference_check,       KEY_REFERENCES },
        { "Attestation",  "GroupKey",               AT(group_keys),               FIELD_TEXTS,        reference_check,       KEY_REFERENCES },
        { "Attestation",  "Certificate",            AT(certificates),             FIELD_TEXTS,        certificate_check,     KEY_LIST | KEY_EXPANDED | KEY_CHECKED },
        { "Attestation",  "PrivateKey",             AT(private_keys),             FIELD_TEXTS,        private_key_check,     KEY_REFERENCES },
        { "Attestation",  "Pin",                    AT(pin),                      FIELD_TEXT,         reference_check,       KEY_REFERENCES & ~KEY_LIST },
        { "Attestation",  "Pkcs11Module",           AT(pkcs11_module),            FIELD_TEXT,         path_check,            0 },
        { "Attestation",  "Tcti",                   AT(tcti),                     FIELD_TEXT,         tcti_check,            0 },
        { "Attestation",  "EkHandle",               AT(ek_handle),                FIELD_HANDLE,       NULL,                  0 },
        { "Attestation",  "SrkHandle",              AT(srk_handle),               FIELD_HANDLE,       NULL,                  0 },
        { "Attestation",  "TpmKeyHandle",           AT(tpm_key_handle),           FIELD_HANDLE,       NULL,                  0 },
        { "Attestation",  "TpmOwnerAuth",           AT(tpm_owner_auth),           FIELD_TEXT,         reference_check,       KEY_SECRET },
        { "Attestation",  "TpmEndorsementAuth",     AT(tpm_endorsement_auth),     FIELD_TEXT,         reference_check,       KEY_SECRET },
        { "Hub",          "TokenLifetime",          AT(token_lifetime_usec),      FIELD_LIFETIME,     NULL,                  0 },
        { "Hub",          "RenewBefore",            AT(renew_before_usec),        FIELD_RENEW_BEFORE, NULL,                  0 },
        { "Hub",          "Renew",                  AT(renew),                    FIELD_RENEW,        NULL,                  0 },
        { "Hub",          "RestartUnits",           AT(restart_units),            FIELD_WORDS,        unit_check,            KEY_LIST },
        { "Hub",          "ReloadUnits",            AT(reload_units),             FIELD_WORDS,        unit_check,            KEY_LIST },
        { "Issuance",     "Request",                AT(issuance_requested),       FIELD_BOOL,         NULL,                  0 },
        { "Issuance",     "Key",                    AT(issuance_key),             FIELD_TEXT,         issuance_key_check,    KEY_SECRET },
        { "Issuance",     "KeyType",                AT(issuance_key_type),        FIELD_KEY_TYPE,     NULL,                  0 },
        { "Issuance",     "RenewAt",                AT(issuance_renew_before_usec), FIELD_RENEW_AT,   NULL,                  0 },
        { "Access",       "Group",                  AT(group),                    FIELD_TEXT,         group_check,           0 },
        { "Access",       "ShareKey",               AT(share_key),                FIELD_BOOL,         NULL,                  0 },
        { "Access",       "Api",                    AT(api),                      FIELD_BOOL,         NULL,                  0 },
        { "Daemon",       "MaxAttempts",            0, 0,                         FIELD_ATTEMPTS,     NULL,                  KEY_DAEMON },
};
/* clang-format on */
static_assert(ELEMENTSOF(keys) == N_KEYS, "a Reading must have room for a choice for each key");
const Key *const settings_keys = keys;

const Key *key_find(const char *section, const char *name) {
        for (size_t i = 0; i < N_KEYS; i++)
                if (streq(settings_keys[i].name, name) &&
                    (!section || streq(settings_keys[i].section, section)))
                        return &settings_keys[i];
        return NULL;
}

bool settings_key_is_secret(const char *section, const char *key) {
        const Key *k = key_find(section, key);

        return !k || (k->flags & KEY_SECRET); /* a misspelt "GroupKye" may hold a secret, too */
}

/* DPS compares ids without regard to case, but derives from the id as it knows it. */
bool registration_id_has_capitals(const char *id) {
        return id[strcspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")];
}

bool settings_derive_from_capitals(const Settings *s) {
        return s->group_keys && registration_id_has_capitals(s->registration_id);
}

void *key_field(const Key *k, const Settings *s) {
        return (char *) s + k->offset;
}

bool key_is_text(const Key *k) {
        return k->type == FIELD_TEXT;
}

bool key_is_texts(const Key *k) {
        return k->type == FIELD_TEXTS || k->type == FIELD_WORDS;
}

static int store_words(const Key *k, char ***field, const char *value, char **ret_why) {
        _cleanup_(strv_freep) char **words = NULL;
        int r;

        r = strv_split(value, " \t,", &words);
        if (r < 0)
                return r;
        if (strv_length(*field) + strv_length(words) > WORDS_MAX)
                return why(ret_why, -EINVAL, "more than %d words", WORDS_MAX);
        STRV_FOREACH(w, words) {
                r = k->check(*w, ret_why);
                if (r < 0)
                        return r;
        }

        r = strv_extend(field, words);
        if (r < 0)
                return r;
        return 0;
}

static bool has_method(const Settings *s, Method m) {
        for (unsigned i = 0; i < s->n_methods; i++)
                if (s->methods[i] == m)
                        return true;
        return false;
}

static int store_methods(Settings *s, const char *value, char **ret_why) {
        _cleanup_(strv_freep) char **words = NULL;
        Method m;
        int r;

        r = strv_split(value, " \t,", &words);
        if (r < 0)
                return r;

        STRV_FOREACH(w, words) {
                r = method_from_string(*w, &m);
                if (r < 0)
                        return why(ret_why, -EINVAL,
                                   "there is no method '%.40s'; the methods are symmetric-key, x509 and tpm",
                                   *w);
                if (!has_method(s, m))
                        s->methods[s->n_methods++] = m;
        }
        return 0;
}

static int store_port(uint16_t *field, const char *value, char **ret_why) {
        uint64_t n;

        if (parse_u64(value, &n) < 0 || n < 1 || n > UINT16_MAX)
                return why(ret_why, -EINVAL, "must be a port from 1 to 65535");
        *field = (uint16_t) n;
        return 0;
}

/* Only persistent objects: transient ones do not survive a reset of the TPM, and indexes and registers are not
 * keys. */
static int store_handle(uint32_t *field, const char *value, char **ret_why) {
        unsigned long n = 0;

        if (startswith(value, "0x") && strlen(value) == 10 &&
            value[2 + strspn(value + 2, "0123456789abcdefABCDEF")] == 0)
                n = strtoul(value, NULL, 16);
        if (n >> 24 != 0x81)
                return why(ret_why, -EINVAL,
                           "must be the handle of a persistent object, 0x81000000 to 0x81ffffff");
        *field = (uint32_t) n;
        return 0;
}

static int store_bool(bool *field, const char *value, char **ret_why) {
        int r = parse_boolean(value);

        if (r < 0)
                return why(ret_why, -EINVAL, "must be yes or no");
        *field = r;
        return 0;
}

/* The field is an enum. */
static int store_word(void *field, const char *value, const char *const *names, int n, const char *all,
                      char **ret_why) {
        int word = word_from_list(value, names, n);

        if (word < 0)
                return why(ret_why, word, "must be %s", all);
        memcpy(field, &word, sizeof(word));
        return 0;
}

static int store_duration(uint64_t *field, const char *value, uint64_t min, uint64_t max, char **ret_why) {
        char least[DURATION_TEXT_MAX], most[DURATION_TEXT_MAX];
        uint64_t usec;
        int r;

        r = parse_duration(value, &usec);
        if (r == -EINVAL)
                return why(ret_why, r, "not a duration, such as 90, 2min or 30d");
        if (r < 0 || usec > max)
                return why(ret_why, -EINVAL, "too long: at most %s", format_duration(max, most));
        if (usec < min)
                return why(ret_why, -EINVAL, "too short: at least %s", format_duration(min, least));
        *field = usec;
        return 0;
}

/* Either a part of `what` in percent, or a duration. */
static int store_part(unsigned *percent, uint64_t *usec, const char *value, const char *what,
                      char **ret_why) {
        const char *end = value;
        uint64_t n;

        if (scan_u64(&end, &n) >= 0 && streq(end, "%")) {
                if (n < 1 || n > 99)
                        return why(ret_why, -EINVAL, "must be 1%% to 99%% of %s", what);
                *percent = (unsigned) n;
                *usec = 0;
                return 0;
        }

        *percent = 0;
        return store_duration(usec, value, USEC_PER_SEC, TOKEN_LIFETIME_MAX, ret_why);
}

static int store_text(char **field, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        erase_and_free(*field);
        *field = copy;
        return 0;
}

static int check_value(const Key *k, const char *value, char **ret_why) {
        int r;

        /* No value of a specifier can make this valid. */
        if ((k->flags & KEY_EXPANDED) && (*value == '"' || *value == '\'') && specifier_present(value))
                return why(ret_why, -EINVAL, "must not be in quotes");
        if (k->check && k->type != FIELD_WORDS &&
            (!(k->flags & KEY_EXPANDED) || (k->flags & KEY_CHECKED) || !specifier_present(value))) {
                r = k->check(value, ret_why);
                if (r < 0)
                        return r;
        }

        if (!(k->flags & KEY_EXPANDED) || private_key_is_uri(value))
                return 0;
        r = specifier_check(value, ret_why);
        if (r == -EINVAL && (k->flags & KEY_SECRET)) {
                free(TAKE_PTR(*ret_why));
                return why(ret_why, r, "has an invalid specifier (the value is not shown)");
        }
        return r;
}

int key_store(const Key *k, Settings *s, const char *value, char **ret_why) {
        void *field = key_field(k, s);
        int r;

        r = check_value(k, value, ret_why);
        if (r < 0)
                return r;

        switch (k->type) {
        case FIELD_TEXT:
                return store_text(field, value);
        case FIELD_TEXTS:
                return strv_append(field, value);
        case FIELD_WORDS:
                return store_words(k, field, value, ret_why);
        case FIELD_PORT:
                return store_port(field, value, ret_why);
        case FIELD_HANDLE:
                return store_handle(field, value, ret_why);
        case FIELD_SPLAY:
                return store_duration(field, value, 0, SPLAY_MAX, ret_why);
        case FIELD_LIFETIME:
                return store_duration(field, value, TOKEN_LIFETIME_MIN, TOKEN_LIFETIME_MAX, ret_why);
        case FIELD_BOOL:
                return store_bool(field, value, ret_why);
        case FIELD_TRANSPORT:
                return store_word(field, value, transport_names, _TRANSPORT_MAX, "auto, mqtt or https",
                                  ret_why);
        case FIELD_RENEW:
                return store_word(field, value, renew_names, _RENEW_MAX, "provision or token", ret_why);
        case FIELD_RENEW_BEFORE:
                return store_part(&s->renew_before_percent, field, value, "the lifetime, or a duration",
                                  ret_why);
        case FIELD_KEY_TYPE:
                return store_word(field, value, key_type_names, _KEY_TYPE_MAX, "ec-p256, ec-p384 or rsa-2048",
                                  ret_why);
        case FIELD_RENEW_AT:
                return store_part(&s->issuance_renew_percent, field, value,
                                  "the certificate's life, or a duration before its end", ret_why);
        case FIELD_METHODS:
                return store_methods(s, value, ret_why);
        case FIELD_ATTEMPTS:
                return 0;
        }
        abort();
}

bool key_may_be_shown(const Key *k, const char *value) {
        return !(k->flags & KEY_SECRET) && k->check != payload_check && !strcasestr(value, "SharedAccess");
}

char *key_quote(const Key *k, const char *value) {
        bool is_private = k->flags & KEY_PRIVATE;
        char *shown = text_format(is_private ? "\"%.*s%s\"" : "%.*s%s", SHOWN_SIZE_MAX, value,
                                  strlen(value) > SHOWN_SIZE_MAX ? "..." : "");

        if (!shown)
                return NULL;
        for (char *p = shown + 1; is_private && p[0] && p[1]; p++)
                if (*p == '"')
                        *p = '\'';
        return shown;
}

int place_set(Place *place, const char *file, unsigned line) {
        *place = (Place){ .file = strdup(file), .line = line };
        return place->file ? 0 : -ENOMEM;
}
