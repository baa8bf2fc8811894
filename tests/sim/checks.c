/* SPDX-License-Identifier: MIT */
#include "checks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "actors.h"
#include "basic/text.h"
#include "chip.h"
#include "client/client-internal.h"
#include "client/way.h"
#include "disk.h"
#include "dps/backoff.h"
#include "dpsd/identity-facts.h"
#include "dpsd/identity-view.h"
#include "files.h"
#include "hang.h"
#include "keys.h"
#include "machine.h"
#include "memory.h"
#include "published.h"
#include "token.h"
#include "users.h"

#define JOBS_MAX 64
/* Of WORK_CHIPS, as basic/worker.c has them. */
#define CHIP_THREADS_MAX 8
/* Many calls at once may wait for a chip that hangs, as long as credential/device.c lets them. */
#define THREADS_USEC (20 * USEC_PER_SEC)
/* A key is loaded, and then it signs; each of them may take as long as a chip may. */
/* For each identity: what looks at files, keys and groups, writes, and publishes; what else there may be is of calls. */
#define WORKS_MAX 12
#define LINES_MAX 12   /* of the log, in a step */
#define WRITES_MAX 300 /* of a record, in an hour: each register may change it, and each answer */
/* A program is believed after a minute, two, four … up to a day. */
#define BLAMED_MAX 14
#define ANSWER_USEC (5 * USEC_PER_MINUTE)
#define REGISTERS_MAX 200U
#define POLLS_WINDOW_USEC (DPS_POLLS_WINDOW_SEC * USEC_PER_SEC)
/* A wake-up may be as late as this. */
#define LATE_USEC (3 * USEC_PER_MINUTE)
/* Times are kept as CLOCK_REALTIME in whole microseconds, and reckoned back. */
#define ROUNDING_USEC 10
/* How long it is remembered that HTTPS worked. */
#define WAY_KEPT_USEC (7 * USEC_PER_DAY)

typedef struct AskedJob {
        uint64_t id, asked_usec;
        bool is_open;
} AskedJob;

/* What is known of an identity, over all runs of dpsd. */
typedef struct Watch {
        unsigned n_connections;
        uint64_t told_until_usec;     /* DPS said in an answer: not sooner */
        char peer[64], told_peer[64]; /* … to this device of this scope and endpoint */
        bool told_is_noted;           /* … and a daemon that is killed can know it afterwards */
        bool was_told_now;            /* in this step */
        bool is_register;             /* the request */
        char scope[48];               /* where it was sent: the scope and the endpoint */
        uint64_t paused_until_usec;   /* DPS throttled … */
        char paused_scope[48];        /* … all of this one */
        bool pause_is_noted; /* … and nothing has happened since that may take it from the record */
        uint64_t request_id; /* that is not answered; 0: none */
        uint64_t polls_usec[DPS_POLLS_MAX];
        uint64_t n_polls;
        bool polls_are_noted;
        uint64_t registers_usec[REGISTERS_MAX]; /* as DPS has got them */
        uint64_t writes_usec[WRITES_MAX];       /* of the record, to the disk */
        uint64_t n_writes;
        uint64_t n_before;             /* registers, when programs began to blame each hub */
        uint64_t n_registers, n_first; /* since it began anew, until it was assigned */
        bool is_new;
        /* The files that were right last: which change of the folder was the last one, and for which assignment. */
        uint64_t right_change, right_hash;

        uint32_t attempts, finals; /* as it was last */
        uint64_t looked_usec;      /* when a request that had waited for a look began */
        uint64_t earliest_usec;    /* of the next attempt; 0: any time … */
        bool failure_is_noted;     /* … and a daemon that is killed can know it afterwards */

        uint64_t promised_usec; /* NextAttemptAt; 0: nothing was promised */

        bool was_assigned;
        uint64_t
                unkept_until_usec; /* memory failed, and until the next save only memory has the assignment */
        bool is_loaded;            /* in this run */
        uint64_t signing_since_usec;   /* a token to be published; 0: none is */
        uint64_t assigned_answer_usec; /* when dpsd got one last */
        AskedJob jobs[JOBS_MAX];
        uint64_t n_jobs;

        unsigned n_blocked;    /* connections over MQTT in a row, to which the way was closed */
        bool was_blocked_last; /* or so dpsd may remember it */
        bool is_https_open;    /* and MQTT was not open since */
        uint64_t https_worked_at[NETWORKS_MAX]; /* 0: never */
        char way[8];                            /* of the last connection … */
        bool is_over_https;                     /* … and dpsd has not been restarted since */
        unsigned n_https_blocked;               /* as n_blocked */
} Watch;

struct Checks {
        Sim *sim;
        Watch watches[IDENTITIES_MAX];
        uint64_t n_changes; /* of the runtime folder, when it was looked at last */
        bool is_disk_excused;
        uint64_t free_until_usec;
        uint64_t clock_set_usec;      /* when that happened last */
        uint64_t unsynchronized_usec; /* the clock was not synchronised then */
        unsigned memory_steps;
        unsigned n_lines;           /* logged in this step */
        uint64_t threads_left_usec; /* when WORK_CHIPS had one to spare last */
};

