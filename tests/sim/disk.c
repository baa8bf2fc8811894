/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <errno.h>
#include <string.h>

#include "basic/text.h"
#include "checks.h"
#include "memory.h"

#define NOTES_FOLDER ".waits"

/* A file, or a folder (`text` and `durable` NULL, `is_folder`). */
typedef struct File {
        struct File *next;
        uint64_t hash; /* of the next three, which takes less time to compare */
        Where where;
        char *folder, *name; /* "" for files at the top */
        bool is_folder;
        char *text;         /* NULL: it is not there now … */
        char *durable;      /* … and after a power cut at worst */
        uint64_t n_changes; /* of a folder: of the disk, when a file in it changed last */
        mode_t mode;
        gid_t gid;
} File;

struct Disk {
        Sim *sim;
        File *files;
        DiskFault fault;
        unsigned life; /* Folders of an earlier one are dead */
        bool is_dying;
        unsigned steps_left;
        uint64_t n_changes;
        Random dice;
        uid_t uid; /* whose files they are */
};

typedef struct SimFolder {
        Folder folder;
        Disk *disk;
        Where where;
        unsigned life;
        char *path, *inside; /* "" at the top */
} SimFolder;

static const FolderOperations operations;

static SimFolder *folder_of(Folder *f) {
        return (SimFolder *) f;
}

static uint64_t hash_of(Where where, const char *folder, const char *name) {
        uint64_t hash = where;

        for (const char *p = folder; *p; p++)
                hash = hash * 31 + (unsigned char) *p;
        for (const char *p = name; *p; p++)
                hash = hash * 37 + (unsigned char) *p;
        return hash;
}

static File *find(const Disk *d, Where where, const char *folder, const char *name) {
        uint64_t hash = hash_of(where, folder, name);

        for (File *f = d->files; f; f = f->next)
                if (f->hash == hash && f->where == where && streq(f->folder, folder) && streq(f->name, name))
                        return f;
        return NULL;
}

static bool is_there(const File *f) {
        return f && (f->text || f->is_folder);
}

static File *make(Disk *d, Where where, const char *folder, const char *name) {
        File *f = find(d, where, folder, name);

        if (f)
                return f;
        f = sim_alloc(sizeof(*f));
        *f = (File){ .next = d->files,
                     .hash = hash_of(where, folder, name),
                     .where = where,
                     .folder = sim_copy(folder),
                     .name = sim_copy(name),
                     .mode = 0600 };
        d->files = f;
        return f;
}

static void set_text(char **text, const char *new) {
        char *copy = sim_copy(new);

        sim_free(*text);
        *text = copy;
}

/* Whether a step of a Folder still happens. */
static bool is_alive(SimFolder *f) {
        if (f->life != f->disk->life)
                return false;
        if (!f->disk->is_dying)
                return true;
        if (f->disk->steps_left == 0)
                return false;
        f->disk->steps_left--;
        return true;
}

static int write_fault(const SimFolder *f) {
        if (f->where == WHERE_RUNTIME)
                return f->disk->fault == DISK_FAULT_RUNTIME_FULL ? -ENOSPC : 0;
        switch (f->disk->fault) {
        case DISK_FAULT_FULL:
                return -ENOSPC;
        case DISK_FAULT_READ_ONLY:
                return -EROFS;
        case DISK_FAULT_BROKEN:
                return -EIO;
        case DISK_FAULT_NONE:
        case DISK_FAULT_RUNTIME_FULL:
        case _DISK_FAULT_MAX:
                return 0;
        }
        return 0;
}

static void count_change(SimFolder *f) {
        File *folder = find(f->disk, f->where, "", f->inside);

        f->disk->n_changes++;
        if (folder)
                folder->n_changes = f->disk->n_changes;
}

static void changed(SimFolder *f, const char *name) {
        count_change(f);
        if (f->where == WHERE_RUNTIME)
                checks_published(f->disk->sim, f->inside, name);
}

static File *file_free(File *f) {
        sim_free(f->folder);
        sim_free(f->name);
        sim_free(f->text);
        sim_free(f->durable);
        sim_free(f);
        return NULL;
}

/* What is not there, and does not come back after a power cut, would only have to be searched: thousands of files come and go. */
static void drop_gone(Disk *d) {
        for (File **p = &d->files; *p;) {
                File *f = *p;

                if (is_there(f) || f->durable || f->n_changes > 0)
                        p = &f->next;
                else {
                        *p = f->next;
                        file_free(f);
                }
        }
}

/* ---- operations ---- */

static int sim_read(Folder *folder, const char *name, size_t max, char **ret, size_t *ret_size) {
        SimFolder *f = folder_of(folder);
        File *file = find(f->disk, f->where, f->inside, name);
        size_t size;

        if (f->where == WHERE_STATE && f->disk->fault == DISK_FAULT_BROKEN)
                return -EIO;
        if (!is_there(file))
                return -ENOENT;
        if (file->is_folder)
                return -ENOTSUP;
        size = strlen(file->text);
        if (size > max)
                return -EFBIG;
        *ret = strdup(file->text);
        if (!*ret)
                return -ENOMEM;
        *ret_size = size;
        return 0;
}

