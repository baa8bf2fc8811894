/* SPDX-License-Identifier: MIT */
#pragma once

/* Removes a directory of a test with all that is in it. */

#include <ftw.h>
#include <stdio.h>

static inline int remove_tree_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return remove(path);
}

static inline int remove_tree(const char *path) {
        return nftw(path, remove_tree_one, 16, FTW_DEPTH | FTW_PHYS);
}
