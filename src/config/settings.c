/* SPDX-License-Identifier: MIT */
#include "config/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"
#include "basic/why.h"
#include "config/settings-internal.h"
#include "dps/request.h"

#define MAX_ATTEMPTS_DEFAULT 50
#define MAX_ATTEMPTS_MAX 10000

Settings *settings_ref(Settings *s) {
        __atomic_add_fetch(&s->n_more_references, 1, __ATOMIC_RELAXED);
        return s;
}

Settings *settings_unref(Settings *s) {
        if (!s || __atomic_fetch_sub(&s->n_more_references, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;

        for (size_t i = 0; i < N_KEYS; i++) {
                if (key_is_text(&settings_keys[i]))
                        erase_and_free(*(char **) key_field(&settings_keys[i], s));
                if (key_is_texts(&settings_keys[i]))
                        strv_free(*(char ***) key_field(&settings_keys[i], s));
        }
        free(s->keys_place.file);
        free(s->certificates_place.file);
        free(s->issuance_place.file);
        for (size_t i = 0; i < s->n_specifiers; i++)
                free(s->specifiers[i].place.file);
        free(s->specifiers);
        free(s->name);
        free(s);
        return NULL;
}

static int settings_new(const char *name, Settings **ret) {
        _cleanup_(settings_unrefp) Settings *s = malloc(sizeof(Settings));

        if (!s)
                return -ENOMEM;
        *s = (Settings){
                .mqtt_port = 8883,
                .https_port = 443,
                .splay_usec = 2 * USEC_PER_MINUTE,
                .required_for_provisioned = true,
                .ek_handle = 0x81010001,
                .srk_handle = 0x81000001,
                .tpm_key_handle = 0x81000100,
                .token_lifetime_usec = 30 * USEC_PER_DAY,
                .renew_before_percent = 10,
                .issuance_renew_percent = 80,
        };
        s->name = strdup(name);
        s->endpoint = strdup("global.azure-devices-provisioning.net");
        s->api_version = strdup(DPS_API_VERSION_DEFAULT);
        s->group = strdup(GROUP_DEFAULT);
        s->tcti = strdup("device:/dev/tpmrm0");
        if (!s->name || !s->endpoint || !s->api_version || !s->group || !s->tcti)
                return -ENOMEM;

        *ret = TAKE_PTR(s);
        return 0;
}

static int set_places(Reading *reading) {
        const struct {
                Place *place;
                const char *section, *key, *other_key;
        } places[] = {
                { &reading->settings->keys_place, "Attestation", "Key", "GroupKey" },
                { &reading->settings->certificates_place, "Attestation", "Certificate", "PrivateKey" },
                { &reading->settings->issuance_place, "Issuance", "Key", "KeyType" },
        };

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                const ConfLine *line =
                        choice_last_line(reading_choice_in(reading, places[i].section, places[i].key))
                                ?: choice_last_line(reading_choice_in(reading, places[i].section,
                                                                      places[i].other_key));
                int r = line ? place_set(places[i].place, line->file, line->line) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

/* A version that issues certificates is the default where one is asked for, and only there: every cloud takes the older
 * default. */
static int choose_api_version(Reading *reading) {
        Settings *s = reading->settings;
        char *version;

        if (!s->issuance_requested || reading_choice(reading, "ApiVersion")->n > 0)
                return 0;
        version = strdup(DPS_API_VERSION_ISSUANCE);
        if (!version)
                return -ENOMEM;
        free(s->api_version);
        s->api_version = version;
        s->api_version_steps = true;
        return 0;
}

static int read_all(Reading *reading, const Conf *defaults, const Conf *own) {
        int r = 0;

        if (defaults)
                r = reading_choose(reading, defaults, false);
        if (r >= 0)
                r = reading_choose(reading, own, true);
        if (r < 0)
                return r;
        reading_settle(reading);

        r = reading_store(reading);
        if (r < 0)
                return r;
        if (reading->settings->n_methods == 0)
                reading->settings->methods[reading->settings->n_methods++] = METHOD_SYMMETRIC_KEY;
        r = choose_api_version(reading);
        if (r < 0)
                return r;
        reading_check_together(reading);
        return set_places(reading);
}

/* A device that can attest by its TPM only may be called as Microsoft's tools call it. */
static int default_registration_id(Reading *reading) {
        Settings *s = reading->settings;
        const ConfLine *method = reading_last_line(reading, "Method");
        const Key *k = key_find("Provisioning", "RegistrationId");

        if (s->registration_id || reading_choice(reading, "RegistrationId")->n > 0 || !method ||
            s->n_methods != 1 || s->methods[0] != METHOD_TPM)
                return 0;
        s->registration_id = strdup("%{tpm}");
        if (!s->registration_id)
                return -ENOMEM;
        return specifiers_add(s, k, 0, method->file, method->line);
}

int settings_from_conf(const Conf *defaults, const Conf *own, ConfReport *report, Settings **ret) {
        _cleanup_(settings_unrefp) Settings *s = NULL;
        _cleanup_(reading_done) Reading reading = { .own = own, .report = report };
        int r;

        r = settings_new(own->name, &s);
        if (r < 0)
                return r;
        reading.settings = s;
        r = read_all(&reading, defaults, own);
        if (r >= 0)
                r = default_registration_id(&reading);
        if (r < 0)
                return r;
        reading_check_complete(&reading);

        *ret = TAKE_PTR(s);
        return 0;
}

static void read_max_attempts(Reading *reading, DaemonSettings *ret) {
        const ConfLine *line = reading_last_line(reading, "MaxAttempts");
        uint64_t n;

        if (!line)
                return;
        if (parse_u64(line->value, &n) >= 0 && n >= 1 && n <= MAX_ATTEMPTS_MAX)
                ret->max_attempts = (unsigned) n;
        else
                reading_report_bad_value(reading, key_find("Daemon", "MaxAttempts"), line,
                                         "must be 1 to 10000");
}

void daemon_settings_from_conf(const Conf *conf, ConfReport *report, DaemonSettings *ret) {
        _cleanup_(settings_unrefp) Settings *s = NULL;
        _cleanup_(reading_done) Reading reading = { .own = conf, .report = report };
        int r;

        *ret = (DaemonSettings){ .max_attempts = MAX_ATTEMPTS_DEFAULT };
        if (!conf)
                return;

        /* The defaults for identities are checked here, too, so that faults are reported even if no identity
         * uses them. */
        r = settings_new(conf->name, &s);
        reading.settings = s;
        if (r >= 0)
                r = read_all(&reading, NULL, conf);
        if (r >= 0)
                read_max_attempts(&reading, ret);
        else
                report->has_errors = report->is_incomplete = true;
}

static bool values_equal(const Key *k, const void *x, const void *y) {
        if (key_is_text(k))
                return streq_ptr(*(char *const *) x, *(char *const *) y);
        if (key_is_texts(k))
                return strv_equal(*(char *const *const *) x, *(char *const *const *) y);
        return memcmp(x, y, k->size) == 0;
}

bool settings_equal(const Settings *a, const Settings *b) {
        for (const Key *k = settings_keys; k < settings_keys + N_KEYS; k++)
                if (!values_equal(k, key_field(k, a), key_field(k, b)))
                        return false;
        /* What belongs to a key, and is not its field. */
        return streq(a->name, b->name) && a->n_methods == b->n_methods &&
               a->renew_before_percent == b->renew_before_percent &&
               a->issuance_renew_percent == b->issuance_renew_percent &&
               a->api_version_steps == b->api_version_steps;
}

/* Settings with specifiers, and the copy in which they are expanded. */
typedef struct Expansion {
        const Settings *from;
        Settings *to;
        SpecifierContext context;
        char **ret_why;
} Expansion;

static const Place *place_of(const Settings *s, const Key *k, size_t index) {
        for (size_t i = 0; i < s->n_specifiers; i++)
                if (s->specifiers[i].key == k && s->specifiers[i].index == index)
                        return &s->specifiers[i].place;
        abort();
}

static int expand_text(const Expansion *e, const Key *k, size_t index, const char *text, char **ret) {
        _cleanup_(erase_and_freep) char *value = NULL;
        _cleanup_(freep) char *reason = NULL;
        bool is_shown = key_may_be_shown(k, text);
        /* Somebody may name the wrong credential, and its value may be a key. */
        bool is_value_shown = is_shown && !strstr(text, "credential:");
        _cleanup_(freep) char *shown = NULL, *shown_value = NULL;
        const Place *place;
        int r;

        if (!(k->flags & KEY_EXPANDED) || private_key_is_uri(text) || !strchr(text, '%')) {
                *ret = strdup(text);
                return *ret ? 0 : -ENOMEM;
        }

        place = place_of(e->from, k, index);
        if (e->context.at)
                __atomic_store_n(e->context.at, place, __ATOMIC_RELEASE);
        r = specifier_expand(text, &e->context, &value, &reason);
        if (r >= 0 && k->check)
                r = k->check(value, &reason);
        if (r == -ENOMEM)
                return r;
        if (r >= 0) {
                *ret = TAKE_PTR(value);
                return 0;
        }

        if (!value)
                return why(e->ret_why, r, "%s:%u: %s=: %s", place->file, place->line, k->name,
                           reason ?: strerror(-r));
        shown = is_shown ? key_quote(k, text) : strdup("");
        shown_value = key_quote(k, is_value_shown ? value : "...");
        if (!shown || !shown_value)
                return -ENOMEM;
        return why(e->ret_why, r, "%s:%u: %s=%s gives %s: %s", place->file, place->line, k->name, shown,
                   shown_value, reason ?: strerror(-r));
}

static int expand_texts(const Expansion *e, const Key *k, char *const *texts, char ***ret) {
        _cleanup_(strv_freep) char **expanded = NULL;
        int r;

        STRV_FOREACH(t, texts) {
                char *value = NULL;

                r = expand_text(e, k, (size_t) (t - texts), *t, &value);
                if (r >= 0)
                        r = strv_push(&expanded, value);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(expanded);
        return 0;
}

static int expand_key(const Expansion *e, const Key *k) {
        void *from = key_field(k, e->from), *to = key_field(k, e->to);

        if (key_is_texts(k))
                return expand_texts(e, k, *(char ***) from, to);
        if (key_is_text(k) && *(char **) from)
                return expand_text(e, k, 0, *(char **) from, to);
        return 0;
}

static int copy_place(const Place *place, Place *ret) {
        return place->file ? place_set(ret, place->file, place->line) : 0;
}

/* A copy of everything but the texts. */
static int copy_plain(const Settings *s, Settings **ret) {
        _cleanup_(settings_unrefp) Settings *c = malloc(sizeof(Settings));
        int r;

        if (!c)
                return -ENOMEM;
        /* Without the count of references, which other threads may change meanwhile. */
        c->n_more_references = 0;
        memcpy((char *) c + sizeof(c->n_more_references), (const char *) s + sizeof(s->n_more_references),
               sizeof(*s) - sizeof(s->n_more_references));
        c->keys_place = c->certificates_place = c->issuance_place = (Place){ 0 };
        c->specifiers = NULL;
        c->n_specifiers = 0;
        for (size_t i = 0; i < N_KEYS; i++) {
                if (key_is_text(&settings_keys[i]))
                        *(char **) key_field(&settings_keys[i], c) = NULL;
                if (key_is_texts(&settings_keys[i]))
                        *(char ***) key_field(&settings_keys[i], c) = NULL;
        }
        c->name = strdup(s->name);

        r = c->name ? copy_place(&s->keys_place, &c->keys_place) : -ENOMEM;
        if (r >= 0)
                r = copy_place(&s->certificates_place, &c->certificates_place);
        if (r >= 0)
                r = copy_place(&s->issuance_place, &c->issuance_place);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

int settings_expand(const Settings *s, const SpecifierContext *context, Settings **ret, char **ret_why) {
        _cleanup_(settings_unrefp) Settings *expanded = NULL;
        const Key *certificate = key_find("Attestation", "Certificate");
        Expansion e = { .from = s, .context = *context, .ret_why = ret_why };
        int r;

        r = copy_plain(s, &expanded);
        if (r < 0)
                return r;
        e.to = expanded;

        /* The certificates come first: %{cert-cn} needs the path of the first one, which may have specifiers
         * itself. */
        r = expand_key(&e, certificate);
        if (r < 0)
                return r;
        if (!e.context.certificate && expanded->certificates)
                e.context.certificate = expanded->certificates[0];

        for (size_t i = 0; i < N_KEYS; i++) {
                if (&settings_keys[i] == certificate)
                        continue;
                r = expand_key(&e, &settings_keys[i]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(expanded);
        return 0;
}