/* All that is checked, here and elsewhere, each by one name. */
const char *const promises[] = {
        "GetConnection gives a credential",
        "GetConnection gives the assignment of now",
        "HTTPS is taken where MQTT is blocked, or HTTPS has worked lately",
        "NextAttemptAt is 0 in flight",
        "NextAttemptAt is not in the past",
        "NextAttemptAt says when the next attempt comes",
        "State and Waiting go together",
        "State is not failed while there is an assignment",
        "Transport= is obeyed",
        "a chip that hangs leaves threads to the others",
        "a device with a TPM goes over HTTPS",
        "a scope that DPS throttles does not register",
        "a renewal is not later than a whole life of a token from now",
        "a job ends once",
        "a key in a token is noted durably before it is made",
        "a key is removed from its token only when no certificate that counts needs it",
        "a published key comes with its certificate",
        "a published key is in its token",
        "a job ends with the attempt that was made for it",
        "a job that is ok has brought an assignment",
        "a served assignment is never lost",
        "a slot is held by an attempt in flight",
        "a step logs a bounded number of lines",
        "a token holds at most 6 keys of an identity",
        "at NextAttemptAt something is sent",
        "attempts are as far apart as the back-off says",
        "connection.json is published last",
        "each hub is blamed, and DPS is asked 14 times a day at most",
        "every call is answered",
        "every job ends",
        "no chip is waited for beyond its deadline",
        "no time that is shown lies in the future",
        "no secret is in the state",
        "no secret is logged",
        "nothing is sent before NextAttemptAt",
        "nothing is sent sooner than DPS told",
        "planning comes to an end",
        "the State that is shown is the plan's",
        "the simulation itself works",
        "there are at most 200 registers in an hour",
        "there are at most 5 polls in 10 s",
        "there are at most 300 writes of a record in an hour",
        "there is one registration of an identity at a time",
        "to find the way that is open takes no registers",
        "what a job brought is durable",
        "what a job brought is published",
        "what is published is of one generation",
        "when all faults end, all is durable",
        "when all faults end, all is published",
        "when all faults end, a token holds few keys",
        "when all faults end, everybody is assigned",
        "when all faults end, everybody is healthy",
        "when nothing is due, nothing wakes",
        "when a chip answers again, its identity is assigned",
        "while a chip hangs, the others are assigned",
        "work that waits is bounded by identities and calls",
        "while one way is open, everybody is assigned",
        "who is assigned has an assignment",
        "nobody gets a right that was not decided",
        "a user has 16 questions at polkit, and all have 100",
        "a call has one answer",
        "what a user asks for holds 256 kB at most",
        "what is kept for a user is 80 requests with 16 kB at most",
        "what a caller has asked for ends with the caller",
        "a request that waits for permission ends in time",
        "whoever has no question at polkit gets a place there",
        "root is answered at once",
        "the journal is waited for a tenth of the time at most",
        "what the journal does not take is counted",
        "what hangs is asked by threads of its own",
        "the loop waits for no file",
        "files that hang are waited for for 4 s at most",
        "a file that answers is read, however many others hang",
        "nobody is retired whose configuration is there",
        "who was assigned is served from the start on",
        "a configuration that answers again is read again",
        "while a configuration hangs, everybody is served",
        "when a configuration answers again, everybody is healthy",
        NULL,
};

static Watch *watch_of(Sim *s, unsigned k) {
        return &s->checks->watches[k];
}

static unsigned number_of_id(const char *id) {
        const char *dash = strrchr(id, '-');

        return dash ? (unsigned) atoi(dash + 1) % IDENTITIES_MAX : 0;
}

static unsigned number_of(const Identity *i) {
        return (unsigned) atoi(i->name + 2) % IDENTITIES_MAX;
}

static uint64_t sim_time(const Sim *s, uint64_t boottime_usec) {
        return usec_add(boottime_usec, s->machine->clock.booted_usec);
}

/* ---- what is a reason ---- */

static void happened(Watch *w, Happening what) {
        w->promised_usec = 0;
        if (what != HAPPENED_RESTART) {
                w->earliest_usec = 0;
                w->pause_is_noted = false;
        }
        if (what == HAPPENED_MEMORY)
                w->told_is_noted = w->polls_are_noted = false;
}

void checks_happened(Sim *s, unsigned k, Happening what) {
        if (k < IDENTITIES_MAX)
                happened(watch_of(s, k), what);
        else
                for (unsigned j = 0; j < s->options.n_identities; j++)
                        happened(watch_of(s, j), what);
}

void checks_looked(Sim *s, unsigned k) {
        checks_happened(s, k, HAPPENED_REQUEST);
        watch_of(s, k)->looked_usec = s->now_usec;
}

void checks_device_changed(Sim *s, unsigned k) {
        watch_of(s, k)->told_until_usec = 0;
        checks_happened(s, k, HAPPENED_REQUEST);
}

/* ---- what is sent ---- */

/* Promise: whatever happens, nothing is sent sooner than DPS told, also by a daemon that was restarted or killed. */
static void check_told(Sim *s, unsigned k, const char *what) {
        const Watch *w = watch_of(s, k);

        if (s->now_usec + ROUNDING_USEC < w->told_until_usec && streq(w->peer, w->told_peer))
                found(s, "nothing is sent sooner than DPS told", "identity %u: %s %" PRIu64 " ms too early",
                      k, what, (w->told_until_usec - s->now_usec) / 1000);
}

/* Promise: after a failure the next attempt comes after the back-off, unless something happened that may help; a restart of
 * dpsd is nothing that may help. */
static void check_backoff(Sim *s, unsigned k) {
        const Watch *w = watch_of(s, k);

        if (s->now_usec + ROUNDING_USEC < w->earliest_usec && s->now_usec >= s->checks->free_until_usec)
                found(s, "attempts are as far apart as the back-off says",
                      "identity %u: %" PRIu64 " ms too early after failure %u", k,
                      (w->earliest_usec - s->now_usec) / 1000, w->attempts);
}

/* Promise: nothing is sent before NextAttemptAt, unless something happens. */
static void check_promised(Sim *s, unsigned k) {
        const Watch *w = watch_of(s, k);

        if (w->promised_usec > s->now_usec + USEC_PER_SEC && s->now_usec >= s->checks->free_until_usec)
                found(s, "nothing is sent before NextAttemptAt", "identity %u: %" PRIu64 " s too early", k,
                      (w->promised_usec - s->now_usec) / USEC_PER_SEC);
}

/* ---- the way ---- */

static bool has_worked(const Sim *s, const Watch *w) {
        uint64_t at = w->https_worked_at[s->machine->network];

        return at > 0 && (s->now_usec - at <= WAY_KEPT_USEC || s->checks->clock_set_usec >= at);
}

/* A registration keeps its way, also into another network, until that was closed twice. */
static bool keeps_https(const Watch *w) {
        return w->is_over_https && w->n_https_blocked < WAY_FAILURES_MAX;
}

/* Promises: MQTT comes first. HTTPS comes after two connections in a row that MQTT was closed to, so never after an answer
 * about credentials; or where it has worked in the last seven days. It is kept while it is open. A TPM always needs it. */
static void check_way(Sim *s, unsigned k, TransportChoice wish, const char *way) {
        const Watch *w = watch_of(s, k);

        if (wish != TRANSPORT_AUTO && !streq(way, transport_choice_to_string(wish)))
                found(s, "Transport= is obeyed", "identity %u goes over %s", k, way);
        if (wish == TRANSPORT_AUTO && !chip_is_of(k) && streq(way, "https") &&
            w->n_blocked < WAY_FAILURES_MAX && !w->is_https_open && !has_worked(s, w) && !keeps_https(w))
                found(s, "HTTPS is taken where MQTT is blocked, or HTTPS has worked lately",
                      "identity %u goes over it after %u connections that were blocked", k, w->n_blocked);
}

