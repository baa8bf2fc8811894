/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the above first. */
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "basic/folder-directory.h"
#include "basic/text.h"
#include "basic/world-event.h"
#include "dpsd/log.h"
#include "dpsd/store.h"
#include "remove-tree.h"

#define NOBODY 65534

/* --- a disk as slow and as broken as a test wants it ---------------------------------------------------- */

static struct {
        pthread_mutex_t mutex;
        pthread_cond_t change;
        bool is_closed;  /* while set, no sync of a file returns */
        bool is_reached; /* a sync has begun */
        int file_error, directory_error;
        unsigned n_files, n_directories;
} disk = { .mutex = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER };

static int sync_file(void) {
        disk.n_files++;
        disk.is_reached = true;
        pthread_cond_broadcast(&disk.change);
        while (disk.is_closed)
                pthread_cond_wait(&disk.change, &disk.mutex);
        return disk.file_error;
}

/* Replaces the C library's function. */
int fsync(int fd) {
        struct stat st;
        int e;

        if (fstat(fd, &st) < 0)
                return -1;
        pthread_mutex_lock(&disk.mutex);
        if (S_ISDIR(st.st_mode)) {
                disk.n_directories++;
                e = disk.directory_error;
        } else
                e = sync_file();
        pthread_mutex_unlock(&disk.mutex);
        errno = e;
        return e ? -1 : 0;
}

static void close_gate(void) {
        pthread_mutex_lock(&disk.mutex);
        disk.is_closed = true;
        disk.is_reached = false;
        pthread_mutex_unlock(&disk.mutex);
}

static void wait_for_sync(void) {
        pthread_mutex_lock(&disk.mutex);
        while (!disk.is_reached)
                pthread_cond_wait(&disk.change, &disk.mutex);
        pthread_mutex_unlock(&disk.mutex);
}

static void open_gate(void) {
        pthread_mutex_lock(&disk.mutex);
        disk.is_closed = false;
        pthread_cond_broadcast(&disk.change);
        pthread_mutex_unlock(&disk.mutex);
}

/* --- around each test ----------------------------------------------------------------------------------- */

static char base[32], path[64], runtime[64];
static sd_event *event;
static Store *store;
static Record *record;
static const char *reason; /* why what was loaded last cannot be used */
static pid_t pid;
static World *world;
static Folder *folder, *runtime_folder, *notes;

static void open_store(void) {
        assert_int_equal(world_event_new(event, &world), 0);
        assert_int_equal(directory_folder_new(path, 0700, &folder), 0);
        assert_int_equal(directory_folder_lock(folder, ".lock", &pid), 0);
        assert_int_equal(directory_folder_new(runtime, 0755, &runtime_folder), 0);
        (void) folder_make_folder(runtime_folder, ".waits", 0700, (gid_t) -1, &notes);
        assert_int_equal(store_new(world, folder, notes, &store), 0);
}

static void close_store(void) {
        store = store_free(store);
        world = world_free(world);
        notes = folder_free(notes);
        runtime_folder = folder_free(runtime_folder);
        folder = folder_free(folder);
}

static struct told {
        unsigned n;
        int r;
} a, b;

static void on_written(int r, void *userdata) {
        struct told *t = userdata;

        t->n++;
        t->r = r;
}

/* Waits until the handlers of all present saves were called. */
static void hear(void) {
        store_flush(store);
        while (sd_event_run(event, 0) > 0)
                ;
}

static int set_up(void **unused) {
        strcpy(base, "/tmp/test-store-XXXXXX");
        assert_non_null(mkdtemp(base));
        assert_int_equal(chmod(base, 0755), 0);
        (void) snprintf(path, sizeof(path), "%s/state", base);
        (void) snprintf(runtime, sizeof(runtime), "%s/run", base);
        assert_true(sd_event_new(&event) >= 0);
        log_set_level(LOG_EMERG); /* what is logged is another test's */
        record = NULL;
        reason = NULL;
        pid = 0;
        disk.file_error = disk.directory_error = 0;
        disk.n_files = disk.n_directories = 0;
        a = b = (struct told){ 0 };
        open_store();
        return 0;
}

static int tear_down(void **unused) {
        close_store();
        record = record_free(record);
        event = sd_event_unref(event);
        return remove_tree(base);
}

static void save(const char *name, uint32_t attempts) {
        _cleanup_(record_freep) Record *s = record_new();

        s->attempts = attempts;
        assert_int_equal(store_save(store, name, s, false, NULL, NULL), 0);
}

