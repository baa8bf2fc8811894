/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>

#include "dpsd/identity-view.h"
#include "small-core.h"

/* The life of one identity in several situations. */

static void provision(void) {
        configure("gw", "gw-1");
        answer_assigned("hub-1.example");
        assert_state("gw", IDENTITY_ASSIGNED);
}

static void restart(void) {
        core_stop();
        core_start();
        core_transport.n_connects = core_transport.n_registers = core_key.n_loads = 0;
        configure("gw", "gw-1");
}

/* ---- from nothing to assigned ---- */

static void a_new_identity_becomes_assigned(void **state) {
        configure("gw", "gw-1");
        assert_state("gw", IDENTITY_PROVISIONING);
        assert_int_equal(core_transport.n_connects, 1);
        answer_assigned("hub-1.example");
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_string_equal(identity_assignment(find("gw"))->hub, "hub-1.example");
        assert_int_equal(identity_assignment(find("gw"))->generation, 1);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));
        assert_true(is_published("gw", "token", "hub-1.example%2Fdevices%2Fgw-1 by aaaaaaaa"));
        assert_int_equal(core_transport.n_registers, 1);
        assert_int_equal(core_key.n_loads, 1);
}

static void an_assigned_identity_does_not_wake_before_its_renewal(void **state) {
        TimedTimer *next;

        provision();
        next = timed_world_next(&world);
        assert_non_null(next);
        assert_true(next->at_usec >=
                    world_boottime_of(&world.world, identity_assignment(find("gw"))->renew_at_usec));
}

static void an_assignment_shows_only_when_it_is_durable(void **state) {
        configure("gw", "gw-1");
        world.holds[WORK_DISK] = true;
        answer_assigned("hub-1.example");
        assert_state("gw", IDENTITY_PROVISIONING);
        assert_false(is_published("gw", "connection.json", "hub-1.example"));
        world.holds[WORK_DISK] = false;
        settle();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));
}

static void an_assignment_that_the_disk_refuses_is_served(void **state) {
        configure("gw", "gw-1");
        disk.error = -EROFS;
        answer_assigned("hub-1.example");
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(find("gw")->keeper.record->error.id, DPS_ERROR_DISK);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));

        disk.error = 0;
        timed_world_pass(&world, 11 * USEC_PER_SEC);
        assert_int_equal(find("gw")->keeper.record->error.id, DPS_ERROR_NONE);
        assert_int_equal(core_transport.n_registers, 1);
}

static void with_a_slow_key_an_identity_is_provisioning_until_its_files_are_published(void **state) {
        core_key_class.is_slow = true;
        configure("gw", "gw-1");
        log_in();
        world.holds[WORK_CHIPS] = true;
        answer_assigned("hub-1.example");
        assert_non_null(identity_assignment(find("gw")));
        assert_state("gw", IDENTITY_PROVISIONING);
        assert_int_equal(identity_next_attempt_at_usec(find("gw")), 0);
        assert_false(is_published("gw", "connection.json", "hub-1.example"));

        world.holds[WORK_CHIPS] = false;
        settle();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(identity_next_attempt_at_usec(find("gw")),
                         identity_assignment(find("gw"))->renew_at_usec);
        assert_true(is_published("gw", "token", "by aaaaaaaa"));
        assert_int_equal(core_key.n_loads, 1);
}

/* ---- a registration id that a TPM gives ---- */

static char asked_tpms[64];

static int load_from_tpm(Credential *c, const CredentialSource *source, DpsError *e) {
        size_t n = strlen(asked_tpms);

        (void) snprintf(asked_tpms + n, sizeof(asked_tpms) - n, "%s ", source->settings->tcti);
        dps_error_set(e, DPS_ERROR_KEY, DPS_STEP_CONFIG, "there is no TPM");
        return -ENOKEY;
}

static void configure_tpm(const char *tcti) {
        char text[256];

        (void) snprintf(text, sizeof(text),
                        "Provisioning IdScope 0ne00000001\nProvisioning RegistrationId %%{tpm}\n"
                        "Attestation Method tpm\nAttestation Tcti %s\n",
                        tcti);
        assert_int_equal(manager_configure(manager, "gw", settings_from_lines("gw", text), NULL), 0);
        manager_look_again(manager);
        settle();
}

