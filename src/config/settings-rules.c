/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"
#include "config/proxy.h"
#include "config/settings-internal.h"
#include "config/specifier.h"
#include "dps/request.h"

#define TOKEN_LIFETIME_SHORT USEC_PER_HOUR

void reading_report_bad_value(Reading *reading, const Key *k, const ConfLine *line, const char *reason) {
        bool has_comment = strstr(line->value, " #") || strstr(line->value, " ;"),
             has_quotes = *line->value == '"' || *line->value == '\'';
        const char *hint = has_comment  ? " (a comment begins at the start of a line)"
                           : has_quotes ? " (remove the quotes)"
                                        : "";
        _cleanup_(freep) char *shown = NULL;

        if (key_may_be_shown(k, line->value))
                shown = key_quote(k, line->value);
        if (shown)
                conf_report_line(reading->report, CONF_ERROR, line, "%s=%s: %s%s", k->name, shown, reason,
                                 hint);
        else
                conf_report_line(reading->report, CONF_ERROR, line, "%s= %s%s", k->name, reason,
                                 k->flags & KEY_SECRET && !has_quotes ? "" : hint);
}

int specifiers_add(Settings *s, const Key *k, size_t index, const char *file, unsigned line) {
        ValuePlace *grown;

        grown = reallocarray(s->specifiers, s->n_specifiers + 1, sizeof(ValuePlace));
        if (!grown)
                return -ENOMEM;
        s->specifiers = grown;
        grown[s->n_specifiers] = (ValuePlace){ .key = k, .index = index };
        return place_set(&grown[s->n_specifiers++].place, file, line);
}

/* Faults in a value with specifiers may be found when it is expanded, so its place is kept. */
static int remember_place(Settings *s, const Key *k, size_t index, const ConfLine *line) {
        if (!(k->flags & KEY_EXPANDED) || !strchr(line->value, '%'))
                return 0;
        return specifiers_add(s, k, index, line->file, line->line);
}

int reading_store(Reading *reading) {
        for (size_t i = 0; i < N_KEYS; i++) {
                const Choice *c = &reading->choices[i];
                size_t n_stored = 0;

                if (c->is_overfull)
                        conf_report_line(reading->report, CONF_ERROR, choice_last_line(c),
                                         "%s= has more than %d lines", settings_keys[i].name, LIST_LINES_MAX);
                for (size_t j = 0; j < c->n; j++) {
                        _cleanup_(freep) char *reason = NULL;
                        int r = key_store(&settings_keys[i], reading->settings, c->lines[j]->value, &reason);

                        if (r >= 0)
                                r = remember_place(reading->settings, &settings_keys[i], n_stored++,
                                                   c->lines[j]);
                        if (r == -ENOMEM)
                                return r;
                        if (r < 0)
                                reading_report_bad_value(reading, &settings_keys[i], c->lines[j],
                                                         reason ?: strerror(-r));
                }
        }
        return 0;
}

static const ConfLine *find_misspelt(const Conf *conf, const Key *wanted) {
        for (size_t i = 0; i < conf->n_lines; i++) {
                const ConfLine *line = &conf->lines[i];
                bool is_section_near = text_is_near(line->section, wanted->section);

                if (streq(line->key, wanted->name)
                            ? is_section_near && !streq(line->section, wanted->section)
                            : !key_find(NULL, line->key) && text_is_near(line->key, wanted->name))
                        return line;
        }
        return NULL;
}

/* Something that is missing has no line, but there may be a line where it is misspelt. If the file could not be
 * read at all, only that is reported. */
static void report_missing(Reading *reading, ConfSeverity severity, const char *key, const char *what) {
        const Conf *own = reading->own;
        const Key *wanted = key_find(NULL, key);
        const ConfLine *line = find_misspelt(own, wanted);
        const char *file = own->files ? own->files[0] : own->name;

        if (own->n_lines == 0 && reading->report->has_errors)
                return;
        if (line && streq(line->key, key))
                conf_report_line(reading->report, severity, line,
                                 "%s= is missing in [%s]; is [%s], where this line is, meant to be it?", key,
                                 wanted->section, line->section);
        else if (line)
                conf_report_line(reading->report, severity, line,
                                 "%s= is missing; is %s= in this line meant to be it?", key, line->key);
        else
                conf_report_add(reading->report, severity, file, 0, "%s", what);
}

static void check_required(Reading *reading) {
        if (reading_choice(reading, "IdScope")->n == 0)
                report_missing(reading, CONF_ERROR, "IdScope",
                               "IdScope= in [Provisioning] is missing; the overview page of the DPS instance "
                               "shows it");
        if (!reading->settings->registration_id && reading_choice(reading, "RegistrationId")->n == 0)
                report_missing(reading, CONF_ERROR, "RegistrationId",
                               "RegistrationId= in [Provisioning] is missing, such as gw-%{serial|mac:eth0}");
}