static void put(const char *file, const char *text) {
        assert_int_equal(folder_write(folder, file, text, strlen(text), 0600, (gid_t) -1), 0);
}

/* 1: the disk does not have it yet. What cannot be used is set aside. */
static int load(const char *name, Record **ret) {
        StoreReading *t = store_load(store, name);
        int r = t->is_on_its_way ? 1 : t->r;

        if (t->record)
                *ret = TAKE_PTR(t->record);
        if (r != -EBADMSG) {
                store_reading_free(t);
                return r;
        }
        reason = t->wrong;
        store_set_aside(store, name, t);
        work_wait(world, WORK_DISK);
        hear();
        return r;
}

static int recall(const char *name, Record **ret) {
        _cleanup_(store_reading_freep) StoreReading *t = store_load(store, name);

        if (t->note)
                *ret = TAKE_PTR(t->note);
        return t->note_r;
}

static char *in_state(const char *file) {
        static char whole[256];

        (void) snprintf(whole, sizeof(whole), "%s/%s", path, file);
        return whole;
}

static bool exists(const char *file) {
        return access(in_state(file), F_OK) == 0;
}

static mode_t mode_of(const char *file) {
        FileFacts facts;

        assert_int_equal(folder_look(folder, file, &facts), 0);
        return facts.mode;
}

static void what_is_saved_is_loaded(void **unused) {
        save("gw", 3);
        assert_int_equal(load("gw", &record), 1); /* on its way: nobody waits for the disk */
        assert_int_equal(record->attempts, 3);
        record = record_free(record);
        store_flush(store);
        assert_int_equal(load("gw", &record), 0);
        assert_int_equal(record->attempts, 3);
}

static void it_is_loaded_by_the_next_process_too(void **unused) {
        save("gw", 3);
        close_store();
        open_store();
        assert_int_equal(load("gw", &record), 0);
        assert_int_equal(record->attempts, 3);
}

static void the_newest_is_what_is_loaded(void **unused) {
        for (uint32_t i = 1; i <= 50; i++)
                save("gw", i);
        assert_int_equal(load("gw", &record), 1);
        assert_int_equal(record->attempts, 50);
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
        _cleanup_(record_freep) Record *s = record_new();
        int told = 0;

        assert_int_equal(store_save(store, "gw", s, false, on_saved, &told), 0);
        store_flush(store);
        assert_int_equal(told, 0);
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
        assert_int_equal(told, 1);
}

static void after_a_cancel_it_is_not(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();
        int told = 0;

        assert_int_equal(store_save(store, "gw", s, false, on_saved, &told), 0);
        store_cancel(store, &told);
        store_flush(store);
        (void) sd_event_run(event, 0);
        assert_int_equal(told, 0);
}

static void where_there_is_none_that_is_told(void **unused) {
        assert_int_equal(load("gw", &record), -ENOENT);
        assert_null(record);
}

static void a_torn_state_is_set_aside(void **unused) {
        _cleanup_(freep) char *kept = NULL;

        put("gw.json", "{\"version\":1,");
        assert_int_equal(load("gw", &record), -EBADMSG);
        assert_non_null(strstr(reason, "it is not JSON"));
        assert_false(exists("gw.json"));
        assert_int_equal(folder_read(folder, "gw.json.corrupt", 100, &kept, NULL), 0);
        assert_string_equal(kept, "{\"version\":1,");
}

static void life_goes_on_after_it(void **unused) {
        put("gw.json", "x");
        assert_int_equal(load("gw", &record), -EBADMSG);
        save("gw", 2);
        assert_int_equal(load("gw", &record), 1);
        assert_int_equal(record->attempts, 2);
}

