/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dpsd/group.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"

/*
 * From what is written to what is to be done: resolve the specifiers, see that nobody else is the same device, take a
 * method that is possible, serve what is remembered, ask DPS if there is a reason. Whatever is in the way becomes
 * trouble, and all is looked at again when it may be over. What was good before stays in force until then.
 */

static void note_fault(Identity *i, DpsErrorId id, const char *fault) {
        if (!i->config_is_faulty)
                i->config_error_at_usec = now_usec(CLOCK_REALTIME);
        i->config_is_faulty = true;
        i->config_error = i->config_error ?: calloc(1, sizeof(*i->config_error));
        if (i->config_error)
                dps_error_set(i->config_error, id, DPS_STEP_CONFIG, "%s", fault);
}

/* `what` is wrong, if it was not told already. */
static void set_fault(Identity *i, DpsErrorId id, const char *fault, const char *what) {
        DpsError before = *identity_config_error(i);

        note_fault(i, id, fault);
        if (!streq(identity_config_error(i)->message, before.message))
                identity_log(i, LOG_ERR, "%s; %s", what,
                             i->settings || i->memory->assignment ? "going on with what was good before"
                                                                  : "not provisioned until that is mended");
}

static void clear_fault(Identity *i) {
        i->config_is_faulty = false;
        free(i->config_error);
        i->config_error = NULL;
        i->config_error_at_usec = 0;
}

void identity_configure(Identity *i, Settings *settings, const char *fault) {
        if (fault) {
                set_fault(i, DPS_ERROR_CONFIG, fault, "its configuration cannot be used");
                settings_unref(i->faulty);
                i->faulty = settings;
                return;
        }

        clear_fault(i);
        i->faulty = settings_unref(i->faulty);
        if (!i->written || !settings_equal(i->written, settings))
                i->is_to_resolve = true;
        else if (i->settings == i->written) /* the same but for the lines where it stands */
                i->settings = settings;

        if (i->written != i->settings)
                settings_unref(i->written);
        i->written = settings;
}

/* ---- who we are ---- */

static bool is_same_device(const Settings *s, const Assignment *a) {
        return strcasecmp(s->registration_id, a->registration_id) == 0;
}

static bool is_same_place(const Settings *s, const Assignment *a) {
        return streq(s->id_scope, a->id_scope) && strcasecmp(s->endpoint, a->endpoint) == 0;
}

/* Case of registration ids counts not. */
static uint64_t hash_who(const Settings *s) {
        char id[DPS_REGISTRATION_ID_MAX + 1] = "";

        for (size_t k = 0; k < DPS_REGISTRATION_ID_MAX && s->registration_id[k]; k++)
                id[k] = (char) tolower((unsigned char) s->registration_id[k]);
        return dps_stable_random(s->id_scope, id);
}

static void on_files_changed(void *userdata);

static void watch_files(Identity *i) {
        _cleanup_(strv_freep) char **paths = NULL;

        i->files = file_watch_free(i->files);
        if (attestation_paths(i->settings, &paths) < 0 || !paths)
                return;
        /* Without a watch, what waits is still looked at now and then. */
        (void) file_watch_new(i->manager->event, paths, on_files_changed, i, &i->files);
}

/* The same device asks the same service: what was told it binds it. */
static bool is_same_peer(const Settings *a, const Settings *b) {
        return streq(a->id_scope, b->id_scope) && strcasecmp(a->registration_id, b->registration_id) == 0 &&
               strcasecmp(a->endpoint, b->endpoint) == 0 && a->mqtt_port == b->mqtt_port;
}

/* An operator has mended something: what was counted against the old configuration does not delay the new one. */
static void forget_failures(Identity *i, bool is_other) {
        identity_cancel(i);
        i->method = i->memory->assignment ? i->method : _METHOD_MAX;
        i->memory->attempts = i->memory->finals = 0;
        i->memory->next_attempt_at_usec = 0;
        if (is_other)
                i->memory->not_before_usec = 0;
        identity_clear_error(i);
        store_note(i->manager->store, i->name, i->memory);
}

static void take_settings(Identity *i, Settings *expanded) {
        bool is_first = !i->settings, is_other = !is_first && !is_same_peer(i->settings, expanded);

        i->is_to_resolve = false;
        if (i->settings && settings_equal(i->settings, expanded)) {
                settings_unref(expanded);
                return;
        }
        if (settings_equal(i->written, expanded)) { /* no specifiers: once is enough */
                settings_unref(expanded);
                expanded = i->written;
        }

        if (i->settings != i->written)
                settings_unref(i->settings);
        i->settings = expanded;
        i->who_hash = hash_who(expanded);
        i->is_published = false; /* group, key sharing … may be others */
        watch_files(i);
        if (!is_first)
                forget_failures(i, is_other);
}

/* 0: `settings` stand for what is written, or for what was before it; negative: they do not, and it is said why. */
static int resolve(Identity *i) {
        _cleanup_(freep) char *why = NULL;
        Settings *expanded;
        DpsErrorId id;
        DpsError error;
        int r;

        if (!i->is_to_resolve)
                return i->settings ? 0 : -EINVAL;

        r = settings_expand(i->written, &(SpecifierContext){ 0 }, &expanded, &why);
        if (r >= 0) {
                take_settings(i, expanded);
                return 0;
        }

        id = r == -EAGAIN   ? DPS_ERROR_UNREACHABLE /* only an interface can appear */
             : r == -ENOMEM ? DPS_ERROR_MEMORY
                            : DPS_ERROR_CONFIG;
        if (i->settings) {
                set_fault(i, id, why ?: strerror(-r), why ?: strerror(-r));
                return 0;
        }

        if (id == DPS_ERROR_CONFIG)
                note_fault(i, id, why ?: strerror(-r));
        dps_error_set(&error, id, DPS_STEP_CONFIG, "%s", why ?: strerror(-r));
        identity_set_trouble(i, &error);
        return r;
}

