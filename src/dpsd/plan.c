/* SPDX-License-Identifier: MIT */
#include "dpsd/plan.h"

#include <assert.h>

/*
 * The rules are tried in the order of the table; the first that applies gives the action. A rule that will
 * apply only at a later time says when to plan again. Each action changes the facts so that its own rule no
 * longer applies, so the planning comes to an end.
 *
 *      what is known of it        read the record
 *      what the device is         resolve, drop the assignment of another device
 *      what that needs            the folder for programs, a look at the files in it, the credentials
 *      DPS                        give up, hasten, attempt, begin
 *      the assignment             save, mint, publish, warn, announce
 *      nothing left to do         wipe what is in memory
 *
 * DPS comes before minting a new token: once a token is minted, its expiry is no longer a reason to ask DPS.
 */

/* ---- what the facts mean ---- */

/* Whether settings are in force by which DPS may be asked. */
static bool can_ask(const Facts *f) {
        return !f->is_unread && f->has_settings && f->configuration != CONFIGURATION_TWIN;
}

/* The error on this machine that prevents asking DPS; NONE: there is none. */
static DpsErrorId local_error(const Facts *f) {
        if (f->is_unread)
                return f->read_error;
        if (f->configuration == CONFIGURATION_NONE || f->configuration == CONFIGURATION_TWIN)
                return DPS_ERROR_CONFIG;
        if (!f->has_settings)
                return f->configuration_error;
        return f->for_dps_error;
}

static bool clock_hinders_token(const Facts *f) {
        return f->has_token && f->clock == CLOCK_WAITED_FOR;
}

/* When a new token is needed even if DPS could not be reached for a renewal. */
static uint64_t mint_at_realtime(const Facts *f) {
        if (f->renew == RENEW_TOKEN)
                return f->renew_realtime_usec;
        return usec_sub(f->expires_realtime_usec, f->renew_before_usec / 4);
}

/* Whether the token is about to expire, or was made while the clock was ahead: it would be renewed only after a whole
 * life of a token from now on. */
static bool token_is_due(const Facts *f) {
        return f->realtime_usec >= mint_at_realtime(f) || f->renew_realtime_usec == 0 ||
               (f->clock_is_plausible &&
                f->renew_realtime_usec > usec_add(f->realtime_usec, f->lifetime_usec));
}

/* Whether DPS is asked again when the time for it has come. A certificate has no other way. */
static bool is_renewed(const Facts *f) {
        return f->is_durable && (f->is_issued || (f->has_token && f->renew == RENEW_PROVISION));
}

/* When DPS is asked again, unless that would be too soon after it has answered, whatever lifetimes the configuration and
 * DPS set. */
static uint64_t renewal_realtime(const Facts *f) {
        return MAX(f->renew_realtime_usec,
                   usec_add(f->realtime_usec, usec_sub(f->renewal_not_before_usec, f->now_usec)));
}

static bool renewal_is_due(const Facts *f) {
        return is_renewed(f) && f->renew_realtime_usec > 0 && f->realtime_usec >= renewal_realtime(f);
}

/* A refusal is remembered, so that DPS is not asked again and again. */
static bool lacks_certificate(const Facts *f) {
        return f->is_durable && f->wants_certificate && !f->is_issued && !f->was_refused_certificate;
}

/* Whether the durable assignment can be served: no other one is about to replace it. */
static bool can_serve(const Facts *f) {
        return f->is_durable && f->saving == SAVING_NOTHING && f->assignment != ASSIGNMENT_FOREIGN;
}

static bool outputs_are_stale(const Facts *f) {
        return f->outputs == OUTPUTS_STALE ||
               (f->outputs == OUTPUTS_REFUSED && f->now_usec >= f->publish_at_usec);
}

/* The old credential may be valid for long, and the new one may be wrong. So the published files stay until
 * DPS has accepted the new credential. */
static bool old_credential_stands(const Facts *f) {
        return f->proof == PROOF_WANTED && !f->is_recorded && f->standing == STANDING_COMPLETE;
}

static bool token_can_be_minted(const Facts *f) {
        return can_serve(f) && f->has_token && f->lifetime_usec > 0 && f->clock == CLOCK_TRUSTED;
}

