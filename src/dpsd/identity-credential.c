/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "credential/issued.h"
#include "dpsd/identity-facts.h"
#include "dpsd/kept-error.h"
#include "dpsd/log.h"

/* The credentials: looks at their files, loads them, wipes them, and gives them to those who wait for one. */

void care_forget(CredentialCare *c) {
        c->query = credential_query_free(c->query);
        c->credential = credential_unref(c->credential);
        c->state = CREDENTIAL_UNKNOWN;
        retry_done(&c->retry);
}

void care_done(CredentialCare *c) {
        care_forget(c);
        kept_error_clear(&c->error);
        *c = (CredentialCare){ .method = _METHOD_MAX, .until_usec = c->until_usec };
}

/* If the load is begun anew, those who have waited since an earlier one do not wait any longer for it. */
static void begin_loading(const Identity *i, CredentialCare *c) {
        uint64_t now = identity_now_usec(i);

        c->state = CREDENTIAL_LOADING;
        if (now >= c->until_usec)
                c->until_usec = now + KEY_DEADLINE_USEC;
}

void care_loaded(CredentialCare *c, Credential *credential) {
        credential_unref(c->credential);
        c->credential = credential;
        c->state = CREDENTIAL_LOADED;
        c->method = credential_method(credential);
        memcpy(c->fingerprint, credential_fingerprint(credential), sizeof(c->fingerprint));
        kept_error_clear(&c->error);
        retry_done(&c->retry);
}

static int add_waiter(Waiter **list, identity_credential_handler_t handler, void *userdata) {
        Waiter *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        *w = (Waiter){ .next = *list, .handler = handler, .userdata = userdata };
        *list = w;
        return 0;
}

static void tell_waiters(Identity *i, Waiter **list, Credential *credential, const DpsError *error) {
        Waiter *w;

        while ((w = *list)) {
                *list = w->next;
                w->handler(i, credential, error, w->userdata);
                free(w);
        }
}

bool identity_tell_credential(Identity *i) {
        CredentialCare *c = identity_care_for_hub(i);
        _cleanup_(credential_unrefp) Credential *credential = NULL;

        if (!i->waiters || c->state != CREDENTIAL_LOADED)
                return false;
        credential = credential_ref(c->credential); /* a handler may have it wiped */
        tell_waiters(i, &i->waiters, credential, NULL);
        return true;
}

bool identity_tell_look(Identity *i) {
        if (!i->look_waiters || i->for_dps.state == CREDENTIAL_LOADING)
                return false;
        tell_waiters(i, &i->look_waiters, NULL, NULL);
        return true;
}

void identity_tell_end(Identity *i) {
        DpsError gone;

        dps_error_set(&gone, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "the identity is gone");
        tell_waiters(i, &i->waiters, NULL, &gone);
        tell_waiters(i, &i->look_waiters, NULL, &gone);
        tell_waiters(i, &i->end_waiters, NULL, &gone);
}

/* Only a failure of the credential for the hub concerns those who wait for it. Which credential that is may
 * have changed while this one was loaded. */
static void tell_failure(Identity *i, const CredentialCare *c) {
        DpsError error = *kept_error(c->error);

        if (c->state == CREDENTIAL_FAILED && c == identity_care_for_hub(i))
                tell_waiters(i, &i->waiters, NULL, &error);
}

void identity_care_ended(Identity *i, CredentialCare *c, Credential *credential, const DpsError *error) {
        c->query = credential_query_free(c->query); /* a signature may fail while the key is loaded again */
        c->until_usec = 0;
        if (credential) {
                care_loaded(c, credential);
                return;
        }
        c->credential = credential_unref(c->credential);
        c->state = CREDENTIAL_FAILED;
        kept_error_set(&c->error, error);
        retry_failed(&c->retry, identity_now_usec(i));
}

/* A record of an older version does not name the credential that DPS accepted. We assume it is the current
 * one. */
static void complete_record(Identity *i) {
        Assignment *a = i->keeper.record->assignment;

        if (!a || a->fingerprint || a->method != i->for_dps.method)
                return;
        a->fingerprint = strdup(i->for_dps.fingerprint);
        memcpy(i->proven, i->for_dps.fingerprint, sizeof(i->proven));
}

static void take_method(Identity *i, Method method) {
        if (i->method != _METHOD_MAX && i->method != method)
                identity_log(i, LOG_NOTICE, "the attestation is %s now; before, it was %s",
                             method_to_string(method), method_to_string(i->method));
        i->method = method;
}

void identity_note_certificate(Identity *i, const Credential *c) {
        if (credential_certificate(c) && credential_expires_at_usec(c) != i->certificate_expires_at_usec) {
                i->certificate_expires_at_usec = credential_expires_at_usec(c);
                i->certificate_was_warned_of = false;
        }
}

static void on_loaded_for_dps(Credential *credential, const DpsError *error, void *userdata) {
        Identity *i = userdata;
        bool had_failed = i->for_dps.error;

        i->for_dps.query = NULL;
        identity_care_ended(i, &i->for_dps, credential, error);
        if (credential) {
                if (had_failed)
                        identity_clear_error(i);
                take_method(i, credential_method(credential));
                complete_record(i);
        } else
                identity_fail_locally(i, error);
        tell_failure(i, &i->for_dps);
        identity_advance(i);
}

static void on_loaded_for_hub(Credential *credential, const DpsError *error, void *userdata) {
        Identity *i = userdata;

        i->for_hub.query = NULL;
        identity_care_ended(i, &i->for_hub, credential, error);
        tell_failure(i, &i->for_hub);
        identity_judge_assignment(i, true);
        identity_advance(i);
}