/* Two of the same scope and registration id would displace each other at the service for ever. */
static int check_twin(Identity *i) {
        const Identity *twin = manager_find_twin(i->manager, i);
        DpsError error;

        if (!twin)
                return 0;

        dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG,
                      "%s.conf and %s.conf are both registration id %s of ID scope %s: change one",
                      twin->name, i->name, i->settings->registration_id, i->settings->id_scope);
        note_fault(i, error.id, error.message);
        identity_set_trouble(i, &error);
        return -EEXIST;
}

static void drop_if_foreign(Identity *i) {
        const Assignment *a = i->pending ?: i->memory->assignment;

        if (!a || is_same_device(i->settings, a))
                return;

        identity_log(i, LOG_NOTICE,
                     "the registration id is %s now, and was %s: the assignment to %s was another device's "
                     "and is dropped",
                     i->settings->registration_id, a->registration_id, a->hub);
        identity_drop_assignment(i);
        i->method = _METHOD_MAX;
}

static int choose_method(Identity *i) {
        Method kept = i->memory->assignment ? i->memory->assignment->method : i->method, method;
        DpsError error = { 0 };
        int r;

        r = attestation_choose(i->settings, i->settings->registration_id, kept, &method, &error);
        if (r < 0) {
                identity_set_trouble(i, &error);
                return r;
        }

        if (i->method != _METHOD_MAX && i->method != method)
                identity_log(i, LOG_NOTICE, "attestation is by %s now, and was by %s",
                             method_to_string(method), method_to_string(i->method));
        i->method = method;
        return 0;
}

/* ---- what is to be done ---- */

/* Asks DPS if there is a reason to. */
static void pursue(Identity *i) {
        const Assignment *a = i->pending ?: i->memory->assignment;

        if (i->registration)
                return;
        if (!a)
                identity_begin(i, REASON_FIRST);
        else if (i->n_jobs > 0) /* what was asked for was cut off */
                identity_begin(i, REASON_REQUEST);
        else if (!is_same_place(i->settings, a) || i->method != a->method)
                identity_begin(i, REASON_CONFIG);
        else if (i->begin_at_usec > 0)
                return;
        else if (i->is_cut_off)
                identity_begin(i, i->reason);
        else if (i->is_unproven)
                identity_begin(i, REASON_CREDENTIAL);
        else if (identity_renewal_is_due(i) || i->memory->attempts > 0)
                identity_begin(i, REASON_RENEWAL); /* or goes on with what an earlier run was at */
}

/* The default may be: not every box has programs of other users. */
static bool is_group_missing(const Identity *i) {
        const Settings *s = identity_settings(i);
        gid_t gid;

        return s && s->group && !streq(s->group, GROUP_DEFAULT) && group_find(s->group, &gid) == -ENOENT;
}

/* Where programs find what they get. */
int identity_prepare_outputs(Identity *i) {
        const char *group = identity_group(i), *lack;
        int r;

        r = outputs_prepare(i->manager->outputs, i->name, group, NULL);
        if (r < 0) {
                identity_log(i, LOG_ERR, "its directory for programs cannot be made: %s", strerror(-r));
                return r;
        }

        lack = r > 0                 ? "dpsd is no member of it: make it one and restart it"
               : is_group_missing(i) ? "there is no such group: make it and reload"
                                     : NULL;
        if (manager_group_lacks(i->manager, group, lack))
                identity_log(i, LOG_WARNING,
                             "its files, as all with Group=%s, are for the daemon's own group only, since "
                             "%s, or change Group=",
                             group, lack);
        return r;
}

/* What is served goes on being served until DPS has seen the new one. */
static void look_for_new_credential(Identity *i) {
        if (i->memory->assignment && !i->pending)
                i->is_unproven = i->is_unproven || identity_credential_has_changed(i);
}

void identity_reconsider(Identity *i) {
        bool was_to_resolve = i->is_to_resolve, was_troubled = i->trouble != WAITING_NOTHING;
        int r;

        if (!i->memory->is_refused)
                i->again_at_usec = 0;
        r = i->written ? resolve(i) : -EINVAL;
        (void) identity_prepare_outputs(i); /* for the group that it has now */

        if (r < 0 || check_twin(i) < 0) {
                if (!i->written)
                        i->trouble = WAITING_CONFIG;
                identity_give_up(i);
                identity_serve(i);
                identity_update(i);
                return;
        }

        if (!i->is_to_resolve && !i->faulty)
                clear_fault(i);
        if (!i->is_to_resolve && was_to_resolve) {
                identity_not_again(i);
                manager_reconsider_twins(i->manager, i);
        }
        drop_if_foreign(i);
        if (choose_method(i) >= 0)
                identity_clear_trouble(i);
        else
                identity_give_up(i);
        identity_serve(i);
        if (i->trouble == WAITING_NOTHING) {
                if (was_troubled)
                        look_for_new_credential(i);
                pursue(i);
        }
        if (i->is_to_resolve && i->again_at_usec == 0)
                identity_again(i);
        identity_update(i);
}

static void on_files_changed(void *userdata) {
        Identity *i = userdata;

        identity_log(i, LOG_DEBUG, "a key or certificate file has changed");
        look_for_new_credential(i);
        if (i->registration)
                identity_hasten(i);
        identity_reconsider(i);
}