static int sim_write(Folder *folder, const char *name, const char *text, size_t size, mode_t mode,
                     gid_t gid) {
        SimFolder *f = folder_of(folder);
        int r = write_fault(f);
        File *file;

        if (r < 0 && streq(f->inside, NOTES_FOLDER))
                checks_note_refused(f->disk->sim, name);
        if (r < 0)
                return r;
        if (*f->inside && !is_there(find(f->disk, f->where, "", f->inside)))
                return -ENOENT;
        if (!is_alive(f))
                return -EIO;
        checks_written(f->disk->sim, f->where == WHERE_STATE || startswith(f->inside, "."), f->inside, name,
                       text);
        file = make(f->disk, f->where, f->inside, name);
        set_text(&file->text, text);
        file->mode = mode;
        file->gid = gid == (gid_t) -1 ? 0 : gid;
        changed(f, name);
        return 0;
}

/* A power cut may come between any two steps. */
static void sim_commit(Folder *folder, FileCommit *files, size_t n) {
        SimFolder *f = folder_of(folder);
        int r = write_fault(f);

        for (size_t k = 0; k < n; k++) {
                files[k].r = r;
                if (r < 0)
                        continue;
                if (!is_alive(f)) {
                        files[k].r = -EIO;
                        continue;
                }
                checks_written(f->disk->sim, true, f->inside, files[k].name, files[k].text);
                set_text(&make(f->disk, f->where, f->inside, files[k].name)->text, files[k].text);
                count_change(f);
        }
        for (size_t k = 0; r >= 0 && k < n; k++) {
                File *file = find(f->disk, f->where, f->inside, files[k].name);

                if (files[k].r < 0 || !is_alive(f)) {
                        files[k].r = files[k].r < 0 ? files[k].r : -EIO;
                        continue;
                }
                set_text(&file->durable, file->text);
        }
}

static int sim_remove(Folder *folder, const char *name) {
        SimFolder *f = folder_of(folder);
        File *file = find(f->disk, f->where, f->inside, name);
        int r = write_fault(f);

        if (!is_there(file) || file->is_folder)
                return -ENOENT;
        if (r < 0 && r != -ENOSPC)
                return r;
        if (!is_alive(f))
                return -EIO;
        set_text(&file->text, NULL);
        changed(f, name);
        return 0;
}

static int sim_rename(Folder *folder, const char *from, const char *to) {
        SimFolder *f = folder_of(folder);
        File *file = find(f->disk, f->where, f->inside, from);
        int r = write_fault(f);

        if (r < 0)
                return r;
        if (!is_there(file))
                return -ENOENT;
        if (!is_alive(f))
                return -EIO;
        set_text(&make(f->disk, f->where, f->inside, to)->text, file->text);
        set_text(&file->text, NULL);
        count_change(f);
        return 0;
}

static int sim_sync(Folder *folder) {
        SimFolder *f = folder_of(folder);
        int r = write_fault(f);

        if (r < 0 && r != -ENOSPC)
                return r;
        if (!is_alive(f))
                return -EIO;
        for (File *file = f->disk->files; file; file = file->next)
                if (file->where == f->where && streq(file->folder, f->inside))
                        set_text(&file->durable, file->text);
        drop_gone(f->disk);
        return 0;
}

static int sim_list(Folder *folder, bool (*is_wanted)(const char *name), char ***ret) {
        SimFolder *f = folder_of(folder);
        char **names = NULL;
        int r;

        if (f->where == WHERE_STATE && f->disk->fault == DISK_FAULT_BROKEN)
                return -EIO;
        for (File *file = f->disk->files; file; file = file->next) {
                if (file->where != f->where || !streq(file->folder, f->inside) || !is_there(file) ||
                    !is_wanted(file->name))
                        continue;
                r = strv_append(&names, file->name);
                if (r < 0) {
                        strv_free(names);
                        return r;
                }
        }
        *ret = names;
        return 0;
}

static int sim_look(Folder *folder, const char *name, FileFacts *ret) {
        SimFolder *f = folder_of(folder);
        File *file = streq(name, ".") ? find(f->disk, f->where, "", f->inside)
                                      : find(f->disk, f->where, f->inside, name);

        if (streq(name, ".") && !*f->inside) {
                *ret = (FileFacts){ .mode = 0755 };
                return 0;
        }
        if (!is_there(file))
                return -ENOENT;
        *ret = (FileFacts){ .is_regular = !file->is_folder,
                            .size = file->text ? strlen(file->text) : 0,
                            .mode = file->mode,
                            .uid = f->disk->uid,
                            .gid = file->gid };
        return 0;
}

