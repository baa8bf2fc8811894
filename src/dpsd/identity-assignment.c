/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dpsd/identity-facts.h"
#include "dpsd/log.h"

/*
 * The path of an assignment:
 *
 *      answer of DPS ──> identity_adopt() ─┐
 *                                          ├──> keeper, disk ──> it counts ──> published ──> announced
 *      a new token ────> identity_mint() ──┘
 */

/* The expiry is a whole number of seconds, as it is in a token. Each new token is a write to the disk, so there is a
 * least time between two, however early RenewBefore= wants the next. */
static void set_expiry(const Identity *i, Assignment *a) {
        const Settings *s = configuration_key_settings(&i->configuration);
        uint64_t now = identity_realtime_usec(i);

        a->token_expires_at_usec = (now + s->token_lifetime_usec) / USEC_PER_SEC * USEC_PER_SEC;
        a->renew_at_usec = MAX(dps_renew_at_usec(a->token_expires_at_usec, identity_renew_before_usec(s),
                                                 dps_stable_random(a->registration_id, "renew")),
                               now + MIN(RENEW_AT_MIN_USEC, s->token_lifetime_usec / 2));
}

/* The old token stays in use until DPS has seen the new key. */
static void keep_expiry(Assignment *a, const Assignment *before) {
        a->token_expires_at_usec = before->token_expires_at_usec;
        a->renew_at_usec = before->renew_at_usec;
}

static int set_fingerprint(Assignment *a, const char *fingerprint) {
        free(a->fingerprint);
        a->fingerprint = strdup(fingerprint);
        return a->fingerprint ? 0 : -ENOMEM;
}

/* Adopts the same assignment with a new token. */
void identity_mint(Identity *i) {
        CredentialCare *c = identity_care_for_hub(i);
        Assignment *a = assignment_copy(identity_assignment(i));

        if (!a || set_fingerprint(a, c->fingerprint) < 0) {
                assignment_free(a);
                c->credential = credential_unref(c->credential);
                identity_care_fail(i, c, DPS_ERROR_MEMORY, "out of memory");
                return;
        }
        set_expiry(i, a);
        keeper_adopt(&i->keeper, a, false, (Jobs){ 0 });
}

static Assignment *assignment_from_reply(const Identity *i, const DpsReply *reply,
                                         const Credential *credential) {
        const Settings *s = i->configuration.settings;
        const Assignment borrowed = {
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
                .connection_profile = reply->connection_profile,
                .api_version = (char *) (client_api_version(i->client) ?: s->api_version),
                .assigned_at_usec = identity_realtime_usec(i),
                .credential = credential_index(credential),
                .fingerprint = (char *) credential_fingerprint(credential),
        };

        return assignment_copy(&borrowed);
}

/* Whether the credential files were looked at again since `credential` was loaded, and now hold another
 * one. */
static bool is_overtaken(const Identity *i, const Credential *credential) {
        CredentialState state = i->for_dps.state;

        /* The key in a TPM comes from DPS, so this is the newest one. */
        if (credential_tpm_keys(credential))
                return false;
        return (state == CREDENTIAL_LOADED || state == CREDENTIAL_KNOWN) &&
               !streq(i->for_dps.fingerprint, credential_fingerprint(credential));
}

/* DPS accepted this credential. It is in memory already, so it serves the hub too. If a file has changed
 * meanwhile, the new credential is looked at instead, and proven to DPS if it is another one. */
static void take_proof(Identity *i, Credential *credential) {
        CredentialCare *c = &i->for_dps;

        memcpy(i->proven, credential_fingerprint(credential), sizeof(i->proven));
        if (is_overtaken(i, credential))
                care_forget(c);
        else if (c->state == CREDENTIAL_LOADED || c->state == CREDENTIAL_KNOWN)
                care_loaded(c, credential_ref(credential));
}

