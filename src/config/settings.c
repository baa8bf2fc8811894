/* SPDX-License-Identifier: MIT */
#include "config/settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/times.h"
#include "config/secret.h"
#include "config/why.h"
#include "dps/request.h"

/*
 * Two steps. First the lines of dpsd.conf and of the identity settle which values count for each key: a bad value that
 * a drop-in has replaced harms nobody. Then those are checked and stored, and looked at together. A key is one row of
 * a table, which reading, comparing, copying and expanding all go by.
 */

#define LIST_LINES_MAX 64 /* of one key */
#define UNKNOWN_MAX 20    /* told, of one identity */
#define WORDS_MAX 256     /* of one key */

#define MAX_ATTEMPTS_DEFAULT 50
#define MAX_ATTEMPTS_MAX 10000

#define TOKEN_LIFETIME_MIN (30 * USEC_PER_SEC)
#define TOKEN_LIFETIME_MAX (10 * USEC_PER_YEAR)
#define TOKEN_LIFETIME_SHORT USEC_PER_HOUR
#define SPLAY_MAX (30 * USEC_PER_DAY)

/* --- words -------------------------------------------------------------------------------------------------- */

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

/* --- what a value must be ----------------------------------------------------------------------------------- */

static bool consists_of(const char *text, const char *extra) {
        for (const char *p = text; *p; p++)
                if (!isalnum((unsigned char) *p) && !strchr(extra, *p))
                        return false;
        return *text;
}

static int check_id_scope(const char *value, char **ret_why) {
        if ((consists_of(value, "-") && strlen(value) <= 64))
                return 0;
        return why(ret_why, -EINVAL,
                   "not an ID scope, which is letters, digits and -, such as 0ne00AABBCC; the overview page "
                   "of the "
                   "DPS instance tells it");
}

static int check_registration_id(const char *value, char **ret_why) {
        size_t size = strlen(value);

        if (consists_of(value, "._:-") && size <= DPS_REGISTRATION_ID_MAX &&
            (isalnum((unsigned char) value[size - 1]) || value[size - 1] == '-'))
                return 0;
        return why(ret_why, -EINVAL,
                   "not a registration ID, which is 1 to 128 of A-Z a-z 0-9 - . _ : and ends with a letter, "
                   "a digit "
                   "or -");
}

static bool is_numeric_address(const char *value) {
        unsigned char buffer[sizeof(struct in6_addr)];

        return inet_pton(AF_INET, value, buffer) == 1 || inet_pton(AF_INET6, value, buffer) == 1;
}

static bool is_host_name(const char *value) {
        return strlen(value) <= 253 && consists_of(value, "-._") && value[0] != '.' && value[0] != '-' &&
               !strstr(value, "..");
}

static int check_endpoint(const char *value, char **ret_why) {
        const char *colon = strchr(value, ':');

        if (is_numeric_address(value))
                return 0;
        if (strstr(value, "://") || strchr(value, '/'))
                return why(ret_why, -EINVAL,
                           "a name alone is wanted, without https:// or mqtts:// and without path");
        if (colon && strspn(colon + 1, "0123456789") == strlen(colon + 1))
                return why(ret_why, -EINVAL,
                           "a name alone is wanted; a port belongs into MqttPort= or HttpsPort=");
        if (endswith(value, ".azure-devices.net"))
                return why(ret_why, -EINVAL,
                           "that is an IoT hub; DPS is global.azure-devices-provisioning.net, and says which "
                           "hub it "
                           "is");
        if (!is_host_name(value))
                return why(ret_why, -EINVAL, "neither a host name nor a numeric address");
        return 0;
}

static int check_api_version(const char *value, char **ret_why) {
        if (strlen(value) <= 32 && value[strspn(value, "0123456789abcdefghijklmnopqrstuvwxyz-")] == 0)
                return 0;
        return why(ret_why, -EINVAL, "an API version is a date, such as %s or 2021-06-01",
                   DPS_API_VERSION_DEFAULT);
}

static void json_tokener_freep(struct json_tokener **t) {
        if (*t)
                json_tokener_free(*t);
}

static void json_object_putp(struct json_object **o) {
        json_object_put(*o);
}

static int check_payload(const char *value, char **ret_why) {
        _cleanup_(json_tokener_freep) struct json_tokener *tokener = json_tokener_new_ex(32);
        _cleanup_(json_object_putp) struct json_object *object = NULL;
        size_t size = strlen(value);
        enum json_tokener_error e;

        if (!tokener)
                return -ENOMEM;
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        object = json_tokener_parse_ex(tokener, value, (int) size);
        e = json_tokener_get_error(tokener);
        if (e == json_tokener_continue)
                return why(ret_why, -EINVAL, "not JSON: it ends too early");
        if (e != json_tokener_success)
                return why(ret_why, -EINVAL, "not JSON: %s at character %zu", json_tokener_error_desc(e),
                           json_tokener_get_parse_end(tokener) + 1);
        if (json_tokener_get_parse_end(tokener) != size)
                return why(ret_why, -EINVAL, "not JSON: something is behind its end");
        if (!json_object_is_type(object, json_type_object))
                return why(ret_why, -EINVAL, "DPS takes a JSON object, such as {\"site\":\"north\"}");
        return 0;
}

