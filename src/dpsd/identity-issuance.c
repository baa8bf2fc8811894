/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "credential/issuance.h"
#include "dps/backoff.h"
#include "dpsd/identity-facts.h"
#include "dpsd/kept-error.h"
#include "dpsd/log.h"

/*
 * The certificate that DPS issues:
 *
 *      answer ──> key and chain checked ──> their file ──> the record names it ──> published ──> older files removed
 *
 * Each pair has a file of its own, and the record decides which one counts. So the old pair serves until the
 * new one is durable, and at every moment the record names a key together with its chain.
 */

/* A renewal that brought no certificate is asked for again at half of what is left, but not sooner. */
#define RENEW_AGAIN_MIN_USEC USEC_PER_HOUR

/* A certificate that is to be renewed at once, since the clock is wrong or the CA's is, would be renewed for ever. */
#define FRUITLESS_USEC USEC_PER_MINUTE
#define FRUITLESS_DOUBLINGS 10U

/* A fleet that was installed in one hour should not renew in one. */
#define RENEW_SPREAD 20 /* of a certificate's life */

static void set_text(char **field, const char *text) {
        free(*field);
        *field = text ? strdup(text) : NULL;
}

static uint64_t renew_at(const Settings *s, const Assignment *a, uint64_t from_usec, uint64_t until_usec) {
        uint64_t life = usec_sub(until_usec, from_usec), before, at;

        before = s->issuance_renew_percent > 0 ? life / 100 * (100 - s->issuance_renew_percent)
                                               : MIN(s->issuance_renew_before_usec, life / 2);
        before += dps_fraction_usec(MIN(life / RENEW_SPREAD, (life - before) / 4),
                                    dps_stable_random(a->registration_id, "issuance"));
        at = usec_sub(until_usec, before);
        return MAX(at, from_usec + RENEW_AT_MIN_USEC);
}

void identity_count_renewal_anew(Identity *i) {
        Assignment *a = i->keeper.pending ?: i->keeper.record->assignment;
        uint64_t from =
                i->keeper.is_answer ? i->keeper.answered_at_usec : i->keeper.record->last_success_at_usec;
        const Settings *s = i->configuration.settings;

        if (a && a->issued)
                a->renew_at_usec = s ? renew_at(s, a, from, a->issued_expires_at_usec) : 0;
}

/* ---- the file of the pair ---- */

static void on_pair_saved(int r, void *userdata) {
        Identity *i = userdata;

        i->pair_saving = NULL;
        if (r >= 0) {
                i->pair_text = erase_and_free(i->pair_text);
                free(i->pair_file);
                i->pair_file = NULL;
                retry_done(&i->pair_retry);
                identity_remove_old_pairs(i); /* it did not when the record was written */
        } else {
                if (i->pair_retry.n == 0)
                        identity_log(i, LOG_ERR,
                                     "its issued certificate cannot be written to disk: %s; serving from "
                                     "memory, and trying again",
                                     strerror(-r));
                retry_failed(&i->pair_retry, identity_now_usec(i));
        }
        identity_advance(i);
}

void identity_save_pair(Identity *i) {
        int r = store_save_issued(i->core->store, i->pair_file, i->pair_text, on_pair_saved, i,
                                  &i->pair_saving);

        if (r < 0) /* there is no memory */
                retry_failed(&i->pair_retry, identity_now_usec(i));
}

/* Forgets the name and the text of a pair that need not be saved any more. */
void identity_forget_pair(Identity *i) {
        i->pair_saving = work_forget(i->pair_saving);
        i->issued_credential = credential_unref(i->issued_credential);
        i->pair_text = erase_and_free(i->pair_text);
        free(i->pair_file);
        i->pair_file = NULL;
        retry_done(&i->pair_retry);
}

void identity_remove_old_pairs(Identity *i) {
        const Assignment *a = identity_assignment(i);

        i->has_old_pairs = i->pair_text || i->keeper.pending || i->keeper.disk != DISK_TAKES;
        if (!i->has_old_pairs)
                store_remove_issued(i->core->store, i->name, a ? a->issued : NULL,
                                    configuration_key_settings(&i->configuration));
}

/* ---- the answer ---- */

/* By the boot clock, since the other one may be what is wrong. */
static void note_fruit(Identity *i, bool is_useful) {
        if (is_useful) {
                i->n_fruitless_certificates = 0;
                return;
        }
        i->certificate_not_before_usec =
                identity_now_usec(i) +
                (FRUITLESS_USEC << MIN(i->n_fruitless_certificates, FRUITLESS_DOUBLINGS));
        i->n_fruitless_certificates++;
}

static int take_pair(Identity *i, IssuedPair *pair, Assignment *a) {
        _cleanup_(freep) char *file = NULL;
        uint64_t now = identity_realtime_usec(i);
        bool is_inside;
        int r;

        r = issued_file_name(i->name, pair->fingerprint, &file);
        if (r < 0)
                return r;
        set_text(&a->issued, pair->fingerprint);
        if (!a->issued)
                return -ENOMEM;
        set_text(&a->issuance_fault, NULL);
        a->issued_expires_at_usec = pair->not_after_usec;
        a->token_expires_at_usec = 0;
        /* CAs date certificates back. But a clock outside the life of this one is wrong, and is not used. */
        is_inside = now >= pair->not_before_usec && now < pair->not_after_usec;
        a->renew_at_usec = renew_at(i->configuration.settings, a, is_inside ? now : pair->not_before_usec,
                                    pair->not_after_usec);
        note_fruit(i, is_inside && a->renew_at_usec > now);

        identity_forget_pair(i);
        /* If memory runs out, the credential is loaded from the file. */
        (void) issued_credential_new(pair, i->configuration.settings, a->registration_id,
                                     &i->issued_credential);
        i->pair_file = TAKE_PTR(file);
        i->pair_text = TAKE_PTR(pair->text);
        return 0;
}

