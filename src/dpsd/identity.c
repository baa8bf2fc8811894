/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "config/specifier.h"
#include "dpsd/identity-facts.h"
#include "dpsd/identity-view.h"
#include "dpsd/kept-error.h"
#include "dpsd/log.h"

/*
 *      an event ──> identity_advance(): facts ──> plan ──> action ──┐
 *                                         ^─────────────────────────┘   until the plan says to wait
 *
 * An event is first recorded where it belongs (if a file changed, its credential becomes unknown), and then
 * identity_advance() is called. Its loop ends, because each action changes the facts that led to it; a limit
 * protects against our own mistakes.
 */

#define ACTIONS_MAX 100

uint64_t identity_now_usec(const Identity *i) {
        return world_now_usec(i->core->world, CLOCK_BOOTTIME);
}

uint64_t identity_realtime_usec(const Identity *i) {
        return world_now_usec(i->core->world, CLOCK_REALTIME);
}

/* ---- errors ---- */

void identity_end_jobs(Identity *i, Jobs jobs, bool ok, const char *error) {
        for (const Job *j = jobs.first; j; j = j->next)
                i->core->observer->job_ended(i, j->id, ok, error ?: "", i->core->observer_userdata);
        jobs_done(&jobs);
}

/* Records an error on this machine that must be corrected before DPS can be asked. */
void identity_fail_locally(Identity *i, const DpsError *error) {
        bool is_news =
                error->id != i->logged_error || !streq(error->message, i->keeper.record->error.message);

        keeper_set_error(&i->keeper, error);
        if (is_news)
                identity_log_error(i, error->id == DPS_ERROR_CONFIG ? LOG_ERR : LOG_WARNING, NULL, error,
                                   "%s; %s", error->message, dps_error_id_advice(error->id));
        i->logged_error = error->id;
        identity_end_jobs(i, client_take_jobs(i->client), false, error->message);
}

void identity_forget_hub_failure(Identity *i) {
        free(i->hub_failure);
        i->hub_failure = NULL;
        i->hub_failed_at_usec = 0;
}

void identity_clear_error(Identity *i) {
        keeper_clear_error(&i->keeper);
        i->logged_error = DPS_ERROR_NONE;
}

/* ---- the configuration ---- */

/* An operator has changed the configuration: failures that were counted against the old one do not delay the
 * new one. */
static void forget_failures(Identity *i, bool is_other_peer) {
        Record *m = i->keeper.record;

        client_cancel(i->client);
        i->method = m->assignment ? i->method : _METHOD_MAX;
        m->attempts = m->finals = 0;
        m->next_attempt_at_usec = 0;
        if (is_other_peer)
                m->not_before_usec = 0;
        identity_clear_error(i);
        keeper_note(&i->keeper, false);
}

static void take_settings(Identity *i, Resolution resolution) {
        if (resolution == RESOLUTION_SAME)
                return;

        if (specifier_present(i->configuration.written->registration_id) &&
            settings_derive_from_capitals(i->configuration.settings))
                identity_log(i, LOG_WARNING, "the registration id \"%s\" " SETTINGS_CAPITALS_WARNING,
                             i->configuration.settings->registration_id);
        if (resolution != RESOLUTION_FIRST || identity_waits_for_another(i))
                forget_failures(i, resolution == RESOLUTION_OTHER_PEER || identity_waits_for_another(i));
        identity_forget_refusal(i);
        care_done(&i->for_dps);
        care_done(&i->for_hub);
        identity_watch_files(i);
        if (identity_assignment(i) && identity_assignment(i)->renew_at_usec == 0)
                identity_count_renewal_anew(i);
        i->folder = FOLDER_UNPREPARED;
        identity_outputs_are_stale(i); /* group, key sharing and so on may have changed */
        i->core->observer->device_changed(i, i->core->observer_userdata);
}

static void on_named(Credential *credential, const DpsError *error, void *userdata) {
        Identity *i = userdata;

        i->naming = NULL;
        configuration_take_tpm_id(&i->configuration,
                                  credential ? credential_tpm_keys(credential)->registration_id : NULL,
                                  error);
        if (error && !i->configuration.settings)
                identity_fail_locally(i, error);
        credential_unref(credential);
        identity_advance(i);
}

void identity_stop_naming(Identity *i, const DpsError *error) {
        credential_query_free(i->naming);
        on_named(NULL, error, i);
}