static int check_path(const char *value, char **ret_why) {
        if (value[0] == '/' && strlen(value) < PATH_MAX)
                return 0;
        return why(ret_why, -EINVAL, "the absolute path of a file is wanted");
}

static int check_proxy(const char *value, char **ret_why) {
        static const char *const schemes[] = { "http://", "https://", "socks5h://" };
        const char *host = value, *at;

        for (size_t i = 0; i < ELEMENTSOF(schemes); i++)
                if (scan_literal(&host, schemes[i]))
                        break;
        at = strrchr(host, '@');
        if (at)
                host = at + 1;
        if (host != value && *host && *host != '/' && *host != ':')
                return 0;
        return why(ret_why, -EINVAL,
                   "takes http://[USER@]HOST:PORT, https:// or socks5h:// (what is given is not shown)");
}

static int check_reference(const char *value, char **ret_why) {
        if (specifier_present(value) && (value[0] == '/' || startswith(value, "credential:")))
                return 0; /* checked again when they are expanded */
        return secret_check(value, ret_why);
}

static int check_certificate(const char *value, char **ret_why) {
        if (value[0] == '/' || startswith(value, "credential:"))
                return check_reference(value, ret_why);
        return why(ret_why, -EINVAL, "the absolute path of a PEM file is wanted, or credential:NAME");
}

/* Keys in hardware: known by an URI, in which % is not ours. */
bool private_key_is_uri(const char *value) {
        return startswith(value, "pkcs11:") || startswith(value, "handle:");
}

static int check_private_key(const char *value, char **ret_why) {
        const char *number = value;

        if (scan_literal(&number, "handle:0x") && consists_of(number, "") && strlen(number) <= 8 &&
            number[strspn(number, "0123456789abcdefABCDEF")] == 0)
                return 0;
        if (startswith(value, "handle:"))
                return why(ret_why, -EINVAL, "has a handle that is none; it is written as handle:0x81000002");
        return private_key_is_uri(value) ? 0 : check_reference(value, ret_why);
}

static int check_group(const char *value, char **ret_why) {
        if (consists_of(value, "_-.") && value[0] != '-' && strlen(value) <= 31)
                return 0;
        return why(ret_why, -EINVAL, "not the name of a group");
}

/* --- the keys ----------------------------------------------------------------------------------------------- */

typedef enum FieldType {
        FIELD_TEXT,  /* char * */
        FIELD_TEXTS, /* char **, a line each */
        FIELD_WORDS, /* char **, several in a line, separated by white space or commas */
        FIELD_PORT,  /* uint16_t */
        FIELD_SPLAY, /* uint64_t, as the next */
        FIELD_LIFETIME,
        FIELD_BOOL,
        FIELD_TRANSPORT,
        FIELD_RENEW,
        FIELD_RENEW_BEFORE, /* percent, or usec */
        FIELD_METHODS,      /* with their number */
        FIELD_ATTEMPTS,     /* of DaemonSettings */
} FieldType;

typedef enum KeyFlags {
        KEY_LIST = 1 << 0,
        KEY_SECRET = 1 << 1,   /* the value is never shown */
        KEY_EXPANDED = 1 << 2, /* specifiers */
        KEY_CHECKED = 1 << 3,  /* `check` bears specifiers */
        KEY_SYSTEM = 1 << 4,   /* "system" is the default */
        KEY_DAEMON = 1 << 5,   /* dpsd.conf only */
} KeyFlags;

typedef struct Key {
        const char *section, *name;
        size_t offset; /* in Settings */
        FieldType type;
        int (*check)(const char *value, char **ret_why); /* NULL: storing it checks enough */
        unsigned flags;
} Key;

#define AT(member) offsetof(Settings, member)
#define KEY_REFERENCES (KEY_LIST | KEY_SECRET | KEY_EXPANDED | KEY_CHECKED)

