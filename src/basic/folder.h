/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A directory and the files in it, as used by store, outputs and clock. dpsd passes real directories
 * (folder-directory.h). The simulation passes directories whose disk is slow, full, read-only, or loses what
 * was not synced.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "basic/cleanup.h"

typedef struct Folder Folder;

/* What can be known of a file without reading it. */
typedef struct FileFacts {
        bool is_regular;
        size_t size;
        mode_t mode; /* permission bits */
        uid_t uid;
        gid_t gid;
} FileFacts;

/* One of several files that are made durable together. */
typedef struct FileCommit {
        const char *name, *text;
        int r; /* the result for this file */
} FileCommit;

typedef struct FolderOperations {
        int (*read)(Folder *f, const char *name, size_t max, char **ret, size_t *ret_size);
        int (*write)(Folder *f, const char *name, const char *text, size_t size, mode_t mode, gid_t gid);
        void (*commit)(Folder *f, FileCommit *files, size_t n);
        int (*remove)(Folder *f, const char *name);
        int (*rename)(Folder *f, const char *from, const char *to);
        int (*sync)(Folder *f);
        int (*list)(Folder *f, bool (*is_wanted)(const char *name), char ***ret);
        int (*look)(Folder *f, const char *name, FileFacts *ret);
        int (*make_folder)(Folder *f, const char *name, mode_t mode, gid_t gid, Folder **ret);
        int (*open_folder)(Folder *f, const char *name, Folder **ret);
        int (*remove_folder)(Folder *f, const char *name);
        Folder *(*free)(Folder *f);
} FolderOperations;

/* The first member of every Folder. */
struct Folder {
        const FolderOperations *operations;
        const char *path; /* shown to people, and to programs that are told where a file is */
};

/* Reads a regular file of at most `max` bytes. The text is zero-terminated. -EFBIG: it is larger. -ENOTSUP:
 * it is not a regular file. */
static inline int folder_read(Folder *f, const char *name, size_t max, char **ret, size_t *ret_size) {
        return f->operations->read(f, name, max, ret, ret_size);
}

/* Replaces a file, so that readers see either the old or the new one. Not durable. A `gid` of (gid_t) -1 does
 * not change the group. May be called from another thread. */
static inline int folder_write(Folder *f, const char *name, const char *text, size_t size, mode_t mode,
                               gid_t gid) {
        return f->operations->write(f, name, text, size, mode, gid);
}

/* Replaces files (mode 0600) and makes them durable, all together, since the slow steps of a disk cost hardly
 * more for many files than for one. May be called from another thread. */
static inline void folder_commit(Folder *f, FileCommit *files, size_t n) {
        f->operations->commit(f, files, n);
}

static inline int folder_remove(Folder *f, const char *name) {
        return f->operations->remove(f, name);
}

static inline int folder_rename(Folder *f, const char *from, const char *to) {
        return f->operations->rename(f, from, to);
}

/* Makes earlier renames and removals durable. */
static inline int folder_sync(Folder *f) {
        return f->operations->sync(f);
}

/* Lists the names in the folder, unsorted. */
static inline int folder_list(Folder *f, bool (*is_wanted)(const char *name), char ***ret) {
        return f->operations->list(f, is_wanted, ret);
}

/* Does not follow links. The name "." means the folder itself. */
static inline int folder_look(Folder *f, const char *name, FileFacts *ret) {
        return f->operations->look(f, name, ret);
}

/* Creates the folder if it does not exist, sets its mode and group in any case, and opens it. Removes
 * unfinished files of an earlier run. */
static inline int folder_make_folder(Folder *f, const char *name, mode_t mode, gid_t gid, Folder **ret) {
        return f->operations->make_folder(f, name, mode, gid, ret);
}

static inline int folder_open_folder(Folder *f, const char *name, Folder **ret) {
        return f->operations->open_folder(f, name, ret);
}

/* -ENOTEMPTY: the folder is not empty. */
static inline int folder_remove_folder(Folder *f, const char *name) {
        return f->operations->remove_folder(f, name);
}

static inline Folder *folder_free(Folder *f) {
        return f ? f->operations->free(f) : NULL;
}
DEFINE_FREEP(Folder, folder_free)
