/* SPDX-License-Identifier: MIT */
#include "dpsd/keeper.h"

#include <errno.h>

#include "basic/text.h"
#include "basic/times.h"

#define COUNTERS_INTERVAL_USEC (15 * USEC_PER_MINUTE)
/* A record that nobody can read any more must not keep a device offline for ever. */
#define READING_PATIENCE_USEC (10 * USEC_PER_MINUTE)
/* A read that takes longer hangs. */
#define READING_DEADLINE_USEC (10 * USEC_PER_SEC)

static void save(Keeper *k, bool is_assignment);

int keeper_init(Keeper *k, World *world, Store *store, const char *name, const KeeperHandlers *handlers,
                void *userdata) {
        *k = (Keeper){
                .world = world,
                .store = store,
                .name = name,
                .handlers = *handlers,
                .userdata = userdata,
                .record = record_new(),
        };
        return k->record ? 0 : -ENOMEM;
}

void keeper_done(Keeper *k) {
        if (k->store)
                store_cancel(k->store, k);
        work_forget(k->loading);
        k->pending = assignment_free(k->pending);
        k->record = record_free(k->record);
        jobs_done(&k->jobs);
}

/* ---- loading ---- */

static void take_record(Keeper *k, Record *record) {
        record_free(k->record);
        k->record = record;
}

/* A run that was killed may not have saved all its waits, but it has noted them. The waits that DPS demanded
 * bind us even if the record was removed. The rest of the note is forgotten then, because the user who
 * removed the record wanted that. */
static void recall(Keeper *k, Record *note, bool is_known) {
        Record *m = k->record;

        if (note->assignment) { /* the disk refused it in the earlier run */
                k->disk = DISK_REFUSES;
        } else if (is_known) {
                note->assignment = TAKE_PTR(m->assignment);
                if (note->n_transitions == 0) { /* otherwise the note is complete, and its history is newer */
                        note->transitions = TAKE_PTR(m->transitions);
                        note->n_transitions = m->n_transitions;
                        m->n_transitions = 0;
                }
        } else {
                m->not_before_usec = note->not_before_usec;
                m->paused_until_usec = note->paused_until_usec;
                m->asked_scope = TAKE_PTR(note->asked_scope);
                m->asked_endpoint = TAKE_PTR(note->asked_endpoint);
                m->last_poll_at_usec = note->last_poll_at_usec;
                m->polls = note->polls;
                m->noted_at_usec = note->noted_at_usec;
                m->noted_uptime_usec = note->noted_uptime_usec;
                record_free(note);
                return;
        }
        take_record(k, note);
}

void keeper_read_again(Keeper *k) {
        k->loading = work_forget(k->loading); /* that was another folder */
        k->cannot_read = false;
        retry_done(&k->reading);
        k->reading_until_usec = usec_add(world_now_usec(k->world, CLOCK_BOOTTIME), READING_PATIENCE_USEC);
        k->is_unread = true;
}

bool keeper_waits_to_read(const Keeper *k) {
        return k->is_unread && world_now_usec(k->world, CLOCK_BOOTTIME) < k->reading_until_usec;
}

/* Takes what was read; NULL: there was no memory for it, or the disk does not answer. */
static int take_reading(Keeper *k, StoreReading *reading) {
        _cleanup_(store_reading_freep) StoreReading *t = reading;
        int r = -EAGAIN;

        if (t) {
                bool is_known = t->record;

                if (is_known)
                        take_record(k, TAKE_PTR(t->record));
                if (t->note)
                        recall(k, TAKE_PTR(t->note), is_known);
                r = store_could_not_read(t->note_r) || k->record->assignment ? t->note_r : t->r;
        }
        k->cannot_read = store_could_not_read(r);
        if (k->cannot_read) {
                retry_failed(&k->reading, world_now_usec(k->world, CLOCK_BOOTTIME));
                return r;
        }
        k->is_unread = false;
        retry_done(&k->reading);
        if (k->record->assignment)
                k->record->last_generation =
                        MAX(k->record->last_generation, k->record->assignment->generation);
        if (k->record->attempts == 0)
                keeper_clear_error(k); /* that error concerned this machine, which is looked at again now */
        if (t->is_on_its_way)          /* only what we save ourselves is reported to us */
                keeper_save(k);
        if (t->r == -EBADMSG)
                store_set_aside(k->store, k->name, TAKE_PTR(t));
        return 0;
}

int keeper_load(Keeper *k) {
        keeper_read_again(k);
        return take_reading(k, store_load(k->store, k->name));
}

static void on_loaded(StoreReading *t, void *userdata) {
        Keeper *k = userdata;
        bool could_not = k->cannot_read;

        k->loading = NULL;
        if (keeper_waits_to_read(k)) {
                int r = take_reading(k, t);

                k->handlers.on_loaded(r, k->cannot_read != could_not, k->userdata);
                return;
        }
        store_reading_free(t);
        k->handlers.on_changed(k->userdata);
}