/* clang-format off */
static const Key keys[] = {
        { "Provisioning", "IdScope",                AT(id_scope),                 FIELD_TEXT,         check_id_scope,        KEY_EXPANDED },
        { "Provisioning", "RegistrationId",         AT(registration_id),          FIELD_TEXT,         check_registration_id, KEY_EXPANDED },
        { "Provisioning", "Endpoint",               AT(endpoint),                 FIELD_TEXT,         check_endpoint,        KEY_EXPANDED },
        { "Provisioning", "MqttPort",               AT(mqtt_port),                FIELD_PORT,         NULL,                  0 },
        { "Provisioning", "HttpsPort",              AT(https_port),               FIELD_PORT,         NULL,                  0 },
        { "Provisioning", "Transport",              AT(transport),                FIELD_TRANSPORT,    NULL,                  0 },
        { "Provisioning", "ApiVersion",             AT(api_version),              FIELD_TEXT,         check_api_version,     0 },
        { "Provisioning", "Payload",                AT(payload),                  FIELD_TEXT,         check_payload,         KEY_EXPANDED },
        { "Provisioning", "PayloadFile",            AT(payload_file),             FIELD_TEXT,         check_path,            KEY_EXPANDED },
        { "Provisioning", "Splay",                  AT(splay_usec),               FIELD_SPLAY,        NULL,                  0 },
        { "Provisioning", "RequiredForProvisioned", AT(required_for_provisioned), FIELD_BOOL,         NULL,                  0 },
        { "Provisioning", "Proxy",                  AT(proxy),                    FIELD_TEXT,         check_proxy,           KEY_SECRET },
        { "Provisioning", "ProxyPassword",          AT(proxy_password),           FIELD_TEXT,         check_reference,       KEY_REFERENCES & ~KEY_LIST },
        { "Provisioning", "NoProxy",                AT(no_proxy),                 FIELD_WORDS,        NULL,                  KEY_LIST },
        { "Provisioning", "CaFile",                 AT(ca_files),                 FIELD_TEXTS,        check_path,            KEY_LIST | KEY_EXPANDED | KEY_SYSTEM },
        { "Attestation",  "Method",                 AT(methods),                  FIELD_METHODS,      NULL,                  KEY_LIST },
        { "Attestation",  "Key",                    AT(keys),                     FIELD_TEXTS,        check_reference,       KEY_REFERENCES },
        { "Attestation",  "GroupKey",               AT(group_keys),               FIELD_TEXTS,        check_reference,       KEY_REFERENCES },
        { "Attestation",  "Certificate",            AT(certificates),             FIELD_TEXTS,        check_certificate,     KEY_LIST | KEY_EXPANDED | KEY_CHECKED },
        { "Attestation",  "PrivateKey",             AT(private_keys),             FIELD_TEXTS,        check_private_key,     KEY_REFERENCES },
        { "Hub",          "TokenLifetime",          AT(token_lifetime_usec),      FIELD_LIFETIME,     NULL,                  0 },
        { "Hub",          "RenewBefore",            AT(renew_before_usec),        FIELD_RENEW_BEFORE, NULL,                  0 },
        { "Hub",          "Renew",                  AT(renew),                    FIELD_RENEW,        NULL,                  0 },
        { "Access",       "Group",                  AT(group),                    FIELD_TEXT,         check_group,           0 },
        { "Access",       "ShareKey",               AT(share_key),                FIELD_BOOL,         NULL,                  0 },
        { "Daemon",       "MaxAttempts",            0,                            FIELD_ATTEMPTS,     NULL,                  KEY_DAEMON },
};
/* clang-format on */
#define N_KEYS ELEMENTSOF(keys)

static const char *const sections[] = { "Provisioning", "Attestation", "Hub", "Access", "Daemon" };

static const Key *find_key(const char *section, const char *name) {
        for (size_t i = 0; i < N_KEYS; i++)
                if (streq(keys[i].name, name) && (!section || streq(keys[i].section, section)))
                        return &keys[i];
        return NULL;
}

bool settings_key_is_secret(const char *section, const char *key) {
        const Key *k = find_key(section, key);

        return !k || (k->flags & KEY_SECRET); /* "GroupKye" holds one too */
}

static void *field_of(const Settings *s, const Key *k) {
        return (char *) s + k->offset;
}

static bool is_text(const Key *k) {
        return k->type == FIELD_TEXT;
}

static bool is_texts(const Key *k) {
        return k->type == FIELD_TEXTS || k->type == FIELD_WORDS;
}

/* --- storing one value ---------------------------------------------------------------------------------------- */

static int store_words(char ***field, const char *value, char **ret_why) {
        _cleanup_(strv_freep) char **words = NULL;
        int r;

        r = strv_split(value, " \t,", &words);
        if (r < 0)
                return r;
        if (strv_length(*field) + strv_length(words) > WORDS_MAX)
                return why(ret_why, -EINVAL, "more than %d words", WORDS_MAX);

        STRV_FOREACH(w, words) {
                r = strv_append(field, *w);
                if (r < 0)
                        return r;
        }
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
                                   "there is no method \"%.40s\"; there are symmetric-key, x509 and tpm", *w);
                if (!has_method(s, m))
                        s->methods[s->n_methods++] = m;
        }
        return 0;
}

static int store_port(uint16_t *field, const char *value, char **ret_why) {
        uint64_t n;

        if (parse_u64(value, &n) < 0 || n < 1 || n > UINT16_MAX)
                return why(ret_why, -EINVAL, "not a port, which is 1 to 65535");
        *field = (uint16_t) n;
        return 0;
}