void checks_closed(Sim *s, const char *id, const char *way, DpsStep step) {
        Watch *w = watch_of(s, number_of_id(id));
        unsigned *n = streq(way, "mqtt") ? &w->n_blocked : &w->n_https_blocked;

        if (step == DPS_STEP_CONNECT || step == DPS_STEP_TLS)
                ++*n;
        else if (step == DPS_STEP_RESOLVE) /* that says nothing about the way, and dpsd counts again */
                *n = 0;
}

void checks_open(Sim *s, const char *id, const char *way) {
        Watch *w = watch_of(s, number_of_id(id));

        w->is_https_open = streq(way, "https");
        w->n_https_blocked = 0; /* dpsd counts again from there, whichever way was open */
        if (!w->is_https_open)
                w->n_blocked = 0;
}

/* In dpsd, what is only confirmed keeps its time; but it may have forgotten it meanwhile. */
static void note_way(Sim *s, Watch *w) {
        if (streq(w->way, "https"))
                w->https_worked_at[s->machine->network] = s->now_usec;
}

/* Promise: there are never two registrations of an identity at once. */
void checks_connect(Sim *s, const char *id, const char *id_scope, const char *host, const char *way) {
        unsigned k = number_of_id(id);
        Watch *w = watch_of(s, k);
        /* A broken file does not count. */
        TransportChoice wish = machine_identity(s->machine, k)->configuration.settings->transport;

        (void) snprintf(w->peer, sizeof(w->peer), "%s of %s at %s", id, id_scope, host);
        (void) snprintf(w->scope, sizeof(w->scope), "%s at %s", id_scope, host);
        w->n_connections++;
        if (w->n_connections > 1)
                found(s, "there is one registration of an identity at a time",
                      "identity %u has %u connections", k, w->n_connections);
        /* Promise: MQTT is not known to carry the challenge of a TPM, and is not asked to. */
        if (chip_is_of(k) && !streq(way, "https") && wish != TRANSPORT_MQTT)
                found(s, "a device with a TPM goes over HTTPS", "identity %u goes over %s", k, way);
        check_way(s, k, wish, way);
        (void) snprintf(w->way, sizeof(w->way), "%s", way);
        w->is_over_https = streq(way, "https");
        check_told(s, k, "connects");
        check_backoff(s, k);
        check_promised(s, k);
        w->promised_usec = 0;
}

void checks_disconnected(Sim *s, const char *id) {
        watch_of(s, number_of_id(id))->n_connections--;
}

/* Promise: what DPS told one device that it throttled binds all of the scope at that endpoint, and none elsewhere. */
static void check_paused(Sim *s, unsigned k) {
        const char *scope = watch_of(s, k)->scope;

        for (unsigned j = 0; j < s->options.n_identities; j++) {
                const Watch *w = watch_of(s, j);

                if (s->now_usec + ROUNDING_USEC < w->paused_until_usec && streq(scope, w->paused_scope))
                        found(s, "a scope that DPS throttles does not register",
                              "identity %u: %" PRIu64 " ms too early, as identity %u was told", k,
                              (w->paused_until_usec - s->now_usec) / 1000, j);
        }
}

void checks_sent(Sim *s, const char *id, const DpsRequest *request) {
        watch_of(s, number_of_id(id))->request_id = request->request_id;
        check_told(s, number_of_id(id), request->kind == DPS_REQUEST_POLL ? "polls" : "registers");
        watch_of(s, number_of_id(id))->is_register = request->kind == DPS_REQUEST_REGISTER;
        if (request->kind == DPS_REQUEST_REGISTER)
                check_paused(s, number_of_id(id));
        else
                watch_of(s, number_of_id(id))->polls_are_noted =
                        disk_fault(s->disk) != DISK_FAULT_RUNTIME_FULL;
}

/* Promise: whatever happens, no device floods DPS with registers. Requests by hand are limited to one a minute, failures
 * wait, and nothing else comes more often; the deeds of the simulation need some room. */
static void check_registers(Sim *s, unsigned k, Watch *w, uint64_t at_usec) {
        uint64_t oldest = w->registers_usec[w->n_registers % REGISTERS_MAX];

        if (w->n_registers >= REGISTERS_MAX && at_usec < oldest + USEC_PER_HOUR)
                found(s, "there are at most 200 registers in an hour", "identity %u: %u in %" PRIu64 " s", k,
                      REGISTERS_MAX + 1, (at_usec - oldest) / USEC_PER_SEC);
        w->registers_usec[w->n_registers++ % REGISTERS_MAX] = at_usec;
        w->n_first += w->is_new;
}

/* Promise: DPS sees at most 5 polls of a device in any 10 s, over reconnects and restarts. */
void checks_request(Sim *s, const char *id, bool is_poll, uint64_t at_usec) {
        unsigned k = number_of_id(id);
        Watch *w = watch_of(s, k);
        uint64_t oldest;

        if (!is_poll) {
                check_registers(s, k, w, at_usec);
                return;
        }
        oldest = w->polls_usec[w->n_polls % DPS_POLLS_MAX];
        if (w->n_polls >= DPS_POLLS_MAX && at_usec < oldest + POLLS_WINDOW_USEC)
                found(s, "there are at most 5 polls in 10 s", "identity %u: the sixth after %" PRIu64 " ms",
                      k, (at_usec - oldest) / 1000);
        w->polls_usec[w->n_polls++ % DPS_POLLS_MAX] = at_usec;
}

void checks_reply(Sim *s, const char *id, const DpsReply *reply) {
        unsigned k = number_of_id(id);
        Watch *w = watch_of(s, k);

        if (reply->request_id != w->request_id)
                return; /* of nobody's request, or the second answer */
        w->request_id = 0;
        if (reply->has_retry_after && reply->retry_after_sec > 0) {
                if (!streq(w->peer, w->told_peer)) /* what another endpoint said binds nobody here */
                        w->told_until_usec = 0;
                w->told_until_usec =
                        MAX(w->told_until_usec,
                            s->now_usec + MIN(reply->retry_after_sec, (uint64_t) DPS_RETRY_AFTER_MAX_SEC) *
                                                  USEC_PER_SEC);
                memcpy(w->told_peer, w->peer, sizeof(w->told_peer));
                w->told_is_noted = !s->checks->is_disk_excused;
                w->was_told_now = true;
                if (reply->status == 429 && w->is_register) {
                        w->paused_until_usec = w->told_until_usec;
                        memcpy(w->paused_scope, w->scope, sizeof(w->paused_scope));
                        w->pause_is_noted = w->told_is_noted;
                }
        }
        if (dps_reply_verdict(reply) == DPS_VERDICT_ASSIGNED) {
                w->assigned_answer_usec = s->now_usec;
                note_way(s, w);
                w->is_new = false;
        }
}