void identity_care_fail(Identity *i, CredentialCare *c, DpsErrorId id, const char *why) {
        DpsError error;

        dps_error_set(&error, id, DPS_STEP_CONFIG, "%s", why);
        identity_care_ended(i, c, NULL, &error);
        tell_failure(i, c);
}

void identity_load_for_dps(Identity *i) {
        const Assignment *a = keeper_newest(&i->keeper);
        CredentialWish wish = {
                .settings = i->configuration.settings,
                .registration_id = i->configuration.settings->registration_id,
                .kept = a ? a->method : i->method,
                .index = a ? a->credential : 0,
        };
        DpsError error;

        begin_loading(i, &i->for_dps);
        if (credential_load(i->core->world, &wish, on_loaded_for_dps, i, &i->for_dps.query) >= 0)
                return;
        identity_care_fail(i, &i->for_dps, DPS_ERROR_MEMORY, "out of memory");
        error = *kept_error(i->for_dps.error);
        identity_fail_locally(i, &error);
}

/* If a configuration file has faults, its lines about keys are still the best we know. */
void identity_load_for_hub(Identity *i) {
        Settings *settings = configuration_key_settings(&i->configuration);
        const Assignment *a = identity_assignment(i);
        _cleanup_(freep) char *file = NULL;

        if (identity_care_for_hub(i) == &i->for_dps)
                return identity_load_for_dps(i);
        if (!settings)
                return identity_care_fail(i, &i->for_hub, DPS_ERROR_CONFIG,
                                          "there is no usable configuration");

        if (a->issued && issued_file_name(i->name, a->issued, &file) < 0)
                return identity_care_fail(i, &i->for_hub, DPS_ERROR_MEMORY, "out of memory");

        begin_loading(i, &i->for_hub);
        if (credential_load(i->core->world,
                            &(CredentialWish){ .settings = settings,
                                               .registration_id = a->registration_id,
                                               .kept = a->method,
                                               .index = a->credential,
                                               .issued_folder = store_state(i->core->store),
                                               .issued_fallback = store_notes(i->core->store),
                                               .issued_file = file,
                                               .exact = true },
                            on_loaded_for_hub, i, &i->for_hub.query) < 0)
                identity_care_fail(i, &i->for_hub, DPS_ERROR_MEMORY, "out of memory");
}

static bool is_late(const Identity *i, const CredentialCare *c) {
        return c->state == CREDENTIAL_LOADING && identity_now_usec(i) >= c->until_usec;
}

void identity_stop_waiting(Identity *i) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_KEY, DPS_STEP_CONFIG,
                      "the key does not answer: its chip, or the file system of its file, hangs");
        if (is_late(i, &i->for_dps)) {
                credential_query_free(i->for_dps.query);
                on_loaded_for_dps(NULL, &error, i);
        }
        if (is_late(i, &i->for_hub)) {
                credential_query_free(i->for_hub.query);
                on_loaded_for_hub(NULL, &error, i);
        }
        if (i->naming && identity_now_usec(i) >= i->naming_until_usec)
                identity_stop_naming(i, &error);
        if (i->configuration.expansion && identity_now_usec(i) >= i->configuration.expand_usec)
                identity_stop_expanding(i);
}

void identity_wipe_credentials(Identity *i) {
        CredentialCare *cares[] = { &i->for_dps, &i->for_hub };

        for (size_t k = 0; k < ELEMENTSOF(cares); k++)
                if (cares[k]->state == CREDENTIAL_LOADED) {
                        cares[k]->credential = credential_unref(cares[k]->credential);
                        cares[k]->state = CREDENTIAL_KNOWN;
                }
}

int identity_with_credential(Identity *i, identity_credential_handler_t handler, void *userdata) {
        CredentialCare *c = identity_care_for_hub(i);
        int r;

        if (c->state == CREDENTIAL_LOADED) {
                _cleanup_(credential_unrefp) Credential *credential = credential_ref(c->credential);

                handler(i, credential, NULL, userdata); /* may have it wiped */
                return 0;
        }
        if (!configuration_key_settings(&i->configuration)) {
                DpsError error;

                dps_error_set(&error, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "there is no usable configuration");
                handler(i, NULL, &error, userdata);
                return 0;
        }

        r = add_waiter(&i->waiters, handler, userdata);
        if (r < 0)
                return r;
        retry_now(&c->retry);
        identity_advance(i);
        return 0;
}

int identity_wait_for_look(Identity *i, identity_credential_handler_t handler, void *userdata) {
        return add_waiter(&i->look_waiters, handler, userdata);
}

int identity_wait_for_end(Identity *i, identity_credential_handler_t handler, void *userdata) {
        return add_waiter(&i->end_waiters, handler, userdata);
}

void identity_forget_waiter(Identity *i, void *userdata) {
        Waiter **lists[] = { &i->waiters, &i->look_waiters, &i->end_waiters };

        for (size_t k = 0; k < ELEMENTSOF(lists); k++)
                for (Waiter **w = lists[k]; *w;) {
                        Waiter *gone = *w;

                        if (gone->userdata == userdata) {
                                *w = gone->next;
                                free(gone);
                        } else
                                w = &gone->next;
                }
}

static void on_files_changed(void *userdata) {
        Identity *i = userdata;

        identity_log(i, LOG_DEBUG, "a key or certificate file has changed");
        care_forget(&i->for_dps);
        care_forget(&i->for_hub);
        i->news |= NEWS_FILES;
        identity_advance(i);
}

void identity_watch_files(Identity *i) {
        const CoreOperations *o = i->core->operations;
        _cleanup_(strv_freep) char **paths = NULL;

        if (i->files)
                i->files = o->unwatch_files(i->files);
        if (credential_paths(i->configuration.settings, &paths) < 0 || !paths)
                return;
        (void) o->watch_files(paths, on_files_changed, i, i->core->operations_userdata, &i->files);
}
