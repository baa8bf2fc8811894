/* SPDX-License-Identifier: MIT */
#include "dpsd/identity.h"

#include <errno.h>
#include <stdio.h>

#include "basic/text.h"
#include "basic/times.h"
#include "dps/backoff.h"
#include "dpsd/identity-internal.h"
#include "dpsd/log.h"
#include "dpsd/manager.h"

/*
 * State and Waiting are never set: they follow from what an identity has, from its registration, and from its
 * trouble at home, and identity_update() tells when they have changed.
 */

#define AGAIN_FIRST_USEC (10 * USEC_PER_SEC)
#define AGAIN_MAX_USEC (10 * USEC_PER_MINUTE)

static const char *const state_names[_IDENTITY_STATE_MAX] = {
        [IDENTITY_UNPROVISIONED] = "unprovisioned",
        [IDENTITY_PROVISIONING] = "provisioning",
        [IDENTITY_ASSIGNED] = "assigned",
        [IDENTITY_FAILED] = "failed",
};

static const char *const waiting_names[_IDENTITY_WAITING_MAX] = {
        [WAITING_NOTHING] = "",        [WAITING_RETRY] = "retry", [WAITING_THROTTLED] = "throttled",
        [WAITING_NETWORK] = "network", [WAITING_CLOCK] = "clock", [WAITING_KEY] = "key",
        [WAITING_CONFIG] = "config",
};

const char *identity_state_to_string(IdentityState s) {
        return state_names[s];
}

const char *identity_waiting_to_string(IdentityWaiting w) {
        return waiting_names[w];
}

uint64_t identity_boottime_of(uint64_t realtime_usec) {
        uint64_t realtime = now_usec(CLOCK_REALTIME), boottime = now_usec(CLOCK_BOOTTIME);

        if (realtime_usec == USEC_INFINITY || realtime_usec > realtime)
                return usec_add(boottime, usec_sub(realtime_usec, realtime));
        return usec_sub(boottime, realtime - realtime_usec);
}

uint64_t identity_realtime_of(uint64_t boottime_usec) {
        uint64_t realtime = now_usec(CLOCK_REALTIME), boottime = now_usec(CLOCK_BOOTTIME);

        if (boottime_usec > boottime)
                return usec_add(realtime, boottime_usec - boottime);
        return usec_sub(realtime, boottime - boottime_usec);
}

/* ---- what it shows ---- */

/* What a registration waits for between two attempts, perhaps of an earlier run. */
static IdentityWaiting waiting_between_attempts(const Identity *i) {
        switch (dps_registration_error(i->registration)->id ?: i->memory->error.id) {
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
        case DPS_ERROR_NONE: /* told with an answer that was no failure, or to a neighbour */
                return dps_registration_told_usec(i->registration) > now_usec(CLOCK_BOOTTIME)
                               ? WAITING_THROTTLED
                               : WAITING_RETRY;
        case DPS_ERROR_REFUSED:
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
        case DPS_ERROR_DISK:
        case DPS_ERROR_MEMORY:
        case _DPS_ERROR_MAX:
                return WAITING_RETRY;
        }
        abort();
}

static bool is_in_flight(const Identity *i) {
        return i->registration && dps_registration_in_flight(i->registration);
}

static bool is_between_attempts(const Identity *i) {
        return i->registration && i->is_begun && !i->wants_slot && !is_in_flight(i) &&
               dps_registration_state(i->registration) != DPS_REGISTRATION_PARKED;
}

static IdentityWaiting waiting_from_error(DpsErrorId id) {
        return id == DPS_ERROR_KEY           ? WAITING_KEY
               : id == DPS_ERROR_MEMORY      ? WAITING_RETRY
               : id == DPS_ERROR_UNREACHABLE ? WAITING_NETWORK
                                             : WAITING_CONFIG;
}

static IdentityWaiting waiting_of(const Identity *i) {
        if (i->trouble != WAITING_NOTHING)
                return i->trouble;
        if (i->waits_for_clock || identity_awaits_token(i))
                return WAITING_CLOCK;
        if (is_between_attempts(i))
                return waiting_between_attempts(i);
        if (i->config_is_faulty && !is_in_flight(i))
                return waiting_from_error(identity_config_error(i)->id);
        return WAITING_NOTHING;
}