static void note_failure(Sim *s, unsigned k, const Record *r, bool had_memory) {
        Watch *w = watch_of(s, k);
        bool was_loaded = w->is_loaded;
        uint64_t wait = 0;

        if (!w->is_loaded) { /* from an earlier run */
                w->is_loaded = true;
        } else if (r->attempts > w->attempts) {
                if (r->finals > w->finals)
                        wait = dps_backoff_final_usec(r->finals, 0);
                else if (!w->was_told_now)
                        wait = dps_backoff_usec(r->attempts, 0);
                w->earliest_usec = w->looked_usec == s->now_usec ? 0 : s->now_usec + wait;
                w->failure_is_noted = had_memory && !s->checks->is_disk_excused;
        } else if (r->attempts == 0)
                w->earliest_usec = 0;
        /* An error of the disk may hide that of the attempt before, and be noted or not. */
        if (!was_loaded || r->attempts != w->attempts || way_is_blocked(&r->error))
                w->was_blocked_last = way_is_blocked(&r->error);
        w->attempts = r->attempts;
        w->finals = r->finals;
        w->was_told_now = false;
}

/* ---- what is kept ---- */

static bool is_served_by(const Sim *s, unsigned k, const char *text) {
        char id[32], own[16];

        machine_id(s->machine, k, own);
        (void) snprintf(id, sizeof(id), "\"%s\"", own);
        return text && strstr(text, "\"assignedHub\"") && strstr(text, id);
}

static const char *record_text(const Sim *s, unsigned k, Where where, const char *folder, bool is_durable) {
        char file[32], name[16];

        machine_name(k, name);
        (void) snprintf(file, sizeof(file), "%s.json", name);
        return disk_text(s->disk, where, folder, file, is_durable);
}

static bool record_is_served(const Sim *s, unsigned k, bool is_durable) {
        return is_served_by(s, k, record_text(s, k, WHERE_STATE, "", is_durable));
}

bool checks_record_is_served(const Sim *s, unsigned k) {
        return record_is_served(s, k, false);
}

/* A daemon that starts after this one finds the assignment. */
static bool is_kept(const Sim *s, unsigned k) {
        return record_is_served(s, k, false) ||
               is_served_by(s, k, record_text(s, k, WHERE_RUNTIME, ".waits", false));
}

/* Where neither the record nor the note could be written because there was no memory, both are tried again soon. */
static void note_unkept(Sim *s, unsigned k, const Identity *i, bool had_memory) {
        Watch *w = watch_of(s, k);

        if (!had_memory && i->state == IDENTITY_ASSIGNED)
                w->unkept_until_usec = usec_add(sim_time(s, i->keeper.saving.at_usec), LATE_USEC);
        if (w->unkept_until_usec > 0 && is_kept(s, k))
                w->unkept_until_usec = 0;
}

/* ---- what is shown ---- */

static bool waiting_is_allowed(IdentityState state, IdentityWaiting waiting) {
        static const unsigned allowed[_IDENTITY_STATE_MAX] = {
                [IDENTITY_UNPROVISIONED] = 1 << WAITING_NOTHING | 1 << WAITING_NETWORK | 1 << WAITING_CLOCK |
                                           1 << WAITING_KEY | 1 << WAITING_RETRY,
                [IDENTITY_PROVISIONING] = 1 << WAITING_NOTHING | 1 << WAITING_RETRY | 1 << WAITING_THROTTLED |
                                          1 << WAITING_NETWORK | 1 << WAITING_CLOCK,
                [IDENTITY_ASSIGNED] = ~0U,
                [IDENTITY_FAILED] = 1 << WAITING_RETRY | 1 << WAITING_CONFIG,
        };

        return allowed[state] & 1U << waiting;
}

/* A key that has changed is being looked at, or is to be proven behind what is being saved: what follows is not known yet. */
static bool knows_its_key(const Identity *i) {
        return keeper_saving(&i->keeper) == SAVING_NOTHING && i->for_dps.state != CREDENTIAL_UNKNOWN &&
               i->for_dps.state != CREDENTIAL_LOADING;
}

/* Promise: State, Waiting and NextAttemptAt agree with each other and with what is there. */
static void check_words(Sim *s, unsigned k, const Identity *i) {
        const Plan *p = &i->plan;
        ClientState client = client_state(i->client);
        bool is_in_flight = client == CLIENT_IN_FLIGHT;

        if (!waiting_is_allowed(p->state, p->waiting))
                found(s, "State and Waiting go together", "identity %u: %s waits for '%s'", k,
                      identity_state_to_string(p->state), identity_waiting_to_string(p->waiting));
        if (i->state != p->state)
                found(s, "the State that is shown is the plan's", "identity %u: %s, planned %s", k,
                      identity_state_to_string(i->state), identity_state_to_string(p->state));
        if (is_in_flight && p->next_attempt_realtime_usec != 0)
                found(s, "NextAttemptAt is 0 in flight", "identity %u", k);
        if (client == CLIENT_IDLE && p->next_attempt_realtime_usec > 0 &&
            i->for_dps.state != CREDENTIAL_LOADING && s->now_usec >= s->checks->free_until_usec &&
            p->next_attempt_realtime_usec + LATE_USEC < machine_realtime_usec(s->machine))
                found(s, "NextAttemptAt is not in the past", "identity %u: by %" PRIu64 " s", k,
                      (machine_realtime_usec(s->machine) - p->next_attempt_realtime_usec) / USEC_PER_SEC);
        if (client == CLIENT_BETWEEN && p->next_attempt_realtime_usec == 0)
                found(s, "NextAttemptAt says when the next attempt comes",
                      "identity %u: it is 0 between attempts", k);
        if (p->state == IDENTITY_FAILED &&
            (identity_assignment(i) || keeper_saving(&i->keeper) == SAVING_ANSWER))
                found(s, "State is not failed while there is an assignment", "identity %u", k);
        if (p->state == IDENTITY_ASSIGNED && !identity_assignment(i))
                found(s, "who is assigned has an assignment", "identity %u", k);
}

/* No time that identity_view() shows comes from elsewhere. */
static uint64_t latest_time(const Identity *i) {
        const Record *m = i->keeper.record;
        const uint64_t times[] = { i->state_since_usec,
                                   i->hub_last_seen_at_usec,
                                   i->configuration.fault_at_usec,
                                   i->served ? i->served->assigned_at_usec : 0,
                                   m->assignment ? m->assignment->assigned_at_usec : 0,
                                   m->last_success_at_usec,
                                   m->error_at_usec,
                                   m->failing_since_usec };
        uint64_t latest = 0;

        for (unsigned t = 0; t < ELEMENTSOF(times); t++)
                latest = MAX(latest, times[t]);
        for (unsigned t = 0; t < m->n_transitions; t++)
                latest = MAX(latest, m->transitions[t].at_usec);
        return latest;
}

