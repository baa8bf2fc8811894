/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "basic/files.h"
#include "basic/text.h"
#include "dpsd/store.h"

#define NOBODY 65534

static char base[32], path[64], runtime[64];
static sd_event *event;
static Store *store;
static State *state;
static char *reason;
static pid_t pid;

static void open_store(void) {
        assert_int_equal(store_new(event, path, runtime, &store, &pid), 0);
}

static int set_up(void **unused) {
        strcpy(base, "/tmp/test-store-XXXXXX");
        assert_non_null(mkdtemp(base));
        assert_int_equal(chmod(base, 0755), 0);
        (void) snprintf(path, sizeof(path), "%s/state", base);
        (void) snprintf(runtime, sizeof(runtime), "%s/run", base);
        assert_true(sd_event_new(&event) >= 0);
        state = NULL;
        reason = NULL;
        pid = 0;
        open_store();
        return 0;
}

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw) {
        return remove(name);
}

static int tear_down(void **unused) {
        store = store_free(store);
        state = state_free(state);
        free(reason);
        event = sd_event_unref(event);
        return nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void save(const char *name, uint32_t attempts) {
        _cleanup_(state_freep) State *s = state_new();

        s->attempts = attempts;
        assert_int_equal(store_save(store, name, s, NULL, NULL), 0);
}

static void put(const char *file, const char *text) {
        assert_int_equal(
                file_write_atomic(store_directory_fd(store), file, text, strlen(text), 0600, (gid_t) -1), 0);
}

static bool exists(const char *file) {
        return faccessat(store_directory_fd(store), file, F_OK, 0) == 0;
}

static mode_t mode_of(const char *file) {
        struct stat st;

        assert_int_equal(fstatat(store_directory_fd(store), file, &st, 0), 0);
        return st.st_mode & 07777;
}

static void what_is_saved_is_loaded(void **unused) {
        save("gw", 3);
        assert_int_equal(store_load(store, "gw", &state, &reason), 0);
        assert_int_equal(state->attempts, 3);
}

static void it_is_loaded_by_the_next_process_too(void **unused) {
        save("gw", 3);
        store = store_free(store);
        open_store();
        assert_int_equal(store_load(store, "gw", &state, &reason), 0);
        assert_int_equal(state->attempts, 3);
}

static void the_newest_is_what_is_loaded(void **unused) {
        for (uint32_t i = 1; i <= 50; i++)
                save("gw", i);
        assert_int_equal(store_load(store, "gw", &state, &reason), 0);
        assert_int_equal(state->attempts, 50);
}

static void nobody_else_can_read_it(void **unused) {
        save("gw", 1);
        store_flush(store);
        assert_int_equal(mode_of("gw.json"), 0600);
        assert_int_equal(mode_of(".lock"), 0600);
        assert_int_equal(mode_of("."), 0700);
}

static void on_saved(int r, void *userdata) {
        int *told = userdata;

        *told = r == 0 ? 1 : r;
}

static void the_handler_is_called_from_the_loop(void **unused) {
        _cleanup_(state_freep) State *s = state_new();
        int told = 0;

        assert_int_equal(store_save(store, "gw", s, on_saved, &told), 0);
        store_flush(store);
        assert_int_equal(told, 0);
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
        assert_int_equal(told, 1);
}

static void after_a_cancel_it_is_not(void **unused) {
        _cleanup_(state_freep) State *s = state_new();
        int told = 0;

        assert_int_equal(store_save(store, "gw", s, on_saved, &told), 0);
        store_cancel(store, &told);
        store_flush(store);
        (void) sd_event_run(event, 0);
        assert_int_equal(told, 0);
}

static void where_there_is_none_that_is_told(void **unused) {
        assert_int_equal(store_load(store, "gw", &state, &reason), -ENOENT);
        assert_null(state);
}

static void a_torn_state_is_set_aside(void **unused) {
        _cleanup_(freep) char *kept = NULL;

        put("gw.json", "{\"version\":1,");
        assert_int_equal(store_load(store, "gw", &state, &reason), -EBADMSG);
        assert_non_null(strstr(reason, "/state/gw.json"));
        assert_non_null(strstr(reason, "gw.json.corrupt: it is not JSON"));
        assert_false(exists("gw.json"));
        assert_int_equal(file_read_at(store_directory_fd(store), "gw.json.corrupt", 100, &kept, NULL), 0);
        assert_string_equal(kept, "{\"version\":1,");
}

static void life_goes_on_after_it(void **unused) {
        put("gw.json", "x");
        assert_int_equal(store_load(store, "gw", &state, &reason), -EBADMSG);
        save("gw", 2);
        assert_int_equal(store_load(store, "gw", &state, &reason), 0);
        assert_int_equal(state->attempts, 2);
}

static void a_huge_file_is_set_aside(void **unused) {
        _cleanup_(closep) int fd =
                openat(store_directory_fd(store), "gw.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(ftruncate(fd, STATE_SIZE_MAX + 1), 0);
        assert_int_equal(store_load(store, "gw", &state, &reason), -EBADMSG);
        assert_non_null(strstr(reason, "too long"));
}

static void a_directory_in_its_place_is_set_aside(void **unused) {
        assert_int_equal(mkdirat(store_directory_fd(store), "gw.json", 0700), 0);
        assert_int_equal(store_load(store, "gw", &state, &reason), -EBADMSG);
        assert_true(exists("gw.json.corrupt"));
        assert_false(exists("gw.json"));
}

static void a_second_daemon_is_kept_out_and_told_by_whom(void **unused) {
        Store *second = NULL;

        assert_int_equal(store_new(event, path, NULL, &second, &pid), -EBUSY);
        assert_int_equal(pid, getpid());
        assert_null(second);
}

static void the_lock_ends_with_its_holder(void **unused) {
        store = store_free(store);
        open_store();
        assert_int_equal(store_load(store, "gw", &state, &reason), -ENOENT);
}

static void the_names_of_states_are_listed_sorted(void **unused) {
        _cleanup_(strv_freep) char **names = NULL;

        save("north", 1);
        save("east", 1);
        store_flush(store);
        put("x.json.corrupt", "{}");
        put(".hidden.json", "{}");
        put("text", "{}");
        assert_int_equal(store_list(store, &names), 0);
        assert_int_equal(strv_length(names), 2);
        assert_string_equal(names[0], "east");
        assert_string_equal(names[1], "north");
}

static void what_is_noted_is_recalled_without_assignment_and_history(void **unused) {
        _cleanup_(state_freep) State *s = state_new(), *note = NULL;

        s->attempts = 3;
        s->last_poll_at_usec = 1700000000000000;
        s->polls = 2;
        assert_int_equal(state_add_transition(s, 1, "provisioning", NULL), 0);
        store_note(store, "gw", s);
        assert_false(exists("gw.json"));
        store = store_free(store);
        open_store();
        assert_int_equal(store_recall(store, "gw", &note), 0);
        assert_int_equal(note->attempts, 3);
        assert_int_equal(note->last_poll_at_usec, 1700000000000000);
        assert_int_equal(note->polls, 2);
        assert_int_equal(note->n_transitions, 0);
}

static void what_the_disk_refuses_is_noted_whole(void **unused) {
        _cleanup_(state_freep) State *s = NULL;
        const char *text =
                "{\"version\":1,\"idScope\":\"0ne1\",\"registrationId\":\"gw\",\"endpoint\":\"dps.example\","
                "\"method\":\"symmetric-key\",\"assignedHub\":\"hub.example\",\"deviceId\":\"gw\","
                "\"generation\":2}";

        assert_int_equal(state_from_json(text, strlen(text), &s, &(const char *){ NULL }), 0);
        assert_int_equal(state_add_transition(s, 1, "assigned", NULL), 0);
        store_note(store, "gw", s);
        assert_int_equal(store_recall(store, "gw", &state), 0);
        assert_null(state->assignment);
        state = state_free(state);

        s->is_refused = true;
        store_note(store, "gw", s);
        store = store_free(store);
        open_store();
        assert_int_equal(store_recall(store, "gw", &state), 0);
        assert_string_equal(state->assignment->hub, "hub.example");
        assert_int_equal(state->n_transitions, 1);
}

static void what_is_saved_is_noted_too(void **unused) {
        save("gw", 1);
        save("gw", 2);
        assert_int_equal(store_recall(store, "gw", &state), 0);
        assert_int_equal(state->attempts, 2);
}

static void a_note_that_cannot_be_replaced_goes(void **unused) {
        _cleanup_(state_freep) State *s = state_new();
        char directory[128];

        save("gw", 1);
        (void) snprintf(directory, sizeof(directory), "%s/run/.waits/gw.json", base);
        assert_int_equal(unlink(directory), 0);
        assert_int_equal(mkdir(directory, 0700), 0);
        store_note(store, "gw", s);
        assert_true(store_recall(store, "gw", &state) < 0);
}

static void a_note_of_somebody_else_is_of_no_use(void **unused) {
        _cleanup_(closep) int fd = -1;
        char note[128];

        save("gw", 1);
        (void) snprintf(note, sizeof(note), "%s/run/.waits/gw.json", base);
        fd = open(note, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, "{\"version\":1,\"polls\":-1}", 24), 24);
        assert_true(store_recall(store, "gw", &state) < 0);
}

static void without_a_runtime_directory_nothing_is_noted(void **unused) {
        store = store_free(store);
        assert_int_equal(store_new(event, path, NULL, &store, &pid), 0);
        save("gw", 1);
        assert_int_equal(store_recall(store, "gw", &state), -ENOENT);
}

static void what_is_forgotten_is_gone(void **unused) {
        save("gw", 1);
        assert_int_equal(store_forget(store, "gw"), 0);
        assert_false(exists("gw.json"));
        assert_int_equal(store_recall(store, "gw", &state), -ENOENT);
        assert_int_equal(store_forget(store, "gw"), -ENOENT);
}

static void a_name_cannot_lead_out_of_the_directory(void **unused) {
        _cleanup_(state_freep) State *s = state_new();

        assert_int_equal(store_save(store, "../gw", s, NULL, NULL), -EINVAL);
        assert_int_equal(store_load(store, "../gw", &state, &reason), -EINVAL);
        assert_int_equal(store_forget(store, "../gw"), -EINVAL);
}

static void what_a_power_cut_left_half_written_is_swept(void **unused) {
        put(".#gw.json0123456789abcdef", "{\"ver");
        store = store_free(store);
        open_store();
        assert_false(exists(".#gw.json0123456789abcdef"));
}

/* For root nothing is read-only by its mode. */
static void become_nobody(void) {
        if (geteuid() == 0)
                assert_int_equal(seteuid(NOBODY), 0);
}

static void become_ourselves(void) {
        if (getuid() == 0)
                assert_int_equal(seteuid(0), 0);
}

static void a_read_only_directory_is_read_and_refuses_to_save(void **unused) {
        _cleanup_(state_freep) State *s = state_new();
        int told = 0;

        put("gw.json", "{\"version\":1,\"attempts\":5}");
        assert_int_equal(fchmodat(store_directory_fd(store), "gw.json", 0644, 0), 0);
        store = store_free(store);
        assert_int_equal(chmod(path, 0555), 0);

        become_nobody();
        open_store();
        assert_int_equal(store_load(store, "gw", &state, &reason), 0);
        assert_int_equal(state->attempts, 5);
        assert_int_equal(store_save(store, "gw", s, on_saved, &told), 0);
        store_flush(store);
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
        assert_int_equal(told, -EACCES);
        store = store_free(store);
        become_ourselves();
        assert_int_equal(chmod(path, 0700), 0);
}

static void a_directory_that_cannot_be_made_is_no_failure_until_it_can(void **unused) {
        _cleanup_(state_freep) State *s = state_new();

        store = store_free(store);
        assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
        assert_int_equal(chmod(base, 0555), 0);

        become_nobody();
        open_store();
        assert_int_equal(store_directory_fd(store), -1);
        assert_int_equal(store_load(store, "gw", &state, &reason), -ENOENT);
        assert_int_equal(store_save(store, "gw", s, NULL, NULL), -EACCES);
        assert_int_equal(store_forget(store, "gw"), -ENOENT);
        become_ourselves();

        assert_int_equal(chmod(base, 0755), 0);
        save("gw", 6);
        assert_int_equal(store_load(store, "gw", &state, &reason), 0);
        assert_int_equal(state->attempts, 6);
}

static void a_path_through_a_file_is_a_failure(void **unused) {
        Store *other = NULL;
        char wrong[96];

        put("file", "");
        (void) snprintf(wrong, sizeof(wrong), "%s/file/state", path);
        assert_int_equal(store_new(event, wrong, NULL, &other, &pid), -ENOTDIR);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(what_is_saved_is_loaded),
                TEST(it_is_loaded_by_the_next_process_too),
                TEST(the_newest_is_what_is_loaded),
                TEST(nobody_else_can_read_it),
                TEST(the_handler_is_called_from_the_loop),
                TEST(after_a_cancel_it_is_not),
                TEST(where_there_is_none_that_is_told),
                TEST(a_torn_state_is_set_aside),
                TEST(life_goes_on_after_it),
                TEST(a_huge_file_is_set_aside),
                TEST(a_directory_in_its_place_is_set_aside),
                TEST(a_second_daemon_is_kept_out_and_told_by_whom),
                TEST(the_lock_ends_with_its_holder),
                TEST(the_names_of_states_are_listed_sorted),
                TEST(what_is_noted_is_recalled_without_assignment_and_history),
                TEST(what_the_disk_refuses_is_noted_whole),
                TEST(what_is_saved_is_noted_too),
                TEST(a_note_that_cannot_be_replaced_goes),
                TEST(without_a_runtime_directory_nothing_is_noted),
                TEST(a_note_of_somebody_else_is_of_no_use),
                TEST(what_is_forgotten_is_gone),
                TEST(a_name_cannot_lead_out_of_the_directory),
                TEST(what_a_power_cut_left_half_written_is_swept),
                TEST(a_read_only_directory_is_read_and_refuses_to_save),
                TEST(a_directory_that_cannot_be_made_is_no_failure_until_it_can),
                TEST(a_path_through_a_file_is_a_failure),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