static IdentityState state_of(const Identity *i, IdentityWaiting waiting) {
        if (i->memory->assignment)
                return IDENTITY_ASSIGNED;
        if (waiting == WAITING_CONFIG)
                return IDENTITY_FAILED;
        if (waiting == WAITING_KEY)
                return IDENTITY_UNPROVISIONED;
        if (is_between_attempts(i) && dps_registration_history(i->registration).finals > 0)
                return IDENTITY_FAILED;
        if (i->pending || i->memory->attempts > 0 || (i->registration && i->is_begun))
                return IDENTITY_PROVISIONING;
        return IDENTITY_UNPROVISIONED;
}

const DpsError *identity_config_error(const Identity *i) {
        static const DpsError none = { .id = DPS_ERROR_NONE };
        static const DpsError untold = { .id = DPS_ERROR_CONFIG,
                                         .step = DPS_STEP_CONFIG,
                                         .message = "no memory to say why" };

        if (!i->config_is_faulty)
                return &none;
        return i->config_error ?: &untold;
}

/* Why it is in this state, for the history. */
static const char *detail_of(const Identity *i, IdentityState state) {
        if (state != IDENTITY_FAILED)
                return NULL;
        return i->memory->error.id != DPS_ERROR_NONE ? i->memory->error.message
                                                     : identity_config_error(i)->message;
}

static bool last_transition_is(const State *s, const char *state) {
        return s->n_transitions > 0 && streq(s->transitions[s->n_transitions - 1].state, state);
}

static void enter_state(Identity *i, IdentityState state) {
        uint64_t now = now_usec(CLOCK_REALTIME);

        i->state = state;
        i->state_since_usec = now;
        /* An assignment writes its own line, before it is saved; a restart is no news. */
        if (state == IDENTITY_ASSIGNED)
                i->state_since_usec = MIN(now, i->memory->assignment->assigned_at_usec ?: now);
        else if (!last_transition_is(i->memory, identity_state_to_string(state)))
                (void) state_add_transition(i->memory, now, identity_state_to_string(state),
                                            detail_of(i, state));
        identity_log(i, LOG_DEBUG, "is %s", identity_state_to_string(state));
}

/* Slack saves wake-ups, and only ever delays; what a protocol waits for is short and gets little of it. */
static void arm(Identity *i) {
        uint64_t now = now_usec(CLOCK_BOOTTIME), due = identity_next_tending_usec(i);

        if (i->registration && !i->wants_slot) /* a turn comes by itself */
                due = MIN(due, i->wake_usec);
        if (i->begin_at_usec > 0)
                due = MIN(due, i->begin_at_usec);
        if (i->again_at_usec > 0)
                due = MIN(due, i->again_at_usec);
        if (due == USEC_INFINITY) {
                (void) sd_event_source_set_enabled(i->wakeup, SD_EVENT_OFF);
                return;
        }

        (void) sd_event_source_set_time(i->wakeup, due);
        (void) sd_event_source_set_time_accuracy(
                i->wakeup, MIN(MAX(usec_sub(due, now) / 20, USEC_PER_MSEC), USEC_PER_MINUTE));
        (void) sd_event_source_set_enabled(i->wakeup, SD_EVENT_ONESHOT);
}

void identity_update(Identity *i) {
        IdentityWaiting waiting = waiting_of(i);
        IdentityState state = state_of(i, waiting);

        i->waiting = waiting;
        if (state != i->state || i->state_since_usec == 0)
                enter_state(i, state);
        arm(i);
        manager_identity_changed(i->manager, i);
}

bool identity_is_healthy(const Identity *i) {
        return i->state == IDENTITY_ASSIGNED && i->memory->error.id == DPS_ERROR_NONE &&
               i->memory->attempts == 0 && !i->config_is_faulty;
}

