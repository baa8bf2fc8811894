/* SPDX-License-Identifier: MIT */
#pragma once

/* Secrets are references: credential:NAME, or an absolute path to a file that only we can read. */

#include <stdbool.h>
#include <stddef.h>

#define SECRET_SIZE_MAX (64U * 1024)

/*
 * Reads what `reference` names. The caller erases and frees it (erase_and_free, explicit_bzero over ret_size).
 * `ret_why` on failure: for people, with owner, mode and the command that mends it; never what is in the file, nor
 * the reference itself where it is no reference (a key pasted inline is the commonest mistake).
 * -EINVAL: no reference at all; -ENOENT, -EACCES …: the file; -EAGAIN: a credential that is not there yet;
 * -EPERM: others could read or change it: others' read bit, or group-writable, or its group is neither root nor ours.
 */
int secret_read(const char *reference, char **ret, size_t *ret_size, char **ret_why);
/* The path behind it, to be watched for changes, or to be read where it is no secret (a certificate). -EINVAL and
 * -EAGAIN as above; whether the file of an absolute path is there is not looked at. */
int secret_path(const char *reference, char **ret, char **ret_why);
/* Only whether it looks like a reference. */
int secret_check(const char *reference, char **ret_why);

/* Where credential NAME is: in `directory`, or $CREDENTIALS_DIRECTORY if that is NULL, as NAME or as dps_NAME, which is
 * what LoadCredential=dps:DIR makes. -ENOENT: nowhere. */
int credential_find(const char *directory, const char *name, char **ret);
/* Printable, one name without directory, no colon. */
bool credential_name_is_valid(const char *name);
