/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"
#include "credential/credential-error.h"
#include "dpsd/identity-facts.h"
#include "dpsd/log.h"
#include "dpsd/refusal.h"

/* The directory for programs with its group, and the files in it. */

static void tell_of_group(Identity *i, const char *group, const char *error) {
        if (i->core->observer->group_failed(group, error, i->core->observer_userdata))
                identity_log(
                        i, LOG_WARNING,
                        "its files, like all with Group=%s, are for the daemon's own group only, because "
                        "%s, or change Group=",
                        group, error);
}

void identity_fail_by_disk(Identity *i, const Folder *f, const char *name, const char *what, int r,
                           bool is_news, const char *next) {
        char why[REFUSAL_TEXT_MAX];
        DpsError error;

        dps_error_set(&error, DPS_ERROR_DISK, DPS_STEP_STORE, "%s: %s", what,
                      refusal_text(f->path, name, r, why));
        keeper_set_error(&i->keeper, &error);
        if (is_news)
                identity_log_error(i, LOG_ERR, NULL, &error, "%s; %s", error.message, next);
}

static void outputs_failed(Identity *i, int r) {
        bool is_news = i->outputs != OUTPUTS_REFUSED;

        i->outputs = OUTPUTS_REFUSED;
        i->published = (Published){ 0 };
        retry_failed(&i->publishing, identity_now_usec(i));
        identity_fail_by_disk(i, i->core->runtime, i->name, "the files for programs cannot be written", r,
                              is_news, "trying again");
}

void identity_prepare_folder(Identity *i) {
        const char *group = identity_group(i), *error = NULL;
        gid_t gid = i->core->own_gid;
        int r;

        r = groups_find(i->core->groups, group, &gid);
        if (r == 0) {
                i->folder = FOLDER_ASKS_GROUP;
                return;
        }
        /* The default group may be missing, since not every machine has programs that run as other users. */
        if (r < 0 && !streq(group, GROUP_DEFAULT))
                error = r == -ENOENT
                                ? "there is no such group: make it (groupadd --system), then: dpsctl reload"
                                : "the system cannot look it up";

        r = outputs_prepare(i->core->runtime, i->name, gid);
        if (r > 0)
                error = "dpsd is not a member of it: add it to SupplementaryGroups= in the unit, then: "
                        "systemctl restart dpsd";
        tell_of_group(i, group, error);
        i->folder = r < 0 ? FOLDER_REFUSED : FOLDER_READY;
        if (r >= 0)
                return;
        if (r == -ENOENT &&
            i->publishing.n == 0) { /* the runtime directory was removed, which will be noticed in a moment */
                retry_failed(&i->publishing, identity_now_usec(i));
                return;
        }
        if (identity_assignment(i)) {
                outputs_failed(i, r);
                return;
        }
        if (i->publishing.n == 0)
                identity_log(i, LOG_ERR, "its directory for programs cannot be made: %s", strerror(-r));
        retry_failed(&i->publishing, identity_now_usec(i));
}

/* Clears a disk error once the record and the files are both written. */
void identity_clear_disk_error(Identity *i) {
        if (i->keeper.record->error.id == DPS_ERROR_DISK && i->keeper.disk == DISK_TAKES &&
            i->outputs != OUTPUTS_REFUSED)
                identity_clear_error(i);
}

void identity_outputs_are_stale(Identity *i) {
        i->outputs = OUTPUTS_STALE;
        i->published = (Published){ 0 };
        i->signing = credential_query_free(i->signing);
        i->served = assignment_free(i->served);
}

static void note_published(Identity *i, int r, OutputsState state) {
        if (r == -ENOENT) { /* somebody has removed the directory */
                i->folder = FOLDER_UNPREPARED;
                identity_outputs_are_stale(i);
        } else if (r < 0)
                outputs_failed(i, r);
        else {
                i->outputs = state;
                retry_done(&i->publishing);
                identity_watch_outputs(i);
                identity_clear_disk_error(i);
        }
}