/* Asks the TPM first, if it gives the registration id. Returns true if that has to be waited for. */
static bool waits_for_tpm(Identity *i) {
        Configuration *c = &i->configuration;

        if (!configuration_needs_tpm(c))
                return false;
        retry_failed(&c->resolving, identity_now_usec(i));
        if (!i->naming) {
                i->naming_until_usec = identity_now_usec(i) + KEY_DEADLINE_USEC;
                (void) credential_load(i->core->world,
                                       &(CredentialWish){ .settings = c->written,
                                                          .registration_id = "",
                                                          .kept = METHOD_TPM,
                                                          .exact = true },
                                       on_named, i, &i->naming);
        }
        return true;
}

/* NULL: what the specifiers name does not answer. */
static void on_expanded(Expansion *e, void *userdata) {
        Identity *i = userdata;
        Configuration *c = &i->configuration;
        bool had_failed = c->resolving.n > 0 && !c->settings, is_news;
        Resolution resolution;
        DpsError error;

        if (configuration_take_expanded(c, i->core->world, e, &resolution, &error, &is_news) >= 0) {
                if (had_failed)
                        identity_clear_error(i);
                take_settings(i, resolution);
        } else if (!c->settings)
                identity_fail_locally(i, &error);
        else if (is_news)
                identity_log(i, LOG_ERR, "%s; the last good configuration stays in force", error.message);
        identity_advance(i);
}

void identity_stop_expanding(Identity *i) {
        on_expanded(NULL, i);
}

static void resolve(Identity *i) {
        if (!waits_for_tpm(i))
                configuration_expand(&i->configuration, i->core->world, on_expanded, i);
}

void identity_configure(Identity *i, Settings *settings, const char *fault) {
        bool is_news;

        if (i->naming && !fault && !settings_equal(i->configuration.written, settings))
                i->naming = credential_query_free(i->naming); /* it may be another TPM now */
        is_news = configuration_take(&i->configuration, settings, fault, identity_realtime_usec(i));
        if (fault)
                care_forget(&i->for_hub); /* its keys may be found now */
        if (is_news)
                identity_log(i, LOG_ERR, "its configuration cannot be used; %s",
                             i->configuration.settings || identity_assignment(i)
                                     ? "the last good one stays in force"
                             : i->keeper.is_unread ? "what it was assigned before, if anything, stays in use"
                                                   : "not provisioned until it can be used");
}

void identity_set_twin(Identity *i, const char *twin) {
        if (!configuration_set_twin(&i->configuration, twin, identity_realtime_usec(i)))
                return;

        if (twin)
                identity_fail_locally(i, kept_error(i->configuration.fault));
        else
                identity_clear_error(i);
        identity_advance(i);
}

void identity_look_again(Identity *i) {
        if (!i->keeper.loading)
                retry_done(&i->keeper.reading);
        retry_now(&i->configuration.resolving);
        retry_now(&i->for_dps.retry);
        retry_now(&i->for_hub.retry);
        i->folder = FOLDER_UNPREPARED; /* groups may have changed */
        if (identity_lacks_files(i))   /* somebody has removed them */
                identity_outputs_are_stale(i);
        identity_advance(i);
}

void identity_on_other_runtime(Identity *i) {
        i->is_in_other_runtime = true;
}

void identity_on_other_state(Identity *i) {
        i->is_in_other_state = true;
}

static void write_record_again(Identity *i) {
        /* If we have an assignment, it is written there. If not, the directory may hold one: it may be on a
         * partition that was mounted late. */
        if (keeper_newest(&i->keeper))
                keeper_save(&i->keeper);
        else
                keeper_read_again(&i->keeper);
}

bool identity_write_again(Identity *i) {
        if (!i->is_in_other_state && !i->is_in_other_runtime)
                return false;
        if (i->is_in_other_state)
                write_record_again(i);
        if (i->is_in_other_runtime) {
                i->folder = FOLDER_UNPREPARED;
                identity_outputs_are_stale(i);
        }
        i->is_in_other_state = i->is_in_other_runtime = false;
        identity_advance(i);
        return true;
}

static void on_outputs_touched(void *userdata) {
        Identity *i = userdata;

        if (!identity_lacks_files(i))
                return;
        identity_log(i, LOG_NOTICE, "somebody has removed its files for programs: they are written again");
        identity_on_other_runtime(i);
        (void) identity_write_again(i);
}

