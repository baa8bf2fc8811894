/* SPDX-License-Identifier: MIT */
#include "dpsd/identity-internal.h"

#include <inttypes.h>
#include <strings.h>

#include "basic/text.h"
#include "basic/times.h"
#include "client/way.h"
#include "dps/backoff.h"
#include "dpsd/identity-facts.h"
#include "dpsd/identity-request.h"
#include "dpsd/identity-view.h"
#include "dpsd/log.h"

/* How DPS is asked. The waits of an earlier run bind the client, and the waits of this client are recorded
 * for the next run. */

#define POLLS_WINDOW_USEC (DPS_POLLS_WINDOW_SEC * USEC_PER_SEC)

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

/* If memory runs out, the waits are taken to be those of whatever scope is asked next. */
static void remember_peer(Identity *i) {
        const Settings *s = i->configuration.settings;
        Record *m = i->keeper.record;

        if (!s || (streq_ptr(m->asked_scope, s->id_scope) && streq_ptr(m->asked_endpoint, s->endpoint)))
                return;
        free(m->asked_scope);
        free(m->asked_endpoint);
        m->asked_scope = strdup(s->id_scope);
        m->asked_endpoint = strdup(s->endpoint);
        m->paused_until_usec = 0;
}

bool identity_waits_for_another(const Identity *i) {
        const Settings *s = i->configuration.settings;
        const Record *m = i->keeper.record;

        return s && m->asked_scope && m->asked_endpoint &&
               (!streq(m->asked_scope, s->id_scope) || strcasecmp(m->asked_endpoint, s->endpoint) != 0);
}

/* When DPS throttled us, the whole scope had to wait, and still has to after a restart. If memory runs out, DPS
 * tells the other identities itself. */
void identity_recall_pause(const Identity *i) {
        const Record *m = i->keeper.record;

        if (m->paused_until_usec > 0 && m->asked_scope && m->asked_endpoint)
                (void) window_pause(i->core->window, m->asked_scope, m->asked_endpoint,
                                    identity_end_of_wait(i, m->paused_until_usec, 0));
}

/* Writes the waits that bind the client into the record, as they are now. */
void identity_remember_wait(Identity *i) {
        const DpsRegistrationHistory *h = client_history(i->client);
        Record *m = i->keeper.record;

        if (client_state(i->client) == CLIENT_IDLE)
                return;
        remember_peer(i);
        m->attempts = h->attempts;
        m->finals = h->finals;
        m->next_attempt_at_usec = realtime_of(i, h->next_usec);
        m->not_before_usec = realtime_of(i, h->not_before_usec);
        remember_polls(i, h);
}

/* A wait that cannot be right is replaced by the backoff after that number of failures. */
static DpsRegistrationHistory make_history(Identity *i) {
        const Assignment *a = identity_assignment(i);
        const Record *m = i->keeper.record;
        uint64_t backoff = identity_now_usec(i) + dps_backoff_usec(m->attempts, world_random(i->core->world));
        DpsRegistrationHistory history = {
                .attempts = m->attempts,
                .finals = m->finals,
                .next_usec = identity_end_of_wait(i, m->next_attempt_at_usec, backoff),
                .not_before_usec = identity_end_of_wait(i, m->not_before_usec, backoff),
                .credential = a && a->method == i->method ? a->credential : 0,
                .n_polls = MIN(m->polls, (uint32_t) DPS_POLLS_MAX),
        };
        uint64_t last = MIN(world_boottime_of(i->core->world, m->last_poll_at_usec), identity_now_usec(i));

        /* The record holds only the time of the last poll. All polls are assumed at that time, so we never
         * poll sooner than the service allows. */
        for (unsigned k = 0; k < history.n_polls; k++)
                history.polls_usec[k] = last;
        return history;
}

void identity_take_event(Identity *i) {
        i->events_usec[i->n_events % EVENTS_PER_HOUR_MAX] = identity_now_usec(i);
        i->n_events++;
}

/* The older version that DPS answered to is used again, until somebody asks by hand. */
static const char *version_to_ask_with(const Identity *i, IdentityReason reason) {
        const Assignment *a = identity_assignment(i);

        return reason != REASON_REQUEST && a && streq_ptr(a->api_version, DPS_API_VERSION_ISSUANCE_OLDER)
                       ? DPS_API_VERSION_ISSUANCE_OLDER
                       : NULL;
}

