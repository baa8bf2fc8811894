/* SPDX-License-Identifier: MIT */
#include "dpsd/store.h"

#include <errno.h>
#include <stdlib.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/conf.h"
#include "credential/issued.h"
#include "dpsd/log.h"

/*
 *      store_save() ──> waiting ──> a commit, in the worker ──> its handlers, one in each turn of the loop
 *                      ^── a newer save overtakes here
 *
 * Only one commit at a time is being written. Earlier commits may still have handlers to call.
 */

#define SUFFIX ".json"

/* A small commit ends sooner, so its first handler is called sooner, and it keeps fewer files open. */
#define COMMIT_MAX 64

/* A handler to call when the save has ended. */
typedef struct Waiter {
        struct Waiter *next;
        store_handler_t handler;
        void *userdata;
} Waiter;

/* A file to be written, or removed. */
typedef struct Save {
        struct Save *next;
        char file[STORE_FILE_SIZE];
        char *text; /* NULL: it is removed */
        Waiter *waiters;
        int r;
} Save;

typedef struct SaveList {
        Save *first, *last;
} SaveList;

typedef struct Commit {
        struct Commit *next; /* the commit that was begun next */
        Store *store;
        Work *work;
        SaveList saves;

        Folder *folder; /* the worker needs only the folder and the files */
        size_t n;
        FileCommit files[]; /* one for each save, in the same order */
} Commit;

struct Store {
        World *world;
        Folder *state, *notes; /* `notes` may be NULL */
        SaveList waiting;
        Commit *commits; /* those with handlers still to call, oldest first */
        Commit *writing; /* the last of them, until it is known to have run */
};

static int file_name(const char *name, char ret[static STORE_FILE_SIZE]) {
        if (!conf_name_is_valid(name))
                return -EINVAL;
        (void) snprintf(ret, STORE_FILE_SIZE, "%s" SUFFIX, name);
        return 0;
}

/* --- saves ---------------------------------------------------------------------------------------------- */

static void append(SaveList *l, Save *s) {
        s->next = NULL;
        if (l->last)
                l->last->next = s;
        else
                l->first = s;
        l->last = s;
}

static Save *pop(SaveList *l) {
        Save *s = l->first;

        if (!s)
                return NULL;
        l->first = s->next;
        if (!l->first)
                l->last = NULL;
        return s;
}

static Save *find(const SaveList *l, const char *file) {
        for (Save *s = l->first; s; s = s->next)
                if (streq(s->file, file))
                        return s;
        return NULL;
}

static Save *save_free(Save *s) {
        if (!s)
                return NULL;

        while (s->waiters) {
                Waiter *w = s->waiters;

                s->waiters = w->next;
                free(w);
        }
        free(s->text);
        free(s);
        return NULL;
}
DEFINE_FREEP(Save, save_free)

static int save_new(const char *name, const Record *record, store_handler_t handler, void *userdata,
                    Save **ret) {
        _cleanup_(save_freep) Save *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        r = file_name(name, s->file);
        if (r < 0)
                return r;
        r = record ? record_to_json(record, &s->text) : 0;
        if (r < 0)
                return r;
        if (handler) {
                s->waiters = malloc(sizeof(*s->waiters));
                if (!s->waiters)
                        return -ENOMEM;
                *s->waiters = (Waiter){ .handler = handler, .userdata = userdata };
        }

        *ret = TAKE_PTR(s);
        return 0;
}

/* The older save keeps its place in the queue and its handlers, and gets the newer text. */
static void save_overtake(Save *older, Save *newer) {
        Waiter **end = &older->waiters;

        free(older->text);
        older->text = TAKE_PTR(newer->text);
        while (*end)
                end = &(*end)->next;
        *end = TAKE_PTR(newer->waiters);
        save_free(newer);
}

static void silence(const SaveList *l, const void *userdata) {
        for (Save *s = l->first; s; s = s->next)
                for (Waiter *w = s->waiters; w; w = w->next)
                        if (w->userdata == userdata)
                                w->handler = NULL;
}

