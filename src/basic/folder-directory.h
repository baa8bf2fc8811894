/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A folder of the file system. It may be that it can be neither made nor opened yet (a disk that is read-only at start):
 * then it is tried again whenever something is read or written. As long as it cannot be opened, reading it finds nothing
 * (-ENOENT), and writing fails for the reason why it cannot be opened.
 */

#include <sys/types.h>

#include "basic/folder.h"

/* Makes it, with its parents, if it is not there. A refusal of the disk (read-only, no permission, full, broken) is no
 * failure yet. */
int directory_folder_new(const char *path, mode_t mode, Folder **ret);

/* Keeps other processes out by a lock on the file `name`, which holds our pid, or on the folder itself where that file
 * cannot be made; then removes unfinished files of an earlier run. -EBUSY: another process holds the lock, and `ret_pid`
 * says which (0: not known). A folder that cannot be opened yet is locked when it is opened. */
int directory_folder_lock(Folder *f, const char *name, pid_t *ret_pid);

/* Whether it is open. */
bool directory_folder_is_open(Folder *f);
