/* SPDX-License-Identifier: MIT */
#pragma once

/* A secret is given by a reference: credential:NAME, or the absolute path of a file that others cannot
 * read. */

#include <stdbool.h>
#include <stddef.h>

#define SECRET_SIZE_MAX (64U * 1024)

/* The one recipe for a file that only dpsd and root can read. */
#define SECRET_INSTALL "install -m 0640 -o root -g dpsd"

/*
 * Reads what `reference` names. The caller wipes and frees it (erase_and_free(), or explicit_bzero() over
 * `ret_size`). On failure `ret_why` is a text for people, with the file's owner and mode and the command that
 * corrects them, or what to do where a container mounts it. It never shows what is in the file, nor a
 * reference that is not valid: to paste the key itself is the commonest mistake. -EINVAL: this is not a
 * reference; -ENOENT, -EACCES …: of the file; -EAGAIN: there is no such credential yet; -EPERM: others could
 * read or change the file: others may read it, its group may write to it, its group is neither root nor ours, an ACL lets
 * another user or group in, everybody may write in its directory, or its owner is neither root nor us.
 * For root, who checks here what the daemon will find, "ours" are the daemon's user and group.
 */
int secret_read(const char *reference, char **ret, size_t *ret_size, char **ret_why);
/* The path of the file, to watch it for changes, or to read it if it is not secret, as a certificate. -EINVAL
 * and -EAGAIN as above. Does not check that the file exists. */
int secret_path(const char *reference, char **ret, char **ret_why);
/* Checks only that this is a reference. */
int secret_check(const char *reference, char **ret_why);

/* Finds the systemd credential NAME in `directory`, or in $CREDENTIALS_DIRECTORY if that is NULL. Its file is
 * called NAME, or dps_NAME if it comes from LoadCredential=dps:DIR. -ENOENT: there is no such credential. */
int credential_find(const char *directory, const char *name, char **ret);
/* 1 to 255 printable ASCII characters without space, slash or colon. */
bool credential_name_is_valid(const char *name);