/* The old certificate serves as long as it is valid, at the same hub. Otherwise the hub is shown what DPS was shown. */
static void keep_old_certificate(const Identity *i, Assignment *a, const Assignment *before) {
        uint64_t now = identity_realtime_usec(i), left;

        if (!before || !before->issued || assignment_has_moved(a, before) ||
            before->issued_expires_at_usec <= now)
                return;
        set_text(&a->issued, before->issued);
        if (!a->issued)
                return;
        left = before->issued_expires_at_usec - now;
        a->issued_expires_at_usec = before->issued_expires_at_usec;
        a->token_expires_at_usec = 0;
        a->renew_at_usec = now + MAX(left / 2, RENEW_AGAIN_MIN_USEC);
}

/* Dates cannot be judged by a clock that is known to be wrong. A certificate that is really over is dropped when the
 * clock is right. */
static uint64_t date_of_check(const Identity *i) {
        return clock_is_plausible(i->core->clock) ? identity_realtime_usec(i) : 0;
}

void identity_take_issued(Identity *i, const DpsReply *reply, Assignment *a, const Assignment *before) {
        const IssuanceRequest *request = client_issuance(i->client);
        IssuedPair pair = { 0 };
        DpsError error;
        int r;

        if (!i->configuration.settings->issuance_requested)
                return;
        if (!request) /* the configuration asks for it since the register was sent */
                return keep_old_certificate(i, a, before);
        if (!reply->issued_chain) {
                dps_error_set(&error, DPS_ERROR_ISSUANCE, DPS_STEP_REGISTER,
                              "DPS issued no certificate: its enrollment has no credential policy");
                r = -ENODATA;
        } else
                r = request->module->pair_new(reply->issued_chain, request, a->registration_id,
                                              date_of_check(i), &pair, &error);
        if (r >= 0)
                r = take_pair(i, &pair, a);
        issued_pair_done(&pair);
        if (r >= 0) {
                identity_save_pair(i);
                return;
        }
        /* Without a reason of DPS's, it is asked again. */
        if (r == -ENOMEM)
                identity_log(i, LOG_ERR, "out of memory for the certificate from DPS; asking again later");
        else
                set_text(&a->issuance_fault, error.message);
        keep_old_certificate(i, a, before);
}

/* ---- without it ---- */

/* The certificate has expired, is lost, or is no longer wanted: the hub is shown what DPS was shown. */
void identity_drop_issued(Identity *i) {
        Assignment *a = assignment_copy(identity_assignment(i));
        const Settings *s = i->configuration.settings;

        if (!a) {
                identity_care_fail(i, &i->for_hub, DPS_ERROR_MEMORY, "out of memory");
                return;
        }
        if (s && !s->issuance_requested)
                identity_log(i, LOG_NOTICE,
                             "the issued certificate is dropped: Request= in [Issuance] is off");
        else if (identity_realtime_usec(i) >= a->issued_expires_at_usec) {
                identity_log(i, LOG_ERR, "its issued certificate has expired; asking DPS for a new one");
                i->certificate_not_before_usec =
                        MAX(i->certificate_not_before_usec, identity_now_usec(i) + RENEW_AT_MIN_USEC);
        } else
                identity_log(i, LOG_ERR, "%s; asking DPS for a new one",
                             kept_error(i->for_hub.error)->message);
        set_text(&a->issued, NULL);
        a->issued_expires_at_usec = a->token_expires_at_usec = a->renew_at_usec = 0;
        if (s && !s->issuance_requested)
                set_text(&a->issuance_fault, NULL);
        identity_forget_pair(i);
        keeper_adopt(&i->keeper, a, false, (Jobs){ 0 });
}

/* ---- what is wrong with an assignment although DPS gave it ---- */

void identity_judge_assignment(Identity *i, bool is_logged) {
        const DpsError *of_hub = kept_error(i->for_hub.error);
        const Assignment *a = identity_assignment(i);
        DpsError error = { .id = DPS_ERROR_NONE };
        bool is_news;

        if (a && assignment_lacks_credential(a))
                dps_error_set(&error, DPS_ERROR_ISSUANCE, DPS_STEP_NONE,
                              "the hub takes certificates only (%s), and there is none%s%s",
                              a->connection_profile,
                              a->issuance_fault ? ": " : ": Request= in [Issuance] is off",
                              a->issuance_fault ?: "");
        else if (a && a->issuance_fault)
                dps_error_set(&error, DPS_ERROR_ISSUANCE, DPS_STEP_NONE, "%s; %s", a->issuance_fault,
                              a->issued                      ? "the old one serves until it expires"
                              : a->hub_auth == HUB_AUTH_X509 ? "the hub is shown the certificate for DPS"
                                                             : "the hub is shown tokens");
        else if (a && a->issued && i->for_hub.state == CREDENTIAL_FAILED &&
                 of_hub->id != DPS_ERROR_ISSUANCE) /* one that is lost is dropped */
                error = *of_hub;
        is_news = error.id != DPS_ERROR_NONE && !streq(kept_error(i->issuance_error)->message, error.message);
        kept_error_set(&i->issuance_error, &error);
        if (is_logged && is_news)
                identity_log_error(i, LOG_WARNING, NULL, &error, "%s; %s", error.message,
                                   dps_error_id_advice(error.id));
}

void identity_forget_refusal(Identity *i) {
        Assignment *a = i->keeper.record->assignment;

        if (a && a->issuance_fault && !i->configuration.settings->issuance_requested) {
                set_text(&a->issuance_fault, NULL);
                keeper_save(&i->keeper);
        }
        identity_judge_assignment(i, false);
}
