/* SPDX-License-Identifier: MIT */
#include "dpsd/configuration.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#include "basic/text.h"
#include "config/twins.h"
#include "dps/backoff.h"
#include "dpsd/kept-error.h"

#define EXPANSION_DEADLINE_USEC (30 * USEC_PER_SEC)

/* The task of the worker, while there is `work`. */
struct Expansion {
        Work *work;
        Settings *written;
        char *tpm_id;
        expansion_handler_t handler;
        void *userdata;

        const Place *at; /* atomic, as the thread may hang there */
        int r;
        Settings *expanded;
        char *why;
};

static void forget_expansion(Configuration *c) {
        if (c->expansion)
                work_forget(c->expansion->work);
        c->expansion = NULL;
}

void configuration_done(Configuration *c) {
        forget_expansion(c);
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
                forget_expansion(c);
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

static void expansion_free(void *task) {
        Expansion *e = task;

        settings_unref(e->written);
        settings_unref(e->expanded);
        free(e->tpm_id);
        free(e->why);
        free(e);
}

static void expansion_run(void *task) {
        Expansion *e = task;
        SpecifierContext context = { .tpm = e->tpm_id, .at = &e->at };

        if (e->r >= 0)
                e->r = settings_expand(e->written, &context, &e->expanded, &e->why);
}

static void expansion_done(void *task) {
        Expansion *e = task;

        e->handler(e, e->userdata);
        expansion_free(e);
}

static const char *expansion_whose(const void *task) {
        const Expansion *e = task;

        return e->written->name;
}

void configuration_expand(Configuration *c, World *w, expansion_handler_t handler, void *userdata) {
        static const WorkClass class = { .queue = WORK_KEYS,
                                         .run = expansion_run,
                                         .done = expansion_done,
                                         .free = expansion_free,
                                         .whose = expansion_whose };
        Expansion none = { .r = -ENOMEM }, *e = c->expansion ? NULL : malloc(sizeof(*e));

        if (c->expansion)
                return;
        if (!e) {
                handler(&none, userdata);
                return;
        }
        *e = (Expansion){ .written = settings_ref(c->written),
                          .tpm_id = c->tpm_id ? strdup(c->tpm_id) : NULL,
                          .handler = handler,
                          .userdata = userdata };
        if (c->tpm_id && !e->tpm_id)
                e->r = -ENOMEM;
        else if (c->written->n_specifiers > 0) {
                int r = work_begin(w, &class, e, &e->work); /* from here on the thread has the rest of it */

                if (r >= 0) {
                        c->expansion = e;
                        c->expand_usec = world_now_usec(w, CLOCK_BOOTTIME) + EXPANSION_DEADLINE_USEC;
                        return;
                }
                e->r = r;
        }
        expansion_run(e);
        expansion_done(e);
}

static DpsErrorId set_late(const Expansion *e, DpsError *error) {
        static const char what[] = "a file that a specifier names does not answer: its file system hangs";
        const Place *at = __atomic_load_n(&e->at, __ATOMIC_ACQUIRE);

        if (at)
                dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "%s:%u: %s", at->file, at->line, what);
        else /* no thread has come to it */
                dps_error_set(error, DPS_ERROR_KEY, DPS_STEP_CONFIG, "%s.conf: %s", e->written->name, what);
        return error->id;
}

static DpsErrorId set_unresolved(const Expansion *e, DpsError *error) {
        DpsErrorId id = e->r == -EAGAIN   ? DPS_ERROR_UNREACHABLE /* only an interface may still appear */
                        : e->r == -ENOMEM ? DPS_ERROR_MEMORY
                                          : DPS_ERROR_CONFIG;

        dps_error_set(error, id, DPS_STEP_CONFIG, "%s", e->why ?: strerror(-e->r));
        return id;
}

int configuration_take_expanded(Configuration *c, const World *w, Expansion *e, Resolution *ret,
                                DpsError *error, bool *ret_is_news) {
        if (e && e->r >= 0) {
                c->expansion = NULL;
                *ret = put_in_force(c, TAKE_PTR(e->expanded));
                return 0;
        }

        c->unresolved = e ? set_unresolved(e, error) : set_late(c->expansion, error);
        if (e)
                c->expansion = NULL;
        else
                c->expand_usec = USEC_INFINITY;
        *ret_is_news = false;
        if (c->unresolved == DPS_ERROR_CONFIG || c->settings)
                *ret_is_news = set_fault(c, c->unresolved, error->message, world_now_usec(w, CLOCK_REALTIME));
        else if (!c->faulty) /* the file that had the fault was corrected */
                clear_fault(c);
        retry_failed(&c->resolving, world_now_usec(w, CLOCK_BOOTTIME));
        return e ? e->r : -ETIMEDOUT;
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