static bool wants_new_token(const Facts *f) {
        if (!token_can_be_minted(f))
                return false;
        if (outputs_are_stale(f) && f->proof == PROOF_WANTED)
                return !f->is_recorded && f->standing != STANDING_COMPLETE;
        return (outputs_are_stale(f) || f->outputs == OUTPUTS_COMPLETE) && token_is_due(f);
}

/* The specifiers are being expanded for the first time. */
static bool is_about_to_resolve(const Facts *f) {
        return f->is_expanding && !f->has_settings && f->configuration_error == DPS_ERROR_NONE;
}

static bool wants_hub_credential(const Facts *f) {
        if (f->is_durable && f->n_waiters > 0)
                return true;
        if (!can_serve(f) || clock_hinders_token(f) || is_about_to_resolve(f))
                return false;
        return ((outputs_are_stale(f) || f->outputs == OUTPUTS_BARE) && !old_credential_stands(f)) ||
               wants_new_token(f);
}

static IdentityReason reason_of(const Facts *f) {
        bool is_saved = f->saving == SAVING_ANSWER;

        if (!can_ask(f) || local_error(f) != DPS_ERROR_NONE)
                return REASON_NONE;
        if (f->has_jobs)
                return REASON_REQUEST;
        if (f->assignment == ASSIGNMENT_NONE || f->assignment == ASSIGNMENT_FOREIGN)
                return REASON_FIRST;
        if (is_saved)
                return REASON_NONE;
        if (f->assignment == ASSIGNMENT_ELSEWHERE)
                return REASON_CONFIG;
        if (f->asked != REASON_NONE)
                return f->asked;
        if (f->proof == PROOF_WANTED)
                return REASON_CREDENTIAL;
        if (lacks_certificate(f))
                return REASON_ISSUANCE;
        return renewal_is_due(f) || f->attempts > 0 ? REASON_RENEWAL : REASON_NONE;
}

/* Each registration makes a key for its certificate, perhaps in a token with little room. The keys that do not serve any more
 * are removed when the disk has taken or refused what DPS gave, so the next one is made only then. */
static bool keys_wait_for_disk(const Facts *f) {
        return f->wants_certificate && (f->saving != SAVING_NOTHING || f->pair_is_being_saved);
}

/* When a registration for this reason may begin. If many devices would begin at the same time, each adds its
 * own random delay. */
static uint64_t begin_at(const Facts *f, IdentityReason reason) {
        uint64_t since = f->wanted_since_usec > 0 ? f->wanted_since_usec : f->now_usec, at = f->now_usec;

        if ((reason == REASON_CONFIG || reason == REASON_HUB || reason == REASON_ISSUANCE) && f->is_durable)
                at = usec_add(since, f->splay_usec);
        if (reason == REASON_ISSUANCE || (reason == REASON_RENEWAL && f->is_issued))
                at = MAX(at, f->certificate_not_before_usec);
        else if (reason == REASON_CREDENTIAL)
                at = MAX(since, f->event_at_usec);
        at = MAX(at, f->begin_not_before_usec);
        return f->clock == CLOCK_WAITED_FOR ? MAX(at, f->clock_until_usec) : at;
}

/* ---- rules ---- */

static void wake_at(Plan *p, uint64_t usec) {
        p->wake_usec = MIN(p->wake_usec, usec);
}

static void wake_at_realtime(const Facts *f, Plan *p, uint64_t realtime_usec) {
        if (realtime_usec != USEC_INFINITY)
                wake_at(p, usec_add(f->now_usec, usec_sub(realtime_usec, f->realtime_usec)));
}

/* Returns whether the time has come. If not, plans to wake up then. */
static bool is_due(const Facts *f, Plan *p, uint64_t at_usec) {
        if (f->now_usec >= at_usec)
                return true;
        wake_at(p, at_usec);
        return false;
}

static Action read_record(const Facts *f, Plan *p) {
        if (!f->is_unread)
                return ACTION_WAIT;
        wake_at(p, f->read_until_usec);
        return is_due(f, p, f->read_at_usec) ? ACTION_READ_RECORD : ACTION_WAIT;
}

static Action resolve(const Facts *f, Plan *p) {
        bool is_wanted = f->configuration == CONFIGURATION_UNRESOLVED;

        return is_wanted && is_due(f, p, f->resolve_at_usec) ? ACTION_RESOLVE : ACTION_WAIT;
}

static Action drop_assignment(const Facts *f, Plan *p) {
        return can_ask(f) && f->assignment == ASSIGNMENT_FOREIGN ? ACTION_DROP_ASSIGNMENT : ACTION_WAIT;
}

