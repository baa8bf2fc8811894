/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "dpsd/keeper.h"
#include "dpsd/log.h"
#include "small-disk.h"
#include "table.h"
#include "timed-world.h"

#define JOBS_MAX 8
#define EXPIRES_AT (UINT64_C(1900000000) * USEC_PER_SEC)

static TimedWorld world;
static Store *store;
static Clock *time_of_day;
static Keeper keeper;
static bool has_corrected;

static bool is_on_disk(const char *word) {
        _cleanup_(freep) char *text = small_disk_text(disk.state, "gw.json");

        return text && strstr(text, word);
}

/* ---- the owner ---- */

static struct {
        unsigned n_counts, n_disk, n_disk_news, n_changed, n_loaded, n_loaded_news;
        int disk, loaded;
        bool is_answer, is_on_disk;
        char before[64]; /* the hub of the assignment that was replaced; "": there was none */
        uint64_t jobs[JOBS_MAX];
        size_t n_jobs;
} told;

static void on_counts(const Assignment *before, bool is_answer, Jobs jobs, void *userdata) {
        told.n_counts++;
        told.is_answer = is_answer;
        told.is_on_disk = is_on_disk(keeper.record->assignment->hub);
        (void) snprintf(told.before, sizeof(told.before), "%s", before ? before->hub : "");
        for (const Job *j = jobs.first; j; j = j->next)
                told.jobs[told.n_jobs++] = j->id;
        jobs_done(&jobs);
}

static void on_disk(int r, bool is_news, void *userdata) {
        told.n_disk++;
        told.n_disk_news += is_news;
        told.disk = r;
}

static void on_changed(void *userdata) {
        told.n_changed++;
}

static void on_loaded(int r, bool is_news, void *userdata) {
        told.n_loaded++;
        told.n_loaded_news += is_news;
        told.loaded = r;
}

static const KeeperHandlers handlers = {
        .on_counts = on_counts, .on_disk = on_disk, .on_changed = on_changed, .on_loaded = on_loaded
};

/* ---- around each test ---- */

static void on_clock(ClockEvent event, void *userdata) {
        has_corrected = keeper_on_clock(&keeper, time_of_day);
}

static void open_keeper(void) {
        assert_int_equal(clock_new(&world.world, NULL, on_clock, NULL, &time_of_day), 0);
        assert_int_equal(store_new(&world.world, disk.state, disk.notes, &store), 0);
        assert_int_equal(keeper_init(&keeper, &world.world, store, "gw", &handlers, NULL), 0);
}

static void close_keeper(void) {
        keeper_done(&keeper);
        store = store_free(store);
        time_of_day = clock_free(time_of_day);
}

static int set_up(void **state) {
        log_set_level(LOG_EMERG);
        has_corrected = false;
        memset(&told, 0, sizeof(told));
        timed_world_init(&world);
        small_disk_init();
        open_keeper();
        return 0;
}

static int tear_down(void **state) {
        memset(world.holds, 0, sizeof(world.holds));
        close_keeper();
        timed_world_done(&world);
        small_disk_done();
        return 0;
}

/* Begins another run of the daemon. */
static void restart(void) {
        close_keeper();
        open_keeper();
        assert_int_equal(keeper_load(&keeper), 0);
}

static void settle(void) {
        timed_world_pass(&world, 0);
}

static void finish_saves(void) {
        world.holds[WORK_DISK] = false;
        settle();
}

static Assignment *make_assignment(const char *hub) {
        Assignment a = {
                .id_scope = (char *) "0ne00000001",
                .registration_id = (char *) "gw-1",
                .endpoint = (char *) "dps.example",
                .method = METHOD_SYMMETRIC_KEY,
                .hub_auth = HUB_AUTH_SAS,
                .hub = (char *) hub,
                .device_id = (char *) "gw-1",
                .substatus = (char *) "",
                .assigned_at_usec = world_now_usec(&world.world, CLOCK_REALTIME),
                .token_expires_at_usec = EXPIRES_AT,
                .renew_at_usec = EXPIRES_AT - USEC_PER_DAY,
                .fingerprint = (char *) "0011223344556677001122334455667700112233445566770011223344556677",
        };
        Assignment *copy = assignment_copy(&a);

        assert_non_null(copy);
        return copy;
}

static Jobs one_job(uint64_t id) {
        Jobs jobs = { 0 };

        assert_int_equal(jobs_add(&jobs, id), 0);
        return jobs;
}

static void adopt_answer(const char *hub, Jobs jobs) {
        keeper_adopt(&keeper, make_assignment(hub), true, jobs);
}

static void begin_answer(const char *hub, Jobs jobs) { /* its save does not end before finish_saves() */
        world.holds[WORK_DISK] = true;
        adopt_answer(hub, jobs);
}