uint64_t identity_next_attempt_at_usec(const Identity *i) {
        const Assignment *a = i->memory->assignment;
        const Settings *s = identity_settings(i);
        uint64_t next = USEC_INFINITY;

        if (i->wants_slot || is_in_flight(i))
                return 0;

        /* DPS is not asked before the trouble is over; looked for is its end. */
        if (i->trouble != WAITING_NOTHING)
                return i->again_at_usec > 0 ? identity_realtime_of(i->again_at_usec) : 0;

        if (i->registration)
                next = i->waits_for_clock || !i->is_begun ? i->wake_usec
                                                          : dps_registration_next_usec(i->registration);
        if (i->begin_at_usec > 0)
                next = MIN(next, i->begin_at_usec);
        if (next == USEC_INFINITY && a && a->renew_at_usec > 0 && s && s->renew == RENEW_PROVISION)
                return a->renew_at_usec;
        return next == USEC_INFINITY ? 0 : identity_realtime_of(next);
}

void identity_describe_next(const Identity *i, bool lasting, char *buffer, size_t size) {
        uint64_t next = identity_next_attempt_at_usec(i), now = now_usec(CLOCK_REALTIME);
        char duration[DURATION_TEXT_MAX], timestamp[TIMESTAMP_TEXT_MAX];

        if (is_in_flight(i))
                snprintf(buffer, size, "asking DPS now");
        else if (i->wants_slot)
                snprintf(buffer, size, "waiting for its turn");
        else if (i->pending)
                snprintf(buffer, size, "saving what DPS has assigned");
        else if (next == 0)
                snprintf(buffer, size, "nothing is planned");
        else if (next <= now + USEC_PER_SEC)
                snprintf(buffer, size, "next try now");
        else if (lasting)
                snprintf(buffer, size, "next try at %s", format_timestamp(next, timestamp));
        else
                snprintf(buffer, size, "next try in %s", format_duration(next - now, duration));
}

void identity_describe(const Identity *i, bool lasting, char *buffer, size_t size) {
        static const char *const why[_IDENTITY_WAITING_MAX] = {
                [WAITING_THROTTLED] = "throttled",
                [WAITING_NETWORK] = "waiting for the network",
                [WAITING_CLOCK] = "waiting for the right time of day",
                [WAITING_KEY] = "waiting for its key",
        };
        char next[DURATION_TEXT_MAX + 32];

        if (i->waiting == WAITING_CONFIG) {
                snprintf(buffer, size, "its configuration cannot be used: %s",
                         i->config_is_faulty ? identity_config_error(i)->message : i->memory->error.message);
                return;
        }

        identity_describe_next(i, lasting, next, sizeof(next));
        if (why[i->waiting])
                snprintf(buffer, size, "%s, %s", why[i->waiting], next);
        else if (i->memory->error.id != DPS_ERROR_NONE)
                snprintf(buffer, size, "%s (%s), %s", i->memory->error.message,
                         dps_error_id_to_string(i->memory->error.id), next);
        else
                snprintf(buffer, size, "%s", next);
}

bool identity_waits_for_network(const Identity *i) {
        return i->waiting == WAITING_NETWORK || i->is_to_resolve ||
               (is_between_attempts(i) && i->state != IDENTITY_FAILED && i->waiting != WAITING_THROTTLED);
}

bool identity_waits_for_clock(const Identity *i) {
        return i->waiting == WAITING_CLOCK;
}

bool identity_is_settled(const Identity *i) {
        return i->state == IDENTITY_FAILED ||
               (i->state == IDENTITY_ASSIGNED && !i->pending && i->is_published &&
                !identity_awaits_token(i) && i->trouble != WAITING_RETRY);
}

/* ---- what it says ---- */

static void log_with(const Identity *i, int level, const LogFields *extra, const char *format, va_list ap) {
        LogFields fields = *extra;

        fields.identity = i->name;
        fields.hub = i->memory->assignment ? i->memory->assignment->hub : NULL;
        log_messagev(level, &fields, format, ap);
}

void identity_log(const Identity *i, int level, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        log_with(i, level, &(LogFields){ 0 }, format, ap);
        va_end(ap);
}