void keeper_load_later(Keeper *k) {
        if (!k->loading) {
                k->reading.at_usec = world_now_usec(k->world, CLOCK_BOOTTIME) + READING_DEADLINE_USEC;
                if (store_load_later(k->store, k->name, on_loaded, k, &k->loading) >= 0)
                        return;
        }
        work_forget(k->loading);
        on_loaded(NULL, k);
}

/* ---- a new assignment ---- */

const Assignment *keeper_newest(const Keeper *k) {
        return k->pending ?: k->record->assignment;
}

SavingState keeper_saving(const Keeper *k) {
        if (!k->pending)
                return SAVING_NOTHING;
        return k->is_answer ? SAVING_ANSWER : SAVING_TOKEN;
}

bool assignment_has_moved(const Assignment *a, const Assignment *before) {
        return !before || !streq(a->hub, before->hub) || !streq(a->device_id, before->device_id);
}

/* Whether programs must read the connection again. */
static bool is_new_generation(const Assignment *a, const Assignment *before) {
        return assignment_has_moved(a, before) || a->hub_auth != before->hub_auth ||
               !streq_ptr(a->issued, before->issued) ||
               !streq_ptr(a->connection_profile, before->connection_profile) ||
               a->token_expires_at_usec != before->token_expires_at_usec ||
               (before->fingerprint && !streq_ptr(a->fingerprint, before->fingerprint));
}

void keeper_adopt(Keeper *k, Assignment *a, bool is_answer, Jobs jobs) {
        const Assignment *before = keeper_newest(k);

        a->generation = before ? before->generation : k->record->last_generation;
        if (!before || is_new_generation(a, before))
                a->generation++;
        k->record->last_generation = a->generation;

        k->is_unread = false;
        assignment_free(k->pending);
        k->pending = a;
        jobs_join(&k->jobs, jobs);
        if (is_answer) {
                k->is_answer = true;
                k->answered_at_usec = world_now_usec(k->world, CLOCK_REALTIME);
                k->failed_since = false;
        }
        k->n_saving++;
        save(k, true);
}

/* DPS gave an assignment, so earlier failures are over. */
static void take_success(const Keeper *k, Record *record) {
        if (!k->is_answer)
                return;

        record->last_success_at_usec = k->answered_at_usec;
        if (k->failed_since)
                return;
        record->error = (DpsError){ 0 };
        record->error_at_usec = record->failing_since_usec = 0;
}

void keeper_drop(Keeper *k) {
        k->record->assignment = assignment_free(k->record->assignment);
        k->pending = assignment_free(k->pending);
        k->is_answer = false;
        k->n_saving = k->n_under_way = k->n_outdated = 0;
        store_cancel(k->store, k);
        keeper_save(k);
}

/* ---- the disk ---- */

static void tell_disk(Keeper *k, int r) {
        DiskState before = k->disk;

        k->disk = r < 0 ? DISK_REFUSES : DISK_TAKES;
        if (k->disk == DISK_REFUSES)
                retry_failed(&k->saving, world_now_usec(k->world, CLOCK_BOOTTIME));
        else
                retry_done(&k->saving);
        if (k->disk == DISK_REFUSES || before == DISK_REFUSES)
                store_note(k->store, k->name, k->record, k->disk == DISK_REFUSES);
        k->handlers.on_disk(r, k->disk != before, k->userdata);
}

static void record_saved(Keeper *k, int r) {
        tell_disk(k, r);
        k->handlers.on_changed(k->userdata);
}

static void assignment_saved(Keeper *k, int r) {
        _cleanup_(assignment_freep) Assignment *before = NULL;
        bool is_answer = k->is_answer;
        Jobs jobs;

        if (k->n_saving > 0 && --k->n_saving > 0) {
                record_saved(k, r);
                return;
        }
        if (!k->pending)
                return;

        before = k->record->assignment;
        k->record->assignment = TAKE_PTR(k->pending);
        take_success(k, k->record);
        k->is_answer = false;
        jobs = jobs_take(&k->jobs);
        tell_disk(k, r);
        k->handlers.on_counts(before, is_answer, jobs, k->userdata);
}

/* Whether the disk has what counts: it has not if a newer save could not even begin. */
static int end_save(Keeper *k, int r) {
        k->n_under_way--;
        if (k->n_outdated == 0)
                return r;
        k->n_outdated--;
        return k->newer_r;
}

static void on_saved(int r, void *userdata) {
        record_saved(userdata, end_save(userdata, r));
}

static void on_assignment_saved(int r, void *userdata) {
        assignment_saved(userdata, end_save(userdata, r));
}