static void adopt_token(uint64_t expires_at_usec) {
        Assignment *a = assignment_copy(keeper_newest(&keeper));

        assert_non_null(a);
        a->token_expires_at_usec = expires_at_usec;
        keeper_adopt(&keeper, a, false, (Jobs){ 0 });
}

static void assign(const char *hub) {
        adopt_answer(hub, (Jobs){ 0 });
        settle();
}

static void note_error(const char *message) {
        DpsError error;

        dps_error_set(&error, DPS_ERROR_REFUSED, DPS_STEP_REGISTER, "%s", message);
        keeper_set_error(&keeper, &error);
}

/* ---- when an assignment counts ---- */

static void an_assignment_counts_only_when_it_is_durable(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        settle();
        assert_null(keeper.record->assignment);
        assert_string_equal(keeper_newest(&keeper)->hub, "hub-1.example");
        assert_int_equal(keeper_saving(&keeper), SAVING_ANSWER);
        assert_int_equal(told.n_counts, 0);

        finish_saves();
        assert_true(is_on_disk("hub-1.example"));
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
        assert_int_equal(keeper_saving(&keeper), SAVING_NOTHING);
        assert_int_equal(keeper.disk, DISK_TAKES);
        assert_int_equal(told.n_counts, 1);
        assert_true(told.is_answer);
        assert_true(told.is_on_disk);
        assert_string_equal(told.before, "");
}

static void the_old_assignment_counts_while_the_new_one_is_saved(void **state) {
        assign("hub-1.example");
        begin_answer("hub-2.example", (Jobs){ 0 });
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
        assert_string_equal(keeper_newest(&keeper)->hub, "hub-2.example");

        finish_saves();
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
        assert_string_equal(told.before, "hub-1.example");
}

static void an_assignment_that_the_disk_refuses_counts_too(void **state) {
        disk.error = -EROFS;
        assign("hub-1.example");
        assert_int_equal(told.n_counts, 1);
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
        assert_int_equal(told.disk, -EROFS);
        assert_int_equal(told.n_disk_news, 1);
        assert_int_equal(keeper.disk, DISK_REFUSES);
        assert_true(keeper.saving.at_usec > world.now_usec);
}

static void a_save_that_succeeds_again_is_reported(void **state) {
        disk.error = -EROFS;
        assign("hub-1.example");
        keeper_save(&keeper);
        settle();
        assert_int_equal(told.n_disk_news, 1); /* it is the same as before */
        disk.error = 0;
        keeper_save(&keeper);
        settle();
        assert_int_equal(told.n_disk_news, 2);
        assert_int_equal(told.disk, 0);
        assert_int_equal(keeper.disk, DISK_TAKES);
        assert_true(is_on_disk("hub-1.example"));
        assert_int_equal(told.n_counts, 1);
}

static void saves_that_began_before_say_nothing_of_one_that_could_not_begin(void **state) {
        Assignment *large = make_assignment("hub-2.example");

        large->payload = memset(calloc(1, RECORD_SIZE_MAX + 1), '1', RECORD_SIZE_MAX);
        begin_answer("hub-1.example", (Jobs){ 0 });
        keeper_save(&keeper);
        keeper_adopt(&keeper, large, true, (Jobs){ 0 });
        finish_saves();
        assert_true(is_on_disk("hub-1.example"));
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
        assert_int_equal(keeper.disk, DISK_REFUSES);
        assign("hub-1.example");
        assert_int_equal(keeper.disk, DISK_TAKES);
}

static void a_newer_answer_during_a_save_is_the_one_that_counts(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        adopt_answer("hub-2.example", (Jobs){ 0 });
        finish_saves();
        assert_int_equal(told.n_counts, 1);
        assert_true(told.is_on_disk);
        assert_string_equal(told.before, "");
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
        assert_int_equal(keeper_saving(&keeper), SAVING_NOTHING);
}

static void an_answer_still_counts_as_one_if_a_token_follows_during_its_save(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        adopt_token(EXPIRES_AT + USEC_PER_DAY);
        assert_int_equal(keeper_saving(&keeper), SAVING_ANSWER);
        finish_saves();
        assert_int_equal(told.n_counts, 1);
        assert_true(told.is_answer);
        assert_int_equal(keeper.record->assignment->token_expires_at_usec, EXPIRES_AT + USEC_PER_DAY);
}

static void a_new_token_is_not_an_answer(void **state) {
        assign("hub-1.example");
        world.holds[WORK_DISK] = true;
        adopt_token(EXPIRES_AT + USEC_PER_DAY);
        assert_int_equal(keeper_saving(&keeper), SAVING_TOKEN);
        finish_saves();
        assert_int_equal(told.n_counts, 2);
        assert_false(told.is_answer);
}

/* ---- jobs ---- */

static void jobs_are_handed_over_once_when_the_assignment_counts(void **state) {
        begin_answer("hub-1.example", one_job(7));
        assert_int_equal(told.n_jobs, 0);
        finish_saves();
        assign("hub-1.example");
        keeper_save(&keeper);
        settle();
        assert_int_equal(told.n_jobs, 1);
        assert_int_equal(told.jobs[0], 7);
}