static int store_bool(bool *field, const char *value, char **ret_why) {
        int r = parse_boolean(value);

        if (r < 0)
                return why(ret_why, -EINVAL, "yes or no is wanted");
        *field = r;
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

static int store_renew_before(Settings *s, const char *value, char **ret_why) {
        const char *end = value;
        uint64_t percent;

        if (scan_u64(&end, &percent) >= 0 && streq(end, "%")) {
                if (percent < 1 || percent > 99)
                        return why(ret_why, -EINVAL, "1%% to 99%% of the lifetime, or a duration");
                s->renew_before_percent = (unsigned) percent;
                s->renew_before_usec = 0;
                return 0;
        }

        s->renew_before_percent = 0;
        return store_duration(&s->renew_before_usec, value, USEC_PER_SEC, TOKEN_LIFETIME_MAX, ret_why);
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

        if (k->check &&
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
                return why(ret_why, r, "has a specifier that is none (what is given is not shown)");
        }
        return r;
}

static int store_value(Settings *s, const Key *k, const char *value, char **ret_why) {
        void *field = field_of(s, k);
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
                return store_words(field, value, ret_why);
        case FIELD_PORT:
                return store_port(field, value, ret_why);
        case FIELD_SPLAY:
                return store_duration(field, value, 0, SPLAY_MAX, ret_why);
        case FIELD_LIFETIME:
                return store_duration(field, value, TOKEN_LIFETIME_MIN, TOKEN_LIFETIME_MAX, ret_why);
        case FIELD_BOOL:
                return store_bool(field, value, ret_why);
        case FIELD_TRANSPORT:
                r = word_from_list(value, transport_names, _TRANSPORT_MAX);
                if (r < 0)
                        return why(ret_why, r, "auto, mqtt or https is wanted");
                s->transport = (TransportChoice) r;
                return 0;
        case FIELD_RENEW:
                r = word_from_list(value, renew_names, _RENEW_MAX);
                if (r < 0)
                        return why(ret_why, r, "provision or token is wanted");
                s->renew = (Renew) r;
                return 0;
        case FIELD_RENEW_BEFORE:
                return store_renew_before(s, value, ret_why);
        case FIELD_METHODS:
                return store_methods(s, value, ret_why);
        case FIELD_ATTEMPTS:
                return 0;
        }
        abort();
}

/* --- which values count ------------------------------------------------------------------------------------------ */

/* The lines that count for one key: all that came since the last reset, or the last one. */
typedef struct Choice {
        const ConfLine **lines;
        size_t n;
        bool is_own; /* the identity says something of it: the defaults do not count */
        bool is_overfull;
} Choice;

typedef struct Reading {
        const Conf *own;
        ConfReport *report;
        Settings *settings;
        Choice choices[N_KEYS]; /* as `keys` */
        unsigned n_unknown;
} Reading;

static void reading_done(Reading *reading) {
        for (size_t i = 0; i < N_KEYS; i++)
                free(reading->choices[i].lines);
}

static Choice *choice_of(Reading *reading, const char *name) {
        return &reading->choices[find_key(NULL, name) - keys];
}

/* NULL: nobody set it. */
static const ConfLine *last_line(const Choice *c) {
        return c->n > 0 ? c->lines[c->n - 1] : NULL;
}

static bool is_reset(const Key *k, const char *value) {
        return isempty(value) || ((k->flags & KEY_SYSTEM) && streq(value, "system"));
}

static int choose_line(Choice *c, const Key *k, const ConfLine *line, bool is_own) {
        const ConfLine **grown;

        if (!(k->flags & KEY_LIST) || is_own != c->is_own || is_reset(k, line->value)) {
                c->n = 0;
                c->is_overfull = false;
        }
        c->is_own = is_own;
        if (is_reset(k, line->value))
                return 0;
        if (c->n == LIST_LINES_MAX) {
                c->is_overfull = true;
                return 0;
        }

        grown = reallocarray(c->lines, c->n + 1, sizeof(ConfLine *));
        if (!grown)
                return -ENOMEM;
        grown[c->n++] = line;
        c->lines = grown;
        return 0;
}

/* Insertions, deletions and changes from one word to the other; case counts little. */
static unsigned distance(const char *a, const char *b) {
        unsigned row[32], n = (unsigned) strlen(b);

        if (strlen(a) >= ELEMENTSOF(row) || n >= ELEMENTSOF(row))
                return UINT_MAX;
        for (unsigned j = 0; j <= n; j++)
                row[j] = j;

        for (unsigned i = 1; a[i - 1]; i++) {
                unsigned diagonal = row[0];

                row[0] = i;
                for (unsigned j = 1; j <= n; j++) {
                        bool same = tolower((unsigned char) a[i - 1]) == tolower((unsigned char) b[j - 1]);
                        unsigned best = MIN(MIN(row[j], row[j - 1]) + 1, diagonal + (same ? 0 : 1));

                        diagonal = row[j];
                        row[j] = best;
                }
        }
        return row[n];
}

static bool is_near(const char *a, const char *b) {
        return distance(a, b) <= (strlen(b) > 5 ? 2U : 1U);
}

static const Key *nearest_key(const char *name) {
        for (size_t i = 0; i < N_KEYS; i++)
                if (is_near(name, keys[i].name))
                        return &keys[i];
        return NULL;
}

static const char *nearest_section(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(sections); i++)
                if (is_near(name, sections[i]))
                        return sections[i];
        return NULL;
}

static bool is_section(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(sections); i++)
                if (streq(name, sections[i]))
                        return true;
        return false;
}

/* A base64 key with its padding, on a line of its own, looks like an assignment: what is long is not repeated. */
static const char *shown_name(const char *name) {
        return strlen(name) <= 20 ? name : "(a long name)";
}

static void remark_unknown(Reading *reading, const ConfLine *line) {
        const char *section = nearest_section(line->section);
        const Key *near = nearest_key(line->key), *elsewhere = find_key(NULL, line->key);

        if (reading->n_unknown++ >= UNKNOWN_MAX)
                return;

        if (!is_section(line->section))
                conf_report_add(reading->report, CONF_WARNING, line->file, line->line,
                                "there is no section [%s]%s%s%s, ignoring %s=", shown_name(line->section),
                                section ? ", did you mean [" : "", section ?: "", section ? "]?" : "",
                                elsewhere ? elsewhere->name : shown_name(line->key));
        else if (elsewhere)
                conf_report_add(reading->report, CONF_WARNING, line->file, line->line,
                                "%s= belongs into [%s], not into [%s], ignoring", line->key,
                                elsewhere->section, line->section);
        else if (near)
                conf_report_add(reading->report, CONF_WARNING, line->file, line->line,
                                "there is no %s= in [%s], did you mean %s=? Ignoring", line->key,
                                line->section, near->name);
        else
                conf_report_add(reading->report, CONF_WARNING, line->file, line->line,
                                "there is no %s= in [%s], ignoring", shown_name(line->key), line->section);
}

