/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-facts.h"

#include <strings.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dpsd/kept-error.h"

static AssignmentState assignment_state(const Identity *i) {
        const Assignment *a = keeper_newest(&i->keeper);
        const Settings *s = i->configuration.settings;

        if (!a)
                return ASSIGNMENT_NONE;
        if (!s)
                return ASSIGNMENT_OURS;
        if (strcasecmp(s->registration_id, a->registration_id) != 0)
                return ASSIGNMENT_FOREIGN;
        if (!streq(s->id_scope, a->id_scope) || strcasecmp(s->endpoint, a->endpoint) != 0 ||
            (i->method != _METHOD_MAX && i->method != a->method))
                return ASSIGNMENT_ELSEWHERE;
        return ASSIGNMENT_OURS;
}

static void gather_clock(const Identity *i, Facts *f) {
        f->now_usec = world_now_usec(i->core->world, CLOCK_BOOTTIME);
        f->realtime_usec = world_now_usec(i->core->world, CLOCK_REALTIME);
        f->clock_is_plausible = clock_is_plausible(i->core->clock);
        f->clock_until_usec = i->core->clock_deadline_usec;
        f->clock = f->clock_is_plausible || f->now_usec >= f->clock_until_usec ? CLOCK_TRUSTED
                                                                               : CLOCK_WAITED_FOR;
}

static void gather_configuration(const Identity *i, Facts *f) {
        const Configuration *c = &i->configuration;
        const Settings *s = configuration_key_settings(c);

        f->configuration = configuration_state(c);
        f->has_settings = c->settings && !c->twin; /* even while newer settings are to be resolved */
        f->is_faulty = c->fault;
        f->configuration_error = c->fault ? c->fault->id : c->unresolved;
        f->is_expanding = c->expansion;
        f->resolve_at_usec = c->expansion ? USEC_INFINITY : c->resolving.at_usec;
        if (c->settings) {
                f->renew = c->settings->renew;
                f->wants_certificate = c->settings->issuance_requested;
                f->splay_usec = dps_fraction_usec(c->settings->splay_usec,
                                                  dps_stable_random(c->settings->registration_id, "splay"));
        }
        if (s) {
                f->lifetime_usec = s->token_lifetime_usec;
                f->renew_before_usec = identity_renew_before_usec(s);
        }
}

/* 0: nothing is waited for. */
static uint64_t key_until_usec(const Identity *i) {
        uint64_t until = USEC_INFINITY;

        if (i->for_dps.state == CREDENTIAL_LOADING)
                until = i->for_dps.until_usec;
        if (i->for_hub.state == CREDENTIAL_LOADING)
                until = MIN(until, i->for_hub.until_usec);
        if (i->naming)
                until = MIN(until, i->naming_until_usec);
        if (i->configuration.expansion)
                until = MIN(until, i->configuration.expand_usec);
        return until == USEC_INFINITY ? 0 : until;
}

static void gather_credentials(const Identity *i, Facts *f) {
        const CredentialCare *for_hub = identity_care_for_hub((Identity *) i);
        const Assignment *a = identity_assignment(i);

        f->for_dps = i->for_dps.state;
        f->for_dps_error = kept_error(i->for_dps.error)->id;
        f->for_dps_at_usec = i->for_dps.retry.at_usec;
        f->for_hub = for_hub->state;
        f->for_hub_at_usec = for_hub->retry.at_usec;
        /* Looking again does not help: DPS has to send the key. */
        if (for_hub->state == CREDENTIAL_LOADED && credential_lacks_hub_key(for_hub->credential)) {
                f->for_hub = CREDENTIAL_FAILED;
                f->for_hub_at_usec = USEC_INFINITY;
        }
        f->key_until_usec = key_until_usec(i);
        f->proof = a && a->method == i->for_dps.method && *i->proven && *i->for_dps.fingerprint &&
                                   !streq(i->proven, i->for_dps.fingerprint)
                           ? PROOF_WANTED
                           : PROOF_GIVEN;
        f->is_recorded = a && streq_ptr(a->issued ?: a->fingerprint, for_hub->fingerprint);
        f->for_hub_error =
                for_hub->state == CREDENTIAL_FAILED ? kept_error(for_hub->error)->id : DPS_ERROR_NONE;
}

/* 0: the answer is of a clock that was ahead. */
static uint64_t renewal_not_before_usec(const Identity *i) {
        const World *w = i->core->world;
        uint64_t answered = i->keeper.record->last_success_at_usec;

        return answered <= world_now_usec(w, CLOCK_REALTIME)
                       ? usec_add(world_boottime_of(w, answered), RENEWAL_INTERVAL_MIN_USEC)
                       : 0;
}