static void check_pair(Reading *reading, const char *one, const char *other) {
        const ConfLine *a = reading_last_line(reading, one), *b = reading_last_line(reading, other);

        if (a && b)
                conf_report_line(reading->report, CONF_ERROR, b,
                                 "%s= cannot be used together with %s=, which is in %s:%u", other, one,
                                 a->file, a->line);
}

static void check_proxy(Reading *reading) {
        const ConfLine *transport = reading_last_line(reading, "Transport"),
                       *password = reading_last_line(reading, "ProxyPassword"),
                       *line = reading_last_line(reading, "Proxy");
        _cleanup_(proxy_freep) Proxy *proxy = NULL;
        _cleanup_(freep) char *reason = NULL;

        if (reading->settings->proxy && proxy_from_url(reading->settings->proxy, &proxy, &reason) < 0)
                return; /* there was no memory */
        if (password && !reading->settings->proxy && !line)
                conf_report_line(reading->report, CONF_WARNING, password,
                                 "ProxyPassword= is not used, because Proxy= is not set");
        if (password && proxy && !proxy->user)
                conf_report_line(reading->report, CONF_ERROR, line,
                                 "Proxy= names no user for ProxyPassword=; write http://USER@HOST:PORT");
        if (transport && proxy && proxy->kind == PROXY_HTTPS &&
            reading->settings->transport == TRANSPORT_MQTT)
                conf_report_line(
                        reading->report, CONF_ERROR, line,
                        "Transport=mqtt cannot go through a proxy that is reached by TLS; use http:// or "
                        "socks5h://, or set Transport=auto or https");
}

/* Why a method cannot be used. */
typedef struct MethodFault {
        const ConfLine *line; /* NULL: something is missing, so there is no line */
        const char *key;      /* the one that is missing */
        const char *what;     /* NULL: the method can be used */
        bool is_final;        /* an error even if another method can be used */
} MethodFault;

static MethodFault symmetric_key_fault(Reading *reading) {
        if (reading_choice(reading, "Key")->n > 0 || reading_choice(reading, "GroupKey")->n > 0)
                return (MethodFault){ 0 };
        if (reading_choice(reading, "Method")->n == 0 && reading_choice(reading, "Certificate")->n > 0)
                return (MethodFault){
                        .key = "Key",
                        .what = "Key= in [Attestation] is missing; to use a certificate, set Method=x509"
                };
        return (MethodFault){
                .key = "Key", .what = "Key= in [Attestation] is missing, such as Key=credential:gateway.key"
        };
}

static MethodFault x509_fault(Reading *reading) {
        const Choice *certificates = reading_choice(reading, "Certificate"),
                     *private_keys = reading_choice(reading, "PrivateKey");

        if (certificates->n == 0)
                return (MethodFault){
                        .key = "Certificate",
                        .what = "Certificate= in [Attestation] is missing, which Method=x509 needs"
                };
        if (private_keys->n == 0)
                return (MethodFault){
                        .key = "PrivateKey",
                        .what = "PrivateKey= in [Attestation] is missing, which Method=x509 needs"
                };
        if (certificates->n != private_keys->n)
                return (MethodFault){
                        choice_last_line(private_keys), NULL,
                        "there must be a line PrivateKey= for each line Certificate=, in the same order", true
                };

        return (MethodFault){ 0 };
}

static MethodFault method_fault(Reading *reading, Method m) {
        switch (m) {
        case METHOD_SYMMETRIC_KEY:
                return symmetric_key_fault(reading);
        case METHOD_X509:
                return x509_fault(reading);
        case METHOD_TPM: /* all of it has defaults */
                return (MethodFault){ 0 };
        case _METHOD_MAX:
                break;
        }
        abort();
}

/* If at least one method can be used, the others are warned of. Otherwise they are errors. */
static void check_methods(Reading *reading) {
        const Settings *s = reading->settings;
        MethodFault faults[_METHOD_MAX];
        bool is_possible = false;

        for (unsigned i = 0; i < s->n_methods; i++) {
                faults[i] = method_fault(reading, s->methods[i]);
                is_possible = is_possible || !faults[i].what;
        }

        for (unsigned i = 0; i < s->n_methods; i++) {
                const MethodFault *f = &faults[i];
                ConfSeverity severity = is_possible && !f->is_final ? CONF_WARNING : CONF_ERROR;

                if (f->what && f->line)
                        conf_report_line(reading->report, severity, f->line, "%s", f->what);
                else if (f->what)
                        report_missing(reading, severity, f->key, f->what);
        }
}