static void publish_with(Identity *i, const Credential *credential, const char *token) {
        const Settings *settings = configuration_key_settings(&i->configuration);
        _cleanup_(freep) char *proxy = NULL;
        Connection connection;
        int r;

        r = publication_proxy(settings, identity_assignment(i)->hub, &proxy);
        if (r < 0) {
                note_published(i, r, OUTPUTS_STALE);
                return;
        }
        publication_to_connection(
                &(Publication){ .assignment = identity_assignment(i),
                                .settings = settings,
                                .token = token,
                                .proxy = proxy,
                                .certificate = credential ? credential_certificate(credential) : NULL },
                &connection);
        r = outputs_publish(i->core->runtime, i->name, &connection);
        i->units_are_due |=
                r > 0 && credential && settings && (settings->restart_units || settings->reload_units);
        if (r >= 0 && i->units_are_due)
                r = outputs_flag(i->core->runtime, i->name);
        if (r >= 0)
                i->units_are_due = false;
        note_published(i, r, credential ? OUTPUTS_COMPLETE : OUTPUTS_BARE);
}

static void on_signed(char *token, const DpsError *error, void *userdata) {
        _cleanup_(erase_and_freep) char *owned = token;
        Identity *i = userdata;
        CredentialCare *c = identity_care_for_hub(i);

        i->signing = NULL;
        i->outputs = OUTPUTS_STALE;
        i->served = assignment_free(i->served);
        if (error && c->state != CREDENTIAL_LOADING) /* otherwise it is being looked at again already */
                identity_care_ended(i, c, NULL, error);
        else if (!error && c->credential)
                publish_with(i, c->credential, owned);
        identity_advance(i);
}

static void sign_and_publish(Identity *i, CredentialCare *c) {
        const Assignment *a = identity_assignment(i);
        _cleanup_(erase_and_freep) char *token = NULL;
        _cleanup_(freep) char *resource = NULL;
        DpsError error;
        int r;

        error_set_memory(&error, DPS_STEP_CONFIG);
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
                identity_care_ended(i, c, NULL, &error);
}

void identity_look_at_files(Identity *i) {
        publication_look(i->core->runtime, i->name, &i->published);
}

bool identity_lacks_files(const Identity *i) {
        const Assignment *a = identity_assignment(i);
        Published now = { 0 };

        if (i->outputs != OUTPUTS_COMPLETE || !a)
                return false;
        publication_look(i->core->runtime, i->name, &now);
        return publication_standing(&now, a, identity_realtime_usec(i)) != STANDING_COMPLETE;
}

void identity_publish(Identity *i, const Facts *f) {
        CredentialCare *c = identity_care_for_hub(i);

        if (f->has_token)
                sign_and_publish(i, c);
        else
                publish_with(i, c->credential, NULL);
        if (c->credential) /* it could sign */
                identity_note_certificate(i, c->credential);
}

void identity_publish_bare(Identity *i) {
        publish_with(i, NULL, NULL);
}

void identity_keep_files(Identity *i, OutputsState state) {
        CredentialCare *c = identity_care_for_hub(i);

        i->outputs = state;
        identity_watch_outputs(i);
        if (c->credential)
                identity_note_certificate(i, c->credential);
}

void identity_warn_of_expiry(Identity *i) {
        uint64_t realtime = identity_realtime_usec(i), expires_at = i->certificate_expires_at_usec;
        char left[DURATION_TEXT_MAX];

        i->certificate_was_warned_of = true;
        if (realtime >= expires_at)
                identity_log(i, LOG_ERR,
                             "its certificate has expired: replace it, dpsd notices the new one by itself");
        else
                identity_log(i, LOG_WARNING,
                             "its certificate expires in %s: replace it, dpsd notices the new one by itself",
                             format_duration(expires_at - realtime, left));
}
