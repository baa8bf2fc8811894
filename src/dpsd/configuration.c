/* SPDX-License-Identifier: MIT */
#include "dpsd/configuration.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#include "basic/text.h"
#include "config/twins.h"
#include "dps/backoff.h"
#include "dpsd/kept-error.h"

void configuration_done(Configuration *c) {
        settings_unref(c->settings);
        settings_unref(c->written);
        settings_unref(c->faulty);
        kept_error_clear(&c->fault);
        free(c->twin);
        free(c->tpm_id);
        *c = (Configuration){ 0 };
}

/* ---- faults ---- */

static bool set_fault(Configuration *c, DpsErrorId id, const char *fault, uint64_t realtime_usec) {
        DpsError error;
        bool is_news;

        if (!c->fault)
                c->fault_at_usec = realtime_usec;
        dps_error_set(&error, id, DPS_STEP_CONFIG, "%s", fault);
        is_news = !streq(error.message, kept_error(c->fault)->message);
        kept_error_set(&c->fault, &error);
        return is_news;
}

static void clear_fault(Configuration *c) {
        kept_error_clear(&c->fault);
        c->fault_at_usec = 0;
}

/* Clears the fault once nothing is wrong any more. */
static void clear_fault_if_good(Configuration *c) {
        if (c->written && !c->faulty && !c->is_to_resolve && !c->twin)
                clear_fault(c);
}

/* ---- the file ---- */

bool configuration_take(Configuration *c, Settings *settings, const char *fault, uint64_t realtime_usec) {
        settings_unref(c->faulty);
        c->faulty = NULL;
        if (fault) {
                c->faulty = settings;
                return set_fault(c, DPS_ERROR_CONFIG, fault, realtime_usec);
        }

        if (!c->written || !settings_equal(c->written, settings)) {
                c->is_to_resolve = true;
                retry_done(&c->resolving);
                free(c->tpm_id); /* it may be another TPM now */
                c->tpm_id = NULL;
        } else if (c->settings == c->written) { /* they differ only in the lines where the values stand */
                settings_unref(c->settings);
                c->settings = settings_ref(settings);
        }
        settings_unref(c->written);
        c->written = settings;
        clear_fault_if_good(c);
        return false;
}

/* ---- specifiers ---- */

static uint64_t hash_who(const Settings *s) {
        char id[DPS_REGISTRATION_ID_MAX + 1] = "";

        for (size_t k = 0; k < DPS_REGISTRATION_ID_MAX && s->registration_id[k]; k++)
                id[k] = (char) tolower((unsigned char) s->registration_id[k]);
        return dps_stable_random(s->id_scope, id);
}

/* DPS treats both settings as the same device at the same place, so its waits bind both. */
static bool is_same_peer(const Settings *a, const Settings *b) {
        return streq(a->id_scope, b->id_scope) && strcasecmp(a->registration_id, b->registration_id) == 0 &&
               strcasecmp(a->endpoint, b->endpoint) == 0 && a->mqtt_port == b->mqtt_port;
}

static Resolution put_in_force(Configuration *c, Settings *expanded) {
        Resolution resolution = !c->settings                            ? RESOLUTION_FIRST
                                : settings_equal(c->settings, expanded) ? RESOLUTION_SAME
                                : is_same_peer(c->settings, expanded)   ? RESOLUTION_OTHER
                                                                        : RESOLUTION_OTHER_PEER;

        c->is_to_resolve = false;
        retry_done(&c->resolving);
        if (resolution != RESOLUTION_SAME) {
                settings_unref(c->settings);
                /* If there were no specifiers, one copy serves for both. */
                c->settings = settings_ref(settings_equal(c->written, expanded) ? c->written : expanded);
                c->who_hash = hash_who(expanded);
        }
        settings_unref(expanded);
        clear_fault_if_good(c);
        return resolution;
}

int configuration_resolve(Configuration *c, const World *w, Resolution *ret, DpsError *error,
                          bool *ret_is_news) {
        _cleanup_(freep) char *why = NULL;
        Settings *expanded;
        DpsErrorId id;
        int r;

        if (!c->is_to_resolve) {
                *ret = RESOLUTION_SAME;
                return 0;
        }
        r = settings_expand(c->written, &(SpecifierContext){ .tpm = c->tpm_id }, &expanded, &why);
        if (r >= 0) {
                *ret = put_in_force(c, expanded);
                return 0;
        }

        id = r == -EAGAIN   ? DPS_ERROR_UNREACHABLE /* only an interface may still appear */
             : r == -ENOMEM ? DPS_ERROR_MEMORY
                            : DPS_ERROR_CONFIG;
        dps_error_set(error, id, DPS_STEP_CONFIG, "%s", why ?: strerror(-r));
        c->unresolved = id;
        *ret_is_news = false;
        if (id == DPS_ERROR_CONFIG || c->settings)
                *ret_is_news = set_fault(c, id, error->message, world_now_usec(w, CLOCK_REALTIME));
        else if (!c->faulty) /* the file that had the fault was corrected */
                clear_fault(c);
        retry_failed(&c->resolving, world_now_usec(w, CLOCK_BOOTTIME));
        return r;
}

bool configuration_needs_tpm(const Configuration *c) {
        return c->is_to_resolve && !c->tpm_id && specifier_uses_tpm(c->written->registration_id);
}

void configuration_take_tpm_id(Configuration *c, const char *id, const DpsError *error) {
        c->tpm_id = id ? strdup(id) : NULL;
        c->unresolved = error ? error->id : DPS_ERROR_MEMORY;
        if (c->tpm_id)
                retry_now(&c->resolving);
}

/* ---- twins ---- */

bool configuration_set_twin(Configuration *c, const char *twin, uint64_t realtime_usec) {
        if (streq_ptr(c->twin, twin))
                return false;

        free(c->twin);
        c->twin = NULL;
        if (!twin) {
                clear_fault_if_good(c);
                return true;
        }
        c->twin = strdup(twin);
        if (c->twin) {
                DpsError error;

                dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, TWINS_FORMAT, twin,
                              c->settings->name, c->settings->registration_id, c->settings->id_scope);
                (void) set_fault(c, error.id, error.message, realtime_usec);
        }
        return true;
}

bool configuration_are_twins(const Configuration *a, const Configuration *b) {
        return a->settings && b->settings && a->who_hash == b->who_hash &&
               streq(a->settings->id_scope, b->settings->id_scope) &&
               strcasecmp(a->settings->registration_id, b->settings->registration_id) == 0;
}

/* ---- views ---- */

ConfigurationState configuration_state(const Configuration *c) {
        if (!c->written)
                return CONFIGURATION_NONE;
        if (c->is_to_resolve)
                return CONFIGURATION_UNRESOLVED;
        return c->twin ? CONFIGURATION_TWIN : CONFIGURATION_GOOD;
}

Settings *configuration_key_settings(const Configuration *c) {
        return c->settings ?: c->faulty;
}

const Settings *configuration_settings(const Configuration *c) {
        return c->settings ?: c->written;
}