void identity_watch_outputs(Identity *i) {
        const CoreOperations *o = i->core->operations;
        _cleanup_(freep) char *path = NULL;

        if (i->outputs_watch)
                return;
        path = text_format("%s/%s/.", i->core->runtime->path, i->name);
        if (path)
                (void) o->watch_files((char *[]){ path, NULL }, on_outputs_touched, i,
                                      i->core->operations_userdata, &i->outputs_watch);
}

/* Ends the jobs whose registration was answered, and that wait for the assignment to be saved and
 * published. */
static void end_saved_jobs(Identity *i, const char *why) {
        identity_end_jobs(i, jobs_take(&i->keeper.jobs), false, why);
        identity_end_jobs(i, jobs_take(&i->announcement.jobs), false, why);
}

static void drop_assignment(Identity *i) {
        const Assignment *a = keeper_newest(&i->keeper);

        identity_log(
                i, LOG_NOTICE,
                "the registration id is %s now, and was %s: the assignment to %s belongs to another device "
                "and is dropped",
                i->configuration.settings->registration_id, a->registration_id, a->hub);
        end_saved_jobs(i, "the registration id has changed");
        announcement_done(&i->announcement);
        keeper_drop(&i->keeper);
        identity_forget_pair(i);
        i->has_old_pairs = true; /* the record on disk names one until the disk takes the new record */
        identity_judge_assignment(i, false);
        (void) outputs_clear(i->core->runtime, i->name);
        identity_outputs_are_stale(i);
        i->proven[0] = 0;
        i->method = _METHOD_MAX;
        i->certificate_expires_at_usec = 0;
        i->hub = (DpsHubHealth){ 0 };
        identity_forget_hub_failure(i);
        care_done(&i->for_dps);
}

/* ---- the record ---- */

static uint64_t assigned_since(const Identity *i) {
        const Assignment *a = identity_assignment(i);
        uint64_t now = identity_realtime_usec(i);

        return a && a->assigned_at_usec > 0 ? MIN(now, a->assigned_at_usec) : now;
}

/* The record may hold times of a clock that was ahead. */
static void correct_times(Identity *i) {
        Clock *clock = i->core->clock;
        bool has_changed = keeper_on_clock(&i->keeper, clock);

        (void) clock_correct(clock, &i->hub_last_seen_at_usec);
        (void) clock_correct(clock, &i->hub_failed_at_usec);
        (void) clock_correct(clock, &i->attempt_since_usec);
        (void) clock_correct(clock, &i->configuration.fault_at_usec);
        (void) clock_correct(clock, &i->state_since_usec);
        if (i->state == IDENTITY_ASSIGNED)
                i->state_since_usec = assigned_since(i);
        if (i->certificate_expires_at_usec > identity_realtime_usec(i) + CERTIFICATE_WARNING_USEC)
                i->certificate_was_warned_of = false;
        if (i->served)
                (void) clock_correct(clock, &i->served->assigned_at_usec);
        if (has_changed)
                identity_count_renewal_anew(i);
        if (client_state(i->client) != CLIENT_IDLE)
                identity_remember_wait(i);
        if (has_changed || i->keeper.record->next_attempt_at_usec > 0 ||
            i->keeper.record->not_before_usec > 0)
                keeper_note(&i->keeper, has_changed);
}

static void tell_unread(Identity *i, bool is_news, int r) {
        char file[STORE_FILE_SIZE];

        (void) snprintf(file, sizeof(file), "%s.json", i->name);
        identity_fail_by_disk(i, store_state(i->core->store), file, "its record cannot be read", r, is_news,
                              "trying again, and after ten minutes asking DPS without it");
}

static void take_record(Identity *i, int r, bool is_news) {
        if (r < 0)
                tell_unread(i, is_news, r);
        else if (is_news && identity_assignment(i))
                identity_log(i, LOG_NOTICE, "its record can be read again");
        if (identity_assignment(i)) {
                i->method = identity_assignment(i)->method;
                (void) snprintf(i->proven, sizeof(i->proven), "%s",
                                identity_assignment(i)->fingerprint ?: "");
                identity_judge_assignment(i, false);
        }
        correct_times(i);
        identity_recall_pause(i);
}