static void free_saves(SaveList *l) {
        Save *s;

        while ((s = pop(l)))
                save_free(s);
}

/* --- commits -------------------------------------------------------------------------------------------- */

static int begin_commit(Store *s);

static void commit_free(void *task) {
        Commit *c = task;

        free_saves(&c->saves);
        free(c);
}

static void commit_run(void *task) {
        Commit *c = task;
        FileCommit *f = c->files;

        if (f->text) {
                folder_commit(c->folder, f, c->n);
                return;
        }
        f->r = folder_remove(c->folder, f->name);
        if (f->r >= 0)
                f->r = folder_sync(c->folder);
}

/* The worker has finished: the next commit can begin while the handlers of this one are called. */
static void end_writing(Store *s) {
        Commit *c = TAKE_PTR(s->writing);
        const FileCommit *f = c->files;
        int r;

        for (Save *i = c->saves.first; i; i = i->next)
                i->r = (f++)->r;
        if (!s->waiting.first)
                return;

        r = begin_commit(s);
        for (Save *i; r < 0 && (i = pop(&s->waiting)); append(&c->saves, i))
                i->r = r;
}

/* Removes the next handler from the commit and returns it. */
static bool next_waiter(Commit *c, Waiter *ret, int *ret_r) {
        Save *s;

        while ((s = c->saves.first)) {
                Waiter *w = s->waiters;

                if (!w) {
                        save_free(pop(&c->saves));
                        continue;
                }
                *ret = *w;
                *ret_r = s->r;
                s->waiters = w->next;
                free(w);
                if (ret->handler)
                        return true;
        }
        return false;
}

/* One handler in each turn of the loop: it may have much to do, and requests may arrive meanwhile. */
static bool commit_tell(void *task) {
        Commit *c = task;
        Waiter waiter;
        int r;

        if (c->store->writing == c)
                end_writing(c->store);
        if (!next_waiter(c, &waiter, &r))
                return false;
        waiter.handler(r, waiter.userdata);
        return true;
}

static void commit_done(void *task) {
        Commit *c = task;
        Commit **p = &c->store->commits;

        while (*p != c)
                p = &(*p)->next;
        *p = c->next;
        commit_free(c);
}

static const WorkClass commit_class = {
        .queue = WORK_DISK,
        .run = commit_run,
        .tell = commit_tell,
        .done = commit_done,
        .free = commit_free,
};

/* Makes a commit of the first waiting saves, but leaves them in the queue. A removal has a commit of its own. */
static int commit_new(Store *s, Commit **ret) {
        size_t n = 0, k = 0;
        Commit *c;

        for (const Save *i = s->waiting.first; i && i->text && n < COMMIT_MAX; i = i->next)
                n++;
        n = MAX(n, 1U);
        c = malloc(sizeof(*c) + n * sizeof(*c->files));
        if (!c)
                return -ENOMEM;
        *c = (Commit){ .store = s, .folder = s->state, .n = n };
        for (const Save *i = s->waiting.first; k < n; i = i->next)
                c->files[k++] = (FileCommit){ .name = i->file, .text = i->text };
        *ret = c;
        return 0;
}

/* On failure all saves are still waiting. */
static int begin_commit(Store *s) {
        Commit *c, **end = &s->commits;
        int r;

        r = commit_new(s, &c);
        if (r < 0)
                return r;
        r = work_begin(s->world, &commit_class, c, &c->work);
        if (r < 0) {
                commit_free(c);
                return r;
        }

        for (size_t k = 0; k < c->n; k++)
                append(&c->saves, pop(&s->waiting));
        while (*end)
                end = &(*end)->next;
        *end = s->writing = c;
        return 0;
}

/* --- the store ------------------------------------------------------------------------------------------ */

int store_new(World *w, Folder *state, Folder *notes, Store **ret) {
        Store *s = malloc(sizeof(*s));

        if (!s)
                return -ENOMEM;
        *s = (Store){ .world = w, .state = state, .notes = notes };

        *ret = s;
        return 0;
}