void identity_begin(Identity *i, IdentityReason reason) {
        DpsRegistrationHistory history = make_history(i);

        if (reason == REASON_CREDENTIAL)
                identity_take_event(i);
        if (reason == REASON_RENEWAL || reason == REASON_HUB || reason == REASON_REQUEST)
                i->asked = reason;
        client_set_api_version(i->client, version_to_ask_with(i, reason));
        if (client_begin(i->client, i->configuration.settings, i->method, &history) >= 0)
                return;
        identity_log(i, LOG_ERR, "out of memory to ask DPS; trying again in a minute");
        i->begin_not_before_usec = identity_now_usec(i) + USEC_PER_MINUTE;
}

/* The registration under way counts as failed, so that a key that comes and goes does not cause a flood of
 * requests. */
void identity_give_up(Identity *i) {
        DpsError error = i->keeper.record->error;

        client_fail(i->client, &error);
        client_cancel(i->client);
}

/* An error is logged at its level only the first time; repetitions are debug messages. */
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
                           identity_assignment(i) ? "the present assignment stays in use" : next);
}

/* Requests that ended before anything was sent to DPS do not count against their limit. */
static bool sent_nothing(const DpsError *error) {
        return error->step == DPS_STEP_CONFIG || error->id == DPS_ERROR_DNS ||
               error->id == DPS_ERROR_UNREACHABLE || error->id == DPS_ERROR_CONFIG ||
               error->id == DPS_ERROR_KEY || error->id == DPS_ERROR_MEMORY;
}

/* The same failure in a row is one line of the history. */
static void note_failure(Identity *i, const DpsError *error) {
        const DpsError *before = &i->keeper.record->error;
        const char *state = error->final && !identity_assignment(i) ? "failed" : "attempt-failed";
        Transition *last = record_last_failure(i->keeper.record);
        uint64_t now = identity_realtime_usec(i);

        if (last && before->id == error->id && before->code == error->code && streq(last->state, state)) {
                last->more++;
                last->last_usec = now;
        } else
                (void) record_add_transition(i->keeper.record, now, state, error->message);
}

static void on_failed(const DpsError *error, Jobs jobs, void *userdata) {
        uint32_t attempts;
        Identity *i = userdata;
        for (const Job *job = jobs.first; job && sent_nothing(error); job = job->next)
                ratelimit_give_back(&i->requests, REQUEST_INTERVAL_USEC);
        identity_remember_wait(i);
        if (error->id == DPS_ERROR_THROTTLED && error->step == DPS_STEP_REGISTER)
                i->keeper.record->paused_until_usec =
                        i->keeper.record->not_before_usec ?: i->keeper.record->next_attempt_at_usec;
        note_failure(i, error);
        keeper_set_error(&i->keeper, error);
        identity_advance(i);
        log_failure(i, error);
        /* Flash wears, so only failures 1, 2, 4, 8 … are written at once. */
        attempts = i->keeper.record->attempts;
        if ((attempts & (attempts - 1)) == 0)
                keeper_save(&i->keeper);
        else
                keeper_note(&i->keeper, true);
        identity_end_jobs(i, jobs, false, error->message);
}

/* With Transport=auto, what is remembered makes the next registration begin with the way that worked. Now and then
 * the usual one is tried again: the firewall may have been opened. */
#define WAY_KEPT_USEC (7 * USEC_PER_DAY)

static int find_gateway(const Identity *i, char **ret) {
        return i->core->operations->find_gateway(i->core->operations_userdata, ret);
}

static bool is_way_fresh(const Identity *i) {
        const Record *m = i->keeper.record;
        uint64_t now = identity_realtime_usec(i);

        return m->transport && m->network && m->transport_at_usec <= now &&
               now - m->transport_at_usec <= WAY_KEPT_USEC;
}

/* Attempts before a restart could not connect, and it is not known which way they took, so one way is as good
 * as the other. Otherwise a machine that a watchdog restarts as long as it has no hub might never try the other
 * way. */