static void a_huge_file_is_set_aside(void **unused) {
        _cleanup_(closep) int fd = open(in_state("gw.json"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(ftruncate(fd, RECORD_SIZE_MAX + 1), 0);
        assert_int_equal(load("gw", &record), -EBADMSG);
        assert_non_null(strstr(reason, "too large"));
}

static void a_directory_in_its_place_is_set_aside(void **unused) {
        assert_int_equal(mkdir(in_state("gw.json"), 0700), 0);
        assert_int_equal(load("gw", &record), -EBADMSG);
        assert_true(exists("gw.json.corrupt"));
        assert_false(exists("gw.json"));
}

static void a_fifo_in_its_place_is_set_aside(void **unused) {
        assert_int_equal(mkfifo(in_state("gw.json"), 0600), 0);
        assert_int_equal(load("gw", &record), -EBADMSG);
        assert_non_null(strstr(reason, "it is not a regular file"));
        assert_true(exists("gw.json.corrupt"));
}

/* Reading /proc/self/mem from its beginning fails with EIO. */
static void a_file_that_the_disk_does_not_give_is_not_set_aside(void **unused) {
        assert_int_equal(symlink("/proc/self/mem", in_state("gw.json")), 0);
        assert_int_equal(load("gw", &record), -EIO);
        assert_true(store_could_not_read(-EIO));
        assert_true(exists("gw.json"));
        assert_false(exists("gw.json.corrupt"));
}

static void the_lock_ends_with_its_holder(void **unused) {
        close_store();
        open_store();
        assert_int_equal(load("gw", &record), -ENOENT);
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
        _cleanup_(record_freep) Record *s = record_new(), *note = NULL;

        s->attempts = 3;
        s->last_poll_at_usec = 1700000000000000;
        s->polls = 2;
        assert_int_equal(record_add_transition(s, 1, "provisioning", NULL), 0);
        store_note(store, "gw", s, false);
        assert_false(exists("gw.json"));
        close_store();
        open_store();
        assert_int_equal(recall("gw", &note), 0);
        assert_int_equal(note->attempts, 3);
        assert_int_equal(note->last_poll_at_usec, 1700000000000000);
        assert_int_equal(note->polls, 2);
        assert_int_equal(note->n_transitions, 0);
}

static void what_the_disk_refuses_is_noted_whole(void **unused) {
        _cleanup_(record_freep) Record *s = NULL;
        const char *text =
                "{\"version\":1,\"idScope\":\"0ne1\",\"registrationId\":\"gw\",\"endpoint\":\"dps.example\","
                "\"method\":\"symmetric-key\",\"assignedHub\":\"hub.example\",\"deviceId\":\"gw\","
                "\"generation\":2}";

        assert_int_equal(record_from_json(text, strlen(text), &s, &(const char *){ NULL }), 0);
        assert_int_equal(record_add_transition(s, 1, "assigned", NULL), 0);
        store_note(store, "gw", s, false);
        assert_int_equal(recall("gw", &record), 0);
        assert_null(record->assignment);
        record = record_free(record);

        store_note(store, "gw", s, true);
        close_store();
        open_store();
        assert_int_equal(recall("gw", &record), 0);
        assert_string_equal(record->assignment->hub, "hub.example");
        assert_int_equal(record->n_transitions, 1);
}

/* The disk holds what is older still, if anything. */
static void a_whole_note_that_cannot_be_replaced_stays(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();
        struct rlimit limit, none;

        s->attempts = 1;
        store_note(store, "gw", s, true);
        s->attempts = 2;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        none = (struct rlimit){ .rlim_max = limit.rlim_max };
        (void) signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
        store_note(store, "gw", s, true);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(recall("gw", &record), 0);
        assert_int_equal(record->attempts, 1);
}

static void what_is_saved_is_noted_too(void **unused) {
        save("gw", 1);
        save("gw", 2);
        assert_int_equal(recall("gw", &record), 0);
        assert_int_equal(record->attempts, 2);
}

static void a_note_that_cannot_be_replaced_goes(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();
        char directory[128];

        save("gw", 1);
        (void) snprintf(directory, sizeof(directory), "%s/run/.waits/gw.json", base);
        assert_int_equal(unlink(directory), 0);
        assert_int_equal(mkdir(directory, 0700), 0);
        store_note(store, "gw", s, false);
        assert_true(recall("gw", &record) < 0);
}

static void a_note_of_somebody_else_is_of_no_use(void **unused) {
        _cleanup_(closep) int fd = -1;
        char note[128];

        save("gw", 1);
        (void) snprintf(note, sizeof(note), "%s/run/.waits/gw.json", base);
        fd = open(note, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_int_equal(write(fd, "{\"version\":0,\"polls\":-1}", 24), 24);
        assert_true(recall("gw", &record) < 0);
}

static void without_a_runtime_directory_nothing_is_noted(void **unused) {
        close_store();
        open_store();
        store = store_free(store);
        assert_int_equal(store_new(world, folder, NULL, &store), 0);
        save("gw", 1);
        assert_int_equal(recall("gw", &record), -ENOENT);
}

/* Returns what its handler is told. */
static int forget(const char *name) {
        struct told told = { .r = 1 };

        assert_int_equal(store_forget(store, name, on_written, &told), 0);
        hear();
        assert_int_equal(told.n, 1);
        return told.r;
}

static void what_is_forgotten_is_gone(void **unused) {
        save("gw", 1);
        hear();
        assert_int_equal(forget("gw"), 0);
        assert_false(exists("gw.json"));
        assert_int_equal(recall("gw", &record), -ENOENT);
        assert_int_equal(forget("gw"), -ENOENT);
}

static void what_cannot_be_made_durable_is_not_forgotten(void **unused) {
        save("gw", 1);
        hear();
        disk.directory_error = EIO;
        assert_int_equal(forget("gw"), -EIO);
}

static void a_name_cannot_lead_out_of_the_directory(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();

        assert_int_equal(store_save(store, "../gw", s, false, NULL, NULL), -EINVAL);
        assert_int_equal(load("../gw", &record), -EINVAL);
        assert_int_equal(store_forget(store, "../gw", NULL, NULL), -EINVAL);
}

static void what_a_power_cut_left_half_written_is_swept(void **unused) {
        put(".#gw.json0123456789abcdef", "{\"ver");
        close_store();
        open_store();
        assert_false(exists(".#gw.json0123456789abcdef"));
}

/* Root can write even where the mode forbids it, so the test changes its uid. */
static void become_nobody(void) {
        if (geteuid() == 0)
                assert_int_equal(seteuid(NOBODY), 0);
}

static void become_ourselves(void) {
        if (getuid() == 0)
                assert_int_equal(seteuid(0), 0);
}

static void a_read_only_directory_is_read_and_refuses_to_save(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();
        int told = 0;

        put("gw.json", "{\"version\":1,\"attempts\":5}");
        assert_int_equal(chmod(in_state("gw.json"), 0644), 0);
        close_store();
        assert_int_equal(chmod(path, 0555), 0);

        become_nobody();
        open_store();
        assert_int_equal(load("gw", &record), 0);
        assert_int_equal(record->attempts, 5);
        assert_int_equal(store_save(store, "gw", s, false, on_saved, &told), 0);
        store_flush(store);
        assert_true(sd_event_run(event, UINT64_MAX) > 0);
        assert_int_equal(told, -EACCES);
        close_store();
        become_ourselves();
        assert_int_equal(chmod(path, 0700), 0);
}

static void a_file_of_somebody_else_is_not_set_aside(void **unused) {
        put("gw.json", "{}");
        close_store();
        assert_int_equal(chmod(path, 0755), 0);
        become_nobody();
        open_store();
        assert_int_equal(load("gw", &record), geteuid() == NOBODY ? -EACCES : -EBADMSG);
        become_ourselves();
        if (geteuid() == 0)
                assert_true(exists("gw.json"));
}

static void a_directory_of_somebody_else_is_not_an_empty_one(void **unused) {
        put("gw.json", "{}");
        close_store();
        become_nobody();
        open_store();
        assert_int_equal(load("gw", &record), geteuid() == NOBODY ? -EACCES : -EBADMSG);
        become_ourselves();
}

static void a_directory_that_cannot_be_made_is_no_failure_until_it_can(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();
        int told = 0;

        close_store();
        assert_int_equal(remove_tree(path), 0);
        assert_int_equal(chmod(base, 0555), 0);

        become_nobody();
        open_store();
        assert_false(directory_folder_is_open(folder));
        assert_int_equal(load("gw", &record), -ENOENT);
        assert_int_equal(store_save(store, "gw", s, false, on_saved, &told), 0);
        store_flush(store);
        hear();
        assert_int_equal(told, -EACCES);
        assert_int_equal(forget("gw"), -ENOENT);
        become_ourselves();

        assert_int_equal(chmod(base, 0755), 0);
        save("gw", 6);
        assert_int_equal(load("gw", &record), 1);
        assert_int_equal(record->attempts, 6);
}

/* --- many saves ----------------------------------------------------------------------------------------- */

static void save_and_tell(const char *name, uint32_t attempts, struct told *told) {
        _cleanup_(record_freep) Record *s = record_new();

        s->attempts = attempts;
        assert_int_equal(store_save(store, name, s, false, told ? on_written : NULL, told), 0);
}

static void assert_saved(const char *name, uint32_t attempts) {
        _cleanup_(record_freep) Record *found = NULL;

        assert_int_equal(load(name, &found), 0);
        assert_int_equal(found->attempts, attempts);
}

/* Later saves gather behind this one until the gate opens. */
static void begin_slow_save(void) {
        close_gate();
        save("first", 1);
        wait_for_sync();
}

static void nobody_is_told_before_it_is_durable(void **unused) {
        close_gate();
        save_and_tell("gw", 1, &a);
        wait_for_sync();
        while (sd_event_run(event, 0) > 0)
                ;
        assert_int_equal(a.n, 0);
        assert_false(exists("gw.json"));
        open_gate();
        hear();
        assert_int_equal(a.n, 1);
        assert_int_equal(a.r, 0);
}

static void assert_the_newer_of_two_is_saved(void) {
        open_gate();
        hear();
        assert_saved("gw", 2);
        assert_int_equal(disk.n_files, 2);
        assert_int_equal(a.n, 1);
        assert_int_equal(b.n, 1);
}

static void a_newer_record_overtakes_one_that_waits(void **unused) {
        begin_slow_save();
        save_and_tell("gw", 1, &a);
        save_and_tell("gw", 2, &b);
        assert_the_newer_of_two_is_saved();
}

static void a_newer_record_follows_one_that_is_being_written(void **unused) {
        close_gate();
        save_and_tell("gw", 1, &a);
        wait_for_sync();
        save_and_tell("gw", 2, &b);
        assert_the_newer_of_two_is_saved();
}

static void what_has_gathered_is_made_durable_together(void **unused) {
        begin_slow_save();
        for (char name[] = "a"; *name <= 'z'; ++*name)
                save_and_tell(name, 1, &a);
        open_gate();
        hear();
        assert_int_equal(a.n, 26);
        assert_int_equal(disk.n_files, 27);
        assert_int_equal(disk.n_directories, 2);
}

static void more_than_can_be_open_at_once_is_written_all_the_same(void **unused) {
        begin_slow_save();
        for (unsigned i = 0; i < 200; i++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "gw-%u", i);
                save_and_tell(name, i, &a);
        }
        open_gate();
        hear();
        assert_int_equal(a.n, 200);
        assert_saved("gw-199", 199);
}

static void the_loop_begins_what_has_gathered(void **unused) {
        begin_slow_save();
        save_and_tell("gw", 1, &a);
        open_gate();
        while (a.n == 0)
                assert_true(sd_event_run(event, UINT64_MAX) > 0);
        assert_int_equal(a.r, 0);
        assert_true(exists("gw.json"));
}

static void one_result_is_told_in_each_turn(void **unused) {
        begin_slow_save();
        for (char name[] = "a"; *name <= 'd'; ++*name)
                save_and_tell(name, 1, &a);
        open_gate();
        store_flush(store);
        for (unsigned n = 0; a.n < 4; n = a.n) {
                assert_true(sd_event_run(event, 0) > 0);
                assert_uint_in_range(a.n, n, n + 1);
        }
}

static void on_written_save_again(int r, void *userdata) {
        on_written(r, userdata);
        save_and_tell("gw", 2, &b);
        save_and_tell("other", 3, &b);
}

static void a_handler_may_save(void **unused) {
        _cleanup_(record_freep) Record *s = record_new();

        assert_int_equal(store_save(store, "gw", s, false, on_written_save_again, &a), 0);
        hear();
        hear();
        assert_int_equal(a.n, 1);
        assert_int_equal(b.n, 2);
        assert_int_equal(b.r, 0);
        assert_saved("gw", 2);
        assert_saved("other", 3);
}

static void a_full_disk_leaves_the_old_record(void **unused) {
        save("gw", 1);
        store_flush(store);
        disk.file_error = ENOSPC;
        save_and_tell("gw", 2, &a);
        hear();
        assert_int_equal(a.r, -ENOSPC);
        assert_saved("gw", 1);
        disk.file_error = 0;
        save_and_tell("gw", 3, &b);
        hear();
        assert_int_equal(b.r, 0);
        assert_saved("gw", 3);
}

static void one_save_that_fails_harms_no_other(void **unused) {
        assert_int_equal(mkdir(in_state("x.json"), 0700), 0);
        begin_slow_save();
        save_and_tell("x", 1, &a);
        save_and_tell("z", 1, &b);
        open_gate();
        hear();
        assert_int_equal(a.r, -EISDIR);
        assert_int_equal(b.r, 0);
        assert_saved("z", 1);
}

static void who_has_cancelled_is_not_called(void **unused) {
        close_gate();
        save_and_tell("x", 1, &a);
        wait_for_sync();
        save_and_tell("y", 1, &a);
        save_and_tell("y", 2, &b);
        store_cancel(store, &a);
        open_gate();
        hear();
        assert_int_equal(a.n, 0);
        assert_int_equal(b.n, 1);
        assert_saved("y", 2);
}

static void the_end_waits_for_what_has_gathered(void **unused) {
        begin_slow_save();
        save("x", 1);
        open_gate();
        close_store();
        open_store();
        assert_saved("x", 1);
}

static void what_waits_is_forgotten_too(void **unused) {
        put("gw.json", "{}");
        begin_slow_save();
        save("gw", 1);
        assert_int_equal(store_forget(store, "gw", on_written, &a), 0); /* does not wait for the disk */
        assert_int_equal(load("gw", &record), -ENOENT);
        assert_int_equal(a.n, 0);
        open_gate();
        hear();
        assert_int_equal(a.n, 1);
        assert_int_equal(a.r, 0);
        assert_false(exists("gw.json"));
        assert_saved("first", 1);
}

static void what_is_being_written_is_forgotten_behind_it(void **unused) {
        close_gate();
        save("gw", 1);
        wait_for_sync();
        assert_int_equal(store_forget(store, "gw", on_written, &a), 0);
        assert_int_equal(load("gw", &record), -ENOENT);
        open_gate();
        hear();
        assert_int_equal(a.r, 0);
        assert_false(exists("gw.json"));
}

static void what_is_saved_after_it_was_forgotten_stays(void **unused) {
        begin_slow_save();
        assert_int_equal(store_forget(store, "gw", on_written, &a), 0);
        save_and_tell("other", 1, NULL);
        save_and_tell("gw", 2, &b);
        open_gate();
        hear();
        assert_int_equal(a.n, 1);
        assert_int_equal(b.n, 1);
        assert_saved("gw", 2);
        assert_saved("other", 1);
}

static void at_the_end_it_is_forgotten_and_told_so(void **unused) {
        put("gw.json", "{}");
        begin_slow_save();
        assert_int_equal(store_forget(store, "gw", on_written, &a), 0);
        open_gate();
        close_store();
        assert_int_equal(a.n, 1);
        assert_int_equal(a.r, -ECANCELED);
        assert_false(exists("gw.json"));
        open_store();
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
                TEST(a_fifo_in_its_place_is_set_aside),
                TEST(a_file_that_the_disk_does_not_give_is_not_set_aside),
                TEST(a_file_of_somebody_else_is_not_set_aside),
                TEST(a_directory_of_somebody_else_is_not_an_empty_one),
                TEST(the_lock_ends_with_its_holder),
                TEST(the_names_of_states_are_listed_sorted),
                TEST(what_is_noted_is_recalled_without_assignment_and_history),
                TEST(what_the_disk_refuses_is_noted_whole),
                TEST(what_is_saved_is_noted_too),
                TEST(a_note_that_cannot_be_replaced_goes),
                TEST(a_whole_note_that_cannot_be_replaced_stays),
                TEST(without_a_runtime_directory_nothing_is_noted),
                TEST(a_note_of_somebody_else_is_of_no_use),
                TEST(what_is_forgotten_is_gone),
                TEST(what_cannot_be_made_durable_is_not_forgotten),
                TEST(a_name_cannot_lead_out_of_the_directory),
                TEST(what_a_power_cut_left_half_written_is_swept),
                TEST(a_read_only_directory_is_read_and_refuses_to_save),
                TEST(a_directory_that_cannot_be_made_is_no_failure_until_it_can),
                TEST(nobody_is_told_before_it_is_durable),
                TEST(a_newer_record_overtakes_one_that_waits),
                TEST(a_newer_record_follows_one_that_is_being_written),
                TEST(what_has_gathered_is_made_durable_together),
                TEST(more_than_can_be_open_at_once_is_written_all_the_same),
                TEST(the_loop_begins_what_has_gathered),
                TEST(one_result_is_told_in_each_turn),
                TEST(a_handler_may_save),
                TEST(a_full_disk_leaves_the_old_record),
                TEST(one_save_that_fails_harms_no_other),
                TEST(who_has_cancelled_is_not_called),
                TEST(the_end_waits_for_what_has_gathered),
                TEST(what_waits_is_forgotten_too),
                TEST(what_is_being_written_is_forgotten_behind_it),
                TEST(what_is_saved_after_it_was_forgotten_stays),
                TEST(at_the_end_it_is_forgotten_and_told_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