Store *store_free(Store *s) {
        Commit *next;

        if (!s)
                return NULL;

        store_flush(s);
        work_wait(s->world, WORK_DISK); /* it uses the folders */
        for (Commit *c = s->commits; c; c = next) {
                Waiter waiter;
                int r;

                next = c->next;
                while (next_waiter(c, &waiter, &r))
                        waiter.handler(-ECANCELED, waiter.userdata);
                work_forget(c->work);
        }
        free(s);
        return NULL;
}

void store_note(Store *s, const char *name, const Record *record, bool is_refused) {
        _cleanup_(freep) char *text = NULL;
        char file[STORE_FILE_SIZE];
        Record note = *record;

        note.noted_at_usec = world_now_usec(s->world, CLOCK_REALTIME);
        note.noted_uptime_usec = world_now_usec(s->world, CLOCK_BOOTTIME);
        if (!is_refused) {
                note.assignment = NULL;
                note.n_transitions = 0;
        }
        if (!s->notes || file_name(name, file) < 0)
                return;
        if (record_to_json(&note, &text) >= 0 &&
            folder_write(s->notes, file, text, strlen(text), 0600, (gid_t) -1) >= 0)
                return;
        /* A note that is out of date is worse than none, but not where the disk holds what is older still. */
        if (!is_refused)
                (void) folder_remove(s->notes, file);
}

/* `record` NULL: the file is removed. */
static int queue(Store *s, const char *name, const Record *record, store_handler_t handler, void *userdata) {
        Save *save = NULL, *older;
        int r;

        r = save_new(name, record, handler, userdata, &save);
        if (r < 0)
                return r;

        older = find(&s->waiting, save->file);
        if (older) {
                save_overtake(older, save);
                return 0;
        }
        append(&s->waiting, save);
        if (s->writing)
                return 0;
        r = begin_commit(s);
        if (r < 0)
                free_saves(&s->waiting); /* the queue held only this save */
        return r;
}

int store_save(Store *s, const char *name, const Record *record, bool is_refused, store_handler_t handler,
               void *userdata) {
        store_note(s, name, record, is_refused);
        return queue(s, name, record, handler, userdata);
}

/* --- issued certificates --------------------------------------------------------------------------------- */

typedef struct IssuedSave {
        Folder *state, *notes;
        char *file, *text; /* `text` NULL: removes the files of `name` but `file` */
        char name[CONF_NAME_MAX + 1];
        Settings *settings; /* NULL: no key in a token is to be removed */
        World *world;
        bool has_tokens;
        int r;
        store_handler_t handler;
        void *userdata;
} IssuedSave;

static void issued_free(void *task) {
        IssuedSave *s = task;

        free(s->file);
        erase_and_free(s->text);
        settings_unref(s->settings);
        free(s);
}

static bool is_token_note(const char *file) {
        return endswith(file, TOKEN_NOTE_SUFFIX);
}

static bool has_token_notes(const IssuedSave *s) {
        _cleanup_(strv_freep) char **names = NULL;
        bool found = false;

        if (folder_list(s->state, is_token_note, &names) >= 0)
                STRV_FOREACH(name, names)
                        found = found || token_note_is_of(*name, s->name);
        return found;
}

static void remove_others(Folder *f, const IssuedSave *s) {
        _cleanup_(strv_freep) char **names = NULL;

        if (!f || folder_list(f, issued_file_is_any, &names) < 0)
                return;
        STRV_FOREACH(name, names)
                if (issued_file_is_of(*name, s->name) && !streq_ptr(*name, s->file))
                        (void) folder_remove(f, *name);
}