static Action prepare_folder(const Facts *f, Plan *p) {
        if (f->folder == FOLDER_UNPREPARED)
                return ACTION_PREPARE_FOLDER;
        return f->folder == FOLDER_REFUSED && is_due(f, p, f->publish_at_usec) ? ACTION_PREPARE_FOLDER
                                                                               : ACTION_WAIT;
}

static Action look_at_files(const Facts *f, Plan *p) {
        return f->is_durable && outputs_are_stale(f) && f->standing == STANDING_UNKNOWN ? ACTION_LOOK_AT_FILES
                                                                                        : ACTION_WAIT;
}

static Action load_for_dps(const Facts *f, Plan *p) {
        if (!can_ask(f))
                return ACTION_WAIT;
        if (f->for_dps == CREDENTIAL_UNKNOWN)
                return ACTION_LOAD_FOR_DPS;
        return f->for_dps == CREDENTIAL_FAILED && is_due(f, p, f->for_dps_at_usec) ? ACTION_LOAD_FOR_DPS
                                                                                   : ACTION_WAIT;
}

static Action load_for_hub(const Facts *f, Plan *p) {
        if (!wants_hub_credential(f))
                return ACTION_WAIT;
        if (f->for_hub == CREDENTIAL_UNKNOWN || f->for_hub == CREDENTIAL_KNOWN)
                return ACTION_LOAD_FOR_HUB;
        return f->for_hub == CREDENTIAL_FAILED && is_due(f, p, f->for_hub_at_usec) ? ACTION_LOAD_FOR_HUB
                                                                                   : ACTION_WAIT;
}

/* A chip that hangs costs what it was asked for, and is asked again later. */
static Action stop_waiting(const Facts *f, Plan *p) {
        return f->key_until_usec > 0 && is_due(f, p, f->key_until_usec) ? ACTION_STOP_WAITING : ACTION_WAIT;
}

static Action drop_issued(const Facts *f, Plan *p) {
        bool is_lost = f->for_hub_error == DPS_ERROR_ISSUANCE;
        bool has_expired = f->clock_is_plausible && f->realtime_usec >= f->issued_expires_realtime_usec;

        if (!f->is_issued || !can_serve(f))
                return ACTION_WAIT;
        if ((is_lost && !f->pair_is_unsaved) || has_expired || (can_ask(f) && !f->wants_certificate))
                return ACTION_DROP_ISSUED;
        if (f->realtime_usec < f->issued_expires_realtime_usec)
                wake_at_realtime(f, p, f->issued_expires_realtime_usec);
        return ACTION_WAIT;
}

static Action give_up(const Facts *f, Plan *p) {
        bool has_nothing = !can_ask(f) || local_error(f) != DPS_ERROR_NONE;

        return has_nothing && f->client != CLIENT_IDLE ? ACTION_GIVE_UP : ACTION_WAIT;
}

/* The client is about to try by itself. A network comes up in several steps, and the first event has hastened
 * it already. */
static bool comes_soon(const Facts *f) {
        return f->client_next_usec <= f->now_usec + HASTEN_SPREAD_USEC;
}

static Action hasten(const Facts *f, Plan *p) {
        unsigned helpful = NEWS_CLOCK | NEWS_FILES | (p->waits_for_network ? NEWS_NETWORK : 0);

        if (f->client != CLIENT_BETWEEN)
                return ACTION_WAIT;
        if (f->news & NEWS_REQUEST)
                return ACTION_HASTEN_NOW;
        return f->news & helpful && !comes_soon(f) && f->now_usec >= f->event_at_usec ? ACTION_HASTEN
                                                                                      : ACTION_WAIT;
}

static Action attempt(const Facts *f, Plan *p) {
        uint64_t at = f->client_next_usec;

        if (f->client != CLIENT_BEGUN && f->client != CLIENT_PARKED && f->client != CLIENT_BETWEEN)
                return ACTION_WAIT;
        if (f->clock == CLOCK_WAITED_FOR)
                at = MAX(at, f->clock_until_usec);
        return is_due(f, p, at) ? ACTION_ATTEMPT : ACTION_WAIT;
}