static SimFolder *folder_new(Disk *d, Where where, const char *path, const char *inside) {
        SimFolder *f = sim_alloc(sizeof(*f));

        *f = (SimFolder){ .folder.operations = &operations,
                          .disk = d,
                          .where = where,
                          .life = d->life,
                          .path = sim_copy(path),
                          .inside = sim_copy(inside) };
        f->folder.path = f->path;
        return f;
}

static int sim_open_folder(Folder *folder, const char *name, Folder **ret) {
        SimFolder *f = folder_of(folder);
        File *file = find(f->disk, f->where, f->inside, name);
        char *path;

        if (!is_there(file))
                return -ENOENT;
        if (!file->is_folder)
                return -ENOTDIR;
        path = sim_format("%s/%s", f->path, name);
        *ret = &folder_new(f->disk, f->where, path, name)->folder;
        sim_free(path);
        return 0;
}

static int sim_make_folder(Folder *folder, const char *name, mode_t mode, gid_t gid, Folder **ret) {
        SimFolder *f = folder_of(folder);
        int r = write_fault(f);
        File *file;

        file = find(f->disk, f->where, f->inside, name);
        if (r < 0 && !is_there(file))
                return r;
        if (!is_alive(f))
                return -EIO;
        file = make(f->disk, f->where, f->inside, name);
        file->is_folder = true;
        file->mode = mode;
        file->gid = gid;
        return sim_open_folder(folder, name, ret);
}

static int sim_remove_folder(Folder *folder, const char *name) {
        SimFolder *f = folder_of(folder);
        File *file = find(f->disk, f->where, f->inside, name);

        if (!is_there(file) || !file->is_folder)
                return -ENOENT;
        for (File *i = f->disk->files; i; i = i->next)
                if (i->where == f->where && streq(i->folder, name) && is_there(i))
                        return -ENOTEMPTY;
        if (!is_alive(f))
                return -EIO;
        file->is_folder = false;
        return 0;
}

static Folder *sim_folder_free(Folder *folder) {
        SimFolder *f = folder_of(folder);

        sim_free(f->path);
        sim_free(f->inside);
        sim_free(f);
        return NULL;
}

static const FolderOperations operations = {
        .read = sim_read,
        .write = sim_write,
        .commit = sim_commit,
        .remove = sim_remove,
        .rename = sim_rename,
        .sync = sim_sync,
        .list = sim_list,
        .look = sim_look,
        .make_folder = sim_make_folder,
        .open_folder = sim_open_folder,
        .remove_folder = sim_remove_folder,
        .free = sim_folder_free,
};

/* ---- the disk ---- */

Disk *disk_new(Sim *s) {
        Disk *d = sim_alloc(sizeof(*d));

        *d = (Disk){ .sim = s, .dice = random_of(s->options.seed, "disk", 0), .uid = geteuid() };
        return d;
}

Disk *disk_free(Disk *d) {
        File *next;

        for (File *f = d->files; f; f = next) {
                next = f->next;
                file_free(f);
        }
        sim_free(d);
        return NULL;
}

static void begin_life(Disk *d) {
        d->is_dying = false;
}

Folder *disk_open(Disk *d, Where where, const char *path) {
        begin_life(d);
        return &folder_new(d, where, path, "")->folder;
}

Folder *disk_open_notes(Disk *d) {
        File *f = make(d, WHERE_RUNTIME, "", NOTES_FOLDER);

        f->is_folder = true;
        f->mode = 0700;
        return &folder_new(d, WHERE_RUNTIME, "/run/dps/" NOTES_FOLDER, NOTES_FOLDER)->folder;
}

DiskFault disk_fault(const Disk *d) {
        return d->fault;
}

void disk_set_fault(Disk *d, DiskFault fault) {
        d->fault = fault;
}

void disk_die(Disk *d, unsigned after) {
        d->is_dying = true;
        d->steps_left = after;
}

void disk_cut_power(Disk *d) {
        d->life++;
        d->is_dying = false;
        d->n_changes++;
        for (File *f = d->files; f; f = f->next) {
                if (f->where == WHERE_RUNTIME) {
                        f->is_folder = false;
                        f->n_changes = d->n_changes;
                        set_text(&f->text, NULL);
                } else if (!streq_ptr(f->text, f->durable)) {
                        if (random_chance(&d->dice, 50))
                                set_text(&f->text, f->durable);
                        else
                                set_text(&f->durable, f->text);
                }
        }
}

const char *disk_text(const Disk *d, Where where, const char *folder, const char *name, bool is_durable) {
        const File *f = find(d, where, folder, name);

        if (!f)
                return NULL;
        return is_durable ? f->durable : f->text;
}

uint64_t disk_n_changes(const Disk *d) {
        return d->n_changes;
}

uint64_t disk_n_changes_of(const Disk *d, Where where, const char *folder) {
        const File *f = find(d, where, "", folder);

        return f ? f->n_changes : 0;
}