static void a_reload_that_names_another_tpm_does_not_take_the_answer_of_the_first(void **state) {
        CredentialClass class = core_key_class;

        class.method = METHOD_TPM;
        class.load = load_from_tpm;
        credential_set_class(METHOD_TPM, &class);
        asked_tpms[0] = 0;
        world.holds[WORK_KEYS] = true;
        configure_tpm("device:/dev/first");
        configure_tpm("device:/dev/second");
        configure_tpm("device:/dev/second");
        world.holds[WORK_KEYS] = false;
        settle();
        assert_string_equal(asked_tpms, "device:/dev/second ");
        credential_set_class(METHOD_TPM, NULL);
}

/* ---- a specifier that names a file which does not answer ---- */

/* This file is everywhere. */
#define SLOW_ID "gw-%{file:/proc/sys/kernel/ostype}"

static void a_specifier_that_hangs_is_told_after_half_a_minute(void **state) {
        const Record *r;

        world.holds[WORK_KEYS] = true;
        configure("gw", SLOW_ID);
        assert_state("gw", IDENTITY_UNPROVISIONED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_NOTHING);
        timed_world_pass(&world, 31 * USEC_PER_SEC);
        assert_state("gw", IDENTITY_UNPROVISIONED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_KEY);
        r = find("gw")->keeper.record;
        assert_int_equal(r->error.id, DPS_ERROR_KEY);
        assert_non_null(strstr(r->error.message, "its file system hangs"));
        assert_int_equal(core_transport.n_connects, 0);
}

static void a_specifier_that_hangs_is_not_expanded_a_second_time(void **state) {
        world.holds[WORK_KEYS] = true;
        configure("gw", SLOW_ID);
        timed_world_pass(&world, USEC_PER_DAY);
        manager_look_again(manager);
        settle();
        assert_non_null(world.works);
        assert_null(world.works->next);
}

static void a_specifier_that_answers_at_last_is_used(void **state) {
        world.holds[WORK_KEYS] = true;
        configure("gw", SLOW_ID);
        timed_world_pass(&world, USEC_PER_HOUR);
        world.holds[WORK_KEYS] = false;
        settle();
        assert_int_equal(find("gw")->keeper.record->error.id, DPS_ERROR_NONE);
        answer_assigned("hub-1.example");
        assert_state("gw", IDENTITY_ASSIGNED);
}

static void a_cached_assignment_is_served_while_a_specifier_hangs(void **state) {
        configure("gw", SLOW_ID);
        answer_assigned("hub-1.example");
        core_stop();
        core_start();
        world.holds[WORK_KEYS] = true;
        configure("gw", SLOW_ID);
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_false(find("gw")->plan.is_serving);
        timed_world_pass(&world, 31 * USEC_PER_SEC);
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_KEY);
        assert_true(find("gw")->plan.is_serving);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));

        world.holds[WORK_KEYS] = false;
        settle();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_NOTHING);
        assert_true(is_published("gw", "token", "hub-1.example"));
        assert_int_equal(core_transport.n_connects, 1); /* of the beginning */
}

static void what_was_good_stays_in_force_while_a_new_specifier_hangs(void **state) {
        provision();
        world.holds[WORK_KEYS] = true;
        configure("gw", SLOW_ID);
        timed_world_pass(&world, 31 * USEC_PER_SEC);
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_KEY);
        assert_string_equal(find("gw")->configuration.settings->registration_id, "gw-1");

        configure("gw", "gw-1"); /* corrected, so the specifier does not count any more */
        assert_int_equal(find("gw")->plan.waiting, WAITING_NOTHING);
        assert_null(world.works);
}

/* ---- from the cache ---- */

static void a_start_from_the_cache_does_not_ask_dps(void **state) {
        _cleanup_(freep) char *before = NULL, *after = NULL;

        provision();
        before = published_text("gw", "connection.json");
        timed_world_pass(&world, USEC_PER_HOUR);
        restart();
        assert_state("gw", IDENTITY_ASSIGNED);
        after = published_text("gw", "connection.json");
        assert_non_null(before);
        assert_non_null(after);
        assert_string_equal(before, after);
        assert_int_equal(core_key.n_loads, 1);
        timed_world_pass(&world, USEC_PER_DAY);
        assert_int_equal(core_transport.n_connects, 0);
}