static Action begin(const Facts *f, Plan *p) {
        if (f->client != CLIENT_IDLE || p->reason == REASON_NONE)
                return ACTION_WAIT;
        if (f->for_dps != CREDENTIAL_LOADED && f->for_dps != CREDENTIAL_KNOWN)
                return ACTION_WAIT; /* its method is not known yet */
        if (keys_wait_for_disk(f))
                return ACTION_WAIT;
        return is_due(f, p, begin_at(f, p->reason)) ? ACTION_BEGIN : ACTION_WAIT;
}

static Action save(const Facts *f, Plan *p) {
        bool is_wanted = f->disk == DISK_REFUSES && f->saving == SAVING_NOTHING;

        return is_wanted && is_due(f, p, f->save_at_usec) ? ACTION_SAVE : ACTION_WAIT;
}

static Action save_pair(const Facts *f, Plan *p) {
        return f->pair_is_unsaved && !f->pair_is_being_saved && is_due(f, p, f->pair_at_usec)
                       ? ACTION_SAVE_PAIR
                       : ACTION_WAIT;
}

static Action mint(const Facts *f, Plan *p) {
        bool is_served = f->outputs == OUTPUTS_COMPLETE && token_can_be_minted(f);

        if (wants_new_token(f))
                return f->for_hub == CREDENTIAL_LOADED ? ACTION_MINT : ACTION_WAIT;
        if (is_served)
                wake_at_realtime(f, p, mint_at_realtime(f));
        /* DPS must be asked at that time, although the token is still valid, and even if programs cannot have
         * it. */
        if ((token_can_be_minted(f) || (can_serve(f) && f->is_issued)) && is_renewed(f) &&
            f->client == CLIENT_IDLE && !renewal_is_due(f) && local_error(f) == DPS_ERROR_NONE && can_ask(f))
                wake_at_realtime(f, p, renewal_realtime(f));
        return ACTION_WAIT;
}

/* Hub and device id are published even without a credential, which follows once it can be used. But files of
 * an earlier run stay, since they may hold a credential that is still valid. */
static Action publish_stale(const Facts *f) {
        if (old_credential_stands(f))
                return ACTION_KEEP_FILES;
        if (f->for_hub == CREDENTIAL_LOADED && !clock_hinders_token(f))
                return ACTION_PUBLISH;
        if (f->for_hub != CREDENTIAL_FAILED && !clock_hinders_token(f))
                return ACTION_WAIT; /* it is about to be loaded */
        return f->standing == STANDING_NOTHING ? ACTION_PUBLISH_BARE : ACTION_KEEP_FILES_FOR_NOW;
}

static Action publish(const Facts *f, Plan *p) {
        if (!can_serve(f) || f->folder != FOLDER_READY)
                return ACTION_WAIT;
        if (f->outputs == OUTPUTS_REFUSED && f->now_usec < f->publish_at_usec)
                wake_at(p, f->publish_at_usec);
        if (clock_hinders_token(f))
                wake_at(p, f->clock_until_usec);
        if (outputs_are_stale(f))
                return publish_stale(f);
        return f->outputs == OUTPUTS_BARE && f->for_hub == CREDENTIAL_LOADED && !clock_hinders_token(f)
                       ? ACTION_PUBLISH
                       : ACTION_WAIT;
}

static Action warn_of_expiry(const Facts *f, Plan *p) {
        uint64_t at = usec_sub(f->certificate_expires_realtime_usec, CERTIFICATE_WARNING_USEC);

        /* An issued one is renewed by dpsd. */
        if (!f->is_durable || f->is_issued || f->certificate_expires_realtime_usec == 0 ||
            f->certificate_was_warned_of)
                return ACTION_WAIT;
        if (f->realtime_usec >= at)
                return ACTION_WARN_OF_EXPIRY;
        wake_at_realtime(f, p, at);
        return ACTION_WAIT;
}

/* Programs have the assignment, or cannot have it. */
static Action announce(const Facts *f, Plan *p) {
        bool is_over = f->outputs != OUTPUTS_STALE && f->outputs != OUTPUTS_SIGNING;

        return f->has_announcement && is_over ? ACTION_ANNOUNCE : ACTION_WAIT;
}

static Action wipe_credentials(const Facts *f, Plan *p) {
        bool is_loaded = f->for_dps == CREDENTIAL_LOADED || f->for_hub == CREDENTIAL_LOADED;
        bool is_needed =
                f->saving != SAVING_NOTHING || f->outputs == OUTPUTS_SIGNING || wants_hub_credential(f);

        return is_loaded && !is_needed ? ACTION_WIPE_CREDENTIALS : ACTION_WAIT;
}