static void jobs_of_two_answers_in_one_save_are_handed_over_together(void **state) {
        begin_answer("hub-1.example", one_job(7));
        adopt_answer("hub-2.example", one_job(8));
        finish_saves();
        assert_int_equal(told.n_counts, 1);
        assert_int_equal(told.n_jobs, 2);
        assert_int_equal(told.jobs[0] + told.jobs[1], 7 + 8);
}

/* ---- generations ---- */

static void keep_all(Assignment *a) {
}

static void change_hub(Assignment *a) {
        free(a->hub);
        a->hub = strdup("hub-2.example");
}

static void change_device(Assignment *a) {
        free(a->device_id);
        a->device_id = strdup("other");
}

static void change_expiry(Assignment *a) {
        a->token_expires_at_usec++;
}

static void change_fingerprint(Assignment *a) {
        a->fingerprint[0] = 'f';
}

static void change_what_the_hub_is_shown(Assignment *a) {
        a->hub_auth = HUB_AUTH_X509;
}

static void change_what_programs_do_not_use(Assignment *a) {
        free(a->substatus);
        a->substatus = strdup("reprovisionedToInitialAssignment");
        a->assigned_at_usec++;
        a->renew_at_usec++;
        a->credential++;
}

static const struct generation_case {
        const char *promise;
        void (*change)(Assignment *a);
        uint64_t generation;
} generation_cases[] = {
        { "the same assignment keeps its generation", keep_all, 1 },
        { "another hub is a new generation", change_hub, 2 },
        { "another device id is a new generation", change_device, 2 },
        { "another expiry is a new generation", change_expiry, 2 },
        { "another key is a new generation", change_fingerprint, 2 },
        { "another hub authentication is a new generation", change_what_the_hub_is_shown, 2 },
        { "a change that programs do not see is not a new generation", change_what_programs_do_not_use, 1 },
};

static void check_generation(void **state) {
        const struct generation_case *c = *state;
        Assignment *a = make_assignment("hub-1.example");

        set_up(NULL);
        assign("hub-1.example");
        assert_int_equal(keeper.record->assignment->generation, 1);
        c->change(a);
        keeper_adopt(&keeper, a, true, (Jobs){ 0 });
        settle();
        assert_int_equal(keeper.record->assignment->generation, c->generation);
        tear_down(NULL);
}

static void a_fingerprint_that_becomes_known_is_not_a_new_generation(void **state) {
        Assignment *a = make_assignment("hub-1.example");

        free(a->fingerprint);
        a->fingerprint = NULL;
        keeper_adopt(&keeper, a, true, (Jobs){ 0 });
        settle();
        assign("hub-1.example");
        assert_int_equal(keeper.record->assignment->generation, 1);
}

static void two_answers_in_one_save_are_two_generations(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        adopt_answer("hub-2.example", (Jobs){ 0 });
        finish_saves();
        assert_int_equal(keeper.record->assignment->generation, 2);
}

static void a_generation_is_not_used_again_after_a_drop_and_a_restart(void **state) {
        assign("hub-1.example");
        keeper_drop(&keeper);
        settle();
        restart();
        assign("hub-1.example");
        assert_int_equal(keeper.record->assignment->generation, 2);
}

/* ---- errors ---- */

static void a_success_ends_an_earlier_error(void **state) {
        note_error("refused");
        assert_true(keeper.record->failing_since_usec > 0);
        assign("hub-1.example");
        assert_int_equal(keeper.record->error.id, DPS_ERROR_NONE);
        assert_int_equal(keeper.record->error_at_usec, 0);
        assert_int_equal(keeper.record->failing_since_usec, 0);
        assert_int_equal(keeper.record->last_success_at_usec, world_now_usec(&world.world, CLOCK_REALTIME));
        assert_false(is_on_disk("refused"));
}

static void a_success_does_not_end_an_error_that_came_since(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        note_error("refused since");
        finish_saves();
        assert_int_equal(told.n_counts, 1);
        assert_string_equal(keeper.record->error.message, "refused since");
        assert_true(keeper.record->last_success_at_usec > 0);
}

static void a_new_token_does_not_end_an_error(void **state) {
        assign("hub-1.example");
        note_error("refused");
        adopt_token(EXPIRES_AT + 1);
        settle();
        assert_string_equal(keeper.record->error.message, "refused");
}

static void a_new_token_in_a_later_run_is_not_a_success(void **state) {
        uint64_t success;

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        note_error("refused");
        keeper.record->attempts = 1;
        keeper_save(&keeper);
        settle();
        restart();
        adopt_token(EXPIRES_AT + 1);
        settle();
        assert_string_equal(keeper.record->error.message, "refused");
        assert_int_equal(keeper.record->last_success_at_usec, success);
}

