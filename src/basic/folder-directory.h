/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A folder in the file system. It may be impossible to create or open it yet, for example on a disk that is
 * read-only at start. Then this is tried again at every read and write. Until it can be opened, a read finds
 * nothing (-ENOENT), and a write fails with the reason why it cannot be opened.
 */

#include <sys/types.h>

#include "basic/folder.h"

/* Creates the folder and its parents if they do not exist. If the disk refuses (read-only, no permission,
 * full, broken), that is not a failure yet. */
int directory_folder_new(const char *path, mode_t mode, Folder **ret);

/* Locks out other processes by a lock on the file `name`, which holds our pid, or on the folder itself if
 * that file cannot be created. Then removes unfinished files of an earlier run. -EBUSY: another process holds
 * the lock, and `ret_pid` is its pid (0: unknown). A folder that cannot be opened yet is locked when it is
 * opened. */
int directory_folder_lock(Folder *f, const char *name, pid_t *ret_pid);

/* Looks whether the path leads to another directory now, because ours was removed or something was mounted over
 * it. If so, opens and locks that one (makes it if it is missing), and uses it from then on. 1: another
 * directory is used now, or ours could be opened at last; 0: nothing has changed. Negative: the old one stays
 * in use; -EBUSY: another process has locked the new one. May be called from another thread. */
int directory_folder_renew(Folder *f, pid_t *ret_pid);

/* Whether the folder is open. */
bool directory_folder_is_open(Folder *f);