static void check_shown_times(Sim *s, unsigned k, const Identity *i, uint64_t now) {
        const Record *m = i->keeper.record;
        IdentityView v;

        identity_view(i, &v);
        const uint64_t times[] = { v.assigned_at,   v.state_since,   v.last_success_at,
                                   v.last_error_at, v.failing_since, v.hub_last_seen_at };

        for (unsigned t = 0; t < ELEMENTSOF(times); t++)
                if (times[t] > now)
                        found(s, "no time that is shown lies in the future",
                              "identity %u: number %u by %" PRIu64 " s", k, t,
                              (times[t] - now) / USEC_PER_SEC);
        for (unsigned t = 0; t < m->n_transitions; t++)
                if (m->transitions[t].at_usec > now)
                        found(s, "no time that is shown lies in the future",
                              "identity %u: transition %u by %" PRIu64 " s", k, t,
                              (m->transitions[t].at_usec - now) / USEC_PER_SEC);
}

/* Nor any renewal. */
static uint64_t latest_renewal(const Identity *i) {
        const Assignment *a = i->keeper.record->assignment;

        return MAX(i->served ? i->served->renew_at_usec : 0, a ? a->renew_at_usec : 0);
}

static void check_shown_renewal(Sim *s, unsigned k, const Identity *i, uint64_t not_after_usec) {
        IdentityView v;
        Facts f;

        identity_view(i, &v);
        identity_gather(i, &f);
        if (v.renew_at > not_after_usec && v.token_expires_at > 0 && i->outputs == OUTPUTS_COMPLETE &&
            knows_its_key(i) && f.for_hub != CREDENTIAL_FAILED)
                found(s, "a renewal is not later than a whole life of a token from now",
                      "identity %u: by %" PRIu64 " s", k, (v.renew_at - not_after_usec) / USEC_PER_SEC);
}

/* Promises: no time that is shown lies in the future of a synchronised clock, and a renewal comes in time. After most steps, none of
 * all times does, and then it does not matter which of them are shown. */
static void check_times(Sim *s, unsigned k, const Identity *i) {
        uint64_t now = machine_realtime_usec(s->machine);
        const Settings *settings = i->configuration.settings;

        if (s->now_usec <
            MAX(s->checks->free_until_usec, s->checks->unsynchronized_usec + SYNCHRONIZATION_USEC))
                return;
        if (latest_time(i) > now)
                check_shown_times(s, k, i, now);
        if (settings && latest_renewal(i) > usec_add(now, settings->token_lifetime_usec))
                check_shown_renewal(s, k, i, usec_add(now, settings->token_lifetime_usec));
}

/* Promise: a served assignment is never lost, but by a change of the registration id, or by a disk that does not give it
 * back for long. */
static void check_kept(Sim *s, unsigned k, const Identity *i) {
        Watch *w = watch_of(s, k);
        char id[16];

        if (keeper_waits_to_read(&i->keeper))
                return;
        if (i->keeper.is_unread)
                w->was_assigned = false;
        machine_id(s->machine, k, id);
        if (i->state == IDENTITY_ASSIGNED)
                w->was_assigned =
                        identity_assignment(i) && streq(identity_assignment(i)->registration_id, id);
        else if (w->was_assigned)
                found(s, "a served assignment is never lost", "identity %u is %s", k,
                      identity_state_to_string(i->state));
}

void checks_shown(Sim *s, const Identity *i) {
        unsigned k = number_of(i);
        Watch *w = watch_of(s, k);
        uint64_t realtime = i->plan.next_attempt_realtime_usec,
                 next = realtime > 0 ? sim_time(s, world_boottime_of(s->machine->world, realtime)) : 0;
        IdentityView view;

        if (s->options.is_traced) {
                identity_view(i, &view);
                trace(s, "%s: %s %s%shub=%s generation=%" PRIu64 " next=%" PRId64 " error=%s attempts=%u",
                      i->name, view.state, view.waiting, *view.waiting ? " " : "", view.assigned_hub,
                      view.generation, realtime > 0 ? (int64_t) (next - s->now_usec) / 1000 : -1,
                      view.last_error_id, view.attempts);
        }
        /* It is looked for from now on, and that it came in the meantime is news for all. */
        if (i->plan.waits_for_clock && s->machine->clock.is_synchronized)
                checks_free(s, 5 * USEC_PER_SEC);
        check_words(s, k, i);
        check_kept(s, k, i);
        w->promised_usec = next > s->now_usec && knows_its_key(i) ? next : 0;
}

/* ---- files ---- */

/* Promise: flash wears, and nobody can make dpsd write without end. */
static void check_writes(Sim *s, unsigned k) {
        Watch *w = watch_of(s, k);
        uint64_t oldest = w->writes_usec[w->n_writes % WRITES_MAX];

        if (w->n_writes >= WRITES_MAX && s->now_usec < oldest + USEC_PER_HOUR)
                found(s, "there are at most 300 writes of a record in an hour",
                      "identity %u: %d in %" PRIu64 " s", k, WRITES_MAX + 1,
                      (s->now_usec - oldest) / USEC_PER_SEC);
        w->writes_usec[w->n_writes++ % WRITES_MAX] = s->now_usec;
}

/* Promise: no key and no token is in the state folder or in the notes. */
void checks_written(Sim *s, bool is_state, const char *folder, const char *name, const char *text) {
        if (is_state && keys_are_in(s->keys, text))
                found(s, "no secret is in the state", "%s/%s", folder, name);
        if (!*folder && is_state && startswith(name, "id"))
                check_writes(s, (unsigned) atoi(name + 2) % IDENTITIES_MAX);
}

/* dpsd then removes the earlier note, which is out of date, so a later run knows nothing of what was in it. */
void checks_note_refused(Sim *s, const char *name) {
        Watch *w = watch_of(s, (unsigned) atoi(name + 2) % IDENTITIES_MAX);

        w->told_is_noted = w->pause_is_noted = w->failure_is_noted = w->polls_are_noted = false;
}

/* Promise: connection.json comes last, so that whoever sees it finds all that it stands for. */
void checks_published(Sim *s, const char *folder, const char *name) {
        PublishedFiles p = { 0 };
        unsigned depth = core_pause();

        if (streq(name, "connection.json") && published_read(s, folder, &p)) {
                if (p.generation != p.env_generation)
                        found(s, "connection.json is published last",
                              "%s: generation %" PRIu64 ", hub.env has %" PRIu64, folder, p.generation,
                              p.env_generation);
                if (p.password && !streq_ptr(p.password, p.token))
                        found(s, "connection.json is published last", "%s: token is another one", folder);
        }
        core_resume(depth);
}