static void gather_assignment(const Identity *i, Facts *f) {
        const Assignment *a = identity_assignment(i);

        f->assignment = assignment_state(i);
        f->is_unread = keeper_waits_to_read(&i->keeper);
        f->read_error = i->keeper.cannot_read ? DPS_ERROR_DISK : DPS_ERROR_NONE;
        f->read_at_usec = i->keeper.reading.at_usec;
        f->read_until_usec = i->keeper.reading_until_usec;
        f->is_durable = a;
        f->is_announced = i->announcement.state != ANNOUNCEMENT_FIRST;
        f->has_announcement = i->announcement.state != ANNOUNCEMENT_NONE || i->announcement.jobs.first;
        f->saving = keeper_saving(&i->keeper);
        f->disk = i->keeper.disk;
        f->save_at_usec = i->keeper.saving.at_usec;
        f->folder = i->folder;
        f->outputs = i->outputs;
        f->publish_at_usec = i->publishing.at_usec;
        f->certificate_expires_realtime_usec = i->certificate_expires_at_usec;
        f->certificate_was_warned_of = i->certificate_was_warned_of;
        f->pair_is_unsaved = i->pair_text;
        f->pair_is_being_saved = i->pair_saving;
        f->certificate_not_before_usec = i->certificate_not_before_usec;
        f->pair_at_usec = i->pair_retry.at_usec;
        if (!a)
                return;

        f->has_token = assignment_shows_token(a);
        f->is_issued = a->issued;
        f->issued_expires_realtime_usec = a->issued_expires_at_usec;
        f->was_refused_certificate = a->issuance_fault;
        f->renewal_not_before_usec = renewal_not_before_usec(i);
        f->expires_realtime_usec = a->token_expires_at_usec;
        f->renew_realtime_usec = a->renew_at_usec;
        if (i->outputs == OUTPUTS_STALE || i->outputs == OUTPUTS_REFUSED)
                f->standing = publication_standing(&i->published, a, f->realtime_usec);
}

uint64_t identity_end_of_wait(const Identity *i, uint64_t realtime_usec, uint64_t otherwise) {
        uint64_t until = realtime_usec > 0 ? world_boottime_of(i->core->world, realtime_usec) : 0;

        return until > world_now_usec(i->core->world, CLOCK_BOOTTIME) + IDENTITY_WAIT_MAX_USEC ? otherwise
                                                                                               : until;
}

static void gather_client(const Identity *i, Facts *f) {
        uint64_t oldest = i->events_usec[i->n_events % EVENTS_PER_HOUR_MAX];

        f->client = client_state(i->client);
        f->client_error = kept_error(client_error(i->client))->id ?: i->keeper.record->error.id;
        f->client_next_usec = client_next_usec(i->client);
        f->bound_until_usec = identity_end_of_wait(
                i, MAX(i->keeper.record->next_attempt_at_usec, i->keeper.record->not_before_usec), 0);
        f->client_told_usec = client_told_usec(i->client);
        f->attempts = i->keeper.record->attempts;
        f->finals = i->keeper.record->finals;
        f->has_jobs = client_has_jobs(i->client);
        f->asked = i->asked;
        f->wanted_since_usec = i->wanted_since_usec;
        f->begin_not_before_usec = i->begin_not_before_usec;
        f->event_at_usec = oldest > 0 ? oldest + USEC_PER_HOUR : 0;
        for (const Waiter *w = i->waiters; w; w = w->next)
                f->n_waiters++;
}

void identity_gather(const Identity *i, Facts *ret) {
        *ret = (Facts){ .news = i->news };

        gather_clock(i, ret);
        gather_configuration(i, ret);
        gather_credentials(i, ret);
        gather_assignment(i, ret);
        gather_client(i, ret);
}

CredentialCare *identity_care_for_hub(Identity *i) {
        const Assignment *a = identity_assignment(i);

        if (!i->configuration.settings || (a && a->issued))
                return &i->for_hub;
        return a && i->for_dps.method != _METHOD_MAX && i->for_dps.method != a->method ? &i->for_hub
                                                                                       : &i->for_dps;
}

uint64_t identity_renew_before_usec(const Settings *s) {
        if (s->renew_before_percent > 0)
                return s->token_lifetime_usec / 100 * s->renew_before_percent;
        return s->renew_before_usec;
}
