/* SPDX-License-Identifier: MIT */
#include "check/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "basic/times.h"

#define TEXT_MAX_FOR_PEOPLE 1024

/* ---- the subject ---- */

int check_subject_new(const char *name, CheckSubject **ret) {
        CheckSubject *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->n_references = 1;
        s->name = strdup(name);
        if (!s->name) {
                free(s);
                return -ENOMEM;
        }
        *ret = s;
        return 0;
}

CheckSubject *check_subject_ref(CheckSubject *s) {
        __atomic_add_fetch(&s->n_references, 1, __ATOMIC_RELAXED);
        return s;
}

CheckSubject *check_subject_unref(CheckSubject *s) {
        if (!s || __atomic_sub_fetch(&s->n_references, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;

        for (unsigned k = 0; k < s->n_credentials; k++)
                credential_unref(s->credentials[k]);
        credential_unref(s->hub.credential);
        erase_and_free(s->hub.token);
        free(s->hub.host);
        free(s->hub.device_id);
        free(s->hub.why_not);
        proxy_free(s->proxy);
        settings_unref(s->settings);
        strv_free(s->directories);
        strv_free(s->names);
        free(s->twin);
        settings_unref(s->known);
        free(s->name);
        free(s);
        return NULL;
}

/* ---- rows ---- */

/* Names of files and certificates may be anything. */
static char *format_row(const char *format, va_list arguments) {
        _cleanup_(freep) char *text = text_vformat(format, arguments);

        return text ? text_for_people(text, strlen(text), TEXT_MAX_FOR_PEOPLE) : NULL;
}

void checks_add(Checks *c, const char *about, CheckResult result, const char *format, ...) {
        CheckRow *grown = reallocarray(c->rows, c->n + 1, sizeof(CheckRow));
        va_list arguments;
        char *text;

        va_start(arguments, format);
        text = format_row(format, arguments);
        va_end(arguments);
        if (grown)
                c->rows = grown;
        if (!grown || !text) {
                free(text);
                c->failed = true;
                return;
        }
        c->rows[c->n++] = (CheckRow){ .about = about, .result = result, .text = text };
}

void checks_take(Checks *c, Checks *more) {
        CheckRow *grown = more->n > 0 ? reallocarray(c->rows, c->n + more->n, sizeof(CheckRow)) : NULL;

        c->failed = c->failed || more->failed || (more->n > 0 && !grown);
        if (grown) {
                c->rows = grown;
                memcpy(c->rows + c->n, more->rows, more->n * sizeof(CheckRow));
                c->n += more->n;
                more->n = 0;
        }
        checks_done(more);
}

void checks_done(Checks *c) {
        for (size_t k = 0; k < c->n; k++)
                free(c->rows[k].text);
        free(c->rows);
        *c = (Checks){ 0 };
}

const char *check_result_to_string(CheckResult r) {
        static const char *const words[_CHECK_RESULT_MAX] = {
                [CHECK_OK] = "ok",
                [CHECK_SKIPPED] = "skipped",
                [CHECK_WARNING] = "warning",
                [CHECK_FAILURE] = "failed",
        };

        return words[r];
}

/* ---- JSON ---- */

static json_object *row_to_json(const CheckRow *row, const char *name) {
        json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "Name", name) < 0 || json_add_string(o, "Check", row->about) < 0 ||
            json_add_string(o, "Result", check_result_to_string(row->result)) < 0 ||
            json_add_string(o, "Text", row->text) < 0) {
                json_object_put(o);
                return NULL;
        }
        return o;
}

/* Owns `value`. */
static int append(json_object *array, json_object *value) {
        if (value && json_object_array_add(array, value) == 0)
                return 0;
        json_object_put(value);
        return -ENOMEM;
}

static json_object *rows_to_json(const Checks *c, const char *name) {
        _cleanup_(json_freep) json_object *array = json_object_new_array();

        for (size_t k = 0; array && k < c->n; k++)
                if (append(array, row_to_json(&c->rows[k], name)) < 0)
                        return NULL;
        return TAKE_PTR(array);
}

static json_object *names_to_json(char *const *names) {
        _cleanup_(json_freep) json_object *array = json_object_new_array();

        if (!array)
                return NULL;
        STRV_FOREACH(name, names)
                if (append(array, json_object_new_string(*name)) < 0)
                        return NULL;
        return TAKE_PTR(array);
}

/* The private values of the rows, so that dpsctl can mask them. */
static int add_private(json_object *o, const CheckSubject *s) {
        int r = 0;

        if (s->settings)
                r = json_add_string(o, "IdScope", s->settings->id_scope);
        if (s->settings && r >= 0)
                r = json_add_string(o, "RegistrationId", s->settings->registration_id);
        if (r >= 0)
                r = json_add_string(o, "AssignedHub", s->hub.host);
        return r < 0 ? r : json_add_string(o, "DeviceId", s->hub.device_id);
}

int check_to_json(const Checks *c, const CheckSubject *s, char **ret) {
        _cleanup_(json_freep) json_object *o = json_object_new_object();
        int r;

        if (!o || c->failed)
                return -ENOMEM;
        r = json_add_u64(o, "version", 1);
        if (r >= 0)
                r = json_add(o, "checks", rows_to_json(c, s->name));
        if (r >= 0 && isempty(s->name))
                r = json_add(o, "identities", names_to_json(s->names));
        if (r >= 0)
                r = add_private(o, s);
        return r < 0 ? r : json_to_text(o, ret);
}

/* ---- shared by steps ---- */

const char *check_clock_hint(const CheckSubject *s, char buffer[static CHECK_CLOCK_TEXT_MAX]) {
        char duration[DURATION_TEXT_MAX];

        if (s->behind_usec > 0)
                (void) snprintf(buffer, CHECK_CLOCK_TEXT_MAX,
                                "the clock is at least %s behind, which is reason enough: timedatectl",
                                format_duration(s->behind_usec, duration));
        else if (!s->is_synchronized)
                (void) snprintf(buffer, CHECK_CLOCK_TEXT_MAX,
                                "the clock is not synchronised: if it is wrong, that is the reason: "
                                "timedatectl");
        else
                buffer[0] = 0;
        return buffer;
}

const char *check_advice(const DpsError *error, char buffer[static CHECK_ADVICE_MAX]) {
        const char *advice = dps_error_advice(error), *from = strstr(advice, " (dpsctl check"),
                   *to = from ? strchr(from, ')') : NULL;

        if (!to)
                return advice;
        (void) snprintf(buffer, CHECK_ADVICE_MAX, "%.*s%s", (int) (from - advice), advice, to + 1);
        return buffer;
}

AzureCloud azure_cloud_of(const char *host) {
        static const char *const domains[_AZURE_CLOUD_MAX][2] = {
                [AZURE_GLOBAL] = { ".azure-devices-provisioning.net", ".azure-devices.net" },
                [AZURE_CHINA] = { ".azure-devices-provisioning.cn", ".azure-devices.cn" },
                [AZURE_US_GOVERNMENT] = { ".azure-devices-provisioning.us", ".azure-devices.us" },
        };
        size_t size = strlen(host);

        for (AzureCloud c = 0; c < _AZURE_CLOUD_MAX; c++)
                for (unsigned k = 0; k < 2; k++) {
                        size_t n = strlen(domains[c][k]);

                        if (size > n && strcasecmp(host + size - n, domains[c][k]) == 0)
                                return c;
                }
        return _AZURE_CLOUD_MAX;
}