static void failing_since_is_the_time_of_the_first_error(void **state) {
        uint64_t first = world_now_usec(&world.world, CLOCK_REALTIME);

        note_error("one");
        timed_world_pass(&world, USEC_PER_HOUR);
        note_error("two");
        assert_int_equal(keeper.record->failing_since_usec, first);
        assert_int_equal(keeper.record->error_at_usec, first + USEC_PER_HOUR);
}

/* ---- dropping ---- */

static void a_dropped_assignment_is_removed_from_disk(void **state) {
        assign("hub-1.example");
        keeper_drop(&keeper);
        settle();
        assert_null(keeper_newest(&keeper));
        assert_false(is_on_disk("hub-1.example"));
        restart();
        assert_null(keeper_newest(&keeper));
}

static void an_assignment_that_is_dropped_during_its_save_never_counts(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        keeper_drop(&keeper);
        assert_int_equal(keeper_saving(&keeper), SAVING_NOTHING);
        finish_saves();
        assert_int_equal(told.n_counts, 0);
        assert_null(keeper_newest(&keeper));
        assert_false(is_on_disk("hub-1.example"));
}

static void an_answer_after_a_drop_during_a_save_counts_once(void **state) {
        begin_answer("hub-1.example", (Jobs){ 0 });
        keeper_drop(&keeper);
        adopt_answer("hub-2.example", one_job(3));
        finish_saves();
        assert_int_equal(told.n_counts, 1);
        assert_true(told.is_on_disk);
        assert_int_equal(told.n_jobs, 1);
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
}

/* ---- from one run to the next ---- */

static void an_assignment_survives_a_restart(void **state) {
        assign("hub-1.example");
        restart();
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
        assert_int_equal(keeper.record->assignment->generation, 1);
}

static void a_record_that_cannot_be_read_is_set_aside(void **state) {
        small_disk_put(disk.state, "gw.json", "no json");
        assert_int_equal(keeper_load(&keeper), 0);
        assert_null(keeper.record->assignment);
        settle();
        assert_null(small_disk_text(disk.state, "gw.json"));
}

/* Reading /proc/self/mem from its beginning fails with EIO. */
static void break_record(void) {
        _cleanup_(freep) char *file = NULL;

        assert_true(asprintf(&file, "%s/gw.json", disk.state->path) > 0);
        (void) unlink(file);
        assert_int_equal(symlink("/proc/self/mem", file), 0);
}

static void a_record_that_the_disk_does_not_give_is_waited_for_and_not_written_over(void **state) {
        _cleanup_(freep) char *text = NULL;

        assign("hub-1.example");
        text = small_disk_text(disk.state, "gw.json");
        break_record();
        close_keeper();
        open_keeper();
        assert_int_equal(keeper_load(&keeper), -EIO);
        assert_true(keeper_waits_to_read(&keeper));
        keeper_save(&keeper);
        keeper_note(&keeper, true);
        settle();
        assert_int_equal(disk.n_commits, 1);

        small_disk_put(disk.state, "gw.json", text);
        assert_int_equal(keeper_load(&keeper), 0);
        assert_false(keeper_waits_to_read(&keeper));
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
}

static void a_record_that_the_disk_never_gives_is_replaced_by_the_answer_of_dps_alone(void **state) {
        assign("hub-1.example");
        break_record();
        close_keeper();
        open_keeper();
        assert_int_equal(keeper_load(&keeper), -EIO);
        timed_world_pass(&world, 11 * USEC_PER_MINUTE);
        assert_false(keeper_waits_to_read(&keeper));
        keeper_save(&keeper);
        settle();
        assert_int_equal(disk.n_commits, 1);
        assign("hub-2.example");
        assert_int_equal(disk.n_commits, 2);
        assert_true(is_on_disk("hub-2.example"));
}

/* As for an identity that a reload has brought back: the worker does not come to its record. */
static void begin_slow_load(void) {
        close_keeper();
        open_keeper();
        world.holds[WORK_KEYS] = true;
        keeper_read_again(&keeper);
        keeper_load_later(&keeper);
        settle();
        assert_true(keeper_waits_to_read(&keeper));
        assert_int_equal(told.n_loaded, 0);
}

static void end_slow_load(void) {
        world.holds[WORK_KEYS] = false;
        settle();
}

static void a_record_that_is_being_read_is_waited_for_and_not_written_over(void **state) {
        assign("hub-1.example");
        begin_slow_load();
        keeper_save(&keeper);
        keeper_note(&keeper, true);
        settle();
        assert_int_equal(disk.n_commits, 1);
        end_slow_load();
        assert_int_equal(told.n_loaded, 1);
        assert_int_equal(told.n_loaded_news, 0);
        assert_int_equal(told.loaded, 0);
        assert_false(keeper_waits_to_read(&keeper));
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
}