static uint64_t hash_of(const char *text, uint64_t hash) {
        for (const char *p = text ?: ""; *p; p++)
                hash = (hash ^ (unsigned char) *p) * UINT64_C(0x100000001b3);
        return hash;
}

/* Promises: what is published is of one generation, that of the assignment; it has a key and the certificate of that key; and that
 * key can sign. What was right stays right until a file changes, or
 * the assignment. */
static void check_outputs(Sim *s, unsigned k, const Identity *i) {
        PublishedFiles p = { 0 };
        const Assignment *a = identity_assignment(i);
        Watch *w = watch_of(s, k);
        uint64_t change, hash;

        if (i->outputs != OUTPUTS_COMPLETE || i->folder != FOLDER_READY || !a)
                return;
        change = disk_n_changes_of(s->disk, WHERE_RUNTIME, i->name);
        hash = hash_of(a->issued, hash_of(a->hub, a->generation + UINT64_C(0xcbf29ce484222325)));
        if (change == w->right_change && hash == w->right_hash)
                return;
        w->right_change = 0;
        if (!published_read(s, i->name, &p))
                found(s, "what is published is of one generation", "identity %u: there is no connection.json",
                      k);
        else if (a->issued && !published_is_whole(s, i->name, &p))
                found(s, "a published key comes with its certificate", "identity %u", k);
        else if (a->issued && !published_key_serves(s, i->name, &p))
                found(s, "a published key is in its token", "identity %u", k);
        else if (p.generation != a->generation || p.env_generation != a->generation ||
                 !streq_ptr(p.hub, a->hub) || !streq_ptr(p.password, p.token))
                found(s, "what is published is of one generation",
                      "identity %u: %" PRIu64 ", published are %" PRIu64 " and %" PRIu64, k, a->generation,
                      p.generation, p.env_generation);
        else {
                w->right_change = change;
                w->right_hash = hash;
        }
}

/* ---- after each step ---- */

/* Promise: NextAttemptAt comes true. */
static void check_late(Sim *s, unsigned k) {
        Watch *w = watch_of(s, k);

        if (w->promised_usec > 0 && s->now_usec > w->promised_usec + LATE_USEC) {
                found(s, "at NextAttemptAt something is sent", "identity %u: %" PRIu64 " s too late", k,
                      (s->now_usec - w->promised_usec) / USEC_PER_SEC);
                w->promised_usec = 0;
        }
}

/* Promise: who waits for a key gives up at its deadline, whether the chip answers or not. */
static void check_waits_for_keys(Sim *s, unsigned k, const Identity *i) {
        const CredentialCare *cares[] = { &i->for_dps, &i->for_hub };
        uint64_t now = world_now_usec(s->machine->world, CLOCK_BOOTTIME);
        Watch *w = watch_of(s, k);

        for (size_t n = 0; n < ELEMENTSOF(cares); n++)
                if (cares[n]->state == CREDENTIAL_LOADING && now > usec_add(cares[n]->until_usec, LATE_USEC))
                        found(s, "no chip is waited for beyond its deadline", "identity %u loads a key", k);
        if (i->outputs != OUTPUTS_SIGNING)
                w->signing_since_usec = 0;
        else if (w->signing_since_usec == 0)
                w->signing_since_usec = s->now_usec;
        else if (s->now_usec > w->signing_since_usec + LATE_USEC)
                found(s, "no chip is waited for beyond its deadline", "identity %u signs a token", k);
}

/* Promise: an attempt that waits or has ended leaves its slot to others. */
static void check_slot(Sim *s, unsigned k, const Identity *i) {
        if (i->client->slot.state == SLOT_HELD && client_state(i->client) != CLIENT_IN_FLIGHT)
                found(s, "a slot is held by an attempt in flight", "identity %u: its client is in state %d",
                      k, (int) client_state(i->client));
}

/* Promises: programs get an answer; work that will never end does not take all threads. */
static void check_calls(Sim *s) {
        uint64_t oldest = actors_oldest_call(s);

        if (oldest != UINT64_MAX && s->now_usec > oldest + ANSWER_USEC)
                found(s, "every call is answered", "one waits since %" PRIu64 " s",
                      (s->now_usec - oldest) / USEC_PER_SEC);
        if (sim_world_n_works(s->machine->world) >
            WORKS_MAX * s->options.n_identities + (actors_n_calls(s) + users_n_calls(s)))
                found(s, "work that waits is bounded by identities and calls", "%u works, %u calls",
                      sim_world_n_works(s->machine->world), (actors_n_calls(s) + users_n_calls(s)));
        if (s->checks->n_lines > LINES_MAX * s->options.n_identities)
                found(s, "a step logs a bounded number of lines", "%u", s->checks->n_lines);
        s->checks->n_lines = 0;
        if (sim_world_n_hanging(s->machine->world) < CHIP_THREADS_MAX)
                s->checks->threads_left_usec = s->now_usec;
        else if (s->now_usec > s->checks->threads_left_usec + THREADS_USEC)
                found(s, "a chip that hangs leaves threads to the others", "%u hang",
                      sim_world_n_hanging(s->machine->world));
}

void checks_step(Sim *s) {
        bool has_changes = disk_n_changes(s->disk) != s->checks->n_changes,
             had_memory = memory_n_failed() == 0;

        if (memory_n_failed() > 0) {
                trace(s, "memory: %u allocations have failed", memory_n_failed());
                checks_happened(s, IDENTITIES_MAX, HAPPENED_MEMORY);
                s->checks->memory_steps = 0;
        }
        if (s->checks->memory_steps == 0)
                memory_run_out(0, 0);
        else
                s->checks->memory_steps--;
        files_step(s, had_memory);
        if (!s->machine->manager)
                return;
        s->checks->n_changes = disk_n_changes(s->disk);
        if (!s->machine->clock.is_synchronized)
                s->checks->unsynchronized_usec = s->now_usec;
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                const Identity *i = machine_identity(s->machine, k);

                if (!i)
                        continue;
                if (!keeper_waits_to_read(&i->keeper))
                        note_failure(s, k, i->keeper.record, had_memory);
                note_unkept(s, k, i, had_memory);
                check_times(s, k, i);
                check_late(s, k);
                check_waits_for_keys(s, k, i);
                check_slot(s, k, i);
                if (has_changes)
                        check_outputs(s, k, i);
        }
        check_calls(s);
        users_step(s);
}

/* ---- runs ---- */