static void a_start_from_the_cache_after_a_reboot_mints_the_same_token(void **state) {
        _cleanup_(freep) char *before = NULL, *after = NULL;

        provision();
        before = published_text("gw", "token");
        core_stop();
        folder_free(disk.notes);
        folder_free(disk.runtime);
        disk.runtime = small_disk_folder("run-of-another-boot", 0755);
        disk.notes = NULL;
        core_start();
        configure("gw", "gw-1");
        after = published_text("gw", "token");
        assert_non_null(before);
        assert_non_null(after);
        assert_string_equal(before, after);
        assert_int_equal(core_transport.n_connects, 1); /* the first run's */
}

static void a_cached_assignment_is_served_while_its_key_is_not_available(void **state) {
        provision();
        core_key.error = DPS_ERROR_KEY;
        restart();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));
        assert_int_equal(core_transport.n_connects, 0);
}

static void another_registration_id_drops_the_assignment(void **state) {
        provision();
        configure("gw", "gw-2");
        assert_null(identity_assignment(find("gw")));
        assert_false(is_published("gw", "connection.json", "hub-1.example"));
        assert_state("gw", IDENTITY_PROVISIONING);
        assert_string_equal(core_transport.last->registration_id, "gw-2");
        answer_assigned("hub-2.example");
        assert_true(is_published("gw", "connection.json", "hub-2.example"));
        assert_int_equal(identity_assignment(find("gw"))->generation, 2);
}

/* ---- requests ---- */

static void a_request_ends_with_its_registration(void **state) {
        uint64_t job;

        provision();
        job = request("gw");
        assert_int_equal(core_told.n_jobs, 0);
        assert_state("gw", IDENTITY_ASSIGNED);
        answer_assigned("hub-2.example");
        assert_int_equal(core_told.n_jobs, 1);
        assert_int_equal(core_told.jobs[0], job);
        assert_true(core_told.job_ok[0]);
        assert_true(is_published("gw", "connection.json", "hub-2.example"));
}

static void a_request_during_a_save_gets_a_registration_of_its_own(void **state) {
        configure("gw", "gw-1");
        world.holds[WORK_DISK] = true;
        answer_assigned("hub-1.example");
        request("gw");
        assert_int_equal(core_transport.n_connects, 2);
        world.holds[WORK_DISK] = false;
        settle();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(core_told.n_jobs, 0);
        answer_assigned("hub-1.example");
        assert_int_equal(core_told.n_jobs, 1);
        assert_true(core_told.job_ok[0]);
}

static void a_refusal_during_a_save_does_not_show_as_failed(void **state) {
        configure("gw", "gw-1");
        world.holds[WORK_DISK] = true;
        answer_assigned("hub-1.example");
        request("gw");
        answer_refused();
        assert_state("gw", IDENTITY_PROVISIONING);
        assert_int_equal(core_told.n_jobs, 1);
        assert_false(core_told.job_ok[0]);
        world.holds[WORK_DISK] = false;
        settle();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(find("gw")->keeper.record->error.id, DPS_ERROR_AUTH);
}

static void a_job_of_an_identity_that_is_removed_fails(void **state) {
        provision();
        request("gw");
        manager_retain(manager, NULL);
        assert_int_equal(core_told.n_jobs, 1);
        assert_false(core_told.job_ok[0]);
}

/* ---- a record that is read while the loop goes on ---- */

static void on_text(int r, char *text, uint64_t expires_at_usec, const DpsError *error, void *userdata);

/* An identity that was retired comes back, and the worker does not come to its record. */
static void return_slowly(void) {
        provision();
        manager_retain(manager, NULL);
        settle();
        core_transport.n_registers = 0;
        world.holds[WORK_KEYS] = true;
        configure("gw", "gw-1");
}