static void a_record_that_is_being_saved_is_not_read_from_the_disk(void **state) {
        assign("hub-1.example");
        world.holds[WORK_DISK] = true;
        keeper.record->attempts = 3;
        keeper_save(&keeper);
        keeper_done(&keeper);
        assert_int_equal(keeper_init(&keeper, &world.world, store, "gw", &handlers, NULL), 0);
        small_disk_put(disk.state, "gw.json", "older");
        keeper_read_again(&keeper);
        keeper_load_later(&keeper);
        settle();
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
        assert_int_equal(keeper.record->attempts, 3);
        finish_saves();
        assert_int_equal(told.disk, 0);
        assert_true(is_on_disk("hub-1.example"));
}

static void a_read_that_does_not_end_fails_and_is_tried_again(void **state) {
        assign("hub-1.example");
        begin_slow_load();
        timed_world_pass(&world, keeper.reading.at_usec - world_now_usec(&world.world, CLOCK_BOOTTIME));
        keeper_load_later(&keeper);
        assert_int_equal(told.n_loaded_news, 1);
        assert_true(told.loaded < 0);
        assert_true(keeper_waits_to_read(&keeper));
        assert_true(keeper.reading.at_usec > world_now_usec(&world.world, CLOCK_BOOTTIME));

        keeper_load_later(&keeper);
        end_slow_load();
        assert_int_equal(told.n_loaded_news, 2);
        assert_int_equal(told.loaded, 0);
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
}

static void what_is_read_after_dps_has_answered_is_of_no_use(void **state) {
        assign("hub-1.example");
        begin_slow_load();
        assign("hub-2.example");
        end_slow_load();
        assert_int_equal(told.n_loaded, 0);
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
}

static void what_is_read_after_ten_minutes_is_of_no_use(void **state) {
        assign("hub-1.example");
        begin_slow_load();
        timed_world_pass(&world, 11 * USEC_PER_MINUTE);
        assert_false(keeper_waits_to_read(&keeper));
        end_slow_load();
        assert_int_equal(told.n_loaded, 0);
        assert_null(keeper.record->assignment);
}

static void a_read_ends_with_its_folder_and_with_its_keeper(void **state) {
        assign("hub-1.example");
        begin_slow_load();
        keeper_read_again(&keeper);
        assert_null(world.works);
        keeper_load_later(&keeper);
        keeper_done(&keeper);
        assert_null(world.works);
        assert_int_equal(keeper_init(&keeper, &world.world, store, "gw", &handlers, NULL), 0);
}

static void a_record_that_cannot_be_used_is_set_aside_before_the_next_is_written(void **state) {
        _cleanup_(freep) char *text = NULL;

        small_disk_put(disk.state, "gw.json", "no json");
        world.holds[WORK_DISK] = true;
        keeper_read_again(&keeper);
        keeper_load_later(&keeper);
        settle();
        assert_int_equal(told.loaded, 0);
        assert_true(is_on_disk("no json"));
        assign("hub-1.example");
        finish_saves();
        assert_true(is_on_disk("hub-1.example"));
        text = small_disk_text(disk.state, "gw.json.corrupt");
        assert_string_equal(text, "no json");
}

static void a_note_with_the_assignment_is_as_good_as_the_record(void **state) {
        assign("hub-1.example");
        disk.error = -EIO;
        assign("hub-2.example");
        break_record();
        restart();
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
}

static void a_note_outlives_a_run_that_was_killed(void **state) {
        uint64_t later = world_now_usec(&world.world, CLOCK_REALTIME) + USEC_PER_HOUR;

        assign("hub-1.example");
        keeper.record->attempts = 3;
        keeper.record->next_attempt_at_usec = keeper.record->not_before_usec = later;
        keeper_note(&keeper, false);
        settle();
        assert_int_equal(disk.n_commits, 1);
        restart();
        assert_int_equal(keeper.record->attempts, 3);
        assert_int_equal(keeper.record->next_attempt_at_usec, later);
        assert_int_equal(keeper.record->not_before_usec, later);
        assert_string_equal(keeper.record->assignment->hub, "hub-1.example");
}

static void without_a_record_only_the_waits_from_dps_bind_the_next_run(void **state) {
        uint64_t later = world_now_usec(&world.world, CLOCK_REALTIME) + USEC_PER_HOUR;

        keeper.record->attempts = 3;
        keeper.record->next_attempt_at_usec = keeper.record->not_before_usec = later;
        keeper_note(&keeper, false);
        restart();
        assert_int_equal(keeper.record->not_before_usec, later);
        assert_int_equal(keeper.record->attempts, 0);
        assert_int_equal(keeper.record->next_attempt_at_usec, 0);
}

static void a_record_that_the_disk_refused_survives_a_restart(void **state) {
        assign("hub-1.example");
        disk.error = -EIO;
        assign("hub-2.example");
        restart();
        assert_string_equal(keeper.record->assignment->hub, "hub-2.example");
        assert_int_equal(keeper.record->assignment->generation, 2);
        assert_int_equal(keeper.disk, DISK_REFUSES);
}