void checks_starting(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                Watch *w = watch_of(s, k);

                w->is_loaded = false;
                w->signing_since_usec = 0;
                w->n_connections = 0;
                /* Promise: what is durable is served at once, or as soon as the disk gives it back. */
                w->was_assigned = (w->was_assigned || record_is_served(s, k, false)) &&
                                  s->machine->confs[k].is_there &&
                                  disk_fault(s->disk) != DISK_FAULT_RUNTIME_FULL;
        }
}

static void forget_jobs(Watch *w) {
        for (unsigned j = 0; j < JOBS_MAX; j++)
                w->jobs[j].is_open = false;
}

/* A new run knows that the last failure was one to connect, but not over which way, nor how many of them there were. Without
 * what was not noted, it may even take an earlier failure for the last one. */
static void forget_way(Watch *w, bool is_noted) {
        w->is_over_https = false;
        if (w->was_blocked_last || !is_noted)
                w->n_blocked = MAX(w->n_blocked, WAY_FAILURES_MAX);
}

/* What could not be noted binds the next run no more. */
static void end_run(Sim *s) {
        bool is_noted = !s->checks->is_disk_excused && memory_n_failed() == 0;

        checks_happened(s, IDENTITIES_MAX, HAPPENED_RESTART);
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                Watch *w = watch_of(s, k);

                if (!w->told_is_noted || !is_noted)
                        w->told_until_usec = 0;
                /* A later note that could not be written took away the one that had them. */
                if (!w->polls_are_noted || memory_n_failed() > 0 ||
                    !record_text(s, k, WHERE_RUNTIME, ".waits", false))
                        w->n_polls = 0;
                if (s->now_usec < w->unkept_until_usec)
                        w->was_assigned = false;
                w->unkept_until_usec = 0;
                /* Of an identity that is gone, nothing is read. */
                if (!w->pause_is_noted || !is_noted || !machine_identity(s->machine, k))
                        w->paused_until_usec = 0;
                if (!is_noted || !w->failure_is_noted)
                        w->earliest_usec = 0;
                forget_way(w, is_noted && w->failure_is_noted);
                forget_jobs(w);
        }
}

void checks_stopped(Sim *s) {
        end_run(s);
}

void checks_killed(Sim *s) {
        end_run(s);
}

/* What was noted in memory is gone, and so is what was not written. */
void checks_power_failed(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                Watch *w = watch_of(s, k);

                w->told_until_usec = w->paused_until_usec = 0;
                w->n_polls = 0;
                forget_way(w, false);
                s->checks->clock_set_usec = s->now_usec;
                w->was_assigned = record_is_served(s, k, false);
        }
        checks_happened(s, IDENTITIES_MAX, HAPPENED_REQUEST);
}

void checks_reloaded(Sim *s, bool ok) {
        checks_happened(s, IDENTITIES_MAX, HAPPENED_REQUEST);
}

void checks_removed(Sim *s, const Identity *i) {
        Watch *w = watch_of(s, number_of(i));

        files_removed(s, number_of(i));
        w->was_assigned = w->is_loaded = false;
        w->promised_usec = 0;
        forget_way(w, !s->checks->is_disk_excused && w->failure_is_noted);
        if (s->checks->is_disk_excused)
                w->told_until_usec = w->earliest_usec = 0;
}

void checks_forgotten(Sim *s, unsigned k) {
        Watch *w = watch_of(s, k);

        w->pause_is_noted = false;
        w->told_until_usec = w->earliest_usec = 0;
        w->n_polls = 0;
        w->was_assigned = false;
        w->n_first = 0;
        w->is_new = true;
        if (disk_fault(s->disk) != DISK_FAULT_NONE) /* it may have kept the record of before */
                forget_way(w, false);
}

/* Promises: no secret is logged; planning comes to an end. */
void checks_logged(Sim *s, int level, const char *text) {
        if (keys_are_in(s->keys, text))
                found(s, "no secret is logged", "a message has one");
        s->checks->n_lines++;
        if (strstr(text, "without end"))
                found(s, "planning comes to an end", "%s", text);
}

/* ---- jobs ---- */

void checks_job_begun(Sim *s, unsigned k, uint64_t job) {
        Watch *w = watch_of(s, k);

        w->jobs[w->n_jobs++ % JOBS_MAX] = (AskedJob){ .id = job, .asked_usec = s->now_usec, .is_open = true };
}

void checks_job_refused(Sim *s, unsigned k) {
        Watch *w = watch_of(s, k);

        w->jobs[--w->n_jobs % JOBS_MAX].is_open = false;
}

static AskedJob *find_job(Watch *w, uint64_t id) {
        for (unsigned j = 0; j < JOBS_MAX; j++)
                if (w->jobs[j].id == id && w->jobs[j].is_open)
                        return &w->jobs[j];
        return NULL;
}

/* Promise: what a job brought is durable, unless the disk refuses, and programs have it, unless they cannot. */
static void check_job_brought(Sim *s, unsigned k, const Identity *i) {
        const Assignment *a = identity_assignment(i);
        PublishedFiles p = { 0 };
        char file[32], generation[48];
        const char *text;

        (void) snprintf(file, sizeof(file), "%s.json", i->name);
        text = disk_text(s->disk, WHERE_STATE, "", file, true);
        if (!a) {
                found(s, "a job that is ok has brought an assignment", "identity %u has none", k);
                return;
        }
        (void) snprintf(generation, sizeof(generation), "\"generation\":%" PRIu64 ",", a->generation);
        if (i->keeper.disk == DISK_TAKES && (!text || !strstr(text, generation)))
                found(s, "what a job brought is durable",
                      "identity %u: generation %" PRIu64 " is not on disk", k, a->generation);
        if (i->outputs == OUTPUTS_COMPLETE &&
            (!published_read(s, i->name, &p) || p.generation != a->generation))
                found(s, "what a job brought is published", "identity %u: %" PRIu64 " is not %" PRIu64, k,
                      p.generation, a->generation);
}

/* Promises: a job ends once, and well only if DPS has assigned since it was asked for. */
void checks_job_ended(Sim *s, const Identity *i, uint64_t job, bool ok, const char *error) {
        unsigned k = number_of(i);
        Watch *w = watch_of(s, k);
        AskedJob *j = find_job(w, job);

        trace(s, "%s: job %" PRIu64 " ended: %s%s", i->name, job, ok ? "ok" : "failed: ", error);
        if (!j) {
                found(s, "a job ends once", "identity %u: job %" PRIu64, k, job);
                return;
        }
        j->is_open = false;
        if (ok && w->assigned_answer_usec < j->asked_usec)
                found(s, "a job ends with the attempt that was made for it",
                      "identity %u: job %" PRIu64 " is ok, and DPS has answered nothing since it was asked",
                      k, job);
        if (ok)
                check_job_brought(s, k, i);
}

