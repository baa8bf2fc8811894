/* SPDX-License-Identifier: MIT */
#pragma once

/* A directory of the process's own, gone when it ends well. */

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "fuzz.h"

static char fuzz_tree[64];

static inline int tree_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
        return remove(path);
}

static inline void tree_remove(void) {
        (void) nftw(fuzz_tree, tree_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* The path of `name`, a directory or a file in the tree; the caller frees it. */
static inline char *tree_path(const char *name) {
        char *path = NULL;

        PROMISE(asprintf(&path, "%s/%s", fuzz_tree, name) > 0);
        return path;
}

/* Makes the tree, and these directories in it; each behind the one that it is in. */
static inline void tree_make(const char *const *directories, size_t n) {
        const char *temporary = getenv("TMPDIR");

        PROMISE(snprintf(fuzz_tree, sizeof(fuzz_tree), "%s/fuzz-XXXXXX", temporary ?: "/tmp") <
                (int) sizeof(fuzz_tree));
        PROMISE(mkdtemp(fuzz_tree));
        PROMISE(atexit(tree_remove) == 0);
        for (size_t i = 0; i < n; i++) {
                char *path = tree_path(directories[i]);

                PROMISE(mkdir(path, 0755) == 0);
                free(path);
        }
}

static inline void tree_write(const char *name, const void *data, size_t size) {
        char *path = tree_path(name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        PROMISE(fd >= 0);
        PROMISE(write(fd, data, size) == (ssize_t) size);
        close(fd);
        free(path);
}