static void an_error_of_this_machine_is_not_remembered(void **state) {
        assign("hub-1.example");
        note_error("no key");
        keeper_save(&keeper);
        settle();
        restart();
        assert_int_equal(keeper.record->error.id, DPS_ERROR_NONE);
}

static void an_error_of_an_attempt_is_remembered(void **state) {
        note_error("refused");
        keeper.record->attempts = 1;
        keeper_save(&keeper);
        settle();
        restart();
        assert_string_equal(keeper.record->error.message, "refused");
}

static void counters_are_written_at_most_every_15_minutes(void **state) {
        for (unsigned minute = 0; minute < 30; minute++) {
                keeper.record->attempts++;
                keeper_note(&keeper, true);
                timed_world_pass(&world, USEC_PER_MINUTE);
        }
        assert_int_equal(disk.n_commits, 2);
}

/* ---- the clock ---- */

static uint64_t now(void) {
        return world_now_usec(&world.world, CLOCK_REALTIME);
}

static uint64_t booted(void) {
        return now() - world_now_usec(&world.world, CLOCK_BOOTTIME);
}

/* Sets the clock by so much. */
static void set_clock(int64_t by_usec, bool is_synchronized) {
        world.realtime_usec += (uint64_t) by_usec;
        world.is_unsynchronized = !is_synchronized;
        clock_jumped(time_of_day);
}

/* Begins another run of the daemon, in another boot, at this time. */
static void reboot_at(uint64_t realtime_usec) {
        close_keeper();
        (void) folder_remove(disk.notes, "gw.json"); /* it is in memory */
        world.realtime_usec = realtime_usec;
        world.now_usec = 0;
        open_keeper();
        assert_int_equal(keeper_load(&keeper), 0);
}

static void waits_and_the_last_success_are_converted_when_the_clock_is_set(void **state) {
        uint64_t success, before = now();

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        keeper.record->next_attempt_at_usec = before + USEC_PER_HOUR;
        keeper.record->not_before_usec = before + 2 * USEC_PER_HOUR;
        keeper.record->last_poll_at_usec = before;
        set_clock(USEC_PER_DAY, true);
        assert_int_equal(keeper.record->next_attempt_at_usec, before + USEC_PER_DAY + USEC_PER_HOUR);
        assert_int_equal(keeper.record->not_before_usec, before + USEC_PER_DAY + 2 * USEC_PER_HOUR);
        assert_int_equal(keeper.record->last_poll_at_usec, before + USEC_PER_DAY);
        assert_int_equal(keeper.record->last_success_at_usec, success + USEC_PER_DAY);
}

static void a_success_that_is_being_saved_is_converted_too(void **state) {
        uint64_t before = now();

        begin_answer("hub-1.example", (Jobs){ 0 });
        set_clock(USEC_PER_DAY, true);
        finish_saves();
        assert_int_equal(keeper.record->last_success_at_usec, before + USEC_PER_DAY);
        assert_int_equal(keeper.record->assignment->assigned_at_usec, before + USEC_PER_DAY);
}

static void the_last_success_is_converted_while_a_token_is_saved(void **state) {
        uint64_t success;

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        world.holds[WORK_DISK] = true;
        adopt_token(EXPIRES_AT + USEC_PER_DAY);
        set_clock(USEC_PER_DAY, true);
        finish_saves();
        assert_int_equal(keeper.record->last_success_at_usec, success + USEC_PER_DAY);
}

/* The earlier run had the same clock. */
static void the_success_of_an_earlier_run_of_this_boot_is_converted(void **state) {
        uint64_t success;

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        restart();
        set_clock(-(int64_t) USEC_PER_DAY, true);
        assert_int_equal(keeper.record->last_success_at_usec, success - USEC_PER_DAY);
}

static void the_success_of_an_earlier_boot_keeps_its_time(void **state) {
        uint64_t success;

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        reboot_at(success + USEC_PER_HOUR);
        set_clock(USEC_PER_DAY, true);
        assert_false(has_corrected);
        assert_int_equal(keeper.record->last_success_at_usec, success);
}

