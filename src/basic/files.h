/* SPDX-License-Identifier: MIT */
#pragma once

/* Whole files: read up to a limit, and replaced so that a reader sees either the old or the new content. */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads a regular file of at most `max` bytes. The path is relative to `dir_fd`, which may be AT_FDCWD. A
 * zero byte follows the content, which the caller frees. `ret_size` may be NULL. -EFBIG: the file is larger;
 * -ENOTSUP: it is not a regular file. Never blocks on a FIFO. */
int file_read_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size);
int file_read(const char *path, size_t max, char **ret, size_t *ret_size);
/* The same from an open file, whose owner and mode can be checked before. */
int file_read_fd(int fd, size_t max, char **ret, size_t *ret_size);
/* Why that failed, for people. */
const char *file_error(int r);

/* "/a/b" → "/a", "/a" → "/", "a" → "." */
char *path_directory(const char *path);
/* Follows the link at `path` one step. -EINVAL: it is not a link. */
int path_follow_link(const char *path, char **ret);

/* If root makes a file, it gets the owner of its directory, who could not use it otherwise: dpsd may run as a
 * service after somebody ran dpsd --once as root. A `gid` of (gid_t) -1 leaves the group to this function. */
int file_give_away(int fd, int dir_fd, gid_t gid);

/* Replaces the file `name` in the directory `dir_fd`: writes a temporary file beside it and renames that. A
 * `gid` of (gid_t) -1 does not change the group. On failure the old file is unchanged, and no temporary file
 * is left. */
int file_write_atomic(int dir_fd, const char *name, const void *data, size_t size, mode_t mode, gid_t gid);

/* The same in steps, so that the slow one (the sync) can be done for many files together. Allocates no memory.
 * After a step has failed, the draft must be discarded; only file_draft_write() does so itself. */
typedef struct FileDraft {
        int fd; /* -1: the draft is renamed or discarded */
        char temporary[NAME_MAX + 1];
} FileDraft;

int file_draft_write(FileDraft *d, int dir_fd, const char *name, const void *data, size_t size, mode_t mode,
                     gid_t gid);
int file_draft_sync(FileDraft *d);
int file_draft_rename(FileDraft *d, int dir_fd, const char *name);
void file_draft_discard(FileDraft *d, int dir_fd);

/* Makes renames and removals in the directory durable. */
int directory_sync(int fd);
/* Lists the entries for which is_wanted() is true, unsorted. */
int directory_list(int fd, bool (*is_wanted)(const char *name), char ***ret);
/* Temporary files remain if the power fails, or the process is killed, during file_write_atomic(). */
bool file_is_temporary(const char *name);
int directory_remove_temporaries(int fd);

/* Makes a directory if it does not exist, and opens it. Sets mode and group in both cases, regardless of the
 * umask. A `gid` of (gid_t) -1 does not change the group. A symbolic link is refused. */
int directory_make_at(int dir_fd, const char *name, mode_t mode, gid_t gid, int *ret_fd);
/* As mkdir -p, but regardless of the umask: missing parents get 0755. */
int directory_make_path(const char *path, mode_t mode);