static void nothing_is_done_before_the_record_is_known(void **state) {
        int result = 0;
        Identity *i;

        return_slowly();
        i = find("gw");
        assert_state("gw", IDENTITY_UNPROVISIONED);
        assert_string_equal(identity_waiting_to_string(i->plan.waiting), "");
        assert_null(i->configuration.settings);
        assert_false(core_told.watches_network);
        assert_int_equal(identity_token(i, 0, on_text, &result), -ENODATA);
        world.holds[WORK_KEYS] = false;
        settle();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));
        assert_int_equal(core_transport.n_registers, 0);
}

static void a_request_waits_for_the_record(void **state) {
        uint64_t job;

        return_slowly();
        job = request("gw");
        assert_int_equal(core_told.n_jobs, 0);
        world.holds[WORK_KEYS] = false;
        settle();
        answer_assigned("hub-1.example");
        assert_int_equal(core_told.n_jobs, 1);
        assert_int_equal(core_told.jobs[0], job);
        assert_true(core_told.job_ok[0]);
}

static void an_identity_that_is_removed_while_its_record_is_read_leaves_it_alone(void **state) {
        _cleanup_(freep) char *before = NULL, *after = NULL;

        return_slowly();
        before = small_disk_text(disk.state, "gw.json");
        request("gw");
        manager_retain(manager, NULL);
        assert_int_equal(core_told.n_jobs, 1);
        assert_false(core_told.job_ok[0]);
        world.holds[WORK_KEYS] = false;
        settle();
        after = small_disk_text(disk.state, "gw.json");
        assert_string_equal(before, after);
        configure("gw", "gw-1");
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_int_equal(core_transport.n_registers, 0);
}

static void an_assignment_whose_note_cannot_be_read_has_the_right_times(void **state) {
        _cleanup_(freep) char *note = NULL;

        provision();
        core_stop();
        world.realtime_usec -= USEC_PER_DAY;
        assert_true(asprintf(&note, "%s/gw.json", disk.notes->path) > 0);
        (void) unlink(note);
        assert_int_equal(symlink("/proc/self/mem", note), 0); /* reading it fails with EIO */
        core_start();
        configure("gw", "gw-1");
        assert_true(keeper_waits_to_read(&find("gw")->keeper));
        assert_string_equal(identity_assignment(find("gw"))->hub, "hub-1.example");
        assert_true(identity_assignment(find("gw"))->assigned_at_usec <=
                    world_now_usec(&world.world, CLOCK_REALTIME));
        assert_int_equal(unlink(note), 0);
}

/* ---- failures ---- */

static void a_refused_renewal_does_not_end_the_assignment(void **state) {
        provision();
        request("gw");
        answer_refused();
        assert_state("gw", IDENTITY_ASSIGNED);
        assert_true(is_published("gw", "connection.json", "hub-1.example"));
        assert_int_equal(find("gw")->keeper.record->error.id, DPS_ERROR_AUTH);
}

static void a_final_answer_without_an_assignment_is_failed(void **state) {
        configure("gw", "gw-1");
        answer_refused();
        assert_state("gw", IDENTITY_FAILED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_RETRY);
        assert_true(find("gw")->plan.is_settled);
}

static void an_identity_waits_for_a_key_that_does_not_exist_yet(void **state) {
        core_key.error = DPS_ERROR_KEY;
        configure("gw", "gw-1");
        assert_state("gw", IDENTITY_UNPROVISIONED);
        assert_int_equal(find("gw")->plan.waiting, WAITING_KEY);
        assert_int_equal(core_transport.n_connects, 0);

        core_key.error = DPS_ERROR_NONE;
        timed_world_pass(&world, 11 * USEC_PER_SEC);
        assert_int_equal(core_transport.n_connects, 1);
        answer_assigned("hub-1.example");
        assert_state("gw", IDENTITY_ASSIGNED);
}