static void issued_run(void *task) {
        IssuedSave *s = task;
        FileCommit commit = { .name = s->file, .text = s->text };

        if (!s->text) {
                remove_others(s->state, s);
                remove_others(s->notes, s);
                s->has_tokens = s->settings && has_token_notes(s);
                return;
        }
        folder_commit(s->state, &commit, 1);
        if (commit.r == -ENOMEM) /* a shortage that is over is not a disk that is full */
                folder_commit(s->state, &commit, 1);
        s->r = commit.r;
        if (s->r < 0 && s->notes)
                (void) folder_write(s->notes, s->file, s->text, strlen(s->text), 0600, (gid_t) -1);
}

static void issued_done(void *task) {
        IssuedSave *s = task;

        if (s->handler)
                s->handler(s->r, s->userdata);
        if (s->has_tokens)
                issuance_remove_old_keys(s->world, s->settings, s->state, s->notes);
        issued_free(s);
}

static const WorkClass issued_class = {
        .queue = WORK_DISK, .run = issued_run, .done = issued_done, .free = issued_free
};

int store_save_issued(Store *s, const char *file, const char *text, store_handler_t handler, void *userdata,
                      Work **ret) {
        IssuedSave *save = calloc(1, sizeof(*save));
        int r;

        if (!save)
                return -ENOMEM;
        *save = (IssuedSave){ .state = s->state,
                              .notes = s->notes,
                              .file = strdup(file),
                              .text = strdup(text),
                              .handler = handler,
                              .userdata = userdata };
        r = save->file && save->text ? work_begin(s->world, &issued_class, save, ret) : -ENOMEM;
        if (r < 0)
                issued_free(save);
        return r;
}

void store_remove_issued(Store *s, const char *name, const char *fingerprint, Settings *settings) {
        IssuedSave *save = calloc(1, sizeof(*save));
        int r = 0;

        if (!save)
                return;
        *save = (IssuedSave){ .state = s->state,
                              .notes = s->notes,
                              .settings = settings ? settings_ref(settings) : NULL,
                              .world = s->world };
        (void) stpcpy(save->name, name);
        if (fingerprint)
                r = issued_file_name(name, fingerprint, &save->file);
        /* A file that stays costs only its space. */
        if (r < 0 || work_begin(s->world, &issued_class, save, NULL) < 0)
                issued_free(save);
}

Folder *store_state(const Store *s) {
        return s->state;
}

Folder *store_notes(const Store *s) {
        return s->notes;
}

int store_forget(Store *s, const char *name, store_handler_t handler, void *userdata) {
        char file[STORE_FILE_SIZE];
        int r;

        r = file_name(name, file);
        if (r < 0)
                return r;
        if (s->notes)
                (void) folder_remove(s->notes, file);
        store_remove_issued(s, name, NULL, NULL); /* the disk does this before what follows */
        return queue(s, name, NULL, handler, userdata);
}

void store_cancel(Store *s, void *userdata) {
        silence(&s->waiting, userdata);
        for (Commit *c = s->commits; c; c = c->next)
                silence(&c->saves, userdata);
}

/* The newest save of this file that is waiting or being written; NULL: none is. */
static const Save *on_its_way(const Store *s, const char *file) {
        if (!s->writing)
                return NULL;
        return find(&s->waiting, file) ?: find(&s->writing->saves, file);
}

void store_flush(Store *s) {
        while (s->writing) {
                work_wait(s->world, WORK_DISK);
                end_writing(s);
        }
}

/* --- reading -------------------------------------------------------------------------------------------- */

/* Only a file that was opened, and is wrong, says something about its content. -EBADMSG is ours; a file system that
 * finds a wrong checksum says that too. */
static int read_record(Folder *f, const char *file, Record **ret, const char **ret_wrong) {
        _cleanup_(freep) char *text = NULL;
        size_t size;
        int r;

        r = folder_read(f, file, RECORD_SIZE_MAX, &text, &size);
        if (r == -EFBIG || r == -ENOTSUP || r == -EISDIR) {
                *ret_wrong = file_error(r);
                return -EBADMSG;
        }
        if (r < 0)
                return r == -EBADMSG ? -EIO : r;
        return record_from_json(text, size, ret, ret_wrong);
}

