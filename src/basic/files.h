/* SPDX-License-Identifier: MIT */
#pragma once

/* Whole files: read with a limit, written so that a reader sees the old or the new, never a part. */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads a regular file of at most `max` bytes, relative to `dir_fd` (AT_FDCWD). The text is zero-terminated
 * behind its size; the caller frees it. -EFBIG: larger; -ENOTSUP: no regular file. Never blocks on a FIFO. */
int file_read_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size);
int file_read(const char *path, size_t max, char **ret, size_t *ret_size);
/* The same from an open file, so that its owner and mode can be looked at first. */
int file_read_fd(int fd, size_t max, char **ret, size_t *ret_size);

/* Replaces `name` in the directory `dir_fd` by a temporary file beside it and rename(). `gid` of (gid_t) -1
 * leaves the group alone. On failure the old file is as it was and no temporary file is left. */
int file_write_atomic(int dir_fd, const char *name, const void *data, size_t size, mode_t mode, gid_t gid);

/* The same in steps, so that the slow ones of many files can be taken together. Nothing is allocated. After a failed
 * step the draft is to be discarded; that of file_draft_write() does so itself. */
typedef struct FileDraft {
        int fd; /* -1: done with */
        char temporary[NAME_MAX + 1];
} FileDraft;

int file_draft_write(FileDraft *d, int dir_fd, const char *name, const void *data, size_t size, mode_t mode,
                     gid_t gid);
int file_draft_sync(FileDraft *d);
int file_draft_rename(FileDraft *d, int dir_fd, const char *name);
void file_draft_discard(FileDraft *d, int dir_fd);

/* Makes durable what was renamed or removed in it. */
int directory_sync(int fd);
/* Names of its entries, in no order. */
int directory_list(int fd, bool (*is_wanted)(const char *name), char ***ret);
/* What a power cut, or being killed, left in the middle of file_write_atomic(). */
bool file_is_temporary(const char *name);
int directory_remove_temporaries(int fd);

/* Makes one directory if it is not there, and opens it. Mode and group are set, umask or not, also where it
 * was there already; a `gid` of (gid_t) -1 leaves the group alone. Symbolic links are refused. */
int directory_make_at(int dir_fd, const char *name, mode_t mode, gid_t gid, int *ret_fd);
/* As mkdir -p. */
int directory_make_path(const char *path, mode_t mode);