static void requests_that_fail_for_want_of_a_key_do_not_use_up_the_limit(void **state) {
        uint64_t job, retry;

        core_key.error = DPS_ERROR_KEY;
        configure("gw", "gw-1");
        for (unsigned k = 0; k < 20; k++) {
                int r = identity_reprovision(find("gw"), false, &job, &retry);

                settle();
                if (r == -EAGAIN)
                        r = identity_reprovision(find("gw"), true, &job, &retry);
                assert_int_equal(r, -ENOKEY);
        }

        core_key.error = DPS_ERROR_NONE;
        core_told.on_files(core_told.files_userdata);
        settle();
        assert_int_equal(core_transport.n_connects, 1);
        request("gw");
}

static void a_key_file_that_appears_is_loaded_at_once(void **state) {
        core_key.error = DPS_ERROR_KEY;
        configure("gw", "gw-1");
        core_key.error = DPS_ERROR_NONE;
        core_told.on_files(core_told.files_userdata);
        settle();
        assert_int_equal(core_transport.n_connects, 1);
}

static uint64_t noted_poll_usec(void) {
        _cleanup_(freep) char *text = NULL;
        const char *member;
        size_t size;

        assert_int_equal(folder_read(disk.notes, "gw.json", RECORD_SIZE_MAX, &text, &size), 0);
        member = strstr(text, "\"lastPollAt\":");
        return member ? strtoull(member + strlen("\"lastPollAt\":"), NULL, 10) : 0;
}

/* DPS may have counted it only then, and who starts after a kill must know. No further poll is sent, since there are five. */
static void a_poll_that_travels_slowly_is_noted_again_when_its_answer_comes(void **state) {
        DpsReply assigning = { .status = 202,
                               .word = DPS_STATUS_ASSIGNING,
                               .operation_id = (char *) "5.x",
                               .has_retry_after = true };
        uint64_t sent;

        configure("gw", "gw-1");
        for (unsigned k = 0; k < DPS_POLLS_MAX; k++) /* the first one answers the register */
                answer(&assigning);
        sent = noted_poll_usec();
        timed_world_pass(&world, 500 * USEC_PER_MSEC);
        answer(&assigning);
        assert_int_equal((noted_poll_usec() - sent) / USEC_PER_MSEC, 500);
}

static bool has_state(const char *file) {
        FileFacts facts;

        return folder_look(disk.state, file, &facts) >= 0;
}

/* A daemon that starts from that record, and with the old configuration, needs them. */
static void pairs_of_a_dropped_assignment_stay_while_the_record_on_disk_names_them(void **state) {
        static const char pair[] = "gw.0123456789abcdef.issued";

        provision();
        assert_int_equal(folder_write(disk.state, pair, "", 0, 0600, (gid_t) -1), 0);
        disk.error = -ENOSPC;
        configure("gw", "gw-2");
        assert_null(identity_assignment(find("gw")));
        assert_true(has_state(pair));
        disk.error = 0;
        timed_world_pass(&world, 11 * USEC_PER_SEC);
        assert_false(has_state(pair));
}

static void on_looked(Identity *i, Credential *credential, const DpsError *error, void *userdata) {
        *(bool *) userdata = true;
}

/* Each change begins the load anew, and none of them ends. */
static void who_waits_for_a_key_is_answered_though_its_file_changes_all_the_time(void **state) {
        uint64_t job, retry;
        bool has_looked = false;

        core_key.error = DPS_ERROR_KEY;
        configure("gw", "gw-1");
        world.holds[WORK_KEYS] = true;
        assert_int_equal(identity_reprovision(find("gw"), false, &job, &retry), -EAGAIN);
        assert_int_equal(identity_wait_for_look(find("gw"), on_looked, &has_looked), 0);
        for (unsigned k = 0; k < 3; k++) {
                assert_false(has_looked);
                timed_world_pass(&world, 50 * USEC_PER_SEC);
                core_told.on_files(core_told.files_userdata);
        }
        assert_true(has_looked);
}

static void a_new_key_is_published_only_when_dps_has_accepted_it(void **state) {
        provision();
        core_change_key('b');
        core_told.on_files(core_told.files_userdata);
        settle();
        assert_true(is_published("gw", "token", "by aaaaaaaa"));
        timed_world_pass(
                &world,
                3 * USEC_PER_MINUTE); /* the random delay of an event that many gateways see at once */
        assert_int_equal(core_transport.n_connects, 2);
        assert_true(is_published("gw", "token", "by aaaaaaaa"));
        answer_assigned("hub-1.example");
        assert_true(is_published("gw", "token", "by bbbbbbbb"));
        assert_int_equal(identity_assignment(find("gw"))->generation, 2);
}