static Action (*const rules[])(const Facts *f, Plan *p) = {
        read_record,  resolve,     drop_assignment, prepare_folder, look_at_files,
        load_for_dps, drop_issued, load_for_hub,    stop_waiting,   give_up,
        hasten,       attempt,     begin,           save,           save_pair,
        mint,         publish,     warn_of_expiry,  announce,       wipe_credentials,
};

/* ---- State and Waiting ---- */

static IdentityWaiting waiting_from_error(DpsErrorId id) {
        return id == DPS_ERROR_KEY           ? WAITING_KEY
               : id == DPS_ERROR_MEMORY      ? WAITING_RETRY
               : id == DPS_ERROR_DISK        ? WAITING_RETRY
               : id == DPS_ERROR_UNREACHABLE ? WAITING_NETWORK
                                             : WAITING_CONFIG;
}

static IdentityWaiting waiting_between_attempts(const Facts *f) {
        switch (f->client_error) {
        case DPS_ERROR_THROTTLED:
                return WAITING_THROTTLED;
        case DPS_ERROR_DNS:
        case DPS_ERROR_UNREACHABLE:
                return WAITING_NETWORK;
        case DPS_ERROR_CLOCK:
                return WAITING_CLOCK;
        case DPS_ERROR_KEY:
                return WAITING_KEY;
        case DPS_ERROR_CONFIG:
                return WAITING_CONFIG;
        case DPS_ERROR_NONE: /* DPS told us to wait in a good answer, or in one to another identity */
                return f->client_told_usec > f->now_usec ? WAITING_THROTTLED : WAITING_RETRY;
        case DPS_ERROR_REFUSED:
        case DPS_ERROR_PROXY:
        case DPS_ERROR_TIMEOUT:
        case DPS_ERROR_LOST:
        case DPS_ERROR_TLS:
        case DPS_ERROR_TLS_NAME:
        case DPS_ERROR_TLS_EXPIRED:
        case DPS_ERROR_TLS_UNTRUSTED:
        case DPS_ERROR_TLS_INTERCEPTED:
        case DPS_ERROR_AUTH:
        case DPS_ERROR_ENROLLMENT_DISABLED:
        case DPS_ERROR_ENROLLMENT_UNKNOWN:
        case DPS_ERROR_ALLOCATION:
        case DPS_ERROR_API_VERSION:
        case DPS_ERROR_REQUEST:
        case DPS_ERROR_CONFLICT:
        case DPS_ERROR_SERVICE:
        case DPS_ERROR_PROTOCOL:
        case DPS_ERROR_OPERATION_LOST:
        case DPS_ERROR_ISSUANCE:
        case DPS_ERROR_DISK:
        case DPS_ERROR_MEMORY:
        case _DPS_ERROR_MAX:
                return WAITING_RETRY;
        }
        abort();
}

/* Whether only the clock delays the next attempt. */
static bool clock_hinders_attempt(const Facts *f, IdentityReason reason) {
        if (f->clock != CLOCK_WAITED_FOR)
                return false;
        if (f->client == CLIENT_IDLE)
                return reason != REASON_NONE;
        return f->client == CLIENT_BEGUN || ((f->client == CLIENT_PARKED || f->client == CLIENT_BETWEEN) &&
                                             f->now_usec >= f->client_next_usec);
}

/* A first assignment counts once it is on disk and programs have it. */
static bool saves_first_assignment(const Facts *f) {
        return f->is_durable ? !f->is_announced : f->saving == SAVING_ANSWER;
}

/* The clock is right, and the token that had to wait for it will follow shortly. */
static bool token_follows(const Facts *f) {
        return f->is_durable && f->has_token && f->outputs == OUTPUTS_BARE && f->for_hub != CREDENTIAL_FAILED;
}