void identity_load(Identity *i) {
        int r = keeper_load(&i->keeper);

        take_record(i, r, r < 0);
}

/* Which of several identities is the device depends on what they remember. */
void identity_on_loaded(int r, bool is_news, void *userdata) {
        Identity *i = userdata;

        take_record(i, r, is_news);
        i->core->observer->device_changed(i, i->core->observer_userdata);
        identity_advance(i);
}

/* ---- the plan ---- */

static void perform(Identity *i, const Facts *f, const Plan *p) {
        switch (p->action) {
        case ACTION_WAIT:
        case _ACTION_MAX:
                break;
        case ACTION_READ_RECORD:
                return keeper_load_later(&i->keeper);
        case ACTION_RESOLVE:
                return resolve(i);
        case ACTION_DROP_ASSIGNMENT:
                return drop_assignment(i);
        case ACTION_PREPARE_FOLDER:
                return identity_prepare_folder(i);
        case ACTION_LOOK_AT_FILES:
                return identity_look_at_files(i);
        case ACTION_LOAD_FOR_DPS:
                return identity_load_for_dps(i);
        case ACTION_LOAD_FOR_HUB:
                return identity_load_for_hub(i);
        case ACTION_STOP_WAITING:
                return identity_stop_waiting(i);
        case ACTION_MINT:
                return identity_mint(i);
        case ACTION_PUBLISH:
                return identity_publish(i, f);
        case ACTION_PUBLISH_BARE:
                return identity_publish_bare(i);
        case ACTION_KEEP_FILES:
                return identity_keep_files(i, OUTPUTS_COMPLETE);
        case ACTION_KEEP_FILES_FOR_NOW:
                return identity_keep_files(i, OUTPUTS_BARE);
        case ACTION_ANNOUNCE:
                return identity_announce(i);
        case ACTION_SAVE:
                return keeper_save(&i->keeper);
        case ACTION_SAVE_PAIR:
                return identity_save_pair(i);
        case ACTION_DROP_ISSUED:
                return identity_drop_issued(i);
        case ACTION_WARN_OF_EXPIRY:
                return identity_warn_of_expiry(i);
        case ACTION_GIVE_UP:
                return identity_give_up(i);
        case ACTION_BEGIN:
                return identity_begin(i, p->reason);
        case ACTION_ATTEMPT:
                /* If the attempt fails at once, earlier events must not hasten the next one. */
                i->news = 0;
                return client_attempt(i->client, i->for_dps.credential);
        case ACTION_HASTEN:
                identity_take_event(i);
                i->news = 0;
                return client_hasten(i->client, HASTEN_SPREAD_USEC);
        case ACTION_HASTEN_NOW:
                i->news = 0;
                return client_hasten(i->client, 0);
        case ACTION_WIPE_CREDENTIALS:
                return identity_wipe_credentials(i);
        }
}

/* Notes since when there is a reason to ask DPS. Each machine then adds its own random delay. */
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

static void show_attempt(Identity *i) {
        bool is_asking = !isempty(client_step(i->client));

        if (is_asking != (i->attempt_since_usec > 0))
                i->attempt_since_usec = is_asking ? identity_realtime_usec(i) : 0;
}

/* A new assignment and a failed attempt add their own line to the history before. A restart is not worth a line, and
 * neither is the first look at the credential, or the next attempt after one that failed. */
static bool is_worth_a_line(const Identity *i, IdentityState state) {
        Record *m = i->keeper.record;
        bool is_first_look = state == IDENTITY_UNPROVISIONED && i->for_dps.method == _METHOD_MAX &&
                             i->for_dps.state != CREDENTIAL_FAILED;

        return state != IDENTITY_ASSIGNED && !(state == IDENTITY_PROVISIONING && record_last_failure(m)) &&
               !is_first_look && !last_transition_is(m, identity_state_to_string(state));
}

static const char *reason_of_failure(const Identity *i) {
        uint64_t at_usec;

        return identity_error(i, &at_usec)->message;
}

static void show_state(Identity *i) {
        IdentityState state = i->plan.state;

        if (state == i->state && i->state_since_usec > 0)
                return;
        i->state = state;
        i->state_since_usec = state == IDENTITY_ASSIGNED ? assigned_since(i) : identity_realtime_usec(i);
        if (is_worth_a_line(i, state))
                (void) record_add_transition(i->keeper.record, i->state_since_usec,
                                             identity_state_to_string(state),
                                             state == IDENTITY_FAILED ? reason_of_failure(i) : NULL);
        identity_log(i, LOG_DEBUG, "is %s", identity_state_to_string(state));
}