bool store_could_not_read(int r) {
        return r < 0 && r != -ENOENT && r != -EBADMSG;
}

/* The note comes first: what may hang comes last, since the folders may be gone when it goes on. */
static void reading_run(void *task) {
        StoreReading *t = task;
        const char *wrong;

        t->note_r = t->notes ? read_record(t->notes, t->file, &t->note, &wrong) : -ENOENT;
        if (t->r >= 0 && !t->record)
                t->r = read_record(t->state, t->file, &t->record, &t->wrong);
}

static void reading_done(void *task) {
        StoreReading *t = task;

        t->handler(t, t->userdata);
}

void store_reading_free(void *task) {
        StoreReading *t = task;

        if (!t)
                return;
        record_free(t->record);
        record_free(t->note);
        free(t);
}

/* They are on one disk, so if it hangs, that keeps one thread. */
static const char *reading_whose(const void *task) {
        return ((const StoreReading *) task)->state->path;
}

static StoreReading *reading_new(Store *s, const char *name) {
        StoreReading *t = malloc(sizeof(*t));
        const Save *save;

        if (!t)
                return NULL;
        *t = (StoreReading){ .state = s->state, .notes = s->notes };
        t->r = file_name(name, t->file);
        save = on_its_way(s, t->file);
        if (save)
                t->r = save->text ? record_from_json(save->text, strlen(save->text), &t->record, &t->wrong)
                                  : -ENOENT;
        t->is_on_its_way = t->record;
        return t;
}

StoreReading *store_load(Store *s, const char *name) {
        StoreReading *t = reading_new(s, name);

        if (t)
                reading_run(t);
        return t;
}

/* Not on WORK_DISK: a record that is being saved is read from memory, and no other save delays the read. */
int store_load_later(Store *s, const char *name, store_reading_handler_t handler, void *userdata,
                     Work **ret) {
        static const WorkClass class = { .queue = WORK_KEYS,
                                         .run = reading_run,
                                         .done = reading_done,
                                         .free = store_reading_free,
                                         .whose = reading_whose };
        StoreReading *t = reading_new(s, name);
        int r;

        if (!t)
                return -ENOMEM;
        t->handler = handler;
        t->userdata = userdata;
        r = work_begin(s->world, &class, t, ret);
        if (r < 0)
                store_reading_free(t);
        return r;
}

static void aside_run(void *task) {
        StoreReading *t = task;

        (void) folder_rename(t->state, t->file, t->corrupt);
}

void store_set_aside(Store *s, const char *name, StoreReading *t) {
        static const WorkClass class = {
                .queue = WORK_DISK, .run = aside_run, .done = store_reading_free, .free = store_reading_free
        };

        (void) stpcpy(stpcpy(t->corrupt, t->file), ".corrupt");
        log_message(LOG_ERR, &(LogFields){ .identity = name },
                    "%s/%s cannot be used: %s; it becomes %s; asking DPS again", t->state->path, t->file,
                    t->wrong, t->corrupt);
        if (work_begin(s->world, &class, t, NULL) < 0)
                store_reading_free(t);
}

/* --- the names ------------------------------------------------------------------------------------------ */

static bool is_record(const char *name) {
        char identity[NAME_MAX + 1];

        if (!endswith(name, SUFFIX))
                return false;
        (void) snprintf(identity, sizeof(identity), "%.*s", (int) (strlen(name) - strlen(SUFFIX)), name);
        return conf_name_is_valid(identity);
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

int store_list(Store *s, char ***ret) {
        char **names = NULL;
        int r;

        r = folder_list(s->state, is_record, &names);
        if (r < 0 && r != -ENOENT)
                return r;

        STRV_FOREACH(name, names)
                (*name)[strlen(*name) - strlen(SUFFIX)] = 0;
        if (names)
                qsort(names, strv_length(names), sizeof(*names), compare_names);
        *ret = names;
        return 0;
}