static int choose_lines(Reading *reading, const Conf *conf, bool is_own) {
        bool is_daemons = streq(conf->name, "dpsd");
        int r;

        for (size_t i = 0; i < conf->n_lines; i++) {
                const ConfLine *line = &conf->lines[i];
                const Key *k = find_key(line->section, line->key);

                if (!k && is_own)
                        remark_unknown(reading, line);
                if (k && (k->flags & KEY_DAEMON) && !is_daemons)
                        conf_report_add(reading->report, CONF_WARNING, line->file, line->line,
                                        "[%s] belongs into dpsd.conf, ignoring %s=", k->section, k->name);
                if (!k || ((k->flags & KEY_DAEMON) && !is_daemons))
                        continue;

                r = choose_line(&reading->choices[k - keys], k, line, is_own);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Of two ways to say a thing, the identity's own stands against a default. */
static void settle_alternatives(Reading *reading) {
        static const char *const pairs[][2] = { { "Key", "GroupKey" }, { "Payload", "PayloadFile" } };

        for (size_t i = 0; i < ELEMENTSOF(pairs); i++) {
                Choice *a = choice_of(reading, pairs[i][0]), *b = choice_of(reading, pairs[i][1]);

                if (a->n > 0 && a->is_own && !b->is_own)
                        b->n = 0;
                if (b->n > 0 && b->is_own && !a->is_own)
                        a->n = 0;
        }
}

/* --- all values, and how they go together --------------------------------------------------------------------- */

static bool may_be_shown(const Key *k, const char *value) {
        return !(k->flags & KEY_SECRET) && k->check != check_payload && !strcasestr(value, "SharedAccess");
}

static void report_bad_value(Reading *reading, const Key *k, const ConfLine *line, const char *reason) {
        bool has_comment = strstr(line->value, " #") || strstr(line->value, " ;");
        const char *hint = has_comment ? " (a comment begins at the start of a line)" : "";

        if (may_be_shown(k, line->value))
                conf_report_add(reading->report, CONF_ERROR, line->file, line->line, "%s=%.80s: %s%s",
                                k->name, line->value, reason, hint);
        else
                conf_report_add(reading->report, CONF_ERROR, line->file, line->line, "%s= %s%s", k->name,
                                reason, k->flags & KEY_SECRET ? "" : hint);
}

static int store_all(Reading *reading) {
        for (size_t i = 0; i < N_KEYS; i++) {
                const Choice *c = &reading->choices[i];

                if (c->is_overfull)
                        conf_report_add(reading->report, CONF_ERROR, last_line(c)->file, last_line(c)->line,
                                        "%s= has more than %d lines", keys[i].name, LIST_LINES_MAX);
                for (size_t j = 0; j < c->n; j++) {
                        _cleanup_(freep) char *reason = NULL;
                        int r = store_value(reading->settings, &keys[i], c->lines[j]->value, &reason);

                        if (r == -ENOMEM)
                                return r;
                        if (r < 0)
                                report_bad_value(reading, &keys[i], c->lines[j], reason ?: strerror(-r));
                }
        }
        return 0;
}

/* Where something is missing, there is no line to name. */
static void report_missing(Reading *reading, ConfSeverity severity, const char *what) {
        const Conf *own = reading->own;

        if (own->n_lines > 0 || !reading->report->has_errors) /* else the file could not be read at all */
                conf_report_add(reading->report, severity, own->files ? own->files[0] : own->name, 0, "%s",
                                what);
}

static void check_required(Reading *reading) {
        if (choice_of(reading, "IdScope")->n == 0)
                report_missing(reading, CONF_ERROR,
                               "IdScope= in [Provisioning] is missing; the overview page of the DPS instance "
                               "tells it");
        if (choice_of(reading, "RegistrationId")->n == 0)
                report_missing(reading, CONF_ERROR,
                               "RegistrationId= in [Provisioning] is missing, such as gw-%{serial|mac:eth0}");
}

static void check_pair(Reading *reading, const char *one, const char *other) {
        const ConfLine *a = last_line(choice_of(reading, one)), *b = last_line(choice_of(reading, other));

        if (a && b)
                conf_report_add(reading->report, CONF_ERROR, b->file, b->line,
                                "%s= and %s= exclude each other; the other one is in %s:%u", other, one,
                                a->file, a->line);
}

/* What dpsd of this version cannot do is refused: nothing else is done instead, least of all is a proxy gone around. */
static void check_supported(Reading *reading) {
        const ConfLine *transport = last_line(choice_of(reading, "Transport"));
        const ConfLine *proxy = last_line(choice_of(reading, "Proxy"));

        if (transport && reading->settings->transport == TRANSPORT_HTTPS)
                conf_report_add(reading->report, CONF_ERROR, transport->file, transport->line,
                                "Transport=https: this version of dpsd speaks MQTT only");
        if (proxy && reading->settings->proxy)
                conf_report_add(
                        reading->report, CONF_ERROR, proxy->file, proxy->line,
                        "Proxy= is set: this version of dpsd cannot use a proxy, and does not go around one");
}

typedef struct Obstacle {
        const ConfLine *line; /* NULL: something is missing */
        const char *what;     /* NULL: the method can be used */
        bool is_final;        /* an error also where another method could be used */
} Obstacle;

static Obstacle symmetric_key_obstacle(Reading *reading) {
        if (choice_of(reading, "Key")->n > 0 || choice_of(reading, "GroupKey")->n > 0)
                return (Obstacle){ 0 };
        if (choice_of(reading, "Method")->n == 0 && choice_of(reading, "Certificate")->n > 0)
                return (Obstacle){
                        .what = "Key= in [Attestation] is missing; for a certificate say Method=x509"
                };
        return (Obstacle){ .what = "Key= in [Attestation] is missing, such as Key=credential:gateway.key" };
}

static Obstacle x509_obstacle(Reading *reading) {
        const Choice *certificates = choice_of(reading, "Certificate"),
                     *private_keys = choice_of(reading, "PrivateKey");

        if (certificates->n == 0)
                return (Obstacle){
                        .what = "Certificate= in [Attestation] is missing, which Method=x509 needs"
                };
        if (private_keys->n == 0)
                return (Obstacle){
                        .what = "PrivateKey= in [Attestation] is missing, which Method=x509 needs"
                };
        if (certificates->n != private_keys->n)
                return (Obstacle){
                        last_line(private_keys),
                        "there must be as many lines PrivateKey= as Certificate=, in the same order", true
                };

        for (size_t i = 0; i < private_keys->n; i++)
                if (strv_contains(reading->settings->private_keys, private_keys->lines[i]->value) &&
                    private_key_is_uri(private_keys->lines[i]->value))
                        return (Obstacle){
                                private_keys->lines[i],
                                "PrivateKey= names a key in hardware: this version of dpsd takes key files "
                                "only",
                                false
                        };
        return (Obstacle){ 0 };
}

static Obstacle method_obstacle(Reading *reading, Method m) {
        switch (m) {
        case METHOD_SYMMETRIC_KEY:
                return symmetric_key_obstacle(reading);
        case METHOD_X509:
                return x509_obstacle(reading);
        case METHOD_TPM:
                return (Obstacle){ last_line(choice_of(reading, "Method")),
                                   "Method=tpm: this version of dpsd has no TPM attestation", false };
        case _METHOD_MAX:
                break;
        }
        abort();
}

/* Methods that cannot be used are worth a warning where one can, which is then taken. */
static void check_methods(Reading *reading) {
        const Settings *s = reading->settings;
        Obstacle obstacles[_METHOD_MAX];
        bool is_possible = false;

        for (unsigned i = 0; i < s->n_methods; i++) {
                obstacles[i] = method_obstacle(reading, s->methods[i]);
                is_possible = is_possible || !obstacles[i].what;
        }

        for (unsigned i = 0; i < s->n_methods; i++) {
                const Obstacle *o = &obstacles[i];
                ConfSeverity severity = is_possible && !o->is_final ? CONF_WARNING : CONF_ERROR;

                if (o->what && o->line)
                        conf_report_add(reading->report, severity, o->line->file, o->line->line, "%s",
                                        o->what);
                else if (o->what)
                        report_missing(reading, severity, o->what);
        }
}

static void warn_of_group_key(Reading *reading) {
        const Choice *c = choice_of(reading, "GroupKey");
        const ConfLine *line = last_line(c);

        if (line && c->is_own && choice_of(reading, "Key")->n == 0)
                conf_report_add(reading->report, CONF_WARNING, line->file, line->line,
                                "GroupKey= makes every device of the enrollment group: one stolen box is the "
                                "whole group; "
                                "Key= with the device's own key is safer (dpsctl derive-key)");
}

static void check_times(Reading *reading) {
        const Settings *s = reading->settings;
        const Choice *before = choice_of(reading, "RenewBefore"),
                     *lifetime = choice_of(reading, "TokenLifetime");
        const Choice *blamed = before->n > 0 && !s->renew_before_percent ? before : lifetime;
        const ConfLine *line = last_line(blamed);
        uint64_t before_usec = s->renew_before_percent
                                       ? s->token_lifetime_usec / 100 * s->renew_before_percent
                                       : s->renew_before_usec;
        char text[DURATION_TEXT_MAX];
        uint64_t interval_usec;

        if (!line)
                return;
        if (before_usec >= s->token_lifetime_usec) {
                conf_report_add(reading->report, CONF_ERROR, line->file, line->line,
                                "RenewBefore= must be less than TokenLifetime=, which is %s",
                                format_duration(s->token_lifetime_usec, text));
                return;
        }

        /* The earliest that may come: dpsd renews at some fraction of RenewBefore=. */
        interval_usec = s->token_lifetime_usec - before_usec;
        if (blamed->is_own &&
            (s->token_lifetime_usec < TOKEN_LIFETIME_SHORT || interval_usec < TOKEN_LIFETIME_SHORT / 2))
                conf_report_add(
                        reading->report, CONF_WARNING, line->file, line->line,
                        "%s=%.80s: up to %llu %s a day", line->key, line->value,
                        (unsigned long long) (USEC_PER_DAY / MAX(interval_usec, USEC_PER_SEC)),
                        s->renew == RENEW_PROVISION
                                ? "registrations of this device, of a quota that the whole fleet shares,"
                                : "new tokens");
}

static void check_together(Reading *reading) {
        check_pair(reading, "Payload", "PayloadFile");
        check_pair(reading, "Key", "GroupKey");
        check_supported(reading);
        warn_of_group_key(reading);
        check_times(reading);
}

/* --- Settings --------------------------------------------------------------------------------------------------- */

Settings *settings_free(Settings *s) {
        if (!s)
                return NULL;

        for (size_t i = 0; i < N_KEYS; i++) {
                if (is_text(&keys[i]))
                        erase_and_free(*(char **) field_of(s, &keys[i]));
                if (is_texts(&keys[i]))
                        strv_free(*(char ***) field_of(s, &keys[i]));
        }
        free(s->keys_place.file);
        free(s->certificates_place.file);
        free(s->name);
        free(s);
        return NULL;
}

static int settings_new(const char *name, Settings **ret) {
        _cleanup_(settings_freep) Settings *s = malloc(sizeof(Settings));

        if (!s)
                return -ENOMEM;
        *s = (Settings){
                .mqtt_port = 8883,
                .https_port = 443,
                .splay_usec = 2 * USEC_PER_MINUTE,
                .required_for_provisioned = true,
                .token_lifetime_usec = 30 * USEC_PER_DAY,
                .renew_before_percent = 10,
        };
        s->name = strdup(name);
        s->endpoint = strdup("global.azure-devices-provisioning.net");
        s->api_version = strdup(DPS_API_VERSION_DEFAULT);
        s->group = strdup("dps");
        if (!s->name || !s->endpoint || !s->api_version || !s->group)
                return -ENOMEM;

        *ret = TAKE_PTR(s);
        return 0;
}

static int set_place(Place *place, const Choice *a, const Choice *b) {
        const ConfLine *line = last_line(a) ?: last_line(b);

        if (!line)
                return 0;
        place->line = line->line;
        place->file = strdup(line->file);
        return place->file ? 0 : -ENOMEM;
}

static int set_places(Reading *reading) {
        Settings *s = reading->settings;
        int r;

        r = set_place(&s->keys_place, choice_of(reading, "Key"), choice_of(reading, "GroupKey"));
        if (r < 0)
                return r;
        return set_place(&s->certificates_place, choice_of(reading, "Certificate"),
                         choice_of(reading, "PrivateKey"));
}

static int read_all(Reading *reading, const Conf *defaults, const Conf *own) {
        int r = 0;

        if (defaults)
                r = choose_lines(reading, defaults, false);
        if (r >= 0)
                r = choose_lines(reading, own, true);
        if (r < 0)
                return r;
        settle_alternatives(reading);

        r = store_all(reading);
        if (r < 0)
                return r;
        if (reading->settings->n_methods == 0)
                reading->settings->methods[reading->settings->n_methods++] = METHOD_SYMMETRIC_KEY;
        check_together(reading);
        return set_places(reading);
}

int settings_from_conf(const Conf *defaults, const Conf *own, ConfReport *report, Settings **ret) {
        _cleanup_(settings_freep) Settings *s = NULL;
        _cleanup_(reading_done) Reading reading = { .own = own, .report = report };
        int r;

        r = settings_new(own->name, &s);
        if (r < 0)
                return r;
        reading.settings = s;
        r = read_all(&reading, defaults, own);
        if (r < 0)
                return r;
        check_required(&reading);
        check_methods(&reading);

        *ret = TAKE_PTR(s);
        return 0;
}

static void read_max_attempts(Reading *reading, DaemonSettings *ret) {
        const ConfLine *line = last_line(choice_of(reading, "MaxAttempts"));
        uint64_t n;

        if (!line)
                return;
        if (parse_u64(line->value, &n) >= 0 && n >= 1 && n <= MAX_ATTEMPTS_MAX)
                ret->max_attempts = (unsigned) n;
        else
                report_bad_value(reading, find_key("Daemon", "MaxAttempts"), line, "1 to 10000 is wanted");
}

void daemon_settings_from_conf(const Conf *conf, ConfReport *report, DaemonSettings *ret) {
        _cleanup_(settings_freep) Settings *s = NULL;
        _cleanup_(reading_done) Reading reading = { .own = conf, .report = report };

        *ret = (DaemonSettings){ .max_attempts = MAX_ATTEMPTS_DEFAULT };
        if (!conf)
                return;

        /* The defaults for identities are checked here too, so that what is wrong is told where nobody uses them. */
        if (settings_new(conf->name, &s) < 0) {
                conf_report_add(report, CONF_ERROR, NULL, 0, "out of memory");
                return;
        }
        reading.settings = s;
        if (read_all(&reading, NULL, conf) < 0)
                conf_report_add(report, CONF_ERROR, NULL, 0, "out of memory");
        read_max_attempts(&reading, ret);
}

static bool texts_equal(char *const *a, char *const *b) {
        size_t n = strv_length(a);

        if (strv_length(b) != n)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!streq(a[i], b[i]))
                        return false;
        return true;
}

static bool methods_equal(const Settings *a, const Settings *b) {
        if (a->n_methods != b->n_methods)
                return false;
        for (unsigned i = 0; i < a->n_methods; i++)
                if (a->methods[i] != b->methods[i])
                        return false;
        return true;
}

bool settings_equal(const Settings *a, const Settings *b) {
        for (size_t i = 0; i < N_KEYS; i++) {
                const void *x = field_of(a, &keys[i]), *y = field_of(b, &keys[i]);

                if (is_text(&keys[i]) && !streq_ptr(*(char *const *) x, *(char *const *) y))
                        return false;
                if (is_texts(&keys[i]) && !texts_equal(*(char *const *const *) x, *(char *const *const *) y))
                        return false;
        }

        return streq(a->name, b->name) && methods_equal(a, b) && a->mqtt_port == b->mqtt_port &&
               a->https_port == b->https_port && a->transport == b->transport &&
               a->splay_usec == b->splay_usec && a->required_for_provisioned == b->required_for_provisioned &&
               a->token_lifetime_usec == b->token_lifetime_usec &&
               a->renew_before_percent == b->renew_before_percent &&
               a->renew_before_usec == b->renew_before_usec && a->renew == b->renew &&
               a->share_key == b->share_key;
}

/* --- specifiers --------------------------------------------------------------------------------------------------- */

static int expand_text(const Key *k, const char *text, const SpecifierContext *context, char **ret,
                       char **ret_why) {
        _cleanup_(erase_and_freep) char *value = NULL;
        _cleanup_(freep) char *reason = NULL;
        bool is_shown = may_be_shown(k, text);
        int r;

        if (!(k->flags & KEY_EXPANDED) || private_key_is_uri(text) || !strchr(text, '%')) {
                *ret = strdup(text);
                return *ret ? 0 : -ENOMEM;
        }

        r = specifier_expand(text, context, &value, &reason);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return why(ret_why, r, "%s=%s: %s", k->name, is_shown ? text : "", reason ?: strerror(-r));

        r = k->check ? k->check(value, &reason) : 0;
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return why(ret_why, r, "%s=%s gives \"%.128s\": %s", k->name, is_shown ? text : "",
                           is_shown ? value : "...", reason ?: strerror(-r));

        *ret = TAKE_PTR(value);
        return 0;
}

static int expand_texts(const Key *k, char *const *texts, const SpecifierContext *context, char ***ret,
                        char **ret_why) {
        _cleanup_(strv_freep) char **expanded = NULL;
        int r;

        STRV_FOREACH(t, texts) {
                char *value = NULL;

                r = expand_text(k, *t, context, &value, ret_why);
                if (r >= 0)
                        r = strv_push(&expanded, value);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(expanded);
        return 0;
}

static int expand_key(const Settings *s, const Key *k, const SpecifierContext *context, Settings *ret,
                      char **ret_why) {
        if (is_texts(k))
                return expand_texts(k, *(char ***) field_of(s, k), context, field_of(ret, k), ret_why);
        if (is_text(k) && *(char **) field_of(s, k))
                return expand_text(k, *(char **) field_of(s, k), context, field_of(ret, k), ret_why);
        return 0;
}

static int copy_place(const Place *place, Place *ret) {
        *ret = (Place){ .line = place->line };
        if (!place->file)
                return 0;
        ret->file = strdup(place->file);
        return ret->file ? 0 : -ENOMEM;
}

/* A copy without its texts. */
static int copy_plain(const Settings *s, Settings **ret) {
        _cleanup_(settings_freep) Settings *c = malloc(sizeof(Settings));
        int r;

        if (!c)
                return -ENOMEM;
        *c = *s;
        c->keys_place = c->certificates_place = (Place){ 0 };
        for (size_t i = 0; i < N_KEYS; i++) {
                if (is_text(&keys[i]))
                        *(char **) field_of(c, &keys[i]) = NULL;
                if (is_texts(&keys[i]))
                        *(char ***) field_of(c, &keys[i]) = NULL;
        }
        c->name = strdup(s->name);

        r = c->name ? copy_place(&s->keys_place, &c->keys_place) : -ENOMEM;
        if (r >= 0)
                r = copy_place(&s->certificates_place, &c->certificates_place);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

int settings_expand(const Settings *s, const SpecifierContext *context, Settings **ret, char **ret_why) {
        _cleanup_(settings_freep) Settings *expanded = NULL;
        const Key *certificate = find_key("Attestation", "Certificate");
        SpecifierContext with_certificate = *context;
        int r;

        r = copy_plain(s, &expanded);
        if (r < 0)
                return r;

        /* %{cert-cn} is of the first certificate, whose own path may have specifiers. */
        r = expand_key(s, certificate, context, expanded, ret_why);
        if (r < 0)
                return r;
        if (!with_certificate.certificate && expanded->certificates)
                with_certificate.certificate = expanded->certificates[0];

        for (size_t i = 0; i < N_KEYS; i++) {
                if (&keys[i] == certificate)
                        continue;
                r = expand_key(s, &keys[i], &with_certificate, expanded, ret_why);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(expanded);
        return 0;
}
