/* SPDX-License-Identifier: MIT */
#include "dpsd/identity.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dpsd/identity-facts.h"
#include "dpsd/identity-view.h"
#include "dpsd/log.h"
#include "dpsd/publication.h"

/*
 *      something happens ──> identity_advance(): facts ──> plan ──> action ──┐
 *                                                  ^───────────────────────┘   until the plan says to wait
 *
 * What happens is noted where it belongs (a file changed: its credential is not known any more) and then identity_advance()
 * is called. It comes to an end, since each action changes the facts that it was chosen by; a limit guards against our
 * mistakes.
 */

#define ACTIONS_MAX 100
#define HASTEN_SPREAD_USEC (2 * USEC_PER_SEC)
#define POLLS_WINDOW_USEC (DPS_POLLS_WINDOW_SEC * USEC_PER_SEC)

static uint64_t now(const Identity *i) {
        return world_now_usec(i->core->world, CLOCK_BOOTTIME);
}

static uint64_t realtime_now(const Identity *i) {
        return world_now_usec(i->core->world, CLOCK_REALTIME);
}

/* ---- errors ---- */

static void end_jobs(Identity *i, Jobs jobs, bool ok, const char *error) {
        for (size_t k = 0; k < jobs.n; k++)
                i->core->observer->job_ended(i, jobs.ids[k], ok, error ?: "", i->core->observer_userdata);
        jobs_done(&jobs);
}

/* Something on this machine is wrong, and DPS cannot be asked before it is mended. */
static void fail_at_home(Identity *i, const DpsError *error) {
        bool is_news =
                error->id != i->logged_error || !streq(error->message, i->keeper.record->error.message);

        keeper_set_error(&i->keeper, error);
        if (is_news)
                identity_log_error(i, error->id == DPS_ERROR_CONFIG ? LOG_ERR : LOG_WARNING, NULL, error,
                                   "%s; %s", error->message, dps_error_id_advice(error->id));
        i->logged_error = error->id;
        end_jobs(i, client_take_jobs(i->client), false, error->message);
}

static void clear_error(Identity *i) {
        keeper_clear_error(&i->keeper);
        i->logged_error = DPS_ERROR_NONE;
}

/* ---- credentials ---- */

static void care_forget(CredentialCare *c) {
        c->query = credential_query_free(c->query);
        c->credential = credential_unref(c->credential);
        c->state = CREDENTIAL_UNKNOWN;
        retry_done(&c->retry);
}

static void care_done(CredentialCare *c) {
        care_forget(c);
        *c = (CredentialCare){ .method = _METHOD_MAX };
}