/* At the start, and while the clock is set twice, the disk refuses; then it gives the record. */
static void a_record_that_is_read_late_follows_the_steps_that_it_missed(void **state) {
        _cleanup_(freep) char *text = NULL;
        uint64_t before = now(), success;

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        keeper.record->next_attempt_at_usec = before + USEC_PER_HOUR;
        keeper.record->not_before_usec = before + 2 * USEC_PER_HOUR;
        keeper_save(&keeper);
        settle();
        text = small_disk_text(disk.state, "gw.json");
        break_record();
        close_keeper();
        open_keeper();
        assert_int_equal(keeper_load(&keeper), -EIO);
        set_clock(-3 * (int64_t) USEC_PER_DAY, false);
        set_clock(-(int64_t) USEC_PER_HOUR, false);

        small_disk_put(disk.state, "gw.json", text);
        assert_int_equal(keeper_load(&keeper), 0);
        assert_true(keeper_on_clock(&keeper, time_of_day));
        before -= 3 * USEC_PER_DAY + USEC_PER_HOUR;
        assert_int_equal(keeper.record->next_attempt_at_usec, before + USEC_PER_HOUR);
        assert_int_equal(keeper.record->not_before_usec, before + 2 * USEC_PER_HOUR);
        assert_int_equal(keeper.record->last_success_at_usec, success - 3 * USEC_PER_DAY - USEC_PER_HOUR);

        /* It has followed, and does so once. */
        assert_false(keeper_on_clock(&keeper, time_of_day));
        set_clock(USEC_PER_DAY, false);
        assert_int_equal(keeper.record->not_before_usec, before + USEC_PER_DAY + 2 * USEC_PER_HOUR);
}

static void waits_follow_a_clock_that_is_set_while_nobody_runs(void **state) {
        uint64_t before = now(), success;

        assign("hub-1.example");
        success = keeper.record->last_success_at_usec;
        keeper.record->not_before_usec = before + 2 * USEC_PER_HOUR;
        keeper.record->last_poll_at_usec = before;
        keeper.record->polls = 5;
        keeper_note(&keeper, false);
        close_keeper();
        world.realtime_usec += USEC_PER_DAY;
        open_keeper();
        assert_int_equal(keeper_load(&keeper), 0);
        assert_true(keeper_on_clock(&keeper, time_of_day));
        assert_int_equal(keeper.record->not_before_usec, before + USEC_PER_DAY + 2 * USEC_PER_HOUR);
        assert_int_equal(keeper.record->last_poll_at_usec, before + USEC_PER_DAY);
        assert_int_equal(keeper.record->last_success_at_usec, success + USEC_PER_DAY);
}

static void no_wait_stays_no_wait_when_the_clock_is_set(void **state) {
        set_clock(-(int64_t) world.realtime_usec, true);
        assert_int_equal(keeper.record->next_attempt_at_usec, 0);
        assert_int_equal(keeper.record->not_before_usec, 0);
}

/* Fails an attempt while the clock is ahead. */
static void fail_while_ahead(uint64_t by_usec) {
        set_clock((int64_t) by_usec, false);
        assign("hub-1.example");
        timed_world_pass(&world, USEC_PER_HOUR);
        note_error("refused");
        assert_int_equal(record_add_transition(keeper.record, now(), "failed", "refused"), 0);
        keeper.record->attempts = 1;
        keeper.record->transport_at_usec = now();
        keeper.record->next_attempt_at_usec = now() + USEC_PER_MINUTE;
        keeper.record->not_before_usec = now() + 2 * USEC_PER_MINUTE;
        keeper_save(&keeper);
        settle();
}

static void assert_all_are_before(uint64_t usec) {
        const Record *m = keeper.record;

        assert_uint_in_range(m->last_success_at_usec, 1, usec);
        assert_uint_in_range(m->error_at_usec, 1, usec);
        assert_uint_in_range(m->failing_since_usec, 1, usec);
        assert_uint_in_range(m->transport_at_usec, 1, usec);
        assert_uint_in_range(m->assignment->assigned_at_usec, 1, usec);
        assert_uint_in_range(m->transitions[m->n_transitions - 1].at_usec, 1, usec);
}

static void events_of_this_boot_follow_a_clock_that_was_ahead(void **state) {
        uint64_t error, success;

        fail_while_ahead(20 * USEC_PER_DAY);
        error = keeper.record->error_at_usec;
        success = keeper.record->last_success_at_usec;
        set_clock(-20 * (int64_t) USEC_PER_DAY, true);
        assert_true(has_corrected);
        assert_all_are_before(now());
        assert_int_equal(keeper.record->error_at_usec, error - 20 * USEC_PER_DAY);
        assert_int_equal(keeper.record->last_success_at_usec, success - 20 * USEC_PER_DAY);
        assert_int_equal(keeper.record->assignment->assigned_at_usec, success - 20 * USEC_PER_DAY);
        assert_int_equal(keeper.record->next_attempt_at_usec, now() + USEC_PER_MINUTE);
}

static void events_of_an_earlier_boot_do_not_stay_in_the_future(void **state) {
        uint64_t today = now();

        fail_while_ahead(20 * USEC_PER_DAY);
        world.is_unsynchronized = false;
        reboot_at(today);
        (void) keeper_on_clock(&keeper, time_of_day);
        assert_all_are_before(booted());
}

static void waits_noted_while_the_clock_was_ahead_begin_anew(void **state) {
        uint64_t today = now();

        fail_while_ahead(20 * USEC_PER_HOUR);
        world.is_unsynchronized = false;
        reboot_at(today);
        (void) keeper_on_clock(&keeper, time_of_day);
        assert_int_equal(keeper.record->next_attempt_at_usec, now() + USEC_PER_MINUTE);
        assert_int_equal(keeper.record->not_before_usec, now() + 2 * USEC_PER_MINUTE);
}