/* Timer slack saves wake-ups. It only ever delays, and a poll must come when DPS said. */
static void arm(Identity *i) {
        unsigned divisor = client_state(i->client) == CLIENT_PARKED ? 50 : 20;
        uint64_t due = i->plan.wake_usec;

        timer_set(i->wakeup, due,
                  MIN(MAX(usec_sub(due, identity_now_usec(i)) / divisor, USEC_PER_MSEC), USEC_PER_MINUTE));
}

/* Returns true if an action was carried out; another one may follow. */
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

        if (i->advance == ADVANCE_NEVER)
                return;
        if (i->advance != ADVANCE_NOT) {
                i->advance = ADVANCE_AGAIN;
                return;
        }

        do {
                i->advance = ADVANCE_NOW;
                if (identity_tell_credential(i) || advance_once(i) || identity_tell_look(i))
                        i->advance = ADVANCE_AGAIN;
        } while (i->advance == ADVANCE_AGAIN && n++ < ACTIONS_MAX);
        i->advance = ADVANCE_NOT;
        if (n > ACTIONS_MAX) {
                identity_log(i, LOG_CRIT,
                             "plans %s again and again: this is a bug in dpsd; continuing in a minute",
                             action_to_string(i->plan.action));
                i->plan.wake_usec = identity_now_usec(i) + USEC_PER_MINUTE;
        }

        show_state(i);
        show_attempt(i);
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
        correct_times(i);
        i->news |= NEWS_CLOCK;
        identity_advance(i);
}

void identity_on_group(Identity *i, const char *group) {
        if (i->folder != FOLDER_ASKS_GROUP || !streq(identity_group(i), group))
                return;
        i->folder = FOLDER_UNPREPARED;
        identity_advance(i);
}

/* ---- begin and end ---- */

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
        r = keeper_init(&i->keeper, core->world, core->store, i->name, &identity_keeper_handlers, i);
        if (r < 0)
                return r;
        r = client_new(core->world, core->window, core->transports, &identity_client_handlers, i, &i->client);
        if (r < 0)
                return r;
        r = timer_new(core->world, on_wakeup, i, &i->wakeup);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(i);
        return 0;
}

Identity *identity_free(Identity *i) {
        if (!i)
                return NULL;

        i->advance = ADVANCE_NEVER;
        identity_tell_end(i);
        client_free(i->client);
        keeper_done(&i->keeper);
        care_done(&i->for_dps);
        care_done(&i->for_hub);
        credential_query_free(i->signing);
        credential_query_free(i->naming);
        if (i->files)
                i->core->operations->unwatch_files(i->files);
        if (i->outputs_watch)
                i->core->operations->unwatch_files(i->outputs_watch);
        assignment_free(i->served);
        identity_forget_pair(i);
        kept_error_clear(&i->issuance_error);
        jobs_done(&i->announcement.jobs);
        announcement_done(&i->announcement);
        timer_free(i->wakeup);
        configuration_done(&i->configuration);
        free(i->hub_failure);
        free(i->name);
        free(i);
        return NULL;
}

void identity_retire(Identity *i) {
        i->advance = ADVANCE_NEVER;
        identity_end_jobs(i, client_take_jobs(i->client), false, "its configuration was removed");
        end_saved_jobs(i, "its configuration was removed");
        identity_remember_wait(i);
        client_cancel(i->client);
        keeper_save(&i->keeper);
        (void) outputs_remove(i->core->runtime, i->name);
        identity_log(
                i, LOG_NOTICE,
                "its configuration was removed: its files for programs are removed too, its record is kept");
}

void identity_stop(Identity *i) {
        const Record *m = i->keeper.record;
        bool is_bound;

        i->advance = ADVANCE_NEVER;
        identity_remember_wait(i);
        /* The polls of a success are saved together with it. */
        is_bound = m->attempts > 0 || m->not_before_usec > identity_realtime_usec(i) ||
                   (client_state(i->client) != CLIENT_IDLE && m->polls > 0);
        client_cancel(i->client);
        if (is_bound || i->keeper.disk == DISK_REFUSES)
                keeper_save(&i->keeper);
}