static void on_text(int r, char *text, uint64_t expires_at_usec, const DpsError *error, void *userdata) {
        *(int *) userdata = r;
        erase_and_free(text);
}

/* The assignment still needs the key, while DPS is to be asked with the certificate. */
static void a_token_is_never_signed_by_the_credential_for_dps_alone(void **state) {
        CredentialClass certificate = core_key_class;
        int result = 1;

        certificate.method = METHOD_X509;
        certificate.sign = NULL;
        provision();
        credential_set_class(METHOD_X509, &certificate);
        world.holds[WORK_KEYS] = true;
        assert_int_equal(
                manager_configure(manager, "gw",
                                  settings_from_lines("gw", "Provisioning IdScope 0ne00000001\n"
                                                            "Provisioning RegistrationId gw-1\n"
                                                            "Provisioning Endpoint dps.example\n"
                                                            "Attestation Method x509\n"
                                                            "Attestation Certificate /nowhere/certificate\n"
                                                            "Attestation PrivateKey /nowhere/key\n"),
                                  NULL),
                0);
        manager_look_again(manager);
        settle();
        assert_int_equal(identity_token(find("gw"), 0, on_text, &result), 0);
        assert_int_equal(result, 1);
        world.holds[WORK_KEYS] = false;
        settle();
        assert_int_equal(result, 0);
        credential_set_class(METHOD_X509, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, core_set_up, core_tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_new_identity_becomes_assigned),
                TEST(an_assigned_identity_does_not_wake_before_its_renewal),
                TEST(an_assignment_shows_only_when_it_is_durable),
                TEST(an_assignment_that_the_disk_refuses_is_served),
                TEST(with_a_slow_key_an_identity_is_provisioning_until_its_files_are_published),
                TEST(a_reload_that_names_another_tpm_does_not_take_the_answer_of_the_first),
                TEST(a_specifier_that_hangs_is_told_after_half_a_minute),
                TEST(a_specifier_that_hangs_is_not_expanded_a_second_time),
                TEST(a_specifier_that_answers_at_last_is_used),
                TEST(a_cached_assignment_is_served_while_a_specifier_hangs),
                TEST(what_was_good_stays_in_force_while_a_new_specifier_hangs),
                TEST(a_start_from_the_cache_does_not_ask_dps),
                TEST(a_start_from_the_cache_after_a_reboot_mints_the_same_token),
                TEST(a_cached_assignment_is_served_while_its_key_is_not_available),
                TEST(another_registration_id_drops_the_assignment),
                TEST(a_request_ends_with_its_registration),
                TEST(a_request_during_a_save_gets_a_registration_of_its_own),
                TEST(a_refusal_during_a_save_does_not_show_as_failed),
                TEST(a_job_of_an_identity_that_is_removed_fails),
                TEST(nothing_is_done_before_the_record_is_known),
                TEST(a_request_waits_for_the_record),
                TEST(an_identity_that_is_removed_while_its_record_is_read_leaves_it_alone),
                TEST(an_assignment_whose_note_cannot_be_read_has_the_right_times),
                TEST(a_refused_renewal_does_not_end_the_assignment),
                TEST(a_final_answer_without_an_assignment_is_failed),
                TEST(an_identity_waits_for_a_key_that_does_not_exist_yet),
                TEST(requests_that_fail_for_want_of_a_key_do_not_use_up_the_limit),
                TEST(a_key_file_that_appears_is_loaded_at_once),
                TEST(a_poll_that_travels_slowly_is_noted_again_when_its_answer_comes),
                TEST(pairs_of_a_dropped_assignment_stay_while_the_record_on_disk_names_them),
                TEST(who_waits_for_a_key_is_answered_though_its_file_changes_all_the_time),
                TEST(a_new_key_is_published_only_when_dps_has_accepted_it),
                TEST(a_token_is_never_signed_by_the_credential_for_dps_alone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