static void care_loaded(CredentialCare *c, Credential *credential) {
        credential_unref(c->credential);
        c->credential = credential;
        c->state = CREDENTIAL_LOADED;
        c->method = credential_method(credential);
        (void) snprintf(c->fingerprint, sizeof(c->fingerprint), "%s", credential_fingerprint(credential));
        c->error = (DpsError){ 0 };
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

static void care_ended(Identity *i, CredentialCare *c, Credential *credential, const DpsError *error) {
        c->query = NULL;
        if (credential) {
                care_loaded(c, credential);
                return;
        }
        c->credential = credential_unref(c->credential);
        c->state = CREDENTIAL_FAILED;
        c->error = *error;
        retry_failed(&c->retry, now(i));
}

/* The record of an older version does not say which credential DPS took: the one that is there now. */
static void complete_record(Identity *i) {
        Assignment *a = i->keeper.record->assignment;

        if (!a || a->fingerprint || a->method != i->for_dps.method)
                return;
        a->fingerprint = strdup(i->for_dps.fingerprint);
        memcpy(i->proven, i->for_dps.fingerprint, sizeof(i->proven));
}

static void take_method(Identity *i, Method method) {
        if (i->method != _METHOD_MAX && i->method != method)
                identity_log(i, LOG_NOTICE, "attestation is by %s now, and was by %s",
                             method_to_string(method), method_to_string(i->method));
        i->method = method;
}

static void note_certificate(Identity *i, const Credential *c) {
        if (credential_certificate(c) && credential_expires_at_usec(c) != i->certificate_expires_at_usec) {
                i->certificate_expires_at_usec = credential_expires_at_usec(c);
                i->certificate_was_warned_of = false;
        }
}

static void on_loaded_for_dps(Credential *credential, const DpsError *error, void *userdata) {
        Identity *i = userdata;
        bool had_failed = i->for_dps.error.id != DPS_ERROR_NONE;

        care_ended(i, &i->for_dps, credential, error);
        if (credential) {
                if (had_failed)
                        clear_error(i);
                take_method(i, credential_method(credential));
                complete_record(i);
        } else
                fail_at_home(i, &i->for_dps.error);
        tell_waiters(i, &i->waiters, credential, error);
        identity_advance(i);
}

static void on_loaded_for_hub(Credential *credential, const DpsError *error, void *userdata) {
        Identity *i = userdata;

        care_ended(i, &i->for_hub, credential, error);
        tell_waiters(i, &i->waiters, credential, error);
        identity_advance(i);
}

static void care_fail(Identity *i, CredentialCare *c, DpsErrorId id, const char *why) {
        DpsError error;

        dps_error_set(&error, id, DPS_STEP_CONFIG, "%s", why);
        care_ended(i, c, NULL, &error);
        tell_waiters(i, &i->waiters, NULL, &error);
}

static void load_for_dps(Identity *i) {
        const Assignment *a = keeper_newest(&i->keeper);
        CredentialWish wish = {
                .settings = i->configuration.settings,
                .registration_id = i->configuration.settings->registration_id,
                .kept = a ? a->method : i->method,
                .index = a ? a->credential : 0,
        };

        i->for_dps.state = CREDENTIAL_LOADING;
        if (credential_load(i->core->world, &wish, on_loaded_for_dps, i, &i->for_dps.query) >= 0)
                return;
        care_fail(i, &i->for_dps, DPS_ERROR_MEMORY, "out of memory");
        fail_at_home(i, &i->for_dps.error);
}

/* With a file that cannot be used, its lines about keys are still the best that is known. */
static void load_for_hub(Identity *i) {
        Settings *settings = configuration_key_settings(&i->configuration);
        const Assignment *a = identity_assignment(i);

        if (identity_care_for_hub(i) == &i->for_dps)
                return load_for_dps(i);
        if (!settings)
                return care_fail(i, &i->for_hub, DPS_ERROR_CONFIG, "there is no usable configuration");

        i->for_hub.state = CREDENTIAL_LOADING;
        if (credential_load(i->core->world,
                            &(CredentialWish){ .settings = settings,
                                               .registration_id = a->registration_id,
                                               .kept = a->method,
                                               .index = a->credential,
                                               .exact = true },
                            on_loaded_for_hub, i, &i->for_hub.query) < 0)
                care_fail(i, &i->for_hub, DPS_ERROR_MEMORY, "out of memory");
}

static void wipe_credentials(Identity *i) {
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
                handler(i, c->credential, NULL, userdata);
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

int identity_add_mourner(Identity *i, identity_credential_handler_t handler, void *userdata) {
        return add_waiter(&i->mourners, handler, userdata);
}

void identity_forget_waiter(Identity *i, void *userdata) {
        Waiter **lists[] = { &i->waiters, &i->mourners };

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

static void watch_files(Identity *i) {
        const CoreOperations *o = i->core->operations;
        _cleanup_(strv_freep) char **paths = NULL;

        if (i->files)
                i->files = o->unwatch_files(i->files);
        if (credential_paths(i->configuration.settings, &paths) < 0 || !paths)
                return;
        /* Without a watch, what failed is still looked at again now and then. */
        (void) o->watch_files(paths, on_files_changed, i, i->core->operations_userdata, &i->files);
}

/* ---- the configuration ---- */

/* An operator has mended something: what was counted against the old configuration does not delay the new one. */
static void forget_failures(Identity *i, bool is_other_peer) {
        Record *m = i->keeper.record;

        client_cancel(i->client);
        i->method = m->assignment ? i->method : _METHOD_MAX;
        m->attempts = m->finals = 0;
        m->next_attempt_at_usec = 0;
        if (is_other_peer)
                m->not_before_usec = 0;
        clear_error(i);
        keeper_note(&i->keeper, false);
}

static void take_settings(Identity *i, Resolution resolution) {
        if (resolution == RESOLUTION_SAME)
                return;

        if (resolution != RESOLUTION_FIRST)
                forget_failures(i, resolution == RESOLUTION_OTHER_PEER);
        care_done(&i->for_dps);
        care_done(&i->for_hub);
        watch_files(i);
        i->folder = FOLDER_UNPREPARED;
        i->outputs = OUTPUTS_STALE; /* group, key sharing … may be others */
        i->core->observer->device_changed(i, i->core->observer_userdata);
}

static void resolve(Identity *i) {
        bool had_failed = i->configuration.resolving.n > 0 && !i->configuration.settings, is_news;
        Resolution resolution;
        DpsError error;

        if (configuration_resolve(&i->configuration, i->core->world, &resolution, &error, &is_news) >= 0) {
                if (had_failed)
                        clear_error(i);
                take_settings(i, resolution);
        } else if (!i->configuration.settings)
                fail_at_home(i, &error);
        else if (is_news)
                identity_log(i, LOG_ERR, "%s; going on with what was good before", error.message);
}

void identity_configure(Identity *i, Settings *settings, const char *fault) {
        bool is_news = configuration_take(&i->configuration, settings, fault, realtime_now(i));

        if (fault)
                care_forget(&i->for_hub); /* perhaps its keys are found now */
        if (is_news)
                identity_log(i, LOG_ERR, "its configuration cannot be used; %s",
                             i->configuration.settings || identity_assignment(i)
                                     ? "going on with what was good before"
                                     : "not provisioned until that is mended");
}

void identity_set_twin(Identity *i, const char *twin) {
        if (!configuration_set_twin(&i->configuration, twin, realtime_now(i)))
                return;

        if (twin)
                fail_at_home(i, configuration_fault(&i->configuration));
        else
                clear_error(i);
        identity_advance(i);
}

void identity_look_again(Identity *i) {
        retry_now(&i->configuration.resolving);
        retry_now(&i->for_dps.retry);
        retry_now(&i->for_hub.retry);
        i->folder = FOLDER_UNPREPARED; /* groups may have changed */
        identity_advance(i);
}

static void drop_assignment(Identity *i) {
        const Assignment *a = keeper_newest(&i->keeper);

        identity_log(i, LOG_NOTICE,
                     "the registration id is %s now, and was %s: the assignment to %s was another device's "
                     "and is dropped",
                     i->configuration.settings->registration_id, a->registration_id, a->hub);
        end_jobs(i, i->keeper.jobs, false, "the registration id has changed");
        i->keeper.jobs = (Jobs){ 0 };
        keeper_drop(&i->keeper);
        (void) outputs_clear(i->core->outputs, i->name);
        i->outputs = OUTPUTS_STALE;
        i->proven[0] = 0;
        i->method = _METHOD_MAX;
        i->certificate_expires_at_usec = 0;
        i->hub = (DpsHubHealth){ 0 };
        care_done(&i->for_dps);
}

/* ---- the files for programs ---- */

static void tell_of_group(Identity *i, const char *group, const char *lack) {
        if (i->core->observer->group_lacks(group, lack, i->core->observer_userdata))
                identity_log(i, LOG_WARNING,
                             "its files, as all with Group=%s, are for the daemon's own group only, since "
                             "%s, or change "
                             "Group=",
                             group, lack);
}

static void set_disk_error(Identity *i, const char *what, int r) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_DISK, DPS_STEP_STORE, "%s cannot be written: %s", what, strerror(-r));
        keeper_set_error(&i->keeper, &error);
}

static void outputs_failed(Identity *i, int r) {
        bool is_news = i->outputs != OUTPUTS_REFUSED;

        i->outputs = OUTPUTS_REFUSED;
        retry_failed(&i->publishing, now(i));
        set_disk_error(i, "what programs get of it", r);
        if (is_news)
                identity_log_error(i, LOG_ERR, NULL, &i->keeper.record->error, "%s; trying again",
                                   i->keeper.record->error.message);
}

static void prepare_folder(Identity *i) {
        const char *group = identity_group(i), *lack = NULL;
        gid_t gid = i->core->own_gid;
        int r;

        r = groups_find(i->core->groups, group, &gid);
        if (r == 0) {
                i->folder = FOLDER_ASKS_GROUP;
                return;
        }
        /* The default group may be missing: not every machine has programs of other users. */
        if (r < 0 && !streq(group, GROUP_DEFAULT))
                lack = r == -ENOENT ? "there is no such group: make it and reload"
                                    : "the system cannot tell whose it is";

        r = outputs_prepare(i->core->outputs, i->name, gid);
        if (r > 0)
                lack = "dpsd is no member of it: make it one and restart it";
        tell_of_group(i, group, lack);
        i->folder = r < 0 ? FOLDER_REFUSED : FOLDER_READY;
        if (r >= 0)
                return;
        if (identity_assignment(i)) {
                outputs_failed(i, r);
                return;
        }
        if (i->publishing.n == 0)
                identity_log(i, LOG_ERR, "its directory for programs cannot be made: %s", strerror(-r));
        retry_failed(&i->publishing, now(i));
}

/* What is wrong with disks is over when all of it is. */
static void clear_disk_error(Identity *i) {
        if (i->keeper.record->error.id == DPS_ERROR_DISK && i->keeper.disk == DISK_TAKES &&
            i->outputs != OUTPUTS_REFUSED)
                clear_error(i);
}

static void published(Identity *i, int r, OutputsState state) {
        if (r == -ENOENT) { /* somebody has removed the directory */
                i->folder = FOLDER_UNPREPARED;
                i->outputs = OUTPUTS_STALE;
        } else if (r < 0)
                outputs_failed(i, r);
        else {
                i->outputs = state;
                retry_done(&i->publishing);
                clear_disk_error(i);
        }
}

static void publish_with(Identity *i, const Credential *credential, const char *token) {
        Connection connection;

        publication_to_connection(
                &(Publication){ .assignment = identity_assignment(i),
                                .settings = configuration_key_settings(&i->configuration),
                                .token = token,
                                .certificate = credential ? credential_certificate(credential) : NULL },
                &connection);
        published(i, outputs_publish(i->core->outputs, i->name, &connection),
                  credential ? OUTPUTS_COMPLETE : OUTPUTS_BARE);
}

static void on_signed(char *token, const DpsError *error, void *userdata) {
        _cleanup_(erase_and_freep) char *owned = token;
        Identity *i = userdata;
        CredentialCare *c = identity_care_for_hub(i);

        i->signing = NULL;
        i->outputs = OUTPUTS_STALE;
        if (error)
                care_ended(i, c, NULL, error);
        else if (c->credential)
                publish_with(i, c->credential, owned);
        identity_advance(i);
}

static void sign_and_publish(Identity *i, CredentialCare *c) {
        const Assignment *a = identity_assignment(i);
        _cleanup_(erase_and_freep) char *token = NULL;
        _cleanup_(freep) char *resource = NULL;
        DpsError error;
        int r;

        dps_error_set(&error, DPS_ERROR_MEMORY, DPS_STEP_CONFIG, "out of memory");
        r = publication_resource(a, &resource);
        if (r >= 0)
                r = credential_sign(c->credential, i->core->world, resource,
                                    a->token_expires_at_usec / USEC_PER_SEC, NULL, &token, on_signed, i,
                                    &i->signing, &error);
        if (r > 0)
                publish_with(i, c->credential, token);
        else if (r == 0)
                i->outputs = OUTPUTS_SIGNING;
        else
                care_ended(i, c, NULL, &error);
}

/* What is there already is not made worse: the files of an earlier run may hold a credential that is still good. */
static void publish(Identity *i, const Facts *f) {
        CredentialCare *c = identity_care_for_hub(i);
        bool is_bare = (f->has_token && f->clock == CLOCK_WAITED_FOR) || c->state != CREDENTIAL_LOADED;

        if (f->proof == PROOF_WANTED && !f->is_recorded && f->standing == STANDING_COMPLETE)
                i->outputs = OUTPUTS_COMPLETE;
        else if (is_bare && f->standing != STANDING_NOTHING)
                i->outputs = OUTPUTS_BARE;
        else if (is_bare)
                publish_with(i, NULL, NULL);
        else if (f->has_token)
                sign_and_publish(i, c);
        else
                publish_with(i, c->credential, NULL);

        if (c->credential)
                note_certificate(i, c->credential);
}

static void warn_of_expiry(Identity *i) {
        uint64_t realtime = realtime_now(i), expires_at = i->certificate_expires_at_usec;
        char left[DURATION_TEXT_MAX];

        i->certificate_was_warned_of = true;
        if (realtime >= expires_at)
                identity_log(i, LOG_ERR,
                             "its certificate has expired: replace it, the change is noticed by itself");
        else
                identity_log(i, LOG_WARNING,
                             "its certificate expires in %s: replace it, the change is noticed by itself",
                             format_duration(expires_at - realtime, left));
}

/* ---- the assignment ---- */

/* A whole number of seconds, as a token has it. */
static void set_expiry(const Identity *i, Assignment *a) {
        const Settings *s = configuration_key_settings(&i->configuration);

        a->token_expires_at_usec = (realtime_now(i) + s->token_lifetime_usec) / USEC_PER_SEC * USEC_PER_SEC;
        a->renew_at_usec = dps_renew_at_usec(a->token_expires_at_usec, identity_renew_before_usec(s),
                                             dps_stable_random(a->registration_id, "renew"));
}

static int set_fingerprint(Assignment *a, const char *fingerprint) {
        free(a->fingerprint);
        a->fingerprint = strdup(fingerprint);
        return a->fingerprint ? 0 : -ENOMEM;
}

/* The same assignment with a new token. */
static void mint(Identity *i) {
        CredentialCare *c = identity_care_for_hub(i);
        Assignment *a = assignment_copy(identity_assignment(i));

        if (!a || set_fingerprint(a, c->fingerprint) < 0) {
                assignment_free(a);
                c->credential = credential_unref(c->credential);
                care_fail(i, c, DPS_ERROR_MEMORY, "out of memory");
                return;
        }
        set_expiry(i, a);
        keeper_adopt(&i->keeper, a, false, (Jobs){ 0 });
}

static Assignment *assignment_from_reply(const Identity *i, const DpsReply *reply,
                                         const Credential *credential) {
        const Settings *s = i->configuration.settings;
        Assignment told = {
                .id_scope = s->id_scope,
                .registration_id = s->registration_id,
                .endpoint = s->endpoint,
                .method = i->method,
                .hub_auth = i->method == METHOD_X509 ? HUB_AUTH_X509 : HUB_AUTH_SAS,
                .hub = reply->assigned_hub,
                .device_id = reply->device_id,
                .substatus = reply->substatus ?: (char *) "",
                .payload = reply->payload,
                .registration_state = reply->registration_state,
                .assigned_at_usec = realtime_now(i),
                .credential = credential_index(credential),
                .fingerprint = (char *) credential_fingerprint(credential),
        };

        return assignment_copy(&told);
}

/* The last look found another credential than the one that DPS took now. */
static bool is_overtaken(const Identity *i, const Credential *credential) {
        CredentialState state = i->for_dps.state;

        return (state == CREDENTIAL_LOADED || state == CREDENTIAL_KNOWN) &&
               !streq(i->for_dps.fingerprint, credential_fingerprint(credential));
}

/* What DPS took is in memory already, and serves the hub too; but not if a file has changed meanwhile: then what is there
 * now is looked at, and proven if it is another one. */
static void take_proof(Identity *i, Credential *credential) {
        CredentialCare *c = &i->for_dps;

        (void) snprintf(i->proven, sizeof(i->proven), "%s", credential_fingerprint(credential));
        if (is_overtaken(i, credential))
                care_forget(c);
        else if (c->state == CREDENTIAL_LOADED || c->state == CREDENTIAL_KNOWN)
                care_loaded(c, credential_ref(credential));
}

static void adopt(Identity *i, const DpsReply *reply, Credential *credential, Jobs jobs) {
        const Assignment *before = identity_assignment(i);
        Assignment *a = assignment_from_reply(i, reply, credential);
        bool moved;

        if (!a) {
                identity_log(i, LOG_ERR,
                             "there is no memory for what DPS has assigned; asking again in a minute");
                i->begin_not_before_usec = now(i) + USEC_PER_MINUTE;
                end_jobs(i, jobs, false, "out of memory");
                return;
        }

        moved = assignment_has_moved(a, before);
        if (!moved)
                a->assigned_at_usec = before->assigned_at_usec;
        /* The old token is served on until DPS has seen the new key. */
        if (!moved && a->method == before->method && is_overtaken(i, credential)) {
                a->token_expires_at_usec = before->token_expires_at_usec;
                a->renew_at_usec = before->renew_at_usec;
        } else if (a->hub_auth == HUB_AUTH_SAS)
                set_expiry(i, a);
        dps_hub_health_on_assigned(&i->hub, moved, now(i));
        take_proof(i, credential);
        i->asked = REASON_NONE;
        i->certificate_was_warned_of = false;
        (void) record_add_transition(i->keeper.record, realtime_now(i),
                                     !before ? "assigned"
                                     : moved ? "hub-changed"
                                             : "renewed",
                                     a->hub);
        keeper_adopt(&i->keeper, a, true, jobs);
}

static void announcement_done(Announcement *a) {
        free(a->old_hub);
        free(a->old_device_id);
        *a = (Announcement){ 0 };
}

static void on_counts(const Assignment *before, bool is_answer, Jobs jobs, void *userdata) {
        const Assignment *a;
        Identity *i = userdata;
        Announcement *n = &i->announcement;

        a = identity_assignment(i);
        i->outputs = OUTPUTS_STALE;
        i->signing = credential_query_free(i->signing);
        if (i->folder == FOLDER_REFUSED) {
                i->folder = FOLDER_UNPREPARED;
                retry_done(&i->publishing);
        }
        if (is_answer) {
                /* Where one waits to be told already, they are told as one. */
                if (n->state == ANNOUNCEMENT_NONE || n->state == ANNOUNCEMENT_RENEWED)
                        n->state = !before                           ? ANNOUNCEMENT_FIRST
                                   : assignment_has_moved(a, before) ? ANNOUNCEMENT_MOVED
                                                                     : ANNOUNCEMENT_RENEWED;
                if (n->state == ANNOUNCEMENT_MOVED && !n->old_hub && before) {
                        n->old_hub = strdup(before->hub);
                        n->old_device_id = strdup(before->device_id);
                }
                jobs_join(&n->jobs, jobs);
                if (i->keeper.record->error.id == DPS_ERROR_NONE)
                        i->logged_error = DPS_ERROR_NONE;
        } else
                jobs_join(&n->jobs, jobs);
        identity_advance(i);
}

/* Once programs have it, or cannot, it is told, and the jobs that waited for it end. True: so it was. */
static bool announce(Identity *i) {
        Announcement n = i->announcement;
        const Assignment *a = identity_assignment(i);
        LogFields fields = { .identity = i->name, .hub = a ? a->hub : NULL };

        if ((n.state == ANNOUNCEMENT_NONE && n.jobs.n == 0) || i->outputs == OUTPUTS_STALE ||
            i->outputs == OUTPUTS_SIGNING)
                return false;

        i->announcement = (Announcement){ 0 };
        switch (n.state) {
        case ANNOUNCEMENT_FIRST:
                fields.message_id = MESSAGE_ID_ASSIGNED;
                log_message(LOG_INFO, &fields, "is assigned to %s as %s", a->hub, a->device_id);
                break;
        case ANNOUNCEMENT_MOVED:
                fields.message_id = MESSAGE_ID_HUB_CHANGED;
                log_message(LOG_NOTICE, &fields, "has moved from %s (%s) to %s (%s)", n.old_hub ?: "?",
                            n.old_device_id ?: "?", a->hub, a->device_id);
                break;
        case ANNOUNCEMENT_RENEWED:
                fields.message_id = MESSAGE_ID_RENEWED;
                log_message(LOG_INFO, &fields, "DPS has confirmed the assignment to %s", a->hub);
                break;
        case ANNOUNCEMENT_NONE:
        case _ANNOUNCEMENT_STATE_MAX:
                break;
        }
        end_jobs(i, n.jobs, true, NULL);
        n.jobs = (Jobs){ 0 };
        announcement_done(&n);
        return true;
}

static void on_disk(int r, bool is_news, void *userdata) {
        Identity *i = userdata;

        if (r >= 0) {
                if (is_news)
                        identity_log(i, LOG_NOTICE, "the disk takes its state again");
                clear_disk_error(i);
                return;
        }
        set_disk_error(i, "its state", r);
        if (is_news)
                identity_log_error(i, LOG_ERR, NULL, &i->keeper.record->error,
                                   "%s; serving from memory, and trying again. A reboot before that goes "
                                   "back to what the "
                                   "disk has",
                                   i->keeper.record->error.message);
}

static void on_kept(void *userdata) {
        identity_advance(userdata);
}

static const KeeperHandlers keeper_handlers = { .on_counts = on_counts,
                                                .on_disk = on_disk,
                                                .on_changed = on_kept };

/* ---- DPS ---- */

static uint64_t realtime_of(const Identity *i, uint64_t boottime_usec) {
        return boottime_usec > 0 ? world_realtime_of(i->core->world, boottime_usec) : 0;
}

static void remember_polls(Identity *i, const DpsRegistrationHistory *h) {
        uint64_t last = h->n_polls > 0 ? h->polls_usec[h->n_polls - 1] : 0;
        Record *m = i->keeper.record;

        m->last_poll_at_usec = realtime_of(i, last);
        m->polls = 0;
        for (unsigned k = 0; k < h->n_polls; k++)
                m->polls += usec_add(h->polls_usec[k], POLLS_WINDOW_USEC) > last;
}

/* What binds us, as it is now. */
static void remember_wait(Identity *i) {
        const DpsRegistrationHistory *h = client_history(i->client);
        Record *m = i->keeper.record;

        if (client_state(i->client) == CLIENT_IDLE)
                return;
        m->attempts = h->attempts;
        m->finals = h->finals;
        m->next_attempt_at_usec = realtime_of(i, h->next_usec);
        m->not_before_usec = realtime_of(i, h->not_before_usec);
        remember_polls(i, h);
}

/* What was remembered of a wait, on the clock of today; one that cannot be is the usual one after so many failures. */
static uint64_t wait_until(const Identity *i, uint64_t realtime_usec) {
        uint64_t until;

        if (realtime_usec == 0)
                return 0;
        until = world_boottime_of(i->core->world, realtime_usec);
        if (until > now(i) + IDENTITY_WAIT_MAX_USEC)
                return now(i) + dps_backoff_usec(i->keeper.record->attempts, world_random(i->core->world));
        return until;
}

static DpsRegistrationHistory make_history(Identity *i) {
        const Assignment *a = identity_assignment(i);
        const Record *m = i->keeper.record;
        DpsRegistrationHistory history = {
                .attempts = m->attempts,
                .finals = m->finals,
                .next_usec = wait_until(i, m->next_attempt_at_usec),
                .not_before_usec = wait_until(i, m->not_before_usec),
                .credential = a && a->method == i->method ? a->credential : 0,
                .n_polls = MIN(m->polls, (uint32_t) DPS_POLLS_MAX),
        };
        uint64_t last = MIN(world_boottime_of(i->core->world, m->last_poll_at_usec), now(i));

        /* As if all had been with the last: no sooner than the service may count them. */
        for (unsigned k = 0; k < history.n_polls; k++)
                history.polls_usec[k] = last;
        return history;
}

static void take_event(Identity *i) {
        i->events_usec[i->n_events % EVENTS_PER_HOUR_MAX] = now(i);
        i->n_events++;
}

static void begin(Identity *i, IdentityReason reason) {
        DpsRegistrationHistory history = make_history(i);

        if (reason == REASON_CREDENTIAL)
                take_event(i);
        if (reason == REASON_RENEWAL || reason == REASON_HUB || reason == REASON_REQUEST)
                i->asked = reason;
        if (client_begin(i->client, i->configuration.settings, i->method, &history) >= 0)
                return;
        identity_log(i, LOG_ERR, "there is no memory to ask DPS; trying again in a minute");
        i->begin_not_before_usec = now(i) + USEC_PER_MINUTE;
}

/* What is under way fails, so that a key that comes and goes is no flood. */
static void give_up(Identity *i) {
        DpsError error = i->keeper.record->error;

        client_fail(i->client, &error);
        client_cancel(i->client);
}

/* The same error is told once, and again only to those who look closely. */
static void log_failure(Identity *i, const DpsError *error) {
        char next[128];

        if (error->id == i->logged_error) {
                identity_log_error(i, LOG_DEBUG, NULL, error, "attempt %" PRIu32 " failed: %s",
                                   i->keeper.record->attempts, error->message);
                return;
        }

        i->logged_error = error->id;
        identity_describe_next(i, false, next, sizeof(next));
        identity_log_error(i, error->final ? LOG_ERR : LOG_WARNING, MESSAGE_ID_FAILED, error,
                           "%s (%s, %s); %s; %s", error->message, dps_step_to_string(error->step),
                           dps_error_id_to_string(error->id), dps_error_advice(error),
                           identity_assignment(i) ? "the assignment that is there is served on" : next);
}

static void on_failed(const DpsError *error, Jobs jobs, void *userdata) {
        uint32_t attempts;
        Identity *i = userdata;

        remember_wait(i);
        keeper_set_error(&i->keeper, error);
        identity_advance(i);
        log_failure(i, error);
        /* Flash wears: failures 1, 2, 4, 8 … are written at once. */
        attempts = i->keeper.record->attempts;
        if ((attempts & (attempts - 1)) == 0)
                keeper_save(&i->keeper);
        else
                keeper_note(&i->keeper, true);
        end_jobs(i, jobs, false, error->message);
}

static void on_assigned(const DpsReply *reply, Credential *credential, Jobs jobs, void *userdata) {
        Identity *i = userdata;
        Record *m = i->keeper.record;

        remember_polls(i, client_history(i->client));
        m->attempts = m->finals = 0;
        m->next_attempt_at_usec = m->not_before_usec = 0;
        adopt(i, reply, credential, jobs);
        identity_advance(i);
}

/* DPS told us to wait, though nothing is wrong: the next run is bound by it too. A long wait is worth a write of the disk. */
static void on_client_changed(void *userdata) {
        Identity *i = userdata;
        const Record *m = i->keeper.record;
        uint64_t told_before = m->not_before_usec;
        ClientState state = client_state(i->client);

        remember_wait(i);
        if (m->not_before_usec > usec_add(told_before, USEC_PER_SEC))
                keeper_note(&i->keeper, state == CLIENT_PARKED || state == CLIENT_BETWEEN);
        identity_advance(i);
}

/* It came over verified TLS, from a server whose certificate is valid now. */
static void on_answer(void *userdata) {
        Identity *i = userdata;

        clock_confirm(i->core->clock);
}

static void on_step(const char *text, void *userdata) {
        identity_log(userdata, LOG_DEBUG, "%s", text);
}

static void on_poll(void *userdata) {
        Identity *i = userdata;

        remember_polls(i, client_history(i->client));
        keeper_note(&i->keeper, false);
}

static bool is_clock_right(void *userdata) {
        const Identity *i = userdata;

        return clock_is_synchronized(i->core->clock) || clock_is_plausible(i->core->clock);
}

static const ClientHandlers client_handlers = {
        .on_assigned = on_assigned,
        .on_failed = on_failed,
        .on_changed = on_client_changed,
        .on_answer = on_answer,
        .on_poll = on_poll,
        .on_step = on_step,
        .is_clock_right = is_clock_right,
};

/* ---- the plan ---- */

static void perform(Identity *i, const Facts *f, const Plan *p) {
        switch (p->action) {
        case ACTION_WAIT:
        case _ACTION_MAX:
                break;
        case ACTION_RESOLVE:
                return resolve(i);
        case ACTION_DROP_ASSIGNMENT:
                return drop_assignment(i);
        case ACTION_PREPARE_FOLDER:
                return prepare_folder(i);
        case ACTION_LOAD_FOR_DPS:
                return load_for_dps(i);
        case ACTION_LOAD_FOR_HUB:
                return load_for_hub(i);
        case ACTION_MINT:
                return mint(i);
        case ACTION_PUBLISH:
                return publish(i, f);
        case ACTION_SAVE:
                return keeper_save(&i->keeper);
        case ACTION_WARN_OF_EXPIRY:
                return warn_of_expiry(i);
        case ACTION_GIVE_UP:
                return give_up(i);
        case ACTION_BEGIN:
                return begin(i, p->reason);
        case ACTION_ATTEMPT:
                i->news = 0; /* it is what they may help; one that fails at once is not hastened */
                return client_attempt(i->client, i->for_dps.credential);
        case ACTION_HASTEN:
                take_event(i);
                i->news = 0;
                return client_hasten(i->client, HASTEN_SPREAD_USEC);
        case ACTION_HASTEN_NOW:
                i->news = 0;
                return client_hasten(i->client, 0);
        case ACTION_WIPE_CREDENTIALS:
                return wipe_credentials(i);
        }
}

/* Since when DPS is to be asked: each machine has its own time after that. */
static bool note_reason(Identity *i, const Facts *f, const Plan *p) {
        if (p->reason == i->wanted)
                return false;
        i->wanted = p->reason;
        i->wanted_since_usec = p->reason == REASON_NONE ? 0 : f->now_usec;
        return true;
}

static bool last_transition_is(const Record *m, const char *state) {
        return m->n_transitions > 0 && streq(m->transitions[m->n_transitions - 1].state, state);
}

/* An assignment writes its own line of the history, before it is saved; a restart is no news, and nor is that the credential
 * is being looked at for the first time. */
static void show_state(Identity *i) {
        IdentityState state = i->plan.state;
        Record *m = i->keeper.record;
        const char *detail = NULL;

        if (state == i->state && i->state_since_usec > 0)
                return;
        i->state = state;
        i->state_since_usec = realtime_now(i);
        if (state == IDENTITY_ASSIGNED) {
                i->state_since_usec = MIN(i->state_since_usec,
                                          identity_assignment(i)->assigned_at_usec ?: i->state_since_usec);
        } else if (!last_transition_is(m, identity_state_to_string(state)) &&
                   (i->for_dps.method != _METHOD_MAX || state != IDENTITY_UNPROVISIONED ||
                    i->for_dps.state == CREDENTIAL_FAILED)) {
                if (state == IDENTITY_FAILED)
                        detail = m->error.id != DPS_ERROR_NONE
                                         ? m->error.message
                                         : configuration_fault(&i->configuration)->message;
                (void) record_add_transition(m, i->state_since_usec, identity_state_to_string(state), detail);
        }
        identity_log(i, LOG_DEBUG, "is %s", identity_state_to_string(state));
}

/* Slack saves wake-ups, and only ever delays. */
static void arm(Identity *i) {
        uint64_t due = i->plan.wake_usec;

        timer_set(i->wakeup, due, MIN(MAX(usec_sub(due, now(i)) / 20, USEC_PER_MSEC), USEC_PER_MINUTE));
}

/* True: an action was carried out, and there may be another one. */
static bool advance_once(Identity *i) {
        Facts f;
        Plan p;

        identity_gather(i, &f);
        plan_make(&f, &p);
        if (note_reason(i, &f, &p))
                return true;
        i->plan = p;
        if (p.action == ACTION_WAIT) {
                i->news = 0;
                return false;
        }
        perform(i, &f, &p);
        return true;
}

void identity_advance(Identity *i) {
        unsigned n = 0;

        if (i->advance != ADVANCE_NOT) {
                i->advance = ADVANCE_AGAIN;
                return;
        }

        do {
                i->advance = ADVANCE_NOW;
                if (advance_once(i) || announce(i))
                        i->advance = ADVANCE_AGAIN;
        } while (i->advance == ADVANCE_AGAIN && n++ < ACTIONS_MAX);
        i->advance = ADVANCE_NOT;
        if (n > ACTIONS_MAX) {
                identity_log(i, LOG_CRIT, "plans %s without end: this is a bug of dpsd; going on in a minute",
                             action_to_string(i->plan.action));
                i->plan.wake_usec = now(i) + USEC_PER_MINUTE;
        }

        show_state(i);
        arm(i);
        i->core->observer->changed(i, i->core->observer_userdata);
}

static void on_wakeup(void *userdata) {
        identity_advance(userdata);
}

void identity_on_network(Identity *i) {
        retry_now(&i->configuration.resolving);
        i->news |= NEWS_NETWORK;
        identity_advance(i);
}

void identity_on_clock(Identity *i) {
        keeper_on_clock(&i->keeper);
        i->news |= NEWS_CLOCK;
        identity_advance(i);
}

void identity_on_group(Identity *i, const char *group) {
        if (i->folder != FOLDER_ASKS_GROUP || !streq(identity_group(i), group))
                return;
        i->folder = FOLDER_UNPREPARED;
        identity_advance(i);
}

/* ---- beginning and end ---- */

int identity_new(Core *core, const char *name, Identity **ret) {
        _cleanup_(identity_freep) Identity *i = calloc(1, sizeof(*i));
        int r;

        if (!i)
                return -ENOMEM;
        i->core = core;
        i->method = i->for_dps.method = i->for_hub.method = _METHOD_MAX;
        i->name = strdup(name);
        if (!i->name)
                return -ENOMEM;
        r = keeper_init(&i->keeper, core->world, core->store, i->name, &keeper_handlers, i);
        if (r < 0)
                return r;
        r = client_new(core->world, core->window, core->transport, &client_handlers, i, &i->client);
        if (r < 0)
                return r;
        r = timer_new(core->world, on_wakeup, i, &i->wakeup);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(i);
        return 0;
}

Identity *identity_free(Identity *i) {
        DpsError gone;

        if (!i)
                return NULL;

        dps_error_set(&gone, DPS_ERROR_CONFIG, DPS_STEP_CONFIG, "the identity is gone");
        i->advance = ADVANCE_NOW; /* nothing is planned any more */
        tell_waiters(i, &i->waiters, NULL, &gone);
        tell_waiters(i, &i->mourners, NULL, &gone);
        client_free(i->client);
        keeper_done(&i->keeper);
        care_done(&i->for_dps);
        care_done(&i->for_hub);
        credential_query_free(i->signing);
        if (i->files)
                i->core->operations->unwatch_files(i->files);
        jobs_done(&i->announcement.jobs);
        announcement_done(&i->announcement);
        timer_free(i->wakeup);
        configuration_done(&i->configuration);
        free(i->name);
        free(i);
        return NULL;
}

int identity_load(Identity *i) {
        _cleanup_(freep) char *why = NULL;
        int r;

        r = keeper_load(&i->keeper, &why);
        if (r < 0 && store_could_not_read(r))
                return r;
        if (r < 0)
                identity_log(i, LOG_ERR,
                             "what was remembered cannot be used (%s): it is kept as %s.json.corrupt, and "
                             "DPS is asked anew",
                             why ?: strerror(-r), i->name);
        if (identity_assignment(i)) {
                i->method = identity_assignment(i)->method;
                (void) snprintf(i->proven, sizeof(i->proven), "%s",
                                identity_assignment(i)->fingerprint ?: "");
        }
        return 0;
}

static void end_all_jobs(Identity *i, const char *why) {
        end_jobs(i, client_take_jobs(i->client), false, why);
        end_jobs(i, i->keeper.jobs, false, why);
        i->keeper.jobs = (Jobs){ 0 };
        end_jobs(i, i->announcement.jobs, false, why);
        i->announcement.jobs = (Jobs){ 0 };
}

void identity_retire(Identity *i) {
        i->advance = ADVANCE_NOW;
        end_all_jobs(i, "its configuration was removed");
        remember_wait(i);
        client_cancel(i->client);
        keeper_save(&i->keeper);
        (void) outputs_remove(i->core->outputs, i->name);
        identity_log(i, LOG_NOTICE,
                     "its configuration is gone: not served any more, what is remembered is kept");
}

void identity_stop(Identity *i) {
        const Record *m = i->keeper.record;
        bool is_bound;

        i->advance = ADVANCE_NOW;
        remember_wait(i);
        /* The polls of a success are saved with it. */
        is_bound = m->attempts > 0 || m->not_before_usec > realtime_now(i) ||
                   (client_state(i->client) != CLIENT_IDLE && m->polls > 0);
        client_cancel(i->client);
        if (is_bound || i->keeper.disk == DISK_REFUSES)
                keeper_save(&i->keeper);
}