/* Perhaps they are right, and the clock is behind. */
static void events_stay_in_the_future_of_a_clock_that_is_not_synchronised(void **state) {
        uint64_t success, today = now();

        fail_while_ahead(20 * USEC_PER_DAY);
        success = keeper.record->last_success_at_usec;
        reboot_at(today);
        assert_false(keeper_on_clock(&keeper, time_of_day));
        assert_int_equal(keeper.record->last_success_at_usec, success);

        /* Nobody waits for the clock, and it is looked at all the same. */
        world.is_unsynchronized = false;
        timed_world_pass(&world, 2 * USEC_PER_MINUTE);
        assert_true(has_corrected);
        assert_all_are_before(booted());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest plain[] = {
                TEST(an_assignment_counts_only_when_it_is_durable),
                TEST(the_old_assignment_counts_while_the_new_one_is_saved),
                TEST(an_assignment_that_the_disk_refuses_counts_too),
                TEST(a_save_that_succeeds_again_is_reported),
                TEST(saves_that_began_before_say_nothing_of_one_that_could_not_begin),
                TEST(a_newer_answer_during_a_save_is_the_one_that_counts),
                TEST(an_answer_still_counts_as_one_if_a_token_follows_during_its_save),
                TEST(a_new_token_is_not_an_answer),
                TEST(jobs_are_handed_over_once_when_the_assignment_counts),
                TEST(jobs_of_two_answers_in_one_save_are_handed_over_together),
                TEST(a_fingerprint_that_becomes_known_is_not_a_new_generation),
                TEST(two_answers_in_one_save_are_two_generations),
                TEST(a_generation_is_not_used_again_after_a_drop_and_a_restart),
                TEST(a_success_ends_an_earlier_error),
                TEST(a_success_does_not_end_an_error_that_came_since),
                TEST(a_new_token_does_not_end_an_error),
                TEST(a_new_token_in_a_later_run_is_not_a_success),
                TEST(failing_since_is_the_time_of_the_first_error),
                TEST(a_dropped_assignment_is_removed_from_disk),
                TEST(an_assignment_that_is_dropped_during_its_save_never_counts),
                TEST(an_answer_after_a_drop_during_a_save_counts_once),
                TEST(an_assignment_survives_a_restart),
                TEST(a_record_that_cannot_be_read_is_set_aside),
                TEST(a_record_that_the_disk_does_not_give_is_waited_for_and_not_written_over),
                TEST(a_record_that_the_disk_never_gives_is_replaced_by_the_answer_of_dps_alone),
                TEST(a_record_that_is_being_read_is_waited_for_and_not_written_over),
                TEST(a_record_that_is_being_saved_is_not_read_from_the_disk),
                TEST(a_read_that_does_not_end_fails_and_is_tried_again),
                TEST(what_is_read_after_dps_has_answered_is_of_no_use),
                TEST(what_is_read_after_ten_minutes_is_of_no_use),
                TEST(a_read_ends_with_its_folder_and_with_its_keeper),
                TEST(a_record_that_cannot_be_used_is_set_aside_before_the_next_is_written),
                TEST(a_note_with_the_assignment_is_as_good_as_the_record),
                TEST(a_note_outlives_a_run_that_was_killed),
                TEST(without_a_record_only_the_waits_from_dps_bind_the_next_run),
                TEST(a_record_that_the_disk_refused_survives_a_restart),
                TEST(an_error_of_this_machine_is_not_remembered),
                TEST(an_error_of_an_attempt_is_remembered),
                TEST(counters_are_written_at_most_every_15_minutes),
                TEST(waits_and_the_last_success_are_converted_when_the_clock_is_set),
                TEST(a_success_that_is_being_saved_is_converted_too),
                TEST(the_last_success_is_converted_while_a_token_is_saved),
                TEST(the_success_of_an_earlier_run_of_this_boot_is_converted),
                TEST(the_success_of_an_earlier_boot_keeps_its_time),
                TEST(a_record_that_is_read_late_follows_the_steps_that_it_missed),
                TEST(waits_follow_a_clock_that_is_set_while_nobody_runs),
                TEST(no_wait_stays_no_wait_when_the_clock_is_set),
                TEST(events_of_this_boot_follow_a_clock_that_was_ahead),
                TEST(events_of_an_earlier_boot_do_not_stay_in_the_future),
                TEST(waits_noted_while_the_clock_was_ahead_begin_anew),
                TEST(events_stay_in_the_future_of_a_clock_that_is_not_synchronised),
        };
        struct CMUnitTest tests[ELEMENTSOF(plain) + ELEMENTSOF(generation_cases)];
        size_t n = ELEMENTSOF(plain);

        memcpy(tests, plain, sizeof(plain));
        ADD_ROWS(tests, n, generation_cases, check_generation);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