static void save(Keeper *k, bool is_assignment) {
        Record record = *k->record;
        int r;

        if (k->pending) {
                record.assignment = k->pending;
                take_success(k, &record);
        }
        r = store_save(k->store, k->name, &record, k->disk == DISK_REFUSES,
                       is_assignment ? on_assignment_saved : on_saved, k);
        if (r >= 0) {
                k->n_under_way++;
                return;
        }
        k->n_outdated = k->n_under_way;
        k->newer_r = r;
        if (is_assignment)
                assignment_saved(k, r);
        else
                record_saved(k, r);
}

void keeper_save(Keeper *k) {
        if (k->is_unread) {
                keeper_note(k, false);
                return;
        }
        k->counters_saved_usec = world_now_usec(k->world, CLOCK_BOOTTIME);
        k->saving.at_usec = USEC_INFINITY; /* no further save until this one has ended */
        save(k, false);
}

void keeper_note(Keeper *k, bool is_due) {
        uint64_t now = world_now_usec(k->world, CLOCK_BOOTTIME);

        if (keeper_waits_to_read(k))
                return;
        if (is_due && !k->is_unread &&
            (k->counters_saved_usec == 0 || now - k->counters_saved_usec >= COUNTERS_INTERVAL_USEC))
                keeper_save(k);
        else
                store_note(k->store, k->name, k->record, k->disk == DISK_REFUSES);
}

/* ---- errors ---- */

void keeper_set_error(Keeper *k, const DpsError *error) {
        uint64_t now = world_now_usec(k->world, CLOCK_REALTIME);

        k->record->error = *error;
        text_hide_keys(k->record->error.message);
        k->record->error_at_usec = now;
        k->record->failing_since_usec = k->record->failing_since_usec ?: now;
        k->failed_since = true;
}

void keeper_clear_error(Keeper *k) {
        k->record->error = (DpsError){ 0 };
        k->record->error_at_usec = k->record->failing_since_usec = 0;
}

#define PAST_MAX (8 + 2 * RECORD_TRANSITIONS_MAX)

/* The times of events. */
static size_t find_past(Keeper *k, uint64_t *ret[static PAST_MAX]) {
        Record *m = k->record;
        size_t n = 0;

        ret[n++] = &m->last_success_at_usec;
        ret[n++] = &m->error_at_usec;
        ret[n++] = &m->failing_since_usec;
        ret[n++] = &m->transport_at_usec;
        ret[n++] = &k->answered_at_usec;
        if (m->assignment)
                ret[n++] = &m->assignment->assigned_at_usec;
        if (k->pending)
                ret[n++] = &k->pending->assigned_at_usec;
        for (unsigned t = 0; t < m->n_transitions; t++) {
                ret[n++] = &m->transitions[t].at_usec;
                ret[n++] = &m->transitions[t].last_usec;
        }
        return n;
}

static void correct_wait(const Clock *clock, uint64_t ahead_usec, uint64_t *wait_usec) {
        clock_follow(clock, wait_usec);
        if (*wait_usec > 0)
                *wait_usec = MAX(usec_sub(*wait_usec, ahead_usec), UINT64_C(1));
}

/* The waits were noted together with an error or a poll. If that lies in the future, the clock was ahead then, and the
 * waits begin anew now. */
static void correct_waits(Record *m, Clock *clock) {
        uint64_t error_at = m->error_at_usec, poll_at = m->last_poll_at_usec;
        uint64_t ahead = clock_correct(clock, &error_at), poll_ahead = clock_correct(clock, &poll_at);

        ahead = MAX(ahead, poll_ahead);
        correct_wait(clock, ahead, &m->next_attempt_at_usec);
        correct_wait(clock, ahead, &m->not_before_usec);
        correct_wait(clock, ahead, &m->paused_until_usec);
        correct_wait(clock, ahead, &m->last_poll_at_usec);
}

static bool correct_all(Keeper *k, Clock *clock) {
        uint64_t *past[PAST_MAX];
        size_t n = find_past(k, past);
        bool has_changed = false;

        correct_waits(k->record, clock);
        for (size_t t = 0; t < n; t++) {
                uint64_t before = *past[t];

                (void) clock_correct(clock, past[t]);
                has_changed = has_changed || *past[t] != before;
        }
        return has_changed;
}

/* What was read may have been noted before the clock was set: while nobody ran, or while the disk refused to give it. */
bool keeper_on_clock(Keeper *k, Clock *clock) {
        Record *m = k->record;
        bool has_changed;
        int64_t before;

        if (m->noted_uptime_usec == 0)
                return correct_all(k, clock);
        before = clock_begin_late(clock, m->noted_at_usec, m->noted_uptime_usec);
        m->noted_at_usec = m->noted_uptime_usec = 0;
        has_changed = correct_all(k, clock);
        clock_end_late(clock, before);
        return has_changed;
}