static void warn_of_group_key(Reading *reading) {
        const Choice *c = reading_choice(reading, "GroupKey");
        const ConfLine *line = choice_last_line(c);

        if (line && c->is_own && reading_choice(reading, "Key")->n == 0)
                conf_report_line(
                        reading->report, CONF_WARNING, line,
                        "GroupKey= gives every device the key of its whole enrollment group, so one stolen "
                        "device exposes them all; Key= with the device's own key is safer (dpsctl "
                        "derive-key)");
}

static void warn_of_capitals(Reading *reading) {
        const ConfLine *line = reading_last_line(reading, "RegistrationId");
        const Settings *s = reading->settings;

        if (line && s->registration_id && !specifier_present(s->registration_id) &&
            settings_derive_from_capitals(s))
                conf_report_line(reading->report, CONF_WARNING, line,
                                 "RegistrationId= " SETTINGS_CAPITALS_WARNING);
}

/* The scope of every DPS instance begins like this. */
static void warn_of_scope(Reading *reading) {
        const ConfLine *line = reading_last_line(reading, "IdScope");
        const char *scope = reading->settings->id_scope;

        if (line && scope && *scope != '%' && !startswith(scope, "0ne"))
                conf_report_line(
                        reading->report, CONF_WARNING, line,
                        "IdScope= does not begin with 0ne, as the ID scopes of DPS do; the overview page of "
                        "the DPS instance shows it");
}

static void check_times(Reading *reading) {
        const Settings *s = reading->settings;
        const Choice *before = reading_choice(reading, "RenewBefore"),
                     *lifetime = reading_choice(reading, "TokenLifetime");
        const Choice *decisive = before->n > 0 && !s->renew_before_percent ? before : lifetime;
        const ConfLine *line = choice_last_line(decisive);
        uint64_t before_usec = s->renew_before_percent
                                       ? s->token_lifetime_usec / 100 * s->renew_before_percent
                                       : s->renew_before_usec;
        char text[DURATION_TEXT_MAX];
        uint64_t interval_usec;

        if (!line)
                return;
        if (before_usec >= s->token_lifetime_usec) {
                conf_report_line(reading->report, CONF_ERROR, line,
                                 "RenewBefore= must be less than TokenLifetime=, which is %s",
                                 format_duration(s->token_lifetime_usec, text));
                return;
        }

        /* The shortest interval: dpsd renews when some fraction of RenewBefore= is left, and at most once a minute. */
        interval_usec = MAX(s->token_lifetime_usec - before_usec, USEC_PER_MINUTE);
        if (decisive->is_own &&
            (s->token_lifetime_usec < TOKEN_LIFETIME_SHORT || interval_usec < TOKEN_LIFETIME_SHORT / 2))
                conf_report_line(
                        reading->report, CONF_WARNING, line, "%s=%.80s: up to %llu %s", line->key,
                        line->value, (unsigned long long) (USEC_PER_DAY / interval_usec),
                        s->renew == RENEW_PROVISION
                                ? "registrations of this device a day, and the whole fleet shares one quota"
                                : "new tokens a day");
}

/* A version that does not know the request would ignore it. */
static void check_issuance(Reading *reading) {
        const ConfLine *version = reading_last_line(reading, "ApiVersion");
        const ConfLine *type = choice_last_line(reading_choice_in(reading, "Issuance", "KeyType"));
        const Settings *s = reading->settings;

        if (version && s->issuance_requested && strcmp(s->api_version, DPS_API_VERSION_ISSUANCE_OLDER) < 0)
                conf_report_line(reading->report, CONF_ERROR, version,
                                 "ApiVersion=%.40s: this version issues no certificates, which Request= in "
                                 "[Issuance] asks for: remove the line, or set %s",
                                 version->value, DPS_API_VERSION_ISSUANCE_OLDER);
        if (type && s->issuance_key_type == KEY_TYPE_RSA_2048 && streq_ptr(s->issuance_key, "tpm"))
                conf_report_line(reading->report, CONF_ERROR, type,
                                 "KeyType=rsa-2048: RSA keys of a TPM cannot make the signatures of TLS 1.3: "
                                 "for Key=tpm, set KeyType=ec-p256");
}

void reading_check_together(Reading *reading) {
        check_pair(reading, "Payload", "PayloadFile");
        check_pair(reading, "Key", "GroupKey");
        check_proxy(reading);
        check_issuance(reading);
        warn_of_group_key(reading);
        warn_of_capitals(reading);
        warn_of_scope(reading);
        check_times(reading);
}

void reading_check_complete(Reading *reading) {
        check_required(reading);
        check_methods(reading);
}