unsigned checks_n_jobs(const Sim *s) {
        unsigned n = 0;

        for (unsigned k = 0; k < s->options.n_identities; k++)
                for (unsigned j = 0; j < JOBS_MAX; j++)
                        n += s->checks->watches[k].jobs[j].is_open;
        return n;
}

/* ---- the end ---- */

/* Promise: when nothing is wrong any more, everybody is assigned, durably and published, and no job is left over. Only where
 * DPS has issued no certificate, it is not asked again for that reason. */
void checks_settled(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                const Identity *i = machine_identity(s->machine, k);

                if (!i || i->state != IDENTITY_ASSIGNED)
                        found(s, "when all faults end, everybody is assigned", "identity %u is %s", k,
                              i ? identity_state_to_string(i->state) : "not there");
                else if (i->outputs != OUTPUTS_COMPLETE)
                        found(s, "when all faults end, all is published",
                              "identity %u: outputs are in state %d", k, (int) i->outputs);
                else if (i->keeper.disk != DISK_TAKES || keeper_saving(&i->keeper) != SAVING_NOTHING ||
                         !record_is_served(s, k, true))
                        found(s, "when all faults end, all is durable", "identity %u", k);
                else if (!identity_is_healthy(i) && !identity_assignment(i)->issuance_fault)
                        found(s, "when all faults end, everybody is healthy", "identity %u: %s", k,
                              dps_error_id_to_string(i->keeper.record->error.id));
        }
        if (checks_n_jobs(s) > 0)
                found(s, "every job ends", "%u are left over", checks_n_jobs(s));
}

/* Promise: what faults have left in a token is removed when the certificate is renewed. */
void checks_renewed(Sim *s) {
        if (token_n_keys() > 2)
                found(s, "when all faults end, a token holds few keys", "%u", token_n_keys());
}

/* Promise: whoever may choose the way finds the one that is open, soon and with one register. A TPM needs HTTPS; it registers,
 * and again with its answer to the challenge. A restart may come in the middle. */
void checks_one_way(Sim *s, TransportChoice open, bool has_restarted) {
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                const Identity *i = machine_identity(s->machine, k);
                const Watch *w = watch_of(s, k);

                if (chip_is_of(k) && open == TRANSPORT_MQTT)
                        continue;
                if (!i || i->state != IDENTITY_ASSIGNED)
                        found(s, "while one way is open, everybody is assigned", "identity %u is %s", k,
                              i ? identity_state_to_string(i->state) : "not there");
                else if (!streq(w->way, transport_choice_to_string(open)))
                        found(s, "the simulation itself works", "identity %u was assigned over %s", k,
                              w->way);
                else if (w->n_first > (chip_is_of(k) ? 2U : 1U) * (1U + has_restarted))
                        found(s, "to find the way that is open takes no registers", "identity %u: %" PRIu64,
                              k, w->n_first);
        }
}

/* Promise: one chip that hangs is the trouble of one identity. */
void checks_hanging(Sim *s, unsigned hanging) {
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                const Identity *i = machine_identity(s->machine, k);

                if (k != hanging && (!i || i->state != IDENTITY_ASSIGNED || i->outputs != OUTPUTS_COMPLETE))
                        found(s, "while a chip hangs, the others are assigned", "identity %u is %s", k,
                              i ? identity_state_to_string(i->state) : "not there");
        }
}

void checks_blame_begins(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++)
                watch_of(s, k)->n_before = watch_of(s, k)->n_registers;
}

/* Promise: only time resets what limits registrations; neither another hub nor another program does. A TPM registers twice. */
void checks_blamed(Sim *s) {
        for (unsigned k = 0; k < s->options.n_identities; k++) {
                uint64_t n = watch_of(s, k)->n_registers - watch_of(s, k)->n_before;

                if (n > (chip_is_of(k) ? 2 : 1) * BLAMED_MAX)
                        found(s, "each hub is blamed, and DPS is asked 14 times a day at most",
                              "identity %u: %" PRIu64 " registers", k, n);
        }
}

void checks_answering(Sim *s, unsigned k) {
        const Identity *i = machine_identity(s->machine, k);

        if (!i || i->state != IDENTITY_ASSIGNED || i->outputs != OUTPUTS_COMPLETE || !identity_is_healthy(i))
                found(s, "when a chip answers again, its identity is assigned", "identity %u is %s: %s", k,
                      i ? identity_state_to_string(i->state) : "not there",
                      i ? dps_error_id_to_string(i->keeper.record->error.id) : "");
}

uint64_t checks_idle_until(Sim *s) {
        uint64_t until = USEC_INFINITY, due, before;

        for (unsigned k = 0; k < s->options.n_identities; k++) {
                const Identity *i = machine_identity(s->machine, k);

                if (!i || client_state(i->client) != CLIENT_IDLE ||
                    keeper_saving(&i->keeper) != SAVING_NOTHING || !identity_assignment(i))
                        return s->now_usec;
                /* A setting may have changed since the token was made. */
                before = identity_renew_before_usec(i->configuration.settings) / 4;
                due = identity_assignment(i)->renew_at_usec;
                if (!identity_assignment(i)->issued)
                        due = MIN(due, usec_sub(identity_assignment(i)->token_expires_at_usec, before));
                due = world_boottime_of(s->machine->world, due);
                until = MIN(until, sim_time(s, due));
        }
        return until;
}

Checks *checks_new(Sim *s) {
        Checks *c = sim_alloc(sizeof(*c));

        c->sim = s;
        return c;
}

Checks *checks_done(Checks *c) {
        published_forget();
        sim_free(c);
        return NULL;
}

void checks_free(Sim *s, uint64_t usec) {
        s->checks->free_until_usec = MAX(s->checks->free_until_usec, s->now_usec + usec);
        s->checks->clock_set_usec = s->now_usec;
        checks_happened(s, IDENTITIES_MAX, HAPPENED_ON_MACHINE);
}

/* What DPS told binds all the same: a note tells by which clock it was written. */
void checks_clock_set_unseen(Sim *s) {
        checks_happened(s, IDENTITIES_MAX, HAPPENED_REQUEST);
}

void checks_memory(Sim *s, unsigned steps) {
        s->checks->memory_steps = steps;
}

void checks_id_changed(Sim *s, unsigned k) {
        watch_of(s, k)->was_assigned = false;
        checks_device_changed(s, k);
}

void checks_excuse_disk(Sim *s, bool on) {
        s->checks->is_disk_excused = on;
}