void identity_log_error(const Identity *i, int level, const char *message_id, const DpsError *error,
                        const char *format, ...) {
        LogFields fields = {
                .error_id = dps_error_id_to_string(error->id),
                .error_code = error->code,
                .tracking_id = error->tracking_id,
                .message_id = message_id,
        };
        va_list ap;

        va_start(ap, format);
        log_with(i, level, &fields, format, ap);
        va_end(ap);
}

/* ---- trouble at home ---- */

void identity_again(Identity *i) {
        uint64_t wait = AGAIN_FIRST_USEC << MIN(i->n_again, 6U);

        i->again_at_usec = now_usec(CLOCK_BOOTTIME) + MIN(wait, AGAIN_MAX_USEC);
        i->n_again++;
}

void identity_not_again(Identity *i) {
        if (i->memory->is_refused)
                return;

        i->again_at_usec = 0;
        i->n_again = 0;
}

void identity_set_error(Identity *i, const DpsError *error) {
        uint64_t now = now_usec(CLOCK_REALTIME);

        i->memory->error = *error;
        i->memory->error_at_usec = now;
        i->memory->failing_since_usec = i->memory->failing_since_usec ?: now;
        i->has_failed_since = true;
}

void identity_set_trouble(Identity *i, const DpsError *error) {
        bool is_news = error->id != i->logged_error || !streq(error->message, i->memory->error.message);

        i->trouble = waiting_from_error(error->id);
        identity_set_error(i, error);
        identity_again(i);
        if (is_news)
                identity_log_error(i, i->trouble == WAITING_CONFIG ? LOG_ERR : LOG_WARNING, NULL, error,
                                   "%s; %s", error->message, dps_error_id_advice(error->id));
        i->logged_error = error->id;
        identity_finish_jobs(i, false, error->message);
}

void identity_clear_error(Identity *i) {
        i->memory->error = (DpsError){ 0 };
        i->logged_error = DPS_ERROR_NONE;
        i->memory->error_at_usec = i->memory->failing_since_usec = 0;
}

void identity_clear_trouble(Identity *i) {
        if (i->trouble == WAITING_NOTHING)
                return;

        i->trouble = WAITING_NOTHING;
        identity_not_again(i);
        identity_clear_error(i);
}

/* ---- the loop ---- */

static void look_again(Identity *i) {
        i->again_at_usec = 0;
        if (i->memory->is_refused)
                identity_save(i);
        if (i->trouble != WAITING_NOTHING || i->is_to_resolve)
                identity_reconsider(i);
        else if (!i->is_published)
                identity_serve(i);
}

static int identity_on_wakeup(sd_event_source *s, uint64_t due_usec, void *userdata) {
        Identity *i = userdata;
        uint64_t now = now_usec(CLOCK_BOOTTIME);

        if (i->again_at_usec > 0 && now >= i->again_at_usec)
                look_again(i);
        identity_tend_token(i);
        identity_on_due(i, now);
        identity_update(i);
        return 0;
}

void identity_on_network(Identity *i) {
        if (i->trouble == WAITING_NETWORK || i->is_to_resolve)
                identity_reconsider(i);
        else if (identity_waits_for_network(i))
                identity_hasten(i);
        identity_update(i);
}

/* On the clock of today: who asks whether that was since boot reckons with it. */
static void move_success(Identity *i) {
        uint64_t *then = &i->memory->last_success_at_usec, now = identity_realtime_of(i->answered_usec);

        if (i->answered_usec > 0 && !i->pending && MAX(now, *then) - MIN(now, *then) > USEC_PER_SEC)
                *then = now;
}

void identity_on_clock(Identity *i) {
        move_success(i);
        identity_tend_token(i);
        if (!i->waits_for_clock)
                identity_hasten(i);
        identity_on_due(i, now_usec(CLOCK_BOOTTIME));
        identity_update(i);
}

/* ---- beginning and end ---- */