static bool begins_in_the_middle(const Identity *i) {
        const Record *m = i->keeper.record;

        return isempty(client_transport(i->client)) && m->attempts >= WAY_FAILURES_MAX &&
               way_is_blocked(&m->error);
}

static TransportChoice way_that_worked(void *userdata) {
        const Identity *i = userdata;
        const Record *m = i->keeper.record;
        _cleanup_(freep) char *gateway = NULL;

        if (begins_in_the_middle(i))
                return world_random(i->core->world) % 2 ? TRANSPORT_HTTPS : TRANSPORT_AUTO;
        if (!is_way_fresh(i) || !streq(m->transport, transport_choice_to_string(TRANSPORT_HTTPS)))
                return TRANSPORT_AUTO;
        return find_gateway(i, &gateway) >= 0 && streq(gateway, m->network) ? TRANSPORT_HTTPS
                                                                            : TRANSPORT_AUTO;
}

/* If memory runs out, the way is not remembered, and the next registration finds it again. A way that was only
 * taken because it is remembered is no news and keeps its time. Otherwise a device that registers often would
 * never try the usual way again. */
static void remember_way(Identity *i) {
        const char *transport = client_transport(i->client);
        Record *m = i->keeper.record;
        char *gateway = NULL;

        if (find_gateway(i, &gateway) < 0)
                gateway = NULL;
        if (gateway && is_way_fresh(i) && streq(m->transport, transport) && streq(m->network, gateway)) {
                free(gateway);
                return;
        }
        free(m->transport);
        free(m->network);
        m->network = gateway;
        m->transport = strdup(transport);
        m->transport_at_usec = identity_realtime_usec(i);
}

static void on_way(TransportChoice way, const DpsError *missing, void *userdata) {
        Identity *i = userdata;
        const Settings *s = i->configuration.settings;
        unsigned port = way == TRANSPORT_HTTPS ? s->https_port : s->mqtt_port;

        if (missing)
                identity_log(i, LOG_WARNING, "HTTPS is not installed, so there is only MQTT: %s",
                             missing->message);
        else
                identity_log(i, LOG_NOTICE, "cannot connect; trying %s, on port %u",
                             transport_choice_to_string(way), port);
}

static void on_assigned(const DpsReply *reply, Credential *credential, Jobs jobs, void *userdata) {
        Identity *i = userdata;
        Record *m = i->keeper.record;

        remember_polls(i, client_history(i->client));
        m->attempts = m->finals = 0;
        m->next_attempt_at_usec = m->not_before_usec = 0;
        remember_way(i);
        identity_adopt(i, reply, credential, jobs);
        identity_advance(i);
}

/* DPS told us to wait, although nothing failed. The next run must wait too, and a long wait is worth a write
 * to disk. A poll that travelled slowly was noted when it was sent, but DPS counted it later. */
static void on_client_changed(void *userdata) {
        Identity *i = userdata;
        const Record *m = i->keeper.record;
        uint64_t told_before = m->not_before_usec, polled_before = m->last_poll_at_usec;
        ClientState state = client_state(i->client);

        identity_remember_wait(i);
        if (m->not_before_usec > usec_add(told_before, USEC_PER_SEC))
                keeper_note(&i->keeper, state == CLIENT_PARKED || state == CLIENT_BETWEEN);
        else if (m->last_poll_at_usec > usec_add(polled_before, 10 * USEC_PER_MSEC))
                keeper_note(&i->keeper, false);
        identity_advance(i);
}

/* The answer came over verified TLS, from a server whose certificate is valid at the present time. */
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

static void find_folders(Folder **ret_state, Folder **ret_notes, void *userdata) {
        const Identity *i = userdata;

        *ret_state = store_state(i->core->store);
        *ret_notes = store_notes(i->core->store);
}

const ClientHandlers identity_client_handlers = {
        .on_assigned = on_assigned,
        .on_failed = on_failed,
        .on_changed = on_client_changed,
        .on_answer = on_answer,
        .on_poll = on_poll,
        .on_step = on_step,
        .way_that_worked = way_that_worked,
        .on_way = on_way,
        .is_clock_right = is_clock_right,
        .folders = find_folders,
};
