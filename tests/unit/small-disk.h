/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Folders of a test's own, which are removed with it. What is committed to `state` can be refused. Include it behind cmocka.h.
 */

#include <stdlib.h>
#include <string.h>

#include "basic/files.h"
#include "basic/folder-directory.h"
#include "basic/text.h"
#include "remove-tree.h"

typedef struct SmallDisk {
        char path[40];
        Folder *state, *runtime, *notes;
        FolderOperations operations; /* of `state` */
        void (*commit)(Folder *f, FileCommit *files, size_t n);
        int error; /* of the next commits; 0: they are durable */
        unsigned n_commits;
} SmallDisk;

static SmallDisk disk;

static inline void small_disk_commit(Folder *f, FileCommit *files, size_t n) {
        disk.n_commits++;
        if (disk.error == 0)
                disk.commit(f, files, n);
        for (size_t k = 0; disk.error < 0 && k < n; k++)
                files[k].r = disk.error;
}

static inline Folder *small_disk_folder(const char *name, mode_t mode) {
        _cleanup_(freep) char *path = NULL;
        Folder *f;

        assert_true(asprintf(&path, "%s/%s", disk.path, name) > 0);
        assert_int_equal(directory_folder_new(path, mode, &f), 0);
        return f;
}

static inline void small_disk_init(void) {
        disk = (SmallDisk){ .path = "/tmp/test-disk-XXXXXX" };
        assert_non_null(mkdtemp(disk.path));
        disk.state = small_disk_folder("state", 0700);
        disk.runtime = small_disk_folder("run", 0755);
        assert_int_equal(folder_make_folder(disk.runtime, ".waits", 0700, (gid_t) -1, &disk.notes), 0);
        disk.operations = *disk.state->operations;
        disk.commit = disk.operations.commit;
        disk.operations.commit = small_disk_commit;
        disk.state->operations = &disk.operations;
}

static inline void small_disk_done(void) {
        folder_free(disk.notes);
        folder_free(disk.runtime);
        folder_free(disk.state);
        assert_int_equal(remove_tree(disk.path), 0);
}

/* The text of a file; NULL: it is not there. The caller frees it. */
static inline char *small_disk_text(Folder *f, const char *name) {
        size_t size;
        char *text;

        return folder_read(f, name, 1U << 20, &text, &size) >= 0 ? text : NULL;
}

static inline void small_disk_put(Folder *f, const char *name, const char *text) {
        assert_int_equal(folder_write(f, name, text, strlen(text), 0600, (gid_t) -1), 0);
}