int identity_new(Manager *m, const char *name, Identity **ret) {
        _cleanup_(identity_freep) Identity *i = NULL;
        int r;

        i = calloc(1, sizeof(*i));
        if (!i)
                return -ENOMEM;

        i->manager = m;
        i->method = _METHOD_MAX;
        i->name = strdup(name);
        i->memory = state_new();
        if (!i->name || !i->memory)
                return -ENOMEM;
        r = sd_event_add_time(m->event, &i->wakeup, CLOCK_BOOTTIME, USEC_INFINITY, 0, identity_on_wakeup, i);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(i);
        return 0;
}

Identity *identity_free(Identity *i) {
        if (!i)
                return NULL;

        store_cancel(i->manager->store, i);
        identity_cancel(i);
        sd_event_source_disable_unref(i->wakeup);
        file_watch_free(i->files);
        assignment_free(i->pending);
        state_free(i->memory);
        if (i->settings != i->written)
                settings_unref(i->settings);
        settings_unref(i->written);
        settings_unref(i->faulty);
        free(i->config_error);
        free(i->jobs);
        free(i->name);
        free(i);
        return NULL;
}

static void remember(Identity *i, State *memory) {
        state_free(i->memory);
        i->memory = memory;
        i->method = memory->assignment ? memory->assignment->method : _METHOD_MAX;
}

/* 1: there was something. Fails only where that cannot be told: it is not to be written over then. */
static int load(Identity *i) {
        _cleanup_(freep) char *why = NULL;
        State *memory = NULL;
        int r;

        r = store_load(i->manager->store, i->name, &memory, &why);
        if (r == -ENOENT)
                return 0;
        if (store_is_our_trouble(r))
                return r;
        if (r < 0) {
                identity_log(i, LOG_ERR,
                             "what was remembered cannot be used (%s): it is kept as %s.json.corrupt, and "
                             "DPS is asked anew",
                             why ?: strerror(-r), i->name);
                return 0;
        }

        remember(i, memory);
        return 1;
}

/* A run that was killed has not written all that binds us. What DPS has told does so also where the file is gone; who
 * removes it has the rest forgotten. */
static int recall(Identity *i, bool is_known) {
        _cleanup_(state_freep) State *note = NULL;
        State *m = i->memory;
        int r;

        r = store_recall(i->manager->store, i->name, &note);
        if (r < 0)
                return store_is_our_trouble(r) ? r : 0;
        if (note->assignment) { /* the disk has refused it */
                note->is_refused = true;
                i->again_at_usec = now_usec(CLOCK_BOOTTIME);
        } else if (is_known) {
                note->assignment = TAKE_PTR(m->assignment);
                note->transitions = TAKE_PTR(m->transitions);
                note->n_transitions = m->n_transitions;
                m->n_transitions = 0;
        } else {
                m->not_before_usec = note->not_before_usec;
                m->last_poll_at_usec = note->last_poll_at_usec;
                m->polls = note->polls;
                return 0;
        }
        remember(i, TAKE_PTR(note));
        return 0;
}

int identity_load(Identity *i) {
        int r;

        r = load(i);
        if (r >= 0)
                r = recall(i, r > 0);
        if (r < 0)
                return r;
        if (i->memory->attempts == 0)
                identity_clear_error(i); /* it was local trouble, and is looked at anew */
        i->last_poll_usec = MIN(identity_boottime_of(i->memory->last_poll_at_usec), now_usec(CLOCK_BOOTTIME));
        return 0;
}

void identity_retire(Identity *i) {
        identity_finish_jobs(i, false, "its configuration was removed");
        identity_cancel(i);
        identity_save(i);
        (void) outputs_remove(i->manager->outputs, i->name);
        identity_log(i, LOG_NOTICE,
                     "its configuration is gone: not served any more, what is remembered is kept");
}

void identity_stop(Identity *i) {
        const State *m = i->memory;
        bool is_bound;

        identity_remember_wait(i);
        /* The polls of a success are saved with it. */
        is_bound = m->attempts > 0 || m->not_before_usec > now_usec(CLOCK_REALTIME) ||
                   (i->registration && m->polls > 0);
        identity_cancel(i);
        if (is_bound || i->memory->is_refused)
                identity_save(i);
}