void identity_adopt(Identity *i, const DpsReply *reply, Credential *credential, Jobs jobs) {
        const Assignment *before = identity_assignment(i);
        Assignment *a = assignment_from_reply(i, reply, credential);
        bool moved;

        if (!a) {
                identity_log(i, LOG_ERR,
                             "out of memory for the assignment from DPS; asking again in a minute");
                i->begin_not_before_usec = identity_now_usec(i) + USEC_PER_MINUTE;
                identity_end_jobs(i, jobs, false, "out of memory");
                return;
        }

        moved = assignment_has_moved(a, before);
        if (!moved)
                a->assigned_at_usec = before->assigned_at_usec;
        if (assignment_lacks_credential(a))
                a->token_expires_at_usec = a->renew_at_usec = 0;
        else if (!moved && a->method == before->method && is_overtaken(i, credential))
                keep_expiry(a, before);
        else if (a->hub_auth == HUB_AUTH_SAS)
                set_expiry(i, a);
        identity_take_issued(i, reply, a, before);
        dps_hub_health_on_assigned(&i->hub, identity_now_usec(i));
        if (moved)
                identity_forget_hub_failure(i);
        take_proof(i, credential);
        i->asked = REASON_NONE;
        i->certificate_was_warned_of = false;
        (void) record_add_transition(i->keeper.record, identity_realtime_usec(i),
                                     !before ? "assigned"
                                     : moved ? "hub-changed"
                                             : "renewed",
                                     a->hub);
        keeper_adopt(&i->keeper, a, true, jobs);
}

void announcement_done(Announcement *a) {
        free(a->old_hub);
        free(a->old_device_id);
        *a = (Announcement){ 0 };
}

/* Notes what to announce. If an announcement is waiting already, both are made as one. */
static void note_news(Announcement *n, const Assignment *before, const Assignment *a) {
        bool moved = before && assignment_has_moved(a, before);

        if (n->state == ANNOUNCEMENT_NONE || n->state == ANNOUNCEMENT_RENEWED)
                n->state = !before ? ANNOUNCEMENT_FIRST : moved ? ANNOUNCEMENT_MOVED : ANNOUNCEMENT_RENEWED;
        if (n->state == ANNOUNCEMENT_MOVED && moved && !n->old_hub) {
                n->old_hub = strdup(before->hub);
                n->old_device_id = strdup(before->device_id);
        }
}

static void on_counts(const Assignment *before, bool is_answer, Jobs jobs, void *userdata) {
        Identity *i = userdata;

        if (!streq_ptr(before ? before->issued : NULL, identity_assignment(i)->issued)) {
                care_done(&i->for_hub);
                if (i->issued_credential &&
                    streq_ptr(credential_fingerprint(i->issued_credential), identity_assignment(i)->issued))
                        care_loaded(&i->for_hub, TAKE_PTR(i->issued_credential));
                i->certificate_expires_at_usec = 0;
                i->certificate_was_warned_of = false;
                identity_remove_old_pairs(i);
        }
        identity_judge_assignment(i, true);
        identity_outputs_are_stale(i);
        i->served = before ? assignment_copy(before) : NULL; /* a copy that fails is only shown too early */
        if (i->folder == FOLDER_REFUSED) {
                i->folder = FOLDER_UNPREPARED;
                retry_done(&i->publishing);
        }
        if (is_answer)
                note_news(&i->announcement, before, identity_assignment(i));
        if (is_answer && i->keeper.record->error.id == DPS_ERROR_NONE)
                i->logged_error = DPS_ERROR_NONE;
        jobs_join(&i->announcement.jobs, jobs);
        identity_advance(i);
}

/* Programs have the assignment, or cannot have it: logs it, and ends the jobs that waited for it. */
void identity_announce(Identity *i) {
        Announcement n = i->announcement;
        const Assignment *a = identity_assignment(i);
        LogFields fields = { .identity = i->name, .hub = a ? a->hub : NULL };

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
        if ((n.state == ANNOUNCEMENT_FIRST || n.state == ANNOUNCEMENT_MOVED) && strpbrk(a->device_id, "+#"))
                identity_log(
                        i, LOG_WARNING,
                        "the device id \"%s\" has a wildcard of MQTT (+ or #): programs can connect with it, "
                        "but cannot publish to its topics; give the device another id in the enrollment",
                        a->device_id);
        identity_end_jobs(i, jobs_take(&n.jobs), true, NULL);
        announcement_done(&n);
}

static void on_disk(int r, bool is_news, void *userdata) {
        Identity *i = userdata;

        if (r >= 0) {
                if (is_news)
                        identity_log(i, LOG_NOTICE, "its record can be written to disk again");
                identity_clear_disk_error(i);
                if (i->has_old_pairs)
                        identity_remove_old_pairs(i);
                return;
        }
        identity_fail_by_disk(i, store_state(i->core->store), "", "its record cannot be written", r, is_news,
                              "serving from memory, and trying again. A reboot before that falls back to the "
                              "record on disk");
}

static void on_kept(void *userdata) {
        identity_advance(userdata);
}

const KeeperHandlers identity_keeper_handlers = {
        .on_counts = on_counts, .on_disk = on_disk, .on_changed = on_kept, .on_loaded = identity_on_loaded
};