static IdentityWaiting waiting_of(const Facts *f, IdentityReason reason) {
        if (saves_first_assignment(f))
                return WAITING_NOTHING;
        if (local_error(f) != DPS_ERROR_NONE)
                return waiting_from_error(local_error(f));
        if (clock_hinders_attempt(f, reason) || (f->is_durable && clock_hinders_token(f)) || token_follows(f))
                return WAITING_CLOCK;
        if (f->client == CLIENT_BETWEEN)
                return waiting_between_attempts(f);
        if (f->is_faulty && f->client != CLIENT_IN_FLIGHT)
                return waiting_from_error(f->configuration_error);
        /* The key of the issued certificate: its chip is not there, for example. */
        if (f->is_issued && f->for_hub_error != DPS_ERROR_NONE && f->for_hub_error != DPS_ERROR_ISSUANCE)
                return waiting_from_error(f->for_hub_error);
        return WAITING_NOTHING;
}

static IdentityState state_of(const Facts *f, IdentityWaiting waiting) {
        if (saves_first_assignment(f))
                return IDENTITY_PROVISIONING;
        if (f->is_durable)
                return IDENTITY_ASSIGNED;
        if (waiting == WAITING_CONFIG)
                return IDENTITY_FAILED;
        if (waiting == WAITING_KEY)
                return IDENTITY_UNPROVISIONED;
        /* If the last attempt met an error other than a final answer, the identity waits for that instead. */
        if (f->client == CLIENT_BETWEEN && f->finals > 0 && waiting == WAITING_RETRY)
                return IDENTITY_FAILED;
        if (f->attempts > 0 || (f->client != CLIENT_IDLE && f->client != CLIENT_BEGUN))
                return IDENTITY_PROVISIONING;
        return IDENTITY_UNPROVISIONED;
}

/* When the cause is looked at again while DPS cannot be asked. */
static uint64_t look_again_usec(const Facts *f) {
        if (f->is_unread)
                return f->read_at_usec;
        if (f->configuration == CONFIGURATION_UNRESOLVED && !f->has_settings)
                return f->resolve_at_usec;
        return can_ask(f) && f->for_dps == CREDENTIAL_FAILED ? f->for_dps_at_usec : 0;
}

/* CLOCK_BOOTTIME; 0: an attempt is in flight, none is planned, or its time is not known yet. */
static uint64_t next_attempt(const Facts *f, IdentityReason reason) {
        switch (f->client) {
        case CLIENT_QUEUED:
        case CLIENT_IN_FLIGHT:
                return 0;
        case CLIENT_BEGUN:
        case CLIENT_PARKED:
        case CLIENT_BETWEEN:
                return f->clock == CLOCK_WAITED_FOR ? MAX(f->client_next_usec, f->clock_until_usec)
                                                    : f->client_next_usec;
        case CLIENT_IDLE:
        case _CLIENT_STATE_MAX:
                break;
        }
        if (local_error(f) != DPS_ERROR_NONE)
                return look_again_usec(f);
        if (reason == REASON_NONE || keys_wait_for_disk(f))
                return 0;
        return MAX(begin_at(f, reason), f->bound_until_usec);
}

/* No attempt is made before this; 0: we do not wait for the clock. */
static uint64_t clock_until_realtime(const Facts *f) {
        return f->clock == CLOCK_WAITED_FOR
                       ? usec_add(f->realtime_usec, usec_sub(f->clock_until_usec, f->now_usec))
                       : 0;
}

static uint64_t next_attempt_realtime(const Facts *f, IdentityReason reason) {
        uint64_t next = next_attempt(f, reason);
        /* While a token or an answer is being saved, its renewal is not known yet. While the state is still
         * provisioning, there is no renewal to show. */
        bool is_shown =
                is_renewed(f) && f->has_settings && f->saving == SAVING_NOTHING && !saves_first_assignment(f);

        if (next > 0 && next < USEC_INFINITY)
                return usec_add(f->realtime_usec, usec_sub(next, f->now_usec));
        if (f->client == CLIENT_IDLE && reason == REASON_NONE && local_error(f) == DPS_ERROR_NONE && is_shown)
                return MAX(renewal_realtime(f), clock_until_realtime(f));
        return 0;
}

/* Whether it is still unknown if DPS can be asked. */
static bool is_first_look(const Facts *f) {
        return can_ask(f) && f->for_dps_error == DPS_ERROR_NONE &&
               (f->for_dps == CREDENTIAL_UNKNOWN || f->for_dps == CREDENTIAL_LOADING);
}

/* ---- the whole plan ---- */

