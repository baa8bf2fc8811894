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

/* Whether another directory is at the path now, since ours was removed, or something was mounted over it: then that one is
 * opened (if it is missing, made) and locked, and everything goes there. 1: it is another one, or could not be opened
 * before; 0: nothing has changed. Negative: we stay where we are; -EBUSY: another process has locked it. May be called from
 * another thread. */
int directory_folder_renew(Folder *f, pid_t *ret_pid);

/* Whether the folder is open. */
bool directory_folder_is_open(Folder *f);
