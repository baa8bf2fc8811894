/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "basic/text.h"
#include "config/settings-internal.h"

#define UNKNOWN_MAX 20 /* warnings for one identity */

static const char *const sections[] = { "Provisioning", "Attestation", "Hub", "Issuance",
                                        "Access",       "Daemon",      NULL };

void reading_done(Reading *reading) {
        for (size_t i = 0; i < N_KEYS; i++)
                free(reading->choices[i].lines);
}

Choice *reading_choice(Reading *reading, const char *name) {
        for (size_t i = 0; i < N_KEYS; i++)
                if (streq(settings_keys[i].name, name) && !streq(settings_keys[i].section, "Issuance"))
                        return &reading->choices[i];
        abort();
}

Choice *reading_choice_in(Reading *reading, const char *section, const char *name) {
        return &reading->choices[key_find(section, name) - settings_keys];
}

const ConfLine *choice_last_line(const Choice *c) {
        return c->n > 0 ? c->lines[c->n - 1] : NULL;
}

const ConfLine *reading_last_line(Reading *reading, const char *name) {
        return choice_last_line(reading_choice(reading, name));
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

static const Key *nearest_key(const char *name) {
        for (size_t i = 0; i < N_KEYS; i++)
                if (text_is_near(name, settings_keys[i].name))
                        return &settings_keys[i];
        return NULL;
}

static const char *nearest_section(const char *name) {
        STRV_FOREACH(section, (char *const *) sections)
                if (text_is_near(name, *section))
                        return *section;
        return NULL;
}

/* A key in base64 ends with =, so on a line of its own it looks like an assignment. Hence long names are not
 * shown. */
static const char *shown_name(const char *name) {
        return strlen(name) <= 20 ? name : "(a long name)";
}

static void warn_of_unknown(Reading *reading, const ConfLine *line) {
        const char *section = nearest_section(line->section);
        const Key *near = nearest_key(line->key), *elsewhere = key_find(NULL, line->key);

        if (reading->n_unknown++ >= UNKNOWN_MAX)
                return;

        if (!strv_contains((char *const *) sections, line->section))
                conf_report_line(reading->report, CONF_WARNING, line,
                                 "there is no section [%s]%s%s%s, ignoring %s=", shown_name(line->section),
                                 section ? ", did you mean [" : "", section ?: "", section ? "]?" : "",
                                 elsewhere ? elsewhere->name : shown_name(line->key));
        else if (elsewhere)
                conf_report_line(reading->report, CONF_WARNING, line,
                                 "%s= belongs in [%s], not in [%s], ignoring", line->key, elsewhere->section,
                                 line->section);
        else if (near)
                conf_report_line(reading->report, CONF_WARNING, line,
                                 "there is no %s= in [%s], did you mean %s=? Ignoring", line->key,
                                 line->section, near->name);
        else
                conf_report_line(reading->report, CONF_WARNING, line, "there is no %s= in [%s], ignoring",
                                 shown_name(line->key), line->section);
}

int reading_choose(Reading *reading, const Conf *conf, bool is_own) {
        bool is_daemons = streq(conf->name, "dpsd");
        int r;

        for (size_t i = 0; i < conf->n_lines; i++) {
                const ConfLine *line = &conf->lines[i];
                const Key *k = key_find(line->section, line->key);

                if (!k && is_own)
                        warn_of_unknown(reading, line);
                if (k && (k->flags & KEY_DAEMON) && !is_daemons)
                        conf_report_line(reading->report, CONF_WARNING, line,
                                         "[%s] belongs in dpsd.conf, ignoring %s=", k->section, k->name);
                if (!k || ((k->flags & KEY_DAEMON) && !is_daemons))
                        continue;

                r = choose_line(&reading->choices[k - settings_keys], k, line, is_own);
                if (r < 0)
                        return r;
        }
        return 0;
}

void reading_settle(Reading *reading) {
        static const char *const pairs[][2] = { { "Key", "GroupKey" }, { "Payload", "PayloadFile" } };

        for (size_t i = 0; i < ELEMENTSOF(pairs); i++) {
                Choice *a = reading_choice(reading, pairs[i][0]), *b = reading_choice(reading, pairs[i][1]);

                if (a->n > 0 && a->is_own && !b->is_own)
                        b->n = 0;
                if (b->n > 0 && b->is_own && !a->is_own)
                        a->n = 0;
        }

        /* The password belongs to the default proxy, and must not be sent to another one. */
        if (reading_choice(reading, "Proxy")->is_own && !reading_choice(reading, "ProxyPassword")->is_own)
                reading_choice(reading, "ProxyPassword")->n = 0;
}