static void describe(const Facts *f, Plan *p) {
        p->reason = reason_of(f);
        p->waiting = waiting_of(f, p->reason);
        p->state = state_of(f, p->waiting);
        p->next_attempt_realtime_usec = next_attempt_realtime(f, p->reason);
        p->waits_for_clock = p->waiting == WAITING_CLOCK;
        p->waits_for_network = p->waiting == WAITING_NETWORK ||
                               (f->configuration == CONFIGURATION_UNRESOLVED && !f->is_unread) ||
                               (f->client == CLIENT_BETWEEN && p->state != IDENTITY_FAILED &&
                                p->waiting != WAITING_THROTTLED);
        p->is_serving = f->is_durable ? f->outputs != OUTPUTS_STALE && f->outputs != OUTPUTS_SIGNING &&
                                                f->saving != SAVING_TOKEN
                                      : !is_first_look(f);
        p->is_settled = p->state == IDENTITY_FAILED ||
                        (f->is_durable && f->saving == SAVING_NOTHING &&
                         !(f->pair_is_unsaved && f->disk == DISK_TAKES) &&
                         (f->outputs == OUTPUTS_COMPLETE ||
                          (f->outputs == OUTPUTS_BARE && f->for_hub == CREDENTIAL_FAILED)) &&
                         !clock_hinders_token(f) && local_error(f) != DPS_ERROR_MEMORY);
}

void plan_make(const Facts *f, Plan *ret) {
        Plan p = { .action = ACTION_WAIT, .wake_usec = USEC_INFINITY };
        /* While the record is read for the first time, nothing else is done. */
        size_t n = f->is_unread && f->read_error == DPS_ERROR_NONE ? 1 : ELEMENTSOF(rules);

        describe(f, &p);
        for (size_t k = 0; k < n && p.action == ACTION_WAIT; k++)
                p.action = rules[k](f, &p);
        *ret = p;
}

const char *identity_state_to_string(IdentityState s) {
        static const char *const words[_IDENTITY_STATE_MAX] = {
                [IDENTITY_UNPROVISIONED] = "unprovisioned",
                [IDENTITY_PROVISIONING] = "provisioning",
                [IDENTITY_ASSIGNED] = "assigned",
                [IDENTITY_FAILED] = "failed",
        };

        assert(s < _IDENTITY_STATE_MAX);
        return words[s];
}

const char *identity_waiting_to_string(IdentityWaiting w) {
        static const char *const words[_IDENTITY_WAITING_MAX] = {
                [WAITING_NOTHING] = "",        [WAITING_RETRY] = "retry", [WAITING_THROTTLED] = "throttled",
                [WAITING_NETWORK] = "network", [WAITING_CLOCK] = "clock", [WAITING_KEY] = "key",
                [WAITING_CONFIG] = "config",
        };

        assert(w < _IDENTITY_WAITING_MAX);
        return words[w];
}

const char *action_to_string(Action a) {
        static const char *const words[_ACTION_MAX] = {
                [ACTION_WAIT] = "wait",
                [ACTION_READ_RECORD] = "read-record",
                [ACTION_RESOLVE] = "resolve",
                [ACTION_DROP_ASSIGNMENT] = "drop-assignment",
                [ACTION_PREPARE_FOLDER] = "prepare-folder",
                [ACTION_LOOK_AT_FILES] = "look-at-files",
                [ACTION_LOAD_FOR_DPS] = "load-for-dps",
                [ACTION_LOAD_FOR_HUB] = "load-for-hub",
                [ACTION_STOP_WAITING] = "stop-waiting",
                [ACTION_MINT] = "mint",
                [ACTION_PUBLISH] = "publish",
                [ACTION_PUBLISH_BARE] = "publish-bare",
                [ACTION_KEEP_FILES] = "keep-files",
                [ACTION_KEEP_FILES_FOR_NOW] = "keep-files-for-now",
                [ACTION_ANNOUNCE] = "announce",
                [ACTION_SAVE] = "save",
                [ACTION_SAVE_PAIR] = "save-pair",
                [ACTION_DROP_ISSUED] = "drop-issued",
                [ACTION_WARN_OF_EXPIRY] = "warn-of-expiry",
                [ACTION_GIVE_UP] = "give-up",
                [ACTION_BEGIN] = "begin",
                [ACTION_ATTEMPT] = "attempt",
                [ACTION_HASTEN] = "hasten",
                [ACTION_HASTEN_NOW] = "hasten-now",
                [ACTION_WIPE_CREDENTIALS] = "wipe-credentials",
        };

        assert(a < _ACTION_MAX);
        return words[a];
}
